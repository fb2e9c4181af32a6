"""A request as the service sees it, and its reply: what passes between `server` and everything behind it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One request. A query parameter given twice is joined by a comma."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply. The last three fields are how a reply goes wrong on its way."""

    status: int = 200
    content: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    reset: bool = False
    truncated: bool = False


class RefusedError(Exception):
    """The service refuses a request: HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        """Refuse with `status`."""
        super().__init__(message)
        self.status = status


# What every row and envelope is written with: compact, ASCII, as the service does.
to_json = json.JSONEncoder(separators=(",", ":")).encode


def success(result: str) -> bytes:
    """The envelope around a result that is JSON text already."""
    # Lone surrogates in planted text pass as they are.
    return f'{{"err":0,"result":{result}}}'.encode("utf-8", "surrogatepass")


def failure(status: int, message: str) -> Reply:
    """The envelope of a failure."""
    return Reply(status=status, content=to_json({"err": 1, "message": message}).encode())
