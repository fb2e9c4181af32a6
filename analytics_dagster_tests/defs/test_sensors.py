"""Watermarks compared, as a table; then the sensors on a real instance after real loads."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from analytics_dagster.definitions import build_definitions, definition_settings
from analytics_dagster.defs.watermark import Watermark, WatermarkChange, compare_watermarks
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, failure
from analytics_dagster_tests.support.service import a_service


def days_ago(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%d")


def watermark(rows: int, settled: int, newest: int | None, source: str | None = None) -> Watermark:
    return Watermark(rows=rows, settled=settled, newest=newest, source=source)


SEVENTEEN = watermark(17, 16, 117)


@pytest.mark.parametrize(
    ("before", "latest", "rows", "settled"),
    [
        pytest.param(None, SEVENTEEN, 17, 16, id="the first look, or a lost cursor"),
        pytest.param(SEVENTEEN, watermark(18, 16, 118), 1, 0, id="one new deploy"),
        pytest.param(SEVENTEEN, watermark(25, 20, 125), 8, 4, id="a burst"),
        pytest.param(SEVENTEEN, watermark(18, 17, 117), 1, 1, id="a late, older deploy"),
        pytest.param(SEVENTEEN, watermark(17, 17, 117), 0, 1, id="a known one settled"),
        pytest.param(SEVENTEEN, watermark(17, 16, 118), 0, 0, id="another newest one"),
        pytest.param(SEVENTEEN, watermark(3, 2, 117), 3, 2, id="the table was lost and is being loaded again"),
        pytest.param(watermark(0, 0, None), SEVENTEEN, 17, 16, id="an empty table filled"),
        pytest.param(watermark(17, 16, 117, "a"), watermark(20, 18, 117, "b"), 20, 18, id="another source"),
        pytest.param(SEVENTEEN, watermark(20, 18, 120, "b"), 3, 2, id="a cursor of an earlier version"),
    ],
)
def test_a_difference_from_the_last_run_is_a_change(
    before: Watermark | None, latest: Watermark, rows: int, settled: int
):
    change = compare_watermarks(latest, before)
    assert isinstance(change, WatermarkChange)
    assert (change.rows, change.settled) == (rows, settled)


@pytest.mark.parametrize(
    ("before", "latest", "newest"),
    [
        pytest.param(None, SEVENTEEN, True, id="the first look"),
        pytest.param(SEVENTEEN, watermark(18, 16, 118), True, id="one new deploy"),
        pytest.param(SEVENTEEN, watermark(27, 26, 117), False, id="a backfill of older ones"),
        pytest.param(SEVENTEEN, watermark(17, 17, 117), False, id="a known one settled"),
        pytest.param(SEVENTEEN, watermark(3, 2, 117), True, id="the table is new"),
    ],
)
def test_the_newest_row_is_told_only_if_it_is_new(*, before: Watermark | None, latest: Watermark, newest: bool):
    change = compare_watermarks(latest, before)
    assert change
    assert change.newest == newest


@pytest.mark.parametrize(
    ("before", "latest"),
    [
        pytest.param(SEVENTEEN, SEVENTEEN, id="nothing came"),
        pytest.param(None, watermark(0, 0, None), id="empty from the start"),
        pytest.param(SEVENTEEN, watermark(0, 0, None), id="emptied"),
    ],
)
def test_the_same_watermark_or_an_empty_table_is_no_change(before: Watermark | None, latest: Watermark):
    assert compare_watermarks(latest, before) is None


def test_the_key_tells_each_step_from_every_other():
    steps = [(None, 1), (1, 2), (2, 1), (1, 3), (2, 3), (3, 4), (None, 4)]
    marks = {rows: watermark(rows, 0, rows) for rows in (1, 2, 3)} | {4: watermark(3, 0, 3, "another source")}
    keys = {compare_watermarks(marks[latest], marks[before] if before else None).key for before, latest in steps}  # type: ignore[union-attr]
    assert len(keys) == len(steps)


@pytest.mark.parametrize("cursor", [None, "", "{", "[]", "17", '{"rows": 1}', '{"rows": 1, "other": 2}'])
def test_a_cursor_that_cannot_be_read_is_lost(cursor: str | None):
    assert Watermark.from_cursor(cursor) is None


@pytest.mark.parametrize(
    "kept",
    [SEVENTEEN, watermark(0, 0, None), watermark(1, 1, 1, "a service"), Watermark(rows=1, settled=0, newest="ab")],
)
def test_a_cursor_holds_what_was_acted_on(kept: Watermark):
    assert Watermark.from_cursor(kept.cursor) == kept


@pytest.mark.parametrize(
    ("metadata", "read"),
    [
        ({}, None),
        ({"note": "reported by hand"}, None),
        ({"dagster/row_count": 3}, None),
        ({"dagster/row_count": 0}, watermark(0, 0, None)),
        ({"dagster/row_count": 3, "settled_rows": 2, "newest_key": 9, "seconds": 1.5}, watermark(3, 2, 9)),
        ({"dagster/row_count": 3, "newest_key": 9, "source": "a service"}, watermark(3, 0, 9, "a service")),
    ],
)
def test_only_metadata_of_a_load_is_read(metadata: dict[str, Any], read: Watermark | None):
    assert Watermark.from_metadata(metadata) == read


# -- the sensor, on a real instance after real loads ---


class Ticker:
    """Evaluates the sensor as the daemon does: it hands the cursor on, and drops a key that was used."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._used: set[str | None] = set()
        self.cursor: str | None = None
        self.skipped = ""

    def tick(self) -> list[dg.RunRequest]:
        repository = build_definitions(definition_settings()).get_repository_def()
        with dg.build_sensor_context(self._project.instance, self.cursor, repository_def=repository) as context:
            answer = repository.get_sensor_def("new_deploys_sensor").evaluate_tick(context)
        self.cursor = answer.cursor
        self.skipped = answer.skip_message or ""
        requests = [request for request in answer.run_requests or [] if request.run_key not in self._used]
        self._used.update(request.run_key for request in requests)
        return requests


@pytest.fixture
def ticker(project: Project, service: Sandbox) -> Ticker:
    """The sensor, once it acted on yesterday's and today's deploys."""
    project.use(service)
    service.add_deploy()  # at midnight today has none yet
    ticker = Ticker(project)
    load(project)
    assert len(ticker.tick()) == 1
    return ticker


def load(project: Project, days: int = 1) -> None:
    """Load the deploys of today and of some days before it."""
    assert project.materialize("deploys", span=(days_ago(days), days_ago(0)), resume=True).success


def test_before_any_load_nothing_is_asked_for_and_the_reason_says_so(project: Project):
    ticker = Ticker(project)
    assert ticker.tick() == []
    assert ticker.skipped == "No load of deploys has been recorded yet."


def test_the_first_deploys_are_acted_on_once(project: Project, service: Sandbox):
    project.use(service)
    load(project)
    ticker = Ticker(project)
    (request,) = ticker.tick()
    ((rows, newest),) = project.sql("SELECT count(*), max(id) FROM analytics.deploys")
    assert request.tags["deploys/new"] == str(rows)
    assert request.tags["deploys/id"] == str(newest)
    assert {key.path[-1] for key in request.asset_selection or []} == {"items_metrics", "top_active_items"}
    assert ticker.tick() == []
    assert ticker.skipped == f"No new or newly settled deploys since the last run ({rows} rows, newest {newest})."


def test_one_new_deploy_gives_one_run_that_names_it(project: Project, service: Sandbox, ticker: Ticker):
    deploy = service.add_deploy(environment="staging", revision="feature/ünïcode #1")
    load(project)
    (request,) = ticker.tick()
    named = {name: value for name, value in request.tags.items() if name.startswith("deploys/")}
    assert named == {
        "deploys/new": "1",
        "deploys/settled": "0",
        "deploys/id": str(deploy["id"]),
        "deploys/revision": "feature/ünïcode #1",
        "deploys/environment": "staging",
    }
    assert ticker.tick() == []


def test_a_load_that_brought_no_deploy_gives_none(project: Project, ticker: Ticker):
    load(project)
    load(project)
    assert ticker.tick() == []
    assert ticker.skipped.startswith("No new or newly settled deploys since the last run (")


def test_an_empty_table_gives_no_run(project: Project, service: Sandbox):
    project.use(service)
    for row in service.rows("deploys"):
        service.remove("deploys", row["id"])
    load(project)
    ticker = Ticker(project)
    assert ticker.tick() == []
    assert ticker.skipped == "The table deploys is empty."
    service.add_deploy()
    load(project)
    assert len(ticker.tick()) == 1


def test_a_burst_in_several_loads_gives_one_run(project: Project, service: Sandbox, ticker: Ticker):
    for _ in range(3):
        service.add_deploy()
        load(project)
    (request,) = ticker.tick()
    assert request.tags["deploys/new"] == "3"
    assert ticker.tick() == []


def test_a_late_older_deploy_gives_one_run(project: Project, service: Sandbox, ticker: Ticker):
    service.add_deploy(start_time=service.now - 3600, status="failed")
    load(project)
    (request,) = ticker.tick()
    assert request.tags["deploys/new"] == "1"
    assert ticker.tick() == []


def test_a_deploy_that_settles_gives_one_run(project: Project, service: Sandbox, ticker: Ticker):
    deploy = service.add_deploy(status="started", settles_after=None)
    load(project)
    assert len(ticker.tick()) == 1
    service.update("deploys", deploy["id"], status="failed", finish_time=deploy["start_time"] + 60)
    load(project)
    (request,) = ticker.tick()
    assert (request.tags["deploys/new"], request.tags["deploys/settled"]) == ("0", "1")
    assert ticker.tick() == []


def test_a_backfill_of_old_deploys_gives_one_run_that_names_their_window_and_not_the_newest_deploy(project: Project):
    with a_service(history_days=5) as service:
        project.use(service)
        load(project)
        ticker = Ticker(project)
        assert len(ticker.tick()) == 1
        ((before,),) = project.sql("SELECT count(*) FROM analytics.deploys")
        assert project.materialize("deploys", span=(days_ago(4), days_ago(3))).success
    ((rows,),) = project.sql("SELECT count(*) FROM analytics.deploys")
    (request,) = ticker.tick()
    named = {name: value for name, value in request.tags.items() if name.startswith("deploys/")}
    assert int(named.pop("deploys/settled")) > 0
    assert named == {
        "deploys/new": str(rows - before),
        "deploys/loaded": f"{days_ago(4)} 00:00 to {days_ago(2)} 00:00",
    }
    assert rows > before
    assert ticker.tick() == []


def test_an_event_of_an_earlier_version_without_labels_gives_a_run_without_them(project: Project):
    figures: dict[str, Any] = {"dagster/row_count": 3, "settled_rows": 2, "newest_key": 9}
    event = dg.AssetMaterialization(dg.AssetKey(["analytics", "deploys"]), metadata=figures)
    project.instance.report_runless_asset_event(event)
    (request,) = Ticker(project).tick()
    named = {name: value for name, value in request.tags.items() if name.startswith("deploys/")}
    assert named == {"deploys/new": "3", "deploys/settled": "2", "deploys/id": "9"}


def test_a_change_of_the_service_gives_a_run_for_all_its_deploys(project: Project, ticker: Ticker):
    assert ticker.cursor
    with a_service(seed=8) as other:
        project.use(other)
        project.warehouse.unlink()
        load(project)
        (request,) = ticker.tick()
    ((rows,),) = project.sql("SELECT count(*) FROM analytics.deploys")
    assert request.tags["deploys/new"] == str(rows)


def test_deploys_whose_run_was_killed_after_its_load_give_one_run(
    project: Project, service: Sandbox, ticker: Ticker, tmp_path_factory: pytest.TempPathFactory
):
    service.add_deploy()
    seen = project.instance
    with dg.DagsterInstance.ephemeral(str(tmp_path_factory.mktemp("killed"))) as unseen:
        project.instance = unseen
        load(project)
    project.instance = seen
    assert ticker.tick() == []
    load(project)
    (request,) = ticker.tick()
    assert request.tags["deploys/new"] == "1"
    assert ticker.tick() == []


def test_a_lost_cursor_gives_one_run(project: Project, service: Sandbox, ticker: Ticker):
    service.add_deploy()
    load(project)
    assert len(ticker.tick()) == 1
    ticker.cursor = None
    assert len(ticker.tick()) == 1
    assert ticker.tick() == []


def test_a_tick_that_died_before_it_kept_its_cursor_gives_no_second_run(
    project: Project, service: Sandbox, ticker: Ticker
):
    service.add_deploy()
    load(project)
    before = ticker.cursor
    assert len(ticker.tick()) == 1
    ticker.cursor = before
    assert ticker.tick() == []


def test_a_warehouse_that_is_loaded_again_gives_a_run_even_at_figures_it_had_before(project: Project, ticker: Ticker):
    at_first = ticker.cursor
    project.warehouse.unlink()
    assert project.materialize("deploys", partition=days_ago(1)).success
    assert len(ticker.tick()) == 1
    load(project)
    assert len(ticker.tick()) == 1
    assert ticker.cursor == at_first


def test_an_event_that_a_person_reported_is_no_load(project: Project, ticker: Ticker):
    project.instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(["analytics", "deploys"])))
    assert ticker.tick() == []
    assert ticker.skipped == "The latest materialization of deploys has no watermark: no load recorded it."
    load(project)
    assert ticker.tick() == []


@pytest.mark.slow
def test_a_refresh_that_failed_is_tried_again_by_its_job(project: Project, service: Sandbox):
    project.use(service)
    service.fail_next("err", resource="top_active_items", status=403)
    job = build_definitions(definition_settings()).resolve_job_def("metrics_refresh")
    result = job.execute_in_process(instance=project.instance)
    assert result.success
    assert len(result.filter_events(lambda event: event.is_step_up_for_retry)) == 1
    assert project.rows("top_active_items")


def test_a_refresh_is_not_tried_again_with_a_wrong_setting(project: Project):
    job = build_definitions(definition_settings()).resolve_job_def("metrics_refresh")
    project.set(base_url="https://api.example.com")
    result = job.execute_in_process(instance=project.instance, raise_on_error=False)
    assert failure(result).startswith("No api_key is set")
    assert result.filter_events(lambda event: event.is_step_up_for_retry) == []


def sensors() -> dict[str, Any]:
    return {sensor.name: sensor for sensor in build_definitions(definition_settings()).sensors or []}


def test_sensors_run_by_themselves_unless_a_setting_says_otherwise(project: Project):
    project.set(failure_webhook="https://chat.example.com/hook")
    assert {sensor.default_status for sensor in sensors().values()} == {dg.DefaultSensorStatus.RUNNING}
    project.set(automation=False)
    assert {sensor.default_status for sensor in sensors().values()} == {dg.DefaultSensorStatus.STOPPED}


@pytest.mark.parametrize("disabled", ["deploys", "items_metrics,top_active_items"])
def test_without_what_announces_or_what_waits_there_is_no_sensor(disabled: str, project: Project):
    assert "new_deploys_sensor" in sensors()
    project.set(disabled=disabled)
    assert "new_deploys_sensor" not in sensors()
