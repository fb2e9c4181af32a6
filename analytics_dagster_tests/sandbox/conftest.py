"""A sandbox whose clock the tests move."""

from collections.abc import Iterator

import pytest

from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.sandbox.client import Clock


@pytest.fixture
def clock() -> Clock:
    """The clock of `sandbox`."""
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Iterator[Sandbox]:
    """The present day, for tests that change something."""
    with Sandbox(seed=7, clock=clock, history_days=0) as running:
        yield running
