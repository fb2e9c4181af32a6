"""The verdict on a deploy, from counts of occurrences before and after it: did it break something?

    judgement = judge(DeployCounts(before=before, after=after, history=history, new_items=new_items))
    print(judgement.verdict, judgement.ratio)

Pure: the counts are arguments. This module holds the types and the order of the verdicts; the statistics are in
`rates.py`, which needs the extra `insights` and is imported by the first call. Queries and Dagster are not here.
docs/deploy-impact.md explains the rule, and has its false alarms and its power.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analytics_dagster.insights.rates import Comparison

SPELLS_BEFORE = 12
"""Spells of ten minutes in the two hours before a deploy, and in a block of history."""

SPELLS_AFTER = 6
"""Spells of ten minutes in the hour after a deploy."""


class Verdict(StrEnum):
    """The occurrences after a deploy against those before it."""

    WORSE = "worse"
    BETTER = "better"
    UNCHANGED = "unchanged"
    TOO_FEW = "too few"
    """A rise to twice the rate would not have been found with a probability of 80 %, or the history is too short."""
    TOO_EARLY = "too early"
    """Fewer than 20 minutes have passed since the finish."""
    NOT_LOADED = "not loaded"
    """Windows around the deploy are not loaded. The caller decides this from coverage; `judge` never returns it."""


@dataclass(frozen=True, kw_only=True)
class DeployCounts:
    """Occurrences in one project and environment around the finish of a deploy, in spells of ten minutes.

    Attributes:
        before: Occurrences in each of the 12 spells of the 120 minutes before the finish, oldest first.
        after: Occurrences in each complete spell after the finish, oldest first: 0 to 6 numbers.
        history: Two-hour blocks that are covered, of up to seven days before `before` begins: 12 numbers each. With
            fewer than 12 blocks, a day, a deploy is `too few`.
        new_items: For each item first seen after the deploy, its occurrences in the spells of `after`.
    """

    before: Sequence[int]
    after: Sequence[int]
    history: Sequence[Sequence[int]]
    new_items: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            ValueError: A sequence has another length than its attribute states.
        """
        if len(self.before) != SPELLS_BEFORE:
            raise ValueError(f"before must have {SPELLS_BEFORE} numbers, not {len(self.before)}.")
        if len(self.after) > SPELLS_AFTER:
            raise ValueError(f"after must have at most {SPELLS_AFTER} numbers, not {len(self.after)}.")
        if any(len(block) != SPELLS_BEFORE for block in self.history):
            raise ValueError(f"Each block of history must have {SPELLS_BEFORE} numbers.")
        if any(len(item) != len(self.after) for item in self.new_items):
            raise ValueError(f"Each new item must have as many numbers as after has, {len(self.after)}.")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict and its figures. A figure is None where the counts do not determine it.

    Attributes:
        verdict: The verdict.
        minutes: Minutes after the finish that were looked at: 20 or 60; 0 if it is too early.
        provisional: Whether the verdict may still change: it may until the look after 60 minutes.
        dispersion: Variance of the history's counts per mean, at least 1, which a Poisson process has.
        ratio: Rate after the deploy per rate before it.
        ratio_low: Lower end of the ratio's 95 % confidence interval.
        ratio_high: Upper end of the ratio's 95 % confidence interval.
        smallest_ratio: The smallest ratio of true rates that is found `worse` with a probability of 80 %.
        p_value: Two-sided p-value of the counts under equal rates.
    """

    verdict: Verdict
    minutes: int
    provisional: bool
    dispersion: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    smallest_ratio: float | None
    p_value: float | None


def undecided(verdict: Verdict) -> Judgement:
    """Return the judgement of a deploy whose counts were not compared."""
    return Judgement(
        verdict=verdict,
        minutes=0,
        provisional=True,
        dispersion=None,
        ratio=None,
        ratio_low=None,
        ratio_high=None,
        smallest_ratio=None,
        p_value=None,
    )


def judge(counts: DeployCounts) -> Judgement:
    """Return the verdict on one deploy.

    Raises:
        ModuleNotFoundError: The extra `insights` is not installed.
    """
    return judge_all([counts])[0]


def judge_all(deploys: Sequence[DeployCounts]) -> list[Judgement]:
    """Return the verdict on each deploy, in their order. Fast for many deploys at once.

    Raises:
        ModuleNotFoundError: The extra `insights` is not installed.
    """
    from analytics_dagster.insights import rates  # noqa: PLC0415  (scipy is an extra, and slow to import)

    judgements = [undecided(Verdict.TOO_EARLY)] * len(deploys)
    dispersions = rates.estimate_dispersions([deploy.history for deploy in deploys])
    for look in rates.LOOKS:
        numbers = [number for number, deploy in enumerate(deploys) if rates.last_look(len(deploy.after)) is look]
        comparison = rates.compare(
            [deploys[number].before for number in numbers],
            [deploys[number].after[: look.spells] for number in numbers],
            dispersions[numbers],
            look,
        )
        for row, number in enumerate(numbers):
            new_item = look.new_items and rates.new_item_breaks(deploys[number].before, deploys[number].new_items)
            judgements[number] = Judgement(
                verdict=_verdict(comparison, row, new_item=new_item),
                minutes=look.minutes,
                provisional=look is not rates.LOOKS[-1],
                dispersion=_finite(dispersions[number]),
                ratio=_finite(comparison.ratio[row]),
                ratio_low=_finite(comparison.ratio_low[row]),
                ratio_high=_finite(comparison.ratio_high[row]),
                smallest_ratio=_finite(comparison.smallest_ratio[row]),
                p_value=_finite(comparison.p_value[row]),
            )
    return judgements


def _verdict(comparison: "Comparison", row: int, *, new_item: bool) -> Verdict:
    if comparison.rises[row] or (new_item and comparison.known[row]):
        return Verdict.WORSE
    if comparison.falls[row]:
        return Verdict.BETTER
    return Verdict.UNCHANGED if comparison.sees_twofold[row] else Verdict.TOO_FEW


def _finite(figure: float) -> float | None:
    return float(figure) if math.isfinite(figure) else None
