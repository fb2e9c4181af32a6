"""Locks of the DuckDB file across processes: DuckDB takes one writer."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from analytics_dagster.ingest.errors import WarehouseError
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import WarehouseLocation, warehouse_location

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.25


@contextmanager
def write_lock(settings: Settings) -> Iterator[WarehouseLocation]:
    """Be the warehouse's only writer, across processes; wait for another one to finish.

    Raises:
        WarehouseError: Another process did not finish within `lock_timeout`, or the place cannot be written.
    """
    place = warehouse_location(settings)
    if place.file is None:
        # Other destinations take several writers; within one Dagster instance the pool keeps them in turn.
        yield place
        return
    with exclusive_lock(place.file, place.name, settings.lock_timeout):
        _check_writable(place.file, place.name)
        yield place


@contextmanager
def read_lock(settings: Settings) -> Iterator[WarehouseLocation | None]:
    """Have a turn at the warehouse to read it; wait for whoever writes it. None if there is no file yet.

    Raises:
        WarehouseError: Someone held the file longer than `lock_timeout`, or it cannot be read.
    """
    place = warehouse_location(settings)
    if place.file is None:
        yield place
    elif not place.file.exists():
        yield None
    else:
        with exclusive_lock(place.file, place.name, settings.lock_timeout):
            _wait_until_readable(place.file, settings.lock_timeout)
            yield place


@contextmanager
def exclusive_lock(file: Path, name: str, timeout: float) -> Iterator[None]:
    """Have the DuckDB file to oneself among the processes of this project, to write it or to read it.

    Raises:
        WarehouseError: Another process did not finish within `timeout` seconds, or there can be no lock.
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
    """Open the DuckDB file as dlt will, to say in a sentence why that fails."""
    import duckdb  # noqa: PLC0415 - only where DuckDB is the destination

    try:
        duckdb.connect(str(file)).close()
    except duckdb.Error as error:
        raise WarehouseError(
            f"The warehouse {file} cannot be opened for writing: {str(error).splitlines()[0]} Close the session that "
            f"holds it or open it read-only, make the file writable, or set destination.{name}.credentials."
        ) from None


def _wait_until_readable(file: Path, timeout: float) -> None:
    """Wait for a session that is not ours, such as a notebook's, to let go of the DuckDB file."""
    import duckdb  # noqa: PLC0415 - only where DuckDB is the destination

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
