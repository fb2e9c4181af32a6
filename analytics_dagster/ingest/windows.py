"""Windows of a cursor, and the coverage of loaded windows. Pure functions: no clock, no warehouse.

A partition of Dagster is a window here: https://docs.dagster.io/guides/build/partitions-and-backfills

    window = Window(start=midnight, end=midnight + timedelta(days=1))
    through = loaded_through(windows.valid, start=window.start)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa
import pyarrow.compute as pc

BEGINNING = datetime.min.replace(tzinfo=UTC)
"""A time before every other."""

END = datetime.max.replace(tzinfo=UTC)
"""A time after every other."""

CLOCK_TOLERANCE = timedelta(minutes=1)
"""Difference of two clocks that is tolerated: a larger one is reported, or makes a recorded window invalid."""


def midnight(day: date) -> datetime:
    """Return the time at which a day begins, UTC."""
    return datetime.combine(day, time(), UTC)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A half-open span of a cursor: `start <= cursor < end`. Without a start it reaches to the oldest row.

    Attributes:
        start: First moment inside, UTC; None for the oldest row.
        end: First moment after it, UTC.
    """

    start: datetime | None
    end: datetime

    def __post_init__(self) -> None:
        if self.start is not None and self.start >= self.end:
            raise ValueError(f"A window must end after it starts: start {self.start}, end {self.end}.")

    def looking_back(self, lookback: timedelta) -> "Window":
        """Return the window with its start moved back."""
        return Window(start=self.start and self.start - lookback, end=self.end)

    def mask(self, cursor: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return a boolean for each timestamp: whether it lies in the window."""
        inside = pc.less(cursor, pa.scalar(self.end, cursor.type))
        if self.start is None:
            return inside
        return pc.and_(inside, pc.greater_equal(cursor, pa.scalar(self.start, cursor.type)))


@dataclass(frozen=True, kw_only=True)
class LoadedWindow(Window):
    """A window that was loaded.

    Attributes:
        rows: Rows that the load read in the window.
        list_end: Time of the oldest row, UTC, if the service's list ended above the window's start; None otherwise.
        loaded_at: The time when its rows were in the table, UTC.
    """

    rows: int = 0
    list_end: datetime | None = None
    loaded_at: datetime


@dataclass(frozen=True, kw_only=True)
class LoadedWindows:
    """The recorded windows of a resource, in any order.

    Attributes:
        valid: Windows that count.
        future: Windows that do not count, because they end after now: the clock of an earlier load was ahead.
        void: Windows that do not count, because their rows are gone: the table has none.
    """

    valid: Sequence[LoadedWindow]
    future: Sequence[LoadedWindow] = ()
    void: Sequence[LoadedWindow] = ()


def validate_windows(windows: Iterable[LoadedWindow], *, now: datetime, has_rows: bool = True) -> LoadedWindows:
    """Separate the windows that do not count.

    Args:
        windows: The recorded windows of a resource.
        now: The time, UTC: no load can have covered the future.
        has_rows: Whether the table has rows of the windows' project. If not, and one of the windows had rows, all are
            void: they speak of rows that are gone.
    """
    valid: list[LoadedWindow] = []
    future: list[LoadedWindow] = []
    for window in windows:
        (future if window.end > now + CLOCK_TOLERANCE else valid).append(window)
    if not has_rows and any(window.rows for window in valid):
        return LoadedWindows(valid=(), future=future, void=valid)
    return LoadedWindows(valid=valid, future=future)


def gaps(windows: Iterable[Window], within: Window) -> Iterator[Window]:
    """Yield the parts of `within` that no window covers, oldest first. `within` must have a start."""
    assert within.start is not None
    through = within.start
    for window in sorted(windows, key=lambda window: window.start or BEGINNING):
        if window.start is not None and through < window.start:
            yield Window(start=through, end=min(window.start, within.end))
        through = max(through, window.end)
        if through >= within.end:
            return
    yield Window(start=through, end=within.end)


def loaded_through(windows: Iterable[Window], start: datetime) -> datetime:
    """Return the end of the gap-free coverage from `start`; `start` itself if nothing covers it.

    Args:
        windows: Loaded windows, in any order, overlapping or not.
        start: Start of the coverage, UTC.
    """
    first_gap = next(gaps(windows, Window(start=start, end=END)))
    assert first_gap.start is not None
    return first_gap.start


def listed_from(windows: Iterable[LoadedWindow], within: Window) -> datetime | None:
    """Return the time before which the service lists nothing, as far as the loads of a span tell.

    The newest load of a time tells: a later one that reaches below the end of a list, and meets no end, disproves it.

    Args:
        windows: Loaded windows, in any order.
        within: The span; it must have a start.

    Returns:
        The time; None if no list ended within the span.
    """
    assert within.start is not None
    oldest: datetime | None = None
    for window in sorted(windows, key=lambda window: window.loaded_at):
        if window.end <= within.start or (window.start or BEGINNING) >= within.end:
            continue
        if window.list_end is not None:
            oldest = window.list_end
        elif oldest is not None and window.start is not None and window.start < oldest:
            oldest = None
    return oldest if oldest is not None and oldest > within.start else None
