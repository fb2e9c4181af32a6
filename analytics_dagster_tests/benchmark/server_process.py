"""Starts the server in a process of its own, and controls it.

with start_server(100_000, spacing=3.6) as server:
    server.reset(delay=0.1)
    ...  # load from server.url
    server.stats()["requests"], server.truth()
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from analytics_dagster_tests.benchmark.times_and_ids import IdsBy, Spread

ROOT = Path(__file__).resolve().parents[2]
"""Folder from which the project's packages are imported."""

LIFETIME = 3_600.0
"""Seconds after which a server stops by itself, in case the benchmark was killed."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server.

    Attributes:
        url: Base URL of the service.
        rows: Occurrences in its list.
        newest: Time of the newest occurrence, in epoch seconds; in hourly bursts it is older.
        spacing: Mean seconds between two occurrences.
    """

    url: str
    rows: int
    newest: int
    spacing: float

    def reset(self, **behaviour: float) -> None:
        """Remove the arrived rows, clear the counts, and set the behaviour.

        Args:
            behaviour: `delay`, `jitter`, `arrivals_per_second` and `seed`, 0 by default, and `most_arrivals`.
        """
        self._request("reset", behaviour)

    def stats(self) -> dict[str, Any]:
        """Return `requests` by path, `arrived` rows and `cpu_seconds` of the process."""
        stats: dict[str, Any] = self._request("stats", {})
        return stats

    def truth(self, start: float | None = None, end: float | None = None) -> set[tuple[int, int]]:
        """Return id and time of the occurrences whose time lies in `[start, end)`."""
        bounds = {name: value for name, value in (("start", start), ("end", end)) if value is not None}
        rows = self._request("truth", bounds)
        return set(zip(rows["ids"], rows["times"], strict=True))

    def _request(self, command: str, query: dict[str, float]) -> Any:
        address = f"{self.url}/control/{command}?{urlencode(query)}"
        with urllib.request.urlopen(address, timeout=60) as reply:
            return json.load(reply)


@contextmanager
def start_server(rows: int, *, spacing: float, spread: Spread = "even", ids_by: IdsBy = "time") -> Iterator[Server]:
    """Serve a list of occurrences from a process of its own, until the context ends.

    The newest occurrence is a minute old: rows lie before the `Date` of the replies, as a service's do.

    Args:
        rows: Occurrences to begin with.
        spacing: Mean seconds between two of them.
        spread: How they are spread over time.
        ids_by: Whether ids grow with time or with each row.
    """
    newest = int(time.time()) - 60
    command = [sys.executable, "-m", "analytics_dagster_tests.benchmark.server"]
    options = {
        "rows": rows,
        "newest": newest,
        "spacing": spacing,
        "seconds": LIFETIME,
        "spread": spread,
        "ids-by": ids_by,
    }
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        port = process.stdout.readline().strip()
        if not port:
            raise RuntimeError("The benchmark's server did not start; its message is above.")
        yield Server(url=f"http://127.0.0.1:{port}", rows=rows, newest=newest, spacing=spacing)
    finally:
        process.terminate()
        process.wait(timeout=30)
