"""Answers requests for the rows of a resource: parameters, pages and the quirks that change them.

Paths and envelopes are in `routes`, the rows in `store`, the meaning of each quirk in `quirks`.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from analytics_dagster.sandbox.messages import RefusedError, Request, success
from analytics_dagster.sandbox.quirks import Quirks
from analytics_dagster.sandbox.routes import Route, envelope, page_of, positive
from analytics_dagster.sandbox.store import Store

_UNPROCESSABLE = 422
_MOST_HOURS = 168


@dataclass(frozen=True, slots=True)
class _CachedHead:
    content: bytes
    made_at: float  # time.monotonic()


class Lists:
    """Answers requests for the rows of a project. Not thread-safe: the service holds a lock.

    Args:
        store: The rows.
        quirks: Returns the present quirks.
    """

    def __init__(self, store: Store, quirks: Callable[[], Quirks]) -> None:
        self._store = store
        self._quirks = quirks
        self._empty_until = -math.inf  # time.monotonic()
        self._heads: dict[tuple[object, ...], _CachedHead] = {}
        self._calls: Counter[str] = Counter()

    def go_empty(self, seconds: float) -> None:
        """Answer every request with an empty list, for `seconds` of real time."""
        self._empty_until = time.monotonic() + seconds

    def answer(self, route: Route, request: Request) -> bytes:
        """Return the body of the reply to a request. Raises `RefusedError` if a parameter or the body is malformed."""
        page, now = page_of(route, request), time.monotonic()
        if now < self._empty_until:
            return success(envelope(route, self._store.project, page, [], total=0))
        if page != 1 or "lastId" in request.query or not self._quirks().cached_head:
            return self._body(route, page, request)
        query = (route.resource, *sorted(request.query.items()))
        head = self._heads.get(query)
        if head is None or now - head.made_at >= self._quirks().cached_head:
            head = self._heads[query] = _CachedHead(self._body(route, page, request), now)
        return head.content

    def _body(self, route: Route, page: int | None, request: Request) -> bytes:
        store = self._store
        if route.resource == "items_metrics":
            counters = _counters(request.content)
            # A planted row without a counter matches every request.
            texts = [row.text for row in store.table(route.resource) if row.key is None or row.key in counters]
        elif route.resource == "top_active_items":
            texts = [row.text for row in store.top_active(*_report(request.query))]
        elif page is None or route.page_size is None:
            texts = [row.text for row in store.table(route.resource)]
        else:
            size = self._size(route, route.page_size, request.query)
            if route.resource == "occurrences":
                texts = self._occurrences(page, size, request.query)
            else:
                rows = store.table(route.resource)
                number = self._numbered_page(page, size, len(rows))
                texts = [row.text for row in rows[(number - 1) * size : number * size]]
        total = len(store.table("items")) if route.resource == "items" else None
        return success(envelope(route, self._store.project, page, texts, total))

    def _occurrences(self, page: int, size: int, query: Mapping[str, str]) -> list[str]:
        store, quirks = self._store, self._quirks()
        last_id = positive(query, "lastId", 0)
        ignored = quirks.last_id == "ignored" or (
            quirks.last_id == "sometimes" and last_id and self._is_second("requests with lastId")
        )
        lags = quirks.replica_lag and self._is_second("occurrences")
        arrived_by = time.monotonic() - quirks.replica_lag if lags else math.inf
        if last_id and not ignored:
            if quirks.last_id == "seen ids only" and not store.has_occurrence(last_id):
                return []
            return store.occurrences((page - 1) * size, size, below=last_id, arrived_by=arrived_by)
        page = self._numbered_page(page, size, store.count_occurrences(arrived_by))
        return store.occurrences((page - 1) * size, size, arrived_by=arrived_by)

    def _size(self, route: Route, default: int, query: Mapping[str, str]) -> int:
        if route.largest_page is None:
            return default
        limits = (positive(query, "limit", default), route.largest_page, self._quirks().largest_limit)
        return min(limit for limit in limits if limit is not None)

    def _numbered_page(self, page: int, size: int, count: int) -> int:
        """Return the page to serve for a page number of a list of `count` rows; one beyond them has no rows."""
        quirks = self._quirks()
        pages = math.ceil(count / size)
        last = pages if quirks.deepest_page is None else min(pages, quirks.deepest_page)
        if page <= last:
            return page
        return last if last and quirks.repeats_last_page else pages + 1

    def _is_second(self, name: str) -> bool:
        """Count a call by that name, and return whether it is a second one of two."""
        self._calls[name] += 1
        return self._calls[name] % 2 == 0


def _report(query: Mapping[str, str]) -> tuple[int, frozenset[str], str]:
    hours = positive(query, "hours", 24)
    if hours > _MOST_HOURS:
        raise RefusedError(_UNPROCESSABLE, f"hours must be between 1 and {_MOST_HOURS}")
    environments = frozenset(name for name in query.get("environments", "").split(",") if name)
    sort = query.get("sort", "occurrences")
    if sort not in {"occurrences", "unique_occurrences"}:
        raise RefusedError(_UNPROCESSABLE, "sort must be occurrences or unique_occurrences")
    return hours, environments, sort


def _counters(content: bytes) -> list[int]:
    try:
        body = json.loads(content)
    except ValueError:
        raise RefusedError(_UNPROCESSABLE, "the body must be JSON") from None
    counters = body.get("item_counters") if isinstance(body, dict) else None
    # `isinstance` would accept `true`, since `bool` is a subclass of `int`.
    if not isinstance(counters, list) or not all(type(counter) is int for counter in counters):
        raise RefusedError(_UNPROCESSABLE, "item_counters must be a list of integers")
    return counters
