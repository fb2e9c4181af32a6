"""Load state: the table of loaded windows, the rejected rows, and the marks of removed rows, kept beside the rows."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dlt
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.errors import WarehouseError
from analytics_dagster.ingest.schema import (
    LOAD_WINDOWS,
    LOAD_WINDOWS_COLUMNS,
    REJECTED_COLUMNS,
    REJECTED_ROWS,
    arrow_schema,
    column_hints,
)
from analytics_dagster.ingest.settings import SANDBOX, Settings
from analytics_dagster.ingest.warehouse.pipeline import SqlClient, build_pipeline, utc, with_table_names
from analytics_dagster.ingest.windows import Window

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WatermarkValues:
    """What a table with rows tells of itself: see `catalog.WatermarkColumns`.

    Attributes:
        settled_rows: Rows that have settled.
        newest_key: Highest key.
        labels: Columns of that row, by name.
    """

    settled_rows: int
    newest_key: int | str
    labels: Mapping[str, str]


@contextmanager
def open_load_state(settings: Settings, *, pipelines_dir: str | None = None) -> Iterator["LoadState"]:
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
        load_state = LoadState(client, settings.source_address)
        try:
            sources = load_state.sources()
        except DatabaseUndefinedRelation:
            pipeline.run(_empty_tables())
            sources = set()
        if sources and settings.sandbox != (SANDBOX in sources):
            raise WarehouseError(
                f"The warehouse holds rows of {', '.join(sorted(sources))}; rows of {settings.source_address} do not "
                "belong beside them. Set base_url or the destination's credentials."
            )
        yield load_state


class LoadState:
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

    def watermark(self, resource: Resource) -> WatermarkValues | None:
        """Return what a resource's table announces; None if that is nothing, or if it has no row."""
        if resource.watermark is None or not self.row_count(resource):
            return None
        (key,) = resource.primary_key
        table = "{" + resource.name + "}"
        names = resource.watermark.labels
        settled = self._run(f"SELECT count({resource.watermark.settled_by}) FROM {table}")
        newest = self._run(
            f"SELECT {', '.join((key, *names))} FROM {table} WHERE {key} = (SELECT max({key}) FROM {table})"
        )
        return WatermarkValues(
            settled_rows=settled[0][0],
            newest_key=newest[0][0],
            labels={name: str(value) for name, value in zip(names, newest[0][1:], strict=True)},
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
