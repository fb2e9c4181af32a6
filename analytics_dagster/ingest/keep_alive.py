"""Keep-alive connections to one URL: several requests on their way at a time, without a thread.

`send` writes a request and returns; `receive` reads the reply. So requests wait for the service together, each on
a connection of its own, and other work is done meanwhile. What a reply says, and whether to ask again, is up to
`client.py`.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import certifi
import requests
from urllib3 import BaseHTTPResponse, make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

_FAILURES = (HTTPError, HTTPException, OSError)


class NoReplyError(Exception):
    """There was no reply, or only part of one. The text is the kind of failure: it names no address and no header."""


@dataclass(frozen=True)
class Sent:
    """A request that was sent, or could not be."""

    connection: HTTPConnection
    failure: Exception | None = None


class Connections:
    """Connections to the host of a URL, opened as they are needed.

    Args:
        url: Absolute URL, without a query.
        headers: Sent with every request.
        timeout: Seconds to wait for a connection, and for each part of a reply.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, timeout: float) -> None:
        self._route = _Route(url, timeout)
        self._headers = {**headers, **self._route.headers}
        self._idle: list[HTTPConnection] = []
        self._waiting: set[HTTPConnection] = set()

    def send(self, method: str, query: str = "", body: bytes | None = None) -> Sent:
        """Send a request; a body is JSON. A failure to do so shows when the reply is received."""
        connection = self._connection()
        target = f"{self._route.target}?{query}" if query else self._route.target
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        try:
            connection.request(method, target, body=body, headers=headers)
        except _FAILURES as failure:
            connection.close()
            return Sent(connection, failure)
        self._waiting.add(connection)
        return Sent(connection)

    def receive(self, sent: Sent) -> BaseHTTPResponse:
        """Wait for the reply to a request and return it, read to its end and decompressed.

        Raises:
            NoReplyError: There is none, or not all of it.
        """
        if sent.failure:
            raise NoReplyError(type(sent.failure).__name__)
        self._waiting.remove(sent.connection)
        try:
            response = sent.connection.getresponse()
        except _FAILURES as failure:
            sent.connection.close()
            raise NoReplyError(type(failure).__name__) from None
        self._idle.append(sent.connection)
        return response

    def _connection(self) -> HTTPConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_connected:
                return connection
            connection.close()  # the service has ended it meanwhile
        return self._route.connection()

    def close(self) -> None:
        """Close all of them; replies on their way are lost."""
        for connection in (*self._idle, *self._waiting):
            connection.close()
        self._idle.clear()
        self._waiting.clear()


class _Route:
    """How to reach a URL: with the certificates, and through the proxy, that `requests` would take.

    Attributes:
        target: What a request line names.
        headers: What the proxy wants with each request.
    """

    def __init__(self, url: str, timeout: float) -> None:
        environment: Any = requests.Session().merge_environment_settings(url, {}, None, None, None)
        self._service = urlsplit(url)
        self._options: dict[str, Any] = {"timeout": timeout}
        self._kind = HTTPConnection
        if self._service.scheme == "https":
            self._kind = HTTPSConnection
            self._options["ssl_context"] = _trusting(environment["verify"])
        self.target = self._service.path or "/"
        self.headers: dict[str, str] = {}
        proxy = environment["proxies"].get(self._service.scheme)
        self._proxy = urlsplit(proxy if "://" in proxy else f"http://{proxy}") if proxy else None
        self._proxy_headers: dict[str, str] = {}
        if self._proxy and self._proxy.username:
            user = f"{unquote(self._proxy.username)}:{unquote(self._proxy.password or '')}"
            self._proxy_headers = dict(make_headers(proxy_basic_auth=user))
        if self._proxy and self._kind is HTTPConnection:
            self.target, self.headers = url, self._proxy_headers

    def connection(self) -> HTTPConnection:
        """Return a connection that is not open yet."""
        if not self._proxy:
            return self._kind(self._service.hostname or "", self._service.port, **self._options)
        connection = self._kind(self._proxy.hostname or "", self._proxy.port or 80, **self._options)
        if self._kind is HTTPSConnection:
            connection.set_tunnel(self._service.hostname or "", self._service.port or 443, self._proxy_headers)
        return connection


def _trusting(bundle: object) -> ssl.SSLContext:
    """Return a TLS context for a bundle of certificates: a file, a folder, or those of `certifi`."""
    path = bundle if isinstance(bundle, str) else certifi.where()
    if Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)
