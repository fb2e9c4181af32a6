"""SQL is built from names of the catalog and of the loader, and of nothing that the service sends or a user sets."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest
from dlt.destinations.impl.duckdb.sql_client import DuckDbSqlClient

from analytics_dagster.catalog import RESOURCES, table_columns
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.warehouse.postgres_client import PostgresSqlClient
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.project import Project, checked, load

HOSTILE = "it's hostile\" %s {x}; DROP TABLE analytics.deploys; --"
FOLDER = "/it's-hostile"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that the warehouse is given, by dlt, by the loader and by the checks."""
    given: list[str] = []

    def record(client_class: type[Any]) -> None:
        run = client_class.execute_query

        @contextmanager
        def recorded(client: Any, query: str, *parameters: Any, **named: Any) -> Iterator[Any]:
            given.append(query)
            with run(client, query, *parameters, **named) as cursor:
                yield cursor

        monkeypatch.setattr(client_class, "execute_query", recorded)

    record(DuckDbSqlClient)
    record(PostgresSqlClient)
    return given


@pytest.mark.every_warehouse
def test_nothing_that_is_read_or_configured_becomes_part_of_a_statement(project: Project, statements: list[str]):
    paths = {resource.name: FOLDER + resource.path for resource in RESOURCES}
    with Sandbox(history_days=0, rate_limit=1_000_000, paths=paths) as service:
        project.set(base_url=service.url + FOLDER, api_key=PROJECT_KEY, account_api_key=ACCOUNT_KEY)
        deploy = service.add_deploy(revision=HOSTILE, comment=HOSTILE)
        service.plant("deploys", {**deploy, "id": deploy["id"] + 1, HOSTILE: HOSTILE})
        service.plant("deploys", {**deploy, "id": HOSTILE, HOSTILE: HOSTILE})
        team = service.rows("teams")[0]
        service.update("teams", team["id"], name=HOSTILE)
        for name in ("deploys", "teams"):
            load(name)
        service.remove("teams", team["id"])
        for name in ("deploys", "teams"):
            load(name)
        keys = [dg.AssetKey(["analytics", name]) for name in ("deploys", "teams")]
        checks = checked(project, dg.AssetSelection.checks_for_assets(*keys))

    assert {"deploys", "teams"} == {name for name, _ in checks}
    given = "\n".join(statements)
    assert "removed_at = %s" in given
    assert "hostile" not in given
    # It is all there, as values.
    assert project.rows("deploys", "revision").count((HOSTILE,)) == 2
    in_extra = "CAST(extra AS VARCHAR) LIKE '%DROP TABLE%'"
    assert project.sql(f"SELECT count(*) FROM analytics.deploys WHERE {in_extra}") == [(1,)]
    assert project.sql("SELECT count(*) FROM analytics.rejected_rows WHERE raw LIKE '%DROP TABLE%'") == [(1,)]
    assert project.sql("SELECT name FROM analytics.teams WHERE removed_at IS NOT NULL") == [(HOSTILE,)]
    assert project.rows("load_windows", "DISTINCT source") == [(load_settings().source_address,)]


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.name)
def test_the_names_that_statements_are_built_from_are_plain(resource):
    names = [resource.name, *(column.name for column in table_columns(resource))]
    assert [name for name in names if not re.fullmatch("[a-z][a-z0-9_]*", name)] == []
