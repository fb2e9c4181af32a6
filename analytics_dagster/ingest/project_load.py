"""The part of a load that reads one project: what to read next, and what to record of it.

    for reading in project_load.readings():
        pipeline.run(build_source([reading]))

A long window is read in pieces, oldest first; those that are loaded stay if a later one fails. Of each piece the rows
are written first, then coverage: after a crash between the two the piece is loaded again. Coverage belongs to the
project that the rows name, and ends at the service's time where that is before the loader's. An empty list covers
nothing while the table has rows of the project.

`load.py` runs the parts of a load together. How rows are read does not belong here: `source.py` builds the readers.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any
from uuid import uuid4

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.arrow import FindForeign, RowCounts
from analytics_dagster.ingest.client import Traffic
from analytics_dagster.ingest.clock import ClockComparison, compare_clocks, format_moment
from analytics_dagster.ingest.empty_lists import check_empty_list
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.lists import PAUSE
from analytics_dagster.ingest.projects import KeyOwner, Project
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.source import Reading, Replan, keep_plan
from analytics_dagster.ingest.warehouse.daily_rows import DayCounts
from analytics_dagster.ingest.warehouse.load_records import LoadRecords
from analytics_dagster.ingest.warehouse.load_state import LoadState
from analytics_dagster.ingest.window_plan import WindowPlan
from analytics_dagster.ingest.windows import CLOCK_TOLERANCE, Window

logger = logging.getLogger(__name__)

_SUMMED = ("read", "typed", "loaded", "rejected", "requests", "retries")


@dataclass(kw_only=True)
class ProjectLoad:
    """The part of a load that one key reads.

    Attributes:
        resource: The resource.
        settings: How to reach the service, with the project's key.
        owner: The project that the key answers for, as far as loads have told. It is shared by the loads of a run.
        state: The loader's records in the warehouse.
        records: What is to be written to them.
        window: The window asked for, without lookback; None for a resource without windows.
        began_at: The time of the beginning, UTC.
        loaded_since: Coverage recorded since this time is not loaded again; None to load the whole window.
        others: The owners of the other keys.
        find_foreign: Finds the ids that rows of other projects have; None where there are none.
        lock: Held while rows name the project of a key: readers are side by side.
        counts: Counts of rows and requests so far.
        covered: The windows that are covered now, oldest first.
        named: The projects that rows named.
        removed: Rows that were marked as removed.
        clocks: The service's clock beside the loader's; None before the first reply with a `Date`.
        seconds: How long the project was read.
        error: The error that ended it; None if it did not fail.
        plan: The plan of the window, which `plan_windows` makes; None for a resource without windows.
        days_before: Rows of the days that the next piece touches, before it is loaded.
    """

    resource: Resource
    settings: Settings
    owner: KeyOwner
    state: LoadState
    records: LoadRecords
    window: Window | None
    began_at: datetime
    loaded_since: datetime | None
    others: tuple[KeyOwner, ...] = ()
    find_foreign: FindForeign | None = None
    lock: Lock = field(default_factory=Lock)
    counts: dict[str, Any] = field(default_factory=lambda: RowCounts().as_dict() | asdict(Traffic()))
    covered: list[Window] = field(default_factory=list)
    named: set[int] = field(default_factory=set)
    removed: int = 0
    clocks: ClockComparison | None = None
    seconds: float = 0.0
    error: Exception | None = None
    plan: WindowPlan | None = None
    days_before: DayCounts = field(default_factory=DayCounts)
    _days_project: Project = field(default_factory=Project)
    _began: float = field(default_factory=time.monotonic)

    @property
    def project(self) -> Project:
        """The project whose records count, by its id once that is known."""
        return self.owner.project if self.resource.names_project else Project()

    @property
    def label(self) -> str:
        """The resource, and the project if there are several, as sentences name them."""
        return self.settings.label(self.resource)

    def readings(self) -> Iterator[Reading]:
        """Yield what to read. Each must have run through the pipeline, and have its counts, before the next is taken.

        Raises:
            AnalyticsApiError: The service refused a request that looked for the pieces of the window.
            EmptyListError: The service lists no rows, but the table has some.
        """
        key_name = self.settings.key_name(account=self.resource.account_key)
        logger.info("%s: reading from %s, key from %s", self.label, self.settings.source_address, key_name)
        if self.plan:
            yield from self._read_pieces(self.plan)
        elif self.resource.complete_listing:
            yield from self._list_completely()
        else:
            reading = self._reading(self._request_all(), whole=True)
            yield reading
            self._take_counts(reading)

    def _reading(self, request: ReadRequest, **options: Any) -> Reading:
        verified = self.owner.named if self.resource.names_project else None
        return Reading(
            request=request,
            project_id=verified,
            find_foreign=self.find_foreign,
            **options,
        )

    # -- pieces of a window -------------------------------------------------------------------------------

    def _read_pieces(self, plan: WindowPlan) -> Iterator[Reading]:
        """Yield a reading for each piece that is not loaded yet, and record each piece after it ran."""
        replan: Replan = self._replan
        while plan.pieces:
            if replan is keep_plan:
                self.days_before = self._count_days(plan.pieces[0])
            reading = self._reading(plan.request(), replan=replan)
            yield reading
            replan = keep_plan
            counts = self._take_counts(reading)
            self._record(plan.pieces.popleft(), counts, plan)
        self.counts["requests"] += plan.looks

    def _replan(self, named: set[int]) -> ReadRequest | None:
        """Plan the load by its first rows: they name the project whose coverage counts, and the list may be long.

        Args:
            named: The projects that the first rows name.

        Returns:
            The request for the first piece of the new plan; None if the plan stays.
        """
        plan, presumed = self.plan, self.project
        assert plan
        planned = plan.pieces[0]
        if named:
            self._name_owner(named)
        if self.project != presumed:
            if presumed.id is not None:
                logger.warning(
                    "%s: the rows are of project %d, not %d as before: its own coverage counts.",
                    self.label, self.project.id, presumed.id,
                )  # fmt: skip
            plan.change_project(self.project)
        plan.cut()
        if plan.pieces[0] == planned:
            return None
        self.days_before = self._count_days(plan.pieces[0])
        return plan.request()

    def _name_owner(self, named: set[int]) -> None:
        """Take the project that rows name for the key's: the presumed one if it is among several.

        Raises:
            SettingsError: Another key is that project's too.
        """
        if not self.resource.names_project:
            return
        with self.lock:
            presumed = self.project.id
            project = presumed if presumed in named and presumed is not None else min(named)
            if (other := next((other for other in self.others if other.named == project), None)) is not None:
                raise SettingsError(
                    f"The keys of {other.name} and {self.owner.name} belong to the same project, {project}. Remove one "
                    "of them, or replace it by the key of another project."
                )
            self.owner.named = project

    def _record(self, piece: Window, counts: dict[str, Any], plan: WindowPlan) -> None:
        """Note that a piece is in the table: `load.py` writes the records of all parts together."""
        project = self.project
        verified = self.owner.named is not None or not self.resource.names_project
        accepted = counts["empty"] and self._rows()
        # The rows of several projects that name none cannot be told apart.
        told_apart = not self.settings.projects or project.id is not None or not counts["read"]
        if not told_apart or not (verified or accepted or project.id is None):
            logger.info("%s: no coverage is recorded: no row named the project of the key.", self.label)
            return
        covered = self._covered_part(piece)
        if not self.resource.cursor_moves and (project.id is not None or not self.settings.projects):
            before = self.days_before if project.id == self._days_project.id else None
            self.records.add_days(project, covered or piece, before=before)
        if covered is None:
            return
        list_end = counts["list_end"] and datetime.fromisoformat(counts["list_end"])
        self.records.add_window(project, covered, counts["loaded"], list_end)
        self.covered.append(covered)
        self._log_progress(plan)

    def _log_progress(self, plan: WindowPlan) -> None:
        """Log a line for a piece that is loaded, unless it is the only one."""
        done, left = len(self.covered), len(plan.pieces)
        if done + left > 1:
            left_seconds = (time.monotonic() - self._began) / done * left
            logger.info(
                "%s: piece %d of %d is loaded, %s rows so far of %s; about %.0f s left",
                self.label, done, done + left, f"{self.counts['loaded']:,}", plan.size, left_seconds,
            )  # fmt: skip

    def _covered_part(self, piece: Window) -> Window | None:
        """Return the part of a window before the earlier of the clocks; None if the window is not before it."""
        end = min(piece.end, self.passed)
        if piece.start is not None and end <= piece.start:
            logger.info(
                "%s: no coverage is recorded: the window begins at %s, and it was %s by the earlier of the clocks.",
                self.label, format_moment(piece.start), format_moment(self.passed),
            )  # fmt: skip
            return None
        return Window(start=piece.start, end=end)

    def _count_days(self, piece: Window) -> DayCounts:
        """Return the rows of the days that a piece touches, before it is loaded."""
        self._days_project = self.project
        if self.resource.cursor_moves:
            return DayCounts()
        return self.state.count_days(self.resource, {self.project: piece})[self.project]

    def _rows(self) -> int:
        """Return the number of the project's rows in the table."""
        unknown = self.settings.projects and self.resource.names_project and self.project.id is None
        return 0 if unknown else self.state.row_count(self.resource, self.project)

    @property
    def passed(self) -> datetime:
        """The time of the beginning by the earlier of the clocks."""
        return min(self.began_at, self.clocks.service) if self.clocks else self.began_at

    def note_days(self, days: DayCounts) -> None:
        """Take the rows of the days that the first piece touches."""
        self.days_before, self._days_project = days, self.project

    # -- complete listings --------------------------------------------------------------------------------

    def _list_completely(self) -> Iterator[Reading]:
        """Yield a listing, and a second one where the first lacks rows: what both lack is marked as removed."""
        rows_before = self.state.row_count(self.resource)
        listings: list[str] = []
        pause = 0.0
        for _ in range(2):
            listings.append(uuid4().hex)
            reading = self._reading(self._request_all(), load_id=listings[-1], whole=True, pause=pause)
            yield reading
            counts = self._take_counts(reading)
            # A row that was rejected is listed, though not in the table.
            if counts["rejected"] or not counts["typed"]:
                return
            new_rows = self.state.row_count(self.resource) - rows_before
            lacking = self.state.lacking(self.resource, listings, new_rows=new_rows)
            if not lacking:
                return
            if len(listings) == 1:
                logger.info("%s: the listing lacks %d rows; listing once more", self.label, lacking)
                pause = PAUSE
        self.state.mark_removed(self.resource, listings, at=self.began_at)
        self.removed = lacking

    # -- counts -------------------------------------------------------------------------------------------

    def _take_counts(self, reading: Reading) -> dict[str, Any]:
        """Add the counts of a reading that ended, compare the clocks, and return the counts.

        Raises:
            EmptyListError: The service lists no rows, but the table has some.
        """
        counts = reading.counts
        assert counts, "the reading ended"
        self.seconds += reading.seconds
        total = self.counts
        for name in _SUMMED:
            total[name] += counts[name]
        total["unknown_fields"] = sorted({*total["unknown_fields"], *counts["unknown_fields"]})
        total["newest"] = max(filter(None, (total["newest"], counts["newest"])), default=None)
        total["list_end"] = total["list_end"] or counts["list_end"]
        named = set(counts["projects"])
        self.named |= named
        if named and self.owner.named is None and not self.resource.account_key:
            self._name_owner(named)
        clocks = self._compare_clocks(counts["service_time"])
        self.clocks = self.clocks or clocks
        coverage = self.state.coverage
        if counts["empty"] and (rows := self._rows()):
            seen_at = clocks.service if clocks else self.began_at
            check_empty_list(self.resource, self.project, rows, coverage, seen_at=seen_at, label=self.label)
        elif counts["read"]:
            self.records.add_listed(self.project)
        return counts

    def _compare_clocks(self, service_time: str | None) -> ClockComparison | None:
        """Compare the clocks, warn if they differ, and delete coverage that ends in the future by both of them."""
        if service_time is None:
            return None
        service = datetime.fromisoformat(service_time)
        clocks = compare_clocks(service, began_at=self.began_at, ended_at=datetime.now(UTC))
        if clocks.warning and not self.clocks:
            logger.warning("%s: %s", self.label, clocks.warning)
        if self.plan and self.plan.has_future:
            after = max(clocks.service, clocks.loader) + CLOCK_TOLERANCE
            self.state.coverage.forget_future_windows(self.resource, self.project, after=after)
        return clocks

    def _request_all(self) -> ReadRequest:
        """Return the request to read a list that has no windows."""
        resource, settings = self.resource, self.settings
        values: list[int] = []
        if resource.lookup:
            since = self.began_at - timedelta(days=settings.metrics_active_days)
            # Without its id, a project among several has no rows that could be told from those of others.
            if self.project.id is not None or not settings.projects:
                values = self.state.lookup_values(resource, self.project, active_since=since)
            if not values:
                logger.info("%s: nothing to request; load %s first", self.label, resource.lookup.resource)
        return ReadRequest(resource=resource, settings=settings, window=None, now=self.began_at, lookup_values=values)


def plan_windows(parts: Sequence[ProjectLoad]) -> None:
    """Plan the windows of all parts of a load, with a few statements for all: a tick can have a hundred projects."""
    first = parts[0]
    window, resource, state = first.window, first.resource, first.state
    if window is None:
        return
    projects = {part.owner.name: part.project for part in parts}
    windows = state.windows(resource, list(projects.values()), now=first.began_at, since=window.start)
    for part in parts:
        part.plan = WindowPlan(
            resource,
            part.settings,
            state,
            window,
            loaded_since=part.loaded_since,
            now=part.began_at,
            project=part.project,
            windows=windows[part.project],
        )
    plans = {part.project: part.plan for part in parts if part.plan and part.plan.pieces}
    bounds = {project: before for project, plan in plans.items() if (before := plan.wants_key_before)}
    keys = state.largest_keys(resource, bounds) if bounds else {}
    for project, before in bounds.items():
        plans[project].known_keys[before] = keys.get(project)
    if plans and not resource.cursor_moves:
        days = state.count_days(resource, {project: plan.pieces[0] for project, plan in plans.items()})
        for part in parts:
            part.note_days(days.get(part.project, DayCounts()))
