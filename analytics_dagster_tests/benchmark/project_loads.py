"""Loads of several projects, each a function, and the process that runs one of them.

`python -m analytics_dagster_tests.benchmark.project_loads tick` runs a load with the settings of the working folder,
and prints its duration, its memory and its requests as JSON. Before the clock runs, everything is imported and
compiled. `loaders` has the loads of a single project.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import duckdb

from analytics_dagster.catalog import RESOURCES, Resource, get_resource
from analytics_dagster.ingest.load import Load, Loader, LoadReport, load_resource, open_loader
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.warehouse.location import warehouse_location
from analytics_dagster.ingest.windows import Window, midnight
from analytics_dagster_tests.benchmark.loaders import cpu_seconds, peak_mb

INCREMENTAL = tuple(resource for resource in RESOURCES if resource.incremental)


def load_occurrences() -> int:
    """Load the occurrences of every project, and return the requests sent."""
    return load_resource(get_resource("occurrences"), load_settings()).requests


def load_deploys() -> None:
    """Load the deploys of every project: few rows, through the same code."""
    load_resource(get_resource("deploys"), load_settings())


def load_incremental() -> int:
    """Load the incremental resources of every project, and return the requests sent."""
    return sum(load_resource(resource, load_settings()).requests for resource in INCREMENTAL)


def run_tick() -> int:
    """Load what is new in the incremental resources of every project, as the schedule does; return the requests sent.

    Raises:
        ValueError: A project did not load.
    """
    reports = []
    with open_loader(load_settings()) as loader:
        for resource in INCREMENTAL:
            load = _begin_tick(loader, resource)
            for source in load.sources():
                load.pipeline.run(source)
            reports.append(load.finish())
    return sum(_check_loaded(report).requests for report in reports)


def _check_loaded(report: LoadReport) -> LoadReport:
    for failed in report.failed:
        raise ValueError(f"{report.resource.name} of {failed.project} did not load: {failed.error}")
    return report


def plan_tick() -> int:
    """Plan what the schedule loads of every project, without a request.

    Raises:
        ValueError: A project has no plan, or one that does not go on where its coverage ends.
    """
    with open_loader(load_settings()) as loader:
        for resource in INCREMENTAL:
            load = _begin_tick(loader, resource)
            next(load.sources())
            starts = [part.plan.pieces[0].start for part in load.parts if part.plan and part.plan.pieces]
            today = midnight(datetime.now(UTC).date())
            if len(starts) != len(load.parts) or not all(start and start > today for start in starts):
                raise ValueError(f"{resource.name}: the plans begin at {starts}, not where coverage ends.")
    return 0


def _begin_tick(loader: Loader, resource: Resource) -> Load:
    """Begin the load of yesterday's and today's partition from the end of coverage."""
    today = midnight(datetime.now(UTC).date())
    window = Window(start=today - timedelta(days=1), end=today + timedelta(days=1))
    return loader.begin(resource, window, resume=True)


def fill_year() -> int:
    """Load the first project, and give its rows, and a year of daily windows, to all the others."""
    settings = load_settings()
    names = settings.project_names
    reports = [load_resource(resource, settings, projects=names[:1]) for resource in INCREMENTAL]
    first = reports[0].project
    assert first
    file = warehouse_location(settings).file
    assert file
    with duckdb.connect(str(file)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("CREATE TEMP TABLE names AS SELECT unnest($1) AS name, unnest(range(len($1))) AS p", [names])
        for resource in INCREMENTAL:
            (key,) = resource.primary_key
            connection.execute(
                f"INSERT INTO analytics.{resource.name} BY NAME "
                f"SELECT * EXCLUDE (p) REPLACE ({key} + p * 1_000_000_000_000 AS {key}, {first} + p AS project_id) "
                f"FROM analytics.{resource.name}, range(1, {len(names)}) AS projects (p)"
            )
            connection.execute(
                "INSERT INTO analytics.load_windows BY NAME SELECT $1 AS resource, $2 AS source, "
                "day AS window_start, least(day + INTERVAL 1 DAY, now()) AS window_end, 20 AS rows_loaded, "
                f"now() AS loaded_at, {first} + p AS project_id, name AS project_name FROM names, "
                "range(CAST(current_date - 364 AS TIMESTAMPTZ), now(), INTERVAL 1 DAY) AS days (day)",
                [resource.name, settings.source_address],
            )
    return 0


Action = Callable[[], int]

ACTIONS: dict[str, tuple[Callable[[], object], Action]] = {
    "load": (load_deploys, load_occurrences),
    "fill": (lambda: None, load_incremental),
    "tick": (run_tick, run_tick),
    "fill-year": (lambda: None, fill_year),
    "plan": (plan_tick, plan_tick),
}
"""What runs before the clock does, and what is measured, by name."""


def main(name: str) -> None:
    """Run an action, and print its seconds, CPU seconds, peak memory and requests as JSON."""
    warm_up, action = ACTIONS[name]
    warm_up()
    cpu_began, began = cpu_seconds(), time.perf_counter()
    requests = action()
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": cpu_seconds() - cpu_began,
        "peak_mb": peak_mb(),
        "requests": requests,
    }
    print(json.dumps(figures))  # noqa: T201 - read by scenarios/projects.py


if __name__ == "__main__":
    main(sys.argv[1])
