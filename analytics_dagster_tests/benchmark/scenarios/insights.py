"""The insights over a large warehouse: every verdict at once, and a tick with nothing new."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import dlt
import duckdb

from analytics_dagster.catalog import get_resource, table_columns
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.schema import arrow_schema, column_hints
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.warehouse.load_state import open_load_state
from analytics_dagster.ingest.warehouse.pipeline import build_pipeline
from analytics_dagster.ingest.warehouse.working_files import working_files
from analytics_dagster.ingest.windows import Window
from analytics_dagster.insights.refresh import Report, refresh
from analytics_dagster.insights.warehouse import SOURCES, open_insights
from analytics_dagster_tests.benchmark.bench import Bench
from analytics_dagster_tests.benchmark.measurements import ALL_VERDICTS, NO_VERDICT, Measurement
from analytics_dagster_tests.benchmark.runs import RunError
from analytics_dagster_tests.support.project import a_project

_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
_SPAN = timedelta(days=100)
_DEPLOYS = 2_000
_ITEMS = 5_000
_PROJECTS = (1001, 2002)
_QUARTER = timedelta(minutes=15)


def insights(bench: Bench) -> Iterator[Measurement]:
    """Compute every verdict on 2,000 deploys, and none after a load without new rows, in two projects."""
    occurrences = 20_000 if bench.quick else 1_000_000
    runs: dict[str, list[_Run]] = {ALL_VERDICTS: [], NO_VERDICT: []}
    with _filled_warehouse(occurrences) as end:
        _refresh(recompute=True)  # creates the tables, and imports what computes them
        for number in range(1, bench.rounds + 1):
            runs[ALL_VERDICTS].append(_measure(_DEPLOYS, recompute=True))
            _record_load(end + number * _QUARTER)
            runs[NO_VERDICT].append(_measure(0))
            for loader, each in runs.items():
                bench.log(f"insights {occurrences:,}, round {number}: {loader} {each[-1].seconds:.2f} s")
    for loader, each in runs.items():
        yield Measurement(
            scenario="insights",
            loader=loader,
            case=occurrences,
            seconds=statistics.median(run.seconds for run in each),
            all_seconds=[round(run.seconds, 3) for run in each],
            cpu_seconds=round(statistics.median(run.cpu_seconds for run in each), 3),
        )


class _Run(NamedTuple):
    """The duration of a refresh, the opening of the warehouse included."""

    seconds: float
    cpu_seconds: float


def _measure(expected: int, *, recompute: bool = False) -> _Run:
    """Refresh the insights, and return how long it took.

    Raises:
        RunError: Another number of verdicts was computed.
    """
    began, cpu_began = time.perf_counter(), time.process_time()
    computed = _refresh(recompute=recompute).impact.computed
    run = _Run(time.perf_counter() - began, time.process_time() - cpu_began)
    if computed != expected:
        raise RunError(f"{computed} verdicts were computed instead of {expected}.")
    return run


def _refresh(*, recompute: bool = False) -> Report:
    # A minute later, so that the load before is older than clocks may differ.
    now = datetime.now(UTC) + timedelta(minutes=2)
    with open_insights(load_settings()) as tables:
        return refresh(tables, now=now, recompute=recompute)


def _record_load(end: datetime) -> None:
    """Record that a tick loaded a quarter of an hour in which nothing occurred."""
    with working_files() as files, open_load_state(load_settings(), pipelines_dir=files) as state:
        for project in _PROJECTS:
            owner = Project(id=project)
            state.coverage.record(get_resource("occurrences"), owner, Window(start=end - _QUARTER, end=end), 0)


@contextmanager
def _filled_warehouse(occurrences: int) -> Iterator[datetime]:
    """Fill a warehouse with occurrences, deploys and items of 100 days, and yield the end of its coverage."""
    with tempfile.TemporaryDirectory() as folder, a_project(Path(folder)) as project:
        project.set(base_url="http://127.0.0.1:9", api_key="none")
        with working_files() as files:
            build_pipeline(None, load_settings(), name="benchmark", pipelines_dir=files).run(
                [_empty_table(name) for name in SOURCES]
            )
        with duckdb.connect(str(project.warehouse)) as connection:
            for statement in _fill_statements(occurrences):
                connection.execute(statement)
        with working_files() as files, open_load_state(load_settings(), pipelines_dir=files) as state:
            for project_id in _PROJECTS:
                window, owner = Window(start=_BEGUN, end=_BEGUN + _SPAN), Project(id=project_id)
                state.coverage.record(get_resource("occurrences"), owner, window, occurrences)
        yield _BEGUN + _SPAN


def _empty_table(name: str) -> Any:
    columns = table_columns(get_resource(name))
    return dlt.resource(
        [arrow_schema(columns).empty_table()],
        name=name,
        columns=column_hints(columns),
        write_disposition="append",
        file_format="parquet",
    )


def _fill_statements(occurrences: int) -> Iterator[str]:
    """Yield the statements that spread rows evenly over the time, the projects and three spellings of environments.

    An occurrence is of an item that was first seen before it.
    """

    def moment(rows: int, more: int = 0) -> str:
        return f"to_timestamp({_BEGUN.timestamp() + more} + i * {_SPAN.total_seconds()} / {rows})"

    project = f"CASE i % 2 WHEN 0 THEN {_PROJECTS[0]} ELSE {_PROJECTS[1]} END AS project_id"
    yield f"""
        INSERT INTO analytics.occurrences BY NAME
        SELECT i AS id, CAST(hash(i) % (i * {_ITEMS} // {occurrences} + 1) AS BIGINT) AS item_id, {project},
            {moment(occurrences)} AS timestamp,
            ['production', 'Production', 'staging'][1 + CAST(hash(i * 7) % 3 AS INTEGER)] AS environment
        FROM range({occurrences}) AS numbers (i)"""
    yield f"""
        INSERT INTO analytics.deploys BY NAME
        SELECT i AS id, {project}, ['production', 'staging'][1 + CAST(hash(i) % 2 AS INTEGER)] AS environment,
            'revision-' || i AS revision, 'succeeded' AS status,
            {moment(_DEPLOYS)} AS start_time, {moment(_DEPLOYS, 300)} AS finish_time
        FROM range({_DEPLOYS}) AS numbers (i)"""
    yield f"""
        INSERT INTO analytics.items BY NAME
        SELECT i AS id, i AS counter, {project}, 'production' AS environment, 'Error ' || i AS title, 'error' AS level,
            {moment(_ITEMS)} AS first_occurrence_timestamp
        FROM range({_ITEMS}) AS numbers (i)"""
