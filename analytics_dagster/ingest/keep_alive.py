"""Keep-alive HTTP connections to one URL: several requests in flight at a time, without threads.

`send` writes a request and returns; `receive` reads the reply. Requests wait for the service together, each on a
connection of its own, and the caller works meanwhile. `client.py` judges the replies and retries.

    connections = Connections(url, headers, Limits(timeout=60.0, reply_timeout=300.0, reply_bytes=128_000_000))
    sent = [connections.send("GET", f"page={page}") for page in range(1, 9)]
    replies = [connections.receive(each) for each in sent]

A pool of urllib3 connections with threads, measured in its place, costs 10 % more CPU at 20 rows a page without delay,
and the same at 100 ms a page. `network.py` chooses proxies and certificates.
"""

import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from urllib3 import make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig, port_by_scheme
from urllib3.exceptions import HTTPError
from urllib3.util import Url, parse_url

from analytics_dagster.ingest.bounded_replies import (
    BoundedResponse,
    Limits,
    ReplyTooLargeError,
    ReplyTooLateError,
    read_bounded,
)
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.network import find_certificates, find_proxy

_FAILURES = (HTTPError, HTTPException, OSError)


class NoReplyError(Exception):
    """The reply is missing or incomplete. The text is the kind of failure: it names no address and no header."""


@dataclass(frozen=True)
class RawReply:
    """A reply, read to its end and decompressed."""

    status: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True)
class Sent:
    """A request that was written to its connection, or the failure to write it."""

    connection: HTTPConnection
    failure: Exception | None = None


class Connections:
    """Connections to the host of a URL, opened as they are needed.

    Args:
        url: Absolute URL, without a query.
        headers: Sent with every request.
        limits: Bounds of a reply.

    Raises:
        SettingsError: The environment names a proxy or certificates that cannot be used.
    """

    def __init__(self, url: str, headers: Mapping[str, str], limits: Limits) -> None:
        self._route = _Route(url, limits)
        self._headers = {**headers, **self._route.headers}
        self._limits = limits
        self._idle: list[HTTPConnection] = []
        self._waiting: set[HTTPConnection] = set()

    def send(self, method: str, query: str = "", body: bytes | None = None) -> Sent:
        """Send a request; a body is JSON. A failure to send is raised when the reply is received."""
        connection = self._take_connection()
        target = f"{self._route.target}?{query}" if query else self._route.target
        headers = self._headers if body is None else {**self._headers, "Content-Type": "application/json"}
        try:
            connection.request(method, target, body=body, headers=headers, preload_content=False)
        except _FAILURES as failure:
            connection.close()
            return Sent(connection, failure)
        self._waiting.add(connection)
        return Sent(connection)

    def receive(self, sent: Sent) -> RawReply:
        """Wait for the reply to a request and return it.

        Raises:
            NoReplyError: The reply is missing, incomplete or late.
            ReplyTooLargeError: The reply is too large.
        """
        if sent.failure:
            raise NoReplyError(type(sent.failure).__name__)
        connection = sent.connection
        self._waiting.remove(connection)
        deadline = _set_deadline(connection, self._limits)
        try:
            response = connection.getresponse()
            data = read_bounded(response.read, deadline=deadline, most=self._limits.reply_bytes)
        except _FAILURES as failure:
            connection.close()
            late = isinstance(failure, ReplyTooLateError) or time.monotonic() > deadline
            raise NoReplyError(self._limits.late if late else type(failure).__name__) from None
        except ReplyTooLargeError:
            connection.close()
            raise
        self._idle.append(connection)
        return RawReply(response.status, response.headers, data)

    def wait(self, sent: Sequence[Sent]) -> list[int]:
        """Wait until a reply to one of several requests has begun; return the places of those that have."""
        failed = [place for place, each in enumerate(sent) if each.failure]
        if failed:
            return failed
        sockets = [each.connection.sock for each in sent]
        ready = wait([socket for socket in sockets if socket], self._limits.timeout)
        # After the timeout, receiving the first one fails as it would have by itself.
        return [place for place, socket in enumerate(sockets) if socket in ready] or [0]

    def _take_connection(self) -> HTTPConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_connected:
                return connection
            connection.close()  # the service has closed its end
        return self._route.build_connection()

    def close(self) -> None:
        """Close all connections; replies in flight are lost."""
        for connection in (*self._idle, *self._waiting):
            connection.close()
        self._idle.clear()
        self._waiting.clear()


class _Route:
    """The way to a URL: directly, through a proxy that forwards requests, or through a proxy's tunnel.

    Attributes:
        target: Target in the request line.
        headers: Headers for a proxy that forwards requests.
    """

    def __init__(self, url: str, limits: Limits) -> None:
        service = parse_url(url)
        address = find_proxy(url)
        proxy, proxy_headers = _parse_proxy(address, service) if address else (None, {})
        host, port = _authority(proxy or service)
        self._kind = HTTPConnection
        self._options: dict[str, Any] = {"host": host, "port": port, "timeout": limits.timeout}
        self._limits = limits
        self._tunnel: dict[str, Any] = {}
        self.target, self.headers = service.path or "/", dict[str, str]()
        if "https" in (service.scheme, proxy and proxy.scheme):
            context = _build_tls_context()
            self._kind = HTTPSConnection
            self._options |= {"ssl_context": context, "proxy_config": ProxyConfig(context, False, None, None)}
        if proxy and service.scheme == "https":
            host, port = _authority(service)
            self._tunnel = {"host": host, "port": port, "headers": proxy_headers, "scheme": proxy.scheme}
        elif proxy:
            self.target, self.headers = service.url, proxy_headers

    def build_connection(self) -> HTTPConnection:
        """Return a connection that is not open yet."""
        connection = self._kind(**self._options)
        _set_deadline(connection, self._limits)  # for a proxy's reply
        if self._tunnel:
            connection.set_tunnel(**self._tunnel)
        return connection


def _set_deadline(connection: HTTPConnection, limits: Limits) -> float:
    """Start the time of a connection's next reply, and return when it ends."""
    deadline = time.monotonic() + limits.reply_timeout
    connection.response_class = partial(BoundedResponse, deadline=deadline)  # type: ignore[assignment]
    return deadline


def _parse_proxy(address: str, service: Url) -> tuple[Url, dict[str, str]]:
    """Return a proxy's URL and the headers that authenticate to it.

    Raises:
        SettingsError: The proxy cannot be used. The message leaves out its URL, which may hold a password.
    """
    headers: dict[str, str] = {}
    try:
        proxy = parse_url(address if "://" in address else f"http://{address}")
        if proxy.auth:
            headers = dict(make_headers(proxy_basic_auth=unquote(proxy.auth)))
    except ValueError:
        proxy = Url()
    if not proxy.host or proxy.scheme not in port_by_scheme:
        raise SettingsError(
            f"The environment's proxy for {service.host} must have an http:// or https:// URL; SOCKS is not supported. "
            f"Set {service.scheme}_proxy to such a URL, or add {service.host} to no_proxy."
        )
    return proxy, headers


def _authority(url: Url) -> tuple[str, int]:
    return url.host or "", url.port or port_by_scheme[url.scheme or "http"]


def _build_tls_context() -> ssl.SSLContext:
    """Return a TLS context that trusts the environment's certificates.

    Raises:
        SettingsError: They cannot be read.
    """
    path, name = find_certificates()
    folder = Path(path).is_dir()
    try:
        return ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)
    except OSError as error:
        reason = "it holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise SettingsError(
            f"The certificates that {name} names cannot be read: {path} ({reason}). Set {name} to a file of "
            "certificates in PEM format, or unset it."
        ) from None
