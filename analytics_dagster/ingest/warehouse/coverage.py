"""Coverage: the table `load_windows`, with the loaded windows of each resource, and its records of empty lists.

    coverage.record(resource, project, window, rows=65)
    windows = coverage.windows(resource, [project], now=now, with_rows=[project])[project]
    through = loaded_through(windows.valid, start)

A window belongs to a resource, a source and a project: the id that the rows of its load named, so that no window speaks
for the key of another project. The name of the project in the settings stands for it while no row has named it, and
tells the loads of a key from those of others.
https://dlthub.com/docs/general-usage/dataset-access/sql-client
"""

import logging
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.clock import format_moment
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.schema import LOAD_WINDOWS, LOAD_WINDOWS_COLUMNS
from analytics_dagster.ingest.settings import DEFAULT_PROJECT
from analytics_dagster.ingest.warehouse.pipeline import (
    SqlClient,
    run_statement,
    select_records,
    stored_columns,
    timestamp_literal,
    utc,
)
from analytics_dagster.ingest.windows import LoadedWindow, LoadedWindows, Window, validate_windows

logger = logging.getLogger(__name__)

IS_COVERAGE = "(window_start IS NULL OR window_start < window_end)"
_EMPTY_LIST = "window_start = window_end"
"""Conditions that tell the loaded windows of `load_windows` from its records of empty lists."""


class RecordedWindow(NamedTuple):
    """A window to record, without lookback, as `CoverageTable.record` explains."""

    project: Project
    window: Window
    rows: int
    list_end: datetime | None = None


class CoverageTable:
    """The table `load_windows`.

    Args:
        client: An open SQL client of dlt.
        source: Address of the service whose windows are read and recorded.
    """

    def __init__(self, client: SqlClient, source: str) -> None:
        self.source = source
        self._client = client

    @cached_property
    def _columns(self) -> set[str]:
        """The columns of the table: an earlier version created it without `project_id` or `project_name`."""
        return stored_columns(self._client, LOAD_WINDOWS) or set()

    def sources(self, resource: Resource | None = None) -> set[str]:
        """Return the addresses of the services whose windows are recorded, of one resource or of all."""
        limit = ("AND resource = %s", resource.name) if resource else ("",)
        statement = f"SELECT DISTINCT source FROM {{{LOAD_WINDOWS}}} WHERE {IS_COVERAGE} {limit[0]}"
        return {row[0] for row in run_statement(self._client, statement, *limit[1:])}

    # -- projects -----------------------------------------------------------------------------------------

    def latest_projects(self) -> dict[str, int]:
        """Return the project of the latest load by each key from the configured service, by the project's name."""
        if "project_id" not in self._columns:
            return {}
        name = "project_name" if "project_name" in self._columns else f"'{DEFAULT_PROJECT}'"
        named = f"source = %s AND {IS_COVERAGE} AND project_id IS NOT NULL"
        rows = run_statement(
            self._client,
            f"SELECT project_name, project_id FROM (SELECT {name} AS project_name, project_id, row_number() OVER "
            f"(PARTITION BY {name} ORDER BY loaded_at DESC) AS place FROM {{{LOAD_WINDOWS}}} WHERE {named}) AS loads "
            "WHERE place = 1",
            self.source,
        )
        return {str(name): int(project) for name, project in rows}

    def projects(self, resource: Resource) -> set[int]:
        """Return the projects whose loads of a resource are recorded, from any service."""
        rows = run_statement(
            self._client,
            f"SELECT DISTINCT project_id FROM {{{LOAD_WINDOWS}}} WHERE resource = %s AND project_id IS NOT NULL",
            resource.name,
        )
        return {row[0] for row in rows}

    def adopt(self, project: int) -> None:
        """Give the windows without a project to one: a version without the column `project_id` recorded them."""
        run_statement(
            self._client,
            f"UPDATE {{{LOAD_WINDOWS}}} SET project_id = %s WHERE project_id IS NULL AND source = %s AND {IS_COVERAGE}",
            project,
            self.source,
        )

    def name_project(self) -> None:
        """Name the project of windows without a name: a version that knew one key recorded them."""
        run_statement(
            self._client,
            f"UPDATE {{{LOAD_WINDOWS}}} SET project_name = %s WHERE project_name IS NULL",
            DEFAULT_PROJECT,
        )

    # -- windows ------------------------------------------------------------------------------------------

    def windows(
        self,
        resource: Resource,
        projects: Collection[Project],
        *,
        now: datetime,
        with_rows: Collection[Project],
        since: datetime | None = None,
    ) -> dict[Project, LoadedWindows]:
        """Return the windows of a resource that were loaded from the configured service, by project.

        Windows that end after `now` do not count; a warning names the latest end. Nor do windows whose rows are gone.

        Args:
            resource: The resource.
            projects: The projects.
            now: The time, UTC.
            with_rows: The projects of which the resource's table has rows.
            since: Time before which windows may end to be left out, unless their rows are gone, UTC; None for all.
        """
        condition, *parameters = self._where(IS_COVERAGE, resource, *projects)
        if since and set(projects) <= set(with_rows):
            condition += f" AND window_end > {timestamp_literal(since)}"
        found = select_records(self._client, f"SELECT * FROM {{{LOAD_WINDOWS}}} WHERE {condition}", *parameters)
        by_project: dict[Project, list[LoadedWindow]] = {project: [] for project in projects}
        by_id = {project.id: project for project in projects if project.id is not None}
        by_name = {project.name: project for project in projects if project.id is None}
        for stored in found:
            # An earlier version created the table without these columns, and a reader cannot add them.
            record = {"list_end": None, "project_id": None, "project_name": None} | stored
            name = record["project_name"] or DEFAULT_PROJECT
            project = by_id.get(record["project_id"]) or by_name.get(name) or next(iter(projects))
            by_project[project].append(
                LoadedWindow(
                    start=record["window_start"] and utc(record["window_start"]),
                    end=utc(record["window_end"]),
                    rows=record["rows_loaded"],
                    list_end=record["list_end"] and utc(record["list_end"]),
                    loaded_at=utc(record["loaded_at"]),
                )
            )
        validated = {
            project: validate_windows(windows, now=now, has_rows=project in with_rows)
            for project, windows in by_project.items()
        }
        if future := [window.end for windows in validated.values() for window in windows.future]:
            logger.warning(
                "%s: recorded coverage ends in the future, at %s, and is ignored: the clock of an earlier load was "
                "ahead. It is now %s by this machine's clock; check that this is right.",
                resource.name, format_moment(max(future)), format_moment(now),
            )  # fmt: skip
        return validated

    def record(
        self, resource: Resource, project: Project, window: Window, rows: int, list_end: datetime | None = None
    ) -> None:
        """Record that a window of a resource was loaded; its rows must be in the table by then.

        Args:
            resource: The resource.
            project: The project that the rows name.
            window: The window, without lookback.
            rows: Rows that the load read in the window.
            list_end: Time of the oldest row, UTC, if the service's list ended above the window's start.
        """
        self.record_windows(resource, [RecordedWindow(project, window, rows, list_end)])

    def record_windows(self, resource: Resource, windows: Sequence[RecordedWindow]) -> None:
        """Record that windows of a resource were loaded, as `record` does, with one statement."""
        self._insert(
            resource,
            [(window.start, window.end, rows, list_end, project) for project, window, rows, list_end in windows],
        )

    def forget_windows(self, resource: Resource, project: Project) -> None:
        """Delete all windows of a resource, because the rows that they speak of are gone."""
        self._delete(IS_COVERAGE, resource, project)

    def forget_future_windows(self, resource: Resource, project: Project, *, after: datetime) -> None:
        """Delete the windows that end after a time that has not come yet by any clock.

        Once that time comes, nothing would tell them from windows that were loaded.
        """
        self._delete(IS_COVERAGE, resource, project, after=after)

    def forget_windows_before(self, resource: Resource, before: datetime) -> None:
        """Delete the coverage of a resource before a time, of every project and source: its rows will be deleted."""
        table = f"{{{LOAD_WINDOWS}}}"
        condition = f"resource = %s AND {IS_COVERAGE} AND"
        run_statement(self._client, f"DELETE FROM {table} WHERE {condition} window_end <= %s", resource.name, before)
        run_statement(
            self._client,
            f"UPDATE {table} SET window_start = %s WHERE {condition} (window_start IS NULL OR window_start < %s)",
            before,
            resource.name,
            before,
        )

    def empty_windows(self, resource: Resource) -> None:
        """Record that the windows of a resource have no rows any more: all were deleted on purpose."""
        run_statement(
            self._client,
            f"UPDATE {{{LOAD_WINDOWS}}} SET rows_loaded = 0 WHERE resource = %s AND {IS_COVERAGE}",
            resource.name,
        )

    # -- empty lists --------------------------------------------------------------------------------------

    def empty_lists(self, resource: Resource, project: Project) -> list[datetime]:
        """Return the times, oldest first, at which the service listed no rows, since it last listed any."""
        condition, *parameters = self._where(_EMPTY_LIST, resource, project)
        rows = run_statement(self._client, f"SELECT window_end FROM {{{LOAD_WINDOWS}}} WHERE {condition}", *parameters)
        return sorted(utc(seen_at) for (seen_at,) in rows)

    def record_empty_list(self, resource: Resource, project: Project, seen_at: datetime) -> None:
        """Record that the service listed no rows of a resource whose table has some. This covers nothing."""
        self._insert(resource, [(seen_at, seen_at, 0, None, project)])

    def forget_empty_lists(self, resource: Resource, *projects: Project) -> None:
        """Delete the records of empty lists of projects, because the service lists rows again."""
        self._delete(_EMPTY_LIST, resource, *projects)

    # -- statements ---------------------------------------------------------------------------------------

    def _where(self, condition: str, resource: Resource, *projects: Project) -> tuple[Any, ...]:
        """Return a condition for the rows of a resource and of projects, and its parameters."""
        where = f"resource = %s AND source = %s AND {condition}"
        if "project_id" not in self._columns:
            return (where, resource.name, self.source)
        choices, names = [], [project.name for project in projects if project.id is None]
        if ids := [str(project.id) for project in projects if project.id is not None]:
            choices.append(f"project_id IN ({', '.join(ids)})")
        if names and "project_name" in self._columns:
            choices.append(f"project_id IS NULL AND project_name IN ({', '.join(['%s'] * len(names))})")
        elif names:
            choices, names = [*choices, "project_id IS NULL"], []
        return (f"{where} AND ({' OR '.join(choices)})", resource.name, self.source, *names)

    def _delete(self, condition: str, resource: Resource, *projects: Project, after: datetime | None = None) -> None:
        where, *values = self._where(condition, resource, *projects)
        if after:
            where, values = f"{where} AND window_end > %s", [*values, after]
        run_statement(self._client, f"DELETE FROM {{{LOAD_WINDOWS}}} WHERE {where}", *values)

    def _insert(
        self, resource: Resource, rows: Sequence[tuple[datetime | None, datetime, int, datetime | None, Project]]
    ) -> None:
        """Insert rows as of now: window_start, window_end, rows_loaded, list_end and the project of each."""
        now = datetime.now(UTC)
        names = ", ".join(column.name for column in LOAD_WINDOWS_COLUMNS)
        places = f"({', '.join(['%s'] * len(LOAD_WINDOWS_COLUMNS))})"
        values: list[Any] = []
        for *window, project in rows:
            values += [resource.name, self.source, *window, now, project.id, project.name]
        statement = f"INSERT INTO {{{LOAD_WINDOWS}}} ({names}) VALUES {', '.join([places] * len(rows))}"
        run_statement(self._client, statement, *values)
