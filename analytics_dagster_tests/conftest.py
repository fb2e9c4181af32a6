"""Fixtures."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from analytics_dagster.ingest import keyset, pagination, project_load
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.postgres_server import FAST, PostgresServer, start_server
from analytics_dagster_tests.support.project import Project, a_project
from analytics_dagster_tests.support.service import a_service

AWarehouse = Callable[[Project], AbstractContextManager[None]]


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
def project(tmp_path: Path, a_warehouse: AWarehouse) -> Iterator[Project]:
    """A project of the test's own, with an empty warehouse."""
    with a_project(tmp_path) as project, a_warehouse(project):
        yield project


@pytest.fixture(scope="session")
def warehouse_kind(request: pytest.FixtureRequest) -> str:
    """The kind of the warehouse: DuckDB; tests marked `every_warehouse` run with each."""
    return getattr(request, "param", "duckdb")


@pytest.fixture(scope="session")
def a_warehouse(request: pytest.FixtureRequest, warehouse_kind: str) -> AWarehouse:
    """Gives a project an empty warehouse."""

    @contextmanager
    def given(project: Project) -> Iterator[None]:
        if warehouse_kind == "duckdb":
            yield
            return
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with server.database() as database:
            project.use_postgres(database)
            yield

    return given


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of the process."""
    with start_server(*FAST) as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests that are marked `every_warehouse` on each."""
    if "warehouse_kind" in metafunc.fixturenames and metafunc.definition.get_closest_marker("every_warehouse"):
        kinds = ["duckdb", pytest.param("postgres", marks=pytest.mark.postgres)]
        metafunc.parametrize("warehouse_kind", kinds, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the tests of `every_warehouse(sample=True)` on PostgreSQL with the first of their parameters alone.

    The others differ in what the service sends or the settings say, and ask nothing else of the warehouse.
    """
    seen: set[str] = set()
    kept, left = [], []
    for item in items:
        marker = item.get_closest_marker("every_warehouse")
        name = item.nodeid.partition("[")[0]
        sampled = bool(marker and marker.kwargs.get("sample") and item.get_closest_marker("postgres"))
        (left if sampled and name in seen else kept).append(item)
        seen |= {name} if sampled else set()
    items[:] = kept
    config.hook.pytest_deselected(items=left)
