"""Lists of the service: their pages, their order, the wanted part of one and its end, for pagination and keysets.

How pages are chosen does not belong here: `pagination.py` chooses them by number, `keyset.py` by key.
"""

from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

DISORDER_SECONDS = 60
"""Seconds by which rows of a list may be out of order; the service shows a few. More of them widen the margins."""

PAUSE = 1.0
"""Seconds after which an answer that would end a list is asked for again."""


class UnsteadyListError(Exception):
    """The pages of a list contradict each other, so that its end cannot be told. The message is a clause."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a list.

    Attributes:
        number: Number of the page, from 1.
        rows: Raw rows.
        envelope: The reply's `result` around them.
        read_at: When the request was sent, UTC.
    """

    number: int
    rows: list[Any]
    envelope: Any
    read_at: datetime


@dataclass(frozen=True)
class PageRequest:
    """Pages to fetch together.

    Attributes:
        wanted: Numbers of the pages whose rows are wanted.
        proof: Number of a page to fetch as well, first, to see if its rows moved; None for no page. Its rows are not
            wanted.
        pause: Seconds to wait before the request.
    """

    wanted: tuple[int, ...]
    proof: int | None = None
    pause: float = 0.0

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of all pages to fetch."""
        return self.wanted if self.proof is None else (self.proof, *self.wanted)


@dataclass(frozen=True)
class ListEnd:
    """The proven end of a list, above the window's start if it has one.

    Attributes:
        oldest: Time of the oldest row of its last page, in epoch seconds; None if the list is empty.
        empty: Whether it has no rows.
    """

    oldest: int | None = None
    empty: bool = False


PageRequests = Generator[PageRequest, Sequence[Page], ListEnd | None]
"""A generator of requests; it is sent their pages in the order of `PageRequest.numbers`.

It returns the end of the list, or None if the window begins below the list's end, or the rows have no times.
"""


@dataclass(frozen=True, kw_only=True)
class ListOrder:
    """The order of a list.

    Attributes:
        key: Returns the key of a raw row, a tuple; None if the value is not a row.
        time: Returns the time of a raw row by which the list is ordered, in epoch seconds; None if it is implausible,
            so that it does not influence the choice of pages.
        ordered: Whether the list is ordered by that time. An unordered list is read page by page.
    """

    key: Callable[[Any], Hashable]
    time: Callable[[Any], int | None]
    ordered: bool


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The wanted part of a list.

    Attributes:
        start: First time, in epoch seconds of the list's order; None for no bound.
        end: First time that is no longer wanted; None for no bound.
        known_key: Largest key that earlier loads covered, if keys grow with time: rows with larger keys are wanted too.
    """

    start: int | None = None
    end: int | None = None
    known_key: int | None = None
