"""A dozen random days through real HTTP, dlt and DuckDB: in the end the warehouse has what the service has."""

from datetime import timedelta

import pytest

from analytics_dagster_tests.conftest import Project
from analytics_dagster_tests.simulation import START, simulated

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(12))
def test_after_a_night_nothing_is_missing(seed: int, project: Project) -> None:
    with simulated(project, seed, faults=0.3) as simulation:
        for _ in range(4):
            simulation.tick()
        simulation.settle()

        assert simulation.missing(project, START - timedelta(days=1)) == {}
        assert simulation.happened["faults"]
