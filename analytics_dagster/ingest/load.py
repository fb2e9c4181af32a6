"""One load of one resource: reads the load state, builds the source and the pipeline, and records the result.

    report = load_resource(get_resource("deploys"), load_settings(), window)

A long window is loaded in pieces, oldest first; those that are loaded stay if a later one fails. Of each piece the rows
are written first, then coverage: after a crash between the two the piece is loaded again. Coverage belongs to the
project that the rows name, and ends at the service's time where that is before the loader's. An empty list covers
nothing while the table has rows.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import dlt
from dlt.extract.source import DltSource

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.arrow import RowCounts
from analytics_dagster.ingest.client import Traffic
from analytics_dagster.ingest.clock import ClockComparison, compare_clocks, format_moment
from analytics_dagster.ingest.empty_lists import check_empty_list
from analytics_dagster.ingest.lists import PAUSE
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.source import Replan, build_source, keep_plan
from analytics_dagster.ingest.warehouse.daily_rows import DayCounts
from analytics_dagster.ingest.warehouse.load_state import LoadState, WatermarkValues, open_load_state
from analytics_dagster.ingest.warehouse.location import WarehouseLocation
from analytics_dagster.ingest.warehouse.lock import write_lock
from analytics_dagster.ingest.warehouse.pipeline import build_pipeline
from analytics_dagster.ingest.warehouse.working_files import working_files
from analytics_dagster.ingest.window_plan import WindowPlan
from analytics_dagster.ingest.windows import BEGINNING, CLOCK_TOLERANCE, Window

logger = logging.getLogger(__name__)

_NOTHING_READ = RowCounts().as_dict() | asdict(Traffic())
_PROJECT_NAME = "default"
"""The name of the project of a plain `api_key`, by which its loads are locked."""
_SUMMED = ("read", "typed", "loaded", "rejected", "requests", "retries")


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """The result of a load.

    Attributes:
        resource: The resource.
        window: The window that is covered now, without lookback; None for a resource without windows, and where the
            load covers nothing.
        project: The project that the rows named; None if none was named.
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


def load_resource(
    resource: Resource, settings: Settings, window: Window | None = None, *, resume: bool = False
) -> LoadReport:
    """Load one resource and record the load, as the assets do, without Dagster. `Loader.begin` explains the arguments.

    Raises:
        AnalyticsError: A setting is wrong, the warehouse cannot be written, or the list is empty and the table is not.
        dlt.pipeline.exceptions.PipelineStepFailed: The pipeline failed; an `AnalyticsError` may be its cause.
    """
    with open_loader(settings) as loader:
        load = loader.begin(resource, window, resume=resume)
        for source in load.sources():
            load.pipeline.run(source)
        return load.finish()


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
        yield Loader(settings, location, load_state, load_state.coverage.latest_project(), folder, held)


@dataclass
class Loader:
    """Loads resources into an open warehouse, one after the other.

    Attributes:
        settings: How to reach the service.
        location: The warehouse.
        load_state: The loader's records there.
        latest_project: The project of the latest load before; None if there was none, or its rows named none.
        project: The project that the rows of a load have named, since the loader was opened; None before.
    """

    settings: Settings
    location: WarehouseLocation
    load_state: LoadState
    latest_project: int | None
    _working_files: str
    _held: ExitStack
    project: int | None = None

    def begin(
        self,
        resource: Resource,
        window: Window | None = None,
        *,
        resume: bool = False,
        loaded_since: datetime | None = None,
    ) -> "Load":
        """Prepare a load.

        Args:
            resource: The resource to load.
            window: The window of its cursor to load, without lookback; None for all rows.
            resume: Start at the end of the coverage that begins at the window's start.
            loaded_since: Count only coverage that was recorded since a time, UTC: an earlier run of the same load
                began then.
        """
        self._held.close()  # what a load that failed still holds
        self._held.enter_context(self.load_state.hold(self.settings, resource, _PROJECT_NAME))
        now = datetime.now(UTC)
        if not resource.incremental:
            window = None
        elif window is None:
            window = Window(start=None, end=now)
        pipeline = build_pipeline(resource, self.settings, pipelines_dir=self._working_files)
        self.load_state.prepare_table(resource, pipeline)
        return Load(
            resource=resource,
            pipeline=pipeline,
            window=window,
            began_at=now,
            rows_before=self.load_state.row_count(resource),
            loaded_since=loaded_since or (BEGINNING if resume else None),
            resumes=resume,
            _loader=self,
        )

    def release(self) -> None:
        """Let other processes load what the last load held."""
        self._held.close()


@dataclass(kw_only=True)
class Load:
    """A load that began: run each of its `sources` through `pipeline`, then call `finish`.

    Attributes:
        resource: The resource.
        pipeline: The dlt pipeline of its table.
        window: The window asked for, without lookback; None for a resource without windows.
        began_at: The time of the beginning, UTC.
        rows_before: Rows in the table then.
        loaded_since: Coverage recorded since this time is not loaded again; None to load the whole window.
        resumes: Whether it goes on where coverage ends, as a tick does: it deletes no old rows then.
    """

    resource: Resource
    pipeline: dlt.Pipeline
    window: Window | None
    began_at: datetime
    rows_before: int
    loaded_since: datetime | None
    resumes: bool
    _loader: Loader
    _counts: dict[str, Any] = field(default_factory=lambda: dict(_NOTHING_READ))
    _covered: list[Window] = field(default_factory=list)
    _named: set[int] = field(default_factory=set)
    _removed: int = 0
    _plan: WindowPlan | None = None
    _days_before: DayCounts = field(default_factory=DayCounts)
    _days_project: int | None = None
    _clocks: ClockComparison | None = None
    _began: float = field(default_factory=time.monotonic)

    def sources(self) -> Iterator[DltSource]:
        """Yield the dlt sources of the load. Each must have run through the pipeline before the next is taken.

        Raises:
            AnalyticsApiError: The service refused a request that looked for the pieces of the window.
            EmptyListError: The service lists no rows, but the table has some.
        """
        settings = self._loader.settings
        key_name = settings.key_name(account=self.resource.account_key)
        logger.info("%s: reading from %s, key from %s", self.resource.name, settings.source_address, key_name)
        if self.window:
            yield from self._load_pieces(self.window)
        elif self.resource.complete_listing:
            yield from self._list_completely()
        else:
            yield build_source(self._request_all(), known_rejects=self._known_rejects)
            self._take_counts()

    def finish(self) -> LoadReport:
        """Return the report, after the last source ran."""
        counts, state = self._counts, self._loader.load_state
        pruned = self._prune()
        rows = state.row_count(self.resource)
        report = LoadReport(
            resource=self.resource,
            window=Window(start=self._covered[0].start, end=self._covered[-1].end) if self._covered else None,
            project=self._loader.project if len(self._named) <= 1 else None,
            list_end=counts["list_end"] and datetime.fromisoformat(counts["list_end"]),
            clocks=self._clocks,
            rows_read=counts["read"],
            rows_loaded=counts["loaded"],
            rows_rejected=counts["rejected"],
            rows_in_table=rows,
            new_rows=rows + pruned - self.rows_before,
            rows_removed=self._removed,
            rows_pruned=pruned,
            newest=datetime.fromisoformat(counts["newest"]) if counts["newest"] else None,
            watermark=state.watermark(self.resource),
            unknown_fields=tuple(counts["unknown_fields"]),
            requests=counts["requests"],
            retries=counts["retries"],
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
        """Delete the rows that are too old by the earlier of the clocks, unless the load resumes; return how many."""
        oldest = self._loader.settings.keep_from(self.resource, self._passed)
        if self.resumes or oldest is None or not self._counts["read"]:
            return 0
        return self._state.delete_before(self.resource, oldest)

    # -- pieces of a window -------------------------------------------------------------------------------

    def _load_pieces(self, window: Window) -> Iterator[DltSource]:
        """Yield a source for each piece that is not loaded yet, and record each piece after it ran."""
        plan = self._plan = WindowPlan(
            self.resource,
            self._loader.settings,
            self._state,
            window,
            loaded_since=self.loaded_since,
            now=self.began_at,
            project=self._presumed_project,
        )
        replan: Replan = self._replan
        while plan.pieces:
            self._days_before = self._count_days(plan.pieces[0])
            yield build_source(plan.request(), known_rejects=self._known_rejects, replan=replan)
            replan = keep_plan
            counts = self._take_counts()
            self._record(plan.pieces.popleft(), counts, plan)
        self._counts["requests"] += plan.looks

    def _replan(self, named: set[int]) -> ReadRequest | None:
        """Plan the load by its first rows: they name the project whose coverage counts, and the list may be long.

        Args:
            named: The projects that the first rows name.

        Returns:
            The request for the first piece of the new plan; None if the plan stays.
        """
        plan, presumed = self._plan, self._presumed_project
        assert plan
        planned = plan.pieces[0]
        if named:
            self._loader.project = project = self._choose_project(named)
            if project != presumed:
                if presumed is not None:
                    logger.warning(
                        "%s: the rows are of project %d, not %d as before: its own coverage counts.",
                        self.resource.name, project, presumed,
                    )  # fmt: skip
                plan.change_project(project)
        plan.cut()
        if plan.pieces[0] == planned:
            return None
        self._days_before = self._count_days(plan.pieces[0])
        return plan.request()

    def _choose_project(self, named: set[int]) -> int:
        """Return the project whose coverage counts, of those that rows name: the presumed one if it is among them."""
        return presumed if (presumed := self._presumed_project) in named and presumed is not None else min(named)

    @property
    def _passed(self) -> datetime:
        """The time of the beginning by the earlier of the clocks."""
        return min(self.began_at, self._clocks.service) if self._clocks else self.began_at

    @property
    def _presumed_project(self) -> int | None:
        """The project that the key answers for, as far as loads have told."""
        if not self.resource.names_project:
            return None
        return self._loader.latest_project if self._loader.project is None else self._loader.project

    def _record(self, piece: Window, counts: dict[str, Any], plan: WindowPlan) -> None:
        """Record that a piece is in the table."""
        project = self._loader.project if self.resource.names_project else None
        if counts["empty"] and self.rows_before:
            project = self._presumed_project  # accepted: three loads agree that its list is empty
        if project is None and self._presumed_project is not None:
            logger.info("%s: no coverage is recorded: no row named the project of the key.", self.resource.name)
            return
        covered = self._covered_part(piece)
        if not self.resource.cursor_moves:
            self._state.daily_rows.record(
                self.resource,
                project,
                covered or piece,
                before=self._days_before if project == self._days_project else None,
            )
        if covered is None:
            return
        list_end = counts["list_end"] and datetime.fromisoformat(counts["list_end"])
        self._state.coverage.record(self.resource, project, covered, counts["loaded"], list_end)
        self._covered.append(covered)
        self._log_progress(plan)

    def _log_progress(self, plan: WindowPlan) -> None:
        """Log a line for a piece that is loaded, unless it is the only one."""
        done, left = len(self._covered), len(plan.pieces)
        if done + left > 1:
            left_seconds = (time.monotonic() - self._began) / done * left
            logger.info(
                "%s: piece %d of %d is loaded, %s rows so far of %s; about %.0f s left",
                self.resource.name, done, done + left, f"{self._counts['loaded']:,}", plan.size, left_seconds,
            )  # fmt: skip

    def _covered_part(self, piece: Window) -> Window | None:
        """Return the part of a window before the earlier of the clocks; None if the window is not before it."""
        end = min(piece.end, self._passed)
        if piece.start is not None and end <= piece.start:
            logger.info(
                "%s: no coverage is recorded: the window begins at %s, and it was %s by the earlier of the clocks.",
                self.resource.name, format_moment(piece.start), format_moment(self._passed),
            )  # fmt: skip
            return None
        return Window(start=piece.start, end=end)

    def _count_days(self, piece: Window) -> DayCounts:
        """Return the rows of the days that a piece touches, before it is loaded."""
        self._days_project = self._presumed_project
        if self.resource.cursor_moves or not self._state.has_rows(self.resource, self._presumed_project):
            return DayCounts()
        return self._state.daily_rows.count(self.resource, self._presumed_project, piece)

    # -- complete listings --------------------------------------------------------------------------------

    def _list_completely(self) -> Iterator[DltSource]:
        """Yield the source of a listing, and of a second one where the first lacks rows: what both lack is removed."""
        listings: list[str] = []
        for _ in range(2):
            listings.append(uuid4().hex)
            yield build_source(self._request_all(), known_rejects=self._known_rejects, load_id=listings[-1])
            counts = self._take_counts()
            # A row that was rejected is listed, though not in the table.
            if counts["rejected"] or not counts["typed"]:
                return
            new_rows = self._state.row_count(self.resource) - self.rows_before
            lacking = self._state.lacking(self.resource, listings, new_rows=new_rows)
            if not lacking:
                return
            if len(listings) == 1:
                logger.info("%s: the listing lacks %d rows; listing once more", self.resource.name, lacking)
                time.sleep(PAUSE)
        self._state.mark_removed(self.resource, listings, at=self.began_at)
        self._removed = lacking

    # -- counts -------------------------------------------------------------------------------------------

    def _take_counts(self) -> dict[str, Any]:
        """Add the counts of the run that just ended, compare the clocks, and return the counts.

        Raises:
            EmptyListError: The service lists no rows, but the table has some.
        """
        counts = _custom_metrics(self.pipeline, self.resource)
        total = self._counts
        for name in _SUMMED:
            total[name] += counts[name]
        total["unknown_fields"] = sorted({*total["unknown_fields"], *counts["unknown_fields"]})
        total["newest"] = max(filter(None, (total["newest"], counts["newest"])), default=None)
        total["list_end"] = total["list_end"] or counts["list_end"]
        named = set(counts["projects"])
        self._named |= named
        if named and self._loader.project is None and not self.resource.account_key:
            self._loader.project = self._choose_project(named)
        clocks = self._compare_clocks(counts["service_time"])
        self._clocks = self._clocks or clocks
        coverage, project = self._state.coverage, self._presumed_project if self.resource.incremental else None
        if counts["empty"] and (rows := self._state.row_count(self.resource)):
            seen_at = clocks.service if clocks else self.began_at
            check_empty_list(self.resource, project, rows, coverage, seen_at=seen_at)
        elif counts["read"]:
            coverage.forget_empty_lists(self.resource, project)
        return counts

    def _compare_clocks(self, service_time: str | None) -> ClockComparison | None:
        """Compare the clocks, warn if they differ, and delete coverage that ends in the future by both of them."""
        if service_time is None:
            return None
        service = datetime.fromisoformat(service_time)
        clocks = compare_clocks(service, began_at=self.began_at, ended_at=datetime.now(UTC))
        if clocks.warning and not self._clocks:
            logger.warning("%s: %s", self.resource.name, clocks.warning)
        if self._plan and self._plan.has_future:
            after = max(clocks.service, clocks.loader) + CLOCK_TOLERANCE
            self._state.coverage.forget_future_windows(self.resource, self._presumed_project, after=after)
        return clocks

    # -- what the warehouse knows -------------------------------------------------------------------------

    @property
    def _state(self) -> LoadState:
        return self._loader.load_state

    @property
    def _known_rejects(self) -> dict[str, datetime]:
        return self._state.known_rejects(self.resource)

    def _request_all(self) -> ReadRequest:
        """Return the request to read a list that has no windows."""
        resource, settings = self.resource, self._loader.settings
        values: list[int] = []
        if resource.lookup:
            since = self.began_at - timedelta(days=settings.metrics_active_days)
            values = self._state.lookup_values(resource, active_since=since)
            if not values:
                logger.info("%s: nothing to request; load %s first", resource.name, resource.lookup.resource)
        return ReadRequest(resource=resource, settings=settings, window=None, now=self.began_at, lookup_values=values)


def _custom_metrics(pipeline: dlt.Pipeline, resource: Resource) -> dict[str, Any]:
    """Return the counts of the extraction, from the pipeline's trace."""
    extracted = pipeline.last_trace and pipeline.last_trace.last_extract_info
    assert extracted, "the pipeline has run"
    packages = (package["resource_metrics"] for by_load in extracted.metrics.values() for package in by_load)
    return next(metrics[resource.name].custom_metrics for metrics in packages if resource.name in metrics)
