"""A wrong setting changes nothing else: definitions keep the other settings, and nothing runs by itself."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from analytics_dagster.definitions import build_definitions
from analytics_dagster.defs.translator import SERVICE
from analytics_dagster.ingest.settings import load_valid_settings
from analytics_dagster_tests.support.dagster_dev import environment
from analytics_dagster_tests.support.project import CONFIG, Project
from analytics_dagster_tests.support.webhook import a_webhook

HOOK = "https://chat.example.com/hook"
WRONG = [
    pytest.param({"horizonn": 72}, "There is no setting sources.analytics.horizonn. Did you mean horizon?", id="name"),
    pytest.param(
        {"horizon": 0}, "The setting sources.analytics.horizon must be a whole number, at least 1", id="value"
    ),
    pytest.param({"api_key": "k"}, "A key is set while base_url is the sandbox", id="two that contradict each other"),
]


@pytest.fixture
def repository(project: Project, request: pytest.FixtureRequest) -> dg.RepositoryDefinition:
    project.set(automation=True, start_date="2026-11-20", failure_webhook=HOOK, **request.param)
    return build_definitions(*load_valid_settings()).get_repository_def()


@pytest.mark.parametrize("repository", [wrong.values[0] for wrong in WRONG], indirect=True)
def test_the_other_settings_hold_beside_a_wrong_one(repository: dg.RepositoryDefinition):
    partitions = repository.asset_graph.get(dg.AssetKey(["analytics", "deploys"])).partitions_def
    assert isinstance(partitions, dg.TimeWindowPartitionsDefinition)
    assert partitions.start == datetime(2026, 11, 20, tzinfo=UTC)
    assert repository.has_sensor_def("alerts_sensor")


@pytest.mark.parametrize(("repository", "sentence"), WRONG, indirect=["repository"])
def test_with_a_wrong_setting_schedules_and_sensors_are_stopped_and_show_the_sentence(
    repository: dg.RepositoryDefinition, sentence: str
):
    assert len(repository.schedule_defs) == 4
    paused = {"insights_sensor", "new_deploys_sensor"}
    assert {sensor.name for sensor in repository.sensor_defs} == {*paused, "alerts_sensor"}
    for automatic in (*repository.schedule_defs, *map(repository.get_sensor_def, sorted(paused))):
        assert automatic.default_status.value == "STOPPED"
        assert sentence in (automatic.description or "")
    assert sentence in (repository.asset_graph.get(SERVICE).description or "")


@pytest.mark.parametrize(("repository", "sentence"), WRONG, indirect=["repository"])
def test_with_a_wrong_setting_a_tick_of_what_a_person_started_requests_nothing(
    project: Project, repository: dg.RepositoryDefinition, sentence: str
):
    for schedule in repository.schedule_defs:
        with dg.build_schedule_context(project.instance, datetime.now(UTC)) as context:
            answer = schedule.evaluate_tick(context)
        assert not answer.run_requests
        assert sentence in (answer.skip_message or "")
    for name in ("insights_sensor", "new_deploys_sensor"):
        with dg.build_sensor_context(project.instance, "as before", repository_def=repository) as sensor_context:
            tick = repository.get_sensor_def(name).evaluate_tick(sensor_context)
        assert not tick.run_requests
        assert sentence in (tick.skip_message or "")
        assert tick.cursor == "as before"


def test_a_wrong_setting_is_posted_once_and_again_when_it_is_right(project: Project):
    with a_webhook() as webhook:
        cursor = None
        for horizon in (0, 0, 48, 48):
            project.set(failure_webhook=webhook.url, horizon=horizon)
            repository = build_definitions(*load_valid_settings()).get_repository_def()
            sensor = repository.get_sensor_def("alerts_sensor")
            assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
            with dg.build_sensor_context(project.instance, cursor, repository_def=repository) as context:
                cursor = sensor.evaluate_tick(context).cursor
        wrong, right = webhook.taken
    assert wrong.startswith(
        "ERROR settings: The setting sources.analytics.horizon must be a whole number, at least 1, not '0'. Until then "
        "every load fails, and schedules request none. (2"
    )
    assert right.startswith("RECOVERED settings: All are right. (2")


def test_a_webhook_over_plain_http_is_posted_to_by_no_sensor(project: Project):
    project.set(failure_webhook="http://chat.example.com/hook")
    repository = build_definitions(*load_valid_settings()).get_repository_def()
    with dg.build_sensor_context(project.instance, "as before", repository_def=repository) as context:
        tick = repository.get_sensor_def("alerts_sensor").evaluate_tick(context)
    assert "failure_webhook must begin with https://" in (tick.skip_message or "")
    assert tick.cursor == "as before"


def test_the_definitions_load_with_a_file_that_cannot_be_read(tmp_path: Path):
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "config.toml").write_text(f"{CONFIG}\n[sources.analytics\nautomation = false\n")
    script = """
import json
from analytics_dagster.definitions import defs
schedules = defs.get_repository_def().schedule_defs
print(json.dumps({schedule.name: [schedule.default_status.value, schedule.description] for schedule in schedules}))
result = defs.resolve_job_def("reference_sync").execute_in_process(raise_on_error=False)
failures = [event.step_failure_data for event in result.all_events if event.is_step_failure]
print(json.dumps([failure.user_failure_data.description for failure in failures]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(SOURCES__ANALYTICS__BASE_URL="http://127.0.0.1:9"),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    schedules, failures = map(json.loads, done.stdout.splitlines())
    assert {status for status, _ in schedules.values()} == {"STOPPED"}
    (sentence,) = {description for _, description in schedules.values()}
    assert sentence.startswith(".dlt/config.toml cannot be read: ")
    assert sentence.endswith(" Correct the file.")
    assert failures == [sentence]
