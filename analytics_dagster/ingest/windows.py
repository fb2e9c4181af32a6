"""Windows of a cursor, and the coverage of loaded windows. Pure functions: no clock, no warehouse.

A partition of Dagster is a window here: https://docs.dagster.io/guides/build/partitions-and-backfills

    window = Window(start=midnight, end=midnight + timedelta(days=1))
    through = loaded_through(load_state.windows(resource), start=window.start)
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)


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


def gaps(windows: Iterable[Window], within: Window) -> Iterator[Window]:
    """Yield the parts of `within` that no window covers, oldest first. `within` must have a start."""
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
        windows: Loaded windows, in any order, overlapping or not.
        start: Start of the coverage, UTC.
    """
    first_gap = next(gaps(windows, Window(start=start, end=_END)))
    assert first_gap.start is not None
    return first_gap.start
