"""Requests and replies, as `server` exchanges them with the service, and the envelope of a reply's JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A request. The values of a repeated query parameter are joined by commas."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply.

    Attributes:
        status: HTTP status.
        content: Body.
        content_type: Content type of the body.
        headers: Further headers.
        delay: Seconds to wait before the reply is sent.
        reset: Whether to reset the connection instead.
        truncated: Whether to send half of the body and close the connection.
    """

    status: int = 200
    content: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    reset: bool = False
    truncated: bool = False


class RefusedError(Exception):
    """The service refuses a request, with an HTTP status and a message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


# Encodes every row and envelope as the service does: compact and in ASCII.
to_json = json.JSONEncoder(separators=(",", ":")).encode


def success(result: str) -> bytes:
    """Return the envelope around a result, which is JSON text."""
    # `surrogatepass` keeps lone surrogates in planted text.
    return f'{{"err":0,"result":{result}}}'.encode("utf-8", "surrogatepass")


def failure(status: int, message: str) -> Reply:
    """Return a reply with the envelope of a failure."""
    return Reply(status=status, content=to_json({"err": 1, "message": message}).encode())
