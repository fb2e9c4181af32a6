"""Pagination: chooses the pages of a numbered list that hold a window. Pure: no HTTP, no dlt, no clock.

`paginate` is a generator: it yields the numbers of the pages to read next, and is sent those pages. All pages of a
request may be fetched at the same time; the next request comes after its pages were sent. Lists are newest first,
numbered from 1, and alive: rows arrive at the head and push the others towards the end while they are read.

    requests = paginate(order, Bounds(start=start, end=end), read_ahead=8, name="deploys")
    request = next(requests)
    request = requests.send([fetch(number) for number in request.numbers])  # StopIteration.value: ListEnd or None

Rows can be hidden by arrivals. If the deeper of two neighbouring pages is served first, a row that arrives in between
moves the last row of the upper page into the deeper one, which was served already, so no page shows that row. Rows can
be hidden by deletions too: a deleted row moves the rows below it up, past a page that was served already. Both change
every page below them. Therefore each request is proven by the page above it, its *anchor*: the anchor is read before
the request and once more with the next request. If it shows the same rows, nothing moved. If its rows moved down, the
pages of the request are fetched again: a page that is fetched again is served after its upper neighbour, and leaves no
gap if it shares a row with the pages below. If its rows moved up, the anchor and the pages are fetched again, and show
the rows that moved up. A deletion stays unnoticed if it happens in the pages of a request while they are served.

An end is proven as well. An empty page may be a fault of the service that passes: it ends the list if it is empty
again after a pause, while the last page with rows still has them. A page without a new row, while the page above it
stays as it was, ends the list if it shows no new row after a pause either: the service repeats its last page, or
ignores the page number.

Every walk is bounded. It fetches at most `SPARE_PAGES`, and `PAGES_PER_FIND` for each page that showed a new row: one
that had not arrived since the walk began, and that none of the `_REMEMBERED_PAGES` pages before showed. A list that
begins again at its head after more pages than those is left in its third round.
"""

import logging
import math
from collections import deque
from collections.abc import Generator, Hashable, Sequence
from enum import Enum, auto
from itertools import takewhile

from analytics_dagster.ingest.lists import (
    DISORDER_SECONDS,
    PAUSE,
    Bounds,
    ListEnd,
    ListOrder,
    Page,
    PageRequest,
    PageRequests,
    UnsteadyListError,
)
from analytics_dagster.ingest.seen_pages import (
    LEAPT_PAGES,
    Batch,
    Identity,
    SeenPage,
    deepest_reached,
    moved,
    moved_up,
    repeats_above,
    shows_again,
)

logger = logging.getLogger(__name__)

PROOFS_OF_LIFE = 5
"""Pages with rows that are asked for again, a pause apart, before a service that lists nothing is given up."""

SPARE_PAGES = 200
PAGES_PER_FIND = 10
"""Most pages of a walk: the first, and the second for each page that showed a new row."""

MOST_COUNTED = 100_000
"""Rows of a list up to which its keys are compared with the service's `total_count`; their keys take memory."""

ROWS_AHEAD = 4_000
"""Most rows of one request, whatever the page size: parsed rows take memory."""

_WRONG_GUESSES = 2
"""After this many guesses that left more than half of the pages, bisect: the rows are not evenly spread."""

_ROUNDS = 3
"""A list that began again this many times has no end."""

_REMEMBERED_PAGES = 100
"""Pages whose rows are recognised when a burst of new rows pushes them deeper."""


def _guess(upper: SeenPage, lower: SeenPage, end: int) -> int:
    """Return the page between two that would be the last wholly newer than `end` if rows were evenly spread."""
    newer, older = min(upper.times), max(lower.times, default=None)
    if older is None or not older < newer:
        return (upper.number + lower.number) // 2
    share = (newer - end - DISORDER_SECONDS) / (newer - older)
    return min(max(upper.number + 1, upper.number + round(share * (lower.number - upper.number))), lower.number - 1)


def single_page() -> PageRequests:
    """Yield the only page of a list without page numbers; if it is empty, once more after a pause."""
    (page,) = yield PageRequest((1,))
    if not page.rows:
        (page,) = yield PageRequest((1,), pause=PAUSE)
    return None if page.rows else ListEnd(empty=True)


def paginate(order: ListOrder, bounds: Bounds, *, read_ahead: int, name: str) -> PageRequests:
    """Yield the pages that hold the rows within `bounds`, and as few others as possible.

    Args:
        order: How the list is ordered.
        bounds: The wanted part of the list.
        read_ahead: Pages of one request, beside its proof.
        name: The list's name, for warnings.

    Yields:
        Requests of at most `read_ahead` pages and a proof.

    Raises:
        UnsteadyListError: The service lists nothing any more, or its pages have no end.
    """
    if not order.ordered:
        bounds, read_ahead = Bounds(), 1
    walk = _Walk(order, bounds, read_ahead=read_ahead)
    try:
        yield from walk.run()
    finally:
        for warning in walk.warnings():
            logger.warning("%s: %s", name, warning)
    return walk.end


class _Ending(Enum):
    """Why a page may be the last to read."""

    WINDOW_START = auto()
    EMPTY_PAGE = auto()
    REPEATED_PAGE = auto()


class _Walk:
    """The state of one pass over a list.

    Attributes:
        ended: Whether the list was read to its end.
        end: The end, if it is above the window's start.
    """

    def __init__(self, order: ListOrder, bounds: Bounds, *, read_ahead: int) -> None:
        self.ended = False
        self.end: ListEnd | None = None
        self._order = order
        self._bounds = bounds
        self._most = read_ahead
        self._limit = read_ahead
        """Pages of the next request at most: fewer after rows moved too far to tell that pages leave no gap."""
        self._hurries = False
        """Whether to prove each request at once rather than with the next one, because rows move fast."""
        self._first: SeenPage | None = None
        """Page 1, as it was first read."""
        self._head: SeenPage | None = None
        """Page 1, as it was last read."""
        self._recent: deque[SeenPage] = deque(maxlen=_REMEMBERED_PAGES)
        self._newest = 0
        """Newest time on the first page that had times."""
        self._above = self._below = DISORDER_SECONDS
        """Margins around the window, in seconds."""
        self._whole = bounds.start is None and bounds.end is None
        self._skipped: SeenPage | None = None
        """The page after which reading began, if others were skipped before it."""
        self._last: SeenPage | None = None
        """The deepest page with rows above which every row was seen, but for the pages of `_unproven`."""
        self._number = 1
        """The page to request next."""
        self._asked = 0
        """Pages requested in order so far."""
        self._unproven: Batch | None = None
        """Pages of the latest request, if no later request proved yet that they hide no row."""
        self._holes: set[int] = set()
        """Empty pages that have rows after them."""
        self._ceiling: int | None = None
        """Smallest of the newest times of the pages that were read: rows below are older if the list is in order."""
        self._oldest: int | None = None
        """Oldest time on the deepest page that has times."""
        self._disorder = 0
        """Most seconds by which a row was newer than one above it."""
        self._fetched = self._found = self._found_newer = 0
        """Pages that were fetched, those that held a new row, and those whose new rows may have arrived since."""
        self._passed = self._rounds = 0
        self._doubted_until = 0
        """Pages to pass before a page that seems to repeat another is doubted again: each doubt costs a request."""
        self._landmark: SeenPage | None = None
        """A page that is met again if the list goes round."""
        self._last_row: Identity | None = None
        """Last row of the list before the latest pause."""
        self._counted: int | None = None
        """Smallest `total_count` of a reply."""
        self._keys: set[Hashable] = set()
        """Keys of all rows, if the service counts them."""

    def run(self) -> Generator[PageRequest, Sequence[Page], None]:
        done = False
        while not done:
            skipped = None if self._bounds.end is None else (yield from self._seek(self._bounds.end))
            done = yield from self._read(skipped)

    def warnings(self) -> list[str]:
        """Return what was wrong with the list, a sentence each."""
        warnings = []
        if self._disorder > DISORDER_SECONDS and not self._whole:
            before = 0 if self._bounds.start is None else self._below
            after = 0 if self._bounds.end is None else self._above
            warnings.append(
                f"a row is {self._disorder} s out of its place. "
                f"Read the window with a margin of {max(before, after)} s."
            )
        if self.ended and self._whole and self._counted is not None and len(self._keys) < self._counted:
            warnings.append(
                f"the service counts {self._counted} rows, its list showed {len(self._keys)}. Rows were deleted while "
                "the list was read, or the list ends before its oldest row; the next full load shows which."
            )
        return warnings

    # -- asking -------------------------------------------------------------------------------------------

    def _ask(
        self, *wanted: int, proof: int | None = None, pause: float = 0.0
    ) -> Generator[PageRequest, Sequence[Page], list[SeenPage]]:
        """Fetch pages and return them, the proof first."""
        self._fetched += len(wanted) + (proof is not None)
        if self._fetched > SPARE_PAGES + PAGES_PER_FIND * self._found:
            yield from self._count_newer_pages()
        pages = yield PageRequest(wanted, proof, pause)
        seen = [self._remember(page) for page in pages]
        self._found += sum(page.new and not page.arrived for page in seen)
        self._found_newer += sum(page.arrived for page in seen)
        self._recent.extend(seen if proof is None else seen[1:])
        self._head = next((page for page in seen if page.number == 1), self._head)
        self._first = self._first or self._head
        return seen

    def _count_newer_pages(self) -> Generator[PageRequest, Sequence[Page], None]:
        """Count pages of rows that are newer than the first page if page 1 is as it was: then none arrived there.

        Raises:
            UnsteadyListError: Too many pages were requested nevertheless.
        """
        (page,) = yield PageRequest((), proof=1)
        if self._first and self._remember(page).entries == self._first.entries:
            self._found, self._found_newer = self._found + self._found_newer, 0
        if self._fetched > SPARE_PAGES + PAGES_PER_FIND * self._found:
            raise UnsteadyListError(
                f"{self._fetched} pages were requested, and only {self._found} of them held new rows, because the "
                "service repeats its pages, or the list grows faster than it can be read"
            )

    def _ask_in_turn(self, numbers: Sequence[int]) -> Generator[PageRequest, Sequence[Page], list[SeenPage]]:
        """Fetch pages in requests of at most `read_ahead`."""
        seen = []
        for first in range(0, len(numbers), self._most):
            seen += yield from self._ask(*numbers[first : first + self._most])
        return seen

    def _remember(self, page: Page) -> SeenPage:
        key, time = self._order.key, self._order.time
        entries = tuple((key(row), time(row)) for row in page.rows)
        if not self._newest:
            self._newest = max((time for _, time in entries if time is not None), default=0)
        new, arrived = False, True
        known = any(seen.number == page.number and seen.entries == entries for seen in self._recent)
        for row in () if known else reversed(entries):  # the last row is the most likely to be new
            if row[0] is not None and not self._knows(row):
                new, arrived = True, row[1] is not None and row[1] > self._newest
            if not arrived:
                break
        seen = SeenPage(page.number, entries, new, arrived and new)
        total = page.envelope.get("total_count") if self._whole and type(page.envelope) is dict else None
        if type(total) is int and total <= MOST_COUNTED:
            self._counted = total if self._counted is None else min(self._counted, total)
            self._keys.update(row_key for row_key, _ in seen.identities)
        return seen

    def _knows(self, row: Identity, besides: SeenPage | None = None) -> bool:
        """Return whether a remembered page, or page 1, shows a row."""
        pages = (*self._recent, self._head) if self._head else self._recent
        return any(row in page.identities for page in pages if page is not besides)

    # -- seeking ------------------------------------------------------------------------------------------

    def _seek(self, end: int) -> Generator[PageRequest, Sequence[Page], SeenPage | None]:
        """Find the last page that is wholly newer than `end`, by galloping and bisecting.

        Returns page 1 if not even that is wholly newer, None if the list is empty. Rows that arrive meanwhile move
        the wanted ones deeper, never to an earlier page. The page after the returned one must be read again, even if
        it was read on the way: that was before the returned one.
        """
        self._ceiling = None
        upper: SeenPage | None = None
        number = 1
        while True:
            lower = yield from self._sound(upper, number)
            if not lower.wholly_newer(end, self._above) or (upper and repeats_above(upper, lower)):
                break
            upper, number = lower, number * 2
        if upper is None:
            return None if lower.empty else lower
        wrong = 0
        while (distance := lower.number - upper.number) > 1:
            number = _guess(upper, lower, end) if wrong < _WRONG_GUESSES else (upper.number + lower.number) // 2
            middle = yield from self._sound(upper, number)
            if middle.wholly_newer(end, self._above):
                upper = middle
            else:
                lower = middle
            wrong = wrong + 1 if lower.number - upper.number > distance // 2 else 0
        return upper

    def _sound(self, upper: SeenPage | None, number: int) -> Generator[PageRequest, Sequence[Page], SeenPage]:
        """Fetch a page below `upper`, and measure its order."""
        head = self._head
        (page,) = yield from self._ask(number)
        yield from self._measure_disorder(upper, page, head, gaps=True)
        return page

    # -- reading ------------------------------------------------------------------------------------------

    def _read(self, skipped: SeenPage | None) -> Generator[PageRequest, Sequence[Page], bool]:
        """Read pages in order from the one after `skipped` to the window's start or the list's end.

        Returns whether that was all. It was not if rows of the window may stand above `skipped`.
        """
        self._skipped = skipped if skipped and skipped.number > 1 else None
        self._ceiling = self._oldest = None
        self._unproven = None
        self._asked = 0
        self._go_on_after(skipped)
        ending: _Ending | None = None
        while ending is None and not self._skips_too_much():
            size = self._size()
            self._asked += size
            anchor = self._last
            if size == 1 and self._unproven and len(self._unproven.pages) == 1:
                self._unproven = None  # a proof would double the requests of a list that is read page by page
            proof: int | None = self._unproven.anchor.number if self._unproven else None
            pause = PAUSE if self._number in self._holes else 0.0
            pages = yield from self._ask(*range(self._number, self._number + size), proof=proof, pause=pause)
            if self._unproven:
                resume = yield from self._prove(self._unproven, pages.pop(0))
                self._unproven = None
                if resume:
                    self._go_on_after(resume)
                    continue
            resume = None
            rows = list(takewhile(lambda page: not page.empty, pages))
            if anchor and len(rows) > 1 and self._hurries:
                resume = yield from self._prove(Batch(anchor, rows))
                pages = pages[:1] if resume else pages[: len(rows) + 1]
            elif anchor and rows:
                self._unproven = Batch(anchor, [])
            ending = yield from self._advance(pages, anchor)
            if ending and self._unproven and len(self._unproven.pages) > 1:
                resume = yield from self._prove(self._unproven)
                ending = None if resume else ending
            if ending or (self._unproven and not self._unproven.pages):
                self._unproven = None
            if resume and not ending:
                self._go_on_after(resume)
            if ending is _Ending.EMPTY_PAGE and not (yield from self._prove_end()):
                ending = None
        if ending in {_Ending.EMPTY_PAGE, _Ending.REPEATED_PAGE}:
            self._end_list()
        return not self._skips_too_much()

    def _advance(
        self, pages: Sequence[SeenPage], anchor: SeenPage | None
    ) -> Generator[PageRequest, Sequence[Page], "_Ending | None"]:
        """Go through the pages of a request. Return the ending if one of them is the last, to be proven."""
        gaps = len(pages) > 1 or (self._skipped is not None)
        for page in pages:
            if page.empty:
                if (yield from self._has_none_after(page, pages)):
                    return _Ending.EMPTY_PAGE
                if page.number not in self._holes:
                    self._holes.add(page.number)
                    return None  # request it again, after a pause, then the pages after it
                self._number = page.number + 1
                continue
            if (yield from self._repeats(page)):
                return _Ending.REPEATED_PAGE
            in_order = yield from self._measure_disorder(self._last, page, anchor, gaps=gaps)
            self._watch_for_rounds(page)
            if self._unproven:
                self._unproven.pages.append(page)
            self._go_on_after(page)
            if in_order and self._is_below_window(page):
                return _Ending.WINDOW_START
        return None

    def _go_on_after(self, page: SeenPage | None) -> None:
        self._last = page
        self._number = page.number + 1 if page else 1
        if page and page.times:
            self._oldest = min(page.times)
            self._ceiling = max(page.times) if self._ceiling is None else min(self._ceiling, max(page.times))

    def _size(self) -> int:
        """Return the number of pages to request next.

        At first as many as were read already, because most windows end on their second page; then no more than are
        likely to be left, and no more rows than `ROWS_AHEAD`.
        """
        last, start = self._last, self._bounds.start
        if last is None:
            return 1
        size = min(max(1, self._asked), self._limit, max(1, ROWS_AHEAD // len(last.entries)))
        if start is None or not last.times:
            return size
        oldest = min(last.times)
        left = (oldest - (start - self._below)) / max(1, max(last.times) - oldest)
        return min(size, 1 + max(0, math.ceil(left)))

    def _is_below_window(self, page: SeenPage) -> bool:
        """Return whether a page is wholly older than the window, and none of its keys is a new one.

        Page 1 never is: only a second page shows that the list is newest first.
        """
        start, known = self._bounds.start, self._bounds.known_key
        if start is None or page.number == 1 or not page.wholly_older(start, self._below):
            return False
        return known is None or page.largest_key is None or page.largest_key <= known

    def _skips_too_much(self) -> bool:
        """Return whether rows of the window may stand above the page after which reading began."""
        end = self._bounds.end
        return bool(end is not None and self._skipped and not self._skipped.wholly_newer(end, self._above))

    def _measure_disorder(
        self, upper: SeenPage | None, page: SeenPage, before: SeenPage | None, *, gaps: bool
    ) -> Generator[PageRequest, Sequence[Page], bool]:
        """Widen the margins if a row is newer than one above it. Return whether the page is in order.

        Rows that were seen before were pushed deeper. Rows that arrived since the walk began may be pushed as well, and
        rows that no page showed, if there are `gaps` between the pages above: then `before` shows other rows now.

        Args:
            upper: The page above it.
            page: The page.
            before: A page further up, as it was read before both.
            gaps: Whether pages above were skipped, or fetched together with this one.
        """
        above, below = page.disorder(), 0
        unseen: list[int] = []
        if upper and upper.times:
            latest = min(upper.times) + DISORDER_SECONDS
            unseen = [
                row[1]
                for row in page.entries
                if row[1] is not None and row[1] > latest and row[0] and not self._knows(row, besides=page)
            ]
            if unseen and before and (gaps or min(unseen) > self._newest):
                (now,) = yield from self._ask(proof=before.number)
                unseen = [] if moved(before, now) else unseen
        if unseen and upper:
            above = max(above, max(unseen) - min(upper.times))
            below = max(unseen) - (max(upper.times) if self._ceiling is None else self._ceiling)
        if not self._order.ordered:
            return True
        self._disorder = max(self._disorder, above)
        if above > self._above:
            self._above = 2 * above
        if below > self._below:
            self._below = 2 * below
        return above <= DISORDER_SECONDS

    # -- ends ---------------------------------------------------------------------------------------------

    def _has_none_after(
        self, empty: SeenPage, pages: Sequence[SeenPage]
    ) -> Generator[PageRequest, Sequence[Page], bool]:
        """Return whether the pages after an empty one are empty too."""
        later = [page for page in pages if page.number > empty.number]
        if not later:
            later = yield from self._ask(empty.number + 1)
        return all(page.empty for page in later)

    def _prove_end(self) -> Generator[PageRequest, Sequence[Page], bool]:
        """Return whether the list ends after its last page with rows; if not, set the page to go on with.

        The next page is empty again after a pause, while the last page with rows, which is asked for before it, still
        has rows; if it has none, a page further up is asked for. Where arrivals push rows into the next page, the list
        ends if it ends with the same row as before the pause.
        """
        last = self._last
        if last is None:
            (page,) = yield from self._ask(self._number, pause=PAUSE)
            return page.empty
        if last.entries[-1] == self._last_row:
            return True
        for attempt in range(PROOFS_OF_LIFE):
            (page,) = yield from self._ask(proof=max(1, last.number + 1 - 2**attempt), pause=PAUSE)
            if page.empty:
                continue
            if page.new and not page.arrived:
                self._number = page.number
                return False
            for number in range(page.number + 1, self._number + 1):
                (page,) = yield from self._ask(number)
                if not page.empty:
                    self._last_row = last.entries[-1] if last.entries[-1][0] is not None else None
                    self._number = number
                    return False
            return True
        raise UnsteadyListError(
            f"page {self._number} is empty, and so are the pages before it, which had rows when they were read first"
        )

    def _repeats(self, page: SeenPage) -> Generator[PageRequest, Sequence[Page], bool]:
        """Return whether the service repeats a page, before and after a pause.

        Then a page without a new row shows rows that a page above it shows before and afterwards. In a list that grows,
        rows may be pushed from that page to the deeper one, and never back.
        """
        patient = self._passed < self._doubted_until
        above = None if page.new or patient else self._page_above_like(page)
        # A row that was pushed from one page to the next stands higher there.
        if above is None or len(page.entries) <= above.entries.index(page.entries[-1]):
            return False
        if not page.identities and page.entries != above.entries:
            return False
        (now,) = yield from self._ask(proof=above.number)
        if not shows_again(page, now):
            self._doubted_until = 2 * self._passed + 1
            return False
        (again,) = yield from self._ask(page.number, pause=PAUSE)
        (now,) = yield from self._ask(proof=above.number)
        return not again.new and shows_again(again, now)

    def _page_above_like(self, page: SeenPage) -> SeenPage | None:
        """Return the page above one if it showed the same last row, or a page far above it that showed all its rows."""
        last = self._last
        if last is None or page.number <= last.number:
            return None
        if page.entries[-1] in last.entries:
            return last
        far = page.number - LEAPT_PAGES
        pages = (*self._recent, self._head) if self._head else self._recent
        return next((seen for seen in pages if seen.number <= far and seen.entries == page.entries), None)

    def _watch_for_rounds(self, page: SeenPage) -> None:
        """Raise if the list goes round: a page is remembered at ever longer intervals (Brent) and met again deeper."""
        self._passed += 1
        mark = self._landmark
        met = mark and page.number > mark.number + _REMEMBERED_PAGES and mark.entries[-1] in page.entries
        if met:
            self._rounds += 1
            if self._rounds == _ROUNDS:
                raise UnsteadyListError(
                    f"page {page.number} holds rows of page {mark.number if mark else 0} once more, because the list "
                    "begins again after its last page, or grows faster than it can be read"
                )
        if met or self._passed.bit_count() == 1:
            self._landmark = page

    def _end_list(self) -> None:
        """Record the proven end of the list."""
        start = self._bounds.start
        self.ended = True
        if self._last is None:
            self.end = ListEnd(empty=True)
        elif self._order.ordered and self._oldest is not None and (start is None or self._oldest >= start):
            self.end = ListEnd(self._oldest)

    # -- proving ------------------------------------------------------------------------------------------

    def _prove(
        self, batch: Batch, anchor: SeenPage | None = None
    ) -> Generator[PageRequest, Sequence[Page], SeenPage | None]:
        """Fetch pages again that may hide a row between them.

        Args:
            batch: The pages.
            anchor: The page above them, as it was read after them; None to fetch it.

        Returns:
            The page to go on after if rows may be hidden still; None if not.
        """
        again: list[SeenPage] = []
        deeper = tuple(page.number for page in batch.pages[1:])
        if anchor is None:
            anchor, *again = yield from self._ask(*(deeper if self._hurries else ()), proof=batch.anchor.number)
        if not moved(batch.anchor, anchor):
            self._hurries = False
            return None
        if moved_up(batch.anchor, anchor):
            again = yield from self._ask_in_turn([batch.anchor.number, *(page.number for page in batch.pages[:-1])])
            return None
        if not deeper:
            return None
        again = again or (yield from self._ask(*deeper))
        reached = deepest_reached(batch, again)
        self._limit = max(1, self._limit // 2) if reached else min(self._most, 2 * self._limit)
        self._hurries = self._hurries or reached is not None
        return reached
