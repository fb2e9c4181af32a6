"""Random histories of a list and of a table in memory: pagination, windows, coverage and the schedules lose no row.

A history consists of events at the service, ticks of the schedule, nightly re-reads, backfills, faults, crashes and
downtime, in any order. Rows arrive, up to minutes out of their order, and move; in some histories they vanish or come
late while pages are read. The service lists nothing for a moment or for seconds, and may cut its list at a depth. Ticks
and nights load the partitions that `defs/partitions.py` returns. Hypothesis prints the seed of a history that fails and
the fewest steps that do. `test_simulation.py` runs histories with HTTP, dlt and DuckDB.
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
from analytics_dagster.ingest.lists import DISORDER_SECONDS, Bounds, ListEnd, UnsteadyListError
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.windows import Window, loaded_through
from analytics_dagster_tests.support.live_list import NOW, LiveList, Row, ServedPage, drive, within

pytestmark = pytest.mark.full_pauses  # nothing waits here

DAY = timedelta(days=1)
MINUTE, HOUR = 60, 3_600
HORIZON = timedelta(hours=48)
DISORDER = (*[5] * 30, 4 * MINUTE)
"""Seconds by which rows at the head may be out of order: few by more than pagination expects."""
SKEW = 4 * MINUTE
"""Seconds by which the clocks of the service and of the loader may differ: well within the lookback."""

FAILING = ("fault", "silence", "crash", "unrecorded")
ARRIVING = ("tick", "tick", "tick", *FAILING, "night", "backfill", "forget", "wait", "downtime")
STEPS = (*ARRIVING, "late", "vanish")


class MomentaryList(LiveList):
    """A list that is empty for the next `silence` pages, each of which takes a fiftieth of a second."""

    silence = 0

    def wait(self, seconds: float) -> None:
        self.silence = max(0, self.silence - round(50 * seconds))

    def serve(self, number: int) -> ServedPage:
        page = super().serve(number)
        self.silence -= 1
        return page if self.silence < 0 else page._replace(rows=[])

    def listed(self) -> set[Row]:
        """Return the rows that the service lists, if it is not silent."""
        return set(self.rows[: self.deepest and self.deepest * self.page_size])


class FaultError(Exception):
    """The service gave no page, even after all retries."""


class History:
    """A service, and a warehouse that is kept up to date with it as by the assets.

    Args:
        seed: Seeds every random choice.
        resource: The resource that is loaded: rows of `items` move to the head of their list, those of `occurrences`
            stay.
        calm: Whether rows only arrive and move, so that a tick loads all of them.
    """

    def __init__(self, seed: int, resource: Resource, *, calm: bool) -> None:
        self.chance = Random(seed)
        self.resource = resource
        self.calm = calm
        self.now = NOW
        self.live = MomentaryList(
            [Row(1_000 - index, NOW - index * 1_700) for index in range(150)], page_size=7, happen=self._happen
        )
        self.live.next_id = 1_001
        self.live.deepest = self.chance.choice((None, None, 25, 50))
        self.lively = True
        self.disturbed = False
        self.out_of_order = 0
        self.fault_in: int | None = None
        self.silence_in: int | None = None
        self.table: dict[int | None, Row] = {}
        self.windows: list[Window] = []
        self.known_key: int | None = None
        self.skew = timedelta(seconds=self.chance.randint(-SKEW, SKEW))
        self.partitions = build_partitions(Settings(start_date=(self.moment - 3 * DAY).date()))
        self.materialized: set[str] = set()

    # -- at the service -----------------------------------------------------------------------------------

    def _happen(self, live: LiveList) -> None:
        """Change the list, or fail, before a page is served."""
        if self.fault_in is not None:
            self.fault_in -= 1
            if self.fault_in < 0:
                raise FaultError
        if self.silence_in is not None:
            self.silence_in -= 1
            if self.silence_in < 0:
                self.live.silence, self.silence_in = self.chance.choice((1, 3, 20, 45, 120, 400)), None
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
        """Add rows at the head, some of them out of order."""
        for _ in range(count):
            out_of_order = self.chance.randint(0, self.chance.choice(DISORDER))
            self.out_of_order = max(self.out_of_order, out_of_order)
            self.live.rows.insert(0, Row(self.live.next_id, self.now - out_of_order))
            self.live.next_id += 1

    def late(self) -> None:
        """Add a row in the middle of the list, up to a day late."""
        time = self.now - self.chance.randrange(24 * HOUR)
        index = next((at for at, row in enumerate(self.live.rows) if (row.time or 0) <= time), len(self.live.rows))
        self.live.rows.insert(index, Row(self.live.next_id, time))
        self.live.next_id += 1

    def vanish(self) -> None:
        """Remove a row, most likely a new one. The rows below move up."""
        del self.live.rows[min(int(self.chance.expovariate(1 / 20)), len(self.live.rows) - 1)]

    # -- at the warehouse ---------------------------------------------------------------------------------

    @property
    def moment(self) -> datetime:
        """The time by the loader's clock."""
        return datetime.fromtimestamp(self.now, UTC) + self.skew

    def load(self, asked: Window, *, resume: bool = False, crash: bool = False) -> bool:
        """Load a window as `Loader` does: rows first, all or none, then coverage. Return whether the load succeeded."""
        began, window = self.moment, asked
        if resume and window.start:
            through = loaded_through(self.windows, window.start)
            if through >= min(window.end, began):
                return True
            window = Window(start=through, end=window.end)
        wanted = window.looking_back(self.resource.lookback)
        start = int(wanted.start.timestamp()) if wanted.start else None
        end = int(window.end.timestamp())
        there, before = self.live.listed(), dict(self.table)
        self.disturbed = False
        try:
            trip = drive(
                self.live,
                Bounds(start=start, end=end if window.end < began else None, known_key=self.known_key),
                read_ahead=self.chance.choice((1, 3, 8)),
                shuffle=self.chance.shuffle,
            )
        except (FaultError, UnsteadyListError):
            return False
        finally:
            self.fault_in = self.silence_in = None
            self.live.silence = 0
        if trip.end == ListEnd(empty=True):
            return False  # the loader does not believe that a list is empty whose rows it has
        inside = within(trip.seen, Bounds(start=start, end=None if asked.start is None else end))
        self.table |= {row.id: row for row in trip.seen if row in inside}  # of two versions the one read last
        assert all((self.table[key].time or 0) >= (row.time or 0) for key, row in before.items())
        if crash:
            return False
        self.windows.append(Window(start=window.start, end=min(window.end, began)))
        if self.resource.key_grows:
            self.known_key = max([self.known_key or 0, *(row.id for row in inside if row.id)])
        if not resume and not self.disturbed and self.out_of_order <= DISORDER_SECONDS:
            assert self.missing(asked, there) == set()
        return True

    def window(self, partitions: dg.PartitionKeyRange) -> Window:
        """Return the window of a range of partitions."""
        first, last = map(self.partitions.time_window_for_partition_key, (partitions.start, partitions.end))
        return Window(start=first.start.astimezone(UTC), end=last.end.astimezone(UTC))

    def tick(self, *, crash: bool = False, recorded: bool = True) -> None:
        """Load the partitions that the schedule requests. Dagster may not record the materializations."""
        due = partitions_due(self.partitions, known=self.materialized, asked_at=[], now=self.moment, horizon=HORIZON)
        assert isinstance(due, dg.PartitionKeyRange), due
        there, horizon = self.live.listed(), self.within_horizon()
        loaded = self.load(self.window(due), resume=True, crash=crash)
        if loaded and recorded:
            self._record(due)
        if loaded and self.calm:
            assert self.missing(horizon, there) == set()

    def night(self) -> None:
        """Load the partitions that the nightly schedule loads again."""
        if self.resource.changes_silently:
            self.load(Window(start=None, end=self.moment))
            return
        partitions = partitions_to_reread(self.partitions, now=self.moment)
        assert partitions
        if self.load(self.window(partitions)):
            self._record(partitions)

    def backfill(self) -> None:
        """Load a few partitions, as a person does.

        Dagster takes a partition that was loaded while it was open for loaded. A tick loads its missing rows only as
        long as no later partition is loaded, so backfills of a calm history begin at that partition or before it.
        `complete_history` names such a partition, and a night loads it in any case.
        """
        keys = self.partitions.get_partition_keys(current_time=self.moment)
        first, last = sorted(self.chance.choices(keys, k=2))
        start = self.within_horizon().start
        assert start
        partial = f"{loaded_through(self.windows, start):%Y-%m-%d}"
        if self.calm and partial in self.materialized:
            first = min(first, partial)
            last = max(first, last)
        partitions = dg.PartitionKeyRange(start=first, end=last)
        if self.load(self.window(partitions)):
            self._record(partitions)

    def _record(self, partitions: dg.PartitionKeyRange) -> None:
        self.materialized.update(self.partitions.get_partition_keys_in_range(partitions))

    # -- a history ----------------------------------------------------------------------------------------

    def run(self, steps: list[str]) -> None:
        """Take the steps."""
        taken: dict[str, Callable[[], None]] = {
            "tick": self.tick,
            "fault": self._faulty_tick,
            "silence": self._silent_tick,
            "crash": lambda: self.tick(crash=True),
            "unrecorded": lambda: self.tick(recorded=False),
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

    def _silent_tick(self) -> None:
        self.silence_in = self.chance.randrange(12)
        self.tick()
        self.silence_in = None

    def _wait(self, seconds: int) -> None:
        for _ in range(self.chance.randrange(4)):
            self.now += seconds // 4
            self.arrive(self.chance.randrange(3))
        self.now += seconds // 4 + 1

    def next_night(self) -> None:
        """Run the tick and the nightly schedule at 02:00 of the next day."""
        midnight = self.moment.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
        self.now += int((midnight - self.moment).total_seconds()) + 2 * HOUR
        self.tick()
        self.night()

    def within_horizon(self) -> Window:
        """Return the window that is complete after a tick: the partitions that the horizon touches, to the open one."""
        keys = self.partitions.get_partition_keys(current_time=self.moment)
        windows = [self.window(dg.PartitionKeyRange(start=key, end=key)) for key in keys]
        start = min(window.start for window in windows if window.end > self.moment - HORIZON)
        return Window(start=start, end=windows[-1].end)

    def missing(self, window: Window, there: set[Row] | None = None) -> set[Row]:
        """Return the rows that the service lists in a window, and that the table lacks or has in another version.

        If `there` is given, only rows count that are in it.
        """
        start = window.start and int(window.start.timestamp())
        rows = self.live.listed() if there is None else there & self.live.listed()
        inside = within(rows, Bounds(start=start, end=int(window.end.timestamp())))
        return {row for row in inside if self.table.get(row.id) != row}


EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
KINDS = pytest.mark.parametrize(
    "resource", [get_resource("occurrences"), get_resource("items")], ids=["rows stay", "rows move"]
)


@EXAMPLES
@KINDS
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(ARRIVING), min_size=6, max_size=25))
def test_after_the_next_tick_nothing_is_missing_that_arrived_or_moved(
    resource: Resource, seed: int, steps: list[str]
) -> None:
    history = History(seed, resource, calm=True)
    history.run(steps)

    history.tick()

    assert history.missing(history.within_horizon()) == set()


@EXAMPLES
@KINDS
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(STEPS), min_size=6, max_size=25))
def test_after_the_next_night_nothing_is_missing_whatever_vanished_or_came_late(
    resource: Resource, seed: int, steps: list[str]
) -> None:
    history = History(seed, resource, calm=False)
    history.run(steps)

    history.next_night()

    assert history.missing(Window(start=history.moment - 3 * DAY, end=history.moment + DAY)) == set()
