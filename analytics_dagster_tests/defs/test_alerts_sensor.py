"""The sensor of alerts on real instances of Dagster, in memory and in SQLite, with a receiver on loopback."""

import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
import time_machine
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._daemon.freshness import FreshnessDaemon

from analytics_dagster.definitions import build_definitions, definition_settings
from analytics_dagster.defs.alerts.due import Announced
from analytics_dagster.defs.alerts.event_log import read_events
from analytics_dagster.defs.alerts.events import Level
from analytics_dagster.defs.alerts.outbox import POST_LENGTH, Outbox
from analytics_dagster.defs.alerts.sensor import AlertsCursor
from analytics_dagster.defs.jobs import DATA_CHECKS
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.sandbox import PROJECT_KEY, Sandbox
from analytics_dagster_tests.support import late_asset
from analytics_dagster_tests.support.project import Project, daily_partition
from analytics_dagster_tests.support.webhook import Webhook, a_webhook

ITEMS = dg.AssetKey(["analytics", "items"])
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@dataclass
class Alerts:
    """The sensor of a project, its receiver, and the cursor that the daemon hands on."""

    project: Project
    webhook: Webhook
    cursor: str | None = None
    skipped: str = ""
    _seen: int = field(default=0, init=False)
    _built: tuple[Settings, dg.RepositoryDefinition] | None = field(default=None, init=False)

    def tick(self) -> list[str]:
        """Evaluate the sensor as the daemon does, and return the messages that were taken."""
        self.evaluate()
        lines = self.webhook.lines()
        new, self._seen = lines[self._seen :], len(lines)
        return new

    @property
    def repository(self) -> dg.RepositoryDefinition:
        """The definitions under the settings of now."""
        settings = definition_settings()
        if self._built is None or self._built[0] != settings:
            self._built = settings, build_definitions(settings).get_repository_def()
        return self._built[1]

    def evaluate(self) -> SensorExecutionData:
        repository = self.repository
        with dg.build_sensor_context(self.project.instance, self.cursor, repository_def=repository) as context:
            answer = repository.get_sensor_def("alerts_sensor").evaluate_tick(context)
        self.cursor, self.skipped = answer.cursor, answer.skip_message or ""
        assert not answer.run_requests
        assert self.webhook.SECRET not in f"{self.cursor} {self.skipped}"
        return answer

    def tick_until_all_is_posted(self) -> list[str]:
        """Evaluate the sensor until no message waits, and return the messages."""
        lines = self.tick()
        while AlertsCursor.parse(self.cursor, now=datetime.now(UTC)).outbox:
            lines += self.tick()
        return lines

    def run_checks(self) -> dg.ExecuteInProcessResult:
        """Run the job of all checks."""
        return self.repository.get_job(DATA_CHECKS).execute_in_process(instance=self.project.instance)

    def report(self, check: str = "primary_key", *, passed: bool = False, asset: dg.AssetKey = ITEMS, **result: Any):
        """Record a result of a check."""
        result = {"severity": ERROR, "description": f"The sentence of {check}.", "metadata": {}, **result}
        self.project.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=asset, check_name=check, passed=passed, **result)
        )


@pytest.fixture
def alerts(request: pytest.FixtureRequest, project: Project, tmp_path: Path) -> Iterator[Alerts]:
    """The sensor after its first tick, on an empty event log."""
    home = tmp_path / "home" if getattr(request, "param", "memory") == "sqlite" else None
    with a_webhook() as webhook, an_instance(project, home):
        project.set(failure_webhook=webhook.url)
        alerts = Alerts(project, webhook)
        assert alerts.tick() == []
        yield alerts


@contextmanager
def an_instance(project: Project, home: Path | None) -> Iterator[None]:
    """Let a project use an instance in a folder, or keep the one in memory."""
    if home is None:
        yield
        return
    home.mkdir()
    with dg.instance_for_test(temp_dir=str(home)) as project.instance:
        yield


in_sqlite = pytest.mark.parametrize("alerts", ["sqlite"], indirect=True)
in_both = pytest.mark.parametrize("alerts", ["memory", "sqlite"], indirect=True)


def headings(lines: list[str]) -> list[str]:
    """Return the part of each message before its sentence."""
    return [line.partition(":")[0] for line in lines]


# -- checks ---


@in_both
def test_a_check_that_fails_stays_failed_and_recovers_is_two_messages(alerts: Alerts):
    alerts.report(passed=True)
    assert alerts.tick() == []
    alerts.report(description="id is not unique: 2 values are duplicated (7, 9).")
    (message,) = alerts.tick()
    assert message.startswith("ERROR items.primary_key: id is not unique: 2 values are duplicated (7, 9). (2")
    assert alerts.tick() == []
    alerts.report()
    assert alerts.tick() == []
    assert alerts.skipped == "Nothing changed for the worse, and nothing recovered."
    alerts.report(passed=True, description="id is unique in 3 rows.")
    (message,) = alerts.tick()
    assert message.startswith("RECOVERED items.primary_key: id is unique in 3 rows. (2")
    assert alerts.tick() == []


def test_a_check_that_gets_worse_is_announced_again(alerts: Alerts):
    levels = []
    for severity in (WARN, ERROR, WARN, ERROR):
        alerts.report("freshness", severity=severity)
        levels += headings(alerts.tick())
    assert levels == ["WARN items.freshness", "ERROR items.freshness", "ERROR items.freshness"]


def test_each_project_of_a_check_is_announced_by_itself(alerts: Alerts):
    found = []
    for web, mobile in (("WARN", "passed"), ("WARN", "ERROR"), ("passed", "ERROR")):
        records = [
            dg.TableRecord({"project": project, "result": result, "description": f"The sentence of {project}."})
            for project, result in (("web", web), ("mobile", mobile))
        ]
        alerts.report("freshness", metadata={"projects": dg.MetadataValue.table(records)})
        found.append([line.partition(" (2")[0] for line in alerts.tick()])
    assert found == [
        ["WARN items.freshness (project web): The sentence of web."],
        ["ERROR items.freshness (project mobile): The sentence of mobile."],
        ["RECOVERED items.freshness (project web): The sentence of web."],
    ]


def test_a_link_leads_to_the_check_where_the_address_of_the_ui_is_set(alerts: Alerts):
    alerts.project.set(ui_url="https://dagster.example.com/")
    alerts.report()
    (message,) = alerts.tick()
    page = "https://dagster.example.com/assets/analytics/items?view=checks&checkDetail=primary_key"
    assert message.endswith(f" {page}")


@in_both
def test_the_first_tick_announces_the_checks_that_fail_already_and_no_past(alerts: Alerts):
    alerts.report("primary_key")
    alerts.report("not_null")
    alerts.report("not_null", passed=True)
    killed_run(alerts)
    alerts.cursor = None
    assert headings(alerts.tick()) == ["ERROR items.primary_key"]
    assert alerts.tick() == []
    killed_run(alerts)
    assert len(alerts.tick()) == 1


@pytest.mark.parametrize("text", [None, "", "{", "[]", "17", '{"newest": 1}', '{"newest": 1, "announced": []}'])
def test_a_cursor_that_cannot_be_read_is_that_of_a_first_tick(text: str | None):
    now = datetime.now(UTC)
    first = AlertsCursor(newest=None, announced=Announced(since=now.timestamp()), outbox=Outbox())
    assert AlertsCursor.parse(text, now=now) == first


def test_a_cursor_is_read_as_it_was_written():
    announced = Announced(levels={"a": {"": Level.WARN, "web": Level.ERROR}}, runs={"1": 5.5}, since=4.5)
    cursor = AlertsCursor(newest=7, announced=announced, outbox=Outbox(("Größe",), dropped=3))
    assert AlertsCursor.parse(str(cursor), now=datetime.now(UTC)) == cursor


def test_a_check_under_evaluation_keeps_what_was_announced(alerts: Alerts):
    alerts.report()
    assert len(alerts.tick()) == 1
    alerts.project.instance.create_run_for_job(alerts.repository.get_job(DATA_CHECKS))
    assert alerts.tick() == []
    alerts.report(passed=True)
    assert headings(alerts.tick()) == ["RECOVERED items.primary_key"]


@in_both
def test_checks_of_wiped_assets_keep_what_was_announced(alerts: Alerts):
    alerts.report("primary_key")
    alerts.report("not_null")
    assert len(alerts.tick()) == 2
    alerts.project.instance.wipe_assets([ITEMS])
    assert alerts.tick() == []
    alerts.report("primary_key")
    alerts.report("not_null", passed=True)
    assert headings(alerts.tick()) == ["RECOVERED items.not_null"]


def test_a_check_of_a_resource_that_is_disabled_is_forgotten(alerts: Alerts):
    alerts.report()
    assert len(alerts.tick()) == 1
    alerts.project.set(disabled="items")
    alerts.report(passed=True)
    assert alerts.tick() == []


def test_a_check_whose_run_was_deleted_is_announced(alerts: Alerts):
    run = alerts.run_checks()
    alerts.project.instance.delete_run(run.run_id)
    alerts.report(passed=True)
    lines = alerts.tick_until_all_is_posted()
    assert "WARN users.freshness: Never loaded. Materialize the asset." in [line.partition(" (")[0] for line in lines]
    enabled = definition_settings().enabled_resources()
    assert set(headings(lines)) == {f"WARN {resource.name}.freshness" for resource in enabled}


# -- runs ---


def killed_run(alerts: Alerts, **tags: str) -> dg.DagsterRun:
    """Let Dagster notice that a run's process was killed."""
    instance = alerts.project.instance
    run = instance.create_run_for_job(alerts.repository.get_job("reference_sync"), tags=tags)
    instance.report_run_failed(run, "The process of the run was killed.")
    return run


def test_a_failed_run_is_announced_with_its_cause_and_without_keys(alerts: Alerts, service: Sandbox):
    project = alerts.project
    project.use(service, ui_url="https://dagster.example.com")
    service.fail_next("err", resource="deploys", status=403, message=f"{PROJECT_KEY} is not allowed", times=9)
    result = project.materialize("deploys", partition=daily_partition())
    assert not result.success
    (message,) = alerts.tick()
    assert message.startswith(
        f"FAILED {result.dagster_run.job_name}, run {result.run_id}: 1 of 1 did not load: deploys"
    )
    assert "HTTP 403" in message
    assert message.endswith(f" https://dagster.example.com/runs/{result.run_id}")
    assert PROJECT_KEY not in message
    assert alerts.tick() == []


def load_teams(alerts: Alerts, service: Sandbox, **fault: Any) -> dg.ExecuteInProcessResult:
    """Run `reference_sync` for the teams, on a service that fails or, without a fault, is up."""
    if fault:
        service.fail_next("err", resource="teams", times=9, **fault)
    job = alerts.repository.get_job("reference_sync")
    teams = [dg.AssetKey(["analytics", "teams"])]
    result = job.execute_in_process(instance=alerts.project.instance, asset_selection=teams, raise_on_error=False)
    service.clear_faults()
    assert result.success is not bool(fault)
    return result


@in_both
def test_an_outage_is_one_message_for_each_cause_and_one_when_the_job_succeeds_again(alerts: Alerts, service: Sandbox):
    alerts.project.use(service)
    down, refused = [{"status": 404, "message": f"no backend, request {number}f0c2a"} for number in (1, 22, 333)], 403
    first = load_teams(alerts, service, **down[0])
    (message,) = alerts.tick()
    assert message.startswith(f"FAILED reference_sync, run {first.run_id}: 1 of 1 did not load: teams: ")
    assert "request 1f0c2a" in message
    load_teams(alerts, service, **down[1])
    assert alerts.tick() == []
    other = load_teams(alerts, service, status=refused, message="no such key")
    assert headings(alerts.tick()) == [f"FAILED reference_sync, run {other.run_id}"]
    load_teams(alerts, service, **down[2])
    assert alerts.tick() == []
    healed = load_teams(alerts, service)
    (message,) = alerts.tick()
    assert message.startswith(
        f"RECOVERED reference_sync, run {healed.run_id}: reference_sync succeeds again, after 4 failed runs since 20"
    )
    load_teams(alerts, service)
    assert alerts.tick() == []
    load_teams(alerts, service, **down[0])
    assert len(alerts.tick()) == 1


def finished_run(alerts: Alerts, job: str, assets: list[str], *, succeeded: bool, **config: Any) -> str:
    """Record a run of some assets of a job as ended, and return the heading of the message about it."""
    instance, definition = alerts.project.instance, alerts.repository.get_job(job)
    selection = frozenset(dg.AssetKey(["analytics", name]) for name in assets) if assets else None
    run = instance.create_run_for_job(
        definition, asset_selection=selection, run_config={"ops": {"incremental": {"config": config}}} if config else {}
    )
    if succeeded:
        instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", job, message="It ended."), run.run_id)
    else:
        instance.report_run_failed(run, "The process of the run was killed.")
    return f"{'RECOVERED' if succeeded else 'FAILED'} {job}, run {run.run_id}"


def test_the_runs_of_a_night_fail_and_succeed_each_by_itself(alerts: Alerts):
    days, full = ["deploys", "occurrences"], ["items", "rql_jobs"]
    for failed in (days, full):
        assert alerts.tick() == []
        heading = finished_run(alerts, "nightly_refresh", failed, succeeded=False)
        assert headings(alerts.tick()) == [heading]
    finished_run(alerts, "nightly_refresh", days, succeeded=False)
    assert alerts.tick() == []
    for healed in (full, days):
        heading = finished_run(alerts, "nightly_refresh", healed, succeeded=True)
        assert headings(alerts.tick()) == [heading]


def test_runs_of_other_projects_fail_and_succeed_each_by_itself(alerts: Alerts):
    failed = finished_run(alerts, "incremental_sync", [], succeeded=False, projects=["mobile"])
    assert headings(alerts.tick()) == [failed]
    finished_run(alerts, "incremental_sync", [], succeeded=True, projects=["web"])
    assert alerts.tick() == []
    healed = finished_run(alerts, "incremental_sync", [], succeeded=True, projects=["mobile"])
    assert headings(alerts.tick()) == [healed]


def test_a_job_whose_assets_are_all_chosen_by_hand_is_the_same_as_the_whole_job(alerts: Alerts):
    failed = finished_run(alerts, "metrics_refresh", [], succeeded=False)
    assert headings(alerts.tick()) == [failed]
    healed = finished_run(alerts, "metrics_refresh", ["items_metrics", "top_active_items"], succeeded=True)
    assert headings(alerts.tick()) == [healed]


@in_both
def test_a_run_that_was_killed_is_announced_with_the_reason_that_dagster_recorded(alerts: Alerts):
    run = killed_run(alerts)
    (message,) = alerts.tick()
    assert message.startswith(f"FAILED reference_sync, run {run.run_id}: The process of the run was killed. (2")


def test_a_run_that_dagster_retries_by_itself_is_announced_as_such(alerts: Alerts):
    killed_run(alerts, **{"dagster/will_retry": "true"})
    (message,) = alerts.tick()
    assert "The process of the run was killed. Dagster runs it again. (2" in message


@in_both
def test_a_run_that_was_deleted_before_the_tick_is_not_announced(alerts: Alerts):
    run = killed_run(alerts)
    alerts.project.instance.delete_run(run.run_id)
    assert alerts.tick() == []


@in_sqlite
def test_a_failed_run_is_announced_though_its_events_have_the_ids_of_deleted_ones(alerts: Alerts):
    """SQLite gives the ids of the newest events out again once these are deleted."""
    storage = alerts.project.instance.event_log_storage
    deleted = alerts.project.instance.create_run_for_job(alerts.repository.get_job(DATA_CHECKS))
    assert alerts.tick() == []
    before = storage.get_maximum_record_id()
    alerts.project.instance.delete_run(deleted.run_id)
    run = killed_run(alerts)
    assert before
    assert (storage.get_maximum_record_id() or 0) < before
    (message,) = alerts.tick()
    assert run.run_id in message


@in_both
def test_failures_while_the_sensor_was_stopped_are_announced_when_it_starts(alerts: Alerts):
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=3)) as clock:
        found = []
        for succeeded in (False, False, True, False):
            found.append(finished_run(alerts, "reference_sync", [], succeeded=succeeded))
            clock.shift(timedelta(hours=6))
        assert headings(alerts.tick()) == [found[0], found[2], found[3]]
        assert alerts.tick() == []


def test_more_failures_than_a_tick_reads_are_announced_in_order(alerts: Alerts, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("analytics_dagster.defs.alerts.event_log._RUNS_READ", 2)
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=3)) as clock:
        found = []
        for succeeded in (False, False, False, True, False):
            found.append(finished_run(alerts, "reference_sync", [], succeeded=succeeded))
            clock.shift(timedelta(hours=1))
        lines = alerts.tick()
        for _ in range(3):
            finished_run(alerts, "metrics_refresh", [], succeeded=True)
            lines += alerts.tick()
        assert headings(lines) == [found[0], found[3], found[4]]


def test_a_run_of_another_code_location_is_not_announced(alerts: Alerts):
    killed_run(alerts)
    instance, now = alerts.project.instance, datetime.now(UTC)
    for location, announced in ((None, 1), ("another", 0)):
        events, _ = read_events(instance, alerts.repository, Announced(), location=location, now=now)
        assert len(events) == announced


# -- freshness policies ---


@in_sqlite
def test_a_freshness_policy_is_announced_when_the_freshness_daemon_finds_it_late_and_in_time_again(alerts: Alerts):
    target = LoadableTargetOrigin(python_file=late_asset.__file__)
    workspace = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(target))
    project = alerts.project
    loaded_at = datetime.now(UTC)
    found = []
    with WorkspaceProcessContext(project.instance, workspace) as context:
        for minutes in (0, 30, 90, 120, 300, 330):
            with time_machine.travel(loaded_at + timedelta(minutes=minutes)):
                if minutes in {0, 330}:
                    project.instance.report_runless_asset_event(dg.AssetMaterialization(ITEMS))
                list(FreshnessDaemon().run_iteration(context))
                found.append(headings(alerts.tick()))
    name = "items, freshness policy"
    assert found == [[], [], [f"WARN {name}"], [], [f"ERROR {name}"], [f"RECOVERED {name}"]]


@in_sqlite
def test_an_asset_that_is_late_is_announced_once_though_its_check_and_its_policy_fail(alerts: Alerts):
    """The job of the checks runs ten past every hour; the only load ends at the hour, and the next is late."""
    target = LoadableTargetOrigin(python_file=late_asset.__file__)
    workspace = InProcessWorkspaceLoadTarget(InProcessCodeLocationOrigin(target))
    loaded_at = datetime.now(UTC)
    found = []
    with WorkspaceProcessContext(alerts.project.instance, workspace) as context:
        for minutes, check in ((0, None), (10, True), (61, None), (70, False), (130, False), (140, None), (190, True)):
            with time_machine.travel(loaded_at + timedelta(minutes=minutes)):
                if minutes in {0, 140}:
                    alerts.project.instance.report_runless_asset_event(dg.AssetMaterialization(ITEMS))
                if check is not None:
                    alerts.report("freshness", passed=check, severity=WARN)
                list(FreshnessDaemon().run_iteration(context))
                found.append(headings(alerts.tick()))
    name = "items, freshness policy"
    assert found == [[], [], [f"WARN {name}"], [], [], [], [f"RECOVERED {name}"]]


# -- delivery ---


def test_a_receiver_that_is_down_for_three_ticks_gets_every_message_later_once_and_in_order(alerts: Alerts):
    alerts.webhook.answers = [503, 429, 500]
    alerts.report("primary_key")
    assert alerts.tick() == []
    assert alerts.skipped == "failure_webhook answered HTTP 503. Not posted yet: 1 message."
    alerts.report("not_null")
    assert alerts.tick() == []
    alerts.report("primary_key", passed=True)
    assert alerts.tick() == []
    assert alerts.skipped == "failure_webhook answered HTTP 500. Not posted yet: 3 messages."
    assert headings(alerts.tick()) == ["ERROR items.primary_key", "ERROR items.not_null", "RECOVERED items.primary_key"]
    assert alerts.skipped == "Posted 3 messages."
    assert alerts.tick() == []


def test_many_checks_that_fail_at_once_are_all_announced_a_post_a_tick(alerts: Alerts):
    keys = alerts.repository.asset_graph.asset_check_keys
    for key in keys:
        alerts.report(key.name, asset=key.asset_key, description="a sentence " * 40)
    lines = alerts.tick()
    assert len(alerts.webhook.taken) == 1
    lines += alerts.tick_until_all_is_posted()
    assert sorted(headings(lines)) == sorted(f"ERROR {key.asset_key.path[-1]}.{key.name}" for key in keys)
    assert max(map(len, alerts.webhook.taken)) <= POST_LENGTH
    assert alerts.tick() == []


def test_what_the_service_sends_brings_no_key_into_a_message(alerts: Alerts, service: Sandbox):
    project = alerts.project
    project.use(service)
    row = service.rows("environments")[0]
    service.plant("environments", {**row, "id": row["id"] + 1_000, PROJECT_KEY: "a field that nobody knows"})
    assert project.materialize("environments").success
    alerts.run_checks()
    lines = alerts.tick_until_all_is_posted()
    assert [line for line in lines if "environments.unknown_fields: The service sends 1 field" in line]
    assert [line for line in lines if PROJECT_KEY in line] == []
    assert PROJECT_KEY not in (alerts.cursor or "")


# -- cost ---


@contextmanager
def counted_queries() -> Iterator[list[str]]:
    """Collect the queries of all connections, without those by which Dagster checks a file's version."""
    queries: list[str] = []

    def collect(*arguments: Any) -> None:
        statement = arguments[2]
        if statement.startswith("SELECT") and "alembic" not in statement and "sqlite_master" not in statement:
            queries.append(statement)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", collect)
    try:
        yield queries
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", collect)


def fill(project: Project, events: int) -> None:
    """Make the event log long, with copies of the events and of the checks' results that are in it."""
    storage = project.instance.event_log_storage
    with storage.index_connection() as connection:  # type: ignore[attr-defined]
        for table in (AssetCheckExecutionsTable, SqlEventLogStorageTable):
            rows = [dict(row) for row in connection.execute(table.select()).mappings()]
            for row in rows:
                del row["id"]
            copies = events // len(rows)
            for number in range(copies):
                # Another run each, as the index of the checks' results demands.
                connection.execute(table.insert(), [{**row, "run_id": f"{row['run_id']}-{number}"} for row in rows])


@in_sqlite
@pytest.mark.parametrize("events", [0, 10_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_tick_asks_as_few_queries_whether_the_event_log_is_short_or_long(events: int, alerts: Alerts):
    for check in ("primary_key", "not_null", "freshness", "row_count"):
        alerts.report(check)
    killed_run(alerts)
    if events:
        fill(alerts.project, events)
    alerts.tick_until_all_is_posted()
    with counted_queries() as nothing_new:
        assert alerts.tick() == []
    alerts.report("unknown_fields", passed=True)
    with counted_queries() as one_event:
        assert alerts.tick() == []
    finished_run(alerts, "reference_sync", [], succeeded=True)
    assert len(alerts.tick()) == 1
    alerts.report("unknown_fields", passed=True)
    with counted_queries() as none_failing:
        assert alerts.tick() == []
    assert [len(queries) for queries in (nothing_new, one_event, none_failing)] == [1, 5, 4]
    assert min(timeit.repeat(alerts.evaluate, number=1)) < 0.3
