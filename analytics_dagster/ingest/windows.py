"""Windows of a cursor, and how far the windows that were loaded reach. Pure: no clock, no warehouse."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

_BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A half-open span of a cursor: `start <= cursor < end`. Without a start it reaches to the oldest row.

    Attributes:
        start: First moment, in UTC; None for the beginning of the list.
        end: First moment that is no longer in it, in UTC.
    """

    start: datetime | None
    end: datetime

    def __post_init__(self) -> None:
        if self.start is not None and self.start >= self.end:
            raise ValueError(f"A window ends ({self.end}) after it starts ({self.start}).")

    def looking_back(self, lookback: timedelta) -> "Window":
        """Return the window with its start moved back."""
        return Window(start=self.start and self.start - lookback, end=self.end)

    def mask(self, cursor: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return, for each timestamp, whether it lies in the window."""
        inside = pc.less(cursor, pa.scalar(self.end, cursor.type))
        if self.start is None:
            return inside
        return pc.and_(inside, pc.greater_equal(cursor, pa.scalar(self.start, cursor.type)))


def gaps(windows: Iterable[Window], within: Window) -> Iterator[Window]:
    """Yield what no window covers of a span that has a start, oldest first."""
    assert within.start is not None
    through = within.start
    for window in sorted(windows, key=lambda window: window.start or _BEGINNING):
        if window.start is not None and through < window.start:
            yield Window(start=through, end=min(window.start, within.end))
        through = max(through, window.end)
        if through >= within.end:
            return
    yield Window(start=through, end=within.end)


def loaded_through(windows: Iterable[Window], start: datetime) -> datetime:
    """Return the end of the gap-free coverage from `start`; `start` itself if nothing covers it.

    Args:
        windows: Windows that were loaded, in any order, overlapping or not.
        start: From when on coverage is asked for.
    """
    through = start
    for window in sorted(windows, key=lambda window: window.start or _BEGINNING):
        if window.start is not None and window.start > through:
            break
        through = max(through, window.end)
    return through
