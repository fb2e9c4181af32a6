"""Loads of all rows: in small pages, in large pages, from a cold start, from a slow service, at growing sizes."""

from collections.abc import Iterator
from dataclasses import replace

from analytics_dagster.ingest.lists import PAUSE
from analytics_dagster_tests.benchmark.bench import LARGE_PAGE, PAGE, SPACING, Bench, build_job
from analytics_dagster_tests.benchmark.measurements import (
    BY_PAGE,
    FLOOR,
    OURS,
    PLAIN,
    PLAIN_PARQUET,
    UNLIMITED,
    Measurement,
)
from analytics_dagster_tests.benchmark.server_process import start_server


def small_pages(bench: Bench) -> Iterator[Measurement]:
    """Load many small pages without delay: the cost of a request and a row."""
    rows = 4_000 if bench.quick else 100_000
    with start_server(rows, spacing=SPACING) as server:
        jobs = {
            FLOOR: build_job("floor", in_flight=4, page_size=PAGE),
            OURS: build_job("ours", page_size=PAGE),
            BY_PAGE: build_job("ours", page_size=PAGE, paging="page"),
            PLAIN_PARQUET: build_job("plain-parquet", page_size=PAGE),
        }
        if bench.quick:
            del jobs[PLAIN_PARQUET]
        yield from bench.compare("small-pages", rows, server, jobs)
    # With its default format plain dlt needs too much time and memory for the rows of the other loaders.
    rows = 500 if bench.quick else 20_000
    with start_server(rows, spacing=SPACING) as server:
        yield from bench.compare("small-pages", rows, server, {PLAIN: build_job("plain", page_size=PAGE)})


def large_pages(bench: Bench) -> Iterator[Measurement]:
    """Load few large pages without delay: the cost of a row."""
    rows = 4_000 if bench.quick else 100_000
    with start_server(rows, spacing=SPACING) as server:
        jobs = {
            FLOOR: build_job("floor", in_flight=4, page_size=LARGE_PAGE),
            OURS: build_job("ours", page_size=LARGE_PAGE),
            BY_PAGE: build_job("ours", page_size=LARGE_PAGE, paging="page"),
        }
        yield from bench.compare("large-pages", rows, server, jobs)


def cold_start(bench: Bench) -> Iterator[Measurement]:
    """Load all rows into an empty warehouse with the default settings. The floor has large pages from the beginning."""
    rows = 4_000 if bench.quick else 100_000
    with start_server(rows, spacing=SPACING) as server:
        jobs = {FLOOR: build_job("floor", in_flight=4, page_size=LARGE_PAGE), OURS: build_job("ours")}
        yield from bench.compare("cold-start", rows, server, jobs)


def latency(bench: Bench) -> Iterator[Measurement]:
    """Load page by page from a slow service: the gain of reading ahead, and the cost of the proof of continuity."""
    rows = 400 if bench.quick else 4_000
    with start_server(rows, spacing=SPACING) as server:
        jobs = {
            FLOOR: build_job("floor", in_flight=8, page_size=PAGE),
            BY_PAGE: build_job("ours", in_flight=8, page_size=PAGE, paging="page"),
        }
        yield from bench.compare("latency", rows, server, jobs, delay=0.1)


def key_latency(bench: Bench) -> Iterator[Measurement]:
    """Load from a slow service with the default settings: the gain of large replies and of several chains."""
    rows = 400 if bench.quick else 4_000
    with start_server(rows, spacing=SPACING) as server:
        for measurement in bench.compare("key-latency", rows, server, {OURS: build_job("ours")}, delay=0.1):
            yield replace(measurement, figures={"seconds_of_pause": PAUSE})


def scale(bench: Bench) -> Iterator[Measurement]:
    """Load growing numbers of rows, with the default memory limit and without one."""
    for rows in (2_000, 4_000) if bench.quick else (10_000, 30_000, 100_000, 300_000, 1_000_000):
        with start_server(rows, spacing=SPACING) as server:
            jobs = {
                FLOOR: build_job("floor", in_flight=4, page_size=LARGE_PAGE),
                OURS: build_job("ours", page_size=LARGE_PAGE),
                UNLIMITED: build_job("ours", page_size=LARGE_PAGE, memory_limit=""),
            }
            yield from bench.compare("scale", rows, server, jobs)
