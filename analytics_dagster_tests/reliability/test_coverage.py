"""Coverage speaks of rows that are there, of one project: rows that are gone, and keys of others, void it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any

import dagster as dg
import duckdb
import pytest
import time_machine

from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, checked, load
from analytics_dagster_tests.support.service import OTHER_PROJECT, truth

INCREMENTAL = ("items", "deploys", "rql_jobs", "occurrences")


def days_back(days: int) -> Window:
    """Return the window of the last days, up to the end of today."""
    midnight = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    return Window(start=midnight - timedelta(days=days), end=midnight + timedelta(days=1))


def change(project: Project, *statements: str) -> None:
    """Run statements on the warehouse, as a person does."""
    with duckdb.connect(str(project.warehouse)) as connection:
        for statement in statements:
            connection.execute(statement)


def keys(project: Project, name: str) -> set[Any]:
    return {key for (key,) in project.sql(f"SELECT id FROM analytics.{name}")}


def tick(name: str, days: int = 3) -> Any:
    return load(name, days_back(days), resume=True)


def history(project: Project, name: str = "occurrences") -> Any:
    """Return the result of the check `complete_history`."""
    return checked(project, dg.AssetSelection.checks_for_assets(dg.AssetKey(["analytics", name])))[
        name, "complete_history"
    ]


@pytest.fixture
def loaded(project: Project, service: Sandbox) -> Project:
    """A project with three days of every incremental resource."""
    project.use(service, start_date=(datetime.now(UTC) - timedelta(days=2)).date().isoformat())
    for name in INCREMENTAL:
        load(name, days_back(3))
    return project


# -- rows that are gone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INCREMENTAL)
@pytest.mark.parametrize("how", ["DELETE FROM", "DROP TABLE"])
def test_rows_that_somebody_deleted_are_loaded_by_the_next_tick(
    how: str, name: str, loaded: Project, service: Sandbox
) -> None:
    before = keys(loaded, name)
    assert before
    change(loaded, f"{how} analytics.{name}")

    tick(name)
    assert keys(loaded, name) == before == truth(service, name)
    assert loaded.rows("load_windows", "resource").count((name,)) == 1, "the void window is deleted"


def test_coverage_of_a_deleted_table_counts_in_no_check(loaded: Project) -> None:
    change(loaded, "DELETE FROM analytics.occurrences")

    result = history(loaded)
    assert result.level == "WARN"
    assert "Recorded coverage is ignored, because the table lost the" in result.description


def test_every_table_can_be_dropped_and_is_made_again(project: Project, service: Sandbox) -> None:
    project.use(service)
    names = ("environments", "teams", "users", "deploys")
    for name in names:
        load(name)
        change(project, f"DROP TABLE analytics.{name}")
        load(name)
        assert keys(project, name) == truth(service, name)


@pytest.mark.parametrize("table", ["load_windows", "rejected_rows", "daily_rows"])
def test_the_loaders_own_tables_can_be_dropped(table: str, loaded: Project, service: Sandbox) -> None:
    change(loaded, f"DROP TABLE analytics.{table}")

    tick("deploys")
    assert keys(loaded, "deploys") == truth(service, "deploys")
    assert loaded.rows(table) is not None


def test_fewer_rows_than_were_loaded_are_a_warning_that_names_the_days_and_the_backfill(
    loaded: Project, service: Sandbox
) -> None:
    day = (datetime.now(UTC) - timedelta(days=1)).date()
    ((rows,),) = loaded.sql(f"SELECT count(*) FROM analytics.occurrences WHERE CAST(timestamp AS DATE) = '{day}'")
    assert history(loaded).level == "PASS"
    change(
        loaded,
        f"DELETE FROM analytics.occurrences WHERE id IN (SELECT id FROM analytics.occurrences "
        f"WHERE CAST(timestamp AS DATE) = '{day}' LIMIT 10)",
    )

    tick("occurrences")
    result = history(loaded)
    assert result.level == "WARN"
    assert f"1 day with fewer rows than were loaded: {day} ({rows - 10:,} of {rows:,})" in result.description
    assert f"--partition-range '{day}...{day}'" in result.description

    start = datetime.combine(day, time(), UTC)
    load("occurrences", Window(start=start, end=start + timedelta(days=1)))
    assert history(loaded).level == "PASS"
    assert keys(loaded, "occurrences") == truth(service, "occurrences")


def test_rows_deleted_from_the_open_day_stay_missed_while_new_ones_arrive(loaded: Project, service: Sandbox) -> None:
    day = datetime.now(UTC).date()
    service.add_occurrences(30)
    tick("occurrences")
    change(
        loaded,
        f"DELETE FROM analytics.occurrences WHERE id IN (SELECT id FROM analytics.occurrences "
        f"WHERE CAST(timestamp AS DATE) = '{day}' ORDER BY id LIMIT 1)",
    )
    service.add_occurrences(20)
    tick("occurrences")

    ((recorded,),) = loaded.sql(
        f"SELECT row_count FROM analytics.daily_rows WHERE resource = 'occurrences' AND day = '{day}'"
    )
    ((rows,),) = loaded.sql(f"SELECT count(*) FROM analytics.occurrences WHERE CAST(timestamp AS DATE) = '{day}'")
    assert recorded == rows + 1


def test_rows_that_come_back_within_the_lookback_are_missed_no_more(project: Project) -> None:
    midnight = datetime(2026, 3, 10, tzinfo=UTC)
    day = Window(start=midnight, end=midnight + timedelta(days=1))
    with (
        time_machine.travel(midnight + timedelta(hours=12), tick=False) as clock,
        Sandbox(history_days=1, rate_limit=1_000_000) as service,
    ):
        project.use(service)
        load("occurrences", day)
        recent = datetime.now(UTC) - timedelta(minutes=5)
        change(project, f"DELETE FROM analytics.occurrences WHERE timestamp >= '{recent}'")
        clock.shift(timedelta(minutes=1))
        load("occurrences", day, resume=True)

    ((recorded,),) = project.sql("SELECT max(row_count) FROM analytics.daily_rows WHERE resource = 'occurrences'")
    assert project.sql(f"SELECT count(*) FROM analytics.occurrences WHERE timestamp >= '{midnight}'") == [(recorded,)]


# -- projects ---------------------------------------------------------------------------------------------------


@pytest.fixture
def switch(service: Sandbox) -> Iterator[Callable[[], Sandbox]]:
    """Returns a function that puts the service of another project in the place of the first one, at its address."""
    services: list[Sandbox] = []

    def switch_project() -> Sandbox:
        port = int(service.url.rpartition(":")[2])
        service.stop()
        other = Sandbox(projects=[OTHER_PROJECT], history_days=2, port=port, rate_limit=1_000_000).start()
        services.append(other)
        return other

    yield switch_project
    for other in services:
        other.stop()


def of_project(project: Project, name: str, number: int) -> set[Any]:
    condition = f"project_id = {number}"
    return {key for (key,) in project.sql(f"SELECT id FROM analytics.{name} WHERE {condition}")}


@pytest.mark.parametrize("name", INCREMENTAL)
def test_the_key_of_another_project_does_not_profit_from_coverage(
    name: str, loaded: Project, switch: Callable[[], Sandbox]
) -> None:
    before = set(loaded.rows("load_windows"))
    other = switch()

    report = tick(name)
    wanted = {row["id"] for row in other.rows(name) if row["project_id"] == OTHER_PROJECT.id}
    assert wanted <= of_project(loaded, name, OTHER_PROJECT.id)
    assert report.project == OTHER_PROJECT.id
    assert before < set(loaded.rows("load_windows")), "the coverage of the first project stays"
    tick(name)
    windows = loaded.sql(
        "SELECT window_start, window_end FROM analytics.load_windows "
        f"WHERE resource = '{name}' AND project_id = {OTHER_PROJECT.id} ORDER BY loaded_at"
    )
    assert all(later[0] == earlier[1] for earlier, later in pairwise(windows)), "its own coverage counts"


def test_a_project_that_no_row_named_claims_nothing(loaded: Project, service: Sandbox) -> None:
    change(loaded, "DELETE FROM analytics.rql_jobs")
    for row in service.rows("rql_jobs"):
        service.remove("rql_jobs", row["id"])

    tick("rql_jobs")
    assert ("rql_jobs",) not in loaded.rows("load_windows", "resource")


def test_the_loads_of_an_account_without_rows_count_until_a_row_names_its_project(
    project: Project, service: Sandbox
) -> None:
    project.use(service, start_date=(datetime.now(UTC) - timedelta(days=2)).date().isoformat())
    jobs = service.rows("rql_jobs")
    for row in jobs:
        service.remove("rql_jobs", row["id"])
    tick("rql_jobs")
    assert project.rows("load_windows", "resource", "project_id") == [("rql_jobs", None)]

    assert history(project, "rql_jobs").metadata["days_missing"] == 0

    tick("deploys")
    tick("rql_jobs")
    assert set(project.rows("load_windows", "resource", "project_id")) == {("deploys", 1001), ("rql_jobs", None)}
