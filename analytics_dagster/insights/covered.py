"""Times whose occurrences are loaded, from the recorded windows of one project. Pure.

    covered = Covered(windows.valid)
    if covered.contains(finish - timedelta(hours=2), finish):
        ...

`ingest/windows.py` finds the gaps of one span; this answers for thousands of spans after sorting the windows once.
"""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime

from analytics_dagster.ingest.windows import BEGINNING, Window


class Covered:
    """The covered spans of a resource and a project.

    Args:
        windows: Loaded windows, in any order, overlapping or not.
    """

    def __init__(self, windows: Iterable[Window]) -> None:
        self._starts: list[datetime] = []
        self._ends: list[datetime] = []
        for start, end in sorted((window.start or BEGINNING, window.end) for window in windows):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            else:
                self._starts.append(start)
                self._ends.append(end)

    @property
    def end(self) -> datetime:
        """The end of the last covered span; the beginning of time if nothing is covered."""
        return self._ends[-1] if self._ends else BEGINNING

    def through(self, moment: datetime) -> datetime:
        """Return the end of the span that covers a moment; the moment itself if none does."""
        position = bisect_right(self._starts, moment) - 1
        return max(self._ends[position], moment) if position >= 0 else moment

    def contains(self, start: datetime, end: datetime) -> bool:
        """Return whether a span is wholly covered."""
        return self.through(start) >= end
