"""Ends of lists: where the list ends, an empty list of a table with rows, the key down to which a load must read.

The lists are the sandbox's; the reader's observations of them (`Traffic.list_end` and `Traffic.empty`) are stubbed.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import time_machine

from analytics_dagster.catalog import get_resource
from analytics_dagster.ingest import load as load_module
from analytics_dagster.ingest import projects
from analytics_dagster.ingest.empty_lists import accepts_empty_list
from analytics_dagster.ingest.errors import EmptyListError
from analytics_dagster.ingest.project_load import ProjectLoad
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.source import Reading, build_source
from analytics_dagster.ingest.warehouse.load_state import open_load_state
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, checked, failure, load, materializations

START = datetime(2026, 3, 10, 18, 7, tzinfo=UTC)
TODAY = START.replace(hour=0, minute=0)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
DEPLOYS = dg.AssetSelection.checks_for_assets(dg.AssetKey(["analytics", "deploys"]))

Clock = time_machine.Traveller
Observe = Callable[..., None]


@pytest.fixture
def clock() -> Iterator[Clock]:
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@pytest.fixture
def service(clock: Clock, project: Project) -> Iterator[Sandbox]:  # noqa: ARG001 - it must travel first
    with Sandbox(history_days=1, rate_limit=1_000_000) as service:
        project.use(service, start_date=(TODAY - DAY).date())
        yield service


@pytest.fixture
def observe(monkeypatch: pytest.MonkeyPatch) -> Observe:
    """Set what the reader observes of every list. A list without rows is empty in any case."""
    observed: dict[str, Any] = {}
    take_counts = ProjectLoad._take_counts  # noqa: SLF001 - the reader's report to the loader

    def take_observed(part: ProjectLoad, reading: Reading) -> dict[str, Any]:
        assert reading.counts
        reading.counts |= {"empty": reading.counts["read"] == 0} | observed
        return take_counts(part, reading)

    monkeypatch.setattr(ProjectLoad, "_take_counts", take_observed)
    return lambda **values: observed.update(values)


def empty(service: Sandbox, name: str) -> None:
    """Let the service answer with empty lists, until `clear_faults`."""
    service.fail_next("empty", resource=name, times=1_000)


def tick(name: str = "deploys") -> Any:
    """Load yesterday and today from the end of coverage on, as the schedule does."""
    today = datetime.now(UTC).replace(hour=0, minute=0)
    return load(name, Window(start=today - DAY, end=today + DAY), resume=True)


def coverage(project: Project) -> list[Any]:
    return project.sql("SELECT * FROM analytics.load_windows WHERE window_start IS NULL OR window_start < window_end")


# -- a list that ends -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("service")
def test_the_end_of_a_list_is_recorded_with_coverage_as_asked_and_shown(project: Project, observe: Observe):
    observe(list_end=(TODAY - 12 * HOUR).isoformat())

    result = project.materialize("deploys", span=(f"{TODAY - DAY:%Y-%m-%d}", f"{TODAY:%Y-%m-%d}"))

    assert materializations(result)["deploys"]["list_end"] == (TODAY - 12 * HOUR).timestamp()
    assert project.rows("load_windows", "window_start", "window_end", "list_end") == [
        (TODAY - DAY, START, TODAY - 12 * HOUR)
    ]
    history = checked(project, DEPLOYS)["deploys", "complete_history"]
    assert (history.level, history.description) == (
        "PASS",
        "All 1 days since 2026-03-09 are loaded. The service lists nothing before 2026-03-09 12:00 UTC.",
    )


@pytest.mark.usefixtures("service")
def test_a_list_that_does_not_end_is_recorded_without_a_time(project: Project, observe: Observe):
    observe(list_end=None)
    tick()
    assert project.rows("load_windows", "list_end") == [(None,)]
    assert checked(project, DEPLOYS)["deploys", "complete_history"].description.endswith("are loaded.")


# -- a list that is empty ---------------------------------------------------------------------------------------


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.usefixtures("observe")
@pytest.mark.parametrize("name", ["deploys", "rql_jobs", "items"])
def test_an_empty_list_fails_while_the_table_has_rows_and_claims_nothing(
    name: str, project: Project, service: Sandbox, clock: Clock
):
    tick(name)
    before = project.rows(name), coverage(project)
    empty(service, name)
    clock.shift(HOUR)

    with pytest.raises(EmptyListError) as error:
        tick(name)

    assert str(error.value) == (
        f"{name}: the service lists no rows, but the table has {len(before[0]):,}. No coverage was recorded, and the "
        "rows are untouched. Check base_url and api_key: the key may belong to another project. If the service deleted "
        "the rows, load again: the empty list is accepted once 3 loads over at least a day have found it (1 so far, "
        "the first at 2026-03-10 19:07:00 UTC)."
    )
    assert (project.rows(name), coverage(project)) == before

    service.clear_faults()
    clock.shift(HOUR)
    report = tick(name)
    assert (report.window.start, report.window.end) == (START, START + 2 * HOUR)


@pytest.mark.usefixtures("observe")
def test_the_run_says_that_the_list_is_empty_and_the_other_assets_load(project: Project, service: Sandbox):
    assert project.materialize("deploys", "items").success
    empty(service, "deploys")

    result = project.materialize("deploys", "items")

    assert failure(result).startswith("1 of 2 did not load: deploys: the service lists no rows, but the table has ")
    assert set(materializations(result)) == {"items"}


@pytest.mark.usefixtures("observe")
def test_an_empty_listing_fails_and_marks_nothing(project: Project, service: Sandbox):
    load("users")
    empty(service, "users")

    with pytest.raises(EmptyListError, match="Check base_url and account_api_key: the key may belong to another acc"):
        load("users")
    assert project.sql("SELECT id FROM analytics.users WHERE removed_at IS NOT NULL") == []


@pytest.mark.every_warehouse
@pytest.mark.usefixtures("observe")
def test_three_loads_over_a_day_make_an_empty_list_acceptable_and_the_check_says_so(
    project: Project, service: Sandbox, clock: Clock, caplog: pytest.LogCaptureFixture
):
    tick()
    count = len(project.rows("deploys"))
    empty(service, "deploys")
    for _ in range(2):
        clock.shift(HOUR)
        with pytest.raises(EmptyListError):
            tick()
    clock.shift(23 * HOUR - timedelta(seconds=1))
    with pytest.raises(EmptyListError, match="3 so far, the first at 2026-03-10 19:07:00 UTC"):
        tick()
    assert len(coverage(project)) == 1
    clock.shift(1)

    assert tick().window == Window(start=START, end=START + DAY + HOUR)

    assert [record.levelno for record in caplog.records if "the empty list is accepted" in record.getMessage()] == [
        logging.WARNING
    ]
    assert len(project.rows("deploys")) == count
    result = checked(project, DEPLOYS)["deploys", "row_count"]
    assert result.level == "WARN"
    assert (
        "But the service has listed none since 2026-03-10 19:07 UTC, in 4 loads: check base_url" in result.description
    )
    # The next loads find it empty too, and are accepted at once.
    clock.shift(HOUR)
    assert tick().window.end == START + DAY + 2 * HOUR


@pytest.mark.usefixtures("observe")
def test_a_load_that_lists_rows_ends_the_count(project: Project, service: Sandbox, clock: Clock):
    tick()
    empty(service, "deploys")
    for _ in range(2):
        clock.shift(HOUR)
        with pytest.raises(EmptyListError):
            tick()
    service.clear_faults()
    clock.shift(DAY)
    tick()
    assert checked(project, DEPLOYS)["deploys", "row_count"].level == "PASS"
    empty(service, "deploys")
    clock.shift(HOUR)

    with pytest.raises(EmptyListError, match="1 so far"):
        tick()
    assert checked(project, DEPLOYS)["deploys", "row_count"].level == "WARN"


@pytest.mark.usefixtures("observe")
def test_an_empty_list_of_an_empty_table_is_covered(project: Project, service: Sandbox, clock: Clock):
    empty(service, "deploys")
    for hours in range(2):
        assert tick().window.end == START + hours * HOUR
        clock.shift(HOUR)
    assert project.rows("deploys") == []
    assert len(coverage(project)) == 2


@pytest.mark.usefixtures("observe")
def test_an_empty_list_of_another_service_is_covered(project: Project, service: Sandbox):
    tick()
    with Sandbox(history_days=1) as other:
        empty(other, "deploys")
        project.use(other)
        assert tick().window.end == START
        assert {source for (source,) in project.rows("load_windows", "source")} == {service.url, other.url}


@pytest.mark.usefixtures("observe")
def test_metrics_of_no_item_are_accepted(project: Project, service: Sandbox):
    assert project.materialize("items").success
    assert load("top_active_items").rows_loaded > 0
    empty(service, "top_active_items")
    assert load("top_active_items").rows_loaded == 0


@pytest.mark.parametrize(
    ("earlier", "accepted"),
    [
        pytest.param([], False, id="the first"),
        pytest.param([48], False, id="the second"),
        pytest.param([24, 1], True, id="the third, a day later"),
        pytest.param([23.9, 1], False, id="the third, too early"),
        pytest.param([25, 20, 1, 0.5], True, id="the fifth"),
        pytest.param([1, -30], False, id="an earlier load's clock was ahead"),
    ],
)
def test_an_empty_list_is_accepted_after_three_loads_over_a_day(earlier: list[float], *, accepted: bool):
    assert accepts_empty_list([START - hours * HOUR for hours in earlier], START) is accepted


# -- the largest key of covered rows ----------------------------------------------------------------------------


@pytest.fixture
def known_keys(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """The known keys of the loads, in order."""
    keys: list[int | None] = []

    def source(readings: Sequence[Reading], **named: Any) -> Any:
        keys.extend(reading.request.known_key for reading in readings)
        return build_source(readings, **named)

    monkeypatch.setattr(load_module, "build_source", source)
    return keys


def test_a_load_that_resumes_knows_the_largest_key_that_earlier_loads_covered(
    service: Sandbox, clock: Clock, known_keys: list[int | None]
):
    tick()
    before = max(row["id"] for row in service.rows("deploys"))
    clock.shift(HOUR)
    service.add_deploy()
    # A newer row is there as well, but nothing covers the hour before it.
    assert load("deploys", Window(start=START + HOUR - timedelta(minutes=1), end=START + 2 * HOUR)).new_rows > 0
    tick()

    assert known_keys == [None, None, before]


@pytest.mark.usefixtures("service")
@pytest.mark.parametrize("name", ["items", "deploys"])
def test_only_loads_that_resume_at_the_end_of_coverage_know_a_key(
    name: str, clock: Clock, known_keys: list[int | None]
):
    today = Window(start=TODAY, end=TODAY + DAY)
    load(name, today, resume=True)
    clock.shift(HOUR)
    load(name, today)
    load(name)
    clock.shift(HOUR)
    load(name, today, resume=True)

    *before, resumed = known_keys
    assert before == [None] * 3
    assert (resumed is not None) == (name == "deploys")


@pytest.mark.every_warehouse
@pytest.mark.usefixtures("service")
def test_a_table_that_is_empty_or_missing_has_no_largest_key(project: Project):
    resource = get_resource("deploys")
    with open_load_state(load_settings(), pipelines_dir=str(project.folder)) as load_state:
        assert load_state.largest_keys(resource, {projects.Project(): START}) == {}
    tick()
    project.execute("DELETE FROM analytics.deploys")
    with open_load_state(load_settings(), pipelines_dir=str(project.folder)) as load_state:
        assert load_state.largest_keys(resource, {projects.Project(): START}) == {}
