"""Inputs of the checks: figures of a table from the warehouse, and of earlier runs from Dagster's event log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import dagster as dg

from analytics_dagster.catalog import Resource
from analytics_dagster.defs.asset_checks.freshness import Coverage, coverage_of_windows, coverage_start
from analytics_dagster.defs.asset_checks.row_count import RowCount
from analytics_dagster.defs.metadata import project_records
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import WarehouseLocation
from analytics_dagster.ingest.warehouse.table_stats import Profile, TableStats
from analytics_dagster.ingest.windows import LoadedWindows

_RECENT = timedelta(days=1)
_RECORDS_SEARCHED = 25
"""Records of a check among which its last finished evaluation is searched."""


@dataclass(frozen=True, kw_only=True)
class CheckInputs:
    """The inputs of one check evaluation.

    Attributes:
        resource: The resource whose table is checked.
        profile: Figures of that table.
        tables: The tables of the warehouse, open for reading.
        location: The warehouse's location.
        settings: The settings of the run.
        instance: Dagster's instance, for its event log.
        now: The time of the check, UTC.
    """

    resource: Resource
    profile: Profile
    tables: TableStats
    location: WarehouseLocation
    settings: Settings
    instance: dg.DagsterInstance
    now: datetime

    @property
    def recent_since(self) -> datetime:
        """A day before the newest row was read: so the last load counts, however long ago it was."""
        return min(self.profile.newest_read or self.now, self.now) - _RECENT

    @property
    def identity(self) -> dict[str, dg.MetadataValue[Any]]:
        """Metadata by which loads and checks of this table differ from those of an equally named table elsewhere."""
        return {
            "dagster/table_name": dg.MetadataValue.text(self.location.qualified(self.resource.name)),
            "source": dg.MetadataValue.text(self.settings.source_address),
        }

    @cached_property
    def projects(self) -> Sequence[Project]:
        """The projects whose rows the table has: one for a resource of the account."""
        if not self.resource.names_project:
            return [Project()]
        return self.tables.projects(self.settings.project_names)

    @cached_property
    def windows(self) -> Mapping[Project, LoadedWindows]:
        """The loaded windows of the resource, by project."""
        return self.tables.windows(self.resource, self.projects, now=self.now)

    def coverage(self, project: Project) -> Coverage | None:
        """Return the end of what is loaded of a project: of the windows, or else the last load; None without a load."""
        if self.resource.incremental:
            start = coverage_start(self.resource.freshness, start_date=self.settings.start_date, now=self.now)
            windows = self.windows[project]
            loaded = windows.valid or windows.future or windows.void
            return coverage_of_windows(windows.valid, start) if loaded else None
        loaded_at = self._last_load(project)
        return Coverage(through=loaded_at) if loaded_at else None

    def row_count(self) -> RowCount:
        """Return the rows of the table now."""
        keep_from = self.settings.keep_from(self.resource, self.now)
        loads = self.tables.recorded_loads()
        return RowCount(
            rows=self.profile.rows,
            lasting_rows=self.tables.lasting_rows(self.resource, keep_from=keep_from and keep_from + timedelta(days=1)),
            keep_from=keep_from,
            owners=frozenset(self.tables.owners(self.resource)),
            first_load=loads.first if loads else None,
            latest_load=loads.latest if loads else None,
        )

    def previous_row_count(self) -> RowCount | None:
        """Return the rows of this table at the previous check; None if there was none."""
        for metadata in self._row_counts:
            if self._describes_table(metadata):
                return RowCount.from_metadata({name: value.value for name, value in metadata.items()})
        return None

    def counted_elsewhere(self) -> str | None:
        """Return a sentence without its end that names what the last check counted; None if that was this table."""
        if not self._row_counts or self._describes_table(self._row_counts[0]):
            return None
        table, source = (self._row_counts[0][name].value for name in self.identity)
        return f"the last check was of {table}, with rows of {source}"

    @cached_property
    def _row_counts(self) -> list[Mapping[str, dg.MetadataValue[Any]]]:
        """The metadata of the last finished evaluations of `row_count`, newest first, of this table and others."""
        # The instance's own method returns the newest record only: that of this run, which is still planned. The
        # record of a run that was killed stays planned.
        key = dg.AssetCheckKey(asset_key(self.resource), "row_count")
        records = self.instance.event_log_storage.get_asset_check_execution_history(key, limit=_RECORDS_SEARCHED)
        evaluations = [record.event and record.event.asset_check_evaluation for record in records]
        return [evaluation.metadata for evaluation in evaluations if evaluation and "rows" in evaluation.metadata]

    def _last_load(self, project: Project) -> datetime | None:
        """Return the time of the last load of a project, for a table whose rows are all read each time.

        Every load writes its rows anew, so the newest `read_at` is that time, and is lost with the table. A load
        without rows leaves no `read_at` (items_metrics, while no item is active), so its materialization counts
        instead. Other materializations do not count, because they outlive the rows. Rows that were read before a load
        of another source ended are of that source.
        """
        newest_read, several = self.profile.newest_read, len(self.projects) > 1
        if several:
            newest_read = None if project.id is None else self.tables.newest_read(self.resource, project)
        times = [newest_read] if newest_read else []
        event = self.instance.get_latest_materialization_event(asset_key(self.resource))
        if event and event.asset_materialization:
            metadata, ended_at = event.asset_materialization.metadata, datetime.fromtimestamp(event.timestamp, UTC)
            if metadata.get("source", self.identity["source"]) != self.identity["source"]:
                times = [moment for moment in times if moment > ended_at]
            elif self._describes_table(metadata):
                loads = [(each["project"], each["rows"]) for each in project_records(metadata) if each["loaded"]]
                if (project.name, 0) in loads if several else metadata["rows_loaded"].value == 0:
                    times.append(ended_at)
        return max(times, default=None)

    def _describes_table(self, metadata: Mapping[str, dg.MetadataValue[Any]]) -> bool:
        """Return whether an event's metadata has this table's identity."""
        return all(metadata.get(name) == value for name, value in self.identity.items())
