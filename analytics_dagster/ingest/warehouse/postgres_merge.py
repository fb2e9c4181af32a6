"""dlt's PostgreSQL destination with a merge of its own, straight from a load's Parquet files.

https://dlthub.com/docs/dlt-ecosystem/destinations/postgres

dlt copies the files into a staging table that all loads of a resource share. This merge copies them into a temporary
table of its own session, so that loads may run at once and nothing is left of one that was killed, and merges from
there in the same transaction. It takes the hints of dlt's `delete-insert` strategy.

PostgreSQL refuses the character NUL, in text and in `jsonb`, which others store: it is replaced by U+FFFD here, so that
no row fails a load. Everything else that the rows hold, it stores.
https://www.postgresql.org/docs/current/datatype-json.html
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, cast
from urllib.parse import quote, urlencode

import adbc_driver_postgresql.dbapi
import dlt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from adbc_driver_manager.dbapi import Error as AdbcError
from dlt.common.configuration import configspec
from dlt.common.destination import DestinationCapabilitiesContext, PreparedTableSchema
from dlt.common.destination.client import LoadJob
from dlt.common.schema import Schema
from dlt.common.schema.typing import TColumnSchema, TSchemaTables
from dlt.common.typing import TSecretStrValue
from dlt.destinations.exceptions import DatabaseTerminalException
from dlt.destinations.impl.postgres.configuration import PostgresClientConfiguration, PostgresCredentials
from dlt.destinations.impl.postgres.factory import PostgresTypeMapper
from dlt.destinations.impl.postgres.postgres import PostgresClient
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.ingest.warehouse.lock import advisory_key, schema_lock
from analytics_dagster.ingest.warehouse.merge_jobs import MergeFromFiles, MergeHints, MergeJob, accept_merge_jobs
from analytics_dagster.ingest.warehouse.postgres_client import PostgresSqlClient, refusal
from analytics_dagster.ingest.warehouse.postgres_tables import complete_tables

_LOADED = "analytics_loaded"
"""Name of the temporary table with the rows of the files."""

_ROWS_COPIED = 5_000
_BYTES_COPIED = 16 * 2**20
"""Rows are copied in batches of so many rows or, if they are large, bytes."""

_DATA_ERRORS = ("22", "23")
"""Classes of SQLSTATE: data exception, integrity constraint violation. The same rows will fail again."""

_ESCAPE = re.compile(r"\\(u0000|.)", re.DOTALL)
"""An escape in JSON text, so that the backslash of `\\\\u0000` is not taken for the start of one."""


@configspec(init=False)
class _Credentials(PostgresCredentials):
    """dlt's credentials, but the password may be missing: libpq reads `.pgpass`, and a certificate needs none."""

    password: TSecretStrValue | None = None  # type: ignore[assignment]

    def to_native_representation(self) -> str:
        """Return the URL as libpq reads it: dlt leaves spaces as they are, and libpq then repeats the password."""
        user = ":".join(quote(part, safe="") for part in (self.username, self.password) if part)
        host = f"[{self.host}]" if ":" in self.host else self.host
        query = urlencode(self.get_query(), quote_via=quote)
        return f"postgresql://{user}@{host}:{self.port}/{quote(self.database, safe='')}?{query}"


@configspec(init=False)
class _Configuration(PostgresClientConfiguration):
    credentials: _Credentials = None  # type: ignore[assignment]


class MergingPostgres(dlt.destinations.postgres):
    """dlt's PostgreSQL destination, except for the merge and for what `PostgresSqlClient` and `complete_tables` add."""

    spec = _Configuration

    def _raw_capabilities(self) -> DestinationCapabilitiesContext:
        capabilities = accept_merge_jobs(super()._raw_capabilities())
        capabilities.type_mapper = _TypeMapper
        # It would look for ADBC's driver again for each table.
        capabilities.loader_file_format_selector = None  # type: ignore[assignment] # its default
        # Each job opens a session, and the jobs of files do nothing.
        capabilities.max_parallel_load_jobs = 1
        return capabilities

    @property
    def client_class(self) -> type[PostgresClient]:
        """Client that creates the jobs below."""
        return _MergingClient


class _TypeMapper(PostgresTypeMapper):
    """Has JSON as `jsonb`, which can be compared and indexed: the merge converts the text that was copied."""

    def to_destination_type(self, column: TColumnSchema, table: PreparedTableSchema) -> str:
        return "jsonb" if column["data_type"] == "json" else super().to_destination_type(column, table)


class _MergeJob(MergeJob):
    def merge(self, sql: SqlClientBase[Any], table: str, hints: MergeHints, files: Sequence[str]) -> None:
        client = cast("PostgresSqlClient", sql)
        columns = self._load_table["columns"]
        json_columns = {name for name, column in columns.items() if column.get("data_type") == "json"}
        batches = _read(files, json_columns)
        uri = client.credentials.to_native_representation()
        try:
            # A transaction begins here; closing it without a commit rolls back.
            with adbc_driver_postgresql.dbapi.connect(uri) as connection, connection.cursor() as cursor:
                cursor.adbc_ingest(_LOADED, batches, mode="create", temporary=True)
                for statement in _build_merge(table, hints, batches.schema.names, json_columns, sql):
                    cursor.execute(statement)
                connection.commit()
        except AdbcError as error:
            if (refused := refusal(error, error.sqlstate)) is not None:
                raise refused from error
            if (error.sqlstate or "").startswith(_DATA_ERRORS):
                raise DatabaseTerminalException(error) from error
            raise


class _MergingClient(MergeFromFiles, PostgresClient):
    merge_job = _MergeJob

    def __init__(
        self, schema: Schema, config: PostgresClientConfiguration, capabilities: DestinationCapabilitiesContext
    ) -> None:
        super().__init__(schema, config, capabilities)
        names = self.sql_client.dataset_name, self.sql_client.staging_dataset_name
        self.sql_client: PostgresSqlClient = PostgresSqlClient(*names, config.credentials, capabilities)

    def create_load_job(
        self,
        table: PreparedTableSchema,
        file_path: str,
        load_id: str,
        restore: bool = False,  # noqa: FBT001, FBT002 - dlt's signature
    ) -> LoadJob:
        """Return the job of a file. Rows are appended by a merge without a key: dlt's copy fails if there are none."""
        if table["write_disposition"] == "append" and file_path.endswith(".parquet"):
            return _MergeJob(file_path)
        return super().create_load_job(table, file_path, load_id, restore)

    def update_stored_schema(
        self,
        only_tables: Any = None,
        expected_update: Any = None,
        force: bool = False,  # noqa: FBT001, FBT002 - dlt's signature
    ) -> TSchemaTables | None:
        """Create what the tables of a load lack: loads that run at once do so one after the other."""
        with schema_lock(self.sql_client):
            update = super().update_stored_schema(only_tables, expected_update, force)
            complete_tables(self.sql_client, self.schema.data_tables())
            return update


def _read(files: Sequence[str], json_columns: set[str]) -> pa.RecordBatchReader:
    """Return the rows of Parquet files, without the characters that PostgreSQL refuses."""
    schema = pq.read_schema(files[0])

    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            with pq.ParquetFile(file) as rows:
                size = sum(rows.metadata.row_group(place).total_byte_size for place in range(rows.num_row_groups))
                fitting = _BYTES_COPIED * rows.metadata.num_rows // max(size, 1)
                for batch in rows.iter_batches(max(1, min(fitting, _ROWS_COPIED))):
                    yield _without_nul(batch.cast(schema), json_columns)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _without_nul(batch: pa.RecordBatch, json_columns: set[str]) -> pa.RecordBatch:
    """Return rows with U+FFFD in the place of each NUL, in text and in the strings of JSON."""
    for place, field in enumerate(batch.schema):
        if not pa.types.is_string(field.type):
            continue
        values, is_json = batch.column(place), field.name in json_columns
        nul = "\\u0000" if is_json else "\0"
        if pc.any(pc.match_substring(values, nul)).as_py():
            cleaned = (
                pa.array([text and _ESCAPE.sub(_without_escaped_nul, text) for text in values.to_pylist()], field.type)
                if is_json
                else pc.replace_substring(values, nul, "\ufffd")
            )
            batch = batch.set_column(place, field, cleaned)
    return batch


def _without_escaped_nul(escape: re.Match[str]) -> str:
    return "\\ufffd" if escape[1] == "u0000" else escape[0]


def _build_merge(
    table: str, hints: MergeHints, columns: Sequence[str], json_columns: set[str], sql: SqlClientBase[Any]
) -> Iterator[str]:
    """Yield the statements that merge the temporary table into a table."""
    escape = sql.capabilities.escape_identifier
    if hints.primary_key:
        # Without statistics the planner would take the temporary table for a small one.
        yield f"ANALYZE {_LOADED} ({hints.primary_key})"
        ranked = f"row_number() OVER (PARTITION BY {hints.primary_key} {hints.order}) AS rank"
        superseded = f"SELECT place FROM (SELECT ctid AS place, {ranked} FROM {_LOADED}) AS loaded WHERE rank > 1"
        yield f"DELETE FROM {_LOADED} WHERE ctid IN ({superseded})"
    # Other loads may write other rows of the table, and their rejected rows into the same one. They take turns from
    # here to the end of the transaction.
    yield f"SELECT pg_advisory_xact_lock({advisory_key('merge', table)})"
    for key in hints.keys:
        yield f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {_LOADED})"
    names = ", ".join(map(escape, columns))
    values = ", ".join(f"CAST({escape(name)} AS jsonb)" if name in json_columns else escape(name) for name in columns)
    yield f"INSERT INTO {table} ({names}) SELECT {values} FROM {_LOADED}"
