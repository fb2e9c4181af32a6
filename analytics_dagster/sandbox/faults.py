"""Faults on demand: functions that replace a reply, and the queue that decides which replies they replace.

The original reply is made as always, so a fault never changes the service's rows.
"""

import gzip
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from analytics_dagster.sandbox.messages import HTML, Reply, failure, success
from analytics_dagster.sandbox.project import SandboxProject
from analytics_dagster.sandbox.routes import Route, envelope

_FIRST_SERVER_ERROR = 500
_TOO_MANY = 429


@dataclass(frozen=True, slots=True)
class Original:
    """The reply that a fault replaces, with the request's route, project, page and key."""

    reply: Reply
    route: Route
    project: SandboxProject
    page: int | None
    key: str


def _html_page(title: str) -> bytes:
    return f"<!DOCTYPE html><title>{title}</title><body><h1>{title}</h1></body>".encode()


def _status(
    original: Original, *, status: int = 503, headers: bool = True, remaining_seconds: int | None = None
) -> Reply:
    rate = dict(original.reply.headers) if headers else {}
    if headers and status == _TOO_MANY:
        rate["X-Rate-Limit-Remaining"] = "0"
    if headers and remaining_seconds is not None:
        rate["X-Rate-Limit-Remaining-Seconds"] = str(remaining_seconds)
    if status >= _FIRST_SERVER_ERROR:
        return Reply(status=status, content=_html_page(f"{status} Server Error"), content_type=HTML, headers=rate)
    message = "rate limit exceeded" if status == _TOO_MANY else f"refused with {status}"
    return replace(failure(status, message), headers=rate)


def _err(
    original: Original, *, status: int = 200, message: str = "something went wrong", echo_key: bool = False
) -> Reply:
    text = f"{message}: {original.key}" if echo_key else message
    return replace(failure(status, text), headers=original.reply.headers)


def _html(original: Original) -> Reply:
    return replace(original.reply, status=200, content=_html_page("Maintenance"), content_type=HTML)


def _broken_json(original: Original) -> Reply:
    return replace(original.reply, status=200, content=original.reply.content[: len(original.reply.content) * 2 // 3])


def _null_result(original: Original) -> Reply:
    return replace(original.reply, status=200, content=success("null"))


def _empty(original: Original) -> Reply:
    return replace(
        original.reply, status=200, content=success(envelope(original.route, original.project, original.page, []))
    )


def _reset(original: Original) -> Reply:
    return replace(original.reply, reset=True)


def _truncate(original: Original) -> Reply:
    return replace(original.reply, truncated=True)


def _slow(original: Original, *, seconds: float = 1.0) -> Reply:
    return replace(original.reply, delay=seconds)


def _redirect(original: Original, *, location: str = "/login", status: int = 302) -> Reply:
    return replace(original.reply, status=status, content=b"", headers={**original.reply.headers, "Location": location})


def _gzip(original: Original) -> Reply:
    headers = {**original.reply.headers, "Content-Encoding": "gzip"}
    return replace(original.reply, content=gzip.compress(original.reply.content), headers=headers)


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
    replace_reply: Callable[..., Reply]
    options: dict[str, object]
    resource: str | None
    project: str | None
    after: int
    times: int


class FaultQueue:
    """The queued faults. Not thread-safe: the service holds a lock."""

    def __init__(self) -> None:
        self._faults: list[_Fault] = []

    def add(
        self,
        kind: str,
        *,
        resource: str | None,
        project: str | None,
        times: int,
        after: int,
        options: dict[str, object],
    ) -> None:
        """Queue a fault for `times` replies after the next `after` ones, of a resource and a project or of any."""
        if kind not in _KINDS:
            raise ValueError(f"kind must be one of {', '.join(_KINDS)}; not {kind!r}")
        if times < 1 or after < 0:
            raise ValueError("times must be at least 1, after at least 0")
        # A misspelt option fails here rather than in the server's thread.
        inspect.signature(_KINDS[kind]).bind(None, **options)
        self._faults.append(_Fault(_KINDS[kind], options, resource, project, after, times))

    def clear(self) -> None:
        """Clear the queue."""
        self._faults.clear()

    def take(self, resource: str, project: str | None) -> Callable[[Original], Reply] | None:
        """Take the fault of a reply off the queue, None if it has none. `project` is the one of the request's key."""
        for fault in self._faults:
            if fault.resource not in (None, resource) or fault.project not in (None, project):
                continue
            if fault.after:
                fault.after -= 1
                continue
            fault.times -= 1
            if not fault.times:
                self._faults.remove(fault)
            return lambda original: fault.replace_reply(original, **fault.options)
        return None
