"""Loads of every row: small pages, large pages, a slow service, more and more rows."""

from collections.abc import Iterator

from analytics_dagster_tests.benchmark.bench import LARGE_PAGE, SPACING, Bench, a_job
from analytics_dagster_tests.benchmark.measurements import FLOOR, OURS, PLAIN, PLAIN_PARQUET, UNLIMITED, Measurement
from analytics_dagster_tests.benchmark.server_process import serving


def small_pages(bench: Bench) -> Iterator[Measurement]:
    """Many small pages without delay: what a request and a row cost."""
    rows = 4_000 if bench.quick else 100_000
    with serving(rows, spacing=SPACING) as server:
        jobs = {
            FLOOR: a_job("floor", in_flight=4),
            OURS: a_job("ours"),
            PLAIN_PARQUET: a_job("plain-parquet"),
        }
        if bench.quick:
            del jobs[PLAIN_PARQUET]
        yield from bench.compare("small-pages", rows, server, jobs)
    # Plain dlt's default format takes too long, and too much memory, for as many rows as the others load.
    rows = 500 if bench.quick else 20_000
    with serving(rows, spacing=SPACING) as server:
        yield from bench.compare("small-pages", rows, server, {PLAIN: a_job("plain")})


def large_pages(bench: Bench) -> Iterator[Measurement]:
    """Few large pages without delay: what a row costs."""
    rows = 4_000 if bench.quick else 100_000
    with serving(rows, spacing=SPACING) as server:
        jobs = {
            FLOOR: a_job("floor", in_flight=4, page_size=LARGE_PAGE),
            OURS: a_job("ours", page_size=LARGE_PAGE),
        }
        yield from bench.compare("large-pages", rows, server, jobs)


def latency(bench: Bench) -> Iterator[Measurement]:
    """A slow service: what reading ahead saves, and what the proof of continuity costs."""
    rows = 400 if bench.quick else 4_000
    with serving(rows, spacing=SPACING) as server:
        jobs = {FLOOR: a_job("floor", in_flight=8), OURS: a_job("ours", in_flight=8)}
        yield from bench.compare("latency", rows, server, jobs, delay=0.1)


def scale(bench: Bench) -> Iterator[Measurement]:
    """More and more rows, with the shipped memory limit and without."""
    for rows in (2_000, 4_000) if bench.quick else (10_000, 30_000, 100_000, 300_000, 1_000_000):
        with serving(rows, spacing=SPACING) as server:
            jobs = {
                FLOOR: a_job("floor", in_flight=4, page_size=LARGE_PAGE),
                OURS: a_job("ours", page_size=LARGE_PAGE),
                UNLIMITED: a_job("ours", page_size=LARGE_PAGE, memory_limit=""),
            }
            yield from bench.compare("scale", rows, server, jobs)
