"""Sixty hours of simulated time: the service's rows in the end, and no growth but theirs. `make soak` takes 500."""

from datetime import timedelta

import pytest

from analytics_dagster_tests.support.project import Project
from analytics_dagster_tests.support.simulation import START, simulated
from analytics_dagster_tests.support.soak import SEED, growth, soak

pytestmark = pytest.mark.slow


def test_sixty_ticks_lose_nothing_and_grow_with_the_rows_alone(project: Project) -> None:
    with simulated(project, SEED) as simulation:
        points = soak(project, simulation, 60)
        simulation.settle()

        assert simulation.missing(project, START - timedelta(days=1)) == {}
    rows = points[-1].rows / points[0].rows
    memory, bytes_a_row = growth(points)
    assert rows > 1.5
    assert memory < 1.25
    assert bytes_a_row < 1.25
