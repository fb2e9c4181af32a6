"""Checks of loaded times: freshness passes, warns, then fails; complete_history names the missing days."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from analytics_dagster.catalog import RESOURCES, Freshness, get_resource
from analytics_dagster.definitions import build_definitions, definition_settings, defs
from analytics_dagster.defs.asset_checks.freshness import (
    Coverage,
    coverage_of_windows,
    coverage_start,
    evaluate_complete_history,
    evaluate_freshness,
    evaluate_never_loaded,
)
from analytics_dagster.defs.partitions import build_partitions
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.windows import LoadedWindow, LoadedWindows, Window, gaps
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, checked

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LIMITS = Freshness(warn_after=timedelta(hours=1), fail_after=timedelta(hours=4))
ITEMS = dg.AssetKey(["analytics", "items"])
NAMES = [resource.name for resource in RESOURCES]


def at(day: int, hour: float = 0) -> datetime:
    """A moment in November 2026."""
    return datetime(2026, 11, day, tzinfo=UTC) + timedelta(hours=hour)


def window(start: datetime | None, end: datetime) -> Window:
    return Window(start=start, end=end)


def loaded_window(
    start: datetime | None, end: datetime, list_end: datetime | None = None, loaded_at: datetime = NOON
) -> LoadedWindow:
    return LoadedWindow(start=start, end=end, list_end=list_end, loaded_at=loaded_at)


def level(result: dg.AssetCheckResult) -> str:
    return "PASS" if result.passed else result.severity.value


def figures(result: dg.AssetCheckResult) -> dict[str, Any]:
    return {name: value.value for name, value in result.metadata.items()}


# -- the policy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_spec_has_a_freshness_policy_with_the_catalogs_limits(name: str):
    (spec,) = [spec for spec in defs.resolve_all_asset_specs() if spec.key.path == ["analytics", name]]
    limits = get_resource(name).freshness
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(limits.fail_after, limits.warn_after)


# -- how fresh ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("age", "expected", "said"),
    [
        (timedelta(minutes=-1), "PASS", "0 s ago: within the limit of 1 h."),
        (timedelta(seconds=8), "PASS", "8 s ago: within the limit of 1 h."),
        (timedelta(minutes=60), "PASS", "1 h ago: within the limit of 1 h."),
        (timedelta(minutes=61), "WARN", "1.02 h ago: over the limit of 1 h."),
        (timedelta(hours=4), "WARN", "4 h ago: over the limit of 1 h."),
        (timedelta(hours=4, seconds=1), "ERROR", "4 h ago: over the limit of 4 h."),
        (timedelta(days=9), "ERROR", "9 days ago: over the limit of 4 h."),
    ],
)
def test_data_is_fresh_then_warned_of_then_an_error(age: timedelta, expected: str, said: str):
    newest_row = NOON - age - timedelta(hours=2)
    result = evaluate_freshness(LIMITS, Coverage(through=NOON - age), newest_row, now=NOON)
    assert level(result) == expected
    assert said in (result.description or "")
    assert figures(result) == {
        "loaded_through": (NOON - age).timestamp(),
        "age_seconds": max(age.total_seconds(), 0),
        "warn_after_seconds": 3600,
        "fail_after_seconds": 14400,
        "newest_record": newest_row.timestamp(),
        "newest_record_age_seconds": age.total_seconds() + 7200,
    }


def test_a_table_that_was_never_loaded_is_a_warning():
    assert level(evaluate_never_loaded(LIMITS)) == "WARN"


@pytest.mark.parametrize(
    ("fail_after", "start_date", "now", "since"),
    [
        pytest.param(timedelta(hours=4), date(2026, 11, 1), NOON, at(23), id="the beginning of yesterday"),
        pytest.param(timedelta(hours=4), date(2026, 11, 1), at(24), at(23), id="at midnight"),
        pytest.param(timedelta(hours=4), date(2026, 11, 24), NOON, at(24), id="the first day is today"),
        pytest.param(timedelta(days=3), date(2026, 11, 1), NOON, at(21), id="far enough for the limit to be reached"),
    ],
)
def test_coverage_is_asked_for_from_yesterday_on(fail_after: timedelta, start_date: date, now: datetime, since):
    limits = Freshness(warn_after=timedelta(hours=1), fail_after=fail_after)
    assert coverage_start(limits, start_date=start_date, now=now) == since


@pytest.mark.parametrize(
    ("windows", "expected", "said"),
    [
        pytest.param([window(at(1), at(24, 11.9))], "PASS", "Loaded through 2026-11-24 11:54", id="all"),
        pytest.param([window(None, at(24, 11.9))], "PASS", "Loaded through 2026-11-24 11:54", id="in full"),
        pytest.param(
            [window(at(1), at(2)), window(at(23), at(24, 11.9))],
            "PASS",
            "Loaded through 2026-11-24 11:54",
            id="an old gap is none of its business",
        ),
        pytest.param([window(at(23), at(24, 10))], "WARN", "Loaded through 2026-11-24 10:00", id="two hours old"),
        pytest.param(
            [window(at(23), at(23, 20)), window(at(24), at(24, 11.9))],
            "ERROR",
            "Loaded through 2026-11-23 20:00 UTC, 16 h ago",
            id="a gap last evening, though this morning is there",
        ),
        pytest.param(
            [window(at(24), at(24, 11.9))],
            "ERROR",
            "No load covers the time from 2026-11-23 00:00 UTC",
            id="only today",
        ),
        pytest.param(
            [window(at(1), at(9))], "ERROR", "No load covers the time from 2026-11-23 00:00 UTC", id="only long ago"
        ),
    ],
)
def test_windows_are_as_fresh_as_their_coverage_since_yesterday(windows: list[Window], expected: str, said: str):
    result = evaluate_freshness(LIMITS, coverage_of_windows(windows, at(23)), None, now=NOON)
    assert level(result) == expected
    assert (result.description or "").startswith(said), result.description


def test_the_first_load_of_a_new_installation_is_fresh():
    assert evaluate_freshness(LIMITS, coverage_of_windows([], at(24)), None, now=at(24, 0.5)).passed


# -- history ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "missing"),
    [
        ([], [(1, 5)]),
        ([window(None, at(9))], []),
        ([window(at(1), at(5))], []),
        ([window(at(2), at(3))], [(1, 2), (3, 5)]),
        ([window(at(2), at(4)), window(None, at(1, 12))], [(1.5, 2), (4, 5)]),
        ([window(at(4), at(9)), window(at(1), at(3))], [(3, 4)]),
        ([window(at(9), at(10))], [(1, 5)]),
    ],
)
def test_gaps_are_what_no_window_covers(windows: list[Window], missing: list[tuple[float, float]]):
    expected = [window(at(1, 24 * (first - 1)), at(1, 24 * (last - 1))) for first, last in missing]
    assert list(gaps(windows, window(at(1), at(5)))) == expected


def history(
    windows: list[Window], now: datetime = NOON, future: list[LoadedWindow] | None = None, **settings: str
) -> tuple[bool, str, dict[str, Any]]:
    partitions = build_partitions(Settings(start_date=date(2026, 11, 1), **settings))
    valid = [one if isinstance(one, LoadedWindow) else loaded_window(one.start, one.end) for one in windows]
    found = LoadedWindows(valid=valid, future=future or [])
    result = evaluate_complete_history(get_resource("items"), found, partitions, keep_from=None, shortfalls=[], now=now)
    return result.passed, result.description or "", figures(result)


def command(first: str, last: str) -> str:
    return f"dg launch --assets 'key:\"analytics/items\"' --partition-range '{first}...{last}'"


def test_history_without_a_gap_is_complete():
    passed, sentence, found = history([window(at(1), at(24, 11))])
    assert (passed, sentence) == (True, "All 23 days since 2026-11-01 are loaded.")
    assert found == {"days": 23, "days_missing": 0, "days_with_fewer_rows": 0, "first_day": "2026-11-01"}


def test_missing_days_are_named_as_ranges_with_the_backfill_that_loads_them():
    passed, sentence, found = history([window(at(4), at(9)), window(at(10), at(24, 11))])
    assert not passed
    assert sentence == (
        "4 of 23 days since 2026-11-01 not loaded: 2026-11-01 to 2026-11-03, 2026-11-09. Launch a backfill in the UI, "
        f"or run: {command('2026-11-01', '2026-11-03')} ; {command('2026-11-09', '2026-11-09')}"
    )
    assert found["missing"] == ["2026-11-01 to 2026-11-03", "2026-11-09"]
    assert found["days_missing"] == 4


def test_the_backfill_of_hourly_partitions_names_hours():
    _, sentence, _ = history([window(at(3), at(24, 11))], partition="hourly")
    assert sentence.endswith(command("2026-11-01-00:00", "2026-11-02-23:00"))


def test_many_gaps_are_one_backfill_from_the_first_to_the_last():
    windows = [window(at(day), at(day + 1)) for day in range(1, 24, 2)]
    _, sentence, found = history(windows)
    assert sentence.endswith(f"or run: {command('2026-11-02', '2026-11-22')}")
    assert "2026-11-02, 2026-11-04, 2026-11-06, 2026-11-08, 2026-11-10 and 6 more." in sentence
    assert len(found["missing"]) == 11


def test_a_day_that_is_partly_there_is_missing():
    _, _, found = history([window(at(1), at(20, 18)), window(at(20, 19), at(24, 11))])
    assert found["missing"] == ["2026-11-20"]


def test_history_before_the_end_of_the_services_list_is_complete_and_says_so():
    passed, sentence, found = history([loaded_window(at(1), at(24, 11), list_end=at(5, 10))])
    assert (passed, sentence) == (
        True,
        "All 23 days since 2026-11-01 are loaded. The service lists nothing before 2026-11-05 10:00 UTC.",
    )
    assert found["listed_from"] == at(5, 10).timestamp()


def test_missing_days_are_named_beside_the_end_of_the_services_list():
    _, sentence, _ = history([loaded_window(at(1), at(20), list_end=at(5, 10)), window(at(21), at(24, 11))])
    assert sentence.startswith(
        "1 of 23 days since 2026-11-01 not loaded: 2026-11-20. The service lists nothing before 2026-11-05 10:00 UTC. "
        "Launch a backfill in the UI, or run: "
    )
    assert sentence.endswith(command("2026-11-20", "2026-11-20"))


def test_coverage_that_is_ignored_is_named_with_the_days_that_are_missing_without_it():
    passed, sentence, found = history([window(at(1), at(23))], future=[loaded_window(at(23), at(25, 8))])
    assert not passed
    assert sentence.startswith(
        "1 of 23 days since 2026-11-01 not loaded: 2026-11-23. Recorded coverage that ends in the future, at "
        "2026-11-25 08:00 UTC, is ignored: the clock of an earlier load was ahead. Launch a backfill in the UI"
    )
    assert found["windows_ignored"] == 1


@pytest.mark.parametrize(("hour", "passed"), [(3.9, True), (4, False)])
def test_the_end_of_yesterday_is_a_matter_of_freshness_for_some_hours(hour: float, *, passed: bool):
    assert history([window(at(1), at(23, 23.8))], now=at(24, hour))[0] is passed


def test_on_the_first_day_there_is_no_history_yet():
    assert history([], now=at(1, 12))[:2] == (True, "All 0 days since 2026-11-01 are loaded.")


# -- end to end ---------------------------------------------------------------------------------------------------


@pytest.fixture
def loaded(project: Project, service: Sandbox) -> Project:
    project.use(service)
    assert project.materialize("deploys").success
    assert project.materialize("users").success
    return project


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.parametrize(
    ("hours", "level"),
    [(0.9, "PASS"), (1.5, "WARN"), (5, "ERROR")],
)
def test_windows_that_end_earlier_and_earlier_warn_then_fail(loaded: Project, hours: float, level: str):
    loaded.execute(
        f"UPDATE analytics.load_windows SET window_end = now() - CAST('{round(hours * 60)} minutes' AS INTERVAL)"
    )
    result = checked(loaded)["deploys", "freshness"]
    assert result.level == level
    assert result.metadata["age_seconds"] == pytest.approx(hours * 3600, abs=120)
    assert result.metadata["newest_record_age_seconds"] > 0


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.parametrize(("hours", "level"), [(25, "PASS"), (27, "WARN"), (51, "ERROR")])
def test_a_listing_that_was_read_longer_and_longer_ago_warns_then_fails(loaded: Project, hours: int, level: str):
    loaded.execute(f"UPDATE analytics.users SET read_at = now() - CAST('{hours} hours' AS INTERVAL)")
    result = checked(loaded)["users", "freshness"]
    assert result.level == level
    assert result.metadata["age_seconds"] == pytest.approx(hours * 3600, abs=120)
    assert (result.metadata["warn_after_seconds"], result.metadata["fail_after_seconds"]) == (26 * 3600, 50 * 3600)


def test_what_was_never_loaded_warns(loaded: Project):
    result = checked(loaded)["teams", "freshness"]
    assert (result.level, result.description) == ("WARN", "Never loaded. Materialize the asset.")


@pytest.mark.every_warehouse
def test_metrics_of_no_item_are_fresh_as_long_as_they_are_asked_for(project: Project, service: Sandbox):
    project.use(service)
    assert project.materialize("items_metrics").success
    assert project.rows("items_metrics") == []
    assert checked(project)["items_metrics", "freshness"].level == "PASS"


def test_a_load_into_another_file_makes_nothing_fresh(project: Project, service: Sandbox):
    project.use(service)
    assert project.materialize("items_metrics").success
    project.warehouse.rename(project.folder / "other.duckdb")
    project.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", "other.duckdb")
    assert checked(project)["items_metrics", "freshness"].level == "WARN"


@pytest.mark.every_warehouse
def test_missing_history_is_found_and_the_backfill_it_names_completes_it(project: Project, service: Sandbox):
    first = (datetime.now(UTC) - timedelta(days=3)).strftime("%Y-%m-%d")
    project.use(service, start_date=first)
    assert project.materialize("deploys", partition=datetime.now(UTC).strftime("%Y-%m-%d")).success
    result = checked(project)["deploys", "complete_history"]
    assert result.level == "WARN"
    start, end = result.description.rpartition("--partition-range '")[2].rstrip("'").split("...")
    assert start == first
    assert project.materialize("deploys", span=(start, end)).success
    # Until some hours after midnight yesterday is not asked for; then it was part of the backfill.
    assert checked(project)["deploys", "complete_history"].level == "PASS"


def test_the_command_that_is_named_selects_the_asset():
    graph = build_definitions(definition_settings()).resolve_asset_graph()
    selection = dg.AssetSelection.from_string('key:"analytics/items"')
    assert selection.resolve(graph) == {ITEMS}
