"""The steps from a request to its reply: recording, rate limit, authentication, answer, fault.

The steps that may refuse a request come in the real service's order. Contents of replies are in `lists` and `store`,
HTTP is in `server`.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from threading import Lock
from typing import Any

from analytics_dagster.sandbox.access import Keys, RateLimit, RateStatus
from analytics_dagster.sandbox.faults import FaultQueue, Original
from analytics_dagster.sandbox.lists import Lists
from analytics_dagster.sandbox.messages import RefusedError, Reply, Request, failure
from analytics_dagster.sandbox.quirks import Quirks
from analytics_dagster.sandbox.routes import Route, page_of
from analytics_dagster.sandbox.store import Store

_MOST_RECORDED = 100_000


@dataclass(slots=True)
class RecordedRequest:
    """A request to the service.

    Attributes:
        resource: Resource that was asked for; None for unknown paths.
        method: HTTP method.
        path: Path without the query.
        query: Query parameters.
        body: JSON value of the body, or its text if it is not JSON; None without a body.
        key: Kind of the key: `project`, `account`, `wrong`, or None if it is missing.
        status: HTTP status of the reply; None until it is made, and if the connection is reset.
    """

    resource: str | None
    method: str
    path: str
    query: dict[str, str]
    body: Any
    key: str | None
    status: int | None = None


class Service:
    """Answers requests. Safe to use from many threads.

    Args:
        store: The rows.
        routes: The resources.
        header: Name of the header that carries the key.
        keys: The keys that are accepted.
        rate: The rate limit.
        now: Returns epoch seconds.

    Attributes:
        quirks: Deviations from the documented service.
        requests: The requests so far, oldest first.
        before_reply: Called with the resource and page of each request, before its reply is made.
    """

    def __init__(
        self,
        *,
        store: Store,
        routes: tuple[Route, ...],
        header: str,
        keys: Keys,
        rate: RateLimit,
        now: Callable[[], int],
    ) -> None:

        self._store = store
        self._routes = {route.path: route for route in routes}
        self._header = header
        self._keys = keys
        self._rate = rate
        self._now = now
        self.quirks = Quirks()
        self._lists = Lists(lambda: self.quirks)
        self._faults = FaultQueue()
        self._lock = Lock()
        self.requests: list[RecordedRequest] = []
        self.before_reply: Callable[[str, int | None], object] | None = None

    @contextmanager
    def open_store(self) -> Iterator[Store]:
        """Yield the store as of now, for exclusive use."""
        with self._lock:
            self._store.advance(self._now())
            yield self._store

    def fail_next(self, kind: str, resource: str | None, times: int, after: int, options: dict[str, object]) -> None:
        """Queue a fault."""
        if resource is not None and resource not in {route.resource for route in self._routes.values()}:
            raise ValueError(f"no resource {resource!r}")
        with self._lock:
            self._faults.add(kind, resource, times, after, options)

    def clear_faults(self) -> None:
        """Clear the queued faults."""
        with self._lock:
            self._faults.clear()

    def go_empty(self, seconds: float) -> None:
        """Answer every request for rows with an empty list, for `seconds` of real time."""
        with self._lock:
            self._lists.go_empty(seconds)

    def answer(self, request: Request) -> Reply:
        """Record a request and return its reply."""
        route = self._routes.get(request.path)
        key = request.headers.get(self._header)
        recorded = self._record(request, route, key)
        # Outside the lock: the hook may wait for another request.
        if route is not None and self.before_reply is not None:
            self.before_reply(route.resource, _page_or_none(route, request))
        with self.open_store() as store:
            reply = self._reply(request, route, key, store)
            recorded.status = None if reply.reset else reply.status
            return self._add_date(reply, store.now)

    def _add_date(self, reply: Reply, now: int) -> Reply:
        # After the faults: the web server in front of the service adds it to their replies as well.
        if not self.quirks.sends_date:
            return reply
        date = formatdate(now + self.quirks.date_offset, usegmt=True)
        return replace(reply, headers={"Date": date, **reply.headers})

    def _record(self, request: Request, route: Route | None, key: str | None) -> RecordedRequest:
        try:
            body = json.loads(request.content) if request.content else None
        except ValueError:
            body = request.content.decode(errors="replace")
        recorded = RecordedRequest(
            resource=route.resource if route else None,
            method=request.method,
            path=request.path,
            query=dict(request.query),
            body=body,
            key=self._keys.kind(key),
        )
        with self._lock:
            if len(self.requests) >= _MOST_RECORDED:
                del self.requests[: _MOST_RECORDED // 2]
            self.requests.append(recorded)
        return recorded

    def _reply(self, request: Request, route: Route | None, key: str | None, store: Store) -> Reply:
        rate = self._rate.count_call(key or "", store.now)
        if route is None:
            return replace(failure(404, "not found"), headers=rate.headers)
        try:
            self._admit(request, route, key, rate)
            reply = Reply(content=self._lists.answer(route, request, store), headers=rate.headers)
        except RefusedError as refusal:
            reply = replace(failure(refusal.status, str(refusal)), headers=rate.headers)
        fault = self._faults.take(route.resource)
        return fault(Original(reply, route, _page_or_none(route, request), key or "")) if fault else reply

    def _admit(self, request: Request, route: Route, key: str | None, rate: RateStatus) -> None:
        if request.method != route.method:
            raise RefusedError(405, "method not allowed")
        self._keys.require(key, "account" if route.account else "project")
        if rate.exceeded:
            raise RefusedError(429, "rate limit exceeded")


def _page_or_none(route: Route, request: Request) -> int | None:
    try:
        return page_of(route, request)
    except RefusedError:
        return None
