"""Fixtures."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics_dagster.ingest import keyset, load, pagination
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.postgres_server import PostgresServer, start_server
from analytics_dagster_tests.support.project import Project, a_project
from analytics_dagster_tests.support.service import a_service


@pytest.fixture(autouse=True)
def short_pauses(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the end of a list again at once, where nothing is empty for a moment."""
    if "full_pauses" not in request.keywords:
        monkeypatch.setattr(keyset, "PAUSE", 0.02)
        monkeypatch.setattr(pagination, "PAUSE", 0.02)
        monkeypatch.setattr(load, "PAUSE", 0.02)


@pytest.fixture
def service() -> Iterator[Sandbox]:
    """The service with two days of history."""
    with a_service() as sandbox:
        yield sandbox


@pytest.fixture
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Project]:
    """A project of the test's own, with a DuckDB file; tests marked `every_warehouse` run with each kind of it."""
    with a_project(tmp_path) as project:
        if getattr(request, "param", "duckdb") == "duckdb":
            yield project
            return
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with server.database() as url:
            project.use_postgres(url)
            yield project


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of the process."""
    with start_server() as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests that are marked `every_warehouse` on each."""
    if "project" in metafunc.fixturenames and metafunc.definition.get_closest_marker("every_warehouse"):
        warehouses = ["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("project", warehouses, indirect=True)
