"""The reader `rest_api`: each list to its end, by dlt's own REST API source, client and paginators.

It is a second opinion on the reader `fast`, and a fallback. How rows are typed does not belong here.
https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import requests
from dlt.extract.exceptions import ResourceExtractionError
from dlt.extract.items_transform import ItemTransform
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_dagster.ingest.bounded_replies import ReplyTooLargeError, ReplyTooLateError
from analytics_dagster.ingest.client import build_endpoint, give_up_advice, too_large
from analytics_dagster.ingest.errors import AnalyticsApiError
from analytics_dagster.ingest.keep_alive import Connections
from analytics_dagster.ingest.lists import Page
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.replies import RetryableError, find_rows, read_body, service_time
from analytics_dagster.ingest.rest_config import reply_limits


def read_rest_api(request: ReadRequest, configs: Sequence[RESTAPIConfig]) -> Iterator[Page]:
    """Yield the pages of a resource.

    Raises:
        AnalyticsApiError: The service refused a request, or failed once more than it is retried.
        SettingsError: The environment names a proxy or certificates that cannot be used.
    """
    name = request.resource.name
    has_rows = False
    for config in configs:
        replies = _CheckedReplies(request, config)
        # dlt's client has no sentence for a proxy or certificates that cannot be used.
        Connections(replies.endpoint.url, {}, reply_limits(request.settings))
        pages = rest_api_source(config, name=f"analytics_{name}").resources[name].add_step(_ToPage(lambda page: page))
        previous: list[Any] = []
        try:
            with cast("requests.Session", config["client"]["session"]):
                for page in pages:
                    if page.rows and page.rows == previous:
                        break  # the service ignores the page number and would send this page for ever
                    previous = list(page.rows)
                    has_rows = has_rows or bool(previous)
                    yield page
        except ResourceExtractionError as error:
            if isinstance(error.__cause__, ReplyTooLargeError):
                raise too_large(replies.endpoint) from None
            if not isinstance(error.__cause__, requests.RequestException):
                raise
            raise replies.given_up(error.__cause__) from None
    request.traffic.empty = bool(configs) and not has_rows


class _CheckedReplies:
    """A response hook for dlt's client: fails on a reply that is an error, and counts requests."""

    def __init__(self, request: ReadRequest, config: RESTAPIConfig) -> None:
        self.endpoint = build_endpoint(config, request.resource, request.settings)
        self._late = reply_limits(request.settings).late
        self._traffic = request.traffic
        self._last: RetryableError | None = None
        configured: Any = config["resources"][0]
        self._path = tuple(configured["endpoint"]["data_selector"].split("."))
        configured["endpoint"]["response_actions"] = [self]

    def __call__(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self._traffic.requests += 1
        self._traffic.service_time = self._traffic.service_time or service_time(response.headers)
        self._traffic.retries += self._last is not None
        self._last = None
        try:
            body = read_body(self.endpoint, response.status_code, response.headers, response.content)
        except RetryableError as failure:
            self._last = failure
            response.raise_for_status()
            # dlt's client retries a broken transfer: a reply that is not JSON is one.
            raise requests.exceptions.ChunkedEncodingError(str(failure)) from None
        rows: Any = find_rows(self.endpoint, body, self._path)
        if rows is body["result"]:
            # A bare list of rows: move it to where the selector finds it.
            for key in reversed(self._path):
                rows = {key: rows}
            body = rows
        response.json = lambda **_: body  # type: ignore[method-assign] # parsed once, with the parser of the package

    def given_up(self, error: requests.RequestException) -> AnalyticsApiError:
        """Return the error of a load that failed after the last retry."""
        reason = self._late if isinstance(error, ReplyTooLateError) else type(error).__name__
        failure = self._last or RetryableError(f"no reply ({reason})")
        return self.endpoint.error(str(failure), failure.status, give_up_advice(failure))


class _ToPage(ItemTransform[Any, Any]):
    """A step of dlt's pipe that turns a page of dlt's client into ours; a map would turn row by row."""

    def __call__(self, item: Any, meta: Any = None) -> Page:
        response = item.response
        sent_at = datetime.now(UTC) - response.elapsed
        return Page(number=0, rows=list(item), envelope=response.json()["result"], read_at=sent_at)
