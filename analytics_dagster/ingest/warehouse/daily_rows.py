"""Rows by day: the table `daily_rows` remembers how many rows each load left, so that rows that vanish are noticed.

    before = daily_rows.count(resource, project, window)
    ...  # the load
    daily_rows.record(resource, project, window, before=before)
    shortfalls = daily_rows.shortfalls(resource, project)

Only for resources whose cursor stays: a row whose cursor moves leaves its day.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.schema import DAILY_ROWS, DAILY_ROWS_COLUMNS
from analytics_dagster.ingest.warehouse.pipeline import (
    SqlClient,
    of_project,
    recorded_for,
    run_statement,
    stored_columns,
)
from analytics_dagster.ingest.windows import Window, midnight

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


class DailyRows:
    """The table `daily_rows`.

    Args:
        client: An open SQL client of dlt.
        source: Address of the service whose loads are recorded.
    """

    def __init__(self, client: SqlClient, source: str) -> None:
        self._client = client
        self._source = source

    def count(self, resource: Resource, project: Project, window: Window) -> DayCounts:
        """Count the rows of each day that a window and its lookback touch, and of their lookback alone."""
        if window.start is None:
            return DayCounts(days=self._count(resource, project, end=_next_midnight(window.end)))
        first = window.start - resource.lookback
        return DayCounts(
            days=self._count(resource, project, midnight(first.date()), _next_midnight(window.end)),
            lookback=self._count(resource, project, first, window.start) if resource.lookback else {},
        )

    def record(self, resource: Resource, project: Project, loaded: Window, *, before: DayCounts | None) -> None:
        """Record the rows of the days that a load touched.

        A day that the window does not wholly cover keeps its shortfall, since the load did not ask for its other rows;
        rows that came back within the lookback make up for it.

        Args:
            resource: The resource that was loaded.
            project: The project of its rows.
            loaded: The window, without lookback; its rows must be in the table by now.
            before: The counts of the same window before the load; None if they are of another project.
        """
        recorded, after = self._recorded(resource, project), self.count(resource, project, loaded)
        for day, rows in after.days.items():
            start = midnight(date.fromisoformat(day))
            whole = (loaded.start is None or loaded.start <= start) and start + _DAY <= loaded.end
            had = rows if before is None else before.days.get(day, 0)
            came_back = 0 if before is None else after.lookback.get(day, 0) - before.lookback.get(day, 0)
            missing = 0 if whole else max(0, recorded.get(day, 0) - had - came_back)
            if rows + missing != recorded.get(day):
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
        counted = self._count(resource, project)
        return [
            Shortfall(day=date.fromisoformat(day), rows=counted.get(day, 0), recorded=rows)
            for day, rows in sorted(self._recorded(resource, project).items())
            if counted.get(day, 0) < rows
        ]

    def _count(
        self, resource: Resource, project: Project, start: datetime | None = None, end: datetime | None = None
    ) -> dict[str, int]:
        """Return the number of rows of each day, by ISO date, from a time up to another."""
        condition, parameters = of_project(project)
        moments: list[datetime] = []
        for bound, moment in ((">=", start), ("<", end)):
            if moment:
                condition += f" AND {resource.cursor} {bound} %s"
                moments.append(moment)
        day = f"CAST(CAST({resource.cursor} AT TIME ZONE 'UTC' AS DATE) AS VARCHAR)"
        statement = f"SELECT {day}, count(*) FROM {{{resource.name}}} WHERE {condition} GROUP BY 1"
        return dict(run_statement(self._client, statement, *parameters, *moments))

    def _recorded(self, resource: Resource, project: Project) -> dict[str, int]:
        condition, *parameters = recorded_for(resource, self._source, project)
        statement = f"SELECT day, row_count FROM {{{DAILY_ROWS}}} WHERE {condition}"
        return dict(run_statement(self._client, statement, *parameters))

    def _replace(self, resource: Resource, project: Project, day: str, rows: int) -> None:
        condition, *parameters = recorded_for(resource, self._source, project)
        run_statement(self._client, f"DELETE FROM {{{DAILY_ROWS}}} WHERE {condition} AND day = %s", *parameters, day)
        names = ", ".join(column.name for column in DAILY_ROWS_COLUMNS)
        values = (resource.name, self._source, project.id, day, rows)
        run_statement(self._client, f"INSERT INTO {{{DAILY_ROWS}}} ({names}) VALUES (%s, %s, %s, %s, %s)", *values)


def _next_midnight(moment: datetime) -> datetime:
    day = midnight(moment.date())
    return day if day == moment else day + _DAY
