"""One load of one resource: reads the load state, builds the source and the pipeline, and records the result.

    report = load_resource(get_resource("deploys"), load_settings(), window)

Rows are written first, then coverage: after a crash between the two the window is loaded again. Coverage ends at the
service's time where that is before the loader's, and an empty list covers nothing while the table has rows.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any

import dlt
from dlt.extract.source import DltSource

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.arrow import RowCounts
from analytics_dagster.ingest.client import Traffic
from analytics_dagster.ingest.clock import ClockComparison, compare_clocks, format_moment
from analytics_dagster.ingest.empty_lists import check_empty_list
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.source import build_source
from analytics_dagster.ingest.warehouse.load_state import LoadState, WatermarkValues, open_load_state
from analytics_dagster.ingest.warehouse.location import WarehouseLocation
from analytics_dagster.ingest.warehouse.lock import write_lock
from analytics_dagster.ingest.warehouse.pipeline import build_pipeline
from analytics_dagster.ingest.windows import CLOCK_TOLERANCE, Window, loaded_through

logger = logging.getLogger(__name__)

_NOTHING_READ = RowCounts().as_dict() | asdict(Traffic())


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """The result of a load.

    Attributes:
        resource: The resource.
        window: The window that is covered now, without lookback; None for a resource without windows, and for a window
            that has not begun by the service's clock.
        list_end: Time of the oldest row, UTC, if the service's list ended above the window's start; None otherwise.
        clocks: The service's clock beside the loader's; None if no reply had a `Date`.
        rows_read: Rows in the replies.
        rows_loaded: Rows of the window, lookback included.
        rows_rejected: Rows that do not fit their columns.
        rows_in_table: Rows in the table afterwards.
        new_rows: The same, less the rows before.
        rows_removed: Rows that a complete listing lacked for the first time.
        newest: Newest cursor among the rows loaded.
        watermark: Values of the table's watermark columns, for sensors.
        unknown_fields: Fields that the catalog does not know.
        requests: Requests sent, retries included.
        retries: Retries among them.
        seconds: Duration, reading the load state and recording the window included.
    """

    resource: Resource
    window: Window | None
    list_end: datetime | None
    clocks: ClockComparison | None
    rows_read: int
    rows_loaded: int
    rows_rejected: int
    rows_in_table: int
    new_rows: int
    rows_removed: int
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
        if load.source:
            load.pipeline.run(load.source)
        return load.finish()


@contextmanager
def open_loader(settings: Settings) -> Iterator["Loader"]:
    """Hold the warehouse for writing, and yield the loader of its resources.

    Raises:
        WarehouseError: The warehouse cannot be written, or holds rows of another service.
    """
    with (
        write_lock(settings) as location,
        TemporaryDirectory(prefix="analytics-", ignore_cleanup_errors=True) as working_files,
        open_load_state(settings, pipelines_dir=working_files) as load_state,
    ):
        yield Loader(settings, location, load_state, working_files)


@dataclass(frozen=True)
class Loader:
    """Loads resources into an open warehouse, one after the other.

    Attributes:
        settings: How to reach the service.
        location: The warehouse.
    """

    settings: Settings
    location: WarehouseLocation
    _load_state: LoadState
    _working_files: str

    def begin(self, resource: Resource, window: Window | None = None, *, resume: bool = False) -> "Load":
        """Prepare a load.

        Args:
            resource: The resource to load.
            window: The window of its cursor to load, without lookback; None for all rows.
            resume: Start at the end of the coverage that begins at the window's start.

        Returns:
            The load. Its source is None if the coverage reaches the window's end already.
        """
        now = datetime.now(UTC)
        if not resource.incremental:
            window = None
        elif window is None:
            window = Window(start=None, end=now)
        covered, known_key, future = False, None, False
        if resume and window and (start := window.start):
            windows = self._load_state.coverage.windows(resource, now=now)
            future = bool(windows.future)
            through = loaded_through(windows.valid, start)
            covered = through >= min(window.end, now)
            if not covered and through > start:
                window = Window(start=through, end=window.end)
                known_key = self._load_state.largest_key(resource, before=through) if resource.key_grows else None
        return Load(
            resource=resource,
            source=None if covered else self._build_source(resource, window, now, known_key),
            pipeline=build_pipeline(resource, self.settings, pipelines_dir=self._working_files),
            window=window,
            began_at=now,
            rows_before=self._load_state.row_count(resource),
            _load_state=self._load_state,
            _future=future,
        )

    def _build_source(
        self, resource: Resource, window: Window | None, now: datetime, known_key: int | None
    ) -> DltSource:
        values: list[int] = []
        if resource.lookup:
            since = now - timedelta(days=self.settings.metrics_active_days)
            values = self._load_state.lookup_values(resource, active_since=since)
            if not values:
                logger.info("%s: nothing to request; load %s first", resource.name, resource.lookup.resource)
        return build_source(
            resource,
            self.settings,
            now=now,
            window=window.looking_back(resource.lookback) if window and window.start else None,
            lookup_values=values,
            known_rejects=self._load_state.known_rejects(resource),
            known_key=known_key,
        )


@dataclass(frozen=True, kw_only=True)
class Load:
    """A load that began: run `source`, if there is one, through `pipeline`, then call `finish`."""

    resource: Resource
    source: DltSource | None
    pipeline: dlt.Pipeline
    window: Window | None
    began_at: datetime
    rows_before: int
    _load_state: LoadState
    _future: bool = False
    _began: float = field(default_factory=time.monotonic)

    def finish(self) -> LoadReport:
        """Record the load after its pipeline ran.

        Raises:
            EmptyListError: The service lists no rows, but the table has some.
        """
        counts = _custom_metrics(self.pipeline, self.resource) if self.source else _NOTHING_READ
        clocks = self._compare_clocks(counts["service_time"])
        passed = min(self.began_at, clocks.service) if clocks else self.began_at
        rows = self._load_state.row_count(self.resource)
        if counts["empty"] and rows:
            seen_at = clocks.service if clocks else self.began_at
            check_empty_list(self.resource, rows, self._load_state.coverage, seen_at=seen_at)
        elif counts["read"]:
            self._load_state.coverage.forget_empty_lists(self.resource)
        covered = self._covered_window(passed)
        list_end = counts["list_end"] and datetime.fromisoformat(counts["list_end"])
        if self.source and covered:
            self._load_state.coverage.record(self.resource, covered, counts["loaded"], list_end)
        removed = 0
        new_rows = rows - self.rows_before
        # A row that was rejected is listed, though not in the table.
        if self.resource.complete_listing and counts["typed"] and not counts["rejected"]:
            removed = self._load_state.mark_removed(self.resource, read_from=self.began_at, new_rows=new_rows)
        report = LoadReport(
            resource=self.resource,
            window=covered,
            list_end=list_end,
            clocks=clocks,
            rows_read=counts["read"],
            rows_loaded=counts["loaded"],
            rows_rejected=counts["rejected"],
            rows_in_table=rows,
            new_rows=new_rows,
            rows_removed=removed,
            newest=datetime.fromisoformat(counts["newest"]) if counts["newest"] else None,
            watermark=self._load_state.watermark(self.resource),
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
        return report

    def _compare_clocks(self, service_time: str | None) -> ClockComparison | None:
        """Compare the clocks, warn if they differ, and delete coverage that ends in the future by both of them."""
        if service_time is None:
            return None
        service = datetime.fromisoformat(service_time)
        clocks = compare_clocks(service, began_at=self.began_at, ended_at=datetime.now(UTC))
        if clocks.warning:
            logger.warning("%s: %s", self.resource.name, clocks.warning)
        if self._future:
            after = max(clocks.service, clocks.loader) + CLOCK_TOLERANCE
            self._load_state.coverage.forget_future_windows(self.resource, after=after)
        return clocks

    def _covered_window(self, passed: datetime) -> Window | None:
        """Return the part of the window before a time; None if the window is not before it, or there is none."""
        if self.window is None:
            return None
        end = min(self.window.end, passed)
        if self.window.start is not None and end <= self.window.start:
            logger.info(
                "%s: no coverage is recorded: the window begins at %s, and it was %s by the earlier of the clocks.",
                self.resource.name, format_moment(self.window.start), format_moment(passed),
            )  # fmt: skip
            return None
        return Window(start=self.window.start, end=end)


def _custom_metrics(pipeline: dlt.Pipeline, resource: Resource) -> dict[str, Any]:
    """Return the counts of the extraction, from the pipeline's trace."""
    extracted = pipeline.last_trace and pipeline.last_trace.last_extract_info
    assert extracted, "the pipeline has run"
    packages = (package["resource_metrics"] for by_load in extracted.metrics.values() for package in by_load)
    return next(metrics[resource.name].custom_metrics for metrics in packages if resource.name in metrics)
