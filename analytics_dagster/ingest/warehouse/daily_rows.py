"""Rows by day: the table `daily_rows` remembers how many rows each load left, so that rows that vanish are noticed.

    before = daily_rows.count(resource, {project: window})[project]
    ...  # the load
    daily_rows.record(resource, {project: LoadedDays(window, before)})
    shortfalls = daily_rows.shortfalls(resource, project)

Only for resources whose cursor stays: a row whose cursor moves leaves its day.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.schema import DAILY_ROWS, DAILY_ROWS_COLUMNS
from analytics_dagster.ingest.warehouse.pipeline import (
    SqlClient,
    of_project,
    recorded_for,
    run_statement,
    stored_columns,
    timestamp_literal,
)
from analytics_dagster.ingest.windows import BEGINNING, END, Window, midnight

_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """A day with fewer rows than its latest load left.

    Attributes:
        day: The day of the cursor, UTC.
        rows: Rows in the table.
        recorded: Rows that the latest load left.
    """

    day: date
    rows: int
    recorded: int


@dataclass(frozen=True, kw_only=True)
class DayCounts:
    """Numbers of rows by day, as ISO date.

    Attributes:
        days: Rows of each day that a window and its lookback touch.
        lookback: Rows within the lookback alone.
    """

    days: Mapping[str, int] = field(default_factory=dict)
    lookback: Mapping[str, int] = field(default_factory=dict)


class Span(NamedTuple):
    """Two times, UTC, the first one inside; None for no bound."""

    start: datetime | None
    end: datetime | None


class LoadedDays(NamedTuple):
    """A load to record: its window, without lookback, and the counts of that before the load.

    The counts are None if they are of another project.
    """

    window: Window
    before: DayCounts | None


class DailyRows:
    """The table `daily_rows`.

    Args:
        client: An open SQL client of dlt.
        source: Address of the service whose loads are recorded.
    """

    def __init__(self, client: SqlClient, source: str) -> None:
        self._client = client
        self._source = source

    def count(self, resource: Resource, windows: Mapping[Project, Window]) -> dict[Project, DayCounts]:
        """Count the rows of each day that windows and their lookback touch, and of their lookback alone, by project."""
        days = {
            project: Span(
                None if window.start is None else midnight((window.start - resource.lookback).date()),
                _next_midnight(window.end),
            )
            for project, window in windows.items()
        }
        lookbacks = {
            project: Span(window.start - resource.lookback, window.start)
            for project, window in windows.items()
            if window.start is not None and resource.lookback
        }
        by_day, within_lookback = self._count(resource, days), self._count(resource, lookbacks)
        return {
            project: DayCounts(days=by_day.get(project, {}), lookback=within_lookback.get(project, {}))
            for project in windows
        }

    def record(self, resource: Resource, loads: Mapping[Project, LoadedDays]) -> None:
        """Record the rows of the days that loads touched, by project; the rows must be in the table by now.

        A day that the window does not wholly cover keeps its shortfall, since the load did not ask for its other rows;
        rows that came back within the lookback make up for it.
        """
        counts = self.count(resource, {project: load.window for project, load in loads.items()})
        touched = [day for after in counts.values() for day in after.days]
        if not touched:
            return
        recorded = self._recorded(resource, loads, since=min(touched))
        for project, (window, before) in loads.items():
            after = counts[project]
            for day, rows in after.days.items():
                start = midnight(date.fromisoformat(day))
                whole = (window.start is None or window.start <= start) and start + _DAY <= window.end
                had = rows if before is None else before.days.get(day, 0)
                came_back = 0 if before is None else after.lookback.get(day, 0) - before.lookback.get(day, 0)
                missing = 0 if whole else max(0, recorded[project].get(day, 0) - had - came_back)
                if rows + missing != recorded[project].get(day):
                    self._replace(resource, project, day, rows + missing)

    def forget_before(self, resource: Resource, moment: datetime) -> None:
        """Forget the days before a moment, of every project and source: their rows were deleted on purpose."""
        run_statement(
            self._client,
            f"DELETE FROM {{{DAILY_ROWS}}} WHERE resource = %s AND day < %s",
            resource.name,
            f"{moment:%Y-%m-%d}",
        )

    def forget(self, resource: Resource, project: Project) -> None:
        """Forget all days of a resource, because its rows are gone."""
        condition, *parameters = recorded_for(resource, self._source, project)
        run_statement(self._client, f"DELETE FROM {{{DAILY_ROWS}}} WHERE {condition}", *parameters)

    def shortfalls(self, resource: Resource, project: Project) -> list[Shortfall]:
        """Return the days that have fewer rows than their latest load left, oldest first."""
        if stored_columns(self._client, DAILY_ROWS) is None:
            return []  # no load of this version created it yet
        counted = self._count(resource, {project: Span(None, None)})[project]
        return [
            Shortfall(day=date.fromisoformat(day), rows=counted.get(day, 0), recorded=rows)
            for day, rows in sorted(self._recorded(resource, [project])[project].items())
            if counted.get(day, 0) < rows
        ]

    def _count(self, resource: Resource, spans: Mapping[Project, Span]) -> dict[Project, dict[str, int]]:
        """Return the number of rows of each day, by ISO date, within a span of each project."""
        day = f"CAST(CAST({resource.cursor} AT TIME ZONE 'UTC' AS DATE) AS VARCHAR)"
        if len(spans) == 1:
            ((project, span),) = spans.items()
            condition, parameters = of_project(project)
            for bound, moment in ((">=", span.start), ("<", span.end)):
                condition += f" AND {resource.cursor} {bound} {timestamp_literal(moment)}" if moment else ""
            statement = f"SELECT {day}, count(*) FROM {{{resource.name}}} WHERE {condition} GROUP BY 1"
            return {project: dict(run_statement(self._client, statement, *parameters))}
        counts: dict[Project, dict[str, int]] = {project: {} for project in spans}
        named = {project.id: project for project in spans if project.id is not None}
        if not named:
            return counts
        values = ", ".join(
            f"({project.id}, {timestamp_literal(spans[project].start or BEGINNING)}, "
            f"{timestamp_literal(spans[project].end or END)})"
            for project in named.values()
        )
        first = min(spans[project].start or BEGINNING for project in named.values())
        statement = (
            f"SELECT project_id, {day}, count(*) FROM {{{resource.name}}} "
            f"JOIN (VALUES {values}) AS spans (project, first, after) ON project_id = spans.project "
            f"WHERE {resource.cursor} >= spans.first AND {resource.cursor} < spans.after "
            f"AND {resource.cursor} >= {timestamp_literal(first)} GROUP BY 1, 2"
        )
        for project, found, count in run_statement(self._client, statement):
            counts[named[project]][found] = count
        return counts

    def _recorded(
        self, resource: Resource, projects: Collection[Project], *, since: str = ""
    ) -> dict[Project, dict[str, int]]:
        """Return the recorded rows of each day, by ISO date, from a day on."""
        days: dict[Project, dict[str, int]] = {project: {} for project in projects}
        by_id = {project.id: project for project in projects}
        if len(projects) == 1:
            condition, *parameters = recorded_for(resource, self._source, *projects)
        else:
            ids = ", ".join(str(project) for project in by_id)
            condition = f"resource = %s AND source = %s AND project_id IN ({ids})"
            parameters = [resource.name, self._source]
        statement = f"SELECT project_id, day, row_count FROM {{{DAILY_ROWS}}} WHERE {condition} AND day >= %s"
        for project, day, rows in run_statement(self._client, statement, *parameters, since):
            days[by_id[project]][day] = rows
        return days

    def _replace(self, resource: Resource, project: Project, day: str, rows: int) -> None:
        condition, *parameters = recorded_for(resource, self._source, project)
        run_statement(self._client, f"DELETE FROM {{{DAILY_ROWS}}} WHERE {condition} AND day = %s", *parameters, day)
        names = ", ".join(column.name for column in DAILY_ROWS_COLUMNS)
        values = (resource.name, self._source, project.id, day, rows)
        run_statement(self._client, f"INSERT INTO {{{DAILY_ROWS}}} ({names}) VALUES (%s, %s, %s, %s, %s)", *values)


def _next_midnight(moment: datetime) -> datetime:
    day = midnight(moment.date())
    return day if day == moment else day + _DAY
