"""A list of the service that changes while it is read, in memory, and a driver that reads it by a walk.

Before any single page is served something may happen, and the pages of a request are served in any order: that is what
a service does while several of them are fetched at the same time.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from analytics_dagster.ingest.pagination import Bounds, ListOrder, PageRequest, paginate

NOW = 1_760_000_000
MOST_REQUESTS = 2_000
"""More than any list here takes: a walk that asks for more does not end."""


class Row(NamedTuple):
    id: int | None
    time: int | None


class ServedPage(NamedTuple):
    number: int
    rows: Sequence[Row]


READING = ListOrder(key=attrgetter("id"), time=attrgetter("time"), ordered=True)
UNORDERED = ListOrder(key=attrgetter("id"), time=attrgetter("time"), ordered=False)


def stay(_: "LiveList") -> None:
    """Nothing happens."""


class LiveList:
    """A list of the service, newest first. `happen` is called before each page is served."""

    def __init__(self, rows: Iterable[Row], page_size: int, happen: Callable[["LiveList"], None] = stay) -> None:
        self.rows = list(rows)
        self.page_size = page_size
        self.happen = happen
        self.served: list[int] = []
        self.next_id = -1

    def __repr__(self) -> str:
        return f"LiveList(page_size={self.page_size}, rows={self.rows})"

    def serve(self, number: int) -> ServedPage:
        self.happen(self)
        self.served.append(number)
        return ServedPage(number, self.page(number))

    def page(self, number: int) -> Sequence[Row]:
        return self.rows[(number - 1) * self.page_size : number * self.page_size]

    @property
    def newest(self) -> int:
        return max((row.time for row in self.rows if row.time is not None), default=NOW)

    def arrive(self, count: int, later: int = 1) -> None:
        """Rows arrive at the head, each `later` seconds after the one before."""
        for _ in range(count):
            self.rows.insert(0, Row(self.next_id, self.newest + later))
            self.next_id -= 1

    def move(self, index: int) -> Row:
        """A row gets a new event: it moves to the head, with a time of its own. Returns what it was."""
        moved = self.rows.pop(index)
        self.rows.insert(0, Row(moved.id, max(self.newest, moved.time or 0) + 1))
        return moved


class Trip(NamedTuple):
    """What a walk did: its requests, and the rows of the pages it wanted, in order of asking."""

    requests: list[PageRequest]
    seen: list[Row]

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
    """Serve a walk until it ends; `shuffle` brings the pages of each request into the order of serving."""
    trip = Trip([], [])
    steps = paginate(reading, bounds, read_ahead=read_ahead, name="things")
    try:
        request = next(steps)
        while True:
            assert len(trip.requests) < MOST_REQUESTS, f"the walk does not end: {trip.requests[-5:]}"
            assert 1 <= len(request.numbers) <= read_ahead + request.proof
            trip.requests.append(request)
            places = list(range(len(request.numbers)))
            shuffle(places)
            served = {place: live.serve(request.numbers[place]) for place in places}
            pages = [served[place] for place in range(len(request.numbers))]
            for page in pages[1:] if request.proof else pages:
                trip.seen.extend(page.rows)
            request = steps.send(pages)
    except StopIteration:
        return trip


def newest_first(count: int, apart: int = 60) -> list[Row]:
    """Rows `apart` seconds apart, ids falling with time."""
    return [Row(count - index, NOW - index * apart) for index in range(count)]


def within(rows: Iterable[Row], bounds: Bounds) -> set[Row]:
    return {
        row
        for row in rows
        if row.time is not None
        and (bounds.start is None or row.time >= bounds.start)
        and (bounds.end is None or row.time < bounds.end)
    }
