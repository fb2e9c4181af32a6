"""How replies go wrong on demand.

A fault takes the reply that was due and returns another; `FaultQueue` decides which reply that is. The reply
due is made as always, so a fault never changes what the service holds.
"""

import gzip
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from analytics_dagster.sandbox.messages import HTML, Reply, failure, success
from analytics_dagster.sandbox.routes import Route, envelope

_FIRST_SERVER_ERROR = 500
_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Due:
    """What a fault may know of the reply that was due."""

    reply: Reply
    route: Route
    page: int | None
    key: str


def _page(title: str) -> bytes:
    return f"<!DOCTYPE html><title>{title}</title><body><h1>{title}</h1></body>".encode()


def _status(due: Due, *, status: int = 503, headers: bool = True, remaining_seconds: int | None = None) -> Reply:
    rate = dict(due.reply.headers) if headers else {}
    if headers and status == _TOO_MANY:
        rate["X-Rate-Limit-Remaining"] = "0"
    if headers and remaining_seconds is not None:
        rate["X-Rate-Limit-Remaining-Seconds"] = str(remaining_seconds)
    if status >= _FIRST_SERVER_ERROR:
        return Reply(status=status, content=_page(f"{status} Server Error"), content_type=HTML, headers=rate)
    message = "rate limit exceeded" if status == _TOO_MANY else f"refused with {status}"
    return replace(failure(status, message), headers=rate)


def _err(due: Due, *, status: int = 200, message: str = "something went wrong", echo_key: bool = False) -> Reply:
    return replace(failure(status, f"{message}: {due.key}" if echo_key else message), headers=due.reply.headers)


def _html(due: Due) -> Reply:
    return replace(due.reply, status=200, content=_page("Maintenance"), content_type=HTML)


def _broken_json(due: Due) -> Reply:
    return replace(due.reply, status=200, content=due.reply.content[: len(due.reply.content) * 2 // 3])


def _null_result(due: Due) -> Reply:
    return replace(due.reply, status=200, content=success("null"))


def _empty(due: Due) -> Reply:
    return replace(due.reply, status=200, content=success(envelope(due.route, due.page, [])))


def _reset(due: Due) -> Reply:
    return replace(due.reply, reset=True)


def _truncate(due: Due) -> Reply:
    return replace(due.reply, truncated=True)


def _slow(due: Due, *, seconds: float = 1.0) -> Reply:
    return replace(due.reply, delay=seconds)


def _redirect(due: Due, *, location: str = "/login", status: int = 302) -> Reply:
    return replace(due.reply, status=status, content=b"", headers={**due.reply.headers, "Location": location})


def _gzip(due: Due) -> Reply:
    headers = {**due.reply.headers, "Content-Encoding": "gzip"}
    return replace(due.reply, content=gzip.compress(due.reply.content), headers=headers)


_KINDS: dict[str, Callable[..., Reply]] = {
    "status": _status,
    "err": _err,
    "html": _html,
    "broken_json": _broken_json,
    "null_result": _null_result,
    "empty": _empty,
    "reset": _reset,
    "truncate": _truncate,
    "slow": _slow,
    "redirect": _redirect,
    "gzip": _gzip,
}


@dataclass(slots=True)
class _Fault:
    spoil: Callable[..., Reply]
    options: dict[str, object]
    resource: str | None
    after: int
    times: int


class FaultQueue:
    """The faults to come. Not thread-safe: the service holds a lock."""

    def __init__(self) -> None:
        """Begin without any."""
        self._faults: list[_Fault] = []

    def add(self, kind: str, resource: str | None, times: int, after: int, options: dict[str, object]) -> None:
        """Spoil `times` replies (of `resource`, or any) after the `after` next ones."""
        if kind not in _KINDS:
            raise ValueError(f"no kind of fault {kind!r}; there are {', '.join(_KINDS)}")
        if times < 1 or after < 0:
            raise ValueError("times must be at least 1, after at least 0")
        # A misspelt option is to fail here and not in the server's thread.
        inspect.signature(_KINDS[kind]).bind(None, **options)
        self._faults.append(_Fault(_KINDS[kind], options, resource, after, times))

    def clear(self) -> None:
        """Forget all faults to come."""
        self._faults.clear()

    def next(self, resource: str) -> Callable[[Due], Reply] | None:
        """The fault of the next reply of `resource`, taken off the queue."""
        for fault in self._faults:
            if fault.resource not in (None, resource):
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            if not fault.times:
                self._faults.remove(fault)
            return lambda due: fault.spoil(due, **fault.options)
        return None
