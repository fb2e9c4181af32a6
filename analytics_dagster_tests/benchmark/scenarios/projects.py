"""Several projects: read side by side, planned, and in the definitions; and the tick of a hundred without new rows."""

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb

from analytics_dagster.sandbox import ACCOUNT_KEY, SandboxProject
from analytics_dagster_tests.benchmark.bench import PAGE, Bench
from analytics_dagster_tests.benchmark.measurements import (
    DEFINITIONS,
    ONE_AFTER_THE_OTHER,
    OURS,
    SIDE_BY_SIDE,
    Measurement,
    summarize,
)
from analytics_dagster_tests.benchmark.runs import Rows, Run, RunError, run_process, workspace
from analytics_dagster_tests.benchmark.sandbox_process import Service, start_sandbox

DELAY = 0.1
"""Seconds of each reply of the slow projects."""

BY_PAGE = f'page_size.occurrences = {PAGE}\npaging.occurrences = "page"'
"""Settings with which a reply has the rows of a page in the specification."""


def projects(bench: Bench) -> Iterator[Measurement]:
    """Load the occurrences of two slow projects by page: side by side, and one after the other."""
    activity = 0.2 if bench.quick else 3.6
    slow = [
        SandboxProject(name=f"slow-{number}", id=1001 + number, activity=activity, delay=DELAY) for number in (0, 1)
    ]
    runs: dict[str, list[Run]] = {ONE_AFTER_THE_OTHER: [], SIDE_BY_SIDE: []}
    with start_sandbox(slow) as service:
        for number in range(1, bench.rounds + 1):
            for at_a_time, (label, label_runs) in enumerate(runs.items(), start=1):
                with _settings(service, BY_PAGE, f"projects_at_a_time = {at_a_time}") as folder:
                    label_runs.append(_run("load", folder, service))
                bench.log_run("projects", len(slow), label, number, label_runs[-1])
    for label, label_runs in runs.items():
        yield summarize("projects", label, len(slow), label_runs)


def projects_plan(bench: Bench) -> Iterator[Measurement]:
    """Plan one tick of many projects, each with a year of daily windows in every incremental resource."""
    many = _many_projects(bench, activity=1)
    with start_sandbox(many[:1]) as service, _settings(service, projects=many) as folder:
        bench.log(f"projects-plan: filling tables with a year of {len(many)} projects")
        _run("fill-year", folder)
        runs = []
        for number in range(1, bench.rounds + 1):
            runs.append(_run("plan", folder))
            bench.log_run("projects-plan", len(many), OURS, number, runs[-1])
    yield summarize("projects-plan", OURS, len(many), runs)


def projects_tick(bench: Bench) -> Iterator[Measurement]:
    """Run the schedule's load of many small projects without new rows, in every incremental resource."""
    many = _many_projects(bench, activity=0.02)
    with start_sandbox(many) as service, _settings(service) as folder:
        bench.log(f"projects-tick: loading {len(many)} projects")
        _run("fill", folder, service)
        runs = []
        for number in range(1, bench.rounds + 1):
            runs.append(_run("tick", folder, service))
            bench.log_run("projects-tick", len(many), OURS, number, runs[-1])
    yield replace(summarize("projects-tick", OURS, len(many), runs), rows=0)


def projects_definitions(bench: Bench) -> Iterator[Measurement]:
    """Load the settings and the definitions, with one project and with many."""
    many = _many_projects(bench, activity=1)
    service = Service("http://127.0.0.1:9", many, {})  # nothing is requested
    code = (
        "import time\nbegan = time.perf_counter()\nfrom analytics_dagster.ingest.settings import load_settings\n"
        "names = load_settings().project_names\nimport analytics_dagster.definitions\n"
        "print([time.perf_counter() - began, len(names)])"
    )
    seconds: dict[int, list[float]] = {1: [], len(many): []}
    with _settings(service, projects=many[:1]) as one, _settings(service, projects=many) as all_of_them:
        for number in range(1 + (0 if bench.quick else max(7, bench.rounds))):
            for count, folder in zip(seconds, (one, all_of_them), strict=True):
                taken, found = json.loads(run_process([sys.executable, "-c", code], folder))
                if found != count:
                    raise RunError(f"The settings have {found} projects instead of {count}.")
                if number or bench.quick:  # the first import compiles
                    seconds[count].append(taken)
                bench.log(f"projects-definitions {count}: {taken:.2f} s")
    for count, taken in seconds.items():
        yield Measurement(
            scenario="projects-definitions",
            loader=DEFINITIONS,
            case=count,
            seconds=statistics.median(taken),
            all_seconds=[round(each, 3) for each in taken],
        )


def _many_projects(bench: Bench, *, activity: float) -> list[SandboxProject]:
    count = 10 if bench.quick else 100
    return [SandboxProject(name=f"p{number:03}", id=1001 + number, activity=activity) for number in range(count)]


@contextmanager
def _settings(service: Service, *settings: str, projects: Sequence[SandboxProject] = ()) -> Iterator[Path]:
    """Yield a folder with the settings of a user who reads projects of a service, all of them by default."""
    lines = [
        "[sources.analytics]",
        f'base_url = "{service.url}"',
        f'account_api_key = "{ACCOUNT_KEY}"',
        *settings,
    ]
    for project in projects or service.projects:
        lines += [f"[sources.analytics.projects.{project.name}]", f'api_key = "{project.key}"']
    with workspace() as folder:
        (folder / ".dlt" / "secrets.toml").write_text("\n".join(lines))
        yield folder


def _run(action: str, folder: Path, service: Service | None = None) -> Run:
    """Run an action of `project_loads` in a fresh process.

    Args:
        action: Its name.
        folder: Folder of the settings and the warehouse.
        service: The service whose occurrences must be in the warehouse afterwards; None to compare none.

    Raises:
        RunError: The run failed, or the landed rows differ from the served ones.
    """
    command = [sys.executable, "-m", "analytics_dagster_tests.benchmark.project_loads", action]
    figures = json.loads(run_process(command, folder))
    landed: Rows = set()
    if service:
        with duckdb.connect(str(folder / "warehouse.duckdb"), read_only=True) as connection:
            query = "SELECT id, epoch(timestamp)::BIGINT FROM analytics.occurrences"
            rows = connection.execute(query).fetchall()
        landed = set(rows)
        ids = {key for key, _ in rows}
        if len(rows) != len(ids) or ids != service.rows:
            raise RunError(
                f"{action}: {len(rows)} rows landed, {len(ids & service.rows)} of {len(service.rows)} served."
            )
    return Run(**figures, landed=landed)
