"""Loads of a window: at a depth, with nothing new, into a large table."""

import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from analytics_dagster_tests.benchmark.bench import HOUR, LARGE_PAGE, LOOKBACK, PAGE, SPACING, Bench, a_job, check
from analytics_dagster_tests.benchmark.measurements import OURS, Measurement, summed_up
from analytics_dagster_tests.benchmark.rows import FORMATS
from analytics_dagster_tests.benchmark.runs import Run, RunError, run
from analytics_dagster_tests.benchmark.server_process import serving


def depth(bench: Bench) -> Iterator[Measurement]:
    """One hour's window, further and further below the newest page."""
    depths = (30,) if bench.quick else (1, 10, 100, 1_000, 10_000)
    with serving(PAGE * max(depths) + 4_000, spacing=SPACING) as server:
        for pages in depths:
            end = server.newest - pages * PAGE * SPACING
            job = a_job("ours", start=end - HOUR - LOOKBACK, end=end)
            for measured in bench.compare("depth", pages, server, {OURS: job}):
                yield replace(measured, figures={"pages_of_window": -(-measured.rows // PAGE)})


def tick(bench: Bench) -> Iterator[Measurement]:
    """The schedule's run when nothing is new, fifteen minutes' lists being shorter than a page."""
    job = a_job("ours-resumed")
    with tempfile.TemporaryDirectory() as name, serving(200, spacing=60) as server:
        before = Path(name) / "before.duckdb"
        first = run(job, server, keep=before)
        again, requests = [], []
        for number in range(1, bench.rounds + 1):
            again.append(run(job, server, into=before))
            asked = server.stats()["requests"]
            requests.append({item.rows_at: asked.get(item.path, 0) for item in FORMATS})
            bench.report("tick", 0, OURS, number, again[-1])
        if any(done.landed != first.landed for done in again):
            raise RunError("A tick with nothing new changed the table.")
        figures = {item.rows_at: statistics.median(one[item.rows_at] for one in requests) for item in FORMATS}
        yield replace(summed_up("tick", OURS, 0, again, **figures), rows=0)


def merge(bench: Bench) -> Iterator[Measurement]:
    """One hour's window into an empty table, and into one that has it and all the others."""
    rows = 4_000 if bench.quick else 1_000_000
    with tempfile.TemporaryDirectory() as name, serving(rows, spacing=SPACING) as server:
        full = Path(name) / "full.duckdb"
        bench.say(f"merge: filling a table with {rows:,} rows")
        everything = run(a_job("ours", page_size=5_000, memory_limit=""), server, keep=full)
        check(everything, server.truth(), OURS)
        hour = a_job("ours", page_size=LARGE_PAGE, start=server.newest - HOUR, end=server.newest + 1)
        tables = {rows: full} if bench.quick else {0: None, rows: full}
        runs: dict[int, list[Run]] = {before: [] for before in tables}
        for number in range(1, bench.rounds + 1):
            for before, into in tables.items():
                done = run(hour, server, into=into)
                check(done, server.truth() if into else server.truth(hour.start, hour.end), OURS)
                bench.report("merge", before, OURS, number, done)
                runs[before].append(done)
        for before, done_runs in runs.items():
            yield replace(summed_up("merge", OURS, before, done_runs), rows=len(server.truth(hour.start, hour.end)))
