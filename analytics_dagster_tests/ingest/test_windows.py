"""Windows of a cursor, and how far their coverage reaches without a gap."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pyarrow as pa
import pytest

from analytics_dagster.ingest.windows import LoadedWindow, Window, listed_from, loaded_through, validate_windows


def day(number: int, hour: int = 0, second: int = 0) -> datetime:
    """A moment in a November; day 0 is the last of October."""
    return datetime(2026, 10, 31, hour, 0, second, tzinfo=UTC) + timedelta(days=number)


def covered(start: datetime | None, end: datetime) -> Window:
    return Window(start=start, end=end)


def some_hours(first: float, last: float) -> Window:
    return covered(day(1) + timedelta(hours=first), day(1) + timedelta(hours=last))


@pytest.mark.parametrize(
    ("windows", "start", "through"),
    [
        pytest.param([], day(1), day(1), id="nothing was loaded"),
        pytest.param([covered(day(1), day(2))], day(1), day(2), id="one window"),
        pytest.param([covered(day(2), day(3))], day(1), day(1), id="a gap before the first window"),
        pytest.param([covered(day(1), day(2)), covered(day(2), day(3))], day(1), day(3), id="windows that touch"),
        pytest.param(
            [covered(day(1), day(2)), covered(day(2, second=1), day(3))], day(1), day(2), id="a gap of one second"
        ),
        pytest.param([covered(day(1), day(3)), covered(day(2), day(4))], day(1), day(4), id="windows that overlap"),
        pytest.param([covered(day(1), day(9)), covered(day(2), day(3))], day(1), day(9), id="a window inside another"),
        pytest.param([covered(day(1), day(2)), covered(day(1), day(3))], day(1), day(3), id="the same start twice"),
        pytest.param([covered(day(1), day(2)), covered(day(1), day(2))], day(1), day(2), id="the same window twice"),
        pytest.param([covered(day(1), day(9))], day(4), day(9), id="a start inside a window"),
        pytest.param([covered(day(1), day(4))], day(4), day(4), id="a start at a window's end"),
        pytest.param([covered(day(1), day(2))], day(4), day(4), id="windows that ended before the start"),
        pytest.param(
            [covered(day(1), day(2)), covered(day(4), day(5))], day(4), day(5), id="a gap that lies before the start"
        ),
        pytest.param(
            [covered(day(1), day(2)), covered(day(3), day(4)), covered(day(4), day(5))],
            day(1),
            day(2),
            id="coverage beyond a gap does not count",
        ),
        pytest.param([covered(None, day(5))], day(1), day(5), id="everything up to a moment"),
        pytest.param([covered(None, day(5)), covered(day(5), day(6))], day(1), day(6), id="everything, and a day more"),
        pytest.param([covered(None, day(1))], day(4), day(4), id="everything up to before the start"),
        pytest.param([covered(None, day(2)), covered(None, day(3))], day(1), day(3), id="everything, twice"),
        pytest.param(
            [some_hours(0, 24), some_hours(24, 24.25), some_hours(24.25, 24.5)],
            day(1),
            day(2) + timedelta(minutes=30),
            id="a day that ends at midnight and quarters of an hour after it",
        ),
        pytest.param(
            [covered(day(1), day(2) - timedelta(microseconds=1)), covered(day(2), day(3))],
            day(1),
            day(2) - timedelta(microseconds=1),
            id="a load that began just before midnight leaves the rest of the day",
        ),
    ],
)
def test_coverage_reaches_to_its_first_gap(windows: list[Window], start: datetime, through: datetime) -> None:
    for in_any_order in permutations(windows):
        assert loaded_through(in_any_order, start) == through
        assert loaded_through(iter(in_any_order), start) == through


def test_a_window_must_not_end_before_or_when_it_starts() -> None:
    with pytest.raises(ValueError, match="A window must end"):
        Window(start=day(2), end=day(1))
    with pytest.raises(ValueError, match="A window must end"):
        Window(start=day(1), end=day(1))


def test_looking_back_moves_the_start_and_nothing_else() -> None:
    assert covered(day(2), day(3)).looking_back(timedelta(hours=6)) == covered(day(1, 18), day(3))
    assert covered(None, day(3)).looking_back(timedelta(hours=6)) == covered(None, day(3))
    assert covered(day(2), day(3)).looking_back(timedelta(0)) == covered(day(2), day(3))


@pytest.mark.parametrize(
    ("window", "inside"),
    [
        (covered(day(2), day(3)), [False, True, True, False, False]),
        (covered(None, day(3)), [True, True, True, False, False]),
    ],
    ids=["bounded", "open at its start"],
)
def test_a_window_holds_its_start_and_not_its_end(window: Window, inside: list[bool]) -> None:
    edge = timedelta(microseconds=1)
    moments = [day(2) - edge, day(2), day(3) - edge, day(3), day(4)]
    cursor = pa.chunked_array([pa.array(moments, pa.timestamp("us", tz="UTC"))])

    assert window.mask(cursor).to_pylist() == inside


def loaded(start: datetime | None, end: datetime, list_end: datetime | None = None, *, on: int = 9) -> LoadedWindow:
    """A window that was loaded on a day."""
    return LoadedWindow(start=start, end=end, list_end=list_end, loaded_at=day(on))


@pytest.mark.parametrize(
    ("seconds", "counts"), [(-1, True), (0, True), (60, True), (61, False), (20 * 3600, False)], ids=str
)
@pytest.mark.parametrize("start", [None, day(1)], ids=["open at its start", "bounded"])
def test_a_window_that_ends_in_the_future_does_not_count(start: datetime | None, seconds: int, *, counts: bool) -> None:
    past, other = loaded(day(1), day(2)), loaded(start, day(4) + timedelta(seconds=seconds))

    found = validate_windows([other, past], now=day(4))

    assert (list(found.valid), list(found.future)) == (([other, past], []) if counts else ([past], [other]))


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        pytest.param([], None, id="nothing was loaded"),
        pytest.param([loaded(day(1), day(9))], None, id="a list without an end"),
        pytest.param([loaded(day(1), day(9), day(4))], day(4), id="an end"),
        pytest.param([loaded(None, day(9), day(4))], day(4), id="an end of a load of all rows"),
        pytest.param([loaded(None, day(9), day(0))], None, id="an end before the span"),
        pytest.param([loaded(day(9), day(10), day(9, 4))], None, id="an end after the span"),
        pytest.param(
            [loaded(day(1), day(9), day(4), on=9), loaded(day(1), day(9), day(5), on=10)],
            day(5),
            id="the newest load's",
        ),
        pytest.param(
            [loaded(day(1), day(9), day(5), on=9), loaded(day(1), day(9), day(4), on=10)], day(4), id="a longer list"
        ),
        pytest.param(
            [loaded(day(1), day(9), day(4), on=9), loaded(day(2), day(9), on=10)], None, id="disproved by a later load"
        ),
        pytest.param(
            [loaded(day(1), day(9), day(4), on=9), loaded(day(4), day(9), on=10)],
            day(4),
            id="a later load of newer days disproves nothing",
        ),
        pytest.param(
            [loaded(day(1), day(9), day(4), on=9), loaded(None, day(9), on=10)],
            day(4),
            id="a later load of all rows reports no end",
        ),
    ],
)
def test_a_service_lists_nothing_before_the_end_that_the_newest_load_met(
    windows: list[LoadedWindow], expected: datetime | None
) -> None:
    for in_any_order in permutations(windows):
        assert listed_from(in_any_order, covered(day(1), day(8))) == expected
