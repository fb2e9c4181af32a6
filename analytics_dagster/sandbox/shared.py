"""One sandbox for all loads of a process, started by the first user and stopped by the last."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from analytics_dagster.sandbox.embedded import Sandbox

_lock = threading.Lock()
_running: list[Sandbox] = []
_users = 0


@contextmanager
def shared_sandbox() -> Iterator[str]:
    """Run the sandbox of this process meanwhile; yield its URL."""
    global _users  # noqa: PLW0603 - a count of one process
    with _lock:
        if not _running:
            sandbox = Sandbox()
            sandbox.start()
            _running.append(sandbox)
        _users += 1
        url = _running[0].url
    try:
        yield url
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _running.pop().stop()
