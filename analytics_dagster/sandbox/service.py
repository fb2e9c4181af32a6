"""The steps from a request to its reply: recording, rate limit, authentication, answer, fault.

The steps that may refuse a request come in the real service's order. Contents of replies are in `lists` and `store`,
HTTP is in `server`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from threading import Lock
from typing import Any

from analytics_dagster.sandbox.access import Keys, RateLimit, RateStatus
from analytics_dagster.sandbox.faults import FaultQueue, Original
from analytics_dagster.sandbox.lists import Lists
from analytics_dagster.sandbox.messages import RefusedError, Reply, Request, failure
from analytics_dagster.sandbox.project import SandboxProject
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
        project: Name of the project whose key it is, None if it is no project's.
        status: HTTP status of the reply; None until it is made, and if the connection is reset.
    """

    resource: str | None
    method: str
    path: str
    query: dict[str, str]
    body: Any
    key: str | None
    project: str | None
    status: int | None = None


class Service:
    """Answers requests. Safe to use from many threads.

    Args:
        stores: The rows of each project, at least one.
        routes: The resources.
        header: Name of the header that carries the key.
        keys: The keys that are accepted.
        rate: The rate limit.
        now: Returns epoch seconds.

    Attributes:
        quirks: Deviations from the documented service.
        requests: The requests so far, oldest first.
        before_reply: Called with the resource and page of each request, before its reply is made.

    Raises:
        ValueError: Two projects have the same name or id.
    """

    def __init__(
        self,
        *,
        stores: Sequence[Store],
        routes: tuple[Route, ...],
        header: str,
        keys: Keys,
        rate: RateLimit,
        now: Callable[[], int],
    ) -> None:

        self._stores = {store.project.name: store for store in stores}
        if len(self._stores) < len(stores) or len({store.project.id for store in stores}) < len(stores):
            raise ValueError("projects must have names and ids of their own")
        self._first = stores[0].project.name
        self._routes = {route.path: route for route in routes}
        self._header = header
        self._keys = keys
        self._rate = rate
        self._now = now
        self.quirks = Quirks()
        self._lists = {store.project.name: Lists(store, lambda: self.quirks) for store in stores}
        self._faults = FaultQueue()
        self._lock = Lock()
        self.requests: list[RecordedRequest] = []
        self.before_reply: Callable[[str, int | None], object] | None = None

    @contextmanager
    def open_store(self, project: str) -> Iterator[Store]:
        """Yield the store of a project as of now, for exclusive use."""
        with self._lock:
            store = self._stores[project]
            store.advance(self._now())
            yield store

    def require_project(self, name: str) -> None:
        """Raise ValueError unless there is a project of that name."""
        if name not in self._stores:
            raise ValueError(f"no project {name!r}; there are: {', '.join(self._stores)}")

    def fail_next(
        self,
        kind: str,
        *,
        resource: str | None,
        project: str | None,
        times: int,
        after: int,
        options: dict[str, object],
    ) -> None:
        """Queue a fault."""
        if project is not None:
            self.require_project(project)
        if resource is not None and resource not in {route.resource for route in self._routes.values()}:
            raise ValueError(f"no resource {resource!r}")
        with self._lock:
            self._faults.add(kind, resource=resource, project=project, times=times, after=after, options=options)

    def clear_faults(self) -> None:
        """Clear the queued faults."""
        with self._lock:
            self._faults.clear()

    def refuse(self, project: str) -> None:
        """Refuse the key of a project."""
        self.require_project(project)
        with self._lock:
            self._keys.refused.add(project)

    def admit(self, project: str) -> None:
        """Accept the key of a project again."""
        self.require_project(project)
        with self._lock:
            self._keys.refused.discard(project)

    def go_empty(self, seconds: float, project: str | None) -> None:
        """Answer every request for the rows of a project, or of all, with an empty list, for `seconds` of real time."""
        if project is not None:
            self.require_project(project)
        with self._lock:
            for name, lists in self._lists.items():
                if project in (None, name):
                    lists.go_empty(seconds)

    def answer(self, request: Request) -> Reply:
        """Record a request and return its reply."""
        route = self._routes.get(request.path)
        key = request.headers.get(self._header)
        project = self._keys.project(key)
        recorded = self._record(request, route, key, project)
        # Outside the lock: the hook may wait for another request.
        if route is not None and self.before_reply is not None:
            self.before_reply(route.resource, _page_or_none(route, request))
        # The account's rows are in the stores of all projects, and a wrong key sees no rows.
        with self.open_store(project.name if project else self._first) as store:
            reply = self._reply(request, route, key, store)
            if project:
                reply = replace(reply, delay=reply.delay + project.delay)
            recorded.status = None if reply.reset else reply.status
            return self._add_date(reply, store.now)

    def _add_date(self, reply: Reply, now: int) -> Reply:
        # After the faults: the web server in front of the service adds it to their replies as well.
        if not self.quirks.sends_date:
            return reply
        date = formatdate(now + self.quirks.date_offset, usegmt=True)
        return replace(reply, headers={"Date": date, **reply.headers})

    def _record(
        self, request: Request, route: Route | None, key: str | None, project: SandboxProject | None
    ) -> RecordedRequest:
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
            project=project.name if project else None,
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
            reply = Reply(content=self._lists[store.project.name].answer(route, request), headers=rate.headers)
        except RefusedError as refusal:
            reply = replace(failure(refusal.status, str(refusal)), headers=rate.headers)
        fault = self._faults.take(route.resource, store.project.name if self._keys.project(key) else None)
        if fault is None:
            return reply
        return fault(Original(reply, route, store.project, _page_or_none(route, request), key or ""))

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
