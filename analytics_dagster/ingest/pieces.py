"""Pieces of a window: a long one is loaded oldest piece first, and each piece is merged and recorded by itself.

Rows decide the size of a piece. The list is looked at once every `PIECE_ROWS` rows, by page number, and the times found
there are the cuts. Pure: no HTTP, no dlt, no clock.

    looks = look_for_cuts(order, Bounds(start=start, end=end), page_size=20)
    number = next(looks)
    number = looks.send(fetch(number))  # StopIteration.value: an Estimate

Where page numbers end above the window's start, or mean nothing, the rest of the window is one piece.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from analytics_dagster.ingest.lists import Bounds, ListOrder, Page
from analytics_dagster.ingest.windows import Window

PIECE_ROWS = 200_000
"""Rows of a piece: a merge of so many takes seconds, and a hundredth of the memory that the rows of a year would."""

UNCUT = timedelta(days=1)
"""Windows up to this length are not looked at: a schedule's tick has no request to spare."""

_MOST_LOOKS = 2_000


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a window takes to load, as far as the looks tell.

    Attributes:
        cuts: Times between its pieces, epoch seconds, oldest first.
        complete: Whether the looks reached the window's start: then `rows` and `requests` are upper bounds, to the next
            look. Otherwise they are lower bounds.
        rows: Rows.
        requests: Requests at the configured page size.
        seconds: Seconds that they take, by the duration of the looks; 0 before it is known.
    """

    cuts: Sequence[int]
    complete: bool = False
    rows: int = 0
    requests: int = 0
    seconds: float = 0.0


def look_for_cuts(order: ListOrder, bounds: Bounds, *, page_size: int) -> Generator[int, Page, Estimate]:
    """Yield the numbers of the pages to look at, and return where to cut.

    Args:
        order: How the list is ordered.
        bounds: The window.
        page_size: Rows of a page.
    """
    step = max(1, PIECE_ROWS // page_size)
    cuts: list[int] = []
    number = 1
    complete = False
    newest: int | None = None
    for _ in range(_MOST_LOOKS):
        number += step
        page = yield number
        times = [time for row in page.rows if (time := order.time(row)) is not None]
        if not times:
            complete = bounds.start is None
            break
        if newest is not None and max(times) >= newest:
            break  # the list does not grow older: the service ignores the page number, or repeats a page
        newest = max(times)
        if bounds.end is not None and newest >= bounds.end:
            continue
        if bounds.start is not None and newest <= bounds.start:
            complete = True
            break
        cuts.append(newest)
    pages = (len(cuts) + complete) * step
    return Estimate(cuts=cuts[::-1], complete=complete, rows=pages * page_size, requests=pages)


def cut_window(window: Window, cuts: Sequence[int]) -> list[Window]:
    """Return the pieces of a window, oldest first."""
    moments = [datetime.fromtimestamp(cut, UTC) for cut in cuts]
    inside = [moment for moment in moments if moment < window.end and (window.start is None or moment > window.start)]
    starts = [window.start, *inside]
    return [Window(start=start, end=end) for start, end in zip(starts, [*inside, window.end], strict=True)]
