"""Scenarios of long ranges, which are loaded in pieces: their time, their memory, and how steady they are."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import duckdb

from analytics_dagster.ingest.pieces import PIECE_ROWS
from analytics_dagster_tests.benchmark.bench import HOUR, LARGE_PAGE, SPACING, Bench, build_job, check_rows
from analytics_dagster_tests.benchmark.measurements import IN_PIECES, OURS, Measurement, summarize
from analytics_dagster_tests.benchmark.runs import run_job
from analytics_dagster_tests.benchmark.server_process import start_server

YEAR = 365 * 24 * HOUR


def pieces(bench: Bench) -> Iterator[Measurement]:
    """Load a range in pieces, and as one merge."""
    for rows in (2_000, 4_000) if bench.quick else (100_000, 1_000_000):
        with start_server(rows, spacing=SPACING) as server:
            jobs = {
                OURS: build_job("ours", page_size=LARGE_PAGE),
                IN_PIECES: build_job("ours-in-pieces", page_size=LARGE_PAGE),
            }
            yield from bench.compare("pieces", rows, server, jobs)


def year(bench: Bench) -> Iterator[Measurement]:
    """Load a year in pieces into a table that holds many rows already. The figures are the rows a second of a piece."""
    before, rows = (10_000, 4_000) if bench.quick else (10_000_000, 10 * PIECE_ROWS)
    with tempfile.TemporaryDirectory() as name, start_server(rows, spacing=YEAR / rows) as server:
        full, loaded = Path(name) / "full.duckdb", Path(name) / "loaded.duckdb"
        newest = build_job("ours", page_size=LARGE_PAGE, start=server.newest - 60, end=server.newest + 1)
        run_job(newest, server, copy_to=full)
        _fill(full, before)
        run = run_job(build_job("ours-in-pieces", page_size=LARGE_PAGE), server, copy_of=full, copy_to=loaded)
        run = replace(run, landed={row for row in run.landed if row[0] > 0})
        check_rows(run, server.truth(), IN_PIECES)
        bench.log_run("year", before, IN_PIECES, 1, run)
        yield summarize("year", IN_PIECES, before, [run], **_rates(loaded))


def _fill(warehouse: Path, rows: int) -> None:
    """Add rows that are older than all others, and that no payload belongs to."""
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute(
            "INSERT INTO analytics.occurrences BY NAME SELECT range + 1 AS id, make_timestamptz(range * 1000) AS "
            "timestamp, '{}' AS data, now() AS read_at, range AS read_seq FROM range(?)",
            [rows],
        )


def _rates(warehouse: Path) -> dict[str, float]:
    """Return the rows a second of each piece but the first, whose beginning is not recorded."""
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        windows = connection.execute(
            "SELECT rows_loaded, epoch(loaded_at) FROM analytics.load_windows ORDER BY loaded_at"
        ).fetchall()
    return {
        f"piece {number}": rows / (end - begin)
        for number, ((_, begin), (rows, end)) in enumerate(pairwise(windows), start=2)
    }
