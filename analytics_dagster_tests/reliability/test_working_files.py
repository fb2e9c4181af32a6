"""Working files of loads that were killed are removed at the next start, and nothing else is."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

import pytest

from analytics_dagster.ingest.warehouse import working_files as module
from analytics_dagster.ingest.warehouse.working_files import working_files
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, checked, load

# Processes are forked from one that has imported everything and opened nothing.
forkserver = multiprocessing.get_context("forkserver")
forkserver.set_forkserver_preload(["analytics_dagster_tests.reliability.test_working_files"])

PATIENCE = 60.0
"""Seconds to wait for a process."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    ensure_running()  # or the server's socket would be made there, by a path that is too long for one
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def hold_working_files(temporary: str, sender: Connection) -> None:
    """Hold a folder with rows in it, and send its path."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("tempfile.tempdir", temporary)
        with working_files() as folder:
            (Path(folder) / "rows.parquet").write_text("rows")
            sender.send(folder)
            signal.pause()


@contextmanager
def another_process(temporary: Path) -> Iterator[tuple[Any, Path]]:
    """Start a process that holds working files; yield it and the folder."""
    receiver, sender = forkserver.Pipe(duplex=False)
    process = forkserver.Process(target=hold_working_files, args=(str(temporary), sender))
    process.start()
    try:
        assert receiver.poll(PATIENCE)
        yield process, Path(receiver.recv())
    finally:
        process.kill()
        process.join()


@pytest.fixture
def abandoned(temporary: Path) -> Path:
    """The working files of a process that was killed."""
    with another_process(temporary) as (process, files):
        process.kill()
        process.join()
    assert (files / "rows.parquet").exists()
    return files.parent


def left_in(temporary: Path) -> list[Path]:
    """Return the folders of the project; Dagster has others."""
    return list(temporary.glob("analytics-*"))


def start_and_end() -> None:
    with working_files():
        pass


def test_the_files_of_a_load_that_was_killed_are_removed_at_the_next_start(
    abandoned: Path, temporary: Path, project: Project, service: Sandbox
) -> None:
    project.use(service)
    load("teams")
    assert not abandoned.exists()
    assert left_in(temporary) == []


def test_the_checks_remove_them_as_well(abandoned: Path, temporary: Path, project: Project) -> None:
    checked(project)
    assert not abandoned.exists()
    assert left_in(temporary) == []


def test_the_files_of_a_living_process_stay(temporary: Path) -> None:
    with another_process(temporary) as (_, files):
        start_and_end()
        assert (files / "rows.parquet").read_text() == "rows"
    start_and_end()
    assert left_in(temporary) == []


def test_two_loads_of_one_process_leave_each_others_files(temporary: Path) -> None:
    with working_files() as first:
        start_and_end()
        assert Path(first).is_dir()
    assert left_in(temporary) == []


def of_another_host(folder: Path) -> None:
    (folder / "owner").write_text("analytics_dagster on another-host")


def without_a_mark(folder: Path) -> None:
    (folder / "owner").unlink()


def with_another_name(folder: Path) -> None:
    folder.rename(folder.with_name("other-files"))


def behind_a_link(folder: Path) -> None:
    place = folder.parent.parent / "elsewhere"
    shutil.move(folder, place)
    folder.symlink_to(place)


def of_another_user(folder: Path) -> None:
    if os.geteuid():
        pytest.skip("only root may give files to another user")
    os.chown(folder, 12345, 12345)


@pytest.mark.parametrize(
    "alter",
    [of_another_host, without_a_mark, with_another_name, behind_a_link, of_another_user],
    ids=lambda alter: alter.__name__,
)
def test_a_folder_that_may_be_anothers_stays(alter: Callable[[Path], None], abandoned: Path, temporary: Path) -> None:
    alter(abandoned)
    start_and_end()
    assert [file.read_text() for file in temporary.parent.rglob("rows.parquet")] == ["rows"]


def test_a_removal_that_is_killed_half_way_is_ended_by_the_next(
    abandoned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[Path] = []

    def killed(folder: Path, **_: Any) -> None:
        removed.append(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            start_and_end()
    assert removed[0].name == "files", "the rows are removed before the mark"
    start_and_end()
    assert not abandoned.exists()


def test_a_load_that_fails_leaves_no_files(temporary: Path, project: Project, service: Sandbox) -> None:
    project.use(service)
    service.fail_next("err", resource="teams", status=403)
    assert not project.materialize("teams").success
    assert left_in(temporary) == []
