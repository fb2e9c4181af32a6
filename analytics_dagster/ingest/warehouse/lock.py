"""Locks across processes: of the DuckDB file, because DuckDB takes one writer, and in a server of what a load writes.

    with write_lock(settings) as location, open_load_state(settings) as load_state:
        with load_lock(client, settings, "deploys", ["default"]):
            ...

In PostgreSQL a lock is an advisory one of the session: loads of other resources and projects go on, and when a loader
dies, however it dies, the server frees its locks. Sessions must reach the server, directly or through a pooler that
keeps them.

https://duckdb.org/docs/stable/connect/concurrency
https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
from dlt.common.destination.exceptions import DestinationException
from dlt.destinations.sql_client import SqlClientBase
from filelock import FileLock, Timeout

from analytics_dagster.ingest.errors import WarehouseError
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import (
    DATASET,
    POSTGRES,
    WarehouseLocation,
    destination_errors,
    warehouse_location,
)

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 0.25
_SETUP_SECONDS = 600.0
"""How long to wait while another loader creates tables or indexes."""


@contextmanager
def write_lock(settings: Settings) -> Iterator[WarehouseLocation]:
    """Hold the warehouse's lock for writing, and yield the warehouse's location.

    Destinations other than DuckDB take several writers, and are not held as a whole: see `load_lock`.

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
def load_lock(
    client: SqlClientBase[Any], settings: Settings, resource_name: str, project_names: Iterable[str]
) -> Iterator[None]:
    """Hold the locks of what a load writes: the rows of a resource and of projects.

    Only PostgreSQL has such locks. DuckDB is held as a whole, and for other destinations the pool of the Dagster
    instance runs loads one at a time.

    Args:
        client: The open SQL client that records the load: a session that is lost can record nothing.
        settings: Settings with `lock_timeout`.
        resource_name: Name of the resource.
        project_names: Names of the projects in the settings.

    Raises:
        WarehouseError: Another process held one of the locks longer than `lock_timeout`.
    """
    with ExitStack() as held:
        # In one order everywhere, so that no two loads wait for each other.
        for project_name in sorted(project_names):
            what = f"{DATASET}.{resource_name}, project {project_name},"
            held.enter_context(
                _advisory_lock(client, ("load", resource_name, project_name), what, settings.lock_timeout)
            )
        yield


@contextmanager
def setup_lock(client: SqlClientBase[Any]) -> Iterator[None]:
    """Hold the lock of the loader's own tables, while they are examined and created."""
    with _advisory_lock(client, ("setup",), f"The setup of {DATASET}", _SETUP_SECONDS):
        yield


@contextmanager
def schema_lock(client: SqlClientBase[Any]) -> Iterator[None]:
    """Hold the lock of the schema, while tables and indexes are created: `IF NOT EXISTS` fails if two do so at once."""
    with _advisory_lock(client, ("schema",), f"The schema {DATASET}", _SETUP_SECONDS):
        yield


def advisory_key(*names: str) -> int:
    """Return the key of PostgreSQL's advisory lock for names: the same in all versions, and on all machines."""
    digest = hashlib.blake2b("/".join((DATASET, *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


@contextmanager
def _advisory_lock(client: SqlClientBase[Any], names: tuple[str, ...], what: str, timeout: float) -> Iterator[None]:
    """Hold an advisory lock of the client's session; nothing for other destinations than PostgreSQL."""
    if client.capabilities.sqlglot_dialect != POSTGRES:
        yield
        return
    key = advisory_key(*names)
    give_up_at = time.monotonic() + timeout
    waits = False
    # A wait inside the server could not be interrupted with Ctrl-C.
    while not (client.execute_sql("SELECT pg_try_advisory_lock(%s)", key) or ((False,),))[0][0]:
        if not waits:
            logger.info("%s is being written by another process; waiting for it to finish", what.rstrip(","))
            waits = True
        if time.monotonic() >= give_up_at:
            raise WarehouseError(
                f"{what} is still being written by another process after {timeout:.0f} s. Wait for that load to "
                "finish, or raise lock_timeout."
            )
        time.sleep(_RETRY_SECONDS)
    try:
        yield
    finally:
        # Where the session is lost, the lock is free.
        with suppress(DestinationException, WarehouseError):
            client.execute_sql("SELECT pg_advisory_unlock(%s)", key)


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
