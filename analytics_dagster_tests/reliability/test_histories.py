"""Pages, windows, coverage, merge and schedule through random histories, against a table in memory: nothing is lost.

A history is events at the service, ticks of the schedule, nightly re-reads, backfills, faults, crashes and downtime, in
any order; rows arrive, move and, in some histories, vanish or come late while pages are being read. What a tick or a
night loads is what `due.py` says. Hypothesis prints the seed of a history that fails, and the fewest steps that do.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_dagster.catalog import Resource, get_resource
from analytics_dagster.defs.partitions import build_partitions, partitions_due, partitions_to_reread
from analytics_dagster.ingest.pagination import Bounds
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.windows import Window, loaded_through
from analytics_dagster_tests.support.live_list import NOW, LiveList, Row, drive, within

DAY = timedelta(days=1)
MINUTE, HOUR = 60, 3_600
HORIZON = timedelta(hours=48)
DISORDER = 5
"""Seconds by which rows at the head are out of their order."""
SKEW = 4 * MINUTE
"""By how much the clocks of the service and of the loader differ at most: well within the lookback."""

ARRIVING = ("tick", "tick", "tick", "fault", "crash", "untold", "night", "backfill", "forget", "wait", "downtime")
STEPS = (*ARRIVING, "late", "vanish")


class FaultError(Exception):
    """The service gave no page for good."""


class History:
    """A service, and a warehouse that is kept up to date with it as the assets do it.

    Args:
        seed: Of everything that happens by chance.
        loaded: What is loaded: rows of `items` move to the head of their list, those of `occurrences` stay.
        calm: Whether rows only arrive and move, so that a tick is enough to have them all.
    """

    def __init__(self, seed: int, loaded: Resource, *, calm: bool) -> None:
        self.chance = Random(seed)
        self.resource = loaded
        self.calm = calm
        self.now = NOW
        self.live = LiveList(
            [Row(1_000 - index, NOW - index * 1_700) for index in range(150)], page_size=7, happen=self._happen
        )
        self.lively = True
        self.disturbed = False
        self.fault_in: int | None = None
        self.table: dict[int | None, Row] = {}
        self.windows: list[Window] = []
        self.skew = timedelta(seconds=self.chance.randint(-SKEW, SKEW))
        self.partitions = build_partitions(Settings(start_date=(self.moment - 3 * DAY).date()))
        self.materialized: set[str] = set()

    # -- at the service -----------------------------------------------------------------------------------

    def _happen(self, live: LiveList) -> None:
        """What may happen before a page is served."""
        if self.fault_in is not None:
            self.fault_in -= 1
            if self.fault_in < 0:
                raise FaultError
        if not self.lively or self.chance.random() > 0.15:
            return
        self.now += 1
        if not self.calm and self.chance.random() < 0.3:
            self.disturbed = True
            self.chance.choice((self.late, self.vanish))()
        elif self.resource.changes_silently and self.chance.random() < 0.5:
            moved = live.rows.pop(self.chance.randrange(len(live.rows)))
            live.rows.insert(0, Row(moved.id, self.now))
        else:
            self.arrive(self.chance.choice((1, 1, 2, 9)))

    def arrive(self, count: int) -> None:
        """Rows arrive at the head, some of them a few seconds out of their order."""
        for _ in range(count):
            self.live.rows.insert(0, Row(self.live.next_id, self.now - self.chance.randint(0, DISORDER)))
            self.live.next_id -= 1

    def late(self) -> None:
        """A row comes to light in the middle of the list, up to a day late."""
        time = self.now - self.chance.randrange(24 * HOUR)
        place = next((at for at, row in enumerate(self.live.rows) if (row.time or 0) <= time), len(self.live.rows))
        self.live.rows.insert(place, Row(self.live.next_id, time))
        self.live.next_id -= 1

    def vanish(self) -> None:
        """A row vanishes, most likely a new one: the others move up."""
        del self.live.rows[min(int(self.chance.expovariate(1 / 20)), len(self.live.rows) - 1)]

    # -- at the warehouse ---------------------------------------------------------------------------------

    @property
    def moment(self) -> datetime:
        """The time by the loader's clock."""
        return datetime.fromtimestamp(self.now, UTC) + self.skew

    def load(self, asked: Window, *, resume: bool = False, crash: bool = False) -> bool:
        """Load a window, as `Loader` does: rows first, all or none, then coverage. Return whether that went well."""
        began, window = self.moment, asked
        if resume and window.start:
            through = loaded_through(self.windows, window.start)
            if through >= min(window.end, began):
                return True
            window = Window(start=through, end=window.end)
        wanted = window.looking_back(self.resource.lookback)
        start = int(wanted.start.timestamp()) if wanted.start else None
        end = int(window.end.timestamp())
        there, before = set(self.live.rows), dict(self.table)
        self.disturbed = False
        try:
            trip = drive(
                self.live,
                Bounds(start=start, end=end if window.end < began else None),
                read_ahead=self.chance.choice((1, 3, 8)),
                shuffle=self.chance.shuffle,
            )
        except FaultError:
            return False
        finally:
            self.fault_in = None
        inside = within(trip.seen, Bounds(start=start, end=None if asked.start is None else end))
        self.table |= {row.id: row for row in trip.seen if row in inside}  # of two versions the one read last
        assert all((self.table[key].time or 0) >= (row.time or 0) for key, row in before.items())
        if crash:
            return False
        self.windows.append(Window(start=window.start, end=min(window.end, began)))
        if not resume and not self.disturbed:
            assert self.missing(asked, there) == set()
        return True

    def span(self, partitions: dg.PartitionKeyRange) -> Window:
        """The partitions' window."""
        first, last = map(self.partitions.time_window_for_partition_key, (partitions.start, partitions.end))
        return Window(start=first.start.astimezone(UTC), end=last.end.astimezone(UTC))

    def tick(self, *, crash: bool = False, told: bool = True) -> None:
        """Load what the schedule asks for; Dagster may not learn of it."""
        due = partitions_due(self.partitions, known=self.materialized, asked_at=[], now=self.moment, horizon=HORIZON)
        assert isinstance(due, dg.PartitionKeyRange), due
        there = set(self.live.rows)
        loaded = self.load(self.span(due), resume=True, crash=crash)
        if loaded and told:
            self._tell(due)
        if loaded and self.calm:
            assert self.missing(self.within_horizon(), there) == set()

    def night(self) -> None:
        """Read again what the nightly schedule reads again."""
        if self.resource.changes_silently:
            self.load(Window(start=None, end=self.moment))
            return
        span = partitions_to_reread(self.partitions, now=self.moment)
        assert span
        if self.load(self.span(span)):
            self._tell(span)

    def backfill(self) -> None:
        """A person loads a few partitions.

        Where a tick is to be enough, they begin no later than one that Dagster takes for loaded though it was open when
        it was: a tick sees what that one lacks only as long as none of those after it is loaded. The check of the
        history names it, and a night loads it in any case.
        """
        keys = self.partitions.get_partition_keys(current_time=self.moment)
        first, last = sorted(self.chance.choices(keys, k=2))
        start = self.within_horizon().start
        assert start
        partial = f"{loaded_through(self.windows, start):%Y-%m-%d}"
        if self.calm and partial in self.materialized:
            first = min(first, partial)
            last = max(first, last)
        if self.load(self.span(dg.PartitionKeyRange(start=first, end=last))):
            self._tell(dg.PartitionKeyRange(start=first, end=last))

    def _tell(self, span: dg.PartitionKeyRange) -> None:
        keys = dg.PartitionKeyRange(span.start, span.end)
        self.materialized.update(self.partitions.get_partition_keys_in_range(keys))

    # -- a history ----------------------------------------------------------------------------------------

    def run(self, steps: list[str]) -> None:
        """Take the steps."""
        taken: dict[str, Callable[[], None]] = {
            "tick": self.tick,
            "fault": self._faulty_tick,
            "crash": lambda: self.tick(crash=True),
            "untold": lambda: self.tick(told=False),
            "night": self.night,
            "backfill": self.backfill,
            "forget": self.materialized.clear,
            "wait": lambda: self._wait(self.chance.choice((MINUTE, HOUR // 4, 6 * HOUR))),
            "downtime": lambda: self._wait(self.chance.randrange(4 * 24 * HOUR)),
            "late": self.late,
            "vanish": self.vanish,
        }
        for step in steps:
            taken[step]()
            self._wait(self.chance.choice((1, MINUTE, HOUR // 4)))
        self.lively = False

    def _faulty_tick(self) -> None:
        self.fault_in = self.chance.randrange(12)
        self.tick()
        self.fault_in = None

    def _wait(self, seconds: int) -> None:
        for _ in range(self.chance.randrange(4)):
            self.now += seconds // 4
            self.arrive(self.chance.randrange(3))
        self.now += seconds // 4 + 1

    def next_night(self) -> None:
        """Two in the morning has come, with its tick."""
        midnight = self.moment.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
        self.now += int((midnight - self.moment).total_seconds()) + 2 * HOUR
        self.tick()
        self.night()

    def within_horizon(self) -> Window:
        """What a tick has to have made good: the partitions that the horizon touches, to the open one."""
        keys = self.partitions.get_partition_keys(current_time=self.moment)
        spans = [self.span(dg.PartitionKeyRange(start=key, end=key)) for key in keys]
        return Window(start=min(span.start for span in spans if span.end > self.moment - HORIZON), end=spans[-1].end)

    def missing(self, window: Window, there: set[Row] | None = None) -> set[Row]:
        """Rows of the service in a window that the table lacks, or has in another version.

        Where `there` is given, only rows in it count: those that were there before, and are still.
        """
        start = window.start and int(window.start.timestamp())
        rows = set(self.live.rows) if there is None else there.intersection(self.live.rows)
        inside = within(rows, Bounds(start=start, end=int(window.end.timestamp())))
        return {row for row in inside if self.table.get(row.id) != row}


EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
KINDS = pytest.mark.parametrize(
    "loaded", [get_resource("occurrences"), get_resource("items")], ids=["rows stay", "rows move"]
)


@EXAMPLES
@KINDS
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(ARRIVING), min_size=6, max_size=25))
def test_after_the_next_tick_nothing_is_missing_that_arrived_or_moved(
    loaded: Resource, seed: int, steps: list[str]
) -> None:
    history = History(seed, loaded, calm=True)
    history.run(steps)

    history.tick()

    assert history.missing(history.within_horizon()) == set()


@EXAMPLES
@KINDS
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(STEPS), min_size=6, max_size=25))
def test_after_the_next_night_nothing_is_missing_whatever_vanished_or_came_late(
    loaded: Resource, seed: int, steps: list[str]
) -> None:
    history = History(seed, loaded, calm=False)
    history.run(steps)

    history.next_night()

    assert history.missing(Window(start=history.moment - 3 * DAY, end=history.moment + DAY)) == set()
