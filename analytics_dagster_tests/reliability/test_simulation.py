"""Simulated days through real HTTP, dlt and DuckDB: afterwards the warehouse has the rows that the service has."""

import pytest

from analytics_dagster_tests.support.project import Project
from analytics_dagster_tests.support.simulation import COMPARED_AFTER_TICK, SOAK_SEED, growth, simulated

pytestmark = [pytest.mark.slow, pytest.mark.full_pauses]


@pytest.mark.parametrize("seed", range(12))
def test_after_a_night_nothing_is_missing(seed: int, project: Project) -> None:
    with simulated(project, seed, faults=0.3) as simulation:
        simulation.run(4)
        simulation.settle()

        assert simulation.missing() == {}
        assert simulation.happened["faults"]


@pytest.mark.parametrize("seed", range(2))
def test_after_a_tick_nothing_is_missing_that_arrived_or_moved(seed: int, project: Project) -> None:
    with simulated(project, seed) as simulation:
        simulation.calm = True
        simulation.settle()  # past midnight: no night repairs what the ticks from here on miss
        simulation.faults = 0.3
        simulation.run(4)
        simulation.tick_without_faults()

        assert simulation.missing(COMPARED_AFTER_TICK) == {}
        assert simulation.happened["faults"]
        assert simulation.happened["arrivals while reading"]


def test_sixty_ticks_lose_nothing_and_grow_with_the_rows_alone(project: Project) -> None:
    """`make soak` runs 500 ticks."""
    with simulated(project, SOAK_SEED) as simulation:
        usages = simulation.run(60)
        simulation.settle()

        assert simulation.missing() == {}
    assert usages[-1].rows / usages[0].rows > 1.5
    memory, bytes_per_row = growth(usages)
    assert memory < 1.25
    assert bytes_per_row < 1.25
