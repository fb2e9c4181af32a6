"""Checks of the tables: each passes on good data, fails on bad data, and says so where there is none."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dlt.destinations.exceptions import DatabaseException
from filelock import FileLock

from analytics_dagster.catalog import RESOURCES, Reference, get_resource, table_columns
from analytics_dagster.definitions import build_definitions, defs
from analytics_dagster.defs.asset_checks import evaluations, specs
from analytics_dagster.defs.asset_checks.evaluations import (
    evaluate_not_null,
    evaluate_primary_key,
    evaluate_references,
    evaluate_rejected_rows,
    evaluate_unknown_fields,
)
from analytics_dagster.defs.resources import WarehouseResource
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.warehouse.table_stats import KeySample, Profile, TableStats, UnknownFields
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.conftest import AWarehouse
from analytics_dagster_tests.support.documents import README
from analytics_dagster_tests.support.project import Project, a_project, checked, failure, run_checks
from analytics_dagster_tests.support.service import a_service

NAMES = [resource.name for resource in RESOURCES]
INCREMENTAL = ["items", "occurrences", "deploys", "rql_jobs"]
OF_EVERY_ASSET = {"freshness", "primary_key", "not_null", "unknown_fields", "rejected_rows", "row_count"}
KEYS = {
    *((name, check) for name in NAMES for check in OF_EVERY_ASSET),
    *((name, "complete_history") for name in INCREMENTAL),
    ("occurrences", "item_exists"),
}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def keys(definitions: dg.Definitions) -> set[tuple[str, str]]:
    graph = definitions.resolve_asset_graph()
    return {(key.asset_key.path[-1], key.name) for key in graph.asset_check_keys}


# -- what there is --------------------------------------------------------------------------------------------


def test_every_asset_has_its_checks():
    assert keys(defs) == KEYS | {("deploy_impact", "deploy_regression")}


def test_every_check_has_a_description():
    (checks,) = build_definitions(load_settings()).asset_checks or []
    assert len(list(checks.check_specs)) == len(KEYS)
    assert all((spec.description or "").endswith(".") for spec in checks.check_specs)


def test_the_readme_lists_the_checks_with_their_severity():
    section = README.read_text().partition("\n## Checks\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", section, re.MULTILINE))
    assert set(rows) == {check for _, check in KEYS}
    fixed = {check.name.format(noun="item"): check.severity.value for check in specs.CHECKS if check.severity}
    assert {name: severity for name, severity in rows.items() if name != "freshness"} == fixed


def test_the_checks_open_the_warehouse_in_turn_with_the_loads_and_no_other_job_takes_them_along():
    (checks,) = defs.asset_checks or []
    assert checks.op.pool == "warehouse"
    jobs = {job.name: {node.name for node in job.nodes} for job in defs.resolve_all_job_defs()}
    assert jobs.pop("data_checks") == {checks.op.name}
    del jobs["__ASSET_JOB"]
    assert {name for name, nodes in jobs.items() if checks.op.name in nodes} == set()


def test_disabled_resources_have_no_checks_and_are_referred_to_by_none(project: Project):
    project.set(disabled="items, items_metrics")
    left = keys(build_definitions(load_settings()))
    assert left == {(name, check) for name, check in KEYS if name not in {"items", "items_metrics"}} - {
        ("occurrences", "item_exists")
    }
    project.set(disabled=", ".join(NAMES))
    assert not build_definitions(load_settings()).asset_checks


# -- evaluations ----------------------------------------------------------------------------------------------


def profile(rows: int = 1000, nulls: dict[str, int] | None = None, absent: tuple[str, ...] = ()) -> Profile:
    return Profile(rows=rows, nulls=nulls or {}, absent=absent, newest_read=NOON, newest_row=NOON)


NONE = KeySample(count=0)
ITEM = Reference(column="item_id", resource="items", tolerated=timedelta(hours=1))
EVALUATIONS = [
    (evaluate_primary_key(get_resource("teams"), profile(), NONE), True, "id is unique in 1,000 rows."),
    (
        evaluate_primary_key(get_resource("teams"), profile(), KeySample(count=7, examples=("1", "2"))),
        False,
        "id is not unique: 7 values are duplicated (1, 2, …). Another writer changed the table: delete these of its ",
    ),
    (
        evaluate_primary_key(get_resource("items_metrics"), profile(nulls={"project_id": 1, "first": 9}), NONE),
        False,
        "project_id, item_counter has 1 null.",
    ),
    (evaluate_not_null(profile()), True, "Required columns have no nulls in 1,000 rows."),
    (
        evaluate_not_null(profile(nulls={"title": 2})),
        False,
        "Required columns have nulls: title in 2 rows, of 1,000. Load these again.",
    ),
    (evaluate_not_null(profile(absent=("rank",))), False, "The table lacks rank: an earlier version created it."),
    (
        evaluate_unknown_fields(UnknownFields(rows=0, fields={}), since=NOON),
        True,
        "No unknown fields in rows read since 2026-11-24 12:00 UTC.",
    ),
    (
        evaluate_unknown_fields(UnknownFields(rows=3, fields={"b": 1, "a": 3}), since=NOON),
        False,
        "The service sends 2 fields that the catalog does not know: a (3 rows), b (1 row).",
    ),
    (evaluate_rejected_rows({}, since=NOON), True, "No rows rejected since 2026-11-24 12:00 UTC."),
    (
        evaluate_rejected_rows({f"reason {number}": 1 for number in range(7)}, since=NOON),
        False,
        "7 rows rejected since 2026-11-24 12:00 UTC: reason 0 (1), reason 1 (1), reason 2 (1), reason 3 (1), reason 4",
    ),
    (
        evaluate_references(ITEM, profile(), None, before=NOON),
        True,
        "items is not loaded yet: there is nothing to compare with.",
    ),
    (
        evaluate_references(ITEM, profile(), NONE, before=NOON),
        True,
        "items has every item_id of rows before 2026-11-24 12:00 UTC.",
    ),
    (
        evaluate_references(ITEM, profile(), KeySample(count=1, examples=("7",)), before=NOON),
        False,
        "items lacks 1 item_id of rows before 2026-11-24 12:00 UTC: 7. Load items up to today, or in full.",
    ),
]


@pytest.mark.parametrize(
    ("result", "passed", "description"), EVALUATIONS, ids=[description[:40] for *_, description in EVALUATIONS]
)
def test_a_result_has_a_sentence_with_numbers(result: dg.AssetCheckResult, *, passed: bool, description: str):
    assert result.passed is passed
    assert (result.description or "").startswith(description), result.description


# -- good data ------------------------------------------------------------------------------------------------


@dataclass
class Loaded:
    """A service, and a project with all that it has."""

    service: Sandbox
    project: Project


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, a_warehouse: AWarehouse) -> Iterator[Loaded]:
    with a_service() as service, ExitStack() as opened:
        with a_project(tmp_path_factory.mktemp("loaded")) as project:
            opened.enter_context(a_warehouse(project))
            project.use(service)
            assert project.materialize(*INCREMENTAL).success
            assert project.materialize(*(name for name in NAMES if name not in INCREMENTAL)).success
        yield Loaded(service, project)


@pytest.fixture
def good(project: Project, loaded: Loaded) -> Project:
    """A project with everything loaded, to spoil."""
    project.use(loaded.service)
    project.copy_warehouse(loaded.project)
    return project


def change(project: Project, *statements: str) -> None:
    for statement in statements:
        project.execute(statement)


@pytest.mark.every_warehouse
def test_everything_passes_right_after_a_load_and_says_so_with_numbers(good: Project):
    results = checked(good)
    assert set(results) == KEYS
    assert {key: result.description for key, result in results.items() if result.level != "PASS"} == {}
    for (name, _), result in results.items():
        assert result.description
        assert result.metadata["dagster/table_name"] == good.qualified(name)
        assert result.metadata["source"] == load_settings().base_url
    counted = {name: results[name, "row_count"].metadata["rows"] for name in NAMES}
    assert counted == {name: len(good.rows(name, "read_seq")) for name in NAMES}


def test_checks_leave_the_file_as_it_is(good: Project):
    before = good.warehouse.read_bytes()
    checked(good)
    assert good.warehouse.read_bytes() == before


def test_another_way_into_the_warehouse_gives_the_same_figures(good: Project):
    """Other destinations are read through dlt's own client: here it opens the same file."""
    settings = load_settings()
    with (
        duckdb.connect(str(good.warehouse), read_only=True) as connection,
        TableStats.open(settings, connection) as tables,
    ):
        expected = {resource.name: tables.profile(resource) for resource in RESOURCES}
    with TableStats.open(settings) as tables:
        assert {resource.name: tables.profile(resource) for resource in RESOURCES} == expected
        assert all(tables.repeated_keys(resource) == KeySample(count=0) for resource in RESOURCES)
    assert all(expected.values())


# -- bad data -------------------------------------------------------------------------------------------------


def test_repeated_keys_are_found_in_every_table(good: Project):
    change(good, *(f"INSERT INTO analytics.{name} SELECT * FROM analytics.{name} LIMIT 1" for name in NAMES))
    results = checked(good)
    for resource in RESOURCES:
        result = results[resource.name, "primary_key"]
        assert result.level == "ERROR", resource.name
        assert result.metadata["repeated_keys"] == 1
    assert {key for key, result in results.items() if result.level != "PASS"} == {
        (name, "primary_key") for name in NAMES
    }


@pytest.mark.every_warehouse
def test_nulls_are_found_in_every_column_of_every_table_that_is_to_have_values(good: Project):
    columns = {
        resource.name: [
            column.name for column in table_columns(resource) if not column.stored_nullable and column.name != "read_at"
        ]
        for resource in RESOURCES
    }
    for table, names in columns.items():
        change(good, f"UPDATE analytics.{table} SET {', '.join(f'{name} = NULL' for name in names)}")
    results = checked(good)
    for table, names in columns.items():
        result = results[table, "not_null"]
        assert result.level == "ERROR"
        assert {name for name in result.metadata if name.startswith("nulls_in_")} == {f"nulls_in_{n}" for n in names}
        assert result.metadata["columns_with_nulls"] == len(names)
        assert results[table, "primary_key"].level == "ERROR"
        assert results[table, "primary_key"].metadata["null_keys"] > 0


@pytest.mark.every_warehouse
def test_a_column_that_an_earlier_version_did_not_have_is_named(good: Project):
    change(good, "ALTER TABLE analytics.deploys DROP COLUMN comment")
    result = checked(good)["deploys", "not_null"]
    assert (result.level, result.metadata["columns_absent"]) == ("ERROR", 1)
    assert result.description.startswith("The table lacks comment: an earlier version created it.")


@pytest.mark.every_warehouse
def test_rows_that_went_missing_are_noticed_once(good: Project):
    first = checked(good)["users", "row_count"]
    change(good, "DELETE FROM analytics.users WHERE id = (SELECT min(id) FROM analytics.users)")
    second, third = (checked(good)["users", "row_count"] for _ in range(2))
    assert [result.level for result in (first, second, third)] == ["PASS", "WARN", "PASS"]
    assert second.metadata["change"] == -1
    assert second.metadata["rows_before"] == first.metadata["rows"]


def test_rows_of_another_file_are_not_compared(good: Project):
    checked(good)
    change(good, "DELETE FROM analytics.users")
    good.warehouse.rename(good.folder / "other.duckdb")
    good.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", "other.duckdb")
    assert checked(good)["users", "row_count"].description == (
        "0 rows, counted for the first time here: the last check was of warehouse.analytics.users, with rows of "
        f"{load_settings().base_url}."
    )


def test_a_check_that_was_killed_before_it_counted_is_passed_over(good: Project, monkeypatch: pytest.MonkeyPatch):
    checked(good)
    with monkeypatch.context() as patch:
        patch.setattr(evaluations, "evaluate_primary_key", lambda *_: 1 / 0)
        assert not run_checks(good).success
    assert checked(good)["users", "row_count"].metadata["change"] == 0


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.parametrize(("hours", "level"), [(0.9, "PASS"), (1.1, "WARN")])
def test_occurrences_whose_item_is_missing_are_found_but_for_the_latest_hour(good: Project, hours: float, level: str):
    # Alone at its time: the newest one is a minute younger than those that are pointed nowhere.
    newest = "SELECT max(timestamp) FROM analytics.occurrences"
    change(
        good,
        "UPDATE analytics.occurrences SET item_id = 424242, "
        f"timestamp = ({newest}) - CAST('{round(hours * 60)} minutes' AS INTERVAL) WHERE id IN "
        "(SELECT id FROM analytics.occurrences ORDER BY timestamp LIMIT 3)",
    )
    result = checked(good)["occurrences", "item_exists"]
    assert result.level == level
    if level == "WARN":
        assert result.metadata["items_missing"] == 1
        assert ": 424242. Load items up to today, or in full." in result.description


@pytest.mark.every_warehouse
def test_occurrences_before_the_first_items_are_compared_with_nothing(good: Project):
    change(good, "DROP TABLE analytics.items")
    results = checked(good)
    assert results["occurrences", "item_exists"].description.startswith("items is not loaded yet")
    assert results["items", "primary_key"].description.startswith("Not loaded yet")
    assert results["items", "freshness"].level == "WARN"


@pytest.mark.every_warehouse
def test_fields_that_the_catalog_does_not_know_are_listed(project: Project, service: Sandbox):
    project.use(service)
    first, second = service.rows("deploys")[:2]
    service.update("deploys", first["id"], colour="red", region={"name": "north"})
    service.update("deploys", second["id"], colour="blue")
    assert project.materialize("deploys").success
    result = checked(project)["deploys", "unknown_fields"]
    assert result.level == "WARN"
    assert result.metadata["fields"] == ["colour", "region"]
    assert result.metadata["rows_with_unknown_fields"] == 2
    assert "2 fields that the catalog does not know: colour (2 rows), region (1 row)." in result.description


@pytest.mark.every_warehouse
def test_rejected_rows_are_counted_with_their_reasons_for_a_day(project: Project, service: Sandbox):
    project.use(service)
    row = service.rows("deploys")[0]
    service.plant("deploys", {**row, "id": None})
    service.plant("deploys", {**row, "id": 7, "revision": 8})
    assert project.materialize("deploys").success
    results = checked(project)
    result = results["deploys", "rejected_rows"]
    assert result.level == "WARN"
    assert result.metadata["rows_rejected"] == 2
    assert "id is null or missing (1)" in result.description
    assert "revision is int where text belongs (1)" in result.description
    assert {name for (name, check), each in results.items() if check == "rejected_rows" and each.level != "PASS"} == {
        "deploys"
    }
    change(project, "UPDATE analytics.rejected_rows SET last_seen = last_seen - CAST('25 hours' AS INTERVAL)")
    assert checked(project)["deploys", "rejected_rows"].level == "PASS"


# -- no data --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", ["duckdb", "sqlalchemy"])
def test_before_the_first_load_freshness_warns_and_everything_else_says_so(
    destination: str, project: Project, service: Sandbox
):
    project.use(service)
    project.monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", destination)
    if destination != "duckdb":
        project.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", f"sqlite:///{project.folder}/warehouse.db")
    results = checked(project)
    assert {check for (_, check), result in results.items() if result.level == "WARN"} == {"freshness"}
    others = [result for (_, check), result in results.items() if check != "freshness"]
    assert {result.description for result in others} == {"Not loaded yet: there is nothing to check."}
    assert all(result.metadata == {"loaded": False} for result in others)
    assert not (project.folder / "warehouse.duckdb").exists()


def test_the_sandboxs_tables_are_checked_where_they_are(project: Project):
    assert project.materialize("users").success
    result = checked(project)["users", "freshness"]
    assert (result.level, result.metadata["dagster/table_name"]) == ("PASS", "sandbox.analytics.users")


# -- running --------------------------------------------------------------------------------------------------


@pytest.mark.every_warehouse
def test_checks_can_be_run_one_by_one(good: Project):
    users = dg.AssetKey(["analytics", "users"])
    one = dg.AssetSelection.checks(dg.AssetCheckKey(users, "not_null"))
    assert set(checked(good, one)) == {("users", "not_null")}
    assert set(checked(good, dg.AssetSelection.checks_for_assets(users))) == {
        ("users", name) for name in OF_EVERY_ASSET
    }


@pytest.mark.every_warehouse
def test_a_load_and_its_checks_can_be_one_run(good: Project):
    users = dg.AssetKey(["analytics", "users"])
    results = checked(good, dg.AssetSelection.assets(users) | dg.AssetSelection.checks_for_assets(users))
    assert {key: result.level for key, result in results.items()} == {
        ("users", name): "PASS" for name in OF_EVERY_ASSET
    }


@pytest.mark.every_warehouse
def test_a_check_that_breaks_leaves_the_warehouse_closed(good: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(evaluations, "evaluate_not_null", lambda *_: 1 / 0)
    assert not run_checks(good).success
    good.execute("UPDATE analytics.users SET removed_at = NULL")
    assert good.materialize("users").success


def test_a_wrong_setting_is_named(good: Project):
    good.set(partition="weekly")
    assert failure(run_checks(good)).startswith("The setting sources.analytics.partition must be one of daily, hourly")


def test_a_file_that_cannot_be_told_from_its_schema_is_named(good: Project):
    good.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", "analytics.duckdb")
    assert "Set destination.warehouse.credentials to a file of another name." in failure(run_checks(good))


def test_a_file_that_is_no_warehouse_is_named_at_once(good: Project):
    good.warehouse.write_text("not a database" * 1000)
    text = failure(run_checks(good))
    assert text.startswith(f"The warehouse {good.warehouse} cannot be opened for reading: ")
    assert "\n" not in text


def test_a_load_elsewhere_is_waited_for_and_then_said_to_be_the_reason(good: Project):
    good.set(lock_timeout=0.2)
    with FileLock(good.warehouse.with_suffix(".lock")):
        assert "is still being written by another process after 0 s. Wait for" in failure(run_checks(good))


SESSION = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "to read")
print("open", flush=True)
sys.stdin.read()
"""


@contextmanager
def session(file: Path, purpose: str) -> Iterator["subprocess.Popen[str]"]:
    """A session of someone else that has the file open until its input ends."""
    command = [sys.executable, "-c", SESSION, str(file), purpose]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
        yield process


@pytest.fixture
def holder(good: Project) -> Iterator["subprocess.Popen[str]"]:
    """A session of someone else that holds the file."""
    with session(good.warehouse, "to write") as process:
        yield process


def test_a_file_held_by_someone_else_is_named_with_its_holder(good: Project, holder: "subprocess.Popen[str]"):
    good.set(lock_timeout=0.5)
    text = failure(run_checks(good))
    assert text.startswith(f"The warehouse {good.warehouse} cannot be opened for reading: ")
    assert f"PID {holder.pid}" in text
    assert text.endswith("Close the session that holds it, or open it read-only there.")


def test_a_file_held_by_someone_else_is_waited_for(good: Project, holder: "subprocess.Popen[str]"):
    good.set(lock_timeout=30)
    assert holder.stdin
    let_go = threading.Timer(1, holder.stdin.close)
    began = time.monotonic()
    let_go.start()
    assert checked(good)["users", "primary_key"].level == "PASS"
    let_go.join()
    assert time.monotonic() - began > 1


def test_checks_read_beside_a_reader(good: Project):
    """A session that looks into the file from another process is in nobody's way."""
    with session(good.warehouse, "to read"):
        assert checked(good)["users", "primary_key"].level == "PASS"


def test_the_warehouse_resource_opens_the_file_read_only(good: Project):
    settings = load_settings()
    with WarehouseResource().tables(settings) as tables:
        client = tables._client  # noqa: SLF001 - no reader has a public way to write
        assert client.execute_sql("SELECT current_setting('access_mode'), path FROM duckdb_databases() LIMIT 1") == [
            ("read_only", str(good.warehouse))
        ]
        with pytest.raises(DatabaseException, match="read-only"):
            client.execute_sql("DELETE FROM analytics.users")
