"""One run of a contender: a fresh process, a fresh warehouse, and a comparison of what landed with the truth."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from analytics_dagster_tests.benchmark.loaders import Job, as_text
from analytics_dagster_tests.benchmark.rows import OCCURRENCES
from analytics_dagster_tests.benchmark.server_process import ROOT, Server

TIMEOUT = 900.0
"""Seconds that a run may take."""

Rows = set[tuple[int, int]]
"""Id and time of each row."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one run took, and what landed."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    requests: int
    landed: Rows


class RunError(Exception):
    """A run failed, or what landed is not what was served."""


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder for a run; the `.dlt` in it keeps the developer's own configuration out."""
    with tempfile.TemporaryDirectory(prefix="analytics-benchmark-") as name:
        folder = Path(name)
        (folder / ".dlt").mkdir()
        yield folder


def run(
    job: Job,
    server: Server,
    *,
    into: Path | None = None,
    keep: Path | None = None,
    duplicates: bool = False,
    **behaviour: float,
) -> Run:
    """Run a job in a fresh process.

    Args:
        job: What to do; `url`, `folder` and `warehouse` are filled in here.
        server: What to load from.
        into: Warehouse to copy and load into; a new one by default.
        keep: Where to leave the warehouse.
        duplicates: Whether a row may land twice.
        behaviour: How the server behaves meanwhile, see `Server.reset`.
    """
    with workspace() as folder:
        warehouse = folder / "benchmark.duckdb"
        if into:
            shutil.copyfile(into, warehouse)
        server.reset(**behaviour)
        job = replace(job, url=server.url, folder=str(folder), warehouse=str(warehouse))
        took = in_process([sys.executable, "-m", "analytics_dagster_tests.benchmark.loaders", as_text(job)], folder)
        requests = server.stats()["requests"].get(OCCURRENCES.path, 0)
        landed = _landed(warehouse, duplicates=duplicates)
        if keep:
            shutil.copyfile(warehouse, keep)
    return Run(**json.loads(took), requests=requests, landed=landed)


def in_process(command: list[str], folder: Path) -> str:
    """Run a command in a folder and return the last line it prints.

    Raises:
        RunError: It failed, or took longer than `TIMEOUT`.
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
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=True
        )
    except subprocess.CalledProcessError as error:
        raise RunError(f"{command[-1]} failed:\n{error.stderr[-3000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise RunError(f"{command[-1]} took longer than {TIMEOUT:.0f} s.") from error
    return done.stdout.splitlines()[-1]


def _landed(warehouse: Path, *, duplicates: bool) -> Rows:
    """Rows in the warehouse; those whose payload is not their own count under a wrong id."""
    with duckdb.connect(str(warehouse), read_only=True, config={"memory_limit": "2GB"}) as connection:
        columns = {row[0] for row in connection.execute("DESCRIBE analytics.occurrences").fetchall()}
        uuid = next(
            expression
            for column, expression in (("uuid", "uuid"), ("data__uuid", "data__uuid"), ("data", "data->>'uuid'"))
            if column in columns
        )
        kind = connection.execute("SELECT typeof(timestamp) FROM analytics.occurrences LIMIT 1").fetchall()[0][0]
        time = "timestamp" if kind == "BIGINT" else "epoch(timestamp)::BIGINT"
        own = f"right({uuid}, 12) = id::VARCHAR"
        rows = connection.execute(
            f"SELECT CASE WHEN {own} THEN id ELSE -id END, {time} FROM analytics.occurrences"
        ).fetchall()
    if not duplicates and len(set(rows)) != len(rows):
        raise RunError(f"{len(rows) - len(set(rows))} rows landed twice.")
    return set(rows)
