"""HTTP requests to one endpoint of the analytics API: connections, retries, the rate limit. Knows no paging.

The contents of a request, headers included, are in rest_config.py.

One client serves one load and one thread. Several requests are under way at a time: they are sent together and their
replies are received in order; those that failed and may succeed are sent again, together, after a wait.

    with closing(build_client(rest_api_config(settings), resource, settings, Traffic())) as client:
        (reply,) = client.receive(client.send([{"page": 1}]))
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import orjson
import requests
from dlt.sources.helpers.rest_client.utils import join_url
from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest import rest_config
from analytics_dagster.ingest.bounded_replies import Limits, ReplyTooLargeError
from analytics_dagster.ingest.errors import AnalyticsApiError
from analytics_dagster.ingest.keep_alive import Connections, NoReplyError, RawReply, Sent
from analytics_dagster.ingest.replies import Endpoint, RetryableError, announced_wait, read_body, service_time
from analytics_dagster.ingest.rest_config import RETRIED_STATUSES, RETRIES, ApiKeyHeader, endpoint_of
from analytics_dagster.ingest.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A successful reply.

    Attributes:
        body: Parsed body.
        read_at: When its request was sent, UTC.
        size: Bytes of the body.
    """

    body: dict[str, Any]
    read_at: datetime
    size: int = 0


@dataclass
class Traffic:
    """Observations of a load's requests.

    Attributes:
        requests: Requests sent, retries included.
        retries: Retries among them.
        seconds_waited: Seconds spent waiting between them.
        service_time: The `Date` of the first reply, ISO 8601; None if it had none.
        list_end: Time of the oldest row if the list ended above the window's start, ISO 8601; None otherwise.
        empty: Whether the list was empty.
    """

    requests: int = 0
    retries: int = 0
    seconds_waited: float = 0.0
    service_time: str | None = None
    list_end: str | None = None
    empty: bool = False


@dataclass
class Pending:
    """A request and the state of its latest attempt."""

    query: Mapping[str, object]
    sent: Sent | None = None
    sent_at: datetime | None = None
    failure: RetryableError | None = None
    reply: Reply | None = None


class ApiClient:
    """Sends requests to one endpoint, several at a time.

    Args:
        endpoint: Where to send them, and with which headers.
        limits: Bounds of a reply.
        max_rate_wait: Longest wait for the rate limit's window to end, in seconds.
        backoff_factor: Seconds before the first retry; doubled for each further one.
        traffic: Totals to add to; new ones by default.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        limits: Limits,
        max_rate_wait: float,
        backoff_factor: float,
        traffic: Traffic | None = None,
    ) -> None:
        self.traffic = traffic or Traffic()
        self.endpoint = endpoint
        self._connections = Connections(endpoint.url, endpoint.headers, limits)
        self._max_rate_wait = max_rate_wait
        self._backoff_factor = backoff_factor
        self._body = None if endpoint.body is None else orjson.dumps(endpoint.body)
        self._not_before = 0.0

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    def send(self, queries: Sequence[Mapping[str, object]]) -> list[Pending]:
        """Send requests together, without waiting for replies. While the rate limit is used up, none is sent."""
        pending = [Pending(query) for query in queries]
        if time.monotonic() >= self._not_before:
            self._send(pending)
        return pending

    def receive(self, requests: Sequence[Pending]) -> list[Reply]:
        """Wait for the replies, retry failures that may pass, and return the replies in the order of the requests.

        Raises:
            AnalyticsApiError: A request was refused, or failed once more than it is retried.
        """
        due = [pending for pending in requests if pending.reply is None]
        for retries in range(RETRIES + 1):
            self._send([pending for pending in due if pending.sent is None and pending.failure is None])
            for pending in due:
                if pending.sent:
                    self._receive(pending)
            due = [pending for pending in due if pending.reply is None]
            if not due:
                break
            self._wait_to_retry(due, retries)
            for pending in due:
                pending.failure = None
        return [pending.reply for pending in requests if pending.reply]

    def receive_first(self, requests: Sequence[Pending]) -> int:
        """Wait until one of the requests has its reply, and return its place.

        If one fails in a way that may pass, the others are received too, so that all wait for the retry together.

        Raises:
            AnalyticsApiError: A request was refused, or failed once more than it is retried.
        """
        self._send([pending for pending in requests if pending.sent is None and pending.reply is None])
        if not any(pending.reply for pending in requests):
            sent = [pending.sent for pending in requests if pending.sent]
            for place in self._connections.wait(sent):
                self._receive(requests[place])
            if any(pending.failure for pending in requests):
                self.receive(requests)
        return next(place for place, pending in enumerate(requests) if pending.reply)

    # -- one round of requests ----------------------------------------------------------------------------

    def _send(self, due: Sequence[Pending]) -> None:
        if due:
            self._wait_for_rate_limit()
        for pending in due:
            pending.sent_at = datetime.now(UTC)
            pending.sent = self._connections.send(self.endpoint.method, urlencode(pending.query), self._body)
            self.traffic.requests += 1

    def _receive(self, pending: Pending) -> None:
        """Receive the reply to a request, or its failure."""
        assert pending.sent
        assert pending.sent_at
        sent, pending.sent = pending.sent, None
        try:
            response = self._connections.receive(sent)
            body = self._read(response)
        except NoReplyError as error:
            pending.failure = RetryableError(f"no reply ({error})")
        except ReplyTooLargeError:
            raise too_large(self.endpoint) from None
        except RetryableError as failure:
            pending.failure = failure
        else:
            pending.reply = Reply(body=body, read_at=pending.sent_at, size=len(response.data))

    def _read(self, response: RawReply) -> dict[str, Any]:
        headers = response.headers
        self.traffic.service_time = self.traffic.service_time or service_time(headers)
        if headers.get("X-Rate-Limit-Remaining") == "0" and response.status not in RETRIED_STATUSES:
            self._not_before = max(self._not_before, time.monotonic() + announced_wait(headers))
        return read_body(self.endpoint, response.status, headers, response.data)

    # -- waiting ------------------------------------------------------------------------------------------

    def _wait_to_retry(self, failed: Sequence[Pending], retries: int) -> None:
        """Wait as long as the slowest of the failures needs; give up on a last attempt or too long a wait."""
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
                self.endpoint.label, self.endpoint.redact(str(failure)), retries + 1, RETRIES, wait,
            )  # fmt: skip
            self.traffic.retries += 1
            longest = max(longest, wait)
        self._sleep(longest)

    def _wait_for_rate_limit(self) -> None:
        while (wait := self._not_before - time.monotonic()) > 0:
            if wait > self._max_rate_wait:
                raise self._given_up(RetryableError("the rate limit is used up", status=429), attempts=0, wait=wait)
            logger.info("%s: the rate limit is used up; waiting %.0f s", self.endpoint.label, wait)
            self._sleep(wait)

    def _sleep(self, seconds: float) -> None:
        self.traffic.seconds_waited += seconds
        time.sleep(seconds)

    def _given_up(self, failure: RetryableError, *, attempts: int, wait: float) -> AnalyticsApiError:
        advice = give_up_advice(failure)
        if failure.status == HTTPStatus.TOO_MANY_REQUESTS and wait > self._max_rate_wait:
            advice = f"Try again in {wait:.0f} s, or raise max_rate_wait ({self._max_rate_wait:.0f} s)."
        text = f"{failure} after {attempts} attempts" if attempts else str(failure)
        return self.endpoint.error(text, failure.status, advice)


def give_up_advice(failure: RetryableError) -> str | None:
    """Return the next step after the last retry; None for the advice that goes with the status."""
    if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
        return None
    up = failure.status == HTTPStatus.OK
    return (
        f"Check base_url{': the server at this address is not the API' if up else ', and whether the service is up'}."
    )


def too_large(endpoint: Endpoint) -> AnalyticsApiError:
    """Return the error of a reply that has too many bytes."""
    advice = "Lower page_size.{resource}, or raise max_reply_megabytes."
    return endpoint.error("the reply is larger than max_reply_megabytes", None, advice)


def build_endpoint(config: RESTAPIConfig, resource: Resource, settings: Settings) -> Endpoint:
    """Return the endpoint of a resource as its configuration says, with the key in its headers.

    Raises:
        SettingsError: The key is missing, or cannot stand in an HTTP header.
    """
    configured: Any = endpoint_of(config, resource)
    url = join_url(config["client"]["base_url"], configured["path"])
    request = requests.Request("GET", url, headers=configured["headers"]).prepare()
    public = dict(request.headers)
    auth = configured["auth"]
    auth(request)
    secrets = {value for name, value in request.headers.items() if name not in public}
    return Endpoint(
        resource=resource.name,
        label=settings.label(resource),
        url=url,
        method=configured["method"],
        body=configured.get("json"),
        headers={name: str(value) for name, value in request.headers.items()},
        key_name=auth.setting if isinstance(auth, ApiKeyHeader) else "the key",
        kind_of_key="an account's key" if resource.account_key else "a project's key",
        secrets=(*secrets, *settings.secrets),
    )


def build_client(config: RESTAPIConfig, resource: Resource, settings: Settings, traffic: Traffic) -> ApiClient:
    """Return a client for the endpoint of a resource that adds to the totals of a load."""
    return ApiClient(
        build_endpoint(config, resource, settings),
        limits=rest_config.reply_limits(settings),
        max_rate_wait=settings.max_rate_wait,
        backoff_factor=rest_config.BACKOFF_FACTOR,
        traffic=traffic,
    )
