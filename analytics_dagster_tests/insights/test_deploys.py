"""Covered times, overlaps and rollbacks, as tables."""

from datetime import UTC, datetime, timedelta

import pytest

from analytics_dagster.ingest.windows import Window
from analytics_dagster.insights.covered import Covered
from analytics_dagster.insights.deploy_impact import CoveredSpells
from analytics_dagster.insights.deploys import Deploy, relate

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def window(start: float | None, end: float) -> Window:
    return Window(start=None if start is None else at(start), end=at(end))


@pytest.mark.parametrize(
    ("windows", "start", "end", "contained"),
    [
        pytest.param([], 0, 10, False, id="no windows"),
        pytest.param([(0, 10)], 0, 10, True, id="the span itself"),
        pytest.param([(5, 10), (0, 5)], 0, 10, True, id="two that meet, in any order"),
        pytest.param([(0, 6), (2, 4), (5, 10)], 0, 10, True, id="overlapping ones, one within another"),
        pytest.param([(0, 5), (6, 10)], 0, 10, False, id="a gap"),
        pytest.param([(1, 10)], 0, 10, False, id="it begins late"),
        pytest.param([(0, 9)], 0, 10, False, id="it ends early"),
        pytest.param([(None, 10)], -10_000, 10, True, id="to the oldest row"),
    ],
)
def test_a_span_is_covered_where_windows_leave_no_gap(windows, start, end, contained):
    assert Covered(window(*each) for each in windows).contains(at(start), at(end)) == contained


@pytest.mark.parametrize(
    ("windows", "before", "after", "gap"),
    [
        pytest.param([(-120, 60)], True, 6, False, id="all of it"),
        pytest.param([(-120, 500)], True, 6, False, id="more than it"),
        pytest.param([(-120, 39.9)], True, 3, False, id="the complete spells alone"),
        pytest.param([(-120, 0)], True, 0, False, id="up to the finish"),
        pytest.param([(-119, 60)], False, 6, False, id="a part of what is before"),
        pytest.param([(-120, 20), (30, 60)], True, 2, True, id="a gap after it"),
        pytest.param([(-120, 0), (100, 200)], True, 0, True, id="nothing after it, but later"),
        pytest.param([(-500, -100)], False, 0, False, id="nothing yet"),
        pytest.param([(-120, 60), (100, 200)], True, 6, False, id="a gap later"),
    ],
)
def test_the_spells_that_are_covered_around_a_finish(windows, before, after, gap):
    spells = CoveredSpells.around(NOON, Covered(window(*each) for each in windows))
    assert spells == CoveredSpells(before=before, after=after, gap=gap)


def deploy(identifier: int, start: float, finish: float | None, revision: str = "a", **columns) -> Deploy:
    return Deploy(**{
        "id": identifier,
        "project_id": 1,
        "environment": "production",
        "revision": revision,
        "status": "succeeded" if finish is not None else "started",
        "user_id": None,
        "local_username": None,
        "start_time": at(start),
        "finish_time": None if finish is None else at(finish),
        **columns,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("others", "overlapping"),
    [
        pytest.param([deploy(2, 60, 65)], [], id="it begins as the hour ends"),
        pytest.param([deploy(2, 59, 65)], [2], id="it begins within the hour"),
        pytest.param([deploy(2, -70, -65)], [], id="its hour ends as this one begins"),
        pytest.param([deploy(2, -70, -64)], [2], id="its hour reaches into this one"),
        pytest.param([deploy(2, -300, 300)], [2], id="it runs all the time"),
        pytest.param([deploy(2, 30, None)], [2], id="it still runs"),
        pytest.param([deploy(3, 1, 2), deploy(2, 3, 4)], [2, 3], id="two, in the order of their ids"),
        pytest.param([deploy(2, 0, 5, environment="staging")], [], id="another environment"),
        pytest.param([deploy(2, 0, 5, environment="Production")], [2], id="the same one in another case"),
        pytest.param([deploy(2, 0, 5, project_id=2)], [], id="another project"),
    ],
)
def test_deploys_overlap_if_their_hours_do(others, overlapping):
    relations = relate([deploy(1, -5, 0), *others])
    assert relations[1].overlapping == overlapping
    assert all((1 in relations[other].overlapping) == (other in overlapping) for other in relations.keys() - {1})


@pytest.mark.parametrize(
    ("revisions", "rollbacks"),
    [
        ("a", "-"),
        ("ab", "--"),
        ("aba", "--r"),
        ("aa", "--"),
        ("abb", "---"),
        ("abca", "---r"),
        ("abcb", "---r"),
        ("abcbc", "---rr"),
    ],
)
def test_a_rollback_is_a_revision_that_was_live_before_the_one_that_it_replaces(revisions, rollbacks):
    deploys = [deploy(number, number, number + 1, revision) for number, revision in enumerate(revisions)]
    found = relate(reversed(deploys))
    assert "".join("r" if found[number].is_rollback else "-" for number in range(len(revisions))) == rollbacks


def test_a_deploy_that_failed_never_was_live_and_brings_nothing_back():
    deploys = [
        deploy(1, 0, 1, "a"),
        deploy(2, 2, 3, "b", status="failed"),
        deploy(3, 4, 5, "c"),
        deploy(4, 6, 7, "b"),
        deploy(5, 8, 9, "a", status="timed_out"),
    ]
    assert not any(relations.is_rollback for relations in relate(deploys).values())


def test_a_deploy_that_runs_has_no_relations_of_its_own():
    assert set(relate([deploy(1, 0, None), deploy(2, 0, 5)])) == {2}
