"""dlt's DuckDB destination with a merge of its own, straight from a load's Parquet files.

https://dlthub.com/docs/dlt-ecosystem/destinations/duckdb

dlt copies the files into a staging table, merges from there and empties it: every row is written twice, and the newest
version of a row is found by sorting whole rows. This merge compares versions by their keys alone and reads each row
once, from its file into its table, in one transaction. It takes the hints of dlt's `delete-insert` strategy.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import dlt
import pyarrow as pa
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.destinations.exceptions import DatabaseTransientException
from dlt.destinations.impl.duckdb.duck import DuckDbClient
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.ingest.warehouse.merge_jobs import MergeFromFiles, MergeHints, MergeJob, accept_merge_jobs

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = ("Out of Memory", "failed to pin block")
"""Texts in DuckDB's messages when its memory limit was too low: in a statement, and in a commit."""


class MergingDuckDb(dlt.destinations.duckdb):
    """dlt's DuckDB destination, except for the merge."""

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        return accept_merge_jobs(super()._raw_capabilities())

    @property
    def client_class(self) -> type[DuckDbClient]:
        """Client that creates the jobs below."""
        return _MergingClient


class _MergeJob(MergeJob):
    def merge(self, sql: SqlClientBase[Any], table: str, hints: MergeHints, files: Sequence[str]) -> None:
        statements = list(_build_merge(table, hints, files, sql.capabilities))
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


class _MergingClient(MergeFromFiles, DuckDbClient):
    merge_job = _MergeJob


def _run_transaction(statements: Sequence[str], sql: SqlClientBase[Any]) -> None:
    with sql.begin_transaction():
        for statement in statements:
            sql.execute_sql(statement)


def _build_merge(
    table: str, hints: MergeHints, files: Sequence[str], duckdb: DestinationCapabilitiesContext
) -> Iterator[str]:
    """Yield the statements that merge files into a table."""
    names = ", ".join(map(duckdb.escape_literal, files))
    rows = f"read_parquet([{names}], file_row_number=true, filename='file_name')"
    for columns in hints.keys:
        yield f"DELETE FROM {table} WHERE ({columns}) IN (SELECT ({columns}) FROM {rows})"
    # Select the superseded rows: the list of rows to keep is usually the whole table and would not fit in memory.
    superseded = (
        f"SELECT file_name, file_row_number FROM {rows} "
        f"QUALIFY row_number() OVER (PARTITION BY {hints.primary_key} {hints.order}) > 1"
    )
    yield (
        f"INSERT INTO {table} BY NAME SELECT * EXCLUDE (file_name, file_row_number) "
        f"FROM {rows} ANTI JOIN ({superseded}) USING (file_name, file_row_number)"
    )
