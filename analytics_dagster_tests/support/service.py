"""The sandbox with a clock that stands still, and servers for replies that the sandbox does not give."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from analytics_dagster.sandbox import PROJECT_KEY, Sandbox, SandboxProject

OTHER_PROJECT = SandboxProject(name="other", id=2002, key=PROJECT_KEY, seed=8)
"""A project that is not the default one, behind the same key, as if the key had been replaced in the settings."""


@contextmanager
def a_service(history_days: int = 2, **options: Any) -> Iterator[Sandbox]:
    """Serve the sandbox over a real socket. Its clock stands still."""
    now = time.time()
    with Sandbox(clock=lambda: now, history_days=history_days, rate_limit=1_000_000, **options) as sandbox:
        yield sandbox


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run a server and yield its address and port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients may reject the certificate
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def truth(service: Sandbox, name: str) -> set[Any]:
    """Return the keys of the service's rows."""
    rows = service.rows(name)
    if name == "top_active_items":
        return {entry["item"]["id"] for entry in rows}
    return {row["item_counter" if name == "items_metrics" else "id"] for row in rows}
