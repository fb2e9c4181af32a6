"""Loads into PostgreSQL, on a server with its default settings: of all rows, and of an hour into a large table."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from analytics_dagster_tests.benchmark.bench import HOUR, LARGE_PAGE, SPACING, Bench, build_job, check_rows
from analytics_dagster_tests.benchmark.loaders import Job
from analytics_dagster_tests.benchmark.measurements import (
    IN_PIECES,
    LARGE_PAGES,
    ON_DUCKDB,
    OURS,
    PLAIN,
    PLAIN_PARQUET,
    Measurement,
    summarize,
)
from analytics_dagster_tests.benchmark.runs import Run, run_job, run_postgres_job
from analytics_dagster_tests.benchmark.server_process import Server, start_server
from analytics_dagster_tests.support.postgres_server import PostgresServer
from analytics_dagster_tests.support.postgres_server import start_server as start_postgres


def postgres_cold(bench: Bench) -> Iterator[Measurement]:
    """Load all rows into an empty database with the default settings, beside DuckDB and plain dlt."""
    rows = 4_000 if bench.quick else 100_000
    few = 500 if bench.quick else 20_000
    with start_postgres() as postgres:
        with start_server(rows, spacing=SPACING) as server:
            jobs = {OURS: build_job("ours"), ON_DUCKDB: build_job("ours")}
            yield from _compare(bench, rows, server, postgres, jobs)
        # Plain dlt needs too much time for the rows of the other loaders.
        with start_server(few, spacing=SPACING) as server:
            jobs = {
                LARGE_PAGES: build_job("ours", page_size=LARGE_PAGE),
                PLAIN_PARQUET: build_job("plain-parquet", page_size=LARGE_PAGE),
                PLAIN: build_job("plain", page_size=LARGE_PAGE),
            }
            yield from _compare(bench, few, server, postgres, jobs)


def _compare(
    bench: Bench, case: int, server: Server, postgres: PostgresServer, jobs: Mapping[str, Job]
) -> Iterator[Measurement]:
    """Run the jobs in turn, check the landed rows, and yield a measurement for each job."""
    runs: dict[str, list[Run]] = {label: [] for label in jobs}
    for number in range(1, bench.rounds + 1):
        for label, job in jobs.items():
            if label == ON_DUCKDB:
                run = run_job(job, server)
            else:
                with postgres.database() as database:
                    run = run_postgres_job(job, server, database)
            check_rows(run, server.truth(), label)
            bench.log_run("postgres-cold", case, label, number, run)
            runs[label].append(run)
    for label, label_runs in runs.items():
        yield summarize("postgres-cold", label, case, label_runs)


def postgres_merge(bench: Bench) -> Iterator[Measurement]:
    """Load a window of one hour into an empty table, and into a table that holds all rows already.

    The load records coverage and counts rows, as the assets' do.
    """
    rows = 4_000 if bench.quick else 1_000_000
    with (
        start_postgres() as postgres,
        start_server(rows, spacing=SPACING) as server,
        postgres.database() as empty,
        postgres.database() as full,
    ):
        hour = build_job("ours-in-pieces", page_size=LARGE_PAGE, start=server.newest - HOUR, end=server.newest + 1)
        run_postgres_job(hour, server, empty)
        empty.run("TRUNCATE analytics.occurrences, analytics.load_windows, analytics.daily_rows")
        bench.log(f"postgres-merge: filling a table with {rows:,} rows")
        filling = run_postgres_job(build_job("ours-in-pieces", page_size=5_000), server, full)
        check_rows(filling, server.truth(), IN_PIECES)
        tables = {0: empty, rows: full}
        runs: dict[int, list[Run]] = {rows_before: [] for rows_before in tables}
        for number in range(1, bench.rounds + 1):
            for rows_before, table in tables.items():
                with postgres.database(f"TEMPLATE {table.name} STRATEGY FILE_COPY") as database:
                    run = run_postgres_job(hour, server, database)
                bench.log_run("postgres-merge", rows_before, IN_PIECES, number, run)
                runs[rows_before].append(run)
        for rows_before, table_runs in runs.items():
            measurement = summarize("postgres-merge", IN_PIECES, rows_before, table_runs)
            yield replace(measurement, rows=len(server.truth(hour.start, hour.end)))
