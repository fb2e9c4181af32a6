"""Thresholds: the largest shares of false alarms, and the smallest shares of bad deploys that are found."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from analytics_dagster_tests.study.processes import STEADY
from analytics_dagster_tests.study.results import Cell, Results

FALSE_ALARMS = 0.05
"""Largest share of harmless deploys that are `worse`, and that are `better`, over both looks."""

FOUND = {"2": 0.70, "4": 0.95}
"""Smallest share of bad deploys that are `worse` at either look, by the ratio of their rise, where it is promised."""

_PROMISED = {600: 8, 60: 3}
"""Largest variance per mean for which the power is promised, from a number of occurrences an hour on."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The worst cell of a threshold.

    Attributes:
        name: Description of the figure.
        figure: The figure in the worst cell.
        limit: The limit.
        at_most: Whether the limit is the largest figure that meets the threshold, or the smallest.
        met: Whether the figure meets it.
        cell: The worst cell.
    """

    name: str
    figure: float
    limit: float
    at_most: bool
    met: bool
    cell: str


def judge(results: Results) -> Iterator[Judged]:
    """Return the worst cell of each threshold that the results have cells for."""
    limited = [cell for cell in results.cells if cell.limited]
    yield from _judge_most("harmless deploys that are worse", limited, lambda cell: cell.worse)
    yield from _judge_most("harmless deploys that are better", limited, lambda cell: cell.better)
    promised = [cell for cell in results.in_scenario(STEADY.name) if is_promised(cell)]
    for ratio, limit in FOUND.items():
        yield from _judge_least(f"rises to {ratio} times the rate that are found", promised, ratio, limit)


def _judge_most(name: str, cells: Sequence[Cell], figure: Callable[[Cell], float]) -> Iterator[Judged]:
    if cells:
        worst = max(cells, key=figure)
        yield Judged(
            name=name,
            figure=figure(worst),
            limit=FALSE_ALARMS,
            at_most=True,
            met=figure(worst) <= FALSE_ALARMS,
            cell=describe(worst),
        )


def _judge_least(name: str, cells: Sequence[Cell], ratio: str, limit: float) -> Iterator[Judged]:
    if cells:
        worst = min(cells, key=lambda cell: cell.found_at_either[ratio])
        yield Judged(
            name=name,
            figure=worst.found_at_either[ratio],
            limit=limit,
            at_most=False,
            met=worst.found_at_either[ratio] >= limit,
            cell=describe(worst),
        )


def is_promised(cell: Cell) -> bool:
    """Return whether the power is promised: from 60 an hour with moderate bursts, from 600 with larger ones."""
    largest_variance = next((variance for rate, variance in _PROMISED.items() if cell.rate >= rate), 0)
    return cell.variance <= largest_variance


def describe(cell: Cell) -> str:
    """Return the place of a cell."""
    return f"{cell.scenario}, {cell.process}, {cell.rate} an hour"
