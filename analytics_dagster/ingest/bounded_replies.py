"""HTTP responses with bounds: a deadline for the whole, a size for the decompressed body, and no interim replies.

The timeout of a socket starts anew with each byte, and a compressed body can be a thousand times as large as what is
sent. The reader `fast` uses `BoundedResponse` and `read_bounded`, dlt's own client an adapter of `requests`:

    session.mount("https://", BoundedAdapter(limits))
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from io import BufferedReader, RawIOBase
from socket import socket
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

_PART = 2**20
"""Bytes that are decompressed at a time."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of a reply.

    Attributes:
        timeout: Seconds to wait for a connection, and for each part of a reply.
        reply_timeout: Seconds to wait for the whole reply.
        reply_bytes: Bytes of a body, decompressed.
    """

    timeout: float
    reply_timeout: float
    reply_bytes: int

    @property
    def late(self) -> str:
        """The reason why a late reply failed."""
        return f"not complete after {self.reply_timeout:g} s, the reply_timeout"


class ReplyTooLateError(requests.ReadTimeout, TimeoutError):
    """A reply was not complete at its deadline."""


class ReplyTooLargeError(Exception):
    """A reply is larger than it may be."""


class BoundedResponse(HTTPResponse):
    """A response of `http.client` that reads nothing after a deadline, and skips interim replies such as 103.

    Args:
        sock: Socket to read from.
        deadline: End of the reply, by `time.monotonic`.
        **options: Those of `HTTPResponse`.
    """

    def __init__(self, sock: socket, *, deadline: float, **options: Any) -> None:
        super().__init__(sock, **options)
        self.fp = BufferedReader(_DeadlineReader(self.fp.detach(), sock, deadline))

    def begin(self) -> None:
        """Read the status and the headers of the final reply; `http.client` itself skips 100 alone."""
        super().begin()
        while self.status < HTTPStatus.OK and self.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.headers = None  # type: ignore[assignment] # as before the first reply
            super().begin()


class _DeadlineReader(RawIOBase):
    """Reads from a socket until a deadline."""

    def __init__(self, raw: RawIOBase, sock: socket, deadline: float) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout = sock.gettimeout()
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise ReplyTooLateError
        self._sock.settimeout(left if self._timeout is None else min(self._timeout, left))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def read_bounded(read: Callable[[int], bytes], *, deadline: float, most: int) -> bytes:
    """Return the rest of a reply.

    Args:
        read: Returns up to some bytes of the decompressed body; none at its end.
        deadline: End of the reply, by `time.monotonic`.
        most: Bytes that the body may have.

    Raises:
        ReplyTooLateError: The deadline has passed.
        ReplyTooLargeError: The body has more bytes.
    """
    parts: list[bytes] = []
    size = 0
    while part := read(_PART):
        parts.append(part)
        size += len(part)
        if size > most:
            raise ReplyTooLargeError
        if time.monotonic() > deadline:
            raise ReplyTooLateError
    return b"".join(parts)


class BoundedAdapter(HTTPAdapter):
    """Reads the bodies of a session's replies within bounds; their headers have the session's timeout alone.

    Args:
        limits: Bounds of a reply.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request and return the reply with its body.

        Raises:
            ReplyTooLateError: The deadline has passed; dlt retries it as a timeout.
            ReplyTooLargeError: The body is too large.
            requests.RequestException: There is no reply, or it broke off.
        """
        deadline = time.monotonic() + self._limits.reply_timeout
        response = super().send(request, *args, **options)
        read = partial(response.raw.read1, decode_content=True)
        try:
            content = read_bounded(read, deadline=deadline, most=self._limits.reply_bytes)
        except (ReplyTooLateError, ReplyTooLargeError):
            response.close()
            raise
        except (HTTPError, HTTPException, OSError) as error:
            response.close()
            raise requests.exceptions.ChunkedEncodingError(type(error).__name__) from None
        response._content = content  # noqa: SLF001 - by itself a response reads its body whole, whatever its size
        return response
