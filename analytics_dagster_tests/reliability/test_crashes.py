"""Loads that die at any moment, or find no room to write: what is in the warehouse then, and after the next load."""

import multiprocessing
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dlt.common.runtime.run_context import switch_context

from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.project import Project, failure, load
from analytics_dagster_tests.support.service import a_service, truth

pytestmark = pytest.mark.slow

NAMES = ("items", "occurrences", "deploys")
KILLS = 25
SEED = 20
"""Of the moments; another one tries others."""

PATIENCE = 60.0

# Children start from a process that has everything imported and nothing open.
starting = multiprocessing.get_context("forkserver")
starting.set_forkserver_preload(["analytics_dagster_tests.reliability.test_crashes"])


def work_in(folder: str, url: str) -> None:
    """Be a user's process: in the project's folder, with the settings in the environment."""
    os.chdir(folder)
    os.environ |= {
        "SOURCES__ANALYTICS__BASE_URL": url,
        "SOURCES__ANALYTICS__API_KEY": PROJECT_KEY,
        "SOURCES__ANALYTICS__ACCOUNT_API_KEY": ACCOUNT_KEY,
    }
    switch_context(folder)


def victim(folder: str, url: str, say: Connection) -> None:
    """Load; say when that begins and when it is over, and wait for the end."""
    work_in(folder, url)
    say.send("begins")
    for name in NAMES:
        load(name)
    say.send("over")
    signal.pause()


def start(project: Project, service: Sandbox) -> tuple[Any, Connection]:
    """Start a victim and wait until it begins."""
    hear, say = starting.Pipe(duplex=False)
    process = starting.Process(target=victim, args=(str(project.folder), service.url, say))
    process.start()
    assert hear.poll(PATIENCE)
    assert hear.recv() == "begins"
    return process, hear


@pytest.fixture
def busy_service() -> Iterator[Sandbox]:
    with a_service(history_days=4) as sandbox:
        yield sandbox


def test_a_load_killed_at_any_moment_is_made_good_by_the_next(project: Project, busy_service: Sandbox) -> None:
    service = busy_service
    project.use(service)
    for name in NAMES:
        load(name)
    process, hear = start(project, service)
    began = time.monotonic()
    assert hear.poll(PATIENCE)
    undisturbed = time.monotonic() - began
    process.kill()
    process.join()
    moments = random.Random(SEED)
    recorded, killed_after_recording = windows_of_occurrences(project), 0
    for _ in range(KILLS):
        service.add_occurrences(30)
        service.update("items", service.rows("items")[5]["id"], title=f"changed {moments.random()}")
        process, _ = start(project, service)
        time.sleep(moments.uniform(0, undisturbed))
        process.kill()
        process.join()

        # Rows first, then coverage: where the load is recorded, its rows are there.
        if windows_of_occurrences(project) > recorded:
            killed_after_recording += 1
            assert keys(project, "occurrences") == sorted(truth(service, "occurrences"))
        for name in NAMES:
            load(name)  # which also finds the lock free
            assert keys(project, name) == sorted(truth(service, name))
        recorded = windows_of_occurrences(project)
    assert 0 < killed_after_recording < KILLS, "some were killed before their rows were in the table, some after"


def keys(project: Project, name: str) -> list[int]:
    return [key for (key,) in project.rows(name, "id")]


def windows_of_occurrences(project: Project) -> int:
    return len(project.sql("SELECT * FROM analytics.load_windows WHERE resource = 'occurrences'"))


def load_without_room(folder: str, url: str, bytes_a_file: int, say: Connection) -> None:
    """Load with a quota on the size of files, as on a disk that fills up."""
    work_in(folder, url)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_a_file, bytes_a_file))
    with pytest.MonkeyPatch.context() as monkeypatch, dg.DagsterInstance.ephemeral() as instance:
        result = Project(Path(folder), monkeypatch, instance).materialize("occurrences")
        say.send("" if result.success else failure(result))


@pytest.mark.parametrize(
    ("new_rows", "room", "error"),
    [(20_000, 2**20, "OSError"), (3_000, 2**16, "TransactionException")],
    ids=["of the working files", "of the warehouse"],
)
def test_a_disk_without_room_fails_the_load_with_a_sentence_and_keeps_the_old_rows(
    new_rows: int, room: int, error: str, project: Project, busy_service: Sandbox
) -> None:
    service = busy_service
    project.use(service)
    load("occurrences")
    before = project.rows("occurrences")
    service.add_occurrences(new_rows)
    hear, say = starting.Pipe(duplex=False)
    quota = project.warehouse.stat().st_size + room
    process = starting.Process(target=load_without_room, args=(str(project.folder), service.url, quota, say))
    process.start()
    assert hear.poll(PATIENCE)
    said = hear.recv()
    process.join()

    assert said.startswith(f"1 of 1 did not load: occurrences: {error}: ")
    assert "File too large. Make room where the warehouse is, and in " in said
    assert said.endswith("The rows that were there before are untouched.")
    assert project.rows("occurrences") == before
    load("occurrences")
    assert keys(project, "occurrences") == sorted(truth(service, "occurrences"))


@contextmanager
def read_only(file: Path) -> Iterator[None]:
    """Let nobody write a file: for root, who may write any, by an attribute that not every file system has."""
    if os.geteuid():
        file.chmod(0o444)
        yield
        file.chmod(0o644)
        return
    if subprocess.run(["chattr", "+i", file], check=False, capture_output=True).returncode:
        pytest.skip("root may write every file here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", file], check=True)


def test_a_read_only_warehouse_fails_the_load_with_a_sentence_and_can_be_read(
    project: Project, busy_service: Sandbox
) -> None:
    project.use(busy_service)
    load("deploys")
    before = project.rows("deploys")

    with read_only(project.warehouse):
        said = failure(project.materialize("deploys"))
        assert project.rows("deploys") == before

    assert said.startswith(f"The warehouse {project.warehouse} cannot be opened for writing: ")
    assert "make the file writable" in said
    load("deploys")
