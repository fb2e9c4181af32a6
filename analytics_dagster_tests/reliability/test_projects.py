"""Several projects in one warehouse: each key reads its own, and no project's failure or listing speaks for another."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import time_machine
from dlt.pipeline.exceptions import PipelineStepFailed

from analytics_dagster.catalog import RESOURCES, get_resource
from analytics_dagster.ingest.errors import AnalyticsApiError, SettingsError
from analytics_dagster.ingest.load import open_loader
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import ACCOUNT_KEY, Sandbox, SandboxProject
from analytics_dagster_tests.support.project import (
    Project,
    checked,
    daily_partition,
    failure,
    load,
    materializations,
)
from analytics_dagster_tests.support.service import a_service, truth

pytestmark = pytest.mark.every_warehouse

WEB = SandboxProject(name="web", id=1001, activity=2)
EMPTY = SandboxProject(name="empty", id=1002, activity=0)
REFUSED = SandboxProject(name="refused", id=2002, activity=0.2)
SLOW = SandboxProject(name="slow", id=2003, activity=0.1, delay=0.05)
RENAMED = SandboxProject(name="renamed", id=9999, activity=0.3, environments=("live", "preprod", "demo"))
FIVE = (WEB, EMPTY, REFUSED, SLOW, RENAMED)

INCREMENTAL = tuple(resource.name for resource in RESOURCES if resource.incremental)
OF_PROJECTS = tuple(resource.name for resource in RESOURCES if resource.names_project)
REFERENCE = ("environments", "projects", "teams", "users")
METRICS = ("items_metrics", "top_active_items")
TODAY = daily_partition


def use(project: Project, service: Sandbox, *projects: SandboxProject, **settings: Any) -> None:
    """Point the project folder at projects of a service."""
    names = {f"projects__{each.name}__api_key": each.key for each in projects}
    project.set(base_url=service.url, account_api_key=ACCOUNT_KEY, **names, **settings)


def stored(project: Project, name: str, each: SandboxProject) -> list[Any]:
    """Return the keys of a project's rows in a table, sorted."""
    key = "item_counter" if name == "items_metrics" else "id"
    return sorted(project.sql(f"SELECT {key} FROM analytics.{name} WHERE project_id = {each.id}"))


def differing(project: Project, service: Sandbox, projects: Sequence[SandboxProject] = FIVE) -> list[tuple[str, str]]:
    """Return the projects and tables whose keys are not those of the service's rows."""
    return [
        (each.name, name)
        for each in projects
        for name in OF_PROJECTS
        if {key for (key,) in stored(project, name, each)} != truth(service.project(each.name), name)
    ]


def span() -> tuple[str, str]:
    """Return the partitions of the service's whole history."""
    return daily_partition(2), daily_partition()


@pytest.fixture
def five() -> Iterator[Sandbox]:
    with a_service(projects=FIVE) as service:
        yield service


@pytest.fixture
def two() -> Iterator[Sandbox]:
    with a_service(projects=(WEB, RENAMED)) as service:
        yield service


# -- five projects, one of them refused -------------------------------------------------------------------------


def test_each_table_has_the_rows_of_every_project_and_a_refused_key_holds_back_none(
    project: Project, five: Sandbox
) -> None:
    use(project, five, *FIVE)
    five.refuse("refused")
    others = tuple(each for each in FIVE if each is not REFUSED)

    runs = [
        project.materialize(*INCREMENTAL, span=span()),
        project.materialize(*REFERENCE),
        project.materialize(*METRICS),
    ]
    assert differing(project, five, others) == []
    assert not any(run.success for run in runs)
    assert "4 of 4 did not load" in failure(runs[0])
    assert "occurrences of refused: HTTP 403" in failure(runs[0])
    assert "projects.refused.api_key" in failure(runs[0])
    assert "web" not in failure(runs[0])
    assert REFUSED.key not in failure(runs[0])
    assert stored(project, "occurrences", REFUSED) == []
    covered = set(project.sql("SELECT DISTINCT resource, project_name FROM analytics.load_windows"))
    assert covered == {(name, each.name) for name in INCREMENTAL for each in others}

    five.admit("refused")
    runs = [project.materialize(*INCREMENTAL, span=span(), resume=True), project.materialize(*REFERENCE, *METRICS)]
    assert all(run.success for run in runs)
    assert differing(project, five) == []

    for each in (WEB, RENAMED):
        five.project(each.name).add_occurrences(3, at=five.now - 86_400)
    nights = [
        project.materialize("occurrences", "deploys", span=(daily_partition(2), daily_partition(1))),
        project.materialize("items", "rql_jobs", full_refresh=True),
        project.materialize(*METRICS),
    ]
    assert all(run.success for run in nights)
    assert differing(project, five) == []
    assert project.sql("SELECT count(*) FROM analytics.rejected_rows") == [(0,)]


def test_every_row_names_its_project(project: Project, five: Sandbox) -> None:
    use(project, five, *FIVE)
    assert any(row["project_id"] is None for row in five.rows("occurrences")), "the service leaves some out"
    project.materialize(*INCREMENTAL, span=span())
    project.materialize(*METRICS)

    for name in OF_PROJECTS:
        if name != "environments":
            assert project.sql(f"SELECT count(*) FROM analytics.{name} WHERE project_id IS NULL") == [(0,)], name


def test_a_run_tells_the_rows_requests_and_seconds_of_each_project(project: Project, five: Sandbox) -> None:
    use(project, five, *FIVE)
    result = project.materialize("deploys", span=span())

    (records,) = [
        [record.data for record in event.materialization.metadata["projects"].value.records]
        for event in result.get_asset_materialization_events()
        if event.asset_key.path[-1] == "deploys"
    ][:1]
    found = {record["project"]: record for record in records}
    assert set(found) == {each.name for each in FIVE}
    assert {name: record["rows"] for name, record in found.items()} == {
        each.name: len(five.project(each.name).rows("deploys")) for each in FIVE
    }
    assert found["web"]["project_id"] == WEB.id
    assert found["empty"]["project_id"] is None
    assert found["slow"]["seconds"] >= SLOW.delay
    assert all(record["requests"] > 0 for record in records)


def test_partitions_count_as_loaded_once_every_project_is(project: Project, two: Sandbox) -> None:
    use(project, two, WEB, RENAMED)
    key = dg.AssetKey(["analytics", "deploys"])
    two.refuse("renamed")
    first = project.materialize("deploys", partition=daily_partition())
    assert not first.success
    assert project.instance.get_materialized_partitions(key) == set()
    event = project.instance.get_latest_materialization_event(key)
    assert event, "sensors see the rows of the others"
    assert event.asset_materialization
    assert event.asset_materialization.metadata["newest_key"].value == max(
        k for (k,) in stored(project, "deploys", WEB)
    )

    two.admit("renamed")
    assert project.materialize("deploys", partition=daily_partition()).success
    assert project.instance.get_materialized_partitions(key) == {daily_partition()}


def test_run_config_chooses_projects(project: Project, two: Sandbox) -> None:
    use(project, two, WEB, RENAMED)
    two.requests.clear()
    assert project.materialize("deploys", span=span(), projects=["renamed"]).success
    assert {request.project for request in two.requests} == {"renamed"}

    wrong = project.materialize("deploys", span=span(), projects=["rename"])
    assert "There is no project 'rename' in the settings. Did you mean renamed?" in failure(wrong)


# -- coverage and history ---------------------------------------------------------------------------------------


def test_a_single_key_that_becomes_the_first_of_several_loads_nothing_again(project: Project, two: Sandbox) -> None:
    project.set(base_url=two.url, account_api_key=ACCOUNT_KEY, api_key=WEB.key)
    project.materialize(*INCREMENTAL, span=span())
    before = set(project.rows("occurrences", "timestamp", "id", "read_at"))
    project.monkeypatch.delenv("SOURCES__ANALYTICS__API_KEY")
    use(project, two, WEB, RENAMED)
    two.requests.clear()

    result = project.materialize(*INCREMENTAL, span=span(), resume=True)
    assert result.success
    read_again = before - set(project.rows("occurrences", "timestamp", "id", "read_at"))
    lookback = datetime.fromtimestamp(two.now, UTC) - get_resource("occurrences").lookback
    assert all(timestamp >= lookback for timestamp, *_ in read_again), "nothing but the lookback was read again"
    for name in INCREMENTAL:
        for each in (WEB, RENAMED):
            assert {key for (key,) in stored(project, name, each)} == truth(two.project(each.name), name)


def test_the_plain_key_stands_beside_projects_as_the_project_default(project: Project, two: Sandbox) -> None:
    project.set(base_url=two.url, account_api_key=ACCOUNT_KEY, api_key=WEB.key)
    load("deploys")
    use(project, two, RENAMED)
    report = load("deploys")

    assert [each.project.name for each in report.projects] == ["default", "renamed"]
    names = sorted(project.sql("SELECT DISTINCT project_name, project_id FROM analytics.load_windows"))
    assert names == [("default", WEB.id), ("renamed", RENAMED.id)]


def test_a_project_that_is_added_is_named_with_its_backfill(project: Project, two: Sandbox) -> None:
    use(project, two, WEB, start_date=daily_partition(2))
    project.materialize("deploys", span=span())
    use(project, two, RENAMED)
    project.materialize("deploys", partition=daily_partition(), resume=True)

    check = checked(project, dg.AssetSelection.checks_for_assets(dg.AssetKey(["analytics", "deploys"])))
    history = check["deploys", "complete_history"]
    assert history.level == "WARN"
    assert history.description.startswith("renamed: ")
    assert '"projects": ["renamed"]' in history.description
    assert history.description.endswith("web: passed.")
    assert history.metadata["project"] == "renamed"

    assert project.materialize("deploys", span=span(), projects=["renamed"]).success
    check = checked(project, dg.AssetSelection.checks_for_assets(dg.AssetKey(["analytics", "deploys"])))
    assert check["deploys", "complete_history"].level == "PASS"


def test_a_project_that_is_removed_keeps_its_rows_and_is_expected_no_longer(project: Project, two: Sandbox) -> None:
    use(project, two, WEB, RENAMED, start_date=daily_partition(2))
    project.materialize("deploys", span=span())
    rows = stored(project, "deploys", RENAMED)
    project.monkeypatch.delenv("SOURCES__ANALYTICS__PROJECTS__RENAMED__API_KEY")

    result = project.materialize("deploys", partition=daily_partition(), resume=True)
    assert result.success
    assert stored(project, "deploys", RENAMED) == rows
    check = checked(project, dg.AssetSelection.checks_for_assets(dg.AssetKey(["analytics", "deploys"])))
    assert {name: result.level for name, result in check.items() if result.level != "PASS"} == {}


def test_a_day_of_one_projects_outage_makes_only_its_own_freshness_fail_and_heals(project: Project) -> None:
    noon = (datetime.now(UTC) - timedelta(days=2)).replace(hour=12, minute=0, second=0, microsecond=0)
    days = [f"{noon + timedelta(days=number):%Y-%m-%d}" for number in (-1, 0, 1)]
    names = ("deploys", "occurrences")
    with (
        time_machine.travel(noon, tick=False) as clock,
        Sandbox(projects=(WEB, RENAMED), history_days=2, rate_limit=1_000_000) as service,
    ):
        use(project, service, WEB, RENAMED, start_date=days[0])
        assert project.materialize(*names, span=(days[0], days[1])).success
        service.fail_next("status", project="renamed", times=10_000, status=401)
        clock.shift(timedelta(days=1))
        assert not project.materialize(*names, span=(days[1], days[2]), resume=True).success

        check = checked(project)["occurrences", "freshness"]
        assert check.level == "ERROR"
        assert check.description.startswith("renamed: Loaded through ")
        assert check.description.endswith(" web: passed.")

        service.clear_faults()
        clock.shift(timedelta(minutes=15))
        assert project.materialize(*names, span=(days[1], days[2]), resume=True).success
        assert checked(project)["occurrences", "freshness"].level == "PASS"
        for name in names:
            for each in (WEB, RENAMED):
                # The service has forgotten its oldest day.
                assert truth(service.project(each.name), name) <= {key for (key,) in stored(project, name, each)}


def test_dagsters_history_goes_on_while_one_of_its_projects_stays(project: Project, five: Sandbox) -> None:
    key = dg.AssetKey(["analytics", "deploys"])
    for projects in ((WEB,), (WEB, RENAMED), (RENAMED,)):
        for each in FIVE:
            project.monkeypatch.delenv(f"SOURCES__ANALYTICS__PROJECTS__{each.name.upper()}__API_KEY", raising=False)
        use(project, five, *projects)
        assert project.materialize("deploys", partition=daily_partition(2)).success
        assert project.materialize("deploys", partition=daily_partition(1)).success
        assert project.instance.get_materialized_partitions(key) == {daily_partition(2), daily_partition(1)}

    project.monkeypatch.delenv("SOURCES__ANALYTICS__PROJECTS__RENAMED__API_KEY")
    use(project, five, SLOW)
    assert project.materialize("deploys", partition=daily_partition(1)).success
    assert project.instance.get_materialized_partitions(key) == {daily_partition(1)}


@pytest.mark.parametrize("projects_at_a_time", [1, 3])
def test_dlts_own_reader_reads_several_projects_too(
    project: Project, five: Sandbox, *, projects_at_a_time: int
) -> None:
    use(project, five, *FIVE, reader="rest_api", projects_at_a_time=projects_at_a_time)
    load("deploys")
    load("environments")
    for name in ("deploys", "environments"):
        for each in FIVE:
            assert {key for (key,) in stored(project, name, each)} == truth(five.project(each.name), name)


# -- listings and ids -------------------------------------------------------------------------------------------


def test_a_row_deleted_from_one_projects_open_day_is_missed_of_it_alone(project: Project) -> None:
    noon = (datetime.now(UTC) - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    midnight = noon - timedelta(hours=12)
    day = Window(start=midnight, end=midnight + timedelta(days=1))
    with (
        time_machine.travel(noon, tick=False) as clock,
        Sandbox(projects=(WEB, RENAMED), history_days=1, rate_limit=1_000_000) as service,
    ):
        use(project, service, WEB, RENAMED)
        load("occurrences", day)
        of_renamed = f"FROM analytics.occurrences WHERE project_id = {RENAMED.id} AND timestamp >= '{midnight}'"
        project.execute(f"DELETE FROM analytics.occurrences WHERE id IN (SELECT min(id) {of_renamed})")
        clock.shift(timedelta(hours=2))
        load("occurrences", day, resume=True)

    recorded = project.sql(
        "SELECT project_id, row_count FROM analytics.daily_rows "
        f"WHERE resource = 'occurrences' AND day = '{midnight:%Y-%m-%d}'"
    )
    stored = dict(
        project.sql(
            f"SELECT project_id, count(*) FROM analytics.occurrences WHERE timestamp >= '{midnight}' GROUP BY 1"
        )
    )
    assert dict(recorded) == {WEB.id: stored[WEB.id], RENAMED.id: stored[RENAMED.id] + 1}


def test_a_complete_listing_of_one_project_removes_rows_of_it_alone(project: Project, two: Sandbox) -> None:
    use(project, two, WEB, RENAMED)
    load("environments")
    gone = two.project("renamed").rows("environments")[0]["id"]
    two.project("renamed").remove("environments", gone)
    two.fail_next("status", resource="environments", project="web", times=100, status=403)

    with pytest.raises(AnalyticsApiError, match="environments of web: HTTP 403"):
        load("environments")
    assert project.sql("SELECT id FROM analytics.environments WHERE removed_at IS NOT NULL") == [(gone,)]


def test_a_listing_that_fails_half_way_leaves_the_projects_rows_as_they_were(project: Project, two: Sandbox) -> None:
    use(project, two, WEB, RENAMED)
    load("environments")
    listed = f"SELECT id, visible, removed_at, load_id, read_at FROM analytics.environments WHERE project_id = {WEB.id}"
    before = sorted(project.sql(listed))
    two.fail_next("status", resource="environments", project="web", times=100, after=1, status=403)

    with pytest.raises(AnalyticsApiError, match="environments of web"):
        load("environments")
    assert sorted(project.sql(listed)) == before


@pytest.mark.parametrize("together", [False, True])
def test_an_id_that_arrives_under_another_project_is_rejected(
    project: Project, two: Sandbox, *, together: bool
) -> None:
    use(project, two, WEB, RENAMED)
    row = two.project("web").rows("deploys")[0]
    if not together:
        load("deploys")
    two.project("renamed").plant("deploys", {**row, "project_id": RENAMED.id, "revision": "other"})
    load("deploys")

    found = project.sql(f"SELECT project_id, revision FROM analytics.deploys WHERE id = {row['id']}")
    rejected = project.sql("SELECT resource, project_id, reason FROM analytics.rejected_rows")
    if together:  # which of the two came first is not known
        assert len(found) == len(rejected) == 1
        assert {found[0][0], rejected[0][1]} == {WEB.id, RENAMED.id}
    else:
        assert found == [(WEB.id, row["revision"])]
        assert rejected == [("deploys", RENAMED.id, f"id {row['id']} belongs to project {WEB.id}")]


def test_metrics_are_requested_for_the_counters_of_the_project(project: Project, two: Sandbox) -> None:
    use(project, two, WEB, RENAMED)
    load("items")
    two.requests.clear()
    load("items_metrics")

    asked = {request.project: set(request.body["item_counters"]) for request in two.requests}
    assert asked == {
        each.name: {row["counter"] for row in two.project(each.name).rows("items")} for each in (WEB, RENAMED)
    }


def test_two_projects_with_one_key_are_refused_by_the_settings(project: Project, two: Sandbox) -> None:
    use(project, two, WEB, RENAMED)
    project.set(projects__twin__api_key=WEB.key)
    with pytest.raises(SettingsError, match="must have a key of its own for each project: twin and web have the same"):
        load_settings()


def test_two_keys_of_one_project_fail_the_second_with_a_sentence(project: Project, two: Sandbox) -> None:
    use(project, two, WEB, RENAMED)
    with open_loader(load_settings()) as loader:
        loader.owners["renamed"].named = WEB.id  # as a resource that was loaded before has told
        load = loader.begin(get_resource("deploys"), projects=["web"])
        with pytest.raises(
            PipelineStepFailed,
            match=f"The keys of renamed and web belong to the same project, {WEB.id}. Remove one of them",
        ):
            load.pipeline.run(next(load.sources()))


def test_an_empty_list_of_one_project_is_told_by_its_own_rows(project: Project, five: Sandbox) -> None:
    use(project, five, WEB, EMPTY)
    assert {each.project.name: each.error for each in load("deploys").projects} == {"empty": None, "web": None}
    five.go_empty(60, project="web")

    with pytest.raises(Exception, match="deploys of web: the service lists no rows, but the table has"):
        load("deploys")


def test_no_key_reaches_the_warehouse_or_the_metadata(project: Project, five: Sandbox) -> None:
    use(project, five, *FIVE)
    five.fail_next("err", project="web", times=50, message="bad key", echo_key=True)
    result = project.materialize(*INCREMENTAL, span=span())
    texts = [str(materializations(result)), failure(result), *map(str, project.rows("load_windows"))]
    assert not any(each.key in text for each in FIVE for text in texts)
