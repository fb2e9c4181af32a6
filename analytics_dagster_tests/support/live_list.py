"""A list of the service, in memory, that changes while it is read, and a function that reads it by pagination.

Rows may arrive, move or vanish before each page, and the pages of a request are served in any order, as by a service
from which several pages are fetched at a time.

    live = LiveList(newest_first(100), page_size=10, happen=lambda live: live.arrive(1))
    wanted = within(live.rows, bounds := Bounds(start=NOW - 3_600))
    assert wanted <= set(drive(live, bounds).seen)
"""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from analytics_dagster.ingest.lists import Bounds, ListEnd, ListOrder, PageRequest
from analytics_dagster.ingest.pagination import paginate

NOW = 1_760_000_000
MOST_REQUESTS = 3_000
"""More requests than any list here takes: pagination that makes more does not end."""


class Row(NamedTuple):
    id: int | None
    time: int | None


class ServedPage(NamedTuple):
    number: int
    rows: Sequence[Row]
    envelope: object = None


def key(row: Row) -> tuple[int] | None:
    return None if row.id is None else (row.id,)


READING = ListOrder(key=key, time=attrgetter("time"), ordered=True)
UNORDERED = ListOrder(key=key, time=attrgetter("time"), ordered=False)


def stay(_: "LiveList") -> None:
    """Leave the list as it is."""


class LiveList:
    """A list of the service, newest first.

    Attributes:
        happen: Called before each page is served.
        deepest: Number of the last page that the service lists, if it cuts the list.
        envelope: The reply's `result` around the rows.
    """

    def __init__(self, rows: Iterable[Row], page_size: int, happen: Callable[["LiveList"], None] = stay) -> None:
        self.rows = list(rows)
        self.page_size = page_size
        self.happen = happen
        self.served: list[int] = []
        self.next_id = -1
        self.deepest: int | None = None
        self.envelope: object = None

    def __repr__(self) -> str:
        return f"LiveList(page_size={self.page_size}, rows={self.rows})"

    def wait(self, seconds: float) -> None:
        """Let time pass before a request."""

    def serve(self, number: int) -> ServedPage:
        self.happen(self)
        self.served.append(number)
        return ServedPage(number, self.page(number), self.envelope)

    def page(self, number: int) -> Sequence[Row]:
        if self.deepest and number > self.deepest:
            return []
        return self.rows[(number - 1) * self.page_size : number * self.page_size]

    @property
    def pages(self) -> int:
        return max(1, -(-len(self.rows) // self.page_size))

    @property
    def newest(self) -> int:
        return max((row.time for row in self.rows if row.time is not None), default=NOW)

    def arrive(self, count: int, later: int = 1) -> None:
        """Add rows at the head, each `later` seconds after the one before."""
        for _ in range(count):
            self.rows.insert(0, Row(self.next_id, self.newest + later))
            self.next_id -= 1

    def move(self, index: int) -> Row:
        """Move a row to the head, with a new time, as a new event does. Return the row as it was."""
        moved = self.rows.pop(index)
        self.rows.insert(0, Row(moved.id, max(self.newest, moved.time or 0) + 1))
        return moved


class Trip(NamedTuple):
    """The requests of a pagination, the rows of the pages it wanted, in the order of the requests, and its result."""

    requests: list[PageRequest]
    seen: list[Row]
    end: ListEnd | None = None

    @property
    def fetches(self) -> int:
        return sum(len(request.numbers) for request in self.requests)


def drive(
    live: LiveList,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    *,
    read_ahead: int = 5,
    reading: ListOrder = READING,
    shuffle: Callable[[list[int]], None] = list.sort,
) -> Trip:
    """Paginate a list to the end. `shuffle` orders the pages of each request for serving."""
    trip = Trip([], [])
    steps = paginate(reading, bounds, read_ahead=read_ahead, name="things")
    try:
        request = next(steps)
        while True:
            assert len(trip.requests) < MOST_REQUESTS, f"the pagination does not end: {trip.requests[-5:]}"
            assert 1 <= len(request.numbers) <= read_ahead + bool(request.proof)
            trip.requests.append(request)
            live.wait(request.pause)
            order = list(range(len(request.numbers)))
            shuffle(order)
            served = {index: live.serve(request.numbers[index]) for index in order}
            pages = [served[index] for index in range(len(request.numbers))]
            for page in pages[1:] if request.proof else pages:
                trip.seen.extend(page.rows)
            request = steps.send(pages)
    except StopIteration as stop:
        return trip._replace(end=stop.value)


def newest_first(count: int, apart: int = 60) -> list[Row]:
    """Return rows `apart` seconds apart, newest first. Ids rise with time."""
    return [Row(count - index, NOW - index * apart) for index in range(count)]


def within(rows: Iterable[Row], bounds: Bounds) -> set[Row]:
    """Return the rows whose time lies within the bounds."""
    return {
        row
        for row in rows
        if row.time is not None
        and (bounds.start is None or row.time >= bounds.start)
        and (bounds.end is None or row.time < bounds.end)
    }
