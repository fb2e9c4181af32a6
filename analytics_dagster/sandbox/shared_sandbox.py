"""The sandbox of this process: all loads share it, the first one starts it and the last one stops it.

with shared_sandbox() as url:
...
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from analytics_dagster.sandbox.embedded import Sandbox

_lock = threading.Lock()
_uses: list[Sandbox] = []
"""The running sandbox, once for each load that uses it."""


@contextmanager
def shared_sandbox() -> Iterator[str]:
    """Keep the sandbox running, and yield its URL."""
    with _lock:
        sandbox = _uses[0] if _uses else Sandbox()
        if not _uses:
            sandbox.start()
        _uses.append(sandbox)
    try:
        yield sandbox.url
    finally:
        with _lock:
            _uses.pop()
            if not _uses:
                sandbox.stop()
