"""`keep_days`: nights delete older rows with their coverage, nothing loads them again, and no check misses them."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import dagster as dg
import pytest
import time_machine

from analytics_dagster.catalog import get_resource
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.load import open_loader
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, checked, load
from analytics_dagster_tests.support.service import a_service

KEPT = 2
MIDNIGHT = datetime.combine(datetime.now(UTC).date(), time(), UTC)
OLDEST = MIDNIGHT - timedelta(days=KEPT)
DAY = timedelta(days=1)


@pytest.fixture
def loaded(project: Project) -> Any:
    """A project with all four days of its service, which keeps two of them from now on."""
    with a_service(history_days=4) as service:
        project.use(service, page_size__occurrences=500, start_date=(MIDNIGHT - 4 * DAY).date().isoformat())
        load("occurrences")
        project.set(keep_days__occurrences=KEPT)
        yield service


def oldest(project: Project) -> datetime:
    ((moment,),) = project.sql("SELECT min(timestamp) FROM analytics.occurrences")
    return moment


def kept(service: Sandbox) -> int:
    return sum(row["timestamp"] >= OLDEST.timestamp() for row in service.rows("occurrences"))


def rows(project: Project) -> int:
    return len(project.rows("occurrences", "id"))


def night(days: int = 3) -> Any:
    """Load the last days again, as a night does."""
    return load("occurrences", Window(start=MIDNIGHT - days * DAY, end=MIDNIGHT + DAY))


@pytest.mark.every_warehouse
def test_a_night_deletes_the_rows_that_are_too_old_and_their_coverage(project: Project, loaded: Sandbox) -> None:
    before = rows(project)
    report = night()

    assert rows(project) == kept(loaded)
    assert report.rows_pruned == before - kept(loaded)
    assert report.new_rows == 0
    assert project.rows("load_windows", "min(window_start)") == [(OLDEST,)]
    assert night().rows_pruned == 0


@pytest.mark.usefixtures("loaded")
def test_a_tick_deletes_nothing(project: Project) -> None:
    before = rows(project)
    load("occurrences", Window(start=MIDNIGHT - DAY, end=MIDNIGHT + DAY), resume=True)
    assert rows(project) == before


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.parametrize("full", [False, True])
def test_deleted_rows_are_not_loaded_again(full: bool, project: Project, loaded: Sandbox) -> None:  # noqa: FBT001
    night()
    loaded.requests.clear()
    if full:
        load("occurrences")
    else:
        assert load("occurrences", Window(start=MIDNIGHT - 4 * DAY, end=OLDEST)).window is None
        assert loaded.requests == []

    assert rows(project) == kept(loaded)
    assert oldest(project) >= OLDEST


@pytest.mark.every_warehouse
@pytest.mark.usefixtures("loaded")
def test_no_check_misses_the_rows_that_were_deleted(project: Project) -> None:
    selection = dg.AssetSelection.checks_for_assets(dg.AssetKey(["analytics", "occurrences"]))
    checked(project, selection)
    night()

    results = checked(project, selection)
    history = results["occurrences", "complete_history"]
    assert history.level == "PASS"
    assert f"Rows before {OLDEST:%Y-%m-%d} are not kept (keep_days)." in history.description


@pytest.mark.every_warehouse
def test_a_crash_between_coverage_and_rows_leaves_coverage_behind(project: Project, loaded: Sandbox) -> None:
    with open_loader(load_settings()) as loader:
        loader.load_state.coverage.forget_windows_before(get_resource("occurrences"), OLDEST)

    assert oldest(project) < OLDEST
    assert project.rows("load_windows", "min(window_start)") == [(OLDEST,)]
    night()
    assert rows(project) == kept(loaded)


def test_a_loaders_clock_that_is_ahead_deletes_nothing(project: Project, loaded: Sandbox) -> None:
    night()
    with time_machine.travel(datetime.now(UTC) + 3 * DAY):
        report = load("occurrences", Window(start=MIDNIGHT - DAY, end=MIDNIGHT + DAY))

    assert report.rows_pruned == 0
    assert rows(project) == kept(loaded)


def test_a_table_whose_rows_were_all_deleted_by_age_keeps_its_coverage(project: Project, loaded: Sandbox) -> None:
    for row in loaded.rows("occurrences"):
        if row["timestamp"] >= OLDEST.timestamp():
            loaded.remove("occurrences", row["id"])
    project.execute(f"DELETE FROM analytics.occurrences WHERE timestamp >= '{OLDEST}'")

    night()

    assert rows(project) == 0
    selection = dg.AssetSelection.checks_for_assets(dg.AssetKey(["analytics", "occurrences"]))
    assert "windows_void" not in checked(project, selection)["occurrences", "complete_history"].metadata


def test_a_window_before_the_first_load_that_is_too_old_loads_nothing(project: Project, service: Sandbox) -> None:
    project.use(service, keep_days__deploys=KEPT)
    report = load("deploys", Window(start=MIDNIGHT - 5 * DAY, end=MIDNIGHT - 4 * DAY))
    assert (report.rows_in_table, report.requests) == (0, 0)


@pytest.mark.parametrize("name", ["items", "teams", "unknown"])
def test_only_rows_that_keep_their_time_can_be_deleted_by_age(name: str, project: Project) -> None:
    project.set(**{f"keep_days__{name}": 3})
    with pytest.raises(SettingsError, match=r"deploys or occurrences|must name a resource"):
        load_settings()
