"""Runs a loader: in a fresh process, into a fresh warehouse; then reads the rows that landed.

run = run_job(build_job("ours", page_size=20), server, delay=0.1)
run.seconds, run.requests, run.landed
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from analytics_dagster_tests.benchmark.loaders import Job, encode_job
from analytics_dagster_tests.benchmark.rows import OCCURRENCES
from analytics_dagster_tests.benchmark.server_process import ROOT, Server
from analytics_dagster_tests.support.postgres_server import PostgresDatabase

TIMEOUT = 900.0
"""Seconds after which a run fails."""

Rows = set[tuple[int, int]]
"""Id and time of each row."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """The result of one run.

    Attributes:
        seconds: Duration, without the interpreter's start, the imports and the warm-up.
        cpu_seconds: CPU seconds of the loading process in that time.
        peak_mb: Peak memory of the loading process.
        requests: Requests for occurrences that the server counted.
        landed: Rows in the warehouse.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    requests: int
    landed: Rows


class RunError(Exception):
    """A run failed, or the landed rows differ from the served ones."""


@contextmanager
def workspace() -> Iterator[Path]:
    """Yield a folder for a run. Its empty `.dlt` keeps dlt from reading the developer's own configuration."""
    with tempfile.TemporaryDirectory(prefix="analytics-benchmark-") as name:
        folder = Path(name)
        (folder / ".dlt").mkdir()
        yield folder


def run_job(
    job: Job,
    server: Server,
    *,
    copy_of: Path | None = None,
    copy_to: Path | None = None,
    duplicates: bool = False,
    **behaviour: float,
) -> Run:
    """Run a job in a fresh process.

    Args:
        job: The job; `url`, `folder` and `warehouse` are filled in here.
        server: The server to load from.
        copy_of: Warehouse to load into a copy of; None for an empty one.
        copy_to: File to which the warehouse is copied afterwards.
        duplicates: Whether a row may land twice.
        behaviour: Arguments of `Server.reset`.

    Raises:
        RunError: The run failed, or a row landed twice.
    """
    with workspace() as folder:
        warehouse = folder / "benchmark.duckdb"
        if copy_of:
            shutil.copyfile(copy_of, warehouse)
        job = replace(job, warehouse=str(warehouse), warm_warehouse=str(folder / "warm.duckdb"))
        server.reset(**behaviour)
        figures = _run(job, server, folder)
        landed = _read_rows(warehouse, duplicates=duplicates)
        if copy_to:
            shutil.copyfile(warehouse, copy_to)
    return Run(**figures, landed=landed)


def run_postgres_job(job: Job, server: Server, database: PostgresDatabase, **behaviour: float) -> Run:
    """Run a job in a fresh process, into a PostgreSQL database.

    Args:
        job: The job; `url`, `folder` and `warehouse` are filled in here.
        server: The server to load from.
        database: The database to load into.
        behaviour: Arguments of `Server.reset`.

    Raises:
        RunError: The run failed, or a row landed twice.
    """
    with workspace() as folder, database.server.database() as warm:
        database.server.run("CHECKPOINT")  # or the run would write the pages of what was before
        server.reset(**behaviour)
        figures = _run(replace(job, warehouse=database.url, warm_warehouse=warm.url), server, folder)
    return Run(**figures, landed=_read_postgres_rows(database))


def _run(job: Job, server: Server, folder: Path) -> dict[str, Any]:
    """Run a job in a fresh process and return its figures."""
    job = replace(job, url=server.url, folder=str(folder))
    command = [sys.executable, "-m", "analytics_dagster_tests.benchmark.loaders", encode_job(job)]
    measured: dict[str, Any] = json.loads(run_process(command, folder))
    return {**measured, "requests": server.stats()["requests"].get(OCCURRENCES.path, 0)}


def _read_postgres_rows(database: PostgresDatabase) -> Rows:
    """Return the rows of a database, as `_read_rows` does."""
    columns = dict(
        database.run(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_schema = 'analytics' AND table_name = 'occurrences'"
        )
    )
    column = next(name for name in ("uuid", "data__uuid", "data") if name in columns)
    uuid = "data ->> 'uuid'" if column == "data" else column
    time = "timestamp" if columns["timestamp"] == "bigint" else "CAST(extract(epoch FROM timestamp) AS bigint)"
    rows = database.run(
        f"SELECT CASE WHEN right({uuid}, 12) = CAST(id AS text) THEN id ELSE -id END, {time} FROM analytics.occurrences"
    )
    return _without_duplicates(rows)


def run_process(command: list[str], folder: Path) -> str:
    """Run a command in a folder and return the last line that it prints.

    Raises:
        RunError: The command failed, or took longer than `TIMEOUT`.
    """
    environment = {name: value for name, value in os.environ.items() if "__" not in name}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "CRITICAL",
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }
    try:
        completed = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
    except subprocess.CalledProcessError as error:
        raise RunError(f"{command[-1]} failed:\n{error.stderr[-3000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{command[-1]} took longer than {TIMEOUT:.0f} s.") from error
    return completed.stdout.splitlines()[-1]


def _read_rows(warehouse: Path, *, duplicates: bool) -> Rows:
    """Return the rows of the warehouse. A row with the payload of another one is returned with a negative id."""
    with duckdb.connect(str(warehouse), read_only=True, config={"memory_limit": "2GB"}) as connection:
        columns = {row[0] for row in connection.execute("DESCRIBE analytics.occurrences").fetchall()}
        uuid = next(
            expression
            for column, expression in (("uuid", "uuid"), ("data__uuid", "data__uuid"), ("data", "data->>'uuid'"))
            if column in columns
        )
        time_type = connection.execute("SELECT typeof(timestamp) FROM analytics.occurrences LIMIT 1").fetchall()[0][0]
        time = "timestamp" if time_type == "BIGINT" else "epoch(timestamp)::BIGINT"
        own_payload = f"right({uuid}, 12) = id::VARCHAR"
        rows = connection.execute(
            f"SELECT CASE WHEN {own_payload} THEN id ELSE -id END, {time} FROM analytics.occurrences"
        ).fetchall()
    return set(rows) if duplicates else _without_duplicates(rows)


def _without_duplicates(rows: Sequence[tuple[int, int]]) -> Rows:
    if len(set(rows)) != len(rows):
        raise RunError(f"{len(rows) - len(set(rows))} rows landed twice.")
    return set(rows)
