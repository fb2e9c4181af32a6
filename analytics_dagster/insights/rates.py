"""Compares the rates of occurrences before and after deploys, for many deploys at once, as arrays.

    dispersion = estimate_dispersions(histories)
    comparison = compare(before, after, dispersion, LOOKS[-1])

A row of each array is a deploy, a column a spell of ten minutes. The verdicts are made of this in `verdicts.py`.

Occurrences come in bursts, so that the exact test of two Poisson rates would raise far more false alarms than its level
says. Counts are divided by their dispersion, which leaves as many independent occurrences as the counts are worth, and
the exact binomial test and interval are taken of these: Korn and Graubard, "Confidence intervals for proportions with
small expected number of positive counts estimated from survey data", Survey Methodology 24 (1998).

https://docs.scipy.org/doc/scipy/reference/generated/scipy.stats.binomtest.html
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

LARGEST_UNNOTICED_RATIO = 2.0
"""A deploy is `too few` if a rise to this ratio would have been missed more often than `POWER` allows."""

POWER = 0.8
"""Probability with which `smallest_ratio` is found."""

CONFIDENCE = 0.95
"""Level of the ratio's confidence interval."""

FEWEST_BLOCKS = 12
"""Two-hour blocks of history from which on the dispersion is known: a day of them."""

FEWEST_OF_NEW_ITEM = 10
"""Occurrences of a new item in the hour after a deploy from which on it may decide."""

SHARE_OF_NEW_ITEM = 0.35
"""Occurrences of such an item per occurrence of all items in an hour before the deploy."""

FEWEST_SPELLS_OF_NEW_ITEM = 4
"""Spells of the hour in which such an item occurs; one of the last two is among them."""

_SPELLS_BEFORE = 12

_TINY = 1e-9
"""Replaces a count of zero in functions that are not defined for it; their value there is known."""

_SPELLS_OF_HALF_HOUR = 3

_TRIMMED = 0.1
"""Share of the blocks that are left out of the dispersion: those with the highest variance per mean.

Earlier bad deploys are among them, which would hide the next one."""

_RATIO = 1.6
"""A rise below this ratio is no verdict, however certain it is: a rate moves by as much within a day."""

_RATIO_OF_SECOND_HALF = 1.25
"""The ratio that the second half of a look has to have too: a burst ends, a broken deploy goes on."""

_LEVEL_OF_FALL = 0.5
"""Share of a look's level below which a rate falls. A wrong all-clear does more harm than one that is missed."""

_SUPERIORITY = 0.75
"""Share of the pairs of a spell after and a spell before in which the one after has more occurrences.

A single burst, of which the history may have no like, fills one spell or two, however high it is."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A look at the counts after a deploy.

    Attributes:
        minutes: Minutes after the finish.
        level: Two-sided p-value below which a rate rises.
        new_items: Whether an item that is new after the deploy may decide.
    """

    minutes: int
    level: float
    new_items: bool

    @property
    def spells(self) -> int:
        """Spells of ten minutes."""
        return self.minutes // 10


LOOKS = (Look(minutes=20, level=0.004, new_items=False), Look(minutes=60, level=0.035, new_items=True))
"""The provisional look, and the one that stays."""


def last_look(spells: int) -> Look | None:
    """Return the last look for which so many spells are complete after a deploy; None if it is too early for any."""
    return next((look for look in reversed(LOOKS) if look.spells <= spells), None)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a look finds, an element a deploy. A figure is not finite where the counts do not determine it.

    Attributes:
        known: Whether the dispersion is known.
        ratio: Rate after per rate before.
        ratio_low: Lower end of its confidence interval.
        ratio_high: Upper end of its confidence interval.
        smallest_ratio: Ratio of true rates that is found with the probability `POWER`.
        p_value: Two-sided p-value of equal rates.
        rises: Whether the rate rose.
        falls: Whether the rate fell.
    """

    known: Flags
    ratio: Floats
    ratio_low: Floats
    ratio_high: Floats
    smallest_ratio: Floats
    p_value: Floats
    rises: Flags
    falls: Flags

    @property
    def sees_twofold(self) -> Flags:
        """Whether a rise to twice the rate is found with the probability `POWER`."""
        return self.smallest_ratio <= LARGEST_UNNOTICED_RATIO


def estimate_dispersions(histories: Sequence[Sequence[Sequence[int]]]) -> Floats:
    """Return the variance per mean of each deploy's history, at least 1; NaN for a history shorter than a day.

    Args:
        histories: By deploy, two-hour blocks of twelve counts. Their number may differ.
    """
    dispersions = np.full(len(histories), np.nan)
    by_length: dict[int, list[int]] = {}
    for number, history in enumerate(histories):
        by_length.setdefault(len(history), []).append(number)
    for length, numbers in by_length.items():
        if length >= FEWEST_BLOCKS:
            dispersions[numbers] = estimate_dispersion([histories[number] for number in numbers])
    return dispersions


def estimate_dispersion(histories: ArrayLike) -> Floats:
    """Return the variance per mean of each deploy's history, at least 1.

    The counts are those of half hours: of ten-minute counts the variance misses that a burst of fifteen minutes goes on
    in the next spell.

    Args:
        histories: Counts by deploy, block and spell.
    """
    spells = np.asarray(histories, dtype=np.float64)
    deploys, blocks, _ = spells.shape
    counts = spells.reshape(deploys, blocks, -1, _SPELLS_OF_HALF_HOUR).sum(axis=3)
    means, variances = counts.mean(axis=2), counts.var(axis=2, ddof=1)
    ratios = np.divide(variances, means, out=np.zeros_like(means), where=means > 0)
    calm = np.argsort(ratios, axis=1, kind="stable")[:, : blocks - int(blocks * _TRIMMED)]
    mean = np.take_along_axis(means, calm, axis=1).sum(axis=1)
    variance = np.take_along_axis(variances, calm, axis=1).sum(axis=1)
    dispersion: Floats = np.divide(variance, mean, out=np.ones_like(mean), where=mean > 0)
    return np.maximum(dispersion, 1.0)


def compare(before: ArrayLike, after: ArrayLike, dispersion: ArrayLike, look: Look) -> Comparison:
    """Compare the rates before and after each deploy, as far as a look goes.

    Args:
        before: Counts by deploy and spell, oldest first.
        after: Counts by deploy and spell, oldest first, as many spells as the look has.
        dispersion: Variance per mean of each deploy's counts.
        look: The look.
    """
    earlier = np.asarray(before, dtype=np.float64).reshape(-1, _SPELLS_BEFORE)
    later = np.asarray(after, dtype=np.float64).reshape(-1, look.spells)
    phi = np.asarray(dispersion, dtype=np.float64)
    odds = look.spells / _SPELLS_BEFORE
    ratio = _ratio(later.mean(axis=1), earlier.mean(axis=1))
    ratio_of_second_half = _ratio(later[:, look.spells // 2 :].mean(axis=1), earlier.mean(axis=1))
    b, a = earlier.sum(axis=1) / phi, later.sum(axis=1) / phi
    p_value = _p_value(a, b, odds)
    low, high = _interval(a, b, odds)
    superiority = _superiority(later, earlier)
    rises = (ratio >= _RATIO) & (ratio_of_second_half >= _RATIO_OF_SECOND_HALF) & (superiority >= _SUPERIORITY)
    falls = (
        (ratio <= 1 / _RATIO) & (ratio_of_second_half <= 1 / _RATIO_OF_SECOND_HALF) & (superiority <= 1 - _SUPERIORITY)
    )
    return Comparison(
        known=np.isfinite(phi),
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        smallest_ratio=_smallest_ratio(b, odds, look.level),
        p_value=p_value,
        rises=rises & (p_value < look.level),
        falls=falls & (p_value < _LEVEL_OF_FALL * look.level),
    )


def new_item_breaks(before: ArrayLike, new_items: ArrayLike) -> bool:
    """Return whether an item that was first seen after a deploy is frequent and lasting enough to call it worse.

    Args:
        before: Counts by spell of the two hours before the deploy.
        new_items: Counts by item and spell of the hour after it.
    """
    items = np.asarray(new_items).reshape(-1, LOOKS[-1].spells)
    total, seen = items.sum(axis=1), items > 0
    earlier = np.asarray(before).mean() * LOOKS[-1].spells
    frequent = (total >= FEWEST_OF_NEW_ITEM) & (total >= SHARE_OF_NEW_ITEM * earlier)
    lasting = (seen.sum(axis=1) >= FEWEST_SPELLS_OF_NEW_ITEM) & seen[:, -2:].any(axis=1)
    return bool(np.any(frequent & lasting))


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = numerator / denominator
    return ratio


def _superiority(after: Floats, before: Floats) -> Floats:
    """Return the statistic of Mann and Whitney as a share of the pairs; equal counts are half a pair."""
    pairs = after.shape[1] * before.shape[1]
    superiority: Floats = stats.mannwhitneyu(after, before, axis=1, method="asymptotic").statistic / pairs
    return superiority


def _p_value(after: Floats, before: Floats, odds: float) -> Floats:
    """Return the binomial test's two-sided p-value, for counts that need not be whole: twice the smaller tail."""
    share = odds / (1 + odds)
    at_least = np.where(after == 0, 1.0, special.betainc(np.maximum(after, _TINY), before + 1, share))
    at_most = np.where(before == 0, 1.0, special.betaincc(after + 1, np.maximum(before, _TINY), share))
    p_value: Floats = np.minimum(2 * np.minimum(at_least, at_most), 1.0)
    return p_value


def _interval(after: Floats, before: Floats, odds: float) -> tuple[Floats, Floats]:
    """Return the confidence interval of Clopper and Pearson, as ratios of rates."""
    tail = (1 - CONFIDENCE) / 2
    low = np.where(after == 0, 0.0, special.betaincinv(np.maximum(after, _TINY), before + 1, tail))
    high = np.where(before == 0, 1.0, special.betaincinv(after + 1, np.maximum(before, _TINY), 1 - tail))
    return _ratio(low, 1 - low) / odds, _ratio(high, 1 - high) / odds


def _smallest_ratio(before: Floats, odds: float, level: float) -> Floats:
    """Return the ratio at which the count after a deploy reaches the smallest significant one with `POWER`."""
    needed = special.btdtria(level / 2, before + 1, odds / (1 + odds))
    needed = np.maximum(needed, _RATIO * before * odds)
    return _ratio(special.gammaincinv(needed, POWER), before * odds)
