"""Loads of a window: far below the newest row, without new rows, into a large table."""

import itertools
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from analytics_dagster_tests.benchmark.bench import (
    HOUR,
    LARGE_PAGE,
    LOOKBACK,
    PAGE,
    SPACING,
    Bench,
    build_job,
    check_rows,
)
from analytics_dagster_tests.benchmark.loaders import Job
from analytics_dagster_tests.benchmark.measurements import BY_PAGE, OURS, Measurement, summarize
from analytics_dagster_tests.benchmark.rows import FORMATS
from analytics_dagster_tests.benchmark.runs import Run, RunError, run_job
from analytics_dagster_tests.benchmark.server_process import Server, start_server
from analytics_dagster_tests.benchmark.times_and_ids import IDS_BY, Spread

DENSE_SPACING = 1.0
"""Seconds between two occurrences where an hour has many."""

ROWS_AROUND_WINDOW = 12_000
"""Rows of the deep window, of the part of an hour above it, and of more than an hour below."""


def depth(bench: Bench) -> Iterator[Measurement]:
    """Load a window of one hour, at growing depths below the newest page."""
    depths = (30,) if bench.quick else (1, 10, 100, 1_000, 10_000)
    with start_server(PAGE * max(depths) + 4_000, spacing=SPACING) as server:
        for pages in depths:
            end = server.newest - pages * PAGE * SPACING
            job = build_job("ours", start=end - HOUR - LOOKBACK, end=end)
            jobs = {OURS: job, BY_PAGE: replace(job, page_size=PAGE, paging="page")}
            for measurement in bench.compare("depth", pages, server, jobs):
                yield replace(measurement, figures={"pages_of_window": -(-measurement.rows // PAGE)})


def key_depth(bench: Bench) -> Iterator[Measurement]:
    """Load a window of one hour with many rows, far below the newest one, from rows that are spread evenly."""
    pages = 100 if bench.quick else 1_000
    with start_server(PAGE * pages + ROWS_AROUND_WINDOW, spacing=DENSE_SPACING) as server:
        job = _build_deep_job(server, pages)
        jobs = {OURS: job, BY_PAGE: replace(job, page_size=PAGE, paging="page")}
        yield from bench.compare("key-depth", pages, server, jobs)


def key_bursts(bench: Bench) -> Iterator[Measurement]:
    """Load a window of one hour, far below the newest row, from rows in bursts. Ids grow with time, or by row."""
    pages = 100 if bench.quick else 1_000
    bursts: tuple[Spread, ...] = ("hourly", "random")
    for spread, ids_by in itertools.product(bursts, IDS_BY):
        rows = PAGE * pages + ROWS_AROUND_WINDOW
        with start_server(rows, spacing=DENSE_SPACING, spread=spread, ids_by=ids_by) as server:
            jobs = {f"{OURS}, {spread}, ids by {ids_by}": _build_deep_job(server, pages)}
            yield from bench.compare("key-bursts", pages, server, jobs)


def _build_deep_job(server: Server, pages: int) -> Job:
    """Return a job that loads the last full hour before the row that is `pages` pages below the newest one."""
    newest_first = sorted(server.truth(), reverse=True)
    _, time = newest_first[PAGE * pages]
    end = time // HOUR * HOUR
    return build_job("ours", start=end - HOUR, end=end)


def tick(bench: Bench) -> Iterator[Measurement]:
    """Run the schedule's load without new rows. The rows of its window fit one page."""
    job = build_job("ours-resumed")
    with tempfile.TemporaryDirectory() as name, start_server(200, spacing=60) as server:
        loaded = Path(name) / "loaded.duckdb"
        first_run = run_job(job, server, copy_to=loaded)
        runs, requests = [], []
        for number in range(1, bench.rounds + 1):
            runs.append(run_job(job, server, copy_of=loaded))
            served = server.stats()["requests"]
            requests.append({each.rows_at: served.get(each.path, 0) for each in FORMATS})
            bench.log_run("tick", 0, OURS, number, runs[-1])
        if any(run.landed != first_run.landed for run in runs):
            raise RunError("A tick without new rows changed the table.")
        figures = {each.rows_at: statistics.median(counts[each.rows_at] for counts in requests) for each in FORMATS}
        yield replace(summarize("tick", OURS, 0, runs, **figures), rows=0)


def merge(bench: Bench) -> Iterator[Measurement]:
    """Load a window of one hour into an empty table, and into a table that holds all rows already."""
    rows = 4_000 if bench.quick else 1_000_000
    with tempfile.TemporaryDirectory() as name, start_server(rows, spacing=SPACING) as server:
        full = Path(name) / "full.duckdb"
        bench.log(f"merge: filling a table with {rows:,} rows")
        filling = run_job(build_job("ours", page_size=5_000, memory_limit=""), server, copy_to=full)
        check_rows(filling, server.truth(), OURS)
        hour = build_job("ours", page_size=LARGE_PAGE, start=server.newest - HOUR, end=server.newest + 1)
        tables = {rows: full} if bench.quick else {0: None, rows: full}
        runs: dict[int, list[Run]] = {rows_before: [] for rows_before in tables}
        for number in range(1, bench.rounds + 1):
            for rows_before, table in tables.items():
                run = run_job(hour, server, copy_of=table)
                check_rows(run, server.truth() if table else server.truth(hour.start, hour.end), OURS)
                bench.log_run("merge", rows_before, OURS, number, run)
                runs[rows_before].append(run)
        for rows_before, table_runs in runs.items():
            measurement = summarize("merge", OURS, rows_before, table_runs)
            yield replace(measurement, rows=len(server.truth(hour.start, hour.end)))
