"""The study on seeds of the sandbox: what is true of a deploy; the published figures are current and meet limits."""

from dataclasses import replace
from pathlib import Path

import pytest

from analytics_dagster.sandbox import Deploy, SandboxProject, Surge
from analytics_dagster.sandbox.world import World
from analytics_dagster_tests.study.seeds import report
from analytics_dagster_tests.study.seeds.__main__ import DOCUMENT, RESULTS
from analytics_dagster_tests.study.seeds.loading import Judged, judge_seeds
from analytics_dagster_tests.study.seeds.results import SAMPLE, Results, count_verdicts, judge, read_results
from analytics_dagster_tests.study.seeds.truth import HOUR, MINUTE, Situation, expected_drift, situation_of

PUBLISHED = read_results(RESULTS)
FINISH = 1_759_760_460


def a_deploy(*, at: int = FINISH, factor: int = 0, lasts: int = 2 * HOUR, rolls_back: int | None = None) -> Deploy:
    surge = Surge(factor=factor, end=at + lasts) if factor else None
    return Deploy(1, "production", "a", at - MINUTE, at, surge=surge, rolls_back=rolls_back)


def occurrences_around(deploy: Judged) -> tuple[int, int]:
    """Return the occurrences of the two hours before a deploy and of the hour after it, as the sandbox draws them."""
    world = World(SandboxProject(name="the-same", id=1000 + deploy.seed, seed=deploy.seed))
    finish = int(deploy.finish.timestamp())
    days = {second // (24 * HOUR) for second in (finish - 2 * HOUR, finish + HOUR)}
    times = [
        occurrence.timestamp
        for day in days
        for occurrence in world.occurrences(day)
        if occurrence.item.environment == deploy.environment
    ]
    return (
        sum(finish - 2 * HOUR <= second < finish for second in times),
        sum(finish <= second < finish + HOUR for second in times),
    )


@pytest.mark.parametrize(
    ("deploy", "situation"),
    [
        (a_deploy(), Situation.HARMLESS),
        (a_deploy(factor=2), Situation.TWICE),
        (a_deploy(factor=4), Situation.FOUR_TIMES),
        (a_deploy(factor=2, lasts=HOUR), Situation.TWICE),
        (a_deploy(factor=2, lasts=HOUR - 1), Situation.TWICE_HEALED),
        (a_deploy(factor=4, lasts=30 * MINUTE), Situation.FOUR_TIMES_HEALED),
        (a_deploy(rolls_back=7), Situation.ROLLBACK),
    ],
)
def test_the_situation_of_a_deploy_is_what_it_did_within_the_hour(deploy: Deploy, situation: Situation):
    assert situation_of(deploy, [deploy]) is situation


@pytest.mark.parametrize(
    ("finished_before", "lasts", "confounds"),
    [
        (4 * HOUR, 2 * HOUR, False),
        (4 * HOUR, 2 * HOUR + 1, True),
        (5 * MINUTE, HOUR, True),
        (-HOUR + 1, HOUR, True),
        (-HOUR, HOUR, False),
    ],
)
def test_a_harmless_deploy_is_confounded_by_errors_of_another_in_its_three_hours(
    finished_before: int, lasts: int, *, confounds: bool
):
    other = a_deploy(at=FINISH - finished_before, factor=2, lasts=lasts)
    assert (situation_of(a_deploy(), [other]) is Situation.CONFOUNDED) is confounds
    assert situation_of(a_deploy(), [other._replace(environment="staging")]) is Situation.HARMLESS


def test_the_rhythm_raises_the_rate_in_the_morning_and_lowers_it_at_night():
    midnight = FINISH // (24 * HOUR) * 24 * HOUR
    drifts = [expected_drift(midnight + hour * HOUR) for hour in range(24)]
    assert max(drifts) == drifts[7] == pytest.approx(1.33, abs=0.01)
    assert min(drifts) == drifts[0] == pytest.approx(0.75, abs=0.01)


def test_seeds_that_are_loaded_with_the_assets_have_the_published_verdicts():
    judged = judge_seeds(SAMPLE, days=PUBLISHED.days)
    assert count_verdicts(judged) == list(PUBLISHED.cells_of_sample), "run `make study-seeds`"
    for each in judged:
        assert (each.before, each.after) == occurrences_around(each)
    found = [each.verdict for each in judged if each.situation is Situation.FOUR_TIMES and each.before > 60]
    assert found
    assert set(found) == {"worse"}


def test_false_alarms_on_200_seeds_are_below_the_limit_and_fourfold_deploys_are_found():
    assert PUBLISHED.seeds == 200
    judged = list(judge(PUBLISHED))
    assert [each for each in judged if not each.met] == []
    assert not any("not loaded" in cell.late for cell in PUBLISHED.cells)
    fourfold = PUBLISHED.select(Situation.FOUR_TIMES, environment="production")
    assert sum(cell.late["worse"] for cell in fourfold) / sum(cell.deploys for cell in fourfold) > 0.95


def test_false_alarms_above_the_limit_are_told():
    harmless = PUBLISHED.select(Situation.HARMLESS)
    worse = [replace(cell, either={"worse": cell.deploys, "better": 0}) for cell in harmless]
    judged = list(judge(Results(seeds=1, days=3, cells=worse, cells_of_sample=[], false_alarms=[])))
    assert {(each.name, each.met) for each in judged} == {
        ("harmless deploys that are worse", False),
        ("harmless deploys that are better", True),
    }


def test_the_document_has_the_published_figures():
    assert DOCUMENT.read_text() == report.current(DOCUMENT.read_text(), PUBLISHED), "run `make study-seeds`"


def test_results_are_written_and_read(tmp_path: Path):
    PUBLISHED.write(tmp_path / "results.json", thresholds=[])
    assert read_results(tmp_path / "results.json") == PUBLISHED
