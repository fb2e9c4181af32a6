"""Serves projects of the sandbox from a process of its own, whose clock stands still.

with start_sandbox([SandboxProject(name="web", id=1001, delay=0.1)]) as service:
    ...  # load from service.url
    service.occurrences["web"]  # the ids that it serves

`server_process` serves more rows than the sandbox could, of a single project.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import Event

from analytics_dagster.sandbox import ACCOUNT_KEY, Sandbox, SandboxProject
from analytics_dagster_tests.benchmark.server_process import LIFETIME, ROOT

HISTORY_DAYS = 2


@dataclass(frozen=True)
class Service:
    """A running sandbox.

    Attributes:
        url: Its base URL.
        projects: Its projects.
        occurrences: The ids of their occurrences, by the name of the project.
    """

    url: str
    projects: Sequence[SandboxProject]
    occurrences: Mapping[str, frozenset[int]]

    @property
    def rows(self) -> frozenset[int]:
        """The ids of the occurrences of all projects."""
        return frozenset[int]().union(*self.occurrences.values())


@contextmanager
def start_sandbox(projects: Sequence[SandboxProject]) -> Iterator[Service]:
    """Serve projects from a process of its own, until the context ends."""
    text = json.dumps([asdict(project) for project in projects])
    command = [sys.executable, "-m", "analytics_dagster_tests.benchmark.sandbox_process"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdin
        assert process.stdout
        process.stdin.write(text)
        process.stdin.close()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("The sandbox did not start; its message is above.")
        told = json.loads(line)
        occurrences = {name: frozenset(ids) for name, ids in told["occurrences"].items()}
        yield Service(told["url"], projects, occurrences)
    finally:
        process.terminate()
        process.wait(timeout=30)


def main() -> None:
    """Serve the projects that standard input lists as JSON. Print the URL and the ids of the occurrences."""
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    projects = [SandboxProject(**project) for project in json.load(sys.stdin)]
    now = time.time()
    with Sandbox(
        projects=projects,
        history_days=HISTORY_DAYS,
        account_key=ACCOUNT_KEY,
        clock=lambda: now,
        rate_limit=10**9,
    ) as sandbox:
        occurrences = {
            project.name: [row["id"] for row in sandbox.project(project.name).rows("occurrences")]
            for project in projects
        }
        print(json.dumps({"url": sandbox.url, "occurrences": occurrences}), flush=True)  # noqa: T201 - read above
        stopped.wait(LIFETIME)


if __name__ == "__main__":
    main()
