"""A dozen random days through real HTTP, dlt and DuckDB: in the end the warehouse has what the service has."""

from datetime import timedelta

import pytest

from analytics_dagster_tests.support.project import Project
from analytics_dagster_tests.support.simulation import SEEN_BY_A_TICK, START, simulated

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(12))
def test_after_a_night_nothing_is_missing(seed: int, project: Project) -> None:
    with simulated(project, seed, faults=0.3) as simulation:
        for _ in range(4):
            simulation.tick()
        simulation.settle()

        assert simulation.missing(project, START - timedelta(days=1)) == {}
        assert simulation.happened["faults"]


@pytest.mark.parametrize("seed", range(2))
def test_after_a_tick_nothing_is_missing_that_arrived_or_moved(seed: int, project: Project) -> None:
    with simulated(project, seed) as simulation:
        simulation.calm = True
        simulation.settle()  # past midnight: no night makes good what the ticks from here on miss
        simulation.faults = 0.3
        for _ in range(4):
            simulation.tick()
        simulation.quiet_tick()

        assert simulation.missing(project, START - timedelta(days=1), SEEN_BY_A_TICK) == {}
        assert simulation.happened["faults"]
        assert simulation.happened["arrivals while reading"]
