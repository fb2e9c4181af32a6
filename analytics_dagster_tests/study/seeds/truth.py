"""The truth about the deploys of a sandbox: what each did to the errors, and what else happened around it. Pure.

    for deploy in deploys:
        print(situation_of(deploy, deploys), expected_drift(deploy.finish))

Times are epoch seconds.
"""

from collections.abc import Iterable
from enum import StrEnum
from math import cos, pi

from analytics_dagster.sandbox import Deploy

MINUTE, HOUR, DAY = 60, 3_600, 86_400
BEFORE, AFTER = 2 * HOUR, HOUR
"""The times before and after a finish that a verdict compares."""


class Situation(StrEnum):
    """What is true of a deploy. Each deploy is in one of them."""

    HARMLESS = "harmless"
    TWICE = "twice the errors"
    FOUR_TIMES = "four times the errors"
    TWICE_HEALED = "twice, rolled back within the hour"
    FOUR_TIMES_HEALED = "four times, rolled back within the hour"
    ROLLBACK = "rollback"
    CONFOUNDED = "harmless, but another deploy's errors in the three hours"


def situation_of(deploy: Deploy, others: Iterable[Deploy]) -> Situation:
    """Return the situation of a deploy that finished.

    Args:
        deploy: The deploy.
        others: The deploys of the same project; the deploy itself may be among them.
    """
    finish = _finish(deploy)
    if deploy.rolls_back:
        return Situation.ROLLBACK
    if deploy.surge:
        healed = deploy.surge.end < finish + AFTER
        if deploy.surge.factor == 2:
            return Situation.TWICE_HEALED if healed else Situation.TWICE
        return Situation.FOUR_TIMES_HEALED if healed else Situation.FOUR_TIMES
    for other in others:
        if other.surge is None or other.environment != deploy.environment:
            continue
        if _finish(other) < finish + AFTER and other.surge.end > finish - BEFORE:
            return Situation.CONFOUNDED
    return Situation.HARMLESS


def expected_drift(finish: int) -> float:
    """Return the errors a minute after a finish per those before it, of the sandbox's rhythm of a day alone."""
    before = sum(_rhythm(second) for second in range(finish - BEFORE, finish, MINUTE)) / (BEFORE // MINUTE)
    after = sum(_rhythm(second) for second in range(finish, finish + AFTER, MINUTE)) / (AFTER // MINUTE)
    return after / before


def _rhythm(second: int) -> float:
    """Return the errors of an hour relative to the day's mean: a peak at 15:00 UTC, a quarter of it at 03:00."""
    return 1 + 0.6 * cos((second % DAY // HOUR - 15) / 12 * pi)


def _finish(deploy: Deploy) -> int:
    assert deploy.finish is not None, "all deploys of the sandbox's history finish"
    return deploy.finish
