"""A restore drill: one of the two records of what is loaded, the warehouse or Dagster's history, is an older copy.

The next tick of each schedule makes every table equal to the service's again, on a real instance, in simulated time.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import time_machine

from analytics_dagster.catalog import RESOURCES, Resource
from analytics_dagster.definitions import build_definitions, definition_settings
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Checked, Project, checked, load

YESTERDAY = datetime(2026, 3, 10, 12, 7, tzinfo=UTC)
TODAY = YESTERDAY + timedelta(days=1)
JOBS = {
    "incremental_schedule": "incremental_sync",
    "reference_schedule": "reference_sync",
    "full_refresh_schedule": "nightly_refresh",
}


@dataclass
class Drill:
    """A project, its service, and the clock of both."""

    project: Project
    service: Sandbox
    clock: time_machine.Traveller

    @property
    def history(self) -> Path:
        """The folder of Dagster's history."""
        return self.project.folder / "dagster"

    def new_history(self) -> None:
        self.history.mkdir()
        (self.history / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

    def keep(self, name: str) -> None:
        """Keep a copy of Dagster's history, and of the warehouse if there is one."""
        shutil.copytree(self.history, self.project.folder / name)
        if self.project.warehouse.exists():
            shutil.copy(self.project.warehouse, self.project.folder / name)

    def restore_warehouse(self, name: str) -> None:
        shutil.copy(self.project.folder / name / self.project.warehouse.name, self.project.warehouse)

    def restore_history(self, name: str) -> None:
        shutil.rmtree(self.history)
        shutil.copytree(self.project.folder / name, self.history)

    def tick(self) -> None:
        """Let a quarter of an hour pass, and load as the schedule does."""
        self.clock.shift(timedelta(minutes=15))
        self.run("incremental_schedule")

    def night(self) -> None:
        """Let the night come, and run its schedules beside the tick that is due."""
        midnight = datetime.now(UTC).replace(hour=0, minute=0) + timedelta(days=1)
        self.clock.move_to(midnight + timedelta(hours=1))
        self.run("reference_schedule")
        self.clock.move_to(midnight + timedelta(hours=2))
        self.run("full_refresh_schedule")
        self.run("incremental_schedule")

    def row_counts(self) -> dict[str, Checked]:
        """Run the checks, and return the results of `row_count` by asset."""
        with dg.DagsterInstance.from_config(str(self.history)) as self.project.instance:
            results = checked(self.project)
        return {name: result for (name, check), result in results.items() if check == "row_count"}

    def load_all(self) -> None:
        for schedule in JOBS:
            self.run(schedule)

    def run(self, schedule: str) -> None:
        """Run what a schedule requests now, as the daemon would."""
        definitions = build_definitions(definition_settings())
        with dg.DagsterInstance.from_config(str(self.history)) as instance:
            with dg.build_schedule_context(instance, datetime.now(UTC)) as context:
                requests = definitions.get_repository_def().get_schedule_def(schedule).evaluate_tick(context)
            assert requests.run_requests
            for request in requests.run_requests:
                definitions.resolve_job_def(JOBS[schedule]).execute_in_process(
                    run_config=request.run_config,
                    tags=dict(request.tags),
                    asset_selection=list(request.asset_selection) if request.asset_selection else None,
                    instance=instance,
                )


@pytest.fixture
def drill(project: Project) -> Iterator[Callable[[str], Drill]]:
    """Returns a function that makes copies of yesterday; since then rows came, changed silently, and went.

    Its argument is the setting `partition`.
    """
    with (
        time_machine.travel(YESTERDAY, tick=False) as clock,
        Sandbox(history_days=2, rate_limit=1_000_000) as service,
    ):
        first_day = (YESTERDAY - timedelta(days=2)).date()
        project.use(service, start_date=first_day, page_size__occurrences=1000)

        def begin(partition: str) -> Drill:
            project.set(partition=partition)
            drilled = Drill(project, service, clock)
            drilled.new_history()
            drilled.keep("empty")
            drilled.load_all()
            drilled.keep("yesterday")
            service.remove("users", service.rows("users")[-1]["id"])
            service.update("teams", service.rows("teams")[0]["id"], name="renamed")
            item = next(row for row in reversed(service.rows("items")) if row["status"] == "active")
            service.update("items", item["id"], status="muted")
            clock.move_to(TODAY)
            service.add_deploy()
            drilled.load_all()
            return drilled

        yield begin


def differences(drill: Drill) -> dict[str, str]:
    """Compare every table with that of a new warehouse, loaded in full now; return what differs, by table.

    Rows that the service does not list any more may be in the table, except where each listing is complete.
    """
    project = drill.project
    fresh = project.folder / "fresh.duckdb"
    with project.monkeypatch.context() as patch:
        patch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", str(fresh))
        for resource in RESOURCES:
            load(resource.name)
    different = {}
    for resource in RESOURCES:
        expected, found = (set(listed_rows(file, resource)) for file in (fresh, project.warehouse))
        assert expected
        lacking, surplus = expected - found, found - expected if resource.complete_listing else set()
        key = ", ".join(resource.primary_key)
        doubles = project.sql(f"SELECT {key} FROM analytics.{resource.name} GROUP BY {key} HAVING count(*) > 1")
        if lacking or surplus or doubles:
            different[resource.name] = f"{len(lacking)} lacking, {len(surplus)} too many, {len(doubles)} twice"
    return different


def listed_rows(file: Path, resource: Resource) -> list[Any]:
    """Return a table's rows that are not marked as removed, without the columns that differ between loads."""
    with duckdb.connect(str(file), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = "COLUMNS(name -> name NOT IN ('read_at', 'read_seq', 'load_id', 'removed_at'))"
        listed = "removed_at IS NULL" if resource.complete_listing else "true"
        return connection.execute(f"SELECT {columns} FROM analytics.{resource.name} WHERE {listed}").fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("partition", ["daily", "hourly"])
def test_yesterdays_warehouse_under_todays_history_is_made_right_by_the_next_tick_and_night(
    partition: str, drill: Callable[[str], Drill]
):
    drilled = drill(partition)
    today = {name: result.metadata["rows"] for name, result in drilled.row_counts().items()}
    drilled.restore_warehouse("yesterday")
    restored = drilled.row_counts()
    fewer = {name for name, result in restored.items() if result.metadata["rows"] < today[name]}
    assert {"occurrences", "deploys", "rql_jobs"} <= fewer
    assert all("the warehouse is another copy" in restored[name].description for name in fewer)
    assert {result.level for result in restored.values()} == {"PASS"}

    drilled.tick()
    drilled.night()

    assert differences(drilled) == {}


@pytest.mark.slow
@pytest.mark.parametrize("history", ["yesterday", "empty"])
def test_todays_warehouse_under_an_older_history_is_read_on_from_its_own_coverage(
    history: str, drill: Callable[[str], Drill]
):
    drilled = drill("daily")
    drilled.restore_history(history)

    drilled.service.requests.clear()
    drilled.tick()
    asked = [request for request in drilled.service.requests if request.resource == "occurrences"]
    assert 0 < len(asked) <= 3, "only what is new"
    drilled.night()

    assert differences(drilled) == {}
