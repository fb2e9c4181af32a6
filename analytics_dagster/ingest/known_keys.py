"""Keys of a list, as far as replies showed them: their density, their order in time, and the window's bounds as keys.

Pure. `keyset.py` chooses requests by them.

    keys = KnownKeys(bounds, run=20)
    keys.learn([(300, 1_760_000_300), (200, 1_760_000_200)])  # key and time, largest key first
    keys.estimate(1_760_000_250)
"""

from collections.abc import Sequence

from analytics_dagster.ingest.lists import DISORDER_SECONDS, Bounds

NO_KEY = 2**63 - 1
"""Above every key."""

_MOST_ANCHORS = 64


class KnownKeys:
    """Keys and times of rows that were read.

    Args:
        bounds: The window, and the largest key that earlier loads covered.
        run: Rows in a row that must be older, or newer, than a bound: single rows may be out of their place.

    Attributes:
        per_row: Keys from one row to the next.
        highest: Largest key.
        low: Rows at or below this key are older than the window; None if no such key is known.
        high: Rows at or above this key are newer than the window.
        nearest_newer: Nearest known row, key and time, that is newer than the window; None if there is none.
        nearest_older: Key of the nearest known row that is not; 0 if there is none.
        oldest: Time of the oldest row; None if there was none.
        disorder: Seconds by which rows were out of the order of their keys.
    """

    def __init__(self, bounds: Bounds, run: int) -> None:
        self.per_row = 1.0
        self.highest = 0
        self.low: int | None = None
        self.high = NO_KEY
        self.nearest_newer: tuple[int, int] | None = None
        self.nearest_older = 0
        self.oldest: int | None = None
        self.disorder = 0
        self._bounds = bounds
        self._run = run
        self._anchors: list[tuple[int, int]] = []
        """Some rows, key and time, oldest first."""

    def learn(self, rows: Sequence[tuple[int, int | None]]) -> None:
        """Learn from the rows of a reply: key and time, largest key first."""
        if len(rows) > 1:
            self.per_row = max(1.0, (rows[0][0] - rows[-1][0]) / (len(rows) - 1))
        self.highest = max(self.highest, rows[0][0])
        timed = [(key, time) for key, time in rows if time is not None]
        if timed:
            self._learn_times(timed)
        if len(rows) >= self._run:
            self._find_low(rows)
            self._find_high(rows)

    def estimate(self, time: int) -> int:
        """Return the likely key of a time: between the nearest known rows, or beyond the oldest one."""
        older = [anchor for anchor in self._anchors if anchor[1] <= time]
        newer = [anchor for anchor in self._anchors if anchor[1] > time]
        if not newer:
            return self.highest
        high = newer[0]
        if older:
            low = older[-1]
            return int(low[0] + (time - low[1]) / max(1, high[1] - low[1]) * (high[0] - low[0]))
        last = self._anchors[-1]
        slope = max(1.0, (last[0] - high[0]) / max(1, last[1] - high[1]))
        return max(1, int(high[0] - (high[1] - time) * slope))

    def _learn_times(self, rows: Sequence[tuple[int, int]]) -> None:
        least = rows[0][1]
        for _, time in rows:
            self.disorder = max(self.disorder, time - least)
            least = min(least, time)
        self.oldest = least if self.oldest is None else min(self.oldest, least)
        self._anchors = sorted([*self._anchors, rows[0], rows[-1]], key=lambda anchor: anchor[1])
        if len(self._anchors) > _MOST_ANCHORS:
            self._anchors = [self._anchors[0], *self._anchors[1:-1:2], self._anchors[-1]]

    def _find_low(self, rows: Sequence[tuple[int, int | None]]) -> None:
        """Find the largest key at which a run of rows is older than the window, and not new."""
        start, known = self._bounds.start, self._bounds.known_key
        if start is None:
            return
        older = [time is not None and time < start - DISORDER_SECONDS for _, time in rows]
        for place in range(len(rows) - self._run + 1):
            key = rows[place][0]
            if all(older[place : place + self._run]) and (known is None or key <= known):
                self.low = key if self.low is None else max(self.low, key)
                return

    def _find_high(self, rows: Sequence[tuple[int, int | None]]) -> None:
        """Find the smallest key at which a run of rows is newer than the window, and the nearest rows that are not."""
        end = self._bounds.end
        if end is None:
            return
        newer = [time is not None and time >= end + DISORDER_SECONDS for _, time in rows]
        for place in range(len(rows), self._run - 1, -1):
            key, time = rows[place - 1]
            if all(newer[place - self._run : place]) and time is not None and key < self.high:
                self.high, self.nearest_newer = key, (key, time)
                break
        if not all(newer) and rows[0][0] < self.high:
            self.nearest_older = max(self.nearest_older, rows[newer.index(False)][0])
