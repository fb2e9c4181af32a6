"""The reader `fast`: the pages of a window alone, several requests at a time, with proof that no row slipped between.

Requests are as rest_config.py says, pages as pagination.py chooses. How rows are typed does not belong here.
"""

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any

from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.client import ApiClient, Pending, build_client
from analytics_dagster.ingest.column_values import plausible_seconds
from analytics_dagster.ingest.pagination import (
    Bounds,
    ListOrder,
    Page,
    PageRequest,
    PageRequests,
    paginate,
    single_page,
)
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.replies import find_rows
from analytics_dagster.ingest.rest_config import endpoint_of

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 2.0
"""Between two log lines at level INFO on the progress of a load."""

OBJECTS_BETWEEN_COLLECTIONS = 200_000
"""Threshold of Python's garbage collector while a load reads: the objects of a few thousand rows."""

_KEY_TYPES = frozenset({int, str})


def read_fast(request: ReadRequest, configs: Sequence[RESTAPIConfig]) -> Iterator[Page]:
    """Yield the pages of a resource.

    Raises:
        AnalyticsApiError: The service refused a request, or failed once more than it is retried.
    """
    for config in configs:
        client = build_client(config, request.resource, request.settings, request.traffic)
        with closing(client), _rare_collections():
            yield from _read_list(_Endpoint(client, endpoint_of(config, request.resource)), request)


def _read_list(endpoint: "_Endpoint", request: ReadRequest) -> Iterator[Page]:
    """Yield the wanted pages of a list. The next batch is on its way while the rows of this one are typed."""
    progress = _Progress(request.resource.name)
    choice = _choose_pages(request) if endpoint.paged else single_page()
    batch = next(choice)
    sent = endpoint.send(batch)
    ended = False
    while not ended:
        pages = endpoint.receive(batch, sent)
        wanted = pages[1:] if batch.proof else pages
        try:
            batch = choice.send(pages)
        except StopIteration:
            ended = True
        else:
            sent = endpoint.send(batch)
        progress.log(wanted)
        yield from wanted


class _Endpoint:
    """A configured endpoint: sends requests for its pages, and finds the rows in their replies."""

    def __init__(self, client: ApiClient, configured: Any) -> None:
        paginator = configured["paginator"]
        self.paged = paginator != "single_page"
        self._client = client
        self._parameter = paginator["page_param"] if self.paged else ""
        self._query = configured.get("params", {})
        self._path = tuple(configured["data_selector"].split("."))

    def send(self, batch: PageRequest) -> list[Pending]:
        numbers = [{self._parameter: number} if self.paged else {} for number in batch.numbers]
        return self._client.send([{**self._query, **number} for number in numbers])

    def receive(self, batch: PageRequest, sent: Sequence[Pending]) -> list[Page]:
        return [
            Page(
                number=number,
                rows=find_rows(self._client.endpoint, reply.body, self._path),
                envelope=reply.body["result"],
                read_at=reply.read_at,
            )
            for number, reply in zip(batch.numbers, self._client.receive(sent), strict=True)
        ]


def _choose_pages(request: ReadRequest) -> PageRequests:
    """Return the generator that chooses the pages of the window."""
    resource, window = request.resource, request.window
    bounds = Bounds(
        start=int(window.start.timestamp()) if window and window.start else None,
        # An end in the future bounds nothing.
        end=int(window.end.timestamp()) if window and window.end < request.now else None,
    )
    order = _list_order(resource, request.now)
    return paginate(order, bounds, read_ahead=request.settings.read_ahead, name=resource.name)


def _list_order(resource: Resource, now: datetime) -> ListOrder:
    """Return how the pages of a resource are ordered, and how a raw row tells its key and its time."""
    field = resource.ordered_by
    earliest, latest = plausible_seconds(now)

    def time(row: Any) -> int | None:
        value = row.get(field) if type(row) is dict else None
        return value if type(value) is int and earliest <= value <= latest else None

    def key(row: Any) -> object:
        values = [row.get(name) for name in resource.primary_key] if type(row) is dict else [None]
        return tuple(values) if all(type(value) in _KEY_TYPES for value in values) else None

    return ListOrder(key=key, time=time, ordered=field is not None)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let the garbage collector run rarely.

    Parsed rows have no cycles, but are so many that the collector would traverse them all the time, and with them all
    imported modules. (Freezing those would keep it from the garbage of earlier loads.)
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)


class _Progress:
    """Logs a line for each batch: one every few seconds at level INFO, the others at DEBUG."""

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._rows = 0
        self._began = self._logged = time.monotonic()

    def log(self, pages: Sequence[Page]) -> None:
        """Log the line of a batch."""
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
                level, "%s: pages %d-%d with %d rows; %d rows so far, %.0f rows/s",
                self._resource, pages[0].number, pages[-1].number, rows, self._rows,
                self._rows / max(now - self._began, 0.001),
            )  # fmt: skip
