"""The warehouse: where it is, who may write it, and what the loader keeps in it beside the ten tables.

Statements here are plain SQL that every destination of dlt takes. How rows get there is dlt's business.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import dlt
from dlt.common.destination import Destination
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase
from filelock import FileLock, Timeout

from analytics_dagster.catalog import Column, ColumnType, Resource
from analytics_dagster.ingest.arrow import REJECTED_COLUMNS, arrow_schema
from analytics_dagster.ingest.errors import SettingsError, WarehouseError
from analytics_dagster.ingest.settings import SANDBOX, Settings, project_root, use_project_root
from analytics_dagster.ingest.source import REJECTED_ROWS, column_hints
from analytics_dagster.ingest.windows import Window

logger = logging.getLogger(__name__)

DATASET = "analytics"
"""Schema of the tables, and first part of the assets' keys."""

LOAD_WINDOWS = "load_windows"
"""Table of what was loaded: one row a load and resource."""

LOAD_WINDOWS_COLUMNS = (
    Column(name="resource", type=ColumnType.TEXT, description="Resource that was loaded."),
    Column(name="source", type=ColumnType.TEXT, description="base_url it was loaded from."),
    Column(
        name="window_start",
        type=ColumnType.TIMESTAMP,
        nullable=True,
        description="Start of the window, without lookback; null for the beginning of the list.",
    ),
    Column(name="window_end", type=ColumnType.TIMESTAMP, description="End of the window, never in the future."),
    Column(name="rows_loaded", type=ColumnType.BIGINT, description="Rows that the load read in the window."),
    Column(name="loaded_at", type=ColumnType.TIMESTAMP, description="When the rows were in the table."),
)

SqlClient = SqlClientBase[Any]


@dataclass(frozen=True, kw_only=True)
class Warehouse:
    """Where the tables are.

    Attributes:
        name: dlt's name of the destination: `warehouse`, or `sandbox` for the sandbox's rows.
        kind: dlt's type of the destination.
        file: The DuckDB file; None for other destinations.
    """

    name: str
    kind: str
    file: Path | None

    def qualified(self, table: str) -> str:
        """Return `database.schema.table`, as far as the database has a name."""
        return f"{self.file.stem}.{DATASET}.{table}" if self.file else f"{DATASET}.{table}"


@dataclass(frozen=True, kw_only=True)
class Announced:
    """What a table with rows tells of itself: see `catalog.Announcement`.

    Attributes:
        settled_rows: Rows that have settled.
        newest_key: Highest key.
        shown: Columns of that row, by name.
    """

    settled_rows: int
    newest_key: int | str
    shown: Mapping[str, str]


def destination_kind(settings: Settings) -> str:
    """Return dlt's type of the destination, such as `duckdb` or `postgres`."""
    use_project_root()
    configured: Any = None if settings.sandbox else dlt.config.get("destination.warehouse.destination_type")
    return configured or "duckdb"


def warehouse(settings: Settings) -> Warehouse:
    """Return where rows of the configured service belong: the sandbox's never share a place with real ones.

    Raises:
        SettingsError: The destination is configured in a way that cannot be.
    """
    name = SANDBOX if settings.sandbox else "warehouse"
    kind = destination_kind(settings)
    if kind != "duckdb":
        return Warehouse(name=name, kind=kind, file=None)
    configured: Any = dlt.secrets.get(f"destination.{name}.credentials")
    configured = configured or f"{name}.duckdb"
    if not isinstance(configured, str):
        raise SettingsError(f"The setting destination.{name}.credentials is the path of a DuckDB file.")
    file = (project_root() / configured.removeprefix("duckdb:///")).resolve()
    if file.stem == DATASET:
        raise SettingsError(
            f"The DuckDB file {file.name} has the name of the schema in it, which DuckDB cannot tell apart. Set "
            f"destination.{name}.credentials to a file of another name."
        )
    return Warehouse(name=name, kind=kind, file=file)


def build_pipeline(
    resource: Resource | None = None,
    settings: Settings | None = None,
    *,
    pipelines_dir: str | None = None,
    connection: Any = None,
) -> dlt.Pipeline:
    """Return a dlt pipeline into the warehouse. It opens nothing yet.

    Args:
        resource: Whose pipeline; one each, so that none can hold back another. None for the loader's own tables.
        settings: Which warehouse, and DuckDB's memory limit.
        pipelines_dir: Where dlt keeps its working files; its own default otherwise.
        connection: A connection to the DuckDB file that is open already, to use instead of opening another.
    """
    settings = settings or Settings()
    pipeline = dlt.pipeline(
        pipeline_name=f"{DATASET}_{resource.name if resource else 'loads'}",
        destination=_destination(settings, connection),
        dataset_name=DATASET,
        pipelines_dir=cast("str", pipelines_dir),  # None is its default, and how it is typed
    )
    # The windows that were loaded are all the state there is: dlt need not keep any of its own.
    pipeline.config.restore_from_destination = False
    return pipeline


def _destination(settings: Settings, connection: Any) -> Destination[Any, Any]:
    place = warehouse(settings)
    if place.file is None:
        return dlt.destination(place.name, destination_type=place.kind)
    # Slow to import, and of no use to other destinations.
    from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials  # noqa: PLC0415

    from analytics_dagster.ingest.warehouse.duckdb_merge import MergingDuckDb  # noqa: PLC0415

    if connection is not None:
        return MergingDuckDb(connection, destination_name=place.name)
    # Each thread of DuckDB fills row groups of its own: a second one costs more memory than it saves time.
    limits = {"memory_limit": settings.memory_limit, "threads": 1} if settings.memory_limit else {}
    return MergingDuckDb(DuckDbCredentials(str(place.file), global_config=limits), destination_name=place.name)


@contextmanager
def writing(settings: Settings) -> Iterator[Warehouse]:
    """Be the warehouse's only writer, across processes; wait for another one to finish.

    Raises:
        WarehouseError: Another process did not finish within `lock_timeout`, or the place cannot be written.
    """
    place = warehouse(settings)
    if place.file is None:
        # Other destinations take several writers; within one Dagster instance the pool keeps them in turn.
        yield place
        return
    with turn_at(place.file, place.name, settings.lock_timeout):
        _check_writable(place.file, place.name)
        yield place


@contextmanager
def turn_at(file: Path, name: str, timeout: float) -> Iterator[None]:
    """Have the DuckDB file to oneself among the processes of this project, to write it or to read it.

    Raises:
        WarehouseError: Another process did not finish within `timeout` seconds, or there can be no lock.
    """
    lock = FileLock(file.with_suffix(".lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("%s is being written by another process; waiting for it to finish", file)
            lock.acquire(timeout=timeout)
    except Timeout:
        raise WarehouseError(
            f"{file} is still being written by another process after {timeout:.0f} s. Wait for that load to finish, "
            "or raise lock_timeout."
        ) from None
    except OSError as error:
        raise WarehouseError(
            f"{file.parent} cannot be written ({error.strerror}). Make it writable, or set "
            f"destination.{name}.credentials to a file elsewhere."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _check_writable(file: Path, name: str) -> None:
    """Open the DuckDB file as dlt will, to say in a sentence why that fails."""
    import duckdb  # noqa: PLC0415 - only where DuckDB is the destination

    try:
        duckdb.connect(str(file)).close()
    except duckdb.Error as error:
        raise WarehouseError(
            f"The warehouse {file} cannot be opened for writing: {str(error).splitlines()[0]} Close the session that "
            f"holds it or open it read-only, make the file writable, or set destination.{name}.credentials."
        ) from None


@contextmanager
def open_ledger(settings: Settings, *, pipelines_dir: str | None = None) -> Iterator["Ledger"]:
    """Open the warehouse and what the loader keeps in it; create that if it is not there.

    DuckDB stays open as long as this does, so that it neither opens nor checkpoints its file for every load.

    Args:
        settings: Which warehouse, and the address of the service.
        pipelines_dir: Where dlt keeps its working files.

    Raises:
        WarehouseError: The warehouse holds rows of a real service while the sandbox is configured, or the reverse.
    """
    pipeline = build_pipeline(None, settings, pipelines_dir=pipelines_dir)
    with pipeline.sql_client() as client:
        ledger = Ledger(client, settings.source_address)
        try:
            sources = ledger.sources()
        except DatabaseUndefinedRelation:
            pipeline.run(_empty_tables())
            sources = set()
        if sources and settings.sandbox != (SANDBOX in sources):
            raise WarehouseError(
                f"The warehouse holds rows of {', '.join(sorted(sources))}; rows of {settings.source_address} do not "
                "belong beside them. Set base_url or the destination's credentials."
            )
        yield ledger


class Ledger:
    """What the loader keeps in the warehouse: the windows that were loaded, and the rows that were rejected."""

    def __init__(self, client: SqlClient, source: str) -> None:
        self._client = client
        self._source = source

    def sources(self) -> set[str]:
        """Return the addresses of the services whose rows are in the warehouse."""
        return {row[0] for row in self._run(f"SELECT DISTINCT source FROM {{{LOAD_WINDOWS}}}")}

    def windows(self, resource: Resource) -> list[Window]:
        """Return the windows of a resource that were loaded from the configured service."""
        rows = self._run(
            f"SELECT window_start, window_end FROM {{{LOAD_WINDOWS}}} WHERE resource = %s AND source = %s",
            resource.name,
            self._source,
        )
        return [Window(start=start and utc(start), end=utc(end)) for start, end in rows]

    def record(self, resource: Resource, window: Window, rows: int) -> None:
        """Record that a window of a resource was loaded. Its rows are in the table by now."""
        names = ", ".join(column.name for column in LOAD_WINDOWS_COLUMNS)
        values = ", ".join(["%s"] * len(LOAD_WINDOWS_COLUMNS))
        self._run(
            f"INSERT INTO {{{LOAD_WINDOWS}}} ({names}) VALUES ({values})",
            resource.name,
            self._source,
            window.start,
            window.end,
            rows,
            datetime.now(UTC),
        )

    def known_rejects(self, resource: Resource) -> dict[str, datetime]:
        """Return when each rejected row of a resource was first seen, by its hash."""
        rows = self._run(f"SELECT row_hash, first_seen FROM {{{REJECTED_ROWS}}} WHERE resource = %s", resource.name)
        return {row_hash: utc(seen) for row_hash, seen in rows}

    def lookup_values(self, resource: Resource, *, active_since: datetime) -> list[int]:
        """Return the values that a resource's requests ask for; none before the table they come from exists."""
        assert resource.lookup
        lookup = resource.lookup
        active = " OR ".join(f"{column} >= %s" for column in lookup.active_by)
        try:
            rows = self._run(
                f"SELECT DISTINCT {lookup.column} FROM {{{lookup.resource}}} WHERE {active} ORDER BY 1",
                *[active_since] * len(lookup.active_by),
            )
        except DatabaseUndefinedRelation:
            return []
        return [row[0] for row in rows]

    def row_count(self, resource: Resource) -> int:
        """Return how many rows the table of a resource has; 0 before it exists."""
        try:
            return int(self._run(f"SELECT count(*) FROM {{{resource.name}}}")[0][0])
        except DatabaseUndefinedRelation:
            return 0

    def announced(self, resource: Resource) -> Announced | None:
        """Return what a resource's table announces; None if that is nothing, or if it has no row."""
        if resource.announces is None or not self.row_count(resource):
            return None
        (key,) = resource.primary_key
        table = "{" + resource.name + "}"
        names = resource.announces.shown
        settled = self._run(f"SELECT count({resource.announces.settled_by}) FROM {table}")
        newest = self._run(
            f"SELECT {', '.join((key, *names))} FROM {table} WHERE {key} = (SELECT max({key}) FROM {table})"
        )
        return Announced(
            settled_rows=settled[0][0],
            newest_key=newest[0][0],
            shown={name: str(value) for name, value in zip(names, newest[0][1:], strict=True)},
        )

    def mark_removed(self, resource: Resource, *, read_from: datetime, new_rows: int) -> int:
        """Mark the rows that a complete listing, read since `read_from`, lacked; return how many.

        Only rows within the accounts or projects that the listing speaks of count. Where rows do not say which those
        are, a listing that lacks more of the rows than it repeats is not believed: it may be another account's.

        Args:
            resource: What was listed.
            read_from: When the load began.
            new_rows: Rows that the listing added to the table.
        """
        table = "{" + resource.name + "}"
        spoken_of = "".join(
            f" AND {column} IN (SELECT {column} FROM {table} WHERE read_at >= %s)" for column in resource.listed_within
        )
        gone = f"removed_at IS NULL AND read_at < %s{spoken_of}"
        times = [read_from] * (1 + len(resource.listed_within))
        count = int(self._run(f"SELECT count(*) FROM {table} WHERE {gone}", *times)[0][0])
        if not count:
            return 0
        if not resource.listed_within:
            listed = int(self._run(f"SELECT count(*) FROM {table} WHERE read_at >= %s", read_from)[0][0])
            repeated = listed - new_rows
            if count > repeated:
                logger.warning(
                    "%s: the listing lacks %d rows of the table and repeats %d, so none is marked as removed. Check "
                    "that the key is one of the same account; if so many are really gone, delete them from the table.",
                    resource.name, count, repeated,
                )  # fmt: skip
                return 0
        self._run(f"UPDATE {table} SET removed_at = %s WHERE {gone}", read_from, *times)
        return count

    def _run(self, statement: str, *parameters: Any) -> Sequence[Any]:
        """Run a statement and return its rows; `{table}` in it stands for that table's qualified name."""
        return self._client.execute_sql(with_table_names(statement, self._client), *parameters) or []


def with_table_names(statement: str, client: SqlClient) -> str:
    """Return a statement with the qualified name of each `{table}` in it."""
    return statement.format_map(_Names(client.make_qualified_table_name))


class _Names(dict[str, str]):
    """Qualified names of tables, for `str.format_map`."""

    def __init__(self, qualify: Callable[[str], str]) -> None:
        super().__init__()
        self._qualify = qualify

    def __missing__(self, table: str) -> str:
        return self._qualify(table)


def _empty_tables() -> list[Any]:
    """The loader's own tables, without a row, as dlt resources."""
    return [
        dlt.resource(
            [arrow_schema(columns).empty_table()],
            name=name,
            columns=column_hints(columns),
            write_disposition="append",
            file_format="parquet",
        )
        for name, columns in ((LOAD_WINDOWS, LOAD_WINDOWS_COLUMNS), (REJECTED_ROWS, REJECTED_COLUMNS))
    ]


def utc(moment: datetime) -> datetime:
    """Return a moment in UTC, which a destination may have returned without saying so."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
