"""Verdicts on deploys in a real warehouse: of which windows they are made, and what corrects them.

Errors come every minute, so that each ten minutes have ten and the dispersion is 1.
"""

from typing import Any

import pytest

from analytics_dagster.insights import deploy_impact
from analytics_dagster_tests.support.insights import DAY, HOUR, MINUTE, LoadedHistory, at

OTHER_PROJECT = 2002
BEGUN = -3 * DAY


def usual_errors(history: LoadedHistory, *, until: float = 3 * HOUR, **columns: Any) -> None:
    """Add an error a minute for three days."""
    history.errors(since=BEGUN, until=until, every=MINUTE, **columns)


def more_errors(history: LoadedHistory, *, since: float = 0, until: float = HOUR, **columns: Any) -> None:
    """Add four errors a minute."""
    history.errors(since=since + 1, until=until, every=15, **columns)


# -- verdicts -------------------------------------------------------------------------------------------------


@pytest.mark.every_warehouse
def test_a_deploy_after_which_errors_rise_is_worse_with_its_figures(history: LoadedHistory):
    usual_errors(history)
    more_errors(history)
    history.deploy(1, finish=0, user_id=301)
    history.load()

    row = history.refresh()[1]

    assert (row["verdict"], row["provisional"], row["minutes"]) == ("worse", False, 60)
    assert (row["occurrences_before"], row["occurrences_after_20"], row["occurrences_after_60"]) == (120, 100, 300)
    assert (row["per_minute_before"], row["per_minute_after_20"], row["per_minute_after_60"]) == (1, 5, 5)
    assert (row["dispersion"], row["ratio"]) == (1, 5)
    assert row["ratio_low"] < 5 < row["ratio_high"]
    assert 1 < row["smallest_ratio"] < 2
    assert row["p_value"] < 0.001
    assert (row["project_id"], row["environment"], row["revision"]) == (1001, "production", "revision-1")
    assert (row["status"], row["user_id"], row["local_username"]) == ("succeeded", 301, None)
    assert (row["start_time"], row["finish_time"]) == (at(-5 * MINUTE), at(0))
    assert row["computed_at"] == at(3 * HOUR)


@pytest.mark.parametrize(
    ("loaded_until", "verdict", "provisional", "minutes"),
    [
        (0, "too early", True, 0),
        (19 * MINUTE, "too early", True, 0),
        (20 * MINUTE, "worse", True, 20),
        (59 * MINUTE, "worse", True, 20),
        (60 * MINUTE, "worse", False, 60),
    ],
)
def test_the_verdict_is_of_the_time_that_is_loaded(
    history: LoadedHistory,
    loaded_until: float,
    verdict: str,
    provisional: bool,  # noqa: FBT001
    minutes: int,
):
    usual_errors(history, until=loaded_until)
    more_errors(history, until=min(loaded_until, HOUR))
    history.deploy(1, finish=0)
    history.load(covering=[(BEGUN, loaded_until)])

    row = history.refresh()[1]

    assert (row["verdict"], row["provisional"], row["minutes"]) == (verdict, provisional, minutes)
    assert (row["occurrences_after_20"] is None) == (loaded_until < 20 * MINUTE)
    assert (row["occurrences_after_60"] is None) == (loaded_until < 60 * MINUTE)


@pytest.mark.every_warehouse
def test_an_error_at_the_finish_is_after_it_and_one_two_hours_before_it_counts(history: LoadedHistory):
    history.errors(since=-2 * HOUR - 1, until=-2 * HOUR + 1, every=1)
    history.errors(since=-1, until=1, every=1)
    history.errors(since=HOUR - 1, until=HOUR + 1, every=1)
    history.deploy(1, finish=0)
    history.load()

    row = history.refresh()[1]

    assert (row["occurrences_before"], row["occurrences_after_20"], row["occurrences_after_60"]) == (2, 1, 2)


@pytest.mark.every_warehouse
def test_windows_reach_over_midnight_and_over_partitions_that_meet_there(history: LoadedHistory):
    midnight = -12 * HOUR
    usual_errors(history, until=midnight + 5 * MINUTE + HOUR)
    history.deploy(1, finish=midnight + 5 * MINUTE)
    history.load(covering=[(BEGUN, midnight), (midnight, midnight + 2 * HOUR)])

    row = history.refresh()[1]

    assert (row["verdict"], row["occurrences_before"], row["occurrences_after_60"]) == ("unchanged", 120, 60)


@pytest.mark.parametrize(
    "covering",
    [
        pytest.param([(BEGUN, -2 * HOUR), (-HOUR, 3 * HOUR)], id="a gap before"),
        pytest.param([(-HOUR, 3 * HOUR)], id="nothing before"),
        pytest.param([(BEGUN, 0), (2 * HOUR, 3 * HOUR)], id="a gap after"),
        pytest.param([(BEGUN, 30 * MINUTE), (40 * MINUTE, 3 * HOUR)], id="a gap between both looks"),
        pytest.param([], id="no load is recorded"),
    ],
)
def test_a_partition_that_is_not_loaded_makes_the_verdict_not_loaded(history: LoadedHistory, covering: Any):
    history.errors(since=BEGUN, until=0, every=15)  # and none after: it would be better
    history.deploy(1, finish=0)
    history.load(covering=covering)

    row = history.refresh()[1]

    assert (row["verdict"], row["provisional"], row["ratio"]) == ("not loaded", True, None)


def test_a_later_load_that_leaves_a_gap_makes_a_verdict_that_was_too_early_not_loaded(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=0)
    history.load(covering=[(BEGUN, 10 * MINUTE)])
    assert history.refresh(after=2 * MINUTE)[1]["verdict"] == "too early"

    history.load(covering=[(2 * HOUR, 3 * HOUR)])

    assert history.refresh(after=15 * MINUTE)[1]["verdict"] == "not loaded"


@pytest.mark.every_warehouse
def test_a_load_of_every_row_computes_every_verdict_again(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=-DAY)
    history.deploy(2, finish=0)
    history.load()
    history.refresh(after=2 * MINUTE)

    history.load(covering=[(None, 3 * HOUR)])
    history.refresh(after=15 * MINUTE)

    assert (history.report.impact.computed, history.report.impact.changed) == (2, 0)


@pytest.mark.every_warehouse
def test_once_the_gap_is_loaded_the_verdict_is_made(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=0)
    history.load(covering=[(BEGUN, 0), (2 * HOUR, 3 * HOUR)])
    assert history.refresh()[1]["verdict"] == "not loaded"

    history.load(covering=[(0, 2 * HOUR)])

    assert history.refresh(after=HOUR)[1]["verdict"] == "unchanged"


@pytest.mark.every_warehouse
def test_windows_whose_rows_are_gone_cover_nothing(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=0)
    history.load()
    history.run("DELETE FROM {occurrences}")

    assert history.refresh()[1]["verdict"] == "not loaded"


@pytest.mark.every_warehouse
def test_no_occurrences_at_all_are_too_few(history: LoadedHistory):
    history.deploy(1, finish=0)
    history.load()

    row = history.refresh()[1]

    assert (row["verdict"], row["occurrences_before"], row["occurrences_after_60"], row["ratio"]) == (
        "too few",
        0,
        0,
        None,
    )


def test_with_less_than_a_day_of_history_every_verdict_is_too_few(history: LoadedHistory):
    usual_errors(history)
    more_errors(history)
    history.deploy(1, finish=0)
    history.load(covering=[(-25 * HOUR, 3 * HOUR)])
    assert history.refresh()[1]["verdict"] == "too few"

    history.load(covering=[(-27 * HOUR, -24 * HOUR)])

    assert history.refresh(after=HOUR)[1]["verdict"] == "worse"


# -- whose occurrences ----------------------------------------------------------------------------------------


@pytest.mark.every_warehouse
def test_two_projects_with_one_environments_name_do_not_mix(history: LoadedHistory):
    usual_errors(history)
    usual_errors(history, project_id=OTHER_PROJECT)
    more_errors(history, project_id=OTHER_PROJECT)
    history.deploy(1, finish=0)
    history.deploy(2, finish=0, project_id=OTHER_PROJECT)
    history.load()
    history.load(project=OTHER_PROJECT)

    rows = history.refresh()

    assert {key: row["verdict"] for key, row in rows.items()} == {1: "unchanged", 2: "worse"}
    assert [row["overlapping_deploys"] for row in rows.values()] == [[], []]


def test_the_coverage_of_one_project_does_not_speak_for_another(history: LoadedHistory):
    usual_errors(history)
    usual_errors(history, project_id=OTHER_PROJECT)
    history.deploy(1, finish=0)
    history.deploy(2, finish=0, project_id=OTHER_PROJECT)
    history.load()

    assert {key: row["verdict"] for key, row in history.refresh().items()} == {1: "unchanged", 2: "not loaded"}


@pytest.mark.every_warehouse
def test_an_environment_whose_name_differs_in_case_is_the_same(history: LoadedHistory):
    usual_errors(history, environment="production")
    more_errors(history, environment="PRODUCTION")
    history.deploy(1, finish=0, environment="Production")
    history.load()

    row = history.refresh()[1]

    assert (row["verdict"], row["environment"], row["occurrences_after_60"]) == ("worse", "Production", 300)


@pytest.mark.every_warehouse
def test_occurrences_without_a_project_belong_to_the_only_one(history: LoadedHistory):
    usual_errors(history)
    more_errors(history, project_id=None)
    history.deploy(1, finish=0)
    history.load()
    assert history.refresh()[1]["verdict"] == "worse"

    history.deploy(2, finish=-DAY, project_id=OTHER_PROJECT)
    history.load(covering=())

    assert history.refresh(recompute=True)[1]["verdict"] == "unchanged"


def test_coverage_without_a_project_belongs_to_the_only_one(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=0)
    history.load(project=None)

    assert history.refresh()[1]["verdict"] == "unchanged"


def test_occurrences_of_another_environment_and_of_none_do_not_count(history: LoadedHistory):
    usual_errors(history)
    more_errors(history, environment="staging")
    more_errors(history, environment=None)
    history.deploy(1, finish=0)
    history.load()

    assert history.refresh()[1]["verdict"] == "unchanged"


# -- deploys --------------------------------------------------------------------------------------------------


def test_a_deploy_without_a_finish_has_no_row_until_it_settles(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=None, start=0)
    history.load()
    assert history.refresh() == {}

    history.deploy(1, finish=10 * MINUTE, start=0, status="failed")
    history.load(covering=())
    row = history.refresh(after=HOUR)[1]

    assert (row["verdict"], row["status"], row["finish_time"]) == ("unchanged", "failed", at(10 * MINUTE))


def test_a_finish_that_changes_moves_the_windows(history: LoadedHistory):
    usual_errors(history)
    more_errors(history, since=HOUR, until=2 * HOUR)
    history.deploy(1, finish=0)
    history.load()
    assert history.refresh()[1]["verdict"] == "unchanged"

    history.deploy(1, finish=HOUR, start=-5 * MINUTE)
    history.load(covering=())

    assert history.refresh(after=HOUR)[1]["verdict"] == "worse"


def test_a_deploy_that_is_gone_has_no_row(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=0)
    history.deploy(2, finish=-DAY)
    history.load()
    assert set(history.refresh()) == {1, 2}

    history.run("DELETE FROM {deploys} WHERE id = 1")

    assert set(history.refresh(after=HOUR)) == {2}
    assert history.report.impact.changed == 1


@pytest.mark.every_warehouse
def test_overlapping_deploys_name_each_other_and_a_later_one_is_added(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=0)
    history.deploy(2, finish=10 * MINUTE)
    history.deploy(3, finish=0, environment="staging")
    history.load()
    rows = history.refresh()
    assert {key: row["overlapping_deploys"] for key, row in rows.items()} == {1: [2], 2: [1], 3: []}

    history.deploy(4, finish=None, start=50 * MINUTE)
    history.load(covering=())

    rows = history.refresh(after=HOUR)
    assert {key: row["overlapping_deploys"] for key, row in rows.items()} == {1: [2, 4], 2: [1, 4], 3: []}


def test_a_rollback_brings_back_a_revision_that_was_live_before(history: LoadedHistory):
    usual_errors(history)
    for number, (revision, status) in enumerate(
        [("a", "succeeded"), ("b", "succeeded"), ("c", "failed"), ("b", "succeeded"), ("a", "succeeded")]
    ):
        history.deploy(number, finish=(number - 5) * HOUR, revision=revision, status=status)
    history.load()

    assert [row["is_rollback"] for _, row in sorted(history.refresh().items())] == [False, False, False, False, True]


# -- what is computed again -----------------------------------------------------------------------------------


@pytest.mark.every_warehouse
def test_late_occurrences_correct_a_verdict_that_had_settled(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=0)
    history.load()
    assert history.refresh()[1]["verdict"] == "unchanged"

    more_errors(history)
    history.load(covering=[(-12 * HOUR, 12 * HOUR)])

    assert history.refresh(after=DAY)[1]["verdict"] == "worse"


@pytest.mark.every_warehouse
def test_a_tick_with_nothing_new_computes_no_verdict(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=0)
    history.load()
    before = history.refresh(after=2 * MINUTE)

    history.load(covering=[(3 * HOUR, 3.25 * HOUR)])
    after = history.refresh(after=15 * MINUTE)

    assert (history.report.impact.computed, history.report.impact.rows) == (0, 1)
    assert after == before


def test_only_the_deploys_whose_windows_were_loaded_again_are_computed(history: LoadedHistory):
    usual_errors(history)
    history.deploy(1, finish=-DAY)
    history.deploy(2, finish=0)
    history.load()
    history.refresh(after=2 * MINUTE)

    history.load(covering=[(10 * MINUTE, 3 * HOUR)])
    history.refresh(after=15 * MINUTE)

    assert (history.report.impact.computed, history.report.impact.changed) == (1, 0)


@pytest.mark.every_warehouse
def test_the_rows_are_the_same_as_when_all_are_computed_again(history: LoadedHistory):
    for day in range(-3, 1):
        usual_errors(history, until=day * DAY) if day == -3 else more_errors(
            history, since=day * DAY, until=day * DAY + HOUR
        )
        history.deploy(day + 10, finish=day * DAY)
        history.item(day + 10, first_seen=day * DAY + 1)
        history.errors(since=day * DAY + 1, until=day * DAY + 100, every=10, item=day + 10)
        history.load(covering=[(BEGUN if day == -1 else (day - 1) * DAY, day * DAY + 2 * HOUR)])
        history.refresh(after=DAY)
    kept, items = history.impact(), history.items()

    again = history.refresh(after=HOUR, recompute=True)

    assert (history.report.impact.computed, history.report.impact.changed, history.report.items.changed) == (4, 0, 0)
    assert {key: row | {"computed_at": None} for key, row in again.items()} == {
        key: row | {"computed_at": None} for key, row in kept.items()
    }
    assert history.items() == items


@pytest.mark.every_warehouse
def test_a_verdict_outlives_the_occurrences_that_it_was_made_from(history: LoadedHistory):
    usual_errors(history)
    more_errors(history)
    history.deploy(1, finish=0)
    history.load()
    assert history.refresh()[1]["verdict"] == "worse"

    history.run(f"DELETE FROM {{occurrences}} WHERE timestamp < '{at(2 * HOUR):%Y-%m-%d %H:%M:%S+00}'")
    history.run(f"UPDATE {{load_windows}} SET window_start = '{at(2 * HOUR):%Y-%m-%d %H:%M:%S+00}'")
    history.deploy(2, finish=HOUR)
    history.load(covering=())
    rows = history.refresh(after=HOUR, recompute=True)

    assert (rows[1]["verdict"], rows[1]["ratio"]) == ("worse", 5)
    assert rows[1]["overlapping_deploys"] == [2]
    assert rows[2]["verdict"] == "not loaded"


@pytest.mark.every_warehouse
def test_a_refresh_that_fails_leaves_both_tables_as_they_were(history: LoadedHistory, monkeypatch: pytest.MonkeyPatch):
    usual_errors(history)
    history.deploy(1, finish=0)
    history.item(5, first_seen=1)
    history.load()
    impact, items = history.refresh(), history.items()
    more_errors(history)
    history.item(6, first_seen=2)
    history.load()

    with monkeypatch.context() as patch:
        patch.setattr(deploy_impact, "judge_all", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            history.refresh(after=HOUR)

    assert (history.impact(), history.items()) == (impact, items)
    assert history.refresh(after=HOUR)[1]["verdict"] == "worse"
    assert set(history.items()) == {(1, 5), (1, 6)}


@pytest.mark.parametrize("table", ["deploys", "items", "occurrences"])
def test_before_a_table_is_loaded_nothing_is_computed(history: LoadedHistory, table: str):
    history.deploy(1, finish=0)
    history.load()
    history.run(f"DROP TABLE {{{table}}}")

    assert history.refresh() == {}
    assert history.report.missing == [table]
