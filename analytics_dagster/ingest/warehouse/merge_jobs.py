"""The part that our merges share: one job a table, once all Parquet files of the table are written.

The order of dlt's load jobs and the hints belong here. The statements of a merge are each destination's own, in
`duckdb_merge.py` and `postgres_merge.py`. dlt's minor version is pinned in `pyproject.toml`, since the classes below
extend internals of dlt.

    class _MergingClient(MergeFromFiles, DuckDbClient):
        merge_job = _MergeJob

https://dlthub.com/docs/general-usage/merge-loading
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

from dlt.common.destination import DestinationCapabilitiesContext, PreparedTableSchema
from dlt.common.destination.client import FollowupJobRequest, HasFollowupJobs, LoadJob, RunnableLoadJob
from dlt.common.schema.typing import TColumnProp, TTableSchema
from dlt.common.schema.utils import get_columns_names_with_prop, get_dedup_sort_tuple
from dlt.common.storages.load_package import LoadJobInfo
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.destinations.job_impl import ReferenceFollowupJobRequest
from dlt.destinations.sql_client import SqlClientBase


def accept_merge_jobs(capabilities: DestinationCapabilitiesContext) -> DestinationCapabilitiesContext:
    """Let a destination take the file of a merge job: a reference, which names the Parquet files."""
    capabilities.supported_loader_file_formats = [*capabilities.supported_loader_file_formats, "reference"]
    return capabilities


class MergeJob(RunnableLoadJob):
    """Merges the Parquet files that a reference names into their table, or a single one."""

    def run(self) -> None:
        """Merge the files in one transaction."""
        client: Any = self._job_client
        sql: SqlClientBase[Any] = client.sql_client
        table = sql.make_qualified_table_name(self.load_table_name)
        reads_reference = ReferenceFollowupJobRequest.is_reference_job(self._file_path)
        files = (
            ReferenceFollowupJobRequest.resolve_references(self._file_path) if reads_reference else [self._file_path]
        )
        self.merge(sql, table, MergeHints(cast("TTableSchema", self._load_table), sql.capabilities), files)

    @abstractmethod
    def merge(self, sql: SqlClientBase[Any], table: str, hints: "MergeHints", files: Sequence[str]) -> None:
        """Merge files into a table, all of them or nothing.

        Rows of the table that share the primary key, or the merge key, with a row of the files are deleted. Of the
        files' rows that share a primary key, the first by `hints.order` is inserted.

        Args:
            sql: The open SQL client.
            table: The qualified name of the table.
            hints: Its hints.
            files: Paths of the Parquet files.
        """


class MergeHints:
    """The hints of dlt's `delete-insert` strategy as SQL.

    Args:
        table: The hints of the table.
        destination: Knows how names are escaped.

    Attributes:
        keys: The primary key and the merge key, those that the table has, as lists of names.
        primary_key: The primary key as a list of names; `""` for rows that are appended.
        order: `ORDER BY …` of the rows that share a primary key, the newest first; `""` without the hint `dedup_sort`.
    """

    def __init__(self, table: TTableSchema, destination: DestinationCapabilitiesContext) -> None:
        def key(hint: TColumnProp) -> str:
            return ", ".join(map(destination.escape_identifier, get_columns_names_with_prop(table, hint)))

        self.primary_key = key("primary_key")
        self.keys = [names for names in (self.primary_key, key("merge_key")) if names]
        sort = get_dedup_sort_tuple(table)
        self.order = f"ORDER BY {destination.escape_identifier(sort[0])} {sort[1]}" if sort else ""


class MergeFromFiles(SqlJobClientBase):
    """Mixin of a job client that merges straight from Parquet files: no staging table, nothing shared between loads."""

    merge_job: ClassVar[type[MergeJob]]

    def should_load_data_to_staging_dataset(self, table_name: str) -> bool:
        """Return False: the merge job reads the files."""
        return False

    def create_load_job(
        self,
        table: PreparedTableSchema,
        file_path: str,
        load_id: str,
        restore: bool = False,  # noqa: FBT001, FBT002 - dlt's signature
    ) -> LoadJob:
        """Return the job of a file: the merge of a reference, and none for a Parquet file that a merge will read."""
        if table["write_disposition"] != "merge":
            return super().create_load_job(table, file_path, load_id, restore)
        if ReferenceFollowupJobRequest.is_reference_job(file_path):
            return self.merge_job(file_path)
        assert file_path.endswith(".parquet"), f"{table['name']} must be loaded from Parquet files"
        return _FileJob(file_path)

    def create_table_chain_completed_followup_jobs(
        self,
        table_chain: Sequence[PreparedTableSchema],
        completed_table_chain_jobs: Sequence[LoadJobInfo] | None = None,
    ) -> list[FollowupJobRequest]:
        """Return the merge job of a table whose files are all written."""
        (table,) = table_chain  # one table a resource: none is nested
        if table["write_disposition"] != "merge":
            return super().create_table_chain_completed_followup_jobs(table_chain, completed_table_chain_jobs)
        files = [job.file_path for job in completed_table_chain_jobs or ()]
        return [ReferenceFollowupJobRequest(Path(files[0]).name, files)]


class _FileJob(RunnableLoadJob, HasFollowupJobs):
    """Leaves a file to the merge job that follows."""

    def run(self) -> None:
        pass
