"""The plan of a window: the part of it that coverage lacks, cut into pieces, and the request to read each.

    plan = WindowPlan(
        resource, settings, load_state, window, loaded_since=None, now=now, project=project, windows=windows
    )
    while plan.pieces:
        pipeline.run(build_source([Reading(request=plan.request())]))
        plan.pieces.popleft()

How a piece is recorded does not belong here: `load.py` does it.
"""

import logging
from collections import deque
from datetime import datetime

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.clock import format_moment
from analytics_dagster.ingest.errors import AnalyticsApiError
from analytics_dagster.ingest.fast_reader import estimate_window
from analytics_dagster.ingest.pieces import UNCUT, cut_window
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.source import service_address
from analytics_dagster.ingest.warehouse.load_state import LoadState
from analytics_dagster.ingest.windows import LoadedWindows, Window, loaded_through

logger = logging.getLogger(__name__)


class WindowPlan:
    """The pieces of a window to load.

    Args:
        resource: An incremental resource.
        settings: How to reach the service, and what to keep.
        load_state: The recorded coverage. Coverage of rows that are gone is deleted there.
        window: The window asked for, without lookback.
        loaded_since: Coverage recorded since this time is not loaded again, UTC; None to load the whole window.
        now: When the load began, UTC.
        project: The project whose coverage counts.
        windows: Its coverage.

    Attributes:
        pieces: The pieces that are not loaded yet, oldest first.
        has_future: Whether recorded coverage ends in the future.
        size: Phrase on the rows of all pieces, for the log.
        looks: Requests that looked for pieces.
        known_keys: Largest keys of rows that are known before some times: others are looked up.
    """

    def __init__(  # noqa: PLR0913 - each is a fact of the load
        self,
        resource: Resource,
        settings: Settings,
        load_state: LoadState,
        window: Window,
        *,
        loaded_since: datetime | None,
        now: datetime,
        project: Project,
        windows: LoadedWindows,
    ) -> None:
        self.pieces: deque[Window] = deque()
        self.has_future = False
        self.size = ""
        self.looks = 0
        self._resource = resource
        self._settings = settings
        self._label = settings.label(resource)
        self._state = load_state
        self._window = window
        self._loaded_since = loaded_since
        self._now = now
        self._keep_from = settings.keep_from(resource, now)
        self._resumes = False
        self._project = project
        self.known_keys: dict[datetime, int | None] = {}
        if wanted := self._find_wanted(windows):
            self.pieces.append(wanted)

    def change_project(self, project: Project) -> None:
        """Plan by the coverage of another project. If that covers the window, it is read all the same."""
        self._project = project
        self.known_keys.clear()
        windows = self._state.windows(self._resource, [project], now=self._now)[project]
        if wanted := self._find_wanted(windows):
            self.pieces = deque([wanted])

    @property
    def wants_key_before(self) -> datetime | None:
        """The time before which the largest key of rows must be known to request the next piece; None if none must."""
        return self.pieces[0].start if self.pieces and self._resource.key_grows and self._resumes else None

    def cut(self) -> None:
        """Cut the window into pieces if it is long.

        It stays whole if the reader reads the whole list for each piece, if the list is not ordered by the cursor, so
        that a row of one piece may stand beside those of another, and if the service refuses to be looked at.
        """
        (window,) = self.pieces
        long = window.start is None or window.end - window.start > UNCUT
        if not long or self._settings.reader != "fast" or self._resource.ordered_by != self._resource.cursor:
            return
        request = self.request()
        try:
            with service_address(self._settings) as base_url:
                estimate = estimate_window(request, request.configs(base_url)[0])
        except AnalyticsApiError as error:
            logger.info("%s: loading the window as one piece: %s", self._label, error)
            return
        self.looks += request.traffic.requests
        self.pieces = deque(cut_window(window, estimate.cuts))
        if len(self.pieces) > 1:
            bound = "up to" if estimate.complete else "at least"
            self.size = f"{bound} {estimate.rows:,} rows"
            logger.info(
                "%s: loading %d pieces, oldest first: %s, by page in %s requests and about %.0f s",
                self._label, len(self.pieces), self.size, f"{estimate.requests:,}", estimate.seconds,
            )  # fmt: skip

    def request(self) -> ReadRequest:
        """Return the request to read the next piece, its lookback included.

        Rows with new keys belong to a piece that begins where coverage ends, however old they are: to each piece of a
        window that is resumed, since the one before it is recorded by then.
        """
        piece, resource = self.pieces[0], self._resource
        wanted, known_key = None, None
        if piece.start:
            wanted = piece.looking_back(resource.lookback)
            if self._keep_from and wanted.start and wanted.start < self._keep_from:
                wanted = Window(start=self._keep_from, end=wanted.end)
            if (before := self.wants_key_before) is not None:
                known_key = self._find_key(before)
        elif piece.end < self._now:
            wanted = piece
        return ReadRequest(
            resource=resource, settings=self._settings, window=wanted, now=self._now, known_key=known_key
        )

    def _find_key(self, before: datetime) -> int | None:
        """Return the largest key of the project's rows before a time; None if there are none."""
        if before not in self.known_keys:
            found = self._state.largest_keys(self._resource, {self._project: before})
            self.known_keys[before] = found.get(self._project)
        return self.known_keys[before]

    def _find_wanted(self, windows: LoadedWindows) -> Window | None:
        """Return the part of the window to load; None if it is covered, or older than the rows to keep."""
        window, state = self._window, self._state
        self._resumes = False
        if self._keep_from and (window.start is None or window.start < self._keep_from):
            if window.end <= self._keep_from:
                oldest = format_moment(self._keep_from)
                logger.info("%s: nothing to load: keep_days keeps no rows before %s", self._label, oldest)
                return None
            window = Window(start=self._keep_from, end=window.end)
        self.has_future = self.has_future or bool(windows.future)
        if windows.void:
            logger.warning(
                "%s: the table has no rows, though %s were recorded; its coverage is void, and is deleted.",
                self._label, f"{sum(window.rows for window in windows.void):,}",
            )  # fmt: skip
            state.coverage.forget_windows(self._resource, self._project)
            state.daily_rows.forget(self._resource, self._project)
        if self._loaded_since is None:
            return window
        counted = [loaded for loaded in windows.valid if loaded.loaded_at >= self._loaded_since]
        start = window.start or max((loaded.end for loaded in counted if loaded.start is None), default=None)
        if start is None:
            return window
        through = loaded_through(counted, start)
        if through >= min(window.end, self._now):
            logger.info("%s: nothing to load: the window is covered", self._label)
            return None
        if through == window.start:
            return window
        self._resumes = True
        return Window(start=through, end=window.end)
