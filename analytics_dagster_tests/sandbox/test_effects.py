"""What happens to the errors of a project: bad and harmless deploys, rollbacks, bursts, the rhythm of a day.

Sixty days of the default project are counted, which the truth about each deploy (`Deploy.surge`, `new_items`,
`rolls_back`) is held against.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import pytest

from analytics_dagster.sandbox import Deploy, Sandbox, SandboxProject
from analytics_dagster.sandbox.project import second_of
from analytics_dagster.sandbox.world import World
from analytics_dagster_tests.sandbox.client import DAY, HOUR, NOW, Clock

MINUTE = 60
BLOCK = 10 * MINUTE
DAYS = range(NOW // DAY - 60, NOW // DAY)
ENVIRONMENTS = ("production", "staging", "development")


class Error(NamedTuple):
    """An occurrence, by the second in which it was received."""

    second: int
    counter: int
    revision: str


class Past:
    """The sixty days: their deploys and the errors of each environment, oldest first."""

    def __init__(self) -> None:
        world = World(SandboxProject(name="storefront", id=1001, seed=7))
        self.deploys = [deploy for day in DAYS for deploy in world.deploys(day)]
        self.errors: dict[str, list[Error]] = defaultdict(list)
        for day in DAYS:
            for occurrence in world.occurrences(day):
                error = Error(second_of(occurrence.id), occurrence.item.counter, occurrence.code_version)
                self.errors[occurrence.item.environment].append(error)

    def between(self, environment: str, start: int, end: int) -> list[Error]:
        """Return the errors of an environment from `start` to before `end`."""
        errors = self.errors[environment]
        first, last = (bisect_left(errors, (second,)) for second in (start, end))
        return errors[first:last]

    def ratio(self, deploys: Iterable[Deploy], *, minutes: int = 60) -> float:
        """Return the errors per minute after the deploys' finishes, relative to the hour before, of all together."""
        before = after = 0.0
        for deploy in deploys:
            finish = finish_of(deploy)
            end = min(finish + minutes * MINUTE, deploy.surge.end if deploy.surge else finish + DAY)
            hour = len(self.between(deploy.environment, finish - HOUR, finish))
            before += hour * (end - finish) / HOUR
            after += len(self.between(deploy.environment, finish, end))
        return after / before

    def surges(self, environment: str) -> list[tuple[int, int]]:
        """Return the beginnings and ends of the surges of an environment."""
        return [(finish_of(d), d.surge.end) for d in self.deploys if d.surge and d.environment == environment]

    def is_calm(self, environment: str, start: int, end: int) -> bool:
        """Return whether no surge touches a span of time."""
        return all(end <= begun or over <= start for begun, over in self.surges(environment))


def finish_of(deploy: Deploy) -> int:
    """Return the finish, which all deploys of the past have."""
    assert deploy.finish is not None
    return deploy.finish


def live_before(past: Past, deploy: Deploy) -> str:
    """Return the revision that ran in the environment until a deploy's finish."""
    return max(
        (finish_of(d), d.revision)
        for d in past.deploys
        if d.environment == deploy.environment and d.outcome == "succeeded" and finish_of(d) < finish_of(deploy)
    )[1]


@pytest.fixture(scope="module")
def past() -> Past:
    """The sixty days, for tests that only read."""
    return Past()


@pytest.mark.parametrize("brings_items", [True, False])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_bad_deploy_doubles_or_quadruples_the_errors_of_its_environment(
    past: Past, factor: int, *, brings_items: bool
) -> None:
    bad = [d for d in past.deploys if d.surge and d.surge.factor == factor and bool(d.new_items) == brings_items]

    assert {deploy.environment for deploy in bad} >= {"production", "staging"}
    assert all(deploy.outcome == "succeeded" for deploy in bad)
    in_production = [deploy for deploy in bad if deploy.environment == "production"]
    assert len(in_production) > 5
    assert 0.8 * factor < past.ratio(in_production) < 1.25 * factor


def test_other_environments_do_not_notice_a_bad_deploy(past: Past) -> None:
    bad = [deploy for deploy in past.deploys if deploy.surge and deploy.environment == "staging"]
    seen = [deploy._replace(environment="production", surge=None) for deploy in bad]

    assert 0.8 < past.ratio(seen) < 1.25


def test_most_deploys_are_harmless(past: Past) -> None:
    harmless = [
        deploy
        for deploy in past.deploys
        if not deploy.surge and past.is_calm(deploy.environment, finish_of(deploy) - HOUR, finish_of(deploy) + HOUR)
    ]

    assert len(harmless) > 0.6 * len(past.deploys)
    assert all(not deploy.new_items for deploy in past.deploys if not deploy.surge)
    assert 0.93 < past.ratio(harmless) < 1.07
    assert {deploy.outcome for deploy in harmless} == {"succeeded", "failed", "timed_out"}


def test_one_deploy_in_four_to_ten_is_bad_and_half_of_those_bring_items(past: Past) -> None:
    bad = [deploy for deploy in past.deploys if deploy.surge]

    assert len(past.deploys) / 10 < len(bad) < len(past.deploys) / 4
    assert 0.35 < sum(bool(deploy.new_items) for deploy in bad) / len(bad) < 0.65


def test_new_items_are_seen_from_the_deploy_to_the_end_of_its_surge(past: Past) -> None:
    brought = [(deploy, item) for deploy in past.deploys for item in deploy.new_items]
    seen: dict[int, list[Error]] = defaultdict(list)
    for errors in past.errors.values():
        for error in errors:
            seen[error.counter].append(error)

    assert len({item.id for _, item in brought}) == len(brought) > 40
    assert sum(item.counter in seen for _, item in brought) > 0.8 * len(brought), "all but those of a quiet environment"
    for deploy, item in brought:
        assert deploy.surge
        for error in seen[item.counter]:
            assert finish_of(deploy) <= error.second <= deploy.surge.end
            assert error.revision == deploy.revision


def test_a_rollback_deploys_the_revision_before_and_heals(past: Past) -> None:
    by_id = {deploy.id: deploy for deploy in past.deploys}
    rollbacks = [deploy for deploy in past.deploys if deploy.rolls_back]
    undone = [by_id[deploy.rolls_back or 0] for deploy in rollbacks]

    assert len(rollbacks) > 15
    for bad, rollback in zip(undone, rollbacks, strict=True):
        assert bad.environment == rollback.environment
        assert rollback.revision == live_before(past, bad) != bad.revision == live_before(past, rollback)
        assert bad.surge
        assert bad.surge.end == finish_of(rollback)
        assert 12 * MINUTE <= rollback.start - finish_of(bad) <= 48 * MINUTE
    before = [past.between(d.environment, finish_of(d) - HOUR, finish_of(d)) for d in undone]
    after = [past.between(d.environment, finish_of(d) + 1, finish_of(d) + HOUR) for d in rollbacks]
    assert past.ratio(undone) > 2
    assert 0.8 < sum(map(len, after)) / sum(map(len, before)) < 1.25, "as many as before the bad deploy"


def test_no_other_deploy_deploys_a_revision_again(past: Past) -> None:
    counts = Counter(deploy.revision for deploy in past.deploys if not deploy.rolls_back)

    assert set(counts.values()) == {1}


def test_two_deploys_of_an_environment_can_finish_within_ten_minutes(past: Past) -> None:
    pairs = [
        (first, second)
        for environment in ENVIRONMENTS
        for first, second in pairwise(d for d in past.deploys if d.environment == environment)
        if second.rolls_back is None and finish_of(second) - finish_of(first) <= BLOCK
    ]

    assert len(pairs) > 15
    assert all(finish_of(first) < second.start for first, second in pairs)
    assert {(bool(first.surge), bool(second.surge)) for first, second in pairs} == {
        (False, False),
        (True, False),
        (False, True),
    }


def test_surges_of_an_environment_never_overlap(past: Past) -> None:
    for environment in ENVIRONMENTS:
        assert all(over < begun for (_, over), (begun, _) in pairwise(past.surges(environment)))


def test_environments_are_busy_less_busy_and_quiet(past: Past) -> None:
    per_hour = [len(past.errors[environment]) / len(DAYS) / 24 for environment in ENVIRONMENTS]

    assert set(past.errors) == set(ENVIRONMENTS)
    assert 90 < per_hour[0] < 150
    assert 10 < per_hour[1] < 20
    assert 1 < per_hour[2] < 4


def test_a_day_rises_and_falls_without_any_deploy(past: Past) -> None:
    hours: dict[int, list[int]] = defaultdict(list)
    deployed = [deploy.start for deploy in past.deploys if deploy.environment == "production"]
    for start in range(DAYS[0] * DAY, DAYS[-1] * DAY, HOUR):
        near = any(start - 3 * HOUR < second < start + HOUR for second in deployed)
        if not near and past.is_calm("production", start, start + HOUR):
            hours[start % DAY // HOUR].append(len(past.between("production", start, start + HOUR)))
    mean = {hour: sum(counts) / len(counts) for hour, counts in hours.items()}

    assert len(mean) == 24
    assert max(mean, key=lambda hour: mean[hour]) in range(12, 19)
    assert min(mean, key=lambda hour: mean[hour]) in range(7)
    assert 2.5 < max(mean.values()) / min(mean.values()) < 6


@pytest.mark.parametrize(("environment", "errors"), [("production", 25), ("staging", 7), ("development", 4)])
def test_errors_of_one_item_come_in_bursts_without_any_deploy(past: Past, environment: str, errors: int) -> None:
    blocks: Counter[tuple[int, int]] = Counter()
    for error in past.errors[environment]:
        blocks[error.second // BLOCK, error.counter] += 1
    busiest = {block for (block, _), count in blocks.items() if count >= errors}
    bursts = [block for block in busiest if past.is_calm(environment, block * BLOCK, (block + 1) * BLOCK)]
    finishes = [finish_of(deploy) for deploy in past.deploys if deploy.environment == environment]
    unexplained = [
        block
        for block in bursts
        if not any(block * BLOCK - 2 * HOUR < finish < (block + 1) * BLOCK for finish in finishes)
    ]

    assert len(unexplained) > 10
    assert len(bursts) < 4 * len(DAYS)


def test_the_truth_is_there_for_every_deploy_and_in_no_row() -> None:
    sandbox = Sandbox(clock=Clock(), history_days=7)
    sandbox.add_deploy(revision="ours")
    deploys, rows = sandbox.deploys(), sandbox.rows("deploys")

    assert {deploy.id for deploy in deploys} == {row["id"] for row in rows}
    assert deploys[-1].revision == "ours"
    assert any(deploy.surge for deploy in deploys)
    assert any(deploy.rolls_back for deploy in deploys)
    assert not {"surge", "new_items", "rolls_back"} & {name for row in rows for name in row}
