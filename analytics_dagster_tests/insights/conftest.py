"""Fixtures of the insights."""

from collections.abc import Iterator

import pytest
import time_machine

from analytics_dagster_tests.support.insights import HOUR, LoadedHistory, at
from analytics_dagster_tests.support.project import Project


@pytest.fixture
def history(project: Project) -> Iterator[LoadedHistory]:
    """A warehouse of a service, three hours after noon."""
    project.set(base_url="https://api.example.com", api_key="a-key")
    with time_machine.travel(at(3 * HOUR), tick=False) as traveller:
        yield LoadedHistory(traveller)
