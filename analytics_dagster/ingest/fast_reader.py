"""The reader `fast`: the pages of a window alone, several requests at a time, with proof that no row slipped between.

Requests are as rest_config.py says, pages as pagination.py chooses. How rows are typed does not belong here.
"""

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import compress
from typing import Any

from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_dagster.catalog import Keyset, Resource
from analytics_dagster.ingest.client import ApiClient, Pending, build_client
from analytics_dagster.ingest.column_values import plausible_seconds
from analytics_dagster.ingest.errors import AnalyticsApiError
from analytics_dagster.ingest.keyset import KeyRequest, KeysetPlan, NotObeyedError
from analytics_dagster.ingest.lists import (
    DISORDER_SECONDS,
    Bounds,
    ListEnd,
    ListOrder,
    Page,
    PageRequest,
    PageRequests,
    UnsteadyListError,
)
from analytics_dagster.ingest.pagination import paginate, single_page
from analytics_dagster.ingest.pieces import Estimate, look_for_cuts
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.replies import find_rows
from analytics_dagster.ingest.rest_config import endpoint_of

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 2.0
"""Between two log lines at level INFO on the progress of a load."""

OBJECTS_BETWEEN_COLLECTIONS = 200_000
"""Threshold of Python's garbage collector while a load reads: the objects of a few thousand rows."""

UNSTEADY = "the service lists no rows where it listed some before"

_KEY_TYPES = frozenset({int, str})


def read_fast(request: ReadRequest, configs: Sequence[RESTAPIConfig]) -> Iterator[Page]:
    """Yield the pages of a resource.

    Raises:
        AnalyticsApiError: The service refused a request, or failed once more than it is retried.
    """
    paging = request.settings.paging.get(request.resource.name, "auto")
    for config in configs:
        client = build_client(config, request.resource, request.settings, request.traffic)
        endpoint = _Endpoint(client, endpoint_of(config, request.resource))
        with closing(client):
            if request.resource.keyset and endpoint.paged and paging != "page":
                yield from _read_by_key(endpoint, request, request.resource.keyset, required=paging == "keyset")
            else:
                yield from _read_by_number(endpoint, request)


def estimate_window(request: ReadRequest, config: RESTAPIConfig) -> Estimate:
    """Look at the list of an incremental resource, and return where to cut the window into pieces.

    Raises:
        AnalyticsApiError: The service refused a request, or failed once more than it is retried.
    """
    client = build_client(config, request.resource, request.settings, request.traffic)
    endpoint = _Endpoint(client, endpoint_of(config, request.resource))
    page_size = endpoint.query["limit"]
    began = time.monotonic()
    requests = 0
    looks = look_for_cuts(_list_order(request.resource, request.now), _bounds(request), page_size=page_size)
    with closing(client):
        number = next(looks)
        while True:
            requests += 1
            (page,) = endpoint.receive_pages([number], endpoint.send_pages([number]))
            try:
                number = looks.send(page)
            except StopIteration as end:
                estimate: Estimate = end.value
                break
    seconds = (time.monotonic() - began) / requests / request.settings.read_ahead
    return replace(estimate, seconds=estimate.requests * seconds)


def _read_by_number(endpoint: "_Endpoint", request: ReadRequest) -> Iterator[Page]:
    """Yield the wanted pages of a list. The next batch is on its way while the rows of this one are typed."""
    progress = _Progress(request.label)
    choice = _choose_pages(request) if endpoint.paged else single_page()
    batch: PageRequest | None = next(choice)
    sent: list[Pending] = []
    while batch:
        if batch.pause:
            time.sleep(batch.pause)
        asked = batch
        pages = endpoint.receive_pages(asked.numbers, sent or endpoint.send_pages(asked.numbers))
        try:
            batch = choice.send(pages)
        except StopIteration as end:
            _report_end(request, end.value)
            batch = None
        except UnsteadyListError as error:
            raise endpoint.error(str(error), "Try again later.") from None
        sent = endpoint.send_pages(batch.numbers) if batch and not batch.pause else []
        wanted = pages[1:] if asked.proof else pages
        if wanted:
            progress.log(f"pages {wanted[0].number}-{wanted[-1].number}", sum(len(page.rows) for page in wanted))
        yield from wanted


def _read_by_key(endpoint: "_Endpoint", request: ReadRequest, keyset: Keyset, *, required: bool) -> Iterator[Page]:
    """Yield the replies that a `KeysetPlan` requests, in the order in which they come.

    A service that ignores the keys is read by page numbers instead, unless the setting requires keys.
    """
    resource = request.resource
    bounds = _bounds(request)
    plan = KeysetPlan(
        bounds,
        limit=endpoint.query.get("limit"),
        grows=resource.name not in request.settings.page_size,
        read_ahead=request.settings.read_ahead,
    )
    order = _list_order(resource, request.now)
    progress = _Progress(request.label)
    requests: list[KeyRequest] = []
    pending: list[Pending] = []
    sent_at: list[float] = []
    number = 0
    try:
        while not plan.done:
            while (wanted := plan.next_request(time.monotonic())) is not None:
                requests.append(wanted)
                pending += endpoint.send_below(keyset.parameter, wanted)
                sent_at.append(time.monotonic())
            if not requests:
                time.sleep(plan.seconds_to_wait(time.monotonic()))
                continue
            place = endpoint.receive_first(pending)
            number += 1
            page, size = endpoint.page(number, pending.pop(place))
            rows = [(_first(order.key(row)), order.time(row)) for row in page.rows]
            now = time.monotonic()
            new = plan.take(requests.pop(place), rows, size=size, seconds=now - sent_at.pop(place), now=now)
            page.rows[:] = compress(page.rows, new)
            progress.log(f"reply {number}", len(page.rows))
            yield page
    except NotObeyedError:
        if required:
            raise endpoint.error(
                f"the service ignores {keyset.parameter}", f"Set paging.{resource.name} to page, or remove it."
            ) from None
        logger.warning("%s: the service ignores %s; reading by page numbers", request.label, keyset.parameter)
        endpoint.discard(pending)
        yield from _read_by_number(endpoint, request)
        return
    except UnsteadyListError:
        raise endpoint.error(UNSTEADY, "Try again later.") from None
    name = request.label
    if plan.seen_keys_only:
        logger.warning("%s: the service knows only keys of rows, so requests go one by one", name)
    if plan.keys.disorder > DISORDER_SECONDS:
        logger.warning("%s: rows are out of the order of their keys by up to %d s", name, plan.keys.disorder)
    _report_end(request, ListEnd(plan.keys.oldest, empty=plan.empty) if plan.ended or plan.empty else None)


def _report_end(request: ReadRequest, end: ListEnd | None) -> None:
    """Record that a list is empty, or ended above the window's start."""
    start = request.window and request.window.start
    request.traffic.empty = end is not None and end.empty
    if end and end.oldest is not None and start and end.oldest > start.timestamp():
        request.traffic.list_end = datetime.fromtimestamp(end.oldest, UTC).isoformat()


class _Endpoint:
    """A configured endpoint: sends requests for its pages, and finds the rows in their replies."""

    def __init__(self, client: ApiClient, configured: Any) -> None:
        paginator = configured["paginator"]
        self.paged = paginator != "single_page"
        self.query = configured.get("params", {})
        self._client = client
        self._parameter = paginator["page_param"] if self.paged else ""
        self._path = tuple(configured["data_selector"].split("."))

    def send_pages(self, numbers: Sequence[int]) -> list[Pending]:
        return self._client.send([{**self.query, **({self._parameter: n} if self.paged else {})} for n in numbers])

    def receive_pages(self, numbers: Sequence[int], sent: Sequence[Pending]) -> list[Page]:
        self._client.receive(sent)
        return [self.page(number, pending)[0] for number, pending in zip(numbers, sent, strict=True)]

    def send_below(self, parameter: str, wanted: KeyRequest) -> list[Pending]:
        query = {self._parameter: 1} if wanted.below is None else {parameter: wanted.below}
        limit = {} if wanted.limit is None else {"limit": wanted.limit}
        return self._client.send([{**self.query, **limit, **query}])

    def receive_first(self, sent: Sequence[Pending]) -> int:
        return self._client.receive_first(sent)

    def discard(self, sent: Sequence[Pending]) -> None:
        self._client.receive(sent)

    def page(self, number: int, pending: Pending) -> tuple[Page, int]:
        """Return the page in a reply, and the bytes of the reply."""
        reply = pending.reply
        assert reply
        rows = find_rows(self._client.endpoint, reply.body, self._path)
        return Page(number=number, rows=rows, envelope=reply.body["result"], read_at=reply.read_at), reply.size

    def error(self, text: str, advice: str) -> AnalyticsApiError:
        return self._client.endpoint.error(text, None, advice)


def _choose_pages(request: ReadRequest) -> PageRequests:
    """Return the generator that chooses the pages of the window."""
    order = _list_order(request.resource, request.now)
    read_ahead = request.settings.read_ahead
    return paginate(order, _bounds(request), read_ahead=read_ahead, name=request.label)


def _bounds(request: ReadRequest) -> Bounds:
    window = request.window
    return Bounds(
        start=int(window.start.timestamp()) if window and window.start else None,
        # An end in the future bounds nothing.
        end=int(window.end.timestamp()) if window and window.end < request.now else None,
        known_key=request.known_key,
    )


def _first(key: Any) -> int | None:
    """Return the only column of a key; None if it is not an integer."""
    return key[0] if key and type(key[0]) is int else None


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
def rare_collections() -> Iterator[None]:
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

    def log(self, batch: str, rows: int) -> None:
        """Log the line of a batch."""
        self._rows += rows
        now = time.monotonic()
        level = logging.DEBUG
        if now - self._logged >= SECONDS_BETWEEN_LINES:
            self._logged = now
            level = logging.INFO
        if logger.isEnabledFor(level):
            logger.log(
                level, "%s: %s with %d rows; %d rows so far, %.0f rows/s",
                self._resource, batch, rows, self._rows,
                self._rows / max(now - self._began, 0.001),
            )  # fmt: skip
