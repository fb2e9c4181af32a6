"""What the parts of a load record of their pieces: gathered first, then written with a few statements for all projects.

    records = LoadRecords(load_state, resource)
    records.add_window(project, window, rows=65)
    records.write()

The rows must be in the table before `write`. What is in the tables is known to `coverage.py` and `daily_rows.py`.
"""

from datetime import datetime

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.warehouse.coverage import RecordedWindow
from analytics_dagster.ingest.warehouse.daily_rows import DayCounts, LoadedDays
from analytics_dagster.ingest.warehouse.load_state import LoadState
from analytics_dagster.ingest.windows import Window


class LoadRecords:
    """The records of a load that are not written yet.

    Args:
        load_state: The tables to write to.
        resource: The resource that is loaded.
    """

    def __init__(self, load_state: LoadState, resource: Resource) -> None:
        self._state = load_state
        self._resource = resource
        self._listed: list[Project] = []
        self._days: dict[Project, LoadedDays] = {}
        self._windows: list[RecordedWindow] = []

    def add_listed(self, project: Project) -> None:
        """Note that the service listed rows of a project: earlier empty lists count no longer."""
        self._listed.append(project)

    def add_days(self, project: Project, window: Window, *, before: DayCounts | None) -> None:
        """Note that the days of a window were loaded, as `DailyRows.record` takes it."""
        self._days[project] = LoadedDays(window, before)

    def add_window(self, project: Project, window: Window, rows: int, list_end: datetime | None = None) -> None:
        """Note that a window was loaded, as `CoverageTable.record` takes it."""
        self._windows.append(RecordedWindow(project, window, rows, list_end))

    def write(self) -> None:
        """Write what was noted since the last call."""
        listed, days, windows = self._listed, self._days, self._windows
        self._listed, self._days, self._windows = [], {}, []
        if listed:
            self._state.coverage.forget_empty_lists(self._resource, *listed)
        if days:
            self._state.daily_rows.record(self._resource, days)
        if windows:
            self._state.coverage.record_windows(self._resource, windows)
