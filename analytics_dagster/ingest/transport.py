"""Adapters between dlt's REST client and ours: a session that fetches pages, and paginators that steer it.

dlt's client asks a session for one reply and a paginator for what to ask next. Here one *reply* is a batch
of pages: a paginator puts several page numbers into the request, the session fetches them together, and the
paginator is shown all of them. So the cost dlt has for each reply is paid once a batch, and the decision
which pages to read stays in `walk.py`. The next batch is asked for as soon as that is known: its pages are on their way
while the rows of this one are typed. What pages contain is no concern of this module.
"""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import requests
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from analytics_dagster.catalog import Path
from analytics_dagster.ingest.client import ApiClient, Pending, Reply, Request, Traffic
from analytics_dagster.ingest.errors import AnalyticsApiError
from analytics_dagster.ingest.pagination import PageRequest, PageRequests

logger = logging.getLogger(__name__)

PAGE_PARAMETER = "page"

SECONDS_BETWEEN_LINES = 2.0
"""Between two log lines at level INFO on the progress of a load."""

OBJECTS_BETWEEN_COLLECTIONS = 200_000
"""Of Python's garbage collector, while a load reads: a few thousand rows."""


@dataclass(frozen=True, kw_only=True)
class FetchedPage:
    """One page: its number from 1, its raw rows, the reply's `result` around them, and when it was asked for."""

    number: int
    rows: list[Any]
    envelope: Any
    read_at: datetime


class Batch(requests.Response):
    """The pages that answer one request of dlt's client, in the order asked for.

    Attributes:
        pages: All of them.
        wanted_pages: Those whose rows are wanted: not the one that only proves that the list did not grow.
    """

    def __init__(self, pages: list[FetchedPage], rows_at: Path, *, proof: bool) -> None:
        super().__init__()
        self.status_code = requests.codes.ok
        self.pages = pages
        self.wanted_pages = pages[1:] if proof else pages
        self._rows_at = rows_at

    def json(self, **_: object) -> Any:
        """Return the wanted pages, at the place where one reply has its rows: to dlt, a page is an item."""
        body: Any = self.wanted_pages
        for key in reversed(self._rows_at):
            body = {key: body}
        return body


class PagesSession(requests.Session):
    """What dlt's REST client sends its requests through."""

    def __init__(self, connect: Callable[[], ApiClient], *, resource: str, rows_at: Path) -> None:
        super().__init__()
        self.traffic = Traffic()
        self._connect = connect
        self._client: ApiClient | None = None
        self._asked: list[Pending] = []
        self._resource = resource
        self._rows_at = rows_at
        self._progress = _Progress(resource)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Keep the request's parts; encoding them is up to the client."""
        prepared = _Prepared()
        prepared.method, prepared.url = request.method, request.url
        prepared.query, prepared.content = dict(request.params or {}), request.json
        return prepared

    def merge_environment_settings(self, *_: Any) -> Any:
        """Return nothing: the client asked the environment once, when it was made."""
        return {}

    def ask(self, query: dict[str, Any]) -> None:
        """Ask for the pages of a batch, without waiting for them: `send` will."""
        with self.closing_on_failure():
            numbers = query[PAGE_PARAMETER].numbers
            self._asked = self._open().ask([Request(query={**query, PAGE_PARAMETER: number}) for number in numbers])

    def send(self, request: requests.PreparedRequest, **_: Any) -> Batch:
        """Fetch the pages a request asks for."""
        assert isinstance(request, _Prepared)
        with self.closing_on_failure():
            pages = self._fetch(request)
        asked = request.query.get(PAGE_PARAMETER)
        batch = Batch(pages, self._rows_at, proof=isinstance(asked, PageRequest) and asked.proof)
        self._progress.count(batch.wanted_pages)
        return batch

    def close(self) -> None:
        """End what the client has running."""
        if self._client is not None:
            gc.set_threshold(*self._thresholds)
            self._client.close()
            self._client = None
        super().close()

    @contextmanager
    def closing_on_failure(self) -> Iterator[None]:
        """Close the session if what is done with it, or with its pages, fails or is given up."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _open(self) -> ApiClient:
        if self._client is None:
            self._client = self._connect()
            # Parsed rows have no cycles, but are so many that the collector would look through them all the time, and
            # through all that is imported. (Freezing that would keep it from what a load leaves behind.)
            self._thresholds = gc.get_threshold()
            gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
            self.traffic = self._client.traffic
        return self._client

    def _fetch(self, request: "_Prepared") -> list[FetchedPage]:
        query = request.query
        numbers: Sequence[int] = (1,)
        if request.method == "POST":
            if request.content is None:
                return []  # there is nothing to ask for
            replies = [self._open().send("POST", query=query, body=request.content)]
        elif PAGE_PARAMETER in query:
            numbers = query[PAGE_PARAMETER].numbers
            asked, self._asked = self._asked, []
            replies = self._open().replies(asked)
        else:
            replies = [self._open().send("GET", query=query)]
        return [self._page(number, reply) for number, reply in zip(numbers, replies, strict=True)]

    def _page(self, number: int, reply: Reply) -> FetchedPage:
        rows: Any = reply.body
        for key in self._rows_at:
            rows = rows.get(key) if isinstance(rows, dict) else rows
        if not isinstance(rows, list):
            raise AnalyticsApiError(
                f"{self._resource}: the reply has no list at {'.'.join(self._rows_at)}. Check paths.{self._resource}.",
                resource=self._resource,
            )
        return FetchedPage(number=number, rows=rows, envelope=reply.body["result"], read_at=reply.read_at)


class _Progress:
    """Log lines on how far a load is: one a batch, of which one every few seconds is more than a detail."""

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._rows = 0
        self._began = self._logged = time.monotonic()

    def count(self, pages: Sequence[FetchedPage]) -> None:
        """Count the pages of a batch, and log its line."""
        if not pages:
            return
        rows = sum(len(page.rows) for page in pages)
        self._rows += rows
        now = time.monotonic()
        level = logging.DEBUG
        if now - self._logged >= SECONDS_BETWEEN_LINES:
            self._logged = now
            level = logging.INFO
        if logger.isEnabledFor(level):
            logger.log(
                level, "%s: pages %s with %d rows; %d rows so far, %.0f rows/s",
                self._resource, _spans([page.number for page in pages]), rows, self._rows,
                self._rows / max(now - self._began, 0.001),
            )  # fmt: skip


class _Prepared(requests.PreparedRequest):
    """A request whose query and body are still objects."""

    query: dict[str, Any]
    content: Any


class WalkPaginator(BasePaginator):
    """Asks a session for the pages that a walk wants."""

    def __init__(self, begin: Callable[[], PageRequests], session: PagesSession) -> None:
        super().__init__()
        self._begin = begin
        self._session = session

    def init_request(self, request: requests.Request) -> None:
        """Begin a walk, and ask for its first pages."""
        self._has_next_page = True
        self._walk = self._begin()
        self._wanted = next(self._walk)
        self.update_request(request)

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Show the walk its pages, and learn which it wants next."""
        assert isinstance(response, Batch)
        try:
            self._wanted = self._walk.send(response.pages)
        except StopIteration:
            self._has_next_page = False

    def update_request(self, request: requests.Request) -> None:
        """Ask for the pages that are wanted next, if any."""
        if self._has_next_page:
            request.params = {**(request.params or {}), PAGE_PARAMETER: self._wanted}
            self._session.ask(request.params)


class BodyBatchPaginator(BasePaginator):
    """Sends one request after the other, each with its own JSON body."""

    def __init__(self, bodies: Sequence[dict[str, Any]]) -> None:
        super().__init__()
        self._bodies = bodies

    def init_request(self, request: requests.Request) -> None:
        """Send the first body; none at all if there is nothing to ask for."""
        self._has_next_page = True
        self._due = iter(self._bodies)
        self._next = next(self._due, None)
        self.update_request(request)

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Go on to the next body, if there is one."""
        self._next = next(self._due, None)
        self._has_next_page = self._next is not None

    def update_request(self, request: requests.Request) -> None:
        """Send the body that is due."""
        request.json = self._next


def _spans(numbers: Sequence[int]) -> str:
    """`1, 17-24` for 1, 17, 18, … 24."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
