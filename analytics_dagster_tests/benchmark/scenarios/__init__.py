"""The scenarios: each runs loaders against a server and yields their measurements. Add one to `SCENARIOS`."""

import time
from collections.abc import Callable, Iterator

from analytics_dagster_tests.benchmark.bench import Bench
from analytics_dagster_tests.benchmark.measurements import Measurement
from analytics_dagster_tests.benchmark.scenarios.full_loads import (
    cold_start,
    key_latency,
    large_pages,
    latency,
    scale,
    small_pages,
)
from analytics_dagster_tests.benchmark.scenarios.growing_lists import growing, key_growing
from analytics_dagster_tests.benchmark.scenarios.imports import imports
from analytics_dagster_tests.benchmark.scenarios.insights import insights
from analytics_dagster_tests.benchmark.scenarios.long_ranges import pieces, year
from analytics_dagster_tests.benchmark.scenarios.postgres import postgres_cold, postgres_merge
from analytics_dagster_tests.benchmark.scenarios.projects import (
    projects,
    projects_definitions,
    projects_plan,
    projects_tick,
)
from analytics_dagster_tests.benchmark.scenarios.windows import depth, key_bursts, key_depth, merge, tick

SCENARIOS: dict[str, Callable[[Bench], Iterator[Measurement]]] = {
    "small-pages": small_pages,
    "large-pages": large_pages,
    "cold-start": cold_start,
    "latency": latency,
    "key-latency": key_latency,
    "depth": depth,
    "key-depth": key_depth,
    "key-bursts": key_bursts,
    "tick": tick,
    "growing": growing,
    "key-growing": key_growing,
    "imports": imports,
    "insights": insights,
    "merge": merge,
    "postgres-cold": postgres_cold,
    "postgres-merge": postgres_merge,
    "projects": projects,
    "projects-plan": projects_plan,
    "projects-tick": projects_tick,
    "projects-definitions": projects_definitions,
    "scale": scale,
    "pieces": pieces,
    "year": year,
}
"""The scenarios by name, the quick ones first."""

LONG = (
    "large-pages",
    "imports",
    "scale",
    "pieces",
    "year",
    "postgres-cold",
    "postgres-merge",
    "projects-tick",
    "projects-definitions",
)
"""Scenarios that a quick run leaves out, unless `--only` names them."""


def measure(names: list[str], bench: Bench) -> Iterator[Measurement]:
    """Run the scenarios one after the other and yield their measurements."""
    for name in names:
        began = time.monotonic()
        yield from SCENARIOS[name](bench)
        bench.log(f"{name}: done in {time.monotonic() - began:.0f} s")
