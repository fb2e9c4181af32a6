"""Pages that were seen: what two readings of a page, or a page and one above it, tell of rows that moved. Pure.

`pagination.py` decides what to do about it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

LEAPT_PAGES = 8
"""A page that is seen again this many pages deeper was not pushed there: the service repeats it."""

Identity = tuple[Hashable, int | None]
"""A version of a row: its key and its time. A row that moved to the head is another version."""


@dataclass(frozen=True, eq=False)
class SeenPage:
    """The keys and times of a page that was read.

    Attributes:
        new: Whether it showed a row that no remembered page showed.
        arrived: Whether each such row is newer than the first page, so that it may have arrived since the walk began.
    """

    number: int
    entries: tuple[Identity, ...]
    new: bool
    arrived: bool

    @cached_property
    def identities(self) -> frozenset[Identity]:
        """Versions of its rows."""
        return frozenset(entry for entry in self.entries if entry[0] is not None)

    @cached_property
    def times(self) -> tuple[int, ...]:
        """Plausible times of its rows, in order."""
        return tuple(time for _, time in self.entries if time is not None)

    @property
    def empty(self) -> bool:
        """Whether it has no entries."""
        return not self.entries

    @property
    def largest_key(self) -> int | None:
        """The largest key that is a single integer."""
        keys = (key for key, _ in self.identities if isinstance(key, tuple))
        return max((key[0] for key in keys if len(key) == 1 and type(key[0]) is int), default=None)

    def wholly_newer(self, end: int, margin: int) -> bool:
        """Return whether all its times are at least a margin after `end`."""
        return bool(self.times) and min(self.times) >= end + margin

    def wholly_older(self, start: int, margin: int) -> bool:
        """Return whether all its times are more than a margin before `start`."""
        return bool(self.times) and max(self.times) < start - margin

    def disorder(self) -> int:
        """Return the most seconds by which a row is newer than one before it on the page."""
        return max(
            (time - least for time, least in zip(self.times, accumulate(self.times, min), strict=True)), default=0
        )


class Batch(NamedTuple):
    """Pages that were fetched together, and the page with rows above them, which was fetched before."""

    anchor: SeenPage
    pages: list[SeenPage]


def moved(before: SeenPage, after: SeenPage) -> bool:
    """Return whether the rows below a page may have moved between two readings of it."""
    if before.entries == after.entries:
        return False
    stayed = len(before.entries) == len(after.entries) and before.entries[-1] == after.entries[-1]
    return not stayed or before.entries[-1][0] is None


def moved_up(before: SeenPage, after: SeenPage) -> bool:
    """Return whether rows from below a page moved into it: it ends with another row, and others are still there."""
    others = before.identities & after.identities
    return bool(others) and after.entries[-1][0] is not None and after.entries[-1] not in others


def deepest_reached(batch: Batch, again: Sequence[SeenPage]) -> SeenPage | None:
    """Return the deepest page above which no row is hidden; None if no page of a batch hides one.

    A page that was fetched again follows its upper neighbour without a gap, because it was served later and rows only
    moved down. Pages that share a row leave no gap.
    """
    reached = [batch.pages[0]]
    rows = set(reached[0].identities)
    others = [page for page in (*batch.pages[1:], *again) if not page.empty]
    while True:
        neighbours = {page.number + 1 for page in reached if page in batch.pages}
        found = [page for page in others if page.identities & rows or (page in again and page.number in neighbours)]
        if batch.pages[-1] in found:
            return None
        if not found:
            return max(reached, key=lambda page: page.number)
        others = [page for page in others if page not in found]
        reached += found
        rows = rows.union(*(page.identities for page in found))


def repeats_above(upper: SeenPage, lower: SeenPage) -> bool:
    """Return whether a page repeats one above it, as if the service ignored the page number."""
    leapt = lower.number - upper.number >= LEAPT_PAGES
    return lower.identities <= upper.identities or (leapt and not lower.new)


def shows_again(page: SeenPage, upper: SeenPage) -> bool:
    """Return whether a page above shows a row of a page that was read before it."""
    return bool(page.identities & upper.identities) if page.identities else page.entries == upper.entries != ()
