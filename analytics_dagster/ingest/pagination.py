"""Pagination: chooses the pages of a numbered list that hold a window. Pure: no HTTP, no dlt, no clock.

`paginate` is a generator: it yields the numbers of the pages to read next, and is sent those pages. All pages of a
request may be fetched at the same time; the next request comes after its pages were sent. Lists are newest first,
numbered from 1, and alive: rows arrive at the head and push the others towards the end while they are read.

    requests = paginate(order, Bounds(start=start, end=end), read_ahead=8, name="deploys")
    request = next(requests)
    request = requests.send([fetch(number) for number in request.numbers])

Rows can be hidden by arrivals. If the deeper of two neighbouring pages is served first, a row that arrives in between
moves the last row of the upper page into the deeper one, which was served already, so no page shows that row. Pages
that are requested one after the other can only repeat rows. Therefore pages that were fetched together need a proof:
page 1 is read with every request, and if it is the same before and after, no row arrived. If it changed, the pages are
fetched again. A page that is fetched again is served after its upper neighbour; if it shares a row with its first
version, the two leave no gap. If it shares none, because the list grew by more than a page, the pages are read one by
one.

Rows can be hidden by deletions too: a deleted row moves the others up. Numbered pages cannot show that; the nightly
refresh reads the recent windows again.

A list ends at an empty page, or at one that repeats the page before it, only if a second look says the same.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

logger = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between two looks at the end of a list: services were seen that list nothing, with 200, for less."""

DISORDER_SECONDS = 60
"""Seconds by which rows of a list may be out of order; the service shows a few."""


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
        proof: Whether to fetch page 1 as well, first, to see if the list grew. Its rows are not wanted.
        pause: Seconds to wait before the request.
        look: Whether the pages are only looked at: none of their rows is wanted.
    """

    wanted: tuple[int, ...]
    proof: bool = False
    pause: float = 0.0
    look: bool = False

    @property
    def numbers(self) -> tuple[int, ...]:
        """Numbers of all pages to fetch."""
        return (1, *self.wanted) if self.proof else self.wanted


@dataclass(frozen=True)
class ListEnd:
    """The proven end of a list.

    Attributes:
        oldest: Time of its oldest row, in epoch seconds; None if no row has a time.
        empty: Whether it has no rows.
    """

    oldest: int | None = None
    empty: bool = False


PageRequests = Generator[PageRequest, Sequence[Page], ListEnd | None]
"""A generator of requests; it is sent their pages in the order of `PageRequest.numbers`, and returns the list's end."""


class UnsteadyListError(Exception):
    """The service lists no rows where it listed some before, again and again."""


@dataclass(frozen=True, kw_only=True)
class ListOrder:
    """The order of a list.

    Attributes:
        key: Returns the key of a raw row; None if the value is not a row.
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


ROWS_AHEAD = 4_000
"""Most rows of one request, whatever the page size: parsed rows take memory."""

_WRONG_GUESSES = 2
"""After this many guesses that left more than half of the pages, bisect: the rows are not evenly spread."""

_Identity = tuple[Hashable, int | None]
"""A version of a row: its key and its time. A row that moved to the head is another version."""

_MOST_LOOKS = 6
"""Looks at the end of a list while the service lists nothing at all."""

_ROWS_THAT_TELL = 20
"""Rows that are enough to tell a few that are out of their place from a list without order."""

_MOST_MARGINS = 4
"""Passes with a wider margin before a list is taken for unordered."""

_REMEMBERED_PAGES = 100
"""Pages whose rows are recognised when a burst of new rows pushes them deeper."""


@dataclass(frozen=True)
class _Seen:
    """The keys and times of a page that was read."""

    number: int
    entries: tuple[_Identity, ...]

    @cached_property
    def identities(self) -> frozenset[_Identity]:
        return frozenset(entry for entry in self.entries if entry[0] is not None)

    @cached_property
    def times(self) -> tuple[int, ...]:
        return tuple(time for _, time in self.entries if time is not None)

    @property
    def empty(self) -> bool:
        return not self.entries

    def wholly_newer(self, end: int) -> bool:
        return bool(self.times) and min(self.times) >= end

    def wholly_older(self, start: int) -> bool:
        return bool(self.times) and max(self.times) < start

    def wholly_known(self, key: int | None) -> bool:
        """Return whether earlier loads covered all rows of the page, where keys grow with time."""
        return key is None or all(entry[0] <= (key,) for entry in self.entries if isinstance(entry[0], tuple))

    def strays(self, margin: int) -> list[int]:
        """Return the seconds by which rows are out of their order on the page, for those beyond a margin.

        A row that is too new is newer than one before it; a row that is too old, older than one after it. The fewer of
        both are the strays.
        """
        newer = [time - least for time, least in zip(self.times, accumulate(self.times, min), strict=True)]
        latest = [*accumulate(reversed(self.times), max)][::-1]
        older = [most - time for time, most in zip(self.times, latest, strict=True)]
        found = ([seconds for seconds in differences if seconds > margin] for differences in (newer, older))
        return min(found, key=len)


def _guess(upper: _Seen, lower: _Seen, end: int) -> int:
    """Return the page between two that would be the last wholly newer than `end` if rows were evenly spread."""
    newer, older = min(upper.times), max(lower.times, default=None)
    if older is None or not older < newer:
        return (upper.number + lower.number) // 2
    share = (newer - end) / (newer - older)
    return min(max(upper.number + 1, upper.number + round(share * (lower.number - upper.number))), lower.number - 1)


class _OutOfOrderError(Exception):
    """Rows are out of their order by more than the margin, so neither seeking nor stopping is safe with that margin.

    Attributes:
        seconds: By how much; None if so many rows ascend that the list is not ordered at all, or if few rows were seen.
    """

    def __init__(self, message: str, strays: Sequence[int], times: Sequence[int]) -> None:
        super().__init__(f"{message} by {max(strays)} s")
        ascents = sum(later > earlier for earlier, later in pairwise(times))
        single = len(times) >= _ROWS_THAT_TELL and ascents <= len(times) // 10
        self.seconds = max(strays) if single else None


def single_page() -> PageRequests:
    """Yield the only page of a list without page numbers; once more after a pause, if it is empty."""
    (page,) = yield PageRequest((1,))
    if not page.rows:
        (page,) = yield PageRequest((1,), pause=PAUSE)
    return None if page.rows else ListEnd(empty=True)


def paginate(order: ListOrder, bounds: Bounds, *, read_ahead: int, name: str) -> PageRequests:
    """Yield the pages that hold the rows within `bounds`, and as few others as possible.

    Args:
        order: How the list is ordered.
        bounds: The wanted part of the list.
        read_ahead: Pages of one request, beside the proof of continuity.
        name: The list's name, for warnings.

    Yields:
        Requests of at most `read_ahead` pages and a proof.

    Returns:
        The end of the list, if it was met: at every end within the window.

    Raises:
        UnsteadyListError: The service lists nothing where it listed rows, again and again.
    """
    margin = DISORDER_SECONDS
    for _ in range(_MOST_MARGINS):
        try:
            return (yield from _Paginator(order, margin, read_ahead=read_ahead if order.ordered else 1).run(bounds))
        except _OutOfOrderError as disorder:
            if margin == DISORDER_SECONDS:
                logger.warning("%s: %s. Reading more of the list than the window.", name, disorder)
            if disorder.seconds is None:
                break
            margin = 2 * disorder.seconds
    return (yield from _Paginator(replace(order, ordered=False), margin, read_ahead=1).run(Bounds()))


class _Paginator:
    """The state of one pass over a list."""

    def __init__(self, order: ListOrder, margin: int, *, read_ahead: int) -> None:
        self._order = order
        self._margin = margin
        self._most = read_ahead
        self._head: _Seen | None = None
        """Page 1, as it was last read."""
        self._recent: deque[_Seen] = deque(maxlen=_REMEMBERED_PAGES)
        """Pages whose order was verified."""
        self._newest = 0
        """Newest time on any of them."""
        self._oldest: int | None = None
        """Oldest time on any page."""
        self._has_rows = False

    def run(self, bounds: Bounds) -> PageRequests:
        if not self._order.ordered:
            ended = yield from self._read(Bounds(), None)
        else:
            last = None if bounds.end is None else (yield from self._seek(bounds.end + self._margin))
            ended = yield from self._read(bounds, last)
        return ListEnd(self._oldest, empty=not self._has_rows) if ended else None

    # -- asking -------------------------------------------------------------------------------------------

    def _ask(
        self, *wanted: int, proof: bool = False, pause: float = 0.0, look: bool = False
    ) -> Generator[PageRequest, Sequence[Page], list[_Seen]]:
        """Fetch pages and return the wanted ones."""
        pages = yield PageRequest(wanted, proof, pause, look)
        seen = [self._remember(page) for page in pages]
        if seen[0].number == 1 and not look:
            self._head = seen[0]
        return seen[1:] if proof else seen

    def _remember(self, page: Page) -> _Seen:
        key, time = self._order.key, self._order.time
        seen = _Seen(page.number, tuple((key(row), time(row)) for row in page.rows))
        self._has_rows = self._has_rows or not seen.empty
        if seen.times:
            self._oldest = min(seen.times) if self._oldest is None else min(self._oldest, *seen.times)
        return seen

    # -- seeking ------------------------------------------------------------------------------------------

    def _seek(self, end: int) -> Generator[PageRequest, Sequence[Page], _Seen | None]:
        """Find the last page that is wholly newer than `end`, by galloping and bisecting.

        Returns page 1 if not even that is wholly newer, None if the list is empty. Rows that arrive meanwhile move
        the wanted ones deeper, never to an earlier page. The page after the returned one must be read again, even if
        it was read on the way: that was before the returned one.
        """
        upper: _Seen | None = None
        number = 1
        while True:
            head_before = self._head
            (lower,) = yield from self._ask(number)
            yield from self._verify_order(upper, lower, head_before)
            if not lower.wholly_newer(end) or (upper and lower.identities <= upper.identities):
                break  # the page repeats the one before: the service ignores the page number
            upper, number = lower, number * 2
        if upper is None:
            return None if lower.empty else lower
        wrong = 0
        while (distance := lower.number - upper.number) > 1:
            head_before = self._head
            number = _guess(upper, lower, end) if wrong < _WRONG_GUESSES else (upper.number + lower.number) // 2
            (middle,) = yield from self._ask(number)
            yield from self._verify_order(upper, middle, head_before)
            if middle.wholly_newer(end):
                upper = middle
            else:
                lower = middle
            wrong = wrong + 1 if lower.number - upper.number > distance // 2 else 0
        return upper

    # -- reading ------------------------------------------------------------------------------------------

    def _read(self, bounds: Bounds, last: _Seen | None) -> Generator[PageRequest, Sequence[Page], bool]:
        """Read pages in order from the one after `last` to the first that is wholly older than the window, and known.

        Returns whether the list ended before.
        """
        start = None if bounds.start is None else bounds.start - self._margin
        read = 0
        holes: set[int] = set()
        unproven: list[_Seen] = []
        head_before: _Seen | None = None
        head_at_last: _Seen | None = None
        """Page 1, as it was before the last page was requested."""
        ended = list_ended = False
        while True:
            first = last.number + 1 if last else 1
            size = self._size(read, last, start)
            read += size
            head_at_request = self._head
            pages = yield from self._ask(*range(first, first + size), proof=size > 1 or bool(unproven))
            if unproven and self._grew_since(head_before):
                yield from self._repair(unproven)
            unproven, head_before = (pages, head_at_request) if size > 1 else ([], None)
            for page in pages:
                if page.empty:
                    ended = list_ended = yield from self._ends_at(page, pages)
                    if not ended and page.number not in holes:
                        holes.add(page.number)
                        break  # request it again, then the pages after it
                yield from self._verify_order(last, page, head_at_request)
                # Not on page 1: only a second page shows that the list is newest first.
                older = start is not None and page.number > 1 and page.wholly_older(start)
                ended = ended or (older and page.wholly_known(bounds.known_key))
                if not ended and (yield from self._repeats(last, page, head_at_last)):
                    ended = list_ended = True
                if ended:
                    break
                last, head_at_last = page, head_at_request
            if not ended:
                continue
            if not unproven:
                return list_ended
            yield from self._ask(proof=True)
            if not self._grew_since(head_before):
                return list_ended
            yield from self._repair(unproven)
            deepest, unproven = unproven[-1], []
            if deepest.empty or (start is not None and deepest.wholly_older(start)):
                return list_ended
            # It was served after the page that ended the reading, when the list had grown: read on.
            last, head_at_last, ended, list_ended = deepest, None, False, False

    def _size(self, read: int, last: _Seen | None, start: int | None) -> int:
        """Return the number of pages to request next.

        At first as many as were read already, because most windows end on their second page; then no more than are
        likely to be left, and no more rows than `ROWS_AHEAD`.
        """
        size = min(max(1, read), self._most)
        if last is None or not last.entries:
            return size
        size = min(size, max(1, ROWS_AHEAD // len(last.entries)))
        if start is None or not last.times:
            return size
        oldest = min(last.times)
        left = (oldest - start) / max(1, max(last.times) - oldest)
        return min(size, 1 + max(0, math.ceil(left)))

    def _ends_at(self, empty: _Seen, pages: Sequence[_Seen] = ()) -> Generator[PageRequest, Sequence[Page], bool]:
        """Return whether the list ends at an empty page.

        It does if the page after it is empty too, and it is so after a pause, while page 1 has rows.
        """
        later = [page for page in pages if page.number > empty.number]
        if not later:
            later = yield from self._ask(empty.number + 1)
        if not all(page.empty for page in later):
            return False
        wanted = (1, empty.number) if empty.number > 1 else (1,)
        for _ in range(_MOST_LOOKS):
            again = yield from self._ask(*wanted, pause=PAUSE, look=True)
            if not again[-1].empty:
                return False
            if len(again) == 1 or not again[0].empty:
                return True
        raise UnsteadyListError

    def _repeats(
        self, last: _Seen | None, page: _Seen, head_before: _Seen | None
    ) -> Generator[PageRequest, Sequence[Page], bool]:
        """Return whether the service would send pages for ever: the first one again and again, or the last one.

        A page without a new row does not prove that: as many rows may have arrived since the page before it. Then page
        1 differs from `head_before`.
        """
        if page.empty or last is None or page.identities - last.identities:
            return False
        if not page.identities:
            return page.entries == last.entries  # no entry is a row, so only equality can be compared
        yield from self._ask(proof=True)
        if self._head is not None and page.identities <= self._head.identities:
            return True
        return not self._grew_since(head_before)

    def _verify_order(
        self, upper: _Seen | None, page: _Seen, head_before: _Seen | None
    ) -> Generator[PageRequest, Sequence[Page], None]:
        """Raise if a row is newer than one before it.

        Rows that were seen before were pushed deeper. Rows newer than all before may have just arrived: then page 1
        differs from `head_before`, its state before they could.
        """
        known, newest = list(self._recent), self._newest
        self._recent.append(page)
        self._newest = max((*page.times, newest))
        if not self._order.ordered:
            return
        if strays := page.strays(self._margin):
            raise _OutOfOrderError(f"page {page.number} holds rows newer than those before them", strays, page.times)
        if upper is None or not upper.times:
            return
        latest = min(upper.times) + self._margin
        newer = {entry for entry in page.identities if entry[1] is not None and entry[1] > latest}
        unseen = newer.difference(*(seen.identities for seen in known)) if newer else newer
        disordered = any(time is not None and time <= newest for _, time in unseen)
        if unseen and not disordered:
            yield from self._ask(proof=True)
            disordered = not self._grew_since(head_before)
        if disordered:
            strays = [time - min(upper.times) for _, time in unseen if time is not None]
            times = (*upper.times, *page.times)
            raise _OutOfOrderError(f"page {page.number} holds rows newer than page {upper.number}", strays, times)

    # -- proving ------------------------------------------------------------------------------------------

    def _grew_since(self, before: _Seen | None) -> bool:
        return before is None or self._head is None or before.entries != self._head.entries

    def _repair(self, pages: Sequence[_Seen]) -> Generator[PageRequest, Sequence[Page], None]:
        """Fetch pages again that were fetched together while the list grew, until they leave no gap."""
        again = yield from self._ask(*(page.number for page in pages[1:]))
        if all(first.identities & second.identities for first, second in zip(pages[1:], again, strict=True)):
            return
        number = pages[0].number
        hole = False
        while True:
            (page,) = yield from self._ask(number)
            if page.identities & pages[-1].identities:
                return
            if page.empty and not hole:
                hole = True
                if (yield from self._ends_at(page)):
                    return
                continue  # fetch it again: the page after it has rows
            hole = False
            number += 1
