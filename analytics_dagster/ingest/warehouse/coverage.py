"""Coverage: the table `load_windows`, with the loaded windows of each resource, and its records of empty lists.

    coverage.record(resource, window, rows=65)
    windows = coverage.windows(resource, now=now)
    through = loaded_through(windows.valid, start)

https://dlthub.com/docs/general-usage/dataset-access/sql-client
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dlt.destinations.exceptions import DatabaseUndefinedRelation

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.clock import format_moment
from analytics_dagster.ingest.schema import LOAD_WINDOWS, LOAD_WINDOWS_COLUMNS
from analytics_dagster.ingest.warehouse.pipeline import SqlClient, run_statement, utc, with_table_names
from analytics_dagster.ingest.windows import LoadedWindow, LoadedWindows, Window, validate_windows

logger = logging.getLogger(__name__)

_COVERAGE = "(window_start IS NULL OR window_start < window_end)"
_EMPTY_LIST = "window_start = window_end"
"""Conditions that tell the loaded windows of `load_windows` from its records of empty lists."""


class CoverageTable:
    """The table `load_windows`.

    Args:
        client: An open SQL client of dlt.
        source: Address of the service whose windows are read and recorded.
    """

    def __init__(self, client: SqlClient, source: str) -> None:
        self.source = source
        self._client = client

    def columns(self) -> set[str]:
        """Return the names of the columns of `load_windows`; none before it exists."""
        try:
            names, _ = self._select("1 = 0")
        except DatabaseUndefinedRelation:
            return set()
        return set(names)

    def sources(self, resource: Resource | None = None) -> set[str]:
        """Return the addresses of the services whose windows are recorded, of one resource or of all."""
        limit = ("AND resource = %s", resource.name) if resource else ("",)
        statement = f"SELECT DISTINCT source FROM {{{LOAD_WINDOWS}}} WHERE {_COVERAGE} {limit[0]}"
        return {row[0] for row in run_statement(self._client, statement, *limit[1:])}

    def windows(self, resource: Resource, *, now: datetime) -> LoadedWindows:
        """Return the windows of a resource that were loaded from the configured service.

        Windows that end after `now` do not count; a warning names the latest end.
        """
        names, rows = self._select(f"resource = %s AND source = %s AND {_COVERAGE}", resource.name, self.source)
        # An earlier version created the table without `list_end`, and a reader cannot add it.
        records = [{"list_end": None} | dict(zip(names, row, strict=True)) for row in rows]
        windows = validate_windows(
            (
                LoadedWindow(
                    start=record["window_start"] and utc(record["window_start"]),
                    end=utc(record["window_end"]),
                    list_end=record["list_end"] and utc(record["list_end"]),
                    loaded_at=utc(record["loaded_at"]),
                )
                for record in records
            ),
            now=now,
        )
        if windows.future:
            logger.warning(
                "%s: recorded coverage ends in the future, at %s, and is ignored: the clock of an earlier load was "
                "ahead. It is now %s by this machine's clock; check that this is right.",
                resource.name, format_moment(max(window.end for window in windows.future)), format_moment(now),
            )  # fmt: skip
        return windows

    def record(self, resource: Resource, window: Window, rows: int, list_end: datetime | None = None) -> None:
        """Record that a window of a resource was loaded; its rows must be in the table by then.

        Args:
            resource: The resource.
            window: The window, without lookback.
            rows: Rows that the load read in the window.
            list_end: Time of the oldest row, UTC, if the service's list ended above the window's start.
        """
        self._insert(resource, window.start, window.end, rows, list_end)

    def forget_future_windows(self, resource: Resource, *, after: datetime) -> None:
        """Delete the windows that end after a time that has not come yet by any clock.

        Once that time comes, nothing would tell them from windows that were loaded.
        """
        run_statement(
            self._client,
            f"DELETE FROM {{{LOAD_WINDOWS}}} WHERE resource = %s AND source = %s AND {_COVERAGE} AND window_end > %s",
            resource.name,
            self.source,
            after,
        )

    def empty_lists(self, resource: Resource) -> list[datetime]:
        """Return the times, oldest first, at which the service listed no rows, since it last listed any."""
        rows = run_statement(
            self._client,
            f"SELECT window_end FROM {{{LOAD_WINDOWS}}} WHERE resource = %s AND source = %s AND {_EMPTY_LIST}",
            resource.name,
            self.source,
        )
        return sorted(utc(seen_at) for (seen_at,) in rows)

    def record_empty_list(self, resource: Resource, seen_at: datetime) -> None:
        """Record that the service listed no rows of a resource whose table has some. This covers nothing."""
        self._insert(resource, seen_at, seen_at, 0, None)

    def forget_empty_lists(self, resource: Resource) -> None:
        """Delete the records of empty lists, because the service lists rows again."""
        run_statement(
            self._client,
            f"DELETE FROM {{{LOAD_WINDOWS}}} WHERE resource = %s AND source = %s AND {_EMPTY_LIST}",
            resource.name,
            self.source,
        )

    def _insert(self, resource: Resource, *values: Any) -> None:
        """Insert a row as of now; `values` are those of window_start, window_end, rows_loaded and list_end."""
        names = ", ".join(column.name for column in LOAD_WINDOWS_COLUMNS)
        places = ", ".join(["%s"] * len(LOAD_WINDOWS_COLUMNS))
        run_statement(
            self._client,
            f"INSERT INTO {{{LOAD_WINDOWS}}} ({names}) VALUES ({places})",
            resource.name,
            self.source,
            *values,
            datetime.now(UTC),
        )

    def _select(self, condition: str, *parameters: Any) -> tuple[list[str], Sequence[Any]]:
        """Return the names of the columns of `load_windows`, and the rows that meet a condition."""
        statement = with_table_names(f"SELECT * FROM {{{LOAD_WINDOWS}}} WHERE {condition}", self._client)
        with self._client.execute_query(statement, *parameters) as cursor:
            return [str(column[0]).lower() for column in cursor.description], cursor.fetchall()
