"""HTTP/1.1 over loopback: reads requests and writes replies. Their meaning is in `service`.

Connections are kept alive. Each reply leaves in one write: with two, delayed acknowledgements of TCP would add 40 ms
to every page.
"""

import os
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Event, Thread, current_thread
from urllib.parse import parse_qsl, urlsplit

from analytics_dagster.sandbox.messages import Reply, Request

_LOOPBACK = "127.0.0.1"
_JOIN_TIMEOUT = 2.0  # seconds that a thread may take to end
_POLL_INTERVAL = 0.02  # seconds within which the accepting thread notices a shutdown


class Server:
    """A server on a loopback port, which answers from threads of its own.

    Args:
        port: TCP port; 0 takes a free one.
        answer: Returns the reply to a request.
    """

    def __init__(self, port: int, answer: Callable[[Request], Reply]) -> None:
        self._listener = _Listener(port, answer)
        self._thread = Thread(target=self._listener.serve_forever, args=(_POLL_INTERVAL,), name="sandbox", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://{_LOOPBACK}:{self._listener.server_address[1]}"

    def stop(self) -> None:
        """Close the port and every connection, and wait for the threads to end."""
        self._listener.stopping.set()
        self._listener.shutdown()
        self._listener.server_close()
        for thread, connection in list(self._listener.connections.items()):
            with suppress(OSError):  # the client may have closed it already
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(_JOIN_TIMEOUT)
        self._thread.join(_JOIN_TIMEOUT)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self.stopping = Event()
        self.connections: dict[Thread, socket.socket] = {}
        super().__init__((_LOOPBACK, port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind looks up the host's name, which takes seconds with a slow resolver.
        TCPServer.server_bind(self)

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        # A client may close its connection at any time.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self.server.connections[current_thread()] = self.connection

    def finish(self) -> None:
        self.server.connections.pop(current_thread(), None)
        super().finish()

    def handle_method(self) -> None:
        target = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query: dict[str, str] = {}
        for name, value in parse_qsl(target.query, keep_blank_values=True):
            query[name] = f"{query[name]},{value}" if name in query else value
        self._send(self.server.answer(Request(self.command, target.path, query, self.headers, content)))

    def _send(self, reply: Reply) -> None:
        if reply.delay:
            self.server.stopping.wait(reply.delay)
        if reply.reset:
            self._reset()
            return
        headers = {
            "Content-Type": reply.content_type,
            "Content-Length": str(len(reply.content)),
            **reply.headers,
        }
        lines = [
            f"HTTP/1.1 {reply.status} {_phrase(reply.status)}",
            *(f"{k}: {v}" for k, v in headers.items()),
            "",
            "",
        ]
        content = reply.content
        if reply.truncated:
            self.close_connection = True
            content = content[: len(content) // 2]
        if self.command == "HEAD":
            content = b""
        self.wfile.write("\r\n".join(lines).encode("latin-1") + content)

    def _reset(self) -> None:
        # Closing without lingering sends RST: the client sees a connection reset by its peer.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        os.close(self.connection.detach())

    def log_message(self, _format: str, *_args: object) -> None:
        # Standard error is left to the load or the tests that run in this process.
        pass


# http.server calls a method for each HTTP method; the service refuses the ones that a path does not have.
for _method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"):
    setattr(_Handler, f"do_{_method}", _Handler.handle_method)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
