"""dlt's DuckDB destination with a merge of its own, straight from a load's Parquet files.

https://dlthub.com/docs/dlt-ecosystem/destinations/duckdb

dlt copies the files into a staging table, merges from there and empties it: every row is written twice, and the newest
version of a row is found by sorting whole rows. This merge compares versions by their keys alone and reads each row
once, from its file into its table, in one transaction. It takes the hints of dlt's `delete-insert` strategy. dlt's
minor version is pinned in `pyproject.toml`, since the classes below extend internals of dlt.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import dlt
import pyarrow as pa
from dlt.common.destination import DestinationCapabilitiesContext, PreparedTableSchema
from dlt.common.destination.client import FollowupJobRequest, HasFollowupJobs, LoadJob, RunnableLoadJob
from dlt.common.schema.typing import TColumnProp, TTableSchema
from dlt.common.schema.utils import get_columns_names_with_prop, get_dedup_sort_tuple
from dlt.common.storages.load_package import LoadJobInfo
from dlt.destinations.exceptions import DatabaseTransientException
from dlt.destinations.impl.duckdb.duck import DuckDbClient
from dlt.destinations.job_impl import ReferenceFollowupJobRequest
from dlt.destinations.sql_client import SqlClientBase

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = ("Out of Memory", "failed to pin block")
"""Texts in DuckDB's messages when its memory limit was too low: in a statement, and in a commit."""


class MergingDuckDb(dlt.destinations.duckdb):
    """dlt's DuckDB destination, except for the merge."""

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        capabilities = super()._raw_capabilities()
        # The merge job's file is a reference: it names the Parquet files.
        capabilities.supported_loader_file_formats = [*capabilities.supported_loader_file_formats, "reference"]
        return capabilities

    @property
    def client_class(self) -> type[DuckDbClient]:
        """Client that creates the jobs below."""
        return _MergingClient


class _MergingClient(DuckDbClient):
    """Creates one merge job a table, once all Parquet files of the table are written."""

    def should_load_data_to_staging_dataset(self, table_name: str) -> bool:
        return False

    def create_load_job(
        self,
        table: PreparedTableSchema,
        file_path: str,
        load_id: str,
        restore: bool = False,  # noqa: FBT001, FBT002 - dlt's signature
    ) -> LoadJob:
        if table["write_disposition"] != "merge":
            return super().create_load_job(table, file_path, load_id, restore)
        if ReferenceFollowupJobRequest.is_reference_job(file_path):
            return _MergeJob(file_path)
        assert file_path.endswith(".parquet"), f"{table['name']} must be loaded from Parquet files"
        return _FileJob(file_path)

    def create_table_chain_completed_followup_jobs(
        self,
        table_chain: Sequence[PreparedTableSchema],
        completed_table_chain_jobs: Sequence[LoadJobInfo] | None = None,
    ) -> list[FollowupJobRequest]:
        (table,) = table_chain  # one table a resource: none is nested
        if table["write_disposition"] != "merge":
            return super().create_table_chain_completed_followup_jobs(table_chain, completed_table_chain_jobs)
        files = [job.file_path for job in completed_table_chain_jobs or ()]
        return [ReferenceFollowupJobRequest(Path(files[0]).name, files)]


class _FileJob(RunnableLoadJob, HasFollowupJobs):
    """Leaves a file to the merge job that follows."""

    def run(self) -> None:
        pass


class _MergeJob(RunnableLoadJob):
    """Merges the Parquet files of a table into it."""

    def run(self) -> None:
        client: Any = self._job_client
        sql: SqlClientBase[Any] = client.sql_client
        table = sql.make_qualified_table_name(self.load_table_name)
        files = ReferenceFollowupJobRequest.resolve_references(self._file_path)
        statements = list(_build_merge(cast("TTableSchema", self._load_table), table, files, sql.capabilities))
        # DuckDB can use the memory that Arrow keeps for later tables.
        pa.default_memory_pool().release_unused()
        try:
            _run_transaction(statements, sql)
        except DatabaseTransientException as error:
            # Some rows need more than the limit: DuckDB writes a hundred at a time, and each can be a megabyte.
            if not any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise
            logger.warning("%s: the rows do not fit into memory_limit; merging them without it", self.load_table_name)
            # RESET would change the limit that DuckDB reports and keep the one that it applies (1.5.6).
            _run_transaction(["SET GLOBAL memory_limit = '1TB'", *statements], sql)


def _run_transaction(statements: Sequence[str], sql: SqlClientBase[Any]) -> None:
    with sql.begin_transaction():
        for statement in statements:
            sql.execute_sql(statement)


def _build_merge(
    hints: TTableSchema, table: str, files: Sequence[str], duckdb: DestinationCapabilitiesContext
) -> Iterator[str]:
    """Yield the statements that merge files into a table.

    They delete the rows of the table that share the primary key, or the merge key, with a row of the files. Of the
    files' rows that share a primary key, they insert the first by the column with the hint `dedup_sort`.
    """
    names = ", ".join(map(duckdb.escape_literal, files))
    rows = f"read_parquet([{names}], file_row_number=true, filename='file_name')"

    def key(hint: TColumnProp) -> str:
        return ", ".join(map(duckdb.escape_identifier, get_columns_names_with_prop(hints, hint)))

    for columns in filter(None, (key("primary_key"), key("merge_key"))):
        yield f"DELETE FROM {table} WHERE ({columns}) IN (SELECT ({columns}) FROM {rows})"
    sort = get_dedup_sort_tuple(hints)
    order = f" ORDER BY {duckdb.escape_identifier(sort[0])} {sort[1]}" if sort else ""
    # Select the superseded rows: the list of rows to keep is usually the whole table and would not fit in memory.
    superseded = (
        f"SELECT file_name, file_row_number FROM {rows} "
        f"QUALIFY row_number() OVER (PARTITION BY {key('primary_key')}{order}) > 1"
    )
    yield (
        f"INSERT INTO {table} BY NAME SELECT * EXCLUDE (file_name, file_row_number) "
        f"FROM {rows} ANTI JOIN ({superseded}) USING (file_name, file_row_number)"
    )
