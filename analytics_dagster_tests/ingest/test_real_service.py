"""Real input: a deployment with other paths, another header, two kinds of key, reached by settings alone."""

from analytics_dagster.catalog import RESOURCES
from analytics_dagster_tests.support.project import Project
from analytics_dagster_tests.support.service import a_service, truth

INCREMENTAL = [row.name for row in RESOURCES if row.incremental]
WHOLE = [row.name for row in RESOURCES if not row.incremental]

PATHS = {
    "items": "/api/1/items",
    "occurrences": "/api/1/instances",
    "items_metrics": "/api/1/metrics/items",
    "deploys": "/api/1/deploys",
    "environments": "/api/1/environments",
    "rql_jobs": "/api/1/rql/jobs/",
    "top_active_items": "/api/1/reports/top_active_items",
    "projects": "/api/1/projects",
    "teams": "/api/1/teams",
    "users": "/api/1/users",
}
KEYS = {"api_key": "a project's key", "account_api_key": "an account's key"}


def test_every_row_lands_from_a_service_of_another_shape_and_the_sandbox_never_shares_its_file(project: Project):
    keys = {"project_key": KEYS["api_key"], "account_key": KEYS["account_api_key"]}
    with a_service(header="X-Access-Token", paths=PATHS, jobs_as_list=True, **keys) as service:
        project.set(
            base_url=service.url,
            api_key_header="X-Access-Token",
            **KEYS,
            **{f"paths__{name}": path for name, path in PATHS.items()},
            page_size__items=7,
            page_size__occurrences=5000,
            page_size__deploys=100,
        )
        assert project.materialize(*INCREMENTAL).success
        assert project.materialize(*WHOLE).success
        for row in RESOURCES:
            stored = {key for (key,) in project.rows(row.name, row.primary_key[-1])}
            assert stored == truth(service, row.name), row.name
        assert {request.path for request in service.requests} == set(PATHS.values())
        url = service.url
    of_the_service = project.rows("occurrences")

    for name in ("base_url", "api_key", "account_api_key", "api_key_header"):
        project.monkeypatch.delenv(f"SOURCES__ANALYTICS__{name.upper()}")
    for name in PATHS:
        project.monkeypatch.delenv(f"SOURCES__ANALYTICS__PATHS__{name.upper()}")
    assert project.materialize("users", "deploys").success
    assert project.warehouse.name == "sandbox.duckdb"
    assert len(project.rows("users")) > 0
    assert project.rows("load_windows", "DISTINCT source") == [("sandbox",)]

    project.set(base_url=url, api_key="any")
    assert project.warehouse.name == "warehouse.duckdb"
    assert project.rows("occurrences") == of_the_service
    assert project.rows("load_windows", "DISTINCT source") == [(url,)]


def test_one_key_serves_for_all_where_the_service_wants_only_one(project: Project):
    with a_service(project_key="one key", account_key="one key") as service:
        project.set(base_url=service.url, api_key="one key")
        assert project.materialize("users", "deploys", "teams").success


def test_a_list_of_teams_that_ignores_the_page_ends(project: Project):
    with a_service(team_page_size=1000) as service:
        project.use(service)
        assert project.materialize("teams").success
        assert {key for (key,) in project.rows("teams", "id")} == truth(service, "teams")
