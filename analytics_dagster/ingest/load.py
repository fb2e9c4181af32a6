"""One load of one resource, from what is known before it to what is recorded after it.

    report = load_resource(get_resource("deploys"), load_settings(), window)

Rows first, then coverage: a crash between the two only means that the window is loaded again.
"""

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import dlt
from dlt.extract.source import DltSource

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.arrow import RowCounts
from analytics_dagster.ingest.client import Traffic
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.source import build_source
from analytics_dagster.ingest.warehouse.load_state import LoadState, WatermarkValues, open_load_state
from analytics_dagster.ingest.warehouse.lock import write_lock
from analytics_dagster.ingest.warehouse.pipeline import build_pipeline
from analytics_dagster.ingest.windows import Window, loaded_through

logger = logging.getLogger(__name__)

_NOTHING_READ = RowCounts().as_dict() | Traffic().as_dict()


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What a load did.

    Attributes:
        resource: What was loaded.
        window: Window that is covered now, without lookback; None where there are no windows.
        rows_read: Rows in the replies.
        rows_loaded: Rows that belong to the window, lookback included.
        rows_rejected: Rows that do not fit.
        rows_in_table: Rows in the table afterwards.
        new_rows: How many more those are than before.
        rows_removed: Rows that a complete listing lacked for the first time.
        newest: Newest cursor among the rows loaded.
        watermark: What the table tells to those who wait for its new rows.
        unknown_fields: Fields that the catalog does not know.
        requests: Requests sent, retries included.
        retries: Retries among them.
        seconds: Duration, from the look at the warehouse to the record of the window.
    """

    resource: Resource
    window: Window | None
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
    """Load one resource and record the load, as the assets do, without Dagster. `Loader.begin` says what is loaded.

    Raises:
        AnalyticsError: A setting is wrong, the service refused, or the warehouse cannot be written.
    """
    with write_lock(settings), Loader(settings) as loader:
        load = loader.begin(resource, window, resume=resume)
        if load.source:
            load.pipeline.run(load.source)
        return load.finish()


class Loader:
    """Loads resources one after the other. A context manager: dlt's working files last as long as it does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._working_files = opened.enter_context(
                TemporaryDirectory(prefix="analytics-", ignore_cleanup_errors=True)
            )
            self._load_state = opened.enter_context(open_load_state(self.settings, pipelines_dir=self._working_files))
            self._resources = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resources.close()

    def begin(self, resource: Resource, window: Window | None = None, *, resume: bool = False) -> "Load":
        """Prepare a load.

        Args:
            resource: What to load.
            window: What of it, by its cursor and without lookback; None for all.
            resume: Start where the coverage ends that begins at the window's start.

        Returns:
            The load; with no source where the coverage reaches the window's end already.
        """
        now = datetime.now(UTC)
        if not resource.incremental:
            window = None
        elif window is None:
            window = Window(start=None, end=now)
        elif resume and window.start is not None:
            through = loaded_through(self._load_state.windows(resource), window.start)
            if through >= min(window.end, now):
                return self._load(resource, None, window, now)
            window = Window(start=through, end=window.end)
        values: list[int] = []
        if resource.lookup:
            since = now - timedelta(days=self.settings.metrics_active_days)
            values = self._load_state.lookup_values(resource, active_since=since)
            if not values:
                logger.info("%s: nothing to ask for; load %s first", resource.name, resource.lookup.resource)
        source = build_source(
            resource,
            self.settings,
            now=now,
            window=window.looking_back(resource.lookback) if window and window.start else None,
            lookup_values=values,
            known_rejects=self._load_state.known_rejects(resource),
        )
        return self._load(resource, source, window, now)

    def _load(self, resource: Resource, source: DltSource | None, window: Window | None, now: datetime) -> "Load":
        return Load(
            resource=resource,
            source=source,
            pipeline=build_pipeline(resource, self.settings, pipelines_dir=self._working_files),
            window=window,
            began_at=now,
            rows_before=self._load_state.row_count(resource),
            _load_state=self._load_state,
        )


@dataclass(frozen=True, kw_only=True)
class Load:
    """A load that was begun: run `source`, if there is one, through `pipeline`, then `finish`."""

    resource: Resource
    source: DltSource | None
    pipeline: dlt.Pipeline
    window: Window | None
    began_at: datetime
    rows_before: int
    _load_state: LoadState
    _began: float = field(default_factory=time.monotonic)

    def finish(self) -> LoadReport:
        """Record what was loaded, after the pipeline ran."""
        counts = _custom_metrics(self.pipeline, self.resource) if self.source else _NOTHING_READ
        covered = self.window and Window(start=self.window.start, end=min(self.window.end, self.began_at))
        removed = 0
        if self.source and covered:
            self._load_state.record(self.resource, covered, counts["loaded"])
        rows = self._load_state.row_count(self.resource)
        new_rows = rows - self.rows_before
        # A row that was rejected is listed, though not in the table.
        if self.resource.complete_listing and counts["typed"] and not counts["rejected"]:
            removed = self._load_state.mark_removed(self.resource, read_from=self.began_at, new_rows=new_rows)
        report = LoadReport(
            resource=self.resource,
            window=covered,
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


def _custom_metrics(pipeline: dlt.Pipeline, resource: Resource) -> dict[str, Any]:
    """What the extraction counted, from the pipeline's trace."""
    extracted = pipeline.last_trace and pipeline.last_trace.last_extract_info
    assert extracted, "the pipeline has run"
    packages = (package["resource_metrics"] for by_load in extracted.metrics.values() for package in by_load)
    return next(metrics[resource.name].custom_metrics for metrics in packages if resource.name in metrics)
