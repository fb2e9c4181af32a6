"""Windows of a cursor, and how far their coverage reaches without a gap."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pyarrow as pa
import pytest

from analytics_dagster.ingest.windows import Window, loaded_through


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
