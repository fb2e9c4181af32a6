"""A warehouse that an earlier version wrote is read and continued. `support/warehouse_fixture.py` wrote the file."""

from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any

import pytest
import time_machine

from analytics_dagster.catalog import RESOURCES, get_resource, table_columns
from analytics_dagster.ingest.schema import LOADER_TABLES
from analytics_dagster.sandbox import PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.project import Project, checked, materializations
from analytics_dagster_tests.support.service import truth
from analytics_dagster_tests.support.warehouse_fixture import (
    BEGAN_AT,
    FIXTURES,
    LOADED_AT,
    REJECTED,
    fixture_service,
    unpack,
)

VERSIONS = sorted(file.name.split("-")[1].removesuffix(".duckdb.gz") for file in FIXTURES.glob("*.gz"))
NAMES = [resource.name for resource in RESOURCES]
INCREMENTAL = [resource.name for resource in RESOURCES if resource.incremental]
REFERENCE = [resource.name for resource in RESOURCES if resource.group == "reference"]
METRICS = [resource.name for resource in RESOURCES if resource.group == "metrics"]
UPGRADED_AT = LOADED_AT + timedelta(minutes=20)
DAYS = (f"{BEGAN_AT - timedelta(days=1):%Y-%m-%d}", f"{BEGAN_AT:%Y-%m-%d}")


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(LOADED_AT, tick=False) as traveller:
        yield traveller


@pytest.fixture(params=VERSIONS)
def service(request: pytest.FixtureRequest, project: Project, clock: time_machine.Traveller) -> Iterator[Sandbox]:
    """The service of the fixture, twenty minutes after the fixture was loaded from it."""
    with fixture_service() as service:
        project.use(service, start_date=DAYS[0])
        unpack(request.param, project.warehouse, source=service.url)
        served = {name: truth(service, name) - {REJECTED["id"]} for name in INCREMENTAL}
        assert {name: set(keys(project, name)) for name in INCREMENTAL} == served, "the sandbox has other rows now"
        clock.move_to(UPGRADED_AT)
        yield service


def keys(project: Project, name: str) -> list[Any]:
    """Return the values of the key of a table; those of the key's last column, which differ too."""
    return [key for (key,) in project.rows(name, get_resource(name).primary_key[-1])]


def stored_columns(project: Project, name: str) -> set[str]:
    return {column for (column,) in project.sql(f"SELECT column_name FROM (DESCRIBE analytics.{name})")}


def tick(project: Project) -> dict[str, dict[str, Any]]:
    """Load as a tick of the schedule does; return the metadata of each asset."""
    result = project.materialize(*INCREMENTAL, span=DAYS, resume=True)
    assert result.success
    return materializations(result)


@pytest.mark.usefixtures("service")
def test_the_checks_read_the_tables_of_an_earlier_version_before_its_first_load_and_write_nothing(project: Project):
    before = project.warehouse.read_bytes()

    results = checked(project)

    assert project.warehouse.read_bytes() == before
    faults = {key: result.description for key, result in results.items() if result.level != "PASS"}
    assert faults.pop(("deploys", "rejected_rows")).startswith("1 row rejected since")
    declared = {name: {column.name for column in table_columns(get_resource(name))} for name in NAMES}
    absent = {name: ", ".join(columns - stored_columns(project, name)) for name, columns in declared.items()}
    assert faults == {
        (name, "not_null"): f"The table lacks {columns}: an earlier version created it. Load it once."
        for name, columns in absent.items()
        if columns
    }
    assert results["occurrences", "freshness"].metadata["age_seconds"] == 20 * 60, "its coverage counts"


def test_the_first_tick_reads_only_what_is_new_and_loses_and_doubles_no_row(project: Project, service: Sandbox):
    before = {name: keys(project, name) for name in INCREMENTAL}
    late = {row["id"] for row in service.add_occurrences(5, at=int(LOADED_AT.timestamp()) - 60)}
    deploy = service.add_deploy()
    service.requests.clear()

    metadata = tick(project)

    for name in INCREMENTAL:
        loaded = keys(project, name)
        assert len(loaded) == len(set(loaded)), name
        assert set(loaded) == truth(service, name) - {REJECTED["id"]}, name
        assert metadata[name]["new_rows"] == len(loaded) - len(before[name])
        assert metadata[name]["window_start"] == LOADED_AT.timestamp(), "the end of the earlier version's coverage"
    assert late <= set(keys(project, "occurrences"))
    assert deploy["id"] in keys(project, "deploys")
    assert metadata["occurrences"]["rows_read"] < len(before["occurrences"]) / 2
    assert len([request for request in service.requests if request.resource == "occurrences"]) <= 3


@pytest.mark.usefixtures("service")
def test_coverage_is_adopted_by_the_project_of_the_rows(project: Project):
    before = project.rows("load_windows", "resource", "window_start", "window_end", "rows_loaded")

    metadata = tick(project)

    after = project.rows("load_windows", "resource", "window_start", "window_end", "rows_loaded")
    assert set(before) < set(after)
    assert len(after) == len(before) + len(INCREMENTAL)
    assert set(project.rows("load_windows", "project_id")) == {(1001,)}
    assert {figures["project"] for figures in metadata.values()} == {1001}


@pytest.mark.usefixtures("service")
def test_a_rejected_row_keeps_the_time_when_it_was_first_seen(project: Project):
    tick(project)

    ((first_seen, last_seen, project_id),) = project.rows("rejected_rows", "first_seen", "last_seen", "project_id")
    assert first_seen.astimezone(UTC) == BEGAN_AT
    assert last_seen.astimezone(UTC) == UPGRADED_AT
    assert project_id == REJECTED["project_id"]


def test_the_next_loads_bring_every_table_to_todays_columns_and_mark_no_row_as_removed(
    project: Project, service: Sandbox
):
    tick(project)
    assert project.materialize(*REFERENCE).success
    assert project.materialize(*METRICS).success

    tables = {name: table_columns(get_resource(name)) for name in NAMES} | LOADER_TABLES
    for name, columns in tables.items():
        assert {column.name for column in columns} <= stored_columns(project, name), name
    for name in REFERENCE:
        assert project.rows(name, "load_id IS NULL OR removed_at IS NOT NULL") == [(False,)] * len(truth(service, name))
    results = checked(project)
    assert {key for key, result in results.items() if result.level != "PASS"} == {("deploys", "rejected_rows")}


@pytest.mark.usefixtures("service")
def test_rows_without_a_project_get_the_only_one_that_others_name(project: Project):
    assert project.sql("SELECT count(*) FROM analytics.occurrences WHERE project_id IS NULL")[0][0] > 0
    tick(project)

    assert project.sql("SELECT DISTINCT project_id FROM analytics.occurrences") == [(1001,)]
    assert set(project.rows("load_windows", "project_name")) == {("default",)}


def test_the_key_of_an_earlier_version_becomes_one_of_several_projects(project: Project, service: Sandbox):
    before = set(project.rows("occurrences", "timestamp", "id", "read_at"))
    project.monkeypatch.delenv("SOURCES__ANALYTICS__API_KEY")
    project.set(projects__web__api_key=PROJECT_KEY)
    service.requests.clear()

    metadata = tick(project)

    assert metadata["occurrences"]["window_start"] == LOADED_AT.timestamp(), "the end of the earlier version's coverage"
    oldest_read_again = LOADED_AT - get_resource("occurrences").lookback
    read_again = before - set(project.rows("occurrences", "timestamp", "id", "read_at"))
    assert all(timestamp >= oldest_read_again for timestamp, *_ in read_again)
    assert set(keys(project, "occurrences")) == truth(service, "occurrences")
