"""Partitions as windows of the cursor: the same rows however they are cut, resumed, repeated or loaded whole."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from analytics_dagster.catalog import RESOURCES
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, a_project, materializations
from analytics_dagster_tests.support.service import a_service, truth

INCREMENTAL = [resource.name for resource in RESOURCES if resource.incremental]
FORMATS = {"daily": "%Y-%m-%d", "hourly": "%Y-%m-%d-%H:%M"}
SPANS = {"daily": timedelta(days=1), "hourly": timedelta(hours=1)}


def partitions(kind: str, count: int) -> list[str]:
    """Keys of the newest partitions, the open one last."""
    now = datetime.now(UTC)
    return [(now - SPANS[kind] * back).strftime(FORMATS[kind].replace("%M", "00")) for back in reversed(range(count))]


@pytest.fixture(scope="module")
def long_service() -> Iterator[Sandbox]:
    with a_service(history_days=11) as sandbox:
        yield sandbox


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["daily", "hourly"])
def test_a_range_of_ten_partitions_runs_as_one_run_and_equals_ten_single_ones(
    kind: str, long_service: Sandbox, tmp_path_factory: pytest.TempPathFactory
):
    keys = partitions(kind, 10)
    settings = {"partition": kind, "page_size__occurrences": 1000}
    with a_project(tmp_path_factory.mktemp("range")) as project:
        project.use(long_service, **settings)
        result = project.materialize(*INCREMENTAL, span=(keys[0], keys[-1]))
        assert result.success
        events = result.get_asset_materialization_events()
        assert {event.partition for event in events} == set(keys)
        in_one_run = {name: project.rows(name) for name in INCREMENTAL}
        assert len(project.rows("load_windows")) == len(INCREMENTAL)
    with a_project(tmp_path_factory.mktemp("single")) as project:
        project.use(long_service, **settings)
        for key in keys:
            assert project.materialize(*INCREMENTAL, partition=key).success
        one_by_one = {name: project.rows(name) for name in INCREMENTAL}
    assert all(len(rows) > 0 for name, rows in in_one_run.items() if kind == "daily" or name == "occurrences")
    assert in_one_run == one_by_one


@pytest.mark.every_warehouse
def test_a_partition_loaded_twice_has_the_same_rows(project: Project, service: Sandbox):
    project.use(service)
    yesterday = partitions("daily", 2)[0]
    assert project.materialize(*INCREMENTAL, partition=yesterday).success
    before = {name: project.rows(name) for name in INCREMENTAL}
    result = project.materialize(*INCREMENTAL, partition=yesterday)
    assert result.success
    assert {name: project.rows(name) for name in INCREMENTAL} == before
    assert all(metadata["new_rows"] == 0 for metadata in materializations(result).values())


def test_a_partition_holds_its_days_rows_and_its_lookback(project: Project, service: Sandbox):
    project.use(service)
    today = partitions("daily", 1)[0]
    assert project.materialize("occurrences", partition=today).success
    midnight = int(datetime.fromisoformat(today).replace(tzinfo=UTC).timestamp())
    expected = {row["id"] for row in service.rows("occurrences") if row["timestamp"] >= midnight - 600}
    assert {row_id for (row_id,) in project.rows("occurrences", "id")} == expected


def test_resuming_reads_only_what_came_since_the_last_load(project: Project, service: Sandbox):
    project.use(service, page_size__occurrences=100)
    today = partitions("daily", 1)[0]
    assert project.materialize("occurrences", "deploys", partition=today).success
    new = service.add_occurrences(5)
    service.requests.clear()
    result = project.materialize("occurrences", "deploys", partition=today, resume=True)
    assert result.success
    assert materializations(result)["occurrences"]["new_rows"] == 5
    assert {row["id"] for row in new} <= {row_id for (row_id,) in project.rows("occurrences", "id")}
    assert len([request for request in service.requests if request.resource == "occurrences"]) <= 2


def test_resuming_a_partition_that_is_covered_asks_for_nothing(project: Project, service: Sandbox):
    project.use(service)
    yesterday = partitions("daily", 2)[0]
    assert project.materialize("deploys", partition=yesterday).success
    service.requests.clear()
    result = project.materialize("deploys", partition=yesterday, resume=True)
    assert result.success
    assert service.requests == []
    metadata = materializations(result)["deploys"]
    assert metadata["new_rows"] == 0
    assert metadata["dagster/row_count"] == len(project.rows("deploys"))


def test_resuming_does_not_skip_a_gap(project: Project, service: Sandbox):
    project.use(service)
    first, _, last = partitions("daily", 3)
    assert project.materialize("occurrences", partition=last).success
    result = project.materialize("occurrences", span=(first, last), resume=True)
    assert result.success
    assert {row_id for (row_id,) in project.rows("occurrences", "id")} == truth(service, "occurrences")


def test_one_resource_that_failed_is_resumed_where_it_stopped_and_the_others_where_they_are(
    project: Project, service: Sandbox
):
    project.use(service, page_size__occurrences=100)
    first, _, last = partitions("daily", 3)
    service.fail_next("err", resource="deploys", status=403, times=9)
    assert not project.materialize(*INCREMENTAL, span=(first, last)).success
    service.clear_faults()
    result = project.materialize(*INCREMENTAL, span=(first, last), resume=True)
    assert result.success
    metadata = materializations(result)
    assert metadata["deploys"]["new_rows"] == len(truth(service, "deploys"))
    assert metadata["occurrences"]["requests"] <= 2


def test_a_deploy_that_settles_within_the_lookback_is_updated(project: Project, service: Sandbox):
    project.use(service)
    today = partitions("daily", 1)[0]
    deploy = service.add_deploy(status="started", settles_after=None)
    assert project.materialize("deploys", partition=today, resume=True).success
    service.update("deploys", deploy["id"], status="succeeded", finish_time=deploy["start_time"] + 60)
    assert project.materialize("deploys", partition=today, resume=True).success
    assert project.sql(f"SELECT status FROM analytics.deploys WHERE id = {deploy['id']}") == [("succeeded",)]


@pytest.mark.parametrize("how", ["full_refresh", "no partition"])
def test_a_full_refresh_reads_to_the_oldest_row_and_can_be_repeated(how: str, project: Project, service: Sandbox):
    project.use(service)
    today = partitions("daily", 1)[0]
    for _ in range(2):
        if how == "full_refresh":
            result = project.materialize(*INCREMENTAL, partition=today, full_refresh=True)
        else:
            result = project.materialize(*INCREMENTAL)
        assert result.success
        for name in INCREMENTAL:
            keys = [key for (key,) in project.rows(name, "id")]
            assert len(keys) == len(set(keys))
            assert set(keys) == truth(service, name)


def test_an_item_resolved_without_an_event_is_seen_by_a_full_refresh(project: Project, service: Sandbox):
    project.use(service)
    assert project.materialize("items").success
    item = next(row for row in reversed(service.rows("items")) if row["status"] == "active")
    service.update("items", item["id"], status="resolved")
    assert project.materialize("items", full_refresh=True).success
    assert project.sql(f"SELECT status FROM analytics.items WHERE id = {item['id']}") == [("resolved",)]


def test_of_two_versions_of_a_row_in_one_load_the_later_read_is_kept(project: Project, service: Sandbox):
    project.use(service, read_ahead=1)
    moved = service.rows("items")[-1]

    def move(resource: str, page: int | None) -> None:
        if resource == "items" and page == 2:
            service.before_reply = None
            service.update("items", service.rows("items")[0]["id"], title="seen later")
            service.add_occurrences(1, item_id=moved["id"])

    first = service.rows("items")[0]["id"]
    project.set(page_size__items=20)
    service.before_reply = move
    assert project.materialize("items").success
    # The first item was read before it changed; what counts is that no older version replaces a newer one.
    assert project.materialize("items", partition=partitions("daily", 1)[0], resume=True).success
    titles = dict(project.rows("items", "id", "title"))
    assert titles[first] == "seen later"
    assert set(titles) == truth(service, "items")
