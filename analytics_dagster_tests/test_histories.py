"""Walk, windows, coverage and merge through random histories, against a table in memory: nothing is lost in the end.

A history is events at the service, ticks of the schedule, nightly re-reads, backfills, faults and crashes, in any
order; rows arrive, move and vanish while pages are being read. Hypothesis prints the seed of one that fails.
"""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_dagster.ingest.walk import Bounds
from analytics_dagster.ingest.windows import Window, loaded_through
from analytics_dagster_tests.living_list import NOW, LiveList, Row, drive, within

DAY = timedelta(days=1)
TICK = 900
LOOKBACK = timedelta(minutes=10)
HORIZON = timedelta(days=2)
STEPS = ("tick", "tick", "tick", "fault", "crash", "night", "backfill", "wait", "late", "vanish")


class FaultError(Exception):
    """The service gave no page for good."""


class History:
    """A service, and a warehouse that is kept up to date with it as the assets do it."""

    def __init__(self, seed: int, *, moves: bool) -> None:
        self.chance = Random(seed)
        self.moves = moves
        self.now = NOW
        self.live = LiveList(
            [Row(1_000 - index, NOW - index * 1_700) for index in range(150)], page_size=7, happen=self._happen
        )
        self.lively = True
        self.table: dict[int | None, Row] = {}
        self.windows: list[Window] = []

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
        if self.moves and self.chance.random() < 0.5:
            self._to_head(self.chance.randrange(len(live.rows)))
        else:
            self.arrive(self.chance.choice((1, 1, 2, 9)))

    fault_in: int | None = None
    """Pages until the service gives none any more."""

    def arrive(self, count: int) -> None:
        for _ in range(count):
            self.live.rows.insert(0, Row(self.live.next_id, self.now))
            self.live.next_id -= 1

    def _to_head(self, index: int) -> None:
        moved = self.live.rows.pop(index)
        self.live.rows.insert(0, Row(moved.id, self.now))

    def late(self) -> None:
        """A row comes to light in the middle of the list, up to a day late."""
        time = self.now - self.chance.randrange(86_400)
        place = next((at for at, row in enumerate(self.live.rows) if (row.time or 0) <= time), len(self.live.rows))
        self.live.rows.insert(place, Row(self.live.next_id, time))
        self.live.next_id -= 1

    def vanish(self) -> None:
        del self.live.rows[self.chance.randrange(len(self.live.rows))]

    # -- at the warehouse ---------------------------------------------------------------------------------

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    @property
    def midnight(self) -> datetime:
        return self.moment.replace(hour=0, minute=0, second=0, microsecond=0)

    def load(self, window: Window, *, resume: bool = False, crash: bool = False) -> None:
        """Load a window, as `Loader` does: rows first, all or none, then coverage."""
        began = self.moment
        assert window.start
        if resume:
            through = loaded_through(self.windows, window.start)
            if through >= min(window.end, began):
                return
            window = Window(start=through, end=window.end)
        wanted = window.looking_back(LOOKBACK)
        assert wanted.start
        end = int(window.end.timestamp()) if window.end < began else None
        bounds = Bounds(start=int(wanted.start.timestamp()), end=end)
        try:
            trip = drive(self.live, bounds, read_ahead=self.chance.choice((1, 3, 8)), shuffle=self.chance.shuffle)
        except FaultError:
            return
        finally:
            self.fault_in = None
        inside = within(trip.seen, Bounds(start=bounds.start, end=int(window.end.timestamp())))
        self.table |= {row.id: row for row in trip.seen if row in inside}  # of two versions the one read last
        if not crash:
            self.windows.append(Window(start=window.start, end=min(window.end, began)))

    def tick(self, *, crash: bool = False) -> None:
        self.load(Window(start=self.midnight - DAY, end=self.midnight + DAY), resume=True, crash=crash)

    def night(self) -> None:
        self.load(Window(start=self.midnight - 2 * DAY, end=self.midnight + DAY))

    # -- a history ----------------------------------------------------------------------------------------

    def run(self, steps: list[str]) -> None:
        for step in steps:
            match step:
                case "tick":
                    self.tick()
                case "fault":
                    self.fault_in = self.chance.randrange(12)
                    self.tick()
                case "crash":
                    self.tick(crash=True)
                case "night":
                    self.night()
                case "backfill":
                    start = self.midnight - self.chance.randrange(3) * DAY
                    self.load(Window(start=start, end=start + DAY))
                case "wait":
                    self.now += self.chance.choice((60, TICK, 6 * 3_600))
                    self.arrive(self.chance.randrange(12))
                case "late":
                    self.late()
                case "vanish":
                    self.vanish()
            self.now += self.chance.choice((1, 60, TICK))
        self.lively = False

    def missing(self, since: datetime) -> set[Row]:
        """Rows of the service since a moment that the table lacks, or has in another version."""
        first = int(since.timestamp())
        return {row for row in self.live.rows if (row.time or 0) >= first and self.table.get(row.id) != row}


EXAMPLES = settings(max_examples=200, deadline=None, derandomize=True)
QUIET = st.lists(st.sampled_from([step for step in STEPS if step not in {"late", "vanish"}]), max_size=25)


@EXAMPLES
@pytest.mark.parametrize("moves", [False, True], ids=["rows stay", "rows move"])
@given(seed=st.integers(0, 2**32), steps=QUIET)
def test_after_the_next_tick_nothing_is_missing_that_arrived_or_moved(
    *, moves: bool, seed: int, steps: list[str]
) -> None:
    history = History(seed, moves=moves)
    history.run(steps)

    history.tick()

    assert history.missing(history.midnight - DAY) == set()


@EXAMPLES
@pytest.mark.parametrize("moves", [False, True], ids=["rows stay", "rows move"])
@given(seed=st.integers(0, 2**32), steps=st.lists(st.sampled_from(STEPS), max_size=25))
def test_after_the_next_night_nothing_is_missing_whatever_vanished_or_came_late(
    *, moves: bool, seed: int, steps: list[str]
) -> None:
    history = History(seed, moves=moves)
    history.run(steps)

    history.night()

    assert history.missing(history.midnight - 2 * DAY) == set()
