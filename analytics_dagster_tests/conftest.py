"""Fixtures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics_dagster.ingest import keyset, pagination, project_load
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, a_project
from analytics_dagster_tests.support.service import a_service


@pytest.fixture(autouse=True)
def short_pauses(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the end of a list again at once, where nothing is empty for a moment."""
    if "full_pauses" not in request.keywords:
        monkeypatch.setattr(keyset, "PAUSE", 0.02)
        monkeypatch.setattr(pagination, "PAUSE", 0.02)
        monkeypatch.setattr(project_load, "PAUSE", 0.02)


@pytest.fixture
def service() -> Iterator[Sandbox]:
    """The service with two days of history."""
    with a_service() as sandbox:
        yield sandbox


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project of the test's own."""
    with a_project(tmp_path) as project:
        yield project
