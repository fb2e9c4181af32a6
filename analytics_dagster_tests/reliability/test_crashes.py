"""Loads that are killed at any moment, or cannot write, keep the old rows; the next load completes them."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RLIMIT_FSIZE, setrlimit
from typing import Any

import dagster as dg
import pytest
from dlt.common.runtime.run_context import switch_context

from analytics_dagster.ingest import pieces
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.project import Project, failure, load
from analytics_dagster_tests.support.service import a_service, truth

pytestmark = pytest.mark.slow

NAMES = ("items", "occurrences", "deploys")
KILLS = 25
SEED = 20
"""Seeds the moments of the kills."""

DESTINATION = "destination.json"
PATIENCE = 60.0
"""Seconds to wait for a process."""

# Processes are forked from one that has imported everything and opened nothing.
forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["analytics_dagster_tests.reliability.test_crashes"])


def work_in(folder: str, url: str) -> None:
    """Turn this process into a user's: in the project's folder, with the settings in the environment."""
    os.chdir(folder)
    os.environ |= json.loads(Path(DESTINATION).read_text()) | {
        "SOURCES__ANALYTICS__BASE_URL": url,
        "SOURCES__ANALYTICS__API_KEY": PROJECT_KEY,
        "SOURCES__ANALYTICS__ACCOUNT_API_KEY": ACCOUNT_KEY,
    }
    switch_context(folder)


def load_until_killed(folder: str, url: str, sender: Connection) -> None:
    """Load, send a message at the start and the end, and wait to be killed."""
    work_in(folder, url)
    sender.send("started")
    for name in NAMES:
        load(name)
    sender.send("finished")
    signal.pause()


def start(
    project: Project, service: Sandbox, target: Callable[[str, str, Connection], None] = load_until_killed
) -> tuple[Any, Connection]:
    """Start a process that loads, and wait until it has started to."""
    receiver, sender = forkserver.Pipe(duplex=False)
    process = forkserver.Process(target=target, args=(str(project.folder), service.url, sender))
    process.start()
    assert receiver.poll(PATIENCE)
    assert receiver.recv() == "started"
    return process, receiver


@pytest.fixture
def busy_service(project: Project) -> Iterator[Sandbox]:
    """A service with more rows; the processes of the test find the settings of the warehouse in a file."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("DESTINATION__")}
    (project.folder / DESTINATION).write_text(json.dumps(settings))
    with a_service(history_days=2) as sandbox:
        yield sandbox


@pytest.mark.every_warehouse
def test_a_load_killed_at_any_moment_is_made_good_by_the_next(project: Project, busy_service: Sandbox) -> None:
    service = busy_service
    project.use(service)
    for name in NAMES:
        load(name)
    undisturbed = time_of(project, service, load_until_killed)
    moments = random.Random(SEED)
    recorded, killed_after_recording = len(windows_of_occurrences(project)), 0
    for _ in range(KILLS):
        service.add_occurrences(30)
        service.update("items", service.rows("items")[5]["id"], title=f"changed {moments.random()}")
        process, _ = start(project, service)
        time.sleep(moments.uniform(0, 1.3 * undisturbed))  # a machine with other work is slower at times
        process.kill()
        process.join()

        # Coverage is written after the rows: if the load is recorded, its rows are in the table.
        if len(windows_of_occurrences(project)) > recorded:
            killed_after_recording += 1
            assert keys(project, "occurrences") == sorted(truth(service, "occurrences"))
        for name in NAMES:
            load(name)  # the lock is free as well
            assert keys(project, name) == sorted(truth(service, name))
        recorded = len(windows_of_occurrences(project))
    assert 0 < killed_after_recording < KILLS, "some loads must be killed before their record, some after"


def time_of(project: Project, service: Sandbox, target: Callable[[str, str, Connection], None]) -> float:
    """Return the seconds that a process takes if nobody kills it."""
    process, receiver = start(project, service, target)
    began = time.monotonic()
    assert receiver.poll(PATIENCE)
    assert receiver.recv() == "finished"
    seconds = time.monotonic() - began
    process.kill()
    process.join()
    return seconds


def load_pieces_until_killed(folder: str, url: str, sender: Connection) -> None:
    """Load a range of many small pieces, from the end of what is loaded, and wait to be killed."""
    work_in(folder, url)
    pieces.PIECE_ROWS = 500
    sender.send("started")
    load("occurrences", resume=True)
    sender.send("finished")
    signal.pause()


@pytest.mark.every_warehouse
def test_a_range_of_many_pieces_killed_at_any_moment_keeps_whole_pieces(
    project: Project, busy_service: Sandbox
) -> None:
    service = busy_service
    project.use(service, page_size__occurrences=100)
    moments = random.Random(SEED)
    kept = []
    undisturbed = time_of(project, service, load_pieces_until_killed)
    project.clear()
    for _ in range(KILLS):
        process, receiver = start(project, service, load_pieces_until_killed)
        receiver.poll(moments.uniform(0.1, 0.8) * undisturbed)
        process.kill()
        process.join()

        windows = windows_of_occurrences(project)
        kept.append(len(windows))
        rows = {row["id"] for row in service.rows("occurrences") if windows and row["timestamp"] < last_end(windows)}
        assert rows <= set(keys(project, "occurrences") if windows else []), "coverage is never ahead of rows"
        assert [start for start, _ in windows[1:]] == [end for _, end in windows[:-1]], "no piece twice, none left out"
    assert kept == sorted(kept), "a kill keeps what was loaded"
    assert 1 < len(set(kept)) < len(kept), "some kills come within a piece, some after one"

    load("occurrences", resume=True)
    assert keys(project, "occurrences") == sorted(truth(service, "occurrences"))


def last_end(windows: list[tuple[datetime, datetime]]) -> float:
    return max(end.timestamp() for _, end in windows)


def keys(project: Project, name: str) -> list[int]:
    return [key for (key,) in project.rows(name, "id")]


def windows_of_occurrences(project: Project) -> list[tuple[datetime, datetime]]:
    """Return the recorded windows, oldest record first; none before the table exists."""
    if not project.postgres and not project.warehouse.exists():
        return []
    if not project.columns("load_windows"):
        return []
    return project.sql(
        "SELECT window_start, window_end FROM analytics.load_windows WHERE resource = 'occurrences' ORDER BY loaded_at"
    )


def load_without_room(folder: str, url: str, largest_file: int, sender: Connection) -> None:
    """Load with a limit on the size of files (bytes), as on a disk that fills up, and send the failure."""
    work_in(folder, url)
    setrlimit(RLIMIT_FSIZE, (largest_file, largest_file))
    with pytest.MonkeyPatch.context() as monkeypatch, dg.DagsterInstance.ephemeral() as instance:
        result = Project(Path(folder), monkeypatch, instance).materialize("occurrences")
        sender.send("" if result.success else failure(result))


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
    receiver, sender = forkserver.Pipe(duplex=False)
    largest_file = project.warehouse.stat().st_size + room
    process = forkserver.Process(
        target=load_without_room, args=(str(project.folder), service.url, largest_file, sender)
    )
    process.start()
    assert receiver.poll(PATIENCE)
    said = receiver.recv()
    process.join()

    assert said.startswith(f"1 of 1 did not load: occurrences: {error}: ")
    assert "File too large. Make room where the warehouse is, and in " in said
    assert said.endswith("The rows that were there before are untouched.")
    assert project.rows("occurrences") == before
    load("occurrences")
    assert keys(project, "occurrences") == sorted(truth(service, "occurrences"))


@contextmanager
def read_only(file: Path) -> Iterator[None]:
    """Make a file read-only. Root may write every file, so for root by an attribute that some file systems have."""
    if os.geteuid():
        file.chmod(0o444)
        yield
        file.chmod(0o644)
        return
    if subprocess.run(["chattr", "+i", file], check=False, capture_output=True).returncode:
        pytest.skip("root may write every file on this file system")
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
