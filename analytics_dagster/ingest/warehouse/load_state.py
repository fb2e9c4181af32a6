"""Load state, kept in the warehouse beside the rows: coverage, rejected rows, marks of removed rows.

It takes the place of dlt's pipeline state (https://dlthub.com/docs/general-usage/state), which cannot be queried.

    with open_load_state(settings) as load_state:
        load_state.coverage.record(resource, window, rows=65)
        count = load_state.row_count(resource)
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
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
from analytics_dagster.ingest.warehouse.coverage import CoverageTable
from analytics_dagster.ingest.warehouse.pipeline import SqlClient, build_pipeline, run_statement, utc

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WatermarkValues:
    """Values of `catalog.WatermarkColumns` in a table that has rows.

    Attributes:
        settled_rows: Number of rows that have settled.
        newest_key: Highest key.
        labels: Values of the label columns in the row with that key, by column.
    """

    settled_rows: int
    newest_key: int | str
    labels: Mapping[str, str]


@contextmanager
def open_load_state(settings: Settings, *, pipelines_dir: str | None = None) -> Iterator["LoadState"]:
    """Open the warehouse for loads; create the loader's own tables, or their new columns, where they are missing.

    DuckDB stays open for the whole context: opening its file for every load would checkpoint it every time.

    Args:
        settings: Settings that name the warehouse and the service.
        pipelines_dir: Folder of dlt's working files; dlt's default if None.

    Raises:
        WarehouseError: The warehouse holds rows of a real service while the sandbox is configured, or the reverse.
    """
    pipeline = build_pipeline(None, settings, pipelines_dir=pipelines_dir)
    with pipeline.sql_client() as client:
        load_state = LoadState(client, settings.source_address)
        columns = load_state.coverage.columns()
        sources = load_state.coverage.sources() if columns else set()
        if sources and settings.sandbox != (SANDBOX in sources):
            raise WarehouseError(
                f"The warehouse holds rows of {', '.join(sorted(sources))}; rows of {settings.source_address} must not "
                "be mixed with them. Set base_url or the destination's credentials."
            )
        if not columns >= {column.name for column in LOAD_WINDOWS_COLUMNS}:
            pipeline.run(_empty_tables())
        yield load_state


class LoadState:
    """The loader's records in the warehouse.

    Args:
        client: An open SQL client of dlt.
        source: Address of the service whose coverage is read and recorded.

    Attributes:
        coverage: The loaded windows.
    """

    def __init__(self, client: SqlClient, source: str) -> None:
        self.coverage = CoverageTable(client, source)
        self._client = client

    def largest_key(self, resource: Resource, *, before: datetime) -> int | None:
        """Return the largest primary key of the rows whose cursor is before a time; None if there are none."""
        (key,) = resource.primary_key
        statement = f"SELECT max({key}) FROM {{{resource.name}}} WHERE {resource.cursor} < %s"
        try:
            ((largest,),) = run_statement(self._client, statement, before)
        except DatabaseUndefinedRelation:
            return None
        return largest if largest is None else int(largest)

    def known_rejects(self, resource: Resource) -> dict[str, datetime]:
        """Return the time when each rejected row of a resource was first seen, by its hash."""
        rows = run_statement(
            self._client, f"SELECT row_hash, first_seen FROM {{{REJECTED_ROWS}}} WHERE resource = %s", resource.name
        )
        return {row_hash: utc(seen) for row_hash, seen in rows}

    def lookup_values(self, resource: Resource, *, active_since: datetime) -> list[int]:
        """Return the values for the requests of a resource with a lookup; none before their table exists."""
        assert resource.lookup
        lookup = resource.lookup
        active = " OR ".join(f"{column} >= %s" for column in lookup.active_by)
        try:
            rows = run_statement(
                self._client,
                f"SELECT DISTINCT {lookup.column} FROM {{{lookup.resource}}} WHERE {active} ORDER BY 1",
                *[active_since] * len(lookup.active_by),
            )
        except DatabaseUndefinedRelation:
            return []
        return [row[0] for row in rows]

    def row_count(self, resource: Resource) -> int:
        """Return the number of rows in a resource's table; 0 before it exists."""
        try:
            return int(run_statement(self._client, f"SELECT count(*) FROM {{{resource.name}}}")[0][0])
        except DatabaseUndefinedRelation:
            return 0

    def watermark(self, resource: Resource) -> WatermarkValues | None:
        """Return the watermark of a resource's table; None if it declares none or has no row."""
        if resource.watermark is None:
            return None
        (key,), labels, table = resource.primary_key, resource.watermark.labels, "{" + resource.name + "}"
        columns = ", ".join((f"(SELECT count({resource.watermark.settled_by}) FROM {table})", key, *labels))
        rows = run_statement(
            self._client, f"SELECT {columns} FROM {table} WHERE {key} = (SELECT max({key}) FROM {table})"
        )
        if not rows:
            return None
        settled, newest, *values = rows[0]
        return WatermarkValues(
            settled_rows=settled, newest_key=newest, labels=dict(zip(labels, map(str, values), strict=True))
        )

    def mark_removed(self, resource: Resource, *, read_from: datetime, new_rows: int) -> int:
        """Mark the rows that a complete listing, read since `read_from`, lacked; return how many.

        Marks are limited to the accounts or projects in the listing. Where rows name neither, a listing that lacks more
        rows than it repeats marks none: it may be another account's.

        Args:
            resource: Resource that was listed.
            read_from: Start of the load, UTC.
            new_rows: Rows that the listing added to the table.
        """
        table = "{" + resource.name + "}"
        limits = "".join(
            f" AND {column} IN (SELECT {column} FROM {table} WHERE read_at >= %s)" for column in resource.listed_within
        )
        removed = f"removed_at IS NULL AND read_at < %s{limits}"
        times = [read_from] * (1 + len(resource.listed_within))
        count = int(run_statement(self._client, f"SELECT count(*) FROM {table} WHERE {removed}", *times)[0][0])
        if not count:
            return 0
        if not resource.listed_within:
            listed = int(
                run_statement(self._client, f"SELECT count(*) FROM {table} WHERE read_at >= %s", read_from)[0][0]
            )
            repeated = listed - new_rows
            if count > repeated:
                logger.warning(
                    "%s: the listing lacks %d rows of the table and repeats %d, so none is marked as removed. Check "
                    "that the key belongs to the same account. If the rows were removed, delete them from the table.",
                    resource.name, count, repeated,
                )  # fmt: skip
                return 0
        run_statement(self._client, f"UPDATE {table} SET removed_at = %s WHERE {removed}", read_from, *times)
        return count


def _empty_tables() -> list[Any]:
    """Return the loader's own tables as dlt resources without rows."""
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
