"""What a tick asks for: the decisions as tables, then each schedule on a real instance after real loads."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from analytics_dagster.catalog import RESOURCES
from analytics_dagster.definitions import build_definitions, definition_settings
from analytics_dagster.defs.partitions import MAX_RUNTIME, build_partitions, partitions_due, partitions_to_reread
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project
from analytics_dagster_tests.support.service import truth

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 24, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)

DAILY = build_partitions(Settings(start_date=datetime(2026, 11, 1, tzinfo=UTC).date()))
HOURLY = build_partitions(Settings(start_date=datetime(2026, 11, 1, tzinfo=UTC).date(), partition="hourly"))


def since(start: str) -> dg.TimeWindowPartitionsDefinition:
    return build_partitions(Settings(start_date=datetime.fromisoformat(start).date()))


def days(*numbers: int) -> set[str]:
    return {f"2026-11-{number:02}" for number in numbers}


def hours(*numbers: int) -> set[str]:
    """Hours of the 24th; negative ones of the days before."""
    return {(MIDNIGHT + timedelta(hours=number)).strftime("%Y-%m-%d-%H:%M") for number in numbers}


def due(
    partitions: dg.TimeWindowPartitionsDefinition = DAILY,
    *,
    known: set[str],
    now: datetime = NOON,
    horizon: int = 48,
    asked_at: tuple[datetime, ...] = (),
) -> dg.PartitionKeyRange | str:
    return partitions_due(partitions, known=known, asked_at=asked_at, now=now, horizon=timedelta(hours=horizon))


@pytest.mark.parametrize(
    ("known", "now", "first", "last"),
    [
        pytest.param(days(*range(1, 25)), NOON, 23, 24, id="no gap: yesterday and the open day"),
        pytest.param(days(*range(1, 24)), NOON, 23, 24, id="the open day was never loaded"),
        pytest.param(days(*range(1, 23)), NOON, 22, 24, id="the day before a gap was open when it was loaded last"),
        pytest.param(days(*range(1, 23), 24), NOON, 22, 24, id="a gap in the middle"),
        pytest.param(days(*range(1, 22), 23, 24), NOON, 22, 24, id="a gap where the horizon begins"),
        pytest.param(days(23, 24), NOON, 22, 24, id="what is before the horizon is left alone"),
        pytest.param(days(*range(1, 21)), NOON, 22, 24, id="long downtime: the horizon's days"),
        pytest.param(set(), NOON, 22, 24, id="new installation: not the whole history"),
        pytest.param(days(*range(1, 24)), MIDNIGHT - SECOND, 22, 23, id="a second before midnight"),
        pytest.param(days(*range(1, 24)), MIDNIGHT, 23, 24, id="at midnight the new day is open"),
        pytest.param(days(*range(1, 24)), MIDNIGHT + SECOND, 23, 24, id="a second after midnight"),
        pytest.param(days(*range(1, 22)), MIDNIGHT, 22, 24, id="at midnight the horizon is two whole days"),
        pytest.param(days(*range(1, 22)), MIDNIGHT + SECOND, 22, 24, id="which both count a second later"),
        pytest.param(days(*range(1, 23)), MIDNIGHT - SECOND, 22, 23, id="yesterday was loaded while open"),
    ],
)
def test_days_are_asked_for_from_the_oldest_gap_to_the_open_day(known: set[str], now: datetime, first: int, last: int):
    assert due(known=known, now=now) == dg.PartitionKeyRange(start=f"2026-11-{first:02}", end=f"2026-11-{last:02}")


@pytest.mark.parametrize(
    ("known", "now", "first", "last"),
    [
        pytest.param(hours(*range(-60, 13)), NOON, 11, 12, id="no gap: the hour before and the open one"),
        pytest.param(hours(*range(-60, 13)), NOON - SECOND, 10, 11, id="a second before the hour"),
        pytest.param(hours(*range(-60, 0)), NOON, -1, 12, id="a night's downtime, across midnight"),
        pytest.param(hours(*range(-60, 3), *range(4, 13)), NOON, 2, 12, id="one hour missing in the middle"),
        pytest.param(set(), NOON, -36, 12, id="new installation: 48 hours and the open one"),
        pytest.param(set(), NOON + MINUTE, -36, 12, id="the hour in which the horizon begins counts"),
    ],
)
def test_hours_are_asked_for_from_the_oldest_gap_to_the_open_hour(
    known: set[str], now: datetime, first: int, last: int
):
    assert due(HOURLY, known=known, now=now) == dg.PartitionKeyRange(start=min(hours(first)), end=min(hours(last)))


@pytest.mark.parametrize(
    ("start", "first"), [("2026-11-24", "2026-11-24"), ("2026-11-23", "2026-11-23"), ("2026-11-22", "2026-11-22")]
)
def test_nothing_before_the_start_date_is_asked_for(start: str, first: str):
    assert due(since(start), known=set()) == dg.PartitionKeyRange(start=first, end="2026-11-24")


def test_before_the_first_partition_begins_nothing_is_asked_for():
    assert due(since("2026-11-25"), known=set()) == "The first partition, 2026-11-25, has not begun yet."


@pytest.mark.parametrize(("horizon", "first"), [(1, "2026-11-23"), (24, "2026-11-23"), (72, "2026-11-21")])
def test_the_horizon_is_a_setting_and_never_cuts_off_yesterday(horizon: int, first: str):
    assert due(known=set(), horizon=horizon) == dg.PartitionKeyRange(start=first, end="2026-11-24")


@pytest.mark.parametrize(
    ("ages", "waits"),
    [
        ((), False),
        ((timedelta(0),), True),
        ((MINUTE,), True),
        ((MAX_RUNTIME - SECOND,), True),
        ((MAX_RUNTIME,), False),
        ((MAX_RUNTIME, 20 * MINUTE), True),
    ],
)
def test_nothing_is_asked_for_while_a_run_is_under_way_unless_it_should_have_been_ended(
    *, ages: tuple[timedelta, ...], waits: bool
):
    answer = due(known=set(), asked_at=tuple(NOON - age for age in ages))
    assert isinstance(answer, str) == waits
    if 20 * MINUTE in ages:
        assert answer == "The run that was requested at 11:40:00 UTC has not ended yet."


def test_the_run_monitor_ends_runs_at_the_age_at_which_they_no_longer_count():
    configured = yaml.safe_load((Path(__file__).resolve().parents[2] / "dagster.yaml").read_text())
    assert configured["run_monitoring"]["max_runtime_seconds"] == MAX_RUNTIME.total_seconds()


@pytest.mark.parametrize(
    ("partitions", "now", "span"),
    [
        pytest.param(DAILY, NOON, ("2026-11-21", "2026-11-23"), id="days"),
        pytest.param(DAILY, MIDNIGHT, ("2026-11-21", "2026-11-23"), id="days, at midnight"),
        pytest.param(DAILY, MIDNIGHT - SECOND, ("2026-11-20", "2026-11-22"), id="days, before midnight"),
        pytest.param(HOURLY, MIDNIGHT + 2.5 * 60 * MINUTE, (min(hours(-70)), min(hours(1))), id="hours"),
        pytest.param(since("2026-11-23"), NOON, ("2026-11-23", "2026-11-23"), id="one closed day"),
        pytest.param(since("2026-11-24"), NOON, None, id="none closed"),
        pytest.param(since("2026-11-25"), NOON, None, id="none at all"),
    ],
)
def test_the_last_three_closed_days_are_read_again(
    partitions: dg.TimeWindowPartitionsDefinition, now: datetime, span: tuple[str, str] | None
):
    assert partitions_to_reread(partitions, now=now) == (
        dg.PartitionKeyRange(start=span[0], end=span[1]) if span else None
    )


# -- the schedules, on a real instance ---


@pytest.fixture
def live(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose instance is on disk: a schedule opens it by itself."""
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("instance"))) as instance:
        project.instance = instance
        yield project


def definitions() -> dg.Definitions:
    return build_definitions(definition_settings())


def schedules() -> dict[str, Any]:
    return {schedule.name: schedule for schedule in definitions().schedules or []}


def tick(project: Project, name: str, at: datetime | None = None) -> Any:
    schedule = definitions().get_repository_def().get_schedule_def(name)
    # Left open, the context's own instance would stand in Dagster's global state after its end.
    with dg.build_schedule_context(project.instance, at or datetime.now(UTC)) as context:
        return schedule.evaluate_tick(context)


def run(project: Project, request: dg.RunRequest, job: str) -> dg.ExecuteInProcessResult:
    """Run what a schedule asked for, as the daemon would."""
    return (
        definitions()
        .resolve_job_def(job)
        .execute_in_process(
            run_config=request.run_config,
            tags=dict(request.tags),
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
            instance=project.instance,
            raise_on_error=False,
        )
    )


def loaded(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}


def test_a_tick_on_a_new_installation_loads_the_horizon_and_the_next_what_came_since(live: Project, service: Sandbox):
    live.use(service, disabled="occurrences")
    today = datetime.now(UTC).date()
    (request,) = tick(live, "incremental_schedule").run_requests
    assert request.tags["dagster/asset_partition_range_start"] == str(today - timedelta(days=2))
    assert request.tags["dagster/asset_partition_range_end"] == str(today)
    assert request.run_config == {"ops": {"incremental": {"config": {"resume": True}}}}
    assert run(live, request, "incremental_sync").success
    assert {key for (key,) in live.rows("deploys", "id")} == truth(service, "deploys")

    service.add_deploy()
    (request,) = tick(live, "incremental_schedule").run_requests
    assert request.tags["dagster/asset_partition_range_start"] == str(today - timedelta(days=1))
    assert run(live, request, "incremental_sync").success
    assert {key for (key,) in live.rows("deploys", "id")} == truth(service, "deploys")


def test_one_resource_that_always_fails_delays_nothing_and_is_made_good_later(live: Project, service: Sandbox):
    live.use(service, disabled="occurrences")
    service.fail_next("err", resource="deploys", status=403, times=99)
    (request,) = tick(live, "incremental_schedule").run_requests
    result = run(live, request, "incremental_sync")
    assert not result.success
    assert loaded(result) == {"items", "rql_jobs"}
    service.clear_faults()
    (request,) = tick(live, "incremental_schedule").run_requests
    today = datetime.now(UTC).date()
    assert request.tags["dagster/asset_partition_range_start"] == str(today - timedelta(days=2))
    assert run(live, request, "incremental_sync").success
    assert {key for (key,) in live.rows("deploys", "id")} == truth(service, "deploys")


@pytest.mark.parametrize(
    ("status", "tags", "waits"),
    [
        ("NOT_STARTED", {"dagster/schedule_name": "incremental_schedule"}, True),
        ("STARTING", {"dagster/schedule_name": "incremental_schedule"}, True),
        ("STARTED", {"dagster/schedule_name": "incremental_schedule"}, True),
        ("FAILURE", {"dagster/schedule_name": "incremental_schedule"}, False),
        ("CANCELED", {"dagster/schedule_name": "incremental_schedule"}, False),
        ("SUCCESS", {"dagster/schedule_name": "incremental_schedule"}, False),
        ("STARTED", {"dagster/backfill": "abcdefgh"}, False),
        ("STARTED", {}, False),
    ],
)
def test_a_tick_waits_for_the_schedules_own_run_and_for_no_other(
    *, status: str, tags: dict[str, str], waits: bool, live: Project
):
    job = definitions().resolve_job_def("incremental_sync")
    live.instance.create_run_for_job(job, status=dg.DagsterRunStatus[status], tags=tags)
    now = datetime.now(UTC)
    answer = tick(live, "incremental_schedule", now)
    assert bool(answer.run_requests) != waits
    assert ("has not ended yet" in (answer.skip_message or "")) == waits
    assert tick(live, "incremental_schedule", now + MAX_RUNTIME + MINUTE).run_requests


def test_the_nightly_refresh_sees_what_no_cursor_tells(live: Project, service: Sandbox):
    live.use(service)
    assert live.materialize(*[resource.name for resource in Settings().enabled_resources("incremental")]).success
    yesterday = int((datetime.now(UTC) - timedelta(days=1)).timestamp())
    late = service.add_deploy(start_time=yesterday, status="succeeded")
    item = next(row for row in reversed(service.rows("items")) if row["status"] == "active")
    service.update("items", item["id"], status="resolved")

    requests = tick(live, "full_refresh_schedule").run_requests
    assert [request.run_key for request in requests] == ["last_days", "in_full", "metrics"]
    results = [run(live, request, "nightly_refresh") for request in requests]
    assert all(result.success for result in results)
    assert [loaded(result) for result in results] == [
        {resource.name for resource in Settings().enabled_resources("incremental") if not resource.changes_silently},
        {resource.name for resource in Settings().enabled_resources("incremental") if resource.changes_silently},
        {resource.name for resource in Settings().enabled_resources("metrics")},
    ]
    assert live.sql(f"SELECT count(*) FROM analytics.deploys WHERE id = {late['id']}") == [(1,)]
    assert live.sql(f"SELECT status FROM analytics.items WHERE id = {item['id']}") == [("resolved",)]


def test_the_nightly_refresh_has_no_closed_day_to_read_on_the_first_day(live: Project):
    live.set(start_date=datetime.now(UTC).date())
    requests = tick(live, "full_refresh_schedule").run_requests
    assert [request.run_key for request in requests] == ["in_full", "metrics"]


def test_the_complete_listings_are_read_once_a_day(live: Project):
    (request,) = tick(live, "reference_schedule").run_requests
    assert not request.asset_selection
    assert schedules()["reference_schedule"].job_name == "reference_sync"


def test_every_resource_has_a_schedule(live: Project):
    live.instance.dispose()
    scheduled = {
        key.path[-1]
        for schedule in schedules().values()
        for key in definitions().resolve_job_def(schedule.job_name).asset_layer.executable_asset_keys
    }
    assert scheduled == {resource.name for resource in RESOURCES}


def test_schedules_run_by_themselves_unless_a_setting_says_otherwise(project: Project):
    assert {schedule.default_status for schedule in schedules().values()} == {dg.DefaultScheduleStatus.RUNNING}
    project.set(automation=False)
    assert {schedule.default_status for schedule in schedules().values()} == {dg.DefaultScheduleStatus.STOPPED}


def test_when_the_incremental_assets_are_loaded_is_a_setting(project: Project):
    assert schedules()["incremental_schedule"].cron_schedule == "*/15 * * * *"
    project.set(incremental_cron="5 * * * *")
    assert schedules()["incremental_schedule"].cron_schedule == "5 * * * *"


@pytest.mark.parametrize(
    ("group", "gone"),
    [("incremental", {"incremental_schedule"}), ("reference", {"reference_schedule"}), ("metrics", set())],
)
def test_a_schedule_whose_assets_are_disabled_is_absent(group: Any, gone: set[str], project: Project):
    before = set(schedules())
    project.set(disabled=",".join(resource.name for resource in Settings().enabled_resources(group)))
    assert before - set(schedules()) == gone
    definitions().get_repository_def().load_all_definitions()
