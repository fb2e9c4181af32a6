"""HTTP requests to the analytics API: keys, retries, the rate limit, error bodies. Knows no paging and no dlt.

One client serves one load and is shared by the threads that read ahead: what the service says of its rate
limit in one reply holds for all of them.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus, urlencode, urlsplit

import certifi
import orjson
import requests
import urllib3

from analytics_dagster.ingest.errors import AnalyticsApiError

logger = logging.getLogger(__name__)

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
RETRIES = 3
"""Specified, like the statuses."""

UNANNOUNCED_RATE_WAIT = 20.0
"""Seconds before each retry of a 429 that names no time: three of them outlast a window of a minute."""

QUICK_REPLY = 0.003
"""Seconds: a service that answers so fast is read fastest by one thread, for parsing keeps the others waiting."""

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
    """

    resource: str
    url: str
    key_name: str
    key: str = field(repr=False)
    key_header: str
    kind_of_key: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A successful reply: its parsed body, and when it was received."""

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


class ApiClient:
    """Sends requests to one endpoint, several at a time.

    Args:
        endpoint: Where to send them.
        concurrency: Requests in flight at most.
        timeout: Seconds to wait for a connection, and for each part of a reply.
        max_rate_wait: Seconds to wait at most for the rate limit's window to end.
        backoff_factor: Seconds before the first retry; doubled for each further one.
        on_close: Called when the client is closed.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        concurrency: int,
        timeout: float,
        max_rate_wait: float,
        backoff_factor: float,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.traffic = Traffic()
        self._endpoint = endpoint
        if not (endpoint.key.isascii() and endpoint.key.isprintable()):
            raise self._error("{key} holds characters that no HTTP header takes. Check how it was pasted.", None)
        self._headers = {
            endpoint.key_header: endpoint.key,
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": "analytics-dagster",
        }
        self._max_rate_wait = max_rate_wait
        self._backoff_factor = backoff_factor
        self._connections = _connections(endpoint.url, concurrency, timeout)
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix=f"read-{endpoint.resource}")
        self._on_close = on_close
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._not_before = 0.0
        self._usual_reply: float | None = None
        """Seconds a reply takes, averaged over the last few."""

    def close(self) -> None:
        """End the threads and connections; requests that wait for a retry give up."""
        self._closed.set()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._connections.clear()
        if self._on_close:
            self._on_close()

    def get_all(self, queries: Sequence[Mapping[str, object]]) -> list[Reply]:
        """Send one GET for each query, together, and return the replies in the queries' order.

        Raises:
            AnalyticsApiError: The first request, in that order, that failed for good.
        """
        quick = self._usual_reply is not None and self._usual_reply < QUICK_REPLY
        if len(queries) == 1 or quick:
            return [self.send("GET", query=query) for query in queries]
        futures = [self._threads.submit(self.send, "GET", query=query) for query in queries]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

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
        url = f"{self._endpoint.url}?{urlencode(query)}" if query else self._endpoint.url
        content = None if body is None else orjson.dumps(body)
        for attempt in range(RETRIES + 1):
            self._wait_for_rate_limit()
            try:
                return self._attempt(method, url, content)
            except _RetryableError as failure:
                limited = failure.status == requests.codes.too_many_requests
                wait = failure.wait if failure.wait is not None else self._backoff_factor * 2**attempt
                if attempt == RETRIES or (limited and wait > self._max_rate_wait):
                    raise self._given_up(failure, attempts=attempt + 1, wait=wait) from None
                logger.warning(
                    "%s: %s; retry %d of %d in %.1f s",
                    self._endpoint.resource, self._redact(str(failure)), attempt + 1, RETRIES, wait,
                )  # fmt: skip
                with self._lock:
                    self.traffic.retries += 1
                if limited:
                    self._hold_requests(wait)
                else:
                    self._sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    # -- one attempt --------------------------------------------------------------------------------------

    def _attempt(self, method: str, url: str, content: bytes | None) -> Reply:
        headers = self._headers if content is None else {**self._headers, "Content-Type": "application/json"}
        with self._lock:
            self.traffic.requests += 1
        began = time.perf_counter()
        try:
            response = self._connections.urlopen(
                method, url, body=content, headers=headers, retries=False, redirect=False
            )
            data = response.data
        except urllib3.exceptions.HTTPError as error:
            # Its text names the host but neither key nor query; the type says what happened.
            raise _RetryableError(f"no reply ({type(error).__name__})") from None
        seconds = time.perf_counter() - began
        self._usual_reply = seconds if self._usual_reply is None else 0.8 * self._usual_reply + 0.2 * seconds
        read_at = datetime.now(UTC)
        status, reply_headers = response.status, response.headers
        if status in RETRIED_STATUSES:
            wait = _rate_wait(reply_headers) if status == requests.codes.too_many_requests else None
            raise _RetryableError(f"HTTP {status}{self._said(data)}", status=status, wait=wait)
        if reply_headers.get("X-Rate-Limit-Remaining") == "0":
            self._hold_requests(_rate_wait(reply_headers))
        if 300 <= status < 400:  # noqa: PLR2004 - redirections
            raise self._refused(status, f" (redirect to {reply_headers.get('Location')})", reply_headers)
        if status != requests.codes.ok:
            raise self._refused(status, self._said(data), reply_headers)
        try:
            body = _parse(data)
        except ValueError:
            raise _RetryableError("a reply that is no JSON, with HTTP 200", status=status) from None
        if not isinstance(body, dict) or body.get("err") or body.get("result") is None:
            raise self._refused(status, self._said(data) or " (no result)", reply_headers)
        return Reply(body=body, read_at=read_at)

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

    def _hold_requests(self, seconds: float) -> None:
        """Let nobody send a request for so long."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)

    def _wait_for_rate_limit(self) -> None:
        while (wait := self._not_before - time.monotonic()) > 0:
            if wait > self._max_rate_wait:
                raise self._given_up(_RetryableError("the rate limit is used up", status=429), attempts=0, wait=wait)
            self._sleep(wait)

    def _sleep(self, seconds: float) -> None:
        with self._lock:
            self.traffic.seconds_waited += seconds
        if self._closed.wait(seconds):
            raise AnalyticsApiError(
                f"{self._endpoint.resource}: the load ended before this request was answered.",
                resource=self._endpoint.resource,
            )

    # -- errors -------------------------------------------------------------------------------------------

    def _given_up(self, failure: _RetryableError, *, attempts: int, wait: float) -> AnalyticsApiError:
        if failure.status == requests.codes.too_many_requests and wait > self._max_rate_wait:
            advice = f"Try again in {wait:.0f} s, or raise max_rate_wait ({self._max_rate_wait:.0f} s)."
        elif failure.status == requests.codes.ok:
            advice = "Check base_url: what answers there is not the API."
        else:
            advice = WHAT_TO_CHECK.get(failure.status or 0, "Check base_url, and whether the service is up.")
        what = f"{failure} after {attempts} attempts" if attempts else str(failure)
        return self._error(f"{what}. {advice}", failure.status)

    def _refused(self, status: int, said: str, headers: Mapping[str, str]) -> AnalyticsApiError:
        request_id = headers.get("X-Request-Id")
        asked = f", request {request_id}" if request_id else ""
        advice = WHAT_TO_CHECK.get(status, "Check base_url and paths.{resource}.")
        return self._error(f"HTTP {status}{asked}{said}. {advice}", status)

    def _error(self, text: str, status: int | None) -> AnalyticsApiError:
        endpoint = self._endpoint
        text = text.replace("{resource}", endpoint.resource).replace("{key}", endpoint.key_name)
        text = text.replace("{a_kind}", endpoint.kind_of_key)
        return AnalyticsApiError(
            f"{endpoint.resource}: {self._redact(text)}", resource=endpoint.resource, status=status
        )

    def _redact(self, text: str) -> str:
        key = self._endpoint.key
        for secret in {key, quote(key, safe=""), quote(key), quote_plus(key)} - {""}:
            text = text.replace(secret, "[redacted]")
        return text


def _connections(url: str, size: int, timeout: float) -> urllib3.PoolManager:
    """Keep-alive connections, with the proxy and the certificates that `requests` would take from the environment."""
    environment: Any = requests.Session().merge_environment_settings(url, {}, None, None, None)
    options: dict[str, Any] = {"maxsize": size, "block": True, "timeout": timeout}
    if urlsplit(url).scheme == "https":
        bundle = environment["verify"]
        options["ca_certs"] = bundle if isinstance(bundle, str) else certifi.where()
    proxy = environment["proxies"].get(urlsplit(url).scheme)
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


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
