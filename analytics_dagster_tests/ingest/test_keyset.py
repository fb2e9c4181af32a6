"""Reading by keys, against a list in memory: no row is lost, none handed on twice, and few requests are needed."""

from random import Random

import pytest

from analytics_dagster.ingest.keyset import NotObeyedError
from analytics_dagster.ingest.lists import PAUSE, Bounds, UnsteadyListError
from analytics_dagster_tests.support.keyed_list import KeyedList, Row, build_rows, read

pytestmark = pytest.mark.full_pauses

HOUR = 3_600


def within(rows: list[Row], bounds: Bounds) -> set[Row]:
    """Return the rows of a window, and those with new keys."""
    start, end, known = bounds.start, bounds.end, bounds.known_key
    return {
        (key, time)
        for key, time in rows
        if (end is None or time < end) and (start is None or time >= start or (known is not None and key > known))
    }


# -- what it takes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("latency", "requests", "seconds"), [(0.1, 140, 2.5), (0.005, 125, 1.2)])
def test_a_long_list_is_read_side_by_side_in_few_large_replies(latency: float, requests: int, seconds: float) -> None:
    keyed = KeyedList(build_rows(100_000))

    reading = read(keyed, latency=latency)

    assert sorted(reading.rows, reverse=True) == keyed.rows
    assert reading.plan.ended
    assert len(keyed.requests) <= requests
    assert reading.seconds < seconds


def test_the_first_request_is_the_configured_one_and_the_second_comes_alone() -> None:
    keyed = KeyedList(build_rows(5_000))
    read(keyed)
    assert (keyed.requests[0].below, keyed.requests[0].limit) == (None, 20)
    assert keyed.requests[1].below not in {key for key, _ in keyed.rows}


@pytest.mark.parametrize(("spread", "requests"), [("even", 8), ("bursts", 25)])
def test_a_window_deep_in_the_list_is_found_by_interpolation(spread: str, requests: int) -> None:
    rows = build_rows(30_000, spacing=3, bursts=spread == "bursts")
    end = rows[20_000][1]
    bounds = Bounds(start=end - HOUR, end=end)
    keyed = KeyedList(list(rows))

    reading = read(keyed, bounds)

    assert within(rows, bounds) <= set(reading.rows)
    assert len(keyed.requests) <= requests


def test_a_window_that_ends_in_a_gap_of_the_keys_is_found_without_asking_twice() -> None:
    rows = build_rows(8_000, spacing=3)
    newer = [(key + 4_000_000_000, time + 900) for key, time in rows[:6_000]]
    end = newer[-1][1] - 300
    bounds = Bounds(start=end - HOUR, end=end)
    keyed = KeyedList([*newer, *rows[6_000:]])

    reading = read(keyed, bounds)

    assert within(keyed.rows, bounds) <= set(reading.rows)
    assert len({request.below for request in keyed.requests}) == len(keyed.requests) <= 20


def test_a_tick_with_nothing_new_takes_two_requests() -> None:
    rows = build_rows(5_000)
    keyed = KeyedList(list(rows))
    bounds = Bounds(start=rows[0][1] - 600, known_key=rows[0][0])

    reading = read(keyed, bounds)

    assert within(rows, bounds) <= set(reading.rows)
    assert len(keyed.requests) <= 2
    assert len(reading.rows) < 200


def test_a_fixed_limit_does_not_grow() -> None:
    keyed = KeyedList(build_rows(2_000))
    assert len(read(keyed, grows=False).rows) == 2_000
    assert {request.limit for request in keyed.requests} == {20}


def test_a_limit_that_is_cut_is_no_end() -> None:
    keyed = KeyedList(build_rows(5_000), largest_limit=100)
    assert len(read(keyed).rows) == 5_000


@pytest.mark.parametrize("count", [1, 2, 7, 19, 20, 21, 25])
def test_a_short_list_ends_after_two_looks_with_a_pause_between(count: int) -> None:
    keyed = KeyedList(build_rows(count))

    reading = read(keyed)

    assert sorted(reading.rows, reverse=True) == keyed.rows
    assert reading.plan.ended
    assert reading.seconds >= PAUSE
    assert len(keyed.requests) <= 6


# -- what is proven ---------------------------------------------------------------------------------------------


def test_an_empty_list_is_looked_at_twice() -> None:
    keyed = KeyedList([])
    reading = read(keyed)
    assert reading.plan.empty
    assert (len(keyed.requests), reading.seconds >= PAUSE) == (2, True)


@pytest.mark.parametrize("begins", [0.0, 0.15, 0.25, 0.6, 1.0])
def test_a_moment_in_which_everything_is_empty_loses_no_row(begins: float) -> None:
    keyed = KeyedList(build_rows(14_400), is_down=lambda now: begins <= now < begins + 0.95)
    reading = read(keyed)
    assert sorted(reading.rows, reverse=True) == keyed.rows
    assert not reading.plan.empty


def test_a_list_that_stays_empty_in_the_middle_fails() -> None:
    keyed = KeyedList(build_rows(14_400), is_down=lambda now: now > 0.5)
    with pytest.raises(UnsteadyListError):
        read(keyed)


def test_new_rows_with_old_times_at_the_head_do_not_stop_a_tick() -> None:
    rows = build_rows(5_000)
    known = rows[300][0]
    head = rows[0][0]
    late = [(head + 45 - place, rows[0][1] - 1_800) for place in range(45)]
    keyed = KeyedList([*late, *rows])
    bounds = Bounds(start=rows[300][1] - 600, known_key=known)

    reading = read(keyed, bounds)

    assert within(keyed.rows, bounds) <= set(reading.rows)


@pytest.mark.parametrize("place", [5, 150, 299])
@pytest.mark.parametrize("seconds", [-90, 90, -7_200, 7_200])
def test_a_row_out_of_its_place_costs_the_window_and_a_margin(place: int, seconds: int) -> None:
    rows = build_rows(40_000)
    rows[place] = (rows[place][0], rows[place][1] + seconds)
    keyed = KeyedList(list(rows))
    bounds = Bounds(start=rows[300][1], known_key=rows[310][0])

    reading = read(keyed, bounds)

    assert within(rows, bounds) <= set(reading.rows)
    assert len(keyed.requests) <= 4
    assert reading.plan.keys.disorder >= abs(seconds) - 20


def test_deletions_and_arrivals_while_reading_hide_no_row() -> None:
    chance = Random(3)
    rows = build_rows(14_400)
    stay = set(rows)

    def live(keyed: KeyedList) -> None:
        keyed.arrive(10)
        for _ in range(5):
            stay.discard(keyed.rows.pop(chance.randrange(len(keyed.rows))))

    reading = read(KeyedList(list(rows), happen=live))

    assert stay <= set(reading.rows)


def test_a_service_that_ignores_keys_is_noticed_at_the_first_one() -> None:
    keyed = KeyedList(build_rows(500), last_id="ignored")
    with pytest.raises(NotObeyedError):
        read(keyed)
    assert len(keyed.requests) == 2


def test_a_service_that_honours_keys_on_some_requests_only_is_noticed() -> None:
    with pytest.raises(NotObeyedError):
        read(KeyedList(build_rows(50_000), last_id="sometimes"))


def test_a_service_that_knows_keys_of_rows_only_is_read_in_one_chain() -> None:
    keyed = KeyedList(build_rows(5_000), last_id="seen ids only")
    reading = read(keyed)
    assert sorted(reading.rows, reverse=True) == keyed.rows
    assert reading.plan.seen_keys_only


def test_entries_without_a_key_are_handed_on_and_steer_nothing() -> None:
    rows: list = build_rows(100)
    keyed = KeyedList([(None, None), *rows])  # type: ignore[list-item]
    keyed.reply = (
        lambda request, _: (  # type: ignore[method-assign]
            keyed.rows[:20]
            if request.below is None
            else [row for row in rows if row[0] < request.below][: request.limit]
        )
    )
    assert read(keyed).rows.count((None, None)) == 1  # type: ignore[comparison-overlap]


# -- all of it at once ------------------------------------------------------------------------------------------


def read_at_random(seed: int) -> None:
    """Read a random list with a random window, while random things happen."""
    chance = Random(seed)
    count = chance.choice([0, 1, 5, 19, 20, 21, 60, 300, 2_000, 5_000])
    rows = build_rows(
        count,
        seed=seed,
        gap=chance.choice([1, 2, 50, 900]),
        spacing=chance.choice([0, 1, 9, 300]),
        bursts=chance.random() < 0.4,
    )
    bounds = Bounds()
    if rows and chance.random() < 0.7:
        start = chance.choice(rows)[1] - chance.choice([0, 60, HOUR])
        end = start + chance.choice([60, HOUR, 24 * HOUR]) if chance.random() < 0.6 else None
        known = max((key for key, time in rows if time < start + 600), default=None)
        bounds = Bounds(start=start, end=end, known_key=known if end is None and chance.random() < 0.5 else None)
    stay = set(rows)
    arrivals, deletions, down = chance.random() < 0.5, chance.random() < 0.4, chance.random() < 0.4
    down_from = chance.uniform(0, 1.5)

    def live(keyed: KeyedList) -> None:
        if arrivals and chance.random() < 0.3:
            keyed.arrive()
        if deletions and len(keyed.rows) > 50 and chance.random() < 0.2:
            stay.discard(keyed.rows.pop(chance.randrange(len(keyed.rows))))

    keyed = KeyedList(
        list(rows),
        largest_limit=chance.choice([5_000, 100]),
        last_id="obeyed" if down else chance.choice(["obeyed", "obeyed", "seen ids only"]),
        is_down=(lambda now: down_from < now < down_from + 0.95) if down else (lambda _: False),
        happen=live,
    )
    reading = read(
        keyed,
        bounds,
        limit=chance.choice([20, 20, 5, 100]),
        grows=chance.random() < 0.7,
        read_ahead=chance.choice([1, 3, 8]),
        latency=chance.choice([0.001, 0.1]),
        chance=chance,
    )

    assert len(reading.rows) == len(set(reading.rows)), seed
    assert within(list(stay), bounds) <= set(reading.rows), seed


@pytest.mark.parametrize("first", range(0, 600, 50))
def test_random_lists_lose_no_row(first: int) -> None:
    for seed in range(first, first + 50):
        read_at_random(seed)
