"""The assets of the insights and their check, on a real instance and a real warehouse."""

import base64
import io
from typing import Any

import dagster as dg
import pytest
from PIL import Image

from analytics_dagster.definitions import build_definitions, definition_settings, defs
from analytics_dagster.defs import insights
from analytics_dagster.insights.tables import INSIGHT_TABLES
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.insights import DAY, HOUR, MINUTE, LoadedHistory
from analytics_dagster_tests.support.project import Project, failure, materializations

KEYS = {dg.AssetKey(["analytics", name]) for name in ("deploy_impact", "deploy_items")}
CHECK = dg.AssetCheckKey(dg.AssetKey(["analytics", "deploy_impact"]), "deploy_regression")
TITLES = ["Lost $a_1$ | and $b", "Second\nline", "例外: 未定義", "Quiet"]


def compute(project: Project) -> dg.ExecuteInProcessResult:
    """Run the job of the insights."""
    job = build_definitions(definition_settings()).resolve_job_def("insights_refresh")
    return job.execute_in_process(instance=project.instance, raise_on_error=False)


def regression(result: dg.ExecuteInProcessResult) -> tuple[bool, str]:
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    return evaluation.passed, evaluation.description or ""


@pytest.fixture
def worse(history: LoadedHistory) -> LoadedHistory:
    """A deploy that brought four new items, loaded; noon was three hours ago."""
    history.errors(since=-2 * DAY, until=3 * HOUR, every=MINUTE)
    for number, title in enumerate(TITLES):
        history.item(10 + number, first_seen=1, title=title)
        history.errors(since=1, until=HOUR, every=30 * (number + 1), item=10 + number)
    history.deploy(1, finish=0, revision="0123456789abcdef", environment="production")
    history.deploy(2, finish=-DAY)
    history.load()
    return history


# -- definitions ----------------------------------------------------------------------------------------------


def test_the_assets_are_a_group_over_the_tables_that_they_read_with_a_schema_and_take_turns_with_the_loads():
    specs = {spec.key: spec for spec in defs.resolve_all_asset_specs() if spec.group_name == "insights"}
    assert set(specs) == KEYS
    for table in INSIGHT_TABLES:
        spec = specs[dg.AssetKey(["analytics", table.name])]
        assert {dep.asset_key.path[-1] for dep in spec.deps} == {"deploys", "items", "occurrences"}
        schema = spec.metadata["dagster/column_schema"]
        assert [column.name for column in schema.columns] == [column.name for column in table.columns]
        assert all(column.description for column in schema.columns)
    assert "no denominator" in (specs[CHECK.asset_key].description or "")
    (node,) = defs.resolve_job_def("insights_refresh").nodes
    assert node.definition.pool == "warehouse"


@pytest.mark.parametrize("name", ["deploys", "items", "occurrences"])
def test_without_a_resource_that_they_need_there_are_no_insights(project: Project, name: str):
    project.set(disabled=name)
    definitions = build_definitions(definition_settings())
    assert not [spec for spec in definitions.resolve_all_asset_specs() if spec.group_name == "insights"]
    assert not definitions.get_repository_def().has_sensor_def("insights_sensor")
    assert not definitions.get_repository_def().has_job("insights_refresh")


def test_without_the_extra_the_ten_assets_load_and_the_insights_say_what_to_install(
    project: Project, service: Sandbox, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("analytics_dagster.insights.extra.find_spec", lambda name: None if name == "scipy" else name)
    project.use(service)
    sentence = (
        "The insights need scipy, which is not installed. Install the extra: "
        "pip install -c constraints.txt -e '.[insights]'."
    )
    assert project.materialize("users").success
    assert failure(compute(project)) == sentence
    definitions = build_definitions(definition_settings())
    specs = [spec for spec in definitions.resolve_all_asset_specs() if spec.key in KEYS]
    assert all((spec.description or "").startswith(sentence) for spec in specs)
    assert not any(spec.automation_condition for spec in specs)


# -- runs -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worse")
def test_a_run_reports_both_tables_with_a_picture_of_two_days_and_a_table_of_the_last_deploys(project: Project):
    found = materializations(compute(project))

    impact, items = found["deploy_impact"], found["deploy_items"]
    assert (impact["dagster/row_count"], impact["rows_changed"]) == (2, 2)
    assert (items["dagster/row_count"], items["rows_changed"]) == (4, 4)
    assert impact["dagster/table_name"] == "warehouse.analytics.deploy_impact"
    assert impact["source"] == "https://api.example.com"
    picture, table = impact["overview"].split("\n\n")
    before, _, encoded = picture.partition("(data:image/png;base64,")
    assert before == "![Occurrences per ten minutes, and deploys]"
    assert len(picture) < 20_100
    with Image.open(io.BytesIO(base64.b64decode(encoded.removesuffix(")")))) as image:
        colours = {colour[:3] for _, colour in image.convert("RGBA").getcolors() or [] if colour[3] > 200}
        assert image.convert("RGBA").getpixel((0, 0))[3] == 0
    assert any(red > 180 and green < 110 and blue < 110 for red, green, blue in colours)
    first, second = table.splitlines()[2:]
    assert "| `0123456789ab` | **worse, 5.2 times" in first
    assert "Lost \\$a\\_1\\$ \\| and \\$b \\(120\\), Second line \\(60\\), 例外: 未定義 \\(40\\)" in first
    plain = second.replace("\N{NO-BREAK SPACE}", " ")
    assert "| Mar 09, 12:00 | production | `revision\\-2` | unchanged | 60 → 60 |" in plain


def test_a_run_that_changes_nothing_reports_nothing_until_the_picture_is_an_hour_old(
    project: Project, history: LoadedHistory
):
    history.errors(since=-2 * DAY, until=3 * HOUR, every=MINUTE)
    history.deploy(1, finish=-DAY)
    history.load()
    assert set(materializations(compute(project))) == {"deploy_impact", "deploy_items"}

    assert regression(again := compute(project)) == (True, "No deploy of the last 24 hours is worse.")
    assert materializations(again) == {}

    history.pass_time(HOUR)
    assert set(materializations(compute(project))) == {"deploy_impact"}


@pytest.mark.usefixtures("history")
def test_before_the_first_load_nothing_is_reported_and_the_check_passes(project: Project):
    result = compute(project)
    assert result.success
    assert materializations(result) == {}
    assert regression(result)[0]


def test_every_row_can_be_computed_again_by_run_config(project: Project, worse: LoadedHistory):
    compute(project)
    worse.pass_time(HOUR)
    definitions = build_definitions(definition_settings())
    result = definitions.resolve_job_def("insights_refresh").execute_in_process(
        instance=project.instance, run_config={"ops": {"insights": {"config": {"recompute": True}}}}
    )
    impact = materializations(result)["deploy_impact"]
    assert (impact["rows_computed"], impact["rows_changed"]) == (2, 0)


# -- the check ------------------------------------------------------------------------------------------------


def test_the_check_names_the_deploy_its_ratio_and_its_three_busiest_items_for_a_day(
    project: Project, worse: LoadedHistory
):
    passed, sentence = regression(compute(project))
    assert not passed
    assert sentence.startswith(
        "Revision 0123456789ab in production of project 1001, finished at 2026-03-10 12:00 UTC, has 5.2 times ("
    )
    assert sentence.endswith(
        ") the errors of the two hours before it; its busiest new items: Lost $a_1$ | and $b (120), Second line (60), "
        "例外: 未定義 (40)."
    )

    worse.pass_time(21 * HOUR)
    assert not regression(compute(project))[0]
    worse.pass_time(1)
    assert regression(compute(project))[0]


@pytest.mark.usefixtures("worse")
def test_the_check_alone_reads_and_computes_nothing(project: Project):
    definitions = build_definitions(definition_settings())

    def check_alone() -> dg.ExecuteInProcessResult:
        return dg.materialize(
            list(definitions.assets or []),
            selection=dg.AssetSelection.checks(CHECK),
            resources=definitions.resources,
            instance=project.instance,
        )

    assert regression(check_alone())[0]
    assert project.sql("SELECT table_name FROM duckdb_tables() WHERE table_name LIKE 'deploy\\_%' ESCAPE '\\'") == []
    compute(project)
    assert not regression(check_alone())[0]


def test_the_checks_of_the_ten_tables_run_without_it():
    job = defs.resolve_job_def("data_checks")
    assert [node.name for node in job.nodes] == ["checks"]


# -- automation -----------------------------------------------------------------------------------------------


class Automation:
    """Evaluates the conditions as the sensor does, with its cursor."""

    def __init__(self, project: Project) -> None:
        self._instance = project.instance
        self._cursor: Any = None

    def requested(self) -> set[dg.AssetKey]:
        result = dg.evaluate_automation_conditions(
            build_definitions(definition_settings()),
            self._instance,
            dg.AssetSelection.groups("insights"),
            cursor=self._cursor,
        )
        self._cursor = result.cursor
        return {key for key in KEYS if result.get_num_requested(key)}


@pytest.mark.usefixtures("history")
def test_a_load_requests_the_insights_once_though_partitions_are_missing(project: Project):
    project.set(start_date="2026-03-01")

    def report(name: str) -> None:
        key = dg.AssetKey(["analytics", name])
        project.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition="2026-03-05"))

    automation = Automation(project)
    automation.requested()
    assert automation.requested() == set()
    report("deploys")
    report("occurrences")
    assert automation.requested() == KEYS
    assert automation.requested() == set()
    project.instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(["analytics", "users"])))
    assert automation.requested() == set()
    report("items")
    assert automation.requested() == KEYS


def test_the_sensor_runs_unless_a_setting_says_otherwise(project: Project):
    assert insights.build_insights_sensors(definition_settings())[0].default_status is dg.DefaultSensorStatus.RUNNING
    project.set(automation=False)
    assert insights.build_insights_sensors(definition_settings())[0].default_status is dg.DefaultSensorStatus.STOPPED
