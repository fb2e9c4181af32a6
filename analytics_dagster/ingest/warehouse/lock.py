"""Locks of the DuckDB file across processes, because DuckDB takes one writer.

    with write_lock(settings) as location:
        ...

https://duckdb.org/docs/stable/connect/concurrency
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from filelock import FileLock, Timeout

from analytics_dagster.ingest.errors import WarehouseError
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import WarehouseLocation, destination_errors, warehouse_location

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.25


@contextmanager
def write_lock(settings: Settings) -> Iterator[WarehouseLocation]:
    """Hold the warehouse's lock for writing, and yield the warehouse's location.

    Destinations other than DuckDB take several writers and have no lock; within one Dagster instance the pool runs
    their loads one at a time.

    Raises:
        WarehouseError: Another process held the file longer than `lock_timeout`, or the file cannot be written.
        SettingsError: The destination is misconfigured, or its driver is not installed.
    """
    location = warehouse_location(settings)
    if location.file is None:
        with destination_errors(location):
            yield location
        return
    with exclusive_lock(location.file, location.name, settings.lock_timeout):
        _check_writable(location.file, location.name)
        yield location


@contextmanager
def read_lock(file: Path, name: str, timeout: float) -> Iterator[None]:
    """Hold the lock of an existing DuckDB file for reading, and wait until sessions outside the project release it.

    Args:
        file: The DuckDB file.
        name: dlt's name of the destination, for messages.
        timeout: Seconds to wait.

    Raises:
        WarehouseError: A session held the file longer than `timeout`, or the file cannot be read.
    """
    with exclusive_lock(file, name, timeout):
        _wait_until_readable(file, timeout)
        yield


@contextmanager
def exclusive_lock(file: Path, name: str, timeout: float) -> Iterator[None]:
    """Hold the file's lock across processes of this project.

    Args:
        file: The DuckDB file, which need not exist.
        name: dlt's name of the destination, for messages.
        timeout: Seconds to wait.

    Raises:
        WarehouseError: Another process held the lock longer than `timeout`, or the lock file cannot be created.
    """
    lock = FileLock(file.with_suffix(".lock"))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("%s is being written by another process; waiting for it to finish", file)
            lock.acquire(timeout=timeout)
    except Timeout:
        raise WarehouseError(
            f"{file} is still being written by another process after {timeout:.0f} s. Wait for that load to finish, "
            "or raise lock_timeout."
        ) from None
    except OSError as error:
        raise WarehouseError(
            f"{file.parent} cannot be written ({error.strerror}). Make it writable, or set "
            f"destination.{name}.credentials to a file elsewhere."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _check_writable(file: Path, name: str) -> None:
    """Open the DuckDB file as dlt will, to raise an error whose message says what to do."""
    try:
        duckdb.connect(str(file)).close()
    except duckdb.Error as error:
        raise WarehouseError(
            f"The warehouse {file} cannot be opened for writing: {str(error).splitlines()[0]} Close the session that "
            f"holds it or open it read-only, make the file writable, or set destination.{name}.credentials."
        ) from None


def _wait_until_readable(file: Path, timeout: float) -> None:
    """Wait until a session outside the project, such as a notebook's, releases the DuckDB file."""
    give_up_at = time.monotonic() + timeout
    while True:
        try:
            duckdb.connect(str(file), read_only=True).close()
        except duckdb.Error as error:
            held = isinstance(error, duckdb.IOException) and "lock" in str(error)
            if not held or time.monotonic() > give_up_at:
                raise WarehouseError(
                    f"The warehouse {file} cannot be opened for reading: {str(error).splitlines()[0]} Close the "
                    "session that holds it, or open it read-only there."
                ) from None
            time.sleep(_RETRY_SECONDS)
        else:
            return
