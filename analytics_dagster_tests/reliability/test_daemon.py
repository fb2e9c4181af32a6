"""The daemon in a process of its own loads by its schedule, and refreshes the metrics once for a new deploy."""

import os
import signal
import time
from pathlib import Path

import duckdb
import pytest

from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY
from analytics_dagster_tests.support.dagster_dev import a_clone, running_dev, within
from analytics_dagster_tests.support.service import a_service

ENDED_BADLY = {"FAILURE", "CANCELED"}


def every_minute(**settings: str) -> dict[str, str]:
    """Return the environment of a project with keys and a tick every minute."""
    settings |= {"API_KEY": PROJECT_KEY, "ACCOUNT_API_KEY": ACCOUNT_KEY, "INCREMENTAL_CRON": "* * * * *"}
    return {f"SOURCES__ANALYTICS__{name}": value for name, value in settings.items()}


@pytest.mark.slow
def test_a_deploy_at_the_service_loads_by_itself_and_refreshes_the_metrics_once(tmp_path: Path):
    variables = every_minute(HORIZON="1")
    with a_service(history_days=1) as service:
        for row in service.rows("deploys"):
            service.remove("deploys", row["id"])
        variables["SOURCES__ANALYTICS__BASE_URL"] = service.url
        with running_dev(a_clone(tmp_path), **variables) as dev:

            def loads_asked_for_since(moment: float) -> int:
                runs = dev.runs("incremental_sync")
                assert not [run for run in runs if run["status"] in ENDED_BADLY]
                return len([run for run in runs if run["status"] == "SUCCESS" and run["creationTime"] >= moment])

            def refreshes() -> list[str]:
                return [run["status"] for run in dev.runs("metrics_refresh")]

            within(150, "the first load", lambda: loads_asked_for_since(0) > 0)
            assert refreshes() == []

            deploy = service.add_deploy(revision="abc123")
            within(180, "a load and a refresh", lambda: "SUCCESS" in refreshes())
            (refresh,) = dev.runs("metrics_refresh")
            named = {name: value for name, value in refresh["tags"].items() if name.startswith("deploys/")}
            assert named == {
                "deploys/new": "1",
                "deploys/settled": "0",
                "deploys/id": str(deploy["id"]),
                "deploys/revision": "abc123",
                "deploys/environment": "production",
            }

            refreshed = time.time()
            within(150, "a load without a deploy", lambda: loads_asked_for_since(refreshed) > 0)
            loaded = time.time()
            within(90, "a look at it", lambda: dev.sensor_ticks("new_deploys_sensor")[0]["timestamp"] > loaded)
            last = dev.sensor_ticks("new_deploys_sensor")[0]
            assert last["status"] == "SKIPPED"
            assert last["skipReason"] == (
                f"No new or newly settled deploys since the last run (1 rows, newest {deploy['id']})."
            )
            assert refreshes() == ["SUCCESS"]


def writer_of(folder: Path) -> int | None:
    """Return the id of the process that runs in a folder and has its warehouse open, None if there is none."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink() == folder and any(
                "warehouse.duckdb" in str(file.readlink()) for file in (process / "fd").iterdir()
            ):
                return int(process.name)
        except OSError:
            continue  # the process has ended, or belongs to another user
    return None


@pytest.mark.slow
def test_a_run_that_was_killed_in_the_middle_is_made_good_by_a_later_tick(tmp_path: Path):
    variables = every_minute(READ_AHEAD="2", PAGING__OCCURRENCES="page")
    killed: list[int] = []
    with a_service() as service:

        def kill(resource: str, page: int | None) -> None:
            if resource == "occurrences" and page and page >= 10 and not killed and (pid := writer_of(tmp_path)):
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

        service.before_reply = kill
        variables["SOURCES__ANALYTICS__BASE_URL"] = service.url
        with running_dev(a_clone(tmp_path), **variables) as dev:

            def statuses() -> list[str]:
                return [run["status"] for run in dev.runs("incremental_sync")]

            within(150, "the killed run is noticed", lambda: "FAILURE" in statuses())
            within(150, "a later tick loads", lambda: "SUCCESS" in statuses())
        assert len(killed) == 1
        with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as connection:
            loaded = [row_id for (row_id,) in connection.execute("SELECT id FROM analytics.occurrences").fetchall()]
        assert sorted(loaded) == sorted(row["id"] for row in service.rows("occurrences"))
