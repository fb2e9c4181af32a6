"""A walk over a living list: nothing is lost, and few pages are asked for."""

import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import combinations
from math import log2
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_dagster.ingest.lists import PAUSE, Bounds, ListEnd, ListOrder, Page, PageRequest, UnsteadyListError
from analytics_dagster.ingest.pagination import PAGES_PER_FIND, SPARE_PAGES, single_page
from analytics_dagster_tests.support.live_list import (
    NOW,
    READING,
    UNORDERED,
    LiveList,
    Row,
    ServedPage,
    drive,
    newest_first,
    stay,
    within,
)

pytestmark = pytest.mark.full_pauses  # nothing waits here

HOUR = 3_600
EXAMPLES = settings(max_examples=500, deadline=None, derandomize=True)


# -- nothing is lost ------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A list, a window of it, and how it is read and changed. Chance orders the serving and deals the events."""

    live: LiveList
    bounds: Bounds
    read_ahead: int
    liveliness: float
    chance: Random

    def happens(self) -> bool:
        return self.chance.random() < self.liveliness and len(self.live.rows) < 100

    def lost(self, wanted: Iterable[Row]) -> set[Row]:
        trip = drive(self.live, self.bounds, read_ahead=self.read_ahead, shuffle=self.chance.shuffle)
        return within(wanted, self.bounds) - set(trip.seen)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Lists newest first, with ties, quiet hours, and rows up to five seconds out of their order; any window."""
    chance = draw(st.randoms(use_true_random=True))
    gaps = draw(st.sampled_from(((0, 0, 1, 2), (0, 0, 1, 5, 59, 61, 600, HOUR))))
    rows, time = [], NOW
    for number in range(draw(st.integers(0, 40)), 0, -1):
        time -= chance.choice(gaps)
        rows.append(Row(number, time - chance.randint(0, 5)))
    edges = [NOW + 999, time - 999, *(row.time + beside for row in rows for beside in (0, 1))]
    start, end = (chance.choice(edges) if draw(st.booleans()) else None for _ in range(2))
    if start is not None and end is not None and start >= end:
        start, end = end, start + 1
    return Case(
        live=LiveList(rows, page_size=draw(st.integers(1, 7))),
        bounds=Bounds(start=start, end=end),
        read_ahead=draw(st.integers(1, 9)),
        liveliness=draw(st.sampled_from((0.1, 0.5, 1.0))),
        chance=chance,
    )


@EXAMPLES
@given(cases(), st.sampled_from((0, 1, 70)))
def test_no_row_is_lost_while_rows_arrive_between_any_two_pages(case: Case, seconds_apart: int) -> None:
    there = set(case.live.rows)

    def happen(live: LiveList) -> None:
        if case.happens():
            live.arrive(case.chance.choice((1, 1, 2, live.page_size, 2 * live.page_size + 1)), seconds_apart)

    case.live.happen = happen

    assert case.lost(there) == set()


@EXAMPLES
@given(cases())
def test_no_row_is_lost_while_others_move_to_the_head(case: Case) -> None:
    unmoved = set(case.live.rows)

    def happen(live: LiveList) -> None:
        for _ in range(case.chance.choice((1, 2, live.page_size)) if live.rows and case.happens() else 0):
            unmoved.discard(live.move(case.chance.randrange(len(live.rows))))

    case.live.happen = happen

    assert case.lost(unmoved) == set()


@EXAMPLES
@given(cases())
def test_no_row_is_lost_while_rows_arrive_and_move(case: Case) -> None:
    unmoved = set(case.live.rows)

    def happen(live: LiveList) -> None:
        for _ in range(case.chance.choice((1, 2, live.page_size + 1)) if case.happens() else 0):
            if live.rows and case.chance.random() < 0.5:
                unmoved.discard(live.move(case.chance.randrange(len(live.rows))))
            else:
                live.arrive(1)

    case.live.happen = happen

    assert case.lost(unmoved) == set()


@EXAMPLES
@given(cases())
def test_no_row_is_lost_among_entries_that_are_no_rows(case: Case) -> None:
    no_row = Row(None, None)
    live = case.live
    live.page_size += 3  # a list of nothing but such entries cannot be told from a page that is repeated
    live.rows = [row if case.chance.random() < 0.8 else no_row for row in live.rows]
    there = set(live.rows)

    def happen(live: LiveList) -> None:
        for _ in range(case.chance.choice((1, live.page_size)) if case.happens() else 0):
            live.arrive(1)
            live.rows[0] = live.rows[0] if case.chance.random() < 0.8 else no_row

    live.happen = happen

    assert case.lost(there) == set()


# -- what it takes to lose a row ------------------------------------------------------------------------------


def scripted(script: dict[int, Callable[[LiveList], object]]) -> Callable[[LiveList], None]:
    """Events by how many pages were served before them."""

    def happen(live: LiveList) -> None:
        script.get(len(live.served), stay)(live)

    return happen


def missed(live: LiveList, *, read_ahead: int, moved: Sequence[int] = ()) -> set[Row]:
    """Rows that a walk over the whole list misses, though they stood in it all the while.

    Of pages asked for together the deepest is served first, which is what can lose a row.
    """
    there = {row for row in live.rows if row.id not in moved}
    return there - set(drive(live, read_ahead=read_ahead, shuffle=list.reverse).seen)


@pytest.mark.parametrize("size", [1, 2, 3, 10])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 10, 11])
def test_a_row_that_arrives_between_two_pages_of_a_request_hides_none(size: int, count: int) -> None:
    for before in range(30):
        live = LiveList(newest_first(20), size, scripted({before: lambda live: live.arrive(count)}))
        assert missed(live, read_ahead=5) == set(), f"arrived after {before} pages"


def test_a_list_that_grows_by_exactly_one_page_at_any_moment_is_read_to_its_end() -> None:
    for read_ahead in (1, 2, 5):
        for before in range(12):
            live = LiveList(newest_first(20), 5, scripted({before: lambda live: live.arrive(live.page_size)}))
            assert missed(live, read_ahead=read_ahead) == set(), f"grew after {before} pages"


def test_a_row_that_moved_back_to_the_head_does_not_end_the_list() -> None:
    live = LiveList(newest_first(3), 1, scripted({1: lambda live: live.move(1), 2: lambda live: live.move(1)}))

    assert missed(live, read_ahead=1, moved=[2, 3]) == set()


# -- holes and short pages ------------------------------------------------------------------------------------


class HoledList(LiveList):
    """The page that is served as number `hole` comes back empty, unless it is the list's last."""

    hole = -1

    def serve(self, number: int) -> ServedPage:
        page = super().serve(number)
        hit = len(self.served) - 1 == self.hole and self.page(number + 1)
        return ServedPage(number, []) if hit else page


@pytest.mark.parametrize("read_ahead", [1, 2, 5])
@pytest.mark.parametrize(
    "bounds",
    [Bounds(), Bounds(start=NOW - 60 * 50), Bounds(start=NOW - 60 * 60, end=NOW - 60 * 30), Bounds(end=NOW - 60 * 40)],
    ids=["all", "newest", "middle", "oldest"],
)
def test_a_page_that_is_empty_once_loses_nothing(bounds: Bounds, read_ahead: int) -> None:
    for hole in range(40):
        live = HoledList(newest_first(80), 4)
        live.hole = hole
        trip = drive(live, bounds, read_ahead=read_ahead)
        assert within(live.rows, bounds) <= set(trip.seen), f"hole at the page served as number {hole}"


def test_a_page_that_is_empty_once_loses_nothing_while_the_list_grows() -> None:
    for moments in combinations(range(10), 3):
        for hole in range(4, 14):
            live = HoledList(newest_first(13), 2, scripted(dict.fromkeys(moments, lambda live: live.arrive(1))))
            live.hole = hole
            assert missed(live, read_ahead=3) == set(), f"hole at page served as number {hole}, growth at {moments}"


def test_a_page_that_stays_empty_does_not_end_the_list() -> None:
    class WithPermanentHole(LiveList):
        def page(self, number: int) -> Sequence[Row]:
            return [] if number == 3 else super().page(number)

    for read_ahead in (1, 2, 5):
        live = WithPermanentHole(newest_first(40), 4)
        trip = drive(live, read_ahead=read_ahead)
        assert set(trip.seen) == {row for number in range(1, 11) for row in live.page(number)}


def test_a_short_page_does_not_end_the_list() -> None:
    class WithShortPages(LiveList):
        def page(self, number: int) -> Sequence[Row]:
            return [row for row in super().page(number) if row.id is not None and row.id % 4]

    for read_ahead in (1, 2, 5):
        live = WithShortPages(newest_first(43), 3)
        trip = drive(live, read_ahead=read_ahead)
        assert set(trip.seen) == {row for row in live.rows if row.id is not None and row.id % 4}


# -- ends -----------------------------------------------------------------------------------------------------


class SilentList(LiveList):
    """A service that lists nothing from `silent_from` on, counted in pages served, for `silence` pages and seconds."""

    silent_from = 0
    silence = 0.0
    clock = 0.0

    def wait(self, seconds: float) -> None:
        self.clock += seconds * PAGES_A_SECOND

    def serve(self, number: int) -> ServedPage:
        page = super().serve(number)
        self.clock += 1
        silent = self.silent_from < self.clock <= self.silent_from + self.silence
        return ServedPage(number, []) if silent else page


PAGES_A_SECOND = 30
EVERYWHERE = pytest.mark.parametrize(
    "bounds",
    [Bounds(), Bounds(start=NOW - 60 * 50), Bounds(start=NOW - 60 * 60, end=NOW - 60 * 30), Bounds(end=NOW - 60 * 40)],
    ids=["all", "newest", "middle", "oldest"],
)


@pytest.mark.parametrize("read_ahead", [1, 5])
@pytest.mark.parametrize("silence", [1, 4, 29])
@EVERYWHERE
def test_a_service_that_lists_nothing_for_less_than_a_second_loses_nothing(
    bounds: Bounds, silence: int, read_ahead: int
) -> None:
    for silent_from in range(45):
        live = SilentList(newest_first(80), 4)
        live.silent_from, live.silence = silent_from, silence
        trip = drive(live, bounds, read_ahead=read_ahead)
        assert within(live.rows, bounds) <= set(trip.seen), f"silent from page {silent_from} on"


@pytest.mark.parametrize("read_ahead", [1, 5])
def test_a_service_that_falls_silent_for_good_has_no_end(read_ahead: int) -> None:
    for silent_from in range(1, 20):
        live = SilentList(newest_first(80), 4)
        live.silent_from, live.silence = silent_from, math.inf
        with pytest.raises(UnsteadyListError, match=r"page \d+ is empty, and so are the pages before it"):
            drive(live, read_ahead=read_ahead)


def test_a_silence_of_seconds_is_waited_out_after_the_first_page() -> None:
    for silent_from in range(1, 20):
        live = SilentList(newest_first(80), 4)
        live.silent_from, live.silence = silent_from, 3.5 * PAGES_A_SECOND
        assert set(drive(live).seen) == set(live.rows), f"silent from page {silent_from} on"


def test_a_last_page_that_empties_meanwhile_does_not_hold_up_the_end() -> None:
    live = LiveList(newest_first(21), 5)

    def happen(live: LiveList) -> None:
        if 6 in live.served and len(live.rows) == 21:
            live.rows.pop()

    live.happen = happen

    trip = drive(live, read_ahead=1)

    assert len(live.rows) == 20
    assert set(live.rows) <= set(trip.seen)
    assert trip.end


@pytest.mark.parametrize(
    ("bounds", "oldest"),
    [
        (Bounds(), -79),
        (Bounds(start=NOW - 60 * 100), -79),
        (Bounds(start=NOW - 60 * 100, end=NOW - 60 * 90), -79),
        (Bounds(start=NOW - 60 * 79), -79),
        (Bounds(start=NOW - 60 * 79 + 1), None),
        (Bounds(start=NOW - 60 * 50), None),
    ],
    ids=repr,
)
def test_an_end_above_the_start_of_the_window_is_returned(bounds: Bounds, oldest: int | None) -> None:
    end = drive(LiveList(newest_first(80), 4), bounds).end

    assert end == (None if oldest is None else ListEnd(NOW + 60 * oldest))


@pytest.mark.parametrize("bounds", [Bounds(), Bounds(start=NOW - 60 * 79), Bounds(end=NOW - 60 * 60)], ids=repr)
def test_a_list_cut_at_a_depth_ends_there(bounds: Bounds) -> None:
    live = LiveList(newest_first(80), 4)
    live.deepest = 7

    trip = drive(live, bounds)

    assert trip.end == ListEnd(live.rows[27].time)
    assert within(live.rows[:28], bounds) <= set(trip.seen)


def test_an_empty_list_without_page_numbers_is_asked_for_once_more() -> None:
    def serve(*replies: list[Any]) -> tuple[list[PageRequest], ListEnd | None]:
        steps = single_page()
        asked = [next(steps)]
        for rows in replies[:-1]:
            asked += [steps.send([Page(number=1, rows=rows, envelope={}, read_at=datetime.now(UTC))])]
        with pytest.raises(StopIteration) as stopped:
            steps.send([Page(number=1, rows=replies[-1], envelope={}, read_at=datetime.now(UTC))])
        return asked, stopped.value.value

    assert serve([{}]) == ([PageRequest((1,))], None)
    assert serve([], [{}]) == ([PageRequest((1,)), PageRequest((1,), pause=PAUSE)], None)
    assert serve([], []) == ([PageRequest((1,)), PageRequest((1,), pause=PAUSE)], ListEnd(empty=True))


@pytest.mark.parametrize(("counted", "warnings"), [(80, 0), (79, 0), (81, 1), (None, 0)])
def test_a_list_that_shows_fewer_rows_than_the_service_counts_has_a_warning(
    counted: int | None, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveList(newest_first(80), 4)
    live.envelope = {"total_count": counted}

    drive(live, Bounds(start=NOW - 60 * 100))
    assert not caplog.records, "a window is no full read"
    drive(live)

    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "things: the service counts 81 rows"
    ] * warnings


# -- deletions ------------------------------------------------------------------------------------------------


class VanishingList(LiveList):
    """Rows vanish from the first `above` rows before the requests with these ordinals."""

    vanishing: Sequence[int] = ()
    above = 1
    requests = 0

    def wait(self, seconds: float) -> None:
        self.requests += 1
        for _ in range(self.vanishing.count(self.requests)):
            del self.rows[self.above - 1]


@pytest.mark.parametrize("count", [1, 4])
def test_rows_that_vanish_between_two_requests_hide_none(count: int) -> None:
    for first in range(2, 16):
        for second in range(first, 16):
            live = VanishingList(newest_first(400), 10)
            live.vanishing = [first, second] * count
            trip = drive(live, read_ahead=5)
            assert set(live.rows) <= set(trip.seen), f"{count} rows vanished before requests {first} and {second}"


def test_a_deletion_costs_the_pages_of_two_requests_at_most() -> None:
    quiet = drive(LiveList(newest_first(1_000), page_size=10), read_ahead=8)
    for request in range(2, 16):
        live = VanishingList(newest_first(1_000), 10)
        live.vanishing = [request]
        assert drive(live, read_ahead=8).fetches <= quiet.fetches + 2 * 8, f"vanished before request {request}"


# -- arrivals without an end ----------------------------------------------------------------------------------


class GrowingList(LiveList):
    """A list to which rows are added before each request, and as many again while its pages are served."""

    growth = 0

    def wait(self, seconds: float) -> None:
        self.arrive(self.growth * (1 + round(10 * seconds)))


@pytest.mark.parametrize(("growth", "most"), [(2, 2.5), (6, 3), (10, 3)])
def test_a_list_that_grows_by_half_a_page_a_request_is_read_to_its_end(growth: int, most: float) -> None:
    live = GrowingList(newest_first(4_000), page_size=20)
    live.growth = growth
    there = set(live.rows)
    chance = Random(growth)

    trip = drive(live, read_ahead=8, shuffle=chance.shuffle)

    assert there <= set(trip.seen)
    assert trip.fetches <= most * 4_000 / 20


@pytest.mark.parametrize("read_ahead", [1, 8])
def test_a_list_that_grows_faster_than_it_is_read_is_given_up(read_ahead: int) -> None:
    live = GrowingList(newest_first(4_000), page_size=20)
    live.growth = 20

    with pytest.raises(UnsteadyListError, match="grows faster than it can be read"):
        drive(live, read_ahead=read_ahead)

    assert len(live.served) <= SPARE_PAGES + PAGES_PER_FIND * 200


# -- how many pages are asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize("read_ahead", [1, 8])
def test_an_hour_a_thousand_pages_deep_is_found_by_seeking(read_ahead: int) -> None:
    live = LiveList(newest_first(21_000), page_size=20)
    bounds = Bounds(start=live.rows[20_000].time - HOUR, end=live.rows[20_000].time)
    wanted = within(live.rows, bounds)
    pages_of_window = len({live.rows.index(row) // 20 for row in wanted})

    trip = drive(live, bounds, read_ahead=read_ahead)

    assert wanted <= set(trip.seen)
    a_page_beyond_each_edge = 2
    assert trip.fetches <= pages_of_window + a_page_beyond_each_edge + 2 * log2(1_000) + read_ahead


@pytest.mark.parametrize(
    ("bounds", "most"),
    [
        (Bounds(start=NOW + 600), 2),
        (Bounds(start=NOW + 600, end=NOW + HOUR), 2),
        (Bounds(start=NOW - 600), 6),
        (Bounds(start=NOW - 600, end=NOW), 6),
        (Bounds(start=NOW - 9_000 * 60, end=NOW - 8_000 * 60), 18),
    ],
    ids=["nothing new", "window to come", "newest rows", "window of the newest rows", "window before the oldest row"],
)
def test_few_pages_tell_that_a_window_holds_little_or_nothing(bounds: Bounds, most: int) -> None:
    live = LiveList(newest_first(2_000), page_size=20)

    trip = drive(live, bounds, read_ahead=8)

    assert within(live.rows, bounds) <= set(trip.seen)
    assert trip.fetches <= most


@pytest.mark.parametrize("reading", [READING, UNORDERED], ids=["ordered", "unordered"])
@pytest.mark.parametrize(
    "bounds", [Bounds(), Bounds(start=NOW), Bounds(end=NOW), Bounds(start=NOW - HOUR, end=NOW)], ids=repr
)
def test_an_empty_list_ends_at_once(bounds: Bounds, reading: ListOrder) -> None:
    trip = drive(LiveList([], page_size=20), bounds, reading=reading)

    assert trip.seen == []
    assert trip.end == ListEnd(empty=True)
    assert trip.fetches <= 4


def test_a_quiet_list_is_read_once_several_pages_at_a_time() -> None:
    live = LiveList(newest_first(1_000), page_size=10)

    trip = drive(live, read_ahead=8)

    assert sorted(trip.seen, reverse=True) == live.rows
    assert len(trip.requests) <= 100 / 7 + 6
    assert trip.requests[0] == PageRequest((1,))
    assert max(len(request.wanted) for request in trip.requests) == 8


def test_growth_costs_the_pages_of_two_requests_at_most() -> None:
    quiet = drive(LiveList(newest_first(1_000), page_size=10), read_ahead=8)
    for before in range(40, 60):
        live = LiveList(newest_first(1_000), 10, scripted({before: lambda live: live.arrive(1)}))
        assert drive(live, read_ahead=8).fetches <= quiet.fetches + 2 * 7, f"arrived after {before} pages"


# -- services that behave unlike the documented one -----------------------------------------------------------


class DeafList(LiveList):
    """A service that ignores the page number."""

    def page(self, number: int) -> Sequence[Row]:
        return super().page(1)


@pytest.mark.parametrize("reading", [READING, UNORDERED], ids=["ordered", "unordered"])
@pytest.mark.parametrize("read_ahead", [1, 2, 8])
@pytest.mark.parametrize(
    "bounds",
    [Bounds(), Bounds(start=NOW - 9 * HOUR), Bounds(end=NOW - 9 * HOUR), Bounds(start=NOW - 10 * HOUR, end=NOW - HOUR)],
    ids=["all", "newest", "oldest", "middle"],
)
def test_a_service_that_ignores_the_page_number_is_asked_a_few_times(
    bounds: Bounds, read_ahead: int, reading: ListOrder
) -> None:
    live = DeafList(newest_first(50), page_size=20)

    trip = drive(live, bounds, read_ahead=read_ahead, reading=reading)

    assert set(trip.seen) == set(live.rows[:20])
    assert len(trip.requests) <= 8


@pytest.mark.parametrize("read_ahead", [1, 5])
@pytest.mark.parametrize("seed", range(10))
def test_a_list_in_another_order_is_read_whole_with_a_warning(
    seed: int, read_ahead: int, caplog: pytest.LogCaptureFixture
) -> None:
    rows = newest_first(200, apart=600)
    Random(seed).shuffle(rows)
    live = LiveList(rows, page_size=10)

    trip = drive(live, Bounds(start=NOW - 20 * HOUR, end=NOW - 10 * HOUR), read_ahead=read_ahead)

    assert set(trip.seen) == set(rows)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert re.fullmatch(
        r"things: a row is \d+ s out of its place. Read the window with a margin of \d+ s.", caplog.messages[0]
    )


@pytest.mark.parametrize("apart", [600, 2])
def test_a_list_with_its_oldest_row_first_is_read_whole(apart: int) -> None:
    for bounds in (Bounds(start=NOW - HOUR), Bounds(start=NOW - HOUR, end=NOW), Bounds(end=NOW - 9 * HOUR)):
        live = LiveList(reversed(newest_first(3_000, apart=apart)), page_size=20)
        assert within(live.rows, bounds) <= set(drive(live, bounds).seen), bounds


@pytest.mark.parametrize("read_ahead", [1, 5])
def test_pages_out_of_order_are_noticed_though_each_is_in_order(
    read_ahead: int, caplog: pytest.LogCaptureFixture
) -> None:
    rows = newest_first(200, apart=600)
    pages = [rows[first : first + 10] for first in range(0, 200, 10)]
    live = LiveList([row for number in (0, 3, 1, 2, *range(4, 20)) for row in pages[number]], page_size=10)

    trip = drive(live, bounds := Bounds(start=pages[3][-1].time), read_ahead=read_ahead)

    assert within(rows, bounds) <= set(trip.seen)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("read_ahead", [1, 5])
def test_an_old_row_among_newer_ones_does_not_end_the_walk(read_ahead: int) -> None:
    bounds = Bounds(start=NOW - 60 * 100)
    for place in range(60):
        rows = newest_first(200)
        rows.insert(place, Row(999, NOW - 30 * HOUR))
        trip = drive(LiveList(rows, page_size=10), bounds, read_ahead=read_ahead)
        assert within(rows, bounds) <= set(trip.seen), f"old row at {place}"


def test_a_burst_is_not_taken_for_disorder(caplog: pytest.LogCaptureFixture) -> None:
    for before in range(1, 12):
        live = LiveList(newest_first(400), 10, scripted({before: lambda live: live.arrive(25)}))
        wanted = within(live.rows, bounds := Bounds(start=NOW - 60 * 120))
        assert wanted <= set(drive(live, bounds).seen)
        assert not caplog.records, f"a burst after {before} pages"


def test_a_burst_over_pages_that_were_skipped_costs_pages_at_the_most() -> None:
    # Rows that nobody saw come up from below: that looks like disorder, and the whole list is read.
    for before in range(1, 12):
        live = LiveList(newest_first(400), 10, scripted({before: lambda live: live.arrive(25)}))
        wanted = within(live.rows, bounds := Bounds(start=NOW - 60 * 120, end=NOW - 60 * 100))
        assert wanted <= set(drive(live, bounds).seen), f"a burst after {before} pages"


class RepeatingList(LiveList):
    """A service that repeats its last page beyond the end."""

    def page(self, number: int) -> Sequence[Row]:
        return super().page(min(number, self.pages))


class RoundList(LiveList):
    """A service that begins again at its head beyond the end."""

    def page(self, number: int) -> Sequence[Row]:
        return super().page((number - 1) % self.pages + 1)


@pytest.mark.parametrize("service", [RepeatingList, RoundList])
@pytest.mark.parametrize("read_ahead", [1, 2, 8])
@pytest.mark.parametrize(
    "bounds",
    [Bounds(), Bounds(start=NOW - 9 * HOUR), Bounds(end=NOW - 9 * HOUR), Bounds(start=NOW - 10 * HOUR, end=NOW - HOUR)],
    ids=["all", "newest", "oldest", "middle"],
)
def test_a_service_without_a_last_page_is_read_to_its_end(
    bounds: Bounds, read_ahead: int, service: type[LiveList]
) -> None:
    for growing in (0, 7):
        live = service(
            newest_first(110), 5, scripted({before: lambda live: live.arrive(1) for before in range(growing)})
        )
        wanted = within(live.rows, bounds)
        trip = drive(live, bounds, read_ahead=read_ahead)
        assert wanted <= set(trip.seen)
        assert trip.fetches <= 3 * 24 * 9 / 8 + 20


@pytest.mark.parametrize("service", [RepeatingList, RoundList])
@pytest.mark.parametrize("rows", [110, 1_100])
def test_a_service_without_a_last_page_is_given_up_while_its_list_grows(service: type[LiveList], rows: int) -> None:
    live = service(newest_first(rows), 5, lambda live: live.arrive(5))

    with pytest.raises(UnsteadyListError, match=r"repeats its pages|begins again"):
        drive(live, read_ahead=8)

    assert len(live.served) <= SPARE_PAGES + PAGES_PER_FIND * (rows // 5 + 1)


def test_one_row_out_of_its_place_costs_a_margin(caplog: pytest.LogCaptureFixture) -> None:
    bounds = Bounds(start=NOW - 400)
    ordered = newest_first(20_000, apart=1)
    usual = drive(LiveList(ordered, 20), bounds).fetches
    for late in (-90, 90):
        for place in (3, 30, 200, 439, 440):
            caplog.clear()
            rows = ordered.copy()
            rows[place] = row = Row(rows[place].id, (rows[place].time or 0) + late)
            trip = drive(LiveList(rows, 20), bounds)
            assert within(rows, bounds) <= set(trip.seen), row
            assert trip.fetches <= usual + (180 + 90) / 20 + 2, row
            assert len(caplog.messages) <= 1
            assert all(re.match(r"things: a row is (8|9|10)\d s out of its place", said) for said in caplog.messages)
            assert caplog.messages or place == 440


def test_a_row_out_of_its_place_near_the_end_of_the_window_is_found_further_up() -> None:
    for place in range(55, 100):
        rows = newest_first(4_000, apart=2)
        out_of_place = Row(9_999, NOW - 2 * 130)
        rows.insert(place, out_of_place)
        rows.insert(140, Row(9_998, (rows[140].time or 0) + 200))  # reveals the disorder
        bounds = Bounds(start=NOW - 2 * 400, end=NOW - 2 * 129)
        assert within(rows, bounds) <= set(drive(LiveList(rows, 20), bounds).seen), place


def test_rows_that_came_late_do_not_end_a_tick(caplog: pytest.LogCaptureFixture) -> None:
    rows = newest_first(4_000, apart=4)
    late = [Row(5_000 + number, NOW - 1_800) for number in range(45, 0, -1)]
    bounds = Bounds(start=NOW - 900, known_key=3_700)

    trip = drive(LiveList([*late, *rows], page_size=20), bounds)

    assert within(rows, bounds) | set(late) <= set(trip.seen)
    margin = 2 * 1_800
    assert trip.fetches <= (45 + (900 + margin) / 4) / 20 * 1.25 + 4
    assert ["out of its place" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize("known_key", [None, 1_980])
def test_a_tick_with_nothing_new_makes_two_requests(known_key: int | None) -> None:
    trip = drive(LiveList(newest_first(2_000), page_size=20), Bounds(start=NOW - 600, known_key=known_key))

    assert trip.requests == [PageRequest((1,)), PageRequest((2,))]


def test_a_tick_goes_on_to_the_keys_that_earlier_loads_covered() -> None:
    trip = drive(LiveList(newest_first(2_000), page_size=20), Bounds(start=NOW - 600, known_key=1_950))

    assert trip.requests == [PageRequest((1,)), PageRequest((2,)), PageRequest((3,)), PageRequest((4,))]


# -- times ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read_ahead", [1, 5])
@pytest.mark.parametrize(
    "bounds",
    [Bounds(), Bounds(start=NOW - 60 * 50), Bounds(start=NOW - 60 * 60, end=NOW - 60 * 30), Bounds(end=NOW - 60 * 40)],
    ids=["all", "newest", "middle", "oldest"],
)
def test_implausible_times_steer_nothing(bounds: Bounds, read_ahead: int, caplog: pytest.LogCaptureFixture) -> None:
    for first in range(80):
        for count in (1, 4, 9):
            rows = newest_first(80)
            rows[first : first + count] = [row._replace(time=None) for row in rows[first : first + count]]
            live = LiveList(rows, page_size=4)
            trip = drive(live, bounds, read_ahead=read_ahead)
            assert within(rows, bounds) <= set(trip.seen), f"{count} without a time from {first} on"
    assert not caplog.records


def test_a_list_without_any_plausible_time_is_read_whole() -> None:
    rows = [row._replace(time=None) for row in newest_first(50)]

    trip = drive(LiveList(rows, page_size=4), Bounds(start=NOW, end=NOW + HOUR))

    assert set(trip.seen) == set(rows)


@pytest.mark.parametrize("read_ahead", [1, 5])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_rows_of_one_second_belong_together_across_pages(size: int, read_ahead: int) -> None:
    times = [NOW] * 5 + [NOW - 600] * 15 + [NOW - 601] * 6 + [NOW - 1_200] * 9
    rows = [Row(len(times) - place, time) for place, time in enumerate(times)]
    for start, end in ((-600, -599), (-601, -600), (-1_200, -600), (-600, 1), (-601, -599)):
        bounds = Bounds(start=NOW + start, end=NOW + end)
        trip = drive(LiveList(rows, size), bounds, read_ahead=read_ahead)
        assert within(rows, bounds) <= set(trip.seen), bounds


def test_an_unordered_list_is_read_page_by_page() -> None:
    rows = newest_first(35)
    Random(1).shuffle(rows)

    trip = drive(LiveList(rows, page_size=10), Bounds(start=NOW), read_ahead=8, reading=UNORDERED)

    assert trip.seen == rows
    assert trip.requests == [
        *(PageRequest((number,)) for number in (1, 2, 3, 4, 5, 6)),
        PageRequest((), proof=4, pause=PAUSE),
        PageRequest((5,)),
    ]
