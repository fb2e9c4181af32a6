"""Folders of dlt's working files, which hold rows: they go when a load ends, or at the next start if it was killed.

    with working_files() as folder:
        pipeline = build_pipeline(resource, settings, pipelines_dir=folder)

A folder belongs to the process that holds its lock. The operating system releases the lock when the process dies,
however it dies, so no process id is compared: another process could have it by now.
https://man7.org/linux/man-pages/man2/flock.2.html
"""

import logging
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

_PREFIX = "analytics-"
_LOCK = "lock"
_OWNER = "owner"
_FILES = "files"


@contextmanager
def working_files() -> Iterator[str]:
    """Make a folder for working files and yield its path; remove it, and those of loads that were killed."""
    folder = Path(mkdtemp(prefix=_PREFIX))
    with FileLock(folder / _LOCK):
        # Written under the lock: a folder without it is not complete, or not the project's, and is left alone.
        (folder / _OWNER).write_text(_owner(), encoding="utf-8")
        _remove_abandoned(beside=folder)
        files = folder / _FILES
        files.mkdir()
        try:
            yield str(files)
        finally:
            _remove(folder)


def _owner() -> str:
    """Return the text that marks the project's folders on this host: locks may not reach across hosts."""
    return f"analytics_dagster on {platform.node()}"


def _remove_abandoned(*, beside: Path) -> None:
    """Remove the folders of this user, on this host, whose process is dead."""
    user = beside.lstat().st_uid
    for folder in Path(gettempdir()).glob(f"{_PREFIX}*"):
        if folder == beside:
            continue
        try:
            if folder.is_symlink() or folder.lstat().st_uid != user:
                continue
            if (folder / _OWNER).read_text(encoding="utf-8") != _owner():
                continue
            with FileLock(folder / _LOCK, timeout=0):
                _remove(folder)
        except (OSError, UnicodeError, Timeout):
            continue  # not the project's, another process's, or removed meanwhile
        logger.info("Removed %s: the working files of a load that was killed", folder)


def _remove(folder: Path) -> None:
    """Remove a folder: its mark and its lock last, so that what a kill leaves of it is removed at the next start."""
    shutil.rmtree(folder / _FILES, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
