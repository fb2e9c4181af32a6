"""HTTP requests to the analytics API: keys, retries, the rate limit, error bodies. Knows no paging and no dlt.

One client serves one load, and one thread. Several requests can be on their way at a time: they are sent together and
their replies are taken in order; what failed and may pass is sent again, together, after a wait.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import orjson
from urllib3 import BaseHTTPResponse

from analytics_dagster.ingest.errors import AnalyticsApiError
from analytics_dagster.ingest.keep_alive import Connections, NoReplyError, Sent
from analytics_dagster.ingest.redaction import redact

logger = logging.getLogger(__name__)

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
RETRIES = 3
"""Specified, like the statuses."""

UNANNOUNCED_RATE_WAIT = 20.0
"""Seconds before each retry of a 429 that names no time: three of them outlast a window of a minute."""

_DIGITS_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_ZEROS = b"0" * 19
_LONG_INTEGER = re.compile(rb"[:\[,]\s*-?\d{19}")
_MESSAGE_LENGTH = 300

WHAT_TO_CHECK = {
    401: "Check {key}: the service did not accept it.",
    403: "Check {key}: {resource} needs {a_kind}, of an account whose plan includes it.",
    404: "Check base_url and paths.{resource}.",
    422: "Check {key} and the settings paths.{resource} and page_size.{resource}.",
    429: "Try again later, or lower read_ahead.",
}


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where and how a resource is asked for.

    Attributes:
        resource: Name for messages.
        url: Absolute URL without a query.
        key_name: The setting that holds the key, for messages.
        key: The key, sent in the header `key_header`.
        key_header: Name of that header.
        kind_of_key: What kind of key the service wants here, for messages.
        other_keys: Keys that go elsewhere, to be kept out of messages as well.
    """

    resource: str
    url: str
    key_name: str
    key: str = field(repr=False)
    key_header: str
    kind_of_key: str
    other_keys: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to ask the endpoint: the query, and a body that is sent as JSON."""

    method: str = "GET"
    query: Mapping[str, object] = field(default_factory=dict)
    body: Mapping[str, object] | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A successful reply: its parsed body, and a moment as of which it may be old: when it was asked for."""

    body: dict[str, Any]
    read_at: datetime


@dataclass
class Traffic:
    """What a client did: requests sent, retries included, and seconds spent waiting between them."""

    requests: int = 0
    retries: int = 0
    seconds_waited: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name."""
        return asdict(self)


class _RetryableError(Exception):
    """An attempt failed in a way that another may not."""

    def __init__(self, what: str, *, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.wait = wait


@dataclass
class Pending:
    """A request and what has become of it so far."""

    request: Request
    sent: Sent | None = None
    sent_at: datetime | None = None
    failure: _RetryableError | None = None
    reply: Reply | None = None


class ApiClient:
    """Sends requests to one endpoint, several at a time.

    Args:
        endpoint: Where to send them.
        timeout: Seconds to wait for a connection, and for each part of a reply.
        max_rate_wait: Seconds to wait at most for the rate limit's window to end.
        backoff_factor: Seconds before the first retry; doubled for each further one.
        on_close: Called when the client is closed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout: float,
        max_rate_wait: float,
        backoff_factor: float,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.traffic = Traffic()
        self._endpoint = endpoint
        if not (endpoint.key.isascii() and endpoint.key.isprintable()):
            raise self._error("{key} holds characters that no HTTP header takes. Check how it was pasted.", None)
        headers = {
            endpoint.key_header: endpoint.key,
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": "analytics-dagster",
        }
        self._connections = Connections(endpoint.url, headers, timeout=timeout)
        self._max_rate_wait = max_rate_wait
        self._backoff_factor = backoff_factor
        self._on_close = on_close
        self._not_before = 0.0

    def send(
        self,
        method: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Reply:
        """Send one request and return the reply once it succeeds.

        Raises:
            AnalyticsApiError: It was refused, or failed once more than it is retried.
        """
        (reply,) = self.replies(self.ask([Request(method=method, query=query or {}, body=body)]))
        return reply

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()
        if self._on_close:
            self._on_close()

    def ask(self, requests: Sequence[Request]) -> list[Pending]:
        """Send requests together and return without waiting for replies; while the rate limit is used up, send none."""
        pending = [Pending(request) for request in requests]
        if time.monotonic() >= self._not_before:
            self._send(pending)
        return pending

    def replies(self, asked: Sequence[Pending]) -> list[Reply]:
        """Wait for the replies, retrying what may pass, and return them in the order of the requests.

        Raises:
            AnalyticsApiError: One was refused, or failed once more than it is retried: the first of them.
        """
        due = list(asked)
        for retries in range(RETRIES + 1):
            self._send([pending for pending in due if pending.sent is None])
            for pending in due:
                self._receive(pending)
            due = [pending for pending in due if pending.reply is None]
            if not due:
                break
            self._wait_to_retry(due, retries)
        return [pending.reply for pending in asked if pending.reply]

    # -- one round of requests ----------------------------------------------------------------------------

    def _send(self, due: Sequence[Pending]) -> None:
        if due:
            self._wait_for_rate_limit()
        for pending in due:
            request = pending.request
            body = None if request.body is None else orjson.dumps(request.body)
            pending.sent_at = datetime.now(UTC)
            pending.sent = self._connections.send(request.method, urlencode(request.query), body)
            self.traffic.requests += 1

    def _receive(self, pending: Pending) -> None:
        """Take the reply to a request, or the failure that the next one may not have."""
        assert pending.sent
        assert pending.sent_at
        sent, pending.sent = pending.sent, None
        try:
            pending.reply = Reply(body=self._body(self._connections.receive(sent)), read_at=pending.sent_at)
        except NoReplyError as error:
            pending.failure = _RetryableError(f"no reply ({error})")
        except _RetryableError as failure:
            pending.failure = failure

    def _body(self, response: BaseHTTPResponse) -> dict[str, Any]:
        status, headers, data = response.status, response.headers, response.data
        if status in RETRIED_STATUSES:
            wait = _rate_wait(headers) if status == HTTPStatus.TOO_MANY_REQUESTS else None
            raise _RetryableError(f"HTTP {status}{_request_id(headers)}{self._said(data)}", status=status, wait=wait)
        if headers.get("X-Rate-Limit-Remaining") == "0":
            self._hold_requests(_rate_wait(headers))
        if 300 <= status < 400:  # noqa: PLR2004 - redirections
            raise self._refused(status, f" (redirect to {headers.get('Location')})", headers)
        if status != HTTPStatus.OK:
            raise self._refused(status, self._said(data), headers)
        try:
            body = _parse(data)
        except ValueError:
            text = f"a reply that is no JSON, with HTTP 200{_request_id(headers)}"
            raise _RetryableError(text, status=status) from None
        if not isinstance(body, dict) or body.get("err") or body.get("result") is None:
            raise self._refused(status, self._said(data) or " (no result)", headers)
        return body

    def _said(self, data: bytes) -> str:
        """What an error body says, in brackets; nothing if it is no JSON (the service sends HTML with 5xx)."""
        try:
            body = _parse(data)
        except ValueError:
            return ""
        message = body.get("message") if isinstance(body, dict) else None
        if not message:
            return ""
        text = self._redact(str(message))
        return f" ({text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + '…'})"

    # -- waiting ------------------------------------------------------------------------------------------

    def _wait_to_retry(self, failed: Sequence[Pending], retries: int) -> None:
        """Wait as long as each of the failures wants; give up where one was the last or wants too much."""
        longest = 0.0
        for failure in (pending.failure for pending in failed):
            assert failure
            # Never less than the backoff: a window that ends in half a second is announced as ending in 0.
            wait = max(failure.wait or 0.0, self._backoff_factor * 2**retries)
            limited = failure.status == HTTPStatus.TOO_MANY_REQUESTS
            if retries == RETRIES or (limited and wait > self._max_rate_wait):
                raise self._given_up(failure, attempts=retries + 1, wait=wait)
            logger.warning(
                "%s: %s; retry %d of %d in %.1f s",
                self._endpoint.resource, self._redact(str(failure)), retries + 1, RETRIES, wait,
            )  # fmt: skip
            self.traffic.retries += 1
            longest = max(longest, wait)
        self._sleep(longest)

    def _hold_requests(self, seconds: float) -> None:
        """Send no request for so long."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    def _wait_for_rate_limit(self) -> None:
        while (wait := self._not_before - time.monotonic()) > 0:
            if wait > self._max_rate_wait:
                raise self._given_up(_RetryableError("the rate limit is used up", status=429), attempts=0, wait=wait)
            logger.info("%s: the rate limit is used up; waiting %.0f s", self._endpoint.resource, wait)
            self._sleep(wait)

    def _sleep(self, seconds: float) -> None:
        self.traffic.seconds_waited += seconds
        time.sleep(seconds)

    # -- errors -------------------------------------------------------------------------------------------

    def _given_up(self, failure: _RetryableError, *, attempts: int, wait: float) -> AnalyticsApiError:
        if failure.status == HTTPStatus.TOO_MANY_REQUESTS and wait > self._max_rate_wait:
            advice = f"Try again in {wait:.0f} s, or raise max_rate_wait ({self._max_rate_wait:.0f} s)."
        elif failure.status == HTTPStatus.OK:
            advice = "Check base_url: what answers there is not the API."
        else:
            advice = WHAT_TO_CHECK.get(failure.status or 0, "Check base_url, and whether the service is up.")
        what = f"{failure} after {attempts} attempts" if attempts else str(failure)
        return self._error(f"{what}. {advice}", failure.status)

    def _refused(self, status: int, said: str, headers: Mapping[str, str]) -> AnalyticsApiError:
        advice = WHAT_TO_CHECK.get(status, "Check base_url and paths.{resource}.")
        return self._error(f"HTTP {status}{_request_id(headers)}{said}. {advice}", status)

    def _error(self, text: str, status: int | None) -> AnalyticsApiError:
        endpoint = self._endpoint
        text = text.replace("{resource}", endpoint.resource).replace("{key}", endpoint.key_name)
        text = text.replace("{a_kind}", endpoint.kind_of_key)
        return AnalyticsApiError(
            f"{endpoint.resource}: {self._redact(text)}", resource=endpoint.resource, status=status
        )

    def _redact(self, text: str) -> str:
        return redact(text, (self._endpoint.key, *self._endpoint.other_keys))


def _request_id(headers: Mapping[str, str]) -> str:
    """What the service calls the request, for its support, to append to a status; nothing if it does not say."""
    request_id = headers.get("X-Request-Id")
    return f", request {request_id}" if request_id else ""


def _rate_wait(headers: Mapping[str, str]) -> float:
    """Seconds until the service takes requests again, by its headers."""
    for name in ("X-Rate-Limit-Remaining-Seconds", "Retry-After"):
        value = headers.get(name, "")
        if value.isdigit():
            return float(value)
    return UNANNOUNCED_RATE_WAIT


def _has_long_integer(data: bytes) -> bool:
    """Whether JSON holds an integer of more digits than fit into 64 bits, as far as that can be told quickly."""
    return _ZEROS in data.translate(_DIGITS_TO_ZEROS) and _LONG_INTEGER.search(data) is not None


def _parse(data: bytes) -> Any:
    """Parse JSON; with the slower parser where the faster one refuses or rounds a value.

    orjson takes neither NaN nor half of a surrogate pair, and makes floats of integers above 64 bits.

    Raises:
        ValueError: It is no JSON.
    """
    if not _has_long_integer(data):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
