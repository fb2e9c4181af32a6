"""One writer at a time: after loads that start together, or are killed, the warehouse has the service's rows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.project import Project, daily_partition
from analytics_dagster_tests.support.service import truth

pytestmark = [pytest.mark.slow, pytest.mark.every_warehouse]


def terminal(project: Project, service: Sandbox, home: Path, *names: str) -> "subprocess.Popen[str]":
    """Start a load of five days as in a terminal of its own, with an instance of its own."""
    home.mkdir(exist_ok=True)
    selection = " or ".join(f"key:analytics/{name}" for name in names)
    return subprocess.Popen(
        [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "analytics_dagster.definitions",
         "--select", selection, "--partition-range", f"{daily_partition(4)}...{daily_partition()}"],
        cwd=project.folder,
        env=os.environ | {
            "DAGSTER_HOME": str(home),
            "SOURCES__ANALYTICS__BASE_URL": service.url,
            "SOURCES__ANALYTICS__API_KEY": PROJECT_KEY,
            "SOURCES__ANALYTICS__ACCOUNT_API_KEY": ACCOUNT_KEY,
        },
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@contextmanager
def ended(*processes: "subprocess.Popen[str]") -> Iterator[None]:
    """Kill the processes at the end."""
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_loads_in_two_terminals_take_turns_and_both_end_well(project: Project, service: Sandbox, tmp_path: Path):
    project.use(service)
    first = terminal(project, service, tmp_path / "first", "occurrences")
    second = terminal(project, service, tmp_path / "second", "occurrences", "deploys")
    with ended(first, second):
        outputs = [process.communicate(timeout=120)[0] for process in (first, second)]
        assert [first.returncode, second.returncode] == [0, 0], outputs
    for name in ("occurrences", "deploys"):
        keys = [key for (key,) in project.rows(name, "id")]
        assert len(keys) == len(set(keys))
        assert set(keys) == truth(service, name)


@pytest.mark.parametrize("page", [1, 20, 80])
def test_a_load_that_was_killed_is_made_good_by_the_next(page: int, project: Project, service: Sandbox, tmp_path: Path):
    project.use(service, paging__occurrences="page")
    victims: list[subprocess.Popen[str]] = []

    def kill(resource: str, asked: int | None) -> None:
        if resource == "occurrences" and asked is not None and asked >= page and victims:
            os.kill(victims.pop().pid, signal.SIGKILL)

    service.before_reply = kill
    victim = terminal(project, service, tmp_path / "home", "items", "occurrences")
    victims.append(victim)
    with ended(victim):
        assert victim.wait(timeout=120) == -signal.SIGKILL
    service.before_reply = None
    began = time.monotonic()
    result = project.materialize("items", "occurrences", partition=daily_partition(), full_refresh=True)
    assert result.success
    assert time.monotonic() - began < 60
    for name in ("items", "occurrences"):
        keys = [key for (key,) in project.rows(name, "id")]
        assert len(keys) == len(set(keys))
        assert set(keys) == truth(service, name)
