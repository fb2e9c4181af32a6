"""The check `row_count`: rows that are gone are a warning, unless the reason is known; then the sentence names it."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import time_machine

from analytics_dagster.catalog import get_resource
from analytics_dagster.defs.asset_checks.row_count import RowCount, evaluate_row_count
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Checked, Project, checked, load
from analytics_dagster_tests.support.service import a_service

NOW = datetime(2026, 3, 10, 20, 7, tzinfo=UTC)
DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0, minute=0)


def count(rows: int, **known: Any) -> RowCount:
    return RowCount(**({"rows": rows, "lasting_rows": rows} | known))


EVALUATIONS = [
    ("teams", count(10), None, {}, "PASS", "10 rows, counted for the first time."),
    ("teams", count(10), count(10), {}, "PASS", "10 rows, 0 more than at the last check."),
    ("teams", count(10), count(4), {}, "PASS", "10 rows, 6 more than at the last check."),
    ("teams", count(9), count(10), {}, "WARN", "9 rows, 1 fewer than the 10 of the last check. No load deleted them:"),
    (
        "teams",
        count(10),
        count(10),
        {"empty_lists": {"default": [NOW, NOW + timedelta(hours=1)]}},
        "WARN",
        "10 rows, 0 more than at the last check. But the service has listed none since 2026-03-10 20:07 UTC, in 2 ",
    ),
    (
        "teams",
        count(0),
        count(0),
        {"empty_lists": {"default": [NOW]}},
        "PASS",
        "0 rows, 0 more than at the last check.",
    ),
    (
        "top_active_items",
        count(19),
        count(20, lasting_rows=10),
        {},
        "PASS",
        "19 rows, 1 fewer than the 20 of the last check: a load replaced those of the same snapshot_at, project_id.",
    ),
    ("top_active_items", count(9), count(20, lasting_rows=10), {}, "WARN", "9 rows, 11 fewer than the 20 of the last"),
    (
        "deploys",
        count(8, keep_from=MIDNIGHT),
        count(10, lasting_rows=8, keep_from=MIDNIGHT - DAY),
        {},
        "PASS",
        "8 rows, 2 fewer than the 10 of the last check: rows before 2026-03-10 are not kept (keep_days).",
    ),
    (
        "deploys",
        count(7, keep_from=MIDNIGHT),
        count(10, lasting_rows=8, keep_from=MIDNIGHT - DAY),
        {},
        "WARN",
        "7 rows, 3 fewer than the 10 of the last check. No load deleted them",
    ),
    (
        "deploys",
        count(3, keep_from=MIDNIGHT),
        count(10, lasting_rows=8, keep_from=MIDNIGHT - 2 * DAY),
        {},
        "PASS",
        "3 rows, 7 fewer than the 10 of the last check: rows before 2026-03-10 are not kept (keep_days).",
    ),
    (
        "deploys",
        count(8),
        count(10, lasting_rows=8, keep_from=MIDNIGHT),
        {},
        "PASS",
        "8 rows, 2 fewer than the 10 of the last check: rows before 2026-03-10 are not kept (keep_days).",
    ),
    (
        "teams",
        count(3, owners=frozenset({2})),
        count(10, owners=frozenset({1})),
        {},
        "PASS",
        "3 rows, 7 fewer than the 10 of the last check: those of account 1 are gone; the rows are of account 2 now.",
    ),
    (
        "teams",
        count(0),
        count(9, owners=frozenset({1})),
        {},
        "WARN",
        "0 rows, 9 fewer than the 9 of the last check. No",
    ),
    (
        "deploys",
        count(9, owners=frozenset({1, 2})),
        count(10, owners=frozenset({1})),
        {},
        "WARN",
        "9 rows, 1 fewer than the 10 of the last check. No load",
    ),
    (
        "users",
        count(3, first_load="1773173220.5", latest_load="1773173220.5"),
        count(10, first_load="1773086820.0", latest_load="1773086820.0"),
        {"older_copy": True},
        "PASS",
        "3 rows, 7 fewer than the 10 of the last check: this is another warehouse, whose first load was at 2026-03-10",
    ),
    (
        "users",
        count(3, first_load="1", latest_load="2"),
        count(10, first_load="1", latest_load="1773086820.0"),
        {"older_copy": True},
        "PASS",
        "3 rows, 7 fewer than the 10 of the last check: the warehouse is another copy, without the load of 2026-03-09",
    ),
]


@pytest.mark.parametrize(
    ("name", "now", "previous", "known", "level", "description"),
    EVALUATIONS,
    ids=[description[:70] for *_, description in EVALUATIONS],
)
def test_fewer_rows_are_a_warning_unless_the_reason_is_known(
    name: str, now: RowCount, previous: RowCount | None, known: dict[str, Any], level: str, description: str
):
    result = evaluate_row_count(get_resource(name), now, previous, **known)
    assert result.passed is (level == "PASS")
    assert (result.description or "").startswith(description), result.description


def test_a_count_is_read_from_its_metadata():
    full = count(9, lasting_rows=8, keep_from=MIDNIGHT, owners=frozenset({1, 2}), first_load="1", latest_load="2")
    for counted in (full, count(9)):
        result = dg.AssetCheckResult(passed=True, metadata=counted.metadata)
        assert RowCount.from_metadata({name: value.value for name, value in result.metadata.items()}) == counted


def test_a_count_of_an_earlier_version_has_rows_alone():
    assert RowCount.from_metadata({"rows": 9}) == count(9)


# -- real tables ----------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def loaded(clock: time_machine.Traveller, project: Project, service: Sandbox) -> Project:
    """A project with deploys, a minute after the load. The clock stands still."""
    project.use(service)
    load("deploys")
    clock.shift(60)
    return project


def row_count(project: Project, name: str = "deploys") -> Checked:
    selection = dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey(["analytics", name]), "row_count"))
    return checked(project, selection)[name, "row_count"]


def change(project: Project, statement: str) -> None:
    project.execute(statement)


@pytest.mark.every_warehouse
def test_rows_of_a_new_warehouse_in_the_same_place_are_counted_anew(loaded: Project, service: Sandbox):
    assert row_count(loaded).level == "PASS"
    loaded.clear()
    service.remove("deploys", service.rows("deploys")[0]["id"])
    load("deploys")

    result = row_count(loaded)
    assert result.level == "PASS"
    assert result.metadata["change"] == -1
    assert "this is another warehouse, whose first load was at" in result.description
    assert row_count(loaded).description.endswith("0 more than at the last check.")


@pytest.mark.parametrize("loads_since", [0, 1])
def test_rows_that_a_restored_copy_lacks_are_named_as_such(
    loads_since: int, loaded: Project, service: Sandbox, clock: time_machine.Traveller
):
    shutil.copy(loaded.warehouse, loaded.folder / "copy")
    service.add_deploy()
    load("deploys")
    assert row_count(loaded).level == "PASS"

    shutil.copy(loaded.folder / "copy", loaded.warehouse)
    clock.shift(60)
    for _ in range(loads_since):
        load("deploys", Window(start=NOW - 9 * DAY, end=NOW - 8 * DAY))

    result = row_count(loaded)
    assert result.level == "PASS"
    assert result.metadata["change"] == -1
    assert "the warehouse is another copy, without the load of" in result.description
    change(loaded, "DELETE FROM analytics.deploys WHERE id = (SELECT min(id) FROM analytics.deploys)")
    assert row_count(loaded).level == "WARN", "from then on the copy is compared"


@pytest.mark.every_warehouse
def test_rows_of_another_projects_key_are_counted_anew_once_the_others_are_deleted(loaded: Project, service: Sandbox):
    assert row_count(loaded).metadata["owners"] == [1001]
    change(loaded, "DELETE FROM analytics.deploys")
    rows = service.rows("deploys")
    for row in rows:
        service.remove("deploys", row["id"])
    service.plant("deploys", rows[0] | {"id": rows[0]["id"] + 1, "project_id": 2002})
    load("deploys")

    result = row_count(loaded)
    assert result.level == "PASS"
    assert result.description.endswith("those of project 1001 are gone; the rows are of project 2002 now.")


@pytest.mark.every_warehouse
def test_rows_of_another_source_are_counted_anew(loaded: Project, service: Sandbox):
    assert row_count(loaded).level == "PASS"
    with a_service() as other:
        loaded.use(other)
        change(loaded, "DELETE FROM analytics.deploys")
        load("deploys")

        result = row_count(loaded)
    assert result.level == "PASS"
    assert result.description.endswith(
        f"rows, counted for the first time here: the last check was of {loaded.qualified('deploys')}, with rows of "
        f"{service.url}."
    )


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.parametrize(("lost", "level"), [(0, "PASS"), (1, "WARN")])
def test_rows_that_the_night_deletes_are_named_and_hide_no_others(
    lost: int, level: str, loaded: Project, service: Sandbox, clock: time_machine.Traveller
):
    service.quirks.sends_date = False  # its clock stands still
    loaded.set(keep_days__deploys=1)
    assert row_count(loaded).level == "PASS"
    clock.move_to(MIDNIGHT + DAY + timedelta(hours=2))
    assert load("deploys", Window(start=MIDNIGHT - 2 * DAY, end=MIDNIGHT + DAY)).rows_pruned > 0
    change(
        loaded,
        f"DELETE FROM analytics.deploys WHERE id IN (SELECT id FROM analytics.deploys ORDER BY id LIMIT {lost})",
    )

    result = row_count(loaded)
    assert result.level == level
    assert result.metadata["change"] < 0
    assert ("rows before 2026-03-10 are not kept (keep_days)" in result.description) == (level == "PASS")


@pytest.mark.every_warehouse
def test_rows_that_a_new_keep_days_deletes_are_named(loaded: Project):
    assert row_count(loaded).level == "PASS"
    loaded.set(keep_days__deploys=1)
    assert load("deploys").rows_pruned > 0

    result = row_count(loaded)
    assert result.level == "PASS"
    assert result.description.endswith("rows before 2026-03-09 are not kept (keep_days).")


@pytest.mark.every_warehouse
def test_a_snapshot_that_a_load_replaces_may_have_fewer_rows(loaded: Project, service: Sandbox):
    load("top_active_items")
    assert row_count(loaded, "top_active_items").metadata["lasting_rows"] == 0
    while len(service.rows("top_active_items")) == 10:
        service.remove("top_active_items", service.rows("top_active_items")[0]["item"]["id"])
    load("top_active_items")

    result = row_count(loaded, "top_active_items")
    assert result.level == "PASS"
    assert result.metadata["change"] == -1
    assert result.description.endswith("a load replaced those of the same snapshot_at, project_id.")
