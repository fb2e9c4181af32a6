"""Materializations on three levels: specs, rows by SQL, metadata; and the reports of failed loads."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics_dagster.catalog import RESOURCES, ColumnType, get_resource, table_columns
from analytics_dagster.definitions import build_definitions, defs
from analytics_dagster.defs.translator import SERVICE
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.sandbox import PERSONAL_MARKERS, SECRET_MARKER, Sandbox
from analytics_dagster_tests.conftest import AWarehouse
from analytics_dagster_tests.support.project import Project, a_project, failure, materializations
from analytics_dagster_tests.support.service import a_service, truth

NAMES = [resource.name for resource in RESOURCES]
INCREMENTAL = [resource.name for resource in RESOURCES if resource.incremental]
WHOLE = [resource.name for resource in RESOURCES if not resource.incremental]

SQL_TYPES = {
    ColumnType.BIGINT: "BIGINT",
    ColumnType.TEXT: "VARCHAR",
    ColumnType.BOOL: "BOOLEAN",
    ColumnType.TIMESTAMP: "TIMESTAMP WITH TIME ZONE",
    ColumnType.JSON: "JSON",
}
POSTGRES_NAMES = {"VARCHAR": "CHARACTER VARYING", "JSON": "JSONB"}


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d")


def test_there_are_ten_assets_with_the_keys_groups_and_owners_of_the_design():
    all_specs = {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}
    specs = {key: spec for key, spec in all_specs.items() if spec.group_name != "insights"}
    assert set(specs) == {"analytics_api", *(f"analytics/{name}" for name in NAMES)}
    groups = {key: spec.group_name for key, spec in specs.items() if key != "analytics_api"}
    assert groups == {
        "analytics/items": "incremental",
        "analytics/occurrences": "incremental",
        "analytics/deploys": "incremental",
        "analytics/rql_jobs": "incremental",
        "analytics/environments": "reference",
        "analytics/projects": "reference",
        "analytics/teams": "reference",
        "analytics/users": "reference",
        "analytics/items_metrics": "metrics",
        "analytics/top_active_items": "metrics",
    }
    for key in groups:
        assert specs[key].description
        assert specs[key].owners == ["team:analytics"]
        assert specs[key].kinds == {"dlt", "duckdb"}


@pytest.mark.parametrize("name", NAMES)
def test_every_spec_describes_every_column(name):
    (spec,) = [spec for spec in defs.resolve_all_asset_specs() if spec.key.path == ["analytics", name]]
    schema = spec.metadata["dagster/column_schema"]
    assert [column.name for column in schema.columns] == [column.name for column in table_columns(get_resource(name))]
    assert all(column.description for column in schema.columns)


@dataclass
class Loaded:
    """Everything that a service has, loaded once."""

    project: Project
    service: Sandbox
    metadata: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, a_warehouse: AWarehouse) -> Iterator[Loaded]:
    with a_service() as service, a_project(tmp_path_factory.mktemp("project")) as project, a_warehouse(project):
        project.use(service)
        result = project.materialize(*INCREMENTAL)
        others = project.materialize(*WHOLE)
        assert result.success
        assert others.success
        yield Loaded(project, service, materializations(result) | materializations(others))


@pytest.mark.every_warehouse
def test_every_row_lands_with_its_types_and_metadata(loaded: Loaded):
    project, service = loaded.project, loaded.service
    for resource in RESOURCES:
        key = resource.primary_key[-1]
        keys = [value for (value,) in project.rows(resource.name, key)]
        assert len(keys) > 0
        assert len(set(keys)) == len(keys)
        assert set(keys) == truth(service, resource.name), resource.name

        described = project.sql(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = 'analytics' AND table_name = '{resource.name}' ORDER BY ordinal_position"
        )
        names = POSTGRES_NAMES if project.postgres else {}
        types = {column.name: SQL_TYPES[column.type] for column in table_columns(resource)}
        expected = [(name, names.get(kind, kind)) for name, kind in types.items()]
        assert [(name, kind.upper()) for name, kind in described] == expected, resource.name

        metadata = loaded.metadata[resource.name]
        assert metadata["dagster/row_count"] == len(keys)
        assert metadata["new_rows"] == len(keys)
        assert metadata["rows_read"] >= metadata["rows_loaded"] >= len(keys)
        assert metadata["rows_rejected"] == 0
        assert metadata["requests"] >= 1
        assert metadata["retries"] == 0
        assert metadata["seconds"] > 0
        assert metadata["source"] == service.url
        assert metadata["dagster/table_name"] == project.qualified(resource.name)
        assert metadata["dagster/column_schema"].columns[0].description
        assert ("newest" in metadata) == (resource.cursor is not None)


@pytest.mark.every_warehouse
def test_values_arrive_as_they_were_sent(loaded: Loaded):
    sent = {row["id"]: row for row in loaded.service.rows("occurrences")}
    columns = ("id", "item_id", "extract(epoch FROM timestamp)", "environment", "code_version", "title")
    stored = loaded.project.rows("occurrences", *columns)
    assert len(stored) == len(sent)
    for row_id, item_id, timestamp, environment, code_version, title in stored:
        row = sent[row_id]
        data = row["data"]
        assert (item_id, timestamp) == (row["item_id"], row["timestamp"])
        assert (environment, code_version, title) == (data["environment"], data.get("code_version"), data["title"])


@pytest.mark.every_warehouse
def test_neither_secrets_nor_personal_data_are_stored_by_default(loaded: Loaded):
    project = loaded.project
    for table in NAMES:
        for row in project.rows(table):
            assert not any(marker in str(row) for marker in (SECRET_MARKER, *PERSONAL_MARKERS)), table


def test_personal_data_is_stored_where_the_setting_says_so(project: Project, service: Sandbox):
    project.use(service, keep_personal_data=True)
    assert project.materialize("users").success
    assert project.rows("users", "id", "email") == sorted((row["id"], row["email"]) for row in service.rows("users"))


@pytest.mark.every_warehouse
def test_a_second_load_changes_no_row(loaded: Loaded):
    project = loaded.project
    before = {name: project.rows(name) for name in NAMES}
    for names in (INCREMENTAL, WHOLE):
        result = project.materialize(*names)
        assert result.success
        assert all(metadata["new_rows"] == 0 for metadata in materializations(result).values())
    assert {name: project.rows(name) for name in NAMES} == before


@pytest.mark.every_warehouse
def test_an_empty_service_makes_empty_tables_and_says_zero(project: Project):
    with Sandbox(clock=lambda: 1_000_000_000 + 86400 * 300, history_days=0, rate_limit=1_000_000) as service:
        for name in ("deploys", "items"):
            for row in service.rows(name):
                service.remove(name, row["id"])
        project.use(service)
        result = project.materialize("deploys", "items")
    assert result.success
    for name, metadata in materializations(result).items():
        assert metadata["dagster/row_count"] == metadata["new_rows"] == metadata["rows_read"] == 0
        assert project.rows(name) == []


@pytest.mark.every_warehouse
def test_metrics_before_any_item_load_nothing_and_succeed(project: Project, service: Sandbox):
    project.use(service)
    result = project.materialize("items_metrics")
    assert result.success
    assert materializations(result)["items_metrics"]["requests"] == 0
    assert project.rows("items_metrics") == []


def test_metrics_are_asked_for_in_batches_of_a_hundred_counters(project: Project):
    with a_service(history_days=21) as service:
        project.use(service)
        assert project.materialize("items").success
        service.requests.clear()
        assert project.materialize("items_metrics").success
        asked = [len(request.body["item_counters"]) for request in service.requests]
    counters = len(project.rows("items", "counter"))
    assert counters > 100
    assert asked == [100, counters - 100]


@pytest.mark.every_warehouse
def test_one_resource_that_fails_holds_back_no_other_and_is_named(project: Project, service: Sandbox):
    project.use(service)
    service.fail_next("err", resource="deploys", status=403, message="not on this plan", times=99)
    result = project.materialize(*INCREMENTAL, partition=days_ago(0))
    assert not result.success
    assert set(materializations(result)) == set(INCREMENTAL) - {"deploys"}
    assert failure(result).startswith("1 of 4 did not load: deploys: HTTP 403 (not on this plan).")
    assert project.rows("load_windows", "DISTINCT resource") == [("items",), ("occurrences",), ("rql_jobs",)]


def test_the_service_is_shown_as_read_once_it_answered(project: Project, service: Sandbox):
    project.use(service)
    service.fail_next("err", resource="projects", status=403, times=99)
    assert not project.materialize("projects").success
    assert project.instance.get_latest_materialization_event(SERVICE) is None
    project.materialize("projects", "teams", "users")
    event = project.instance.get_latest_materialization_event(SERVICE)
    assert event
    assert event.asset_materialization
    assert event.asset_materialization.metadata["source"].value == load_settings().source_address


def test_small_lists_are_loaded_before_the_occurrences(project: Project, service: Sandbox):
    project.use(service)
    result = project.materialize(*INCREMENTAL, partition=days_ago(0))
    assert result.success
    expected = ["items", "deploys", "rql_jobs", "occurrences"]
    assert list(dict.fromkeys(request.resource for request in service.requests)) == expected
    assert list(materializations(result)) == expected


@pytest.mark.every_warehouse
def test_a_load_that_fails_half_way_leaves_the_table_as_it_was(project: Project, service: Sandbox):
    project.use(service, read_ahead=1)
    assert project.materialize("occurrences", partition=days_ago(1)).success
    before = project.rows("occurrences"), project.rows("load_windows")
    service.fail_next("err", resource="occurrences", status=422, after=5, message="no more")
    result = project.materialize("occurrences")
    assert not result.success
    assert materializations(result) == {}
    assert (project.rows("occurrences"), project.rows("load_windows")) == before


@pytest.mark.every_warehouse
def test_rows_that_do_not_fit_are_set_aside_and_the_others_load(project: Project, service: Sandbox):
    project.use(service)
    expected = truth(service, "deploys")
    good = service.rows("deploys")[0]
    service.plant("deploys", {**good, "id": None})
    service.plant("deploys", {**good, "id": good["id"] + 1, "start_time": good["start_time"] * 1000})
    service.plant("deploys", {**good, "id": good["id"] + 2, "revision": {"not": "text"}})
    for _ in range(2):
        result = project.materialize("deploys")
        assert result.success
        assert materializations(result)["deploys"]["rows_rejected"] == 3
    assert {value for (value,) in project.rows("deploys", "id")} == expected
    reasons = project.sql("SELECT reason FROM analytics.rejected_rows ORDER BY 1")
    assert reasons == [
        ("id is null or missing",),
        ("revision is dict where text belongs",),
        ("start_time is no plausible time in epoch seconds",),
    ]


@pytest.mark.every_warehouse
def test_a_row_that_a_complete_listing_lacks_is_marked_and_comes_back_clean(project: Project, service: Sandbox):
    project.use(service)
    assert project.materialize("teams").success
    team = service.rows("teams")[3]
    service.remove("teams", team["id"])
    result = project.materialize("teams")
    assert materializations(result)["teams"]["rows_removed"] == 1
    assert project.sql("SELECT id FROM analytics.teams WHERE removed_at IS NOT NULL") == [(team["id"],)]
    service.plant("teams", team)
    assert project.materialize("teams").success
    assert project.sql("SELECT id FROM analytics.teams WHERE removed_at IS NOT NULL") == []


def test_disabled_resources_are_no_assets(project: Project):
    project.set(disabled="rql_jobs, top_active_items, items_metrics")
    definitions = build_definitions(load_settings())
    names = {spec.key.path[-1] for spec in definitions.resolve_all_asset_specs()}
    others = {"analytics_api", "deploy_impact", "deploy_items"}
    assert names == {*others, *NAMES} - {"rql_jobs", "top_active_items", "items_metrics"}
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    assert "metrics_refresh" not in jobs
    assert {"incremental_sync", "reference_sync", "full_sync"} <= jobs
