"""Replies of the service: a parsed body, or an error with its next step. Knows no connections and no paging.

A failure is JSON with `err` and `message`, also with HTTP 200, or HTML with 5xx.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import orjson

from analytics_dagster.catalog import Path
from analytics_dagster.ingest.errors import AnalyticsApiError
from analytics_dagster.ingest.redaction import redact
from analytics_dagster.ingest.rest_config import RETRIED_STATUSES

UNANNOUNCED_RATE_WAIT = 20.0
"""Seconds before each retry of a 429 that names no time: three of them outlast a window of a minute."""

_DIGITS_TO_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_ZEROS = b"0" * 19
_LONG_INTEGER = re.compile(rb"[:\[,]\s*-?\d{19}")
_MESSAGE_LENGTH = 300

_ADVICE = {
    401: "Check {key}: the service did not accept it.",
    403: "Check {key}: {resource} needs {kind_of_key}, of an account whose plan includes it.",
    404: "Check base_url and paths.{resource}.",
    422: "Check {key} and the settings paths.{resource} and page_size.{resource}.",
    429: "Try again later, or lower read_ahead.",
}


class RetryableError(Exception):
    """An attempt failed, and the next one may succeed.

    Attributes:
        status: HTTP status; None if there was no reply.
        wait: Seconds to wait that the service announced; None if it announced none.
    """

    def __init__(self, message: str, *, status: int | None = None, wait: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.wait = wait


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """The URL of a resource, with the names and secrets that its error messages need.

    Attributes:
        resource: Name of the resource.
        url: Absolute URL without a query.
        method: HTTP method.
        body: Body of every request, sent as JSON; None for no body.
        headers: Headers of every request, the key among them.
        key_name: The setting that holds the key.
        kind_of_key: The kind of key that the service expects here.
        secrets: Secrets that no message may repeat.
        label: The resource, and the project if there are several, as sentences name them; the resource by default.
    """

    resource: str
    url: str
    method: str = "GET"
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(repr=False)
    key_name: str
    kind_of_key: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    label: str = ""

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.resource)

    def redact(self, text: str) -> str:
        """Return a text without the secrets."""
        return redact(text, self.secrets)

    def error(self, text: str, status: int | None, advice: str | None = None) -> AnalyticsApiError:
        """Return an error whose message names the resource, the problem and the next step."""
        advice = advice or _ADVICE.get(status or 0, "Check base_url and paths.{resource}.")
        for name, value in (("resource", self.resource), ("key", self.key_name), ("kind_of_key", self.kind_of_key)):
            advice = advice.replace(f"{{{name}}}", value)
        message = f"{self.label}: {self.redact(f'{text}. {advice}')}"
        return AnalyticsApiError(message, resource=self.resource, status=status)


def read_body(endpoint: Endpoint, status: int, headers: Mapping[str, str], data: bytes) -> dict[str, Any]:
    """Return the parsed body of a successful reply.

    Raises:
        RetryableError: The service failed in a way that may pass.
        AnalyticsApiError: The service refused the request.
    """
    request = _request_id(headers)
    if status in RETRIED_STATUSES:
        wait = announced_wait(headers) if status == HTTPStatus.TOO_MANY_REQUESTS else None
        raise RetryableError(f"HTTP {status}{request}{_message(endpoint, data)}", status=status, wait=wait)
    if 300 <= status < 400:  # noqa: PLR2004 - redirections
        raise endpoint.error(f"HTTP {status}{request} (redirect to {headers.get('Location')})", status)
    if status != HTTPStatus.OK:
        raise endpoint.error(f"HTTP {status}{request}{_message(endpoint, data)}", status)
    try:
        body = parse_json(data)
    except ValueError:
        raise RetryableError(f"the reply is not JSON, with HTTP 200{request}", status=status) from None
    if not isinstance(body, dict) or body.get("err") or body.get("result") is None:
        raise endpoint.error(f"HTTP {status}{request}{_message(endpoint, data) or ' (no result)'}", status)
    return body


def find_rows(endpoint: Endpoint, body: dict[str, Any], path: Path) -> list[Any]:
    """Return the list of rows at a path of a body; a `result` that is the list itself is taken as well.

    Raises:
        AnalyticsApiError: There is no list.
    """
    rows: Any = body
    for key in path:
        rows = rows.get(key) if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        raise endpoint.error(f"the reply has no list at {'.'.join(path)}", None, "Check paths.{resource}.")
    return rows


def announced_wait(headers: Mapping[str, str]) -> float:
    """Return the seconds until the service accepts requests again, by its headers."""
    for name in ("X-Rate-Limit-Remaining-Seconds", "Retry-After"):
        value = headers.get(name, "")
        if value.isdigit():
            return float(value)
    return UNANNOUNCED_RATE_WAIT


def service_time(headers: Mapping[str, str]) -> str | None:
    """Return the service's time of a reply, its `Date`, as ISO 8601 in UTC; None if there is none, or no valid one."""
    try:
        return parsedate_to_datetime(headers["Date"]).astimezone(UTC).isoformat()
    except (KeyError, ValueError):
        return None


def parse_json(data: bytes) -> Any:
    """Parse JSON; with the slower parser where the faster one refuses or rounds a value.

    orjson takes neither NaN nor half of a surrogate pair, and makes floats of integers above 64 bits.

    Raises:
        ValueError: It is not JSON.
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


def _has_long_integer(data: bytes) -> bool:
    """Whether JSON may hold an integer with more digits than fit into 64 bits. A quick test comes first."""
    return _ZEROS in data.translate(_DIGITS_TO_ZEROS) and _LONG_INTEGER.search(data) is not None


def _message(endpoint: Endpoint, data: bytes) -> str:
    """The message of an error body, in brackets; empty if the body is not JSON."""
    try:
        body = parse_json(data)
    except ValueError:
        return ""
    message = body.get("message") if isinstance(body, dict) else None
    if not message:
        return ""
    text = endpoint.redact(str(message))
    return f" ({text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + '…'})"


def _request_id(headers: Mapping[str, str]) -> str:
    """The service's name for the request, to append to a status; empty if there is none."""
    request_id = headers.get("X-Request-Id")
    return f", request {request_id}" if request_id else ""
