"""One load of one resource: reads the load state, builds the sources and the pipeline, and returns the result.

    report = load_resource(get_resource("deploys"), load_settings(), window)

Every project of the settings is read, a few side by side, into the same run of dlt. A project that fails holds back no
other: its error is in the report. What is read of one project and recorded for it does not belong here, but to
`project_load.py`.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

import dlt
from dlt.extract.source import DltSource

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.clock import ClockComparison
from analytics_dagster.ingest.errors import AnalyticsError, find_analytics_error
from analytics_dagster.ingest.foreign_ids import ForeignIds
from analytics_dagster.ingest.project_load import ProjectLoad, plan_windows
from analytics_dagster.ingest.projects import KeyOwner, Project
from analytics_dagster.ingest.settings import DEFAULT_PROJECT, Settings
from analytics_dagster.ingest.source import Reading, build_source
from analytics_dagster.ingest.warehouse.load_records import LoadRecords
from analytics_dagster.ingest.warehouse.load_state import LoadState, WatermarkValues, open_load_state
from analytics_dagster.ingest.warehouse.location import WarehouseLocation
from analytics_dagster.ingest.warehouse.lock import write_lock
from analytics_dagster.ingest.warehouse.pipeline import build_pipeline
from analytics_dagster.ingest.warehouse.working_files import working_files
from analytics_dagster.ingest.windows import BEGINNING, Window

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ProjectReport:
    """The result of a load for one project.

    Attributes:
        project: The project; without an id if no row named it.
        rows_read: Rows in the replies.
        rows_loaded: Rows of the window, lookback included.
        requests: Requests sent, retries included.
        seconds: How long the project was read. Projects are read side by side.
        error: The error with which it failed; None if it loaded.
    """

    project: Project
    rows_read: int
    rows_loaded: int
    requests: int
    seconds: float
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """The result of a load.

    Attributes:
        resource: The resource.
        projects: The results by project; one for a resource of the account.
        window: The window that is covered now, without lookback; None for a resource without windows, and where the
            load covers nothing. With several projects it spans their windows.
        project: The project that the rows named, if one key was read; None if none was named, or for several keys.
        list_end: Time of the oldest row, UTC, if the service's list ended above the window's start; None otherwise.
        clocks: The service's clock beside the loader's; None if no reply had a `Date`.
        rows_read: Rows in the replies.
        rows_loaded: Rows of the window, lookback included.
        rows_rejected: Rows that do not fit their columns.
        rows_in_table: Rows in the table afterwards.
        new_rows: The same, less the rows before.
        rows_removed: Rows that two complete listings lacked for the first time.
        rows_pruned: Rows that were deleted because they are older than `keep_days`.
        newest: Newest cursor among the rows loaded.
        watermark: Values of the table's watermark columns, for sensors.
        unknown_fields: Fields that the catalog does not know.
        requests: Requests sent, retries included.
        retries: Retries among them.
        seconds: Duration, reading the load state and recording the window included.
    """

    resource: Resource
    projects: tuple[ProjectReport, ...]
    window: Window | None
    project: int | None
    list_end: datetime | None
    clocks: ClockComparison | None
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    rows_in_table: int
    new_rows: int
    rows_removed: int
    rows_pruned: int
    newest: datetime | None
    watermark: WatermarkValues | None
    unknown_fields: tuple[str, ...]
    requests: int
    retries: int
    seconds: float

    @property
    def loaded(self) -> tuple[ProjectReport, ...]:
        """The projects that loaded."""
        return tuple(report for report in self.projects if report.error is None)

    @property
    def failed(self) -> tuple[ProjectReport, ...]:
        """The projects that did not load."""
        return tuple(report for report in self.projects if report.error)


def load_resource(
    resource: Resource,
    settings: Settings,
    window: Window | None = None,
    *,
    resume: bool = False,
    projects: Sequence[str] = (),
) -> LoadReport:
    """Load one resource and record the load, as the assets do, without Dagster. `Loader.begin` explains the arguments.

    Raises:
        AnalyticsError: A setting is wrong, the warehouse cannot be written, the list is empty and the table is not, or
            one of several projects failed, after the others loaded.
        dlt.pipeline.exceptions.PipelineStepFailed: The pipeline failed; an `AnalyticsError` may be its cause.
    """
    with open_loader(settings) as loader:
        load = loader.begin(resource, window, resume=resume, projects=projects)
        for source in load.sources():
            load.pipeline.run(source)
        report = load.finish()
    for failed in report.failed:
        raise find_analytics_error(failed.error) or AnalyticsError(
            f"{resource.name} of {failed.project.name} did not load: {failed.error}"
        ) from failed.error
    return report


@contextmanager
def open_loader(settings: Settings) -> Iterator["Loader"]:
    """Hold the warehouse for writing, and yield the loader of its resources.

    Raises:
        WarehouseError: The warehouse cannot be written, or holds rows of another service.
    """
    with (
        write_lock(settings) as location,
        working_files() as folder,
        open_load_state(settings, pipelines_dir=folder) as load_state,
        ExitStack() as held,
    ):
        latest = load_state.coverage.latest_projects()
        owners = {name: KeyOwner(name=name, presumed=latest.get(name)) for name in settings.project_names}
        yield Loader(settings, location, load_state, owners, folder, held)


@dataclass
class Loader:
    """Loads resources into an open warehouse, one after the other.

    Attributes:
        settings: How to reach the service.
        location: The warehouse.
        load_state: The loader's records there.
        owners: The project that each key answers for, as far as loads have told, by its name in the settings.
    """

    settings: Settings
    location: WarehouseLocation
    load_state: LoadState
    owners: dict[str, KeyOwner]
    _working_files: str
    _held: ExitStack
    _lock: Lock = field(default_factory=Lock)

    def begin(
        self,
        resource: Resource,
        window: Window | None = None,
        *,
        resume: bool = False,
        loaded_since: datetime | None = None,
        projects: Sequence[str] = (),
    ) -> "Load":
        """Prepare a load.

        Args:
            resource: The resource to load.
            window: The window of its cursor to load, without lookback; None for all rows.
            resume: Start at the end of the coverage that begins at the window's start.
            loaded_since: Count only coverage that was recorded since a time, UTC: an earlier run of the same load
                began then.
            projects: Names of the projects to load; all by default.

        Raises:
            SettingsError: The settings have no such project.
            WarehouseError: The table does not have the types of the catalog.
        """
        by_name = {name: self.settings.for_project(name) for name in projects or self.settings.project_names}
        if resource.account_key:
            by_name = {DEFAULT_PROJECT: self.settings}
        self._held.close()  # what a load that failed still holds
        self._held.enter_context(self.load_state.hold(self.settings, resource, *by_name))
        now = datetime.now(UTC)
        if not resource.incremental:
            window = None
        elif window is None:
            window = Window(start=None, end=now)
        pipeline = build_pipeline(resource, self.settings, pipelines_dir=self._working_files)
        self.load_state.prepare_table(resource, pipeline)
        records = LoadRecords(self.load_state, resource)
        foreign = ForeignIds.of(resource, self.load_state, several=len(self.owners) > 1)
        return Load(
            resource=resource,
            pipeline=pipeline,
            rows_before=self.load_state.row_count(resource),
            began_at=now,
            resumes=resume,
            parts=[
                ProjectLoad(
                    resource=resource,
                    settings=settings,
                    owner=self.owners.get(name, KeyOwner(name=name)),
                    others=tuple(owner for owner in self.owners.values() if owner.name != name),
                    state=self.load_state,
                    records=records,
                    window=window,
                    began_at=now,
                    loaded_since=loaded_since or (BEGINNING if resume else None),
                    find_foreign=foreign.find if foreign else None,
                    lock=self._lock,
                )
                for name, settings in by_name.items()
            ],
            _records=records,
            _foreign=foreign,
            _loader=self,
        )

    @property
    def projects(self) -> tuple[Project, ...]:
        """The projects of the settings, with the ids that are known."""
        return tuple(owner.project for owner in self.owners.values())

    def release(self) -> None:
        """Let other processes load what the last load held."""
        self._held.close()


@dataclass(kw_only=True)
class Load:
    """A load that began: run each of its `sources` through `pipeline`, then call `finish`.

    Attributes:
        resource: The resource.
        pipeline: The dlt pipeline of its table.
        rows_before: Rows in the table at the beginning.
        began_at: The time of the beginning, UTC.
        resumes: Whether it goes on where coverage ends, as a tick does: it deletes no old rows then.
        parts: What is read of each project.
    """

    resource: Resource
    pipeline: dlt.Pipeline
    rows_before: int
    began_at: datetime
    resumes: bool
    parts: Sequence[ProjectLoad]
    _records: LoadRecords
    _foreign: ForeignIds | None
    _loader: Loader
    _began: float = field(default_factory=time.monotonic)

    def sources(self) -> Iterator[DltSource]:
        """Yield the dlt sources of the load. Each must have run through the pipeline before the next is taken.

        A source reads the next piece of every project.

        Raises:
            AnalyticsApiError: The service refused a request that looked for the pieces of the window.
            EmptyListError: The service lists no rows, but the table has some.
        """
        plan_windows(self.parts)
        under_way = [(part, part.readings()) for part in self.parts]
        due = self._advance(under_way)
        while due:
            if pause := max(reading.pause for _, _, reading in due):
                time.sleep(pause)
            if self._foreign:
                self._foreign.begin_run()
            readings = [reading for _, _, reading in due]
            known_rejects = self._loader.load_state.known_rejects(self.resource)
            for reading in readings:
                reading.known_rejects = known_rejects
            yield build_source(readings, at_a_time=self._loader.settings.projects_at_a_time)
            for part, _, reading in due:
                if reading.error:
                    part.error = reading.error
            # A run that had many rows left the last projects to this one.
            left = [entry for entry in due if not (entry[2].counts or entry[2].error)]
            done = [(part, steps) for part, steps, reading in due if reading.counts]
            due = [*left, *self._advance(done)]

    def _advance(
        self, under_way: Sequence[tuple[ProjectLoad, Iterator[Reading]]]
    ) -> list[tuple[ProjectLoad, Iterator[Reading], Reading]]:
        """Write what the parts record, and return those that have more to read, with that.

        A part of several that fails keeps its error.
        """
        due = []
        try:
            for part, steps in under_way:
                try:
                    due += [(part, steps, reading) for reading in [next(steps, None)] if reading]
                except Exception as error:
                    if len(self.parts) == 1:
                        raise
                    part.error = error
        finally:
            self._records.write()
        return due

    def finish(self) -> LoadReport:
        """Return the report, after the last source ran."""
        state, parts = self._loader.load_state, self.parts
        total = {name: sum(part.counts[name] for part in parts) for name in ("read", "loaded", "rejected")}
        pruned = self._prune() if total["read"] else 0
        rows = state.row_count(self.resource)
        covered = [window for part in parts for window in part.covered]
        starts = [window.start for window in covered if window.start]
        newest = [part.counts["newest"] for part in parts if part.counts["newest"]]
        list_ends = [part.counts["list_end"] for part in parts if part.counts["list_end"]]
        report = LoadReport(
            resource=self.resource,
            projects=tuple(map(_report_project, parts)),
            window=Window(
                start=min(starts) if len(starts) == len(covered) else None, end=max(window.end for window in covered)
            )
            if covered
            else None,
            project=parts[0].owner.named if len(parts) == 1 and len(parts[0].named) <= 1 else None,
            list_end=datetime.fromisoformat(max(list_ends)) if list_ends else None,
            clocks=next((part.clocks for part in parts if part.clocks), None),
            rows_read=total["read"],
            rows_loaded=total["loaded"],
            rows_rejected=total["rejected"],
            rows_in_table=rows,
            new_rows=rows + pruned - self.rows_before,
            rows_removed=sum(part.removed for part in parts),
            rows_pruned=pruned,
            newest=datetime.fromisoformat(max(newest)) if newest else None,
            watermark=state.watermark(self.resource),
            unknown_fields=tuple(sorted({field for part in parts for field in part.counts["unknown_fields"]})),
            requests=sum(part.counts["requests"] for part in parts),
            retries=sum(part.counts["retries"] for part in parts),
            seconds=time.monotonic() - self._began,
        )
        logger.info(
            "%s: loaded %d rows, %d new, %d rejected, in %d requests and %.1f s",
            self.resource.name, report.rows_loaded, report.new_rows, report.rows_rejected,
            report.requests, report.seconds,
        )  # fmt: skip
        self._loader.release()
        return report

    def _prune(self) -> int:
        """Delete the rows that are too old by the earliest of the clocks, unless the load resumes; return how many."""
        oldest = self._loader.settings.keep_from(self.resource, min(part.passed for part in self.parts))
        if self.resumes or oldest is None:
            return 0
        return self._loader.load_state.delete_before(self.resource, oldest)


def _report_project(part: ProjectLoad) -> ProjectReport:
    return ProjectReport(
        project=Project(part.owner.name, part.owner.named),
        rows_read=part.counts["read"],
        rows_loaded=part.counts["loaded"],
        requests=part.counts["requests"],
        seconds=part.seconds,
        error=part.error,
    )
