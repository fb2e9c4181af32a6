"""Judges simulated deploys with the rule that production runs.

    cells = simulate(POISSON, 60, scenarios=[STEADY], deploys=2_000, generator=numpy.random.default_rng(1))

A deploy that raises the rate adds occurrences of the same process to those of a harmless one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from analytics_dagster.insights.rates import LOOKS, Comparison, Look, compare, estimate_dispersion, new_item_breaks
from analytics_dagster_tests.study.processes import (
    AFTER,
    BEFORE,
    HISTORY,
    POISSON,
    PROCESSES,
    SCENARIOS,
    STEADY,
    Counts,
    Floats,
    Process,
    Scenario,
    draw_counts,
)
from analytics_dagster_tests.study.results import Cell

RATES = (2, 10, 30, 60, 120, 600)
"""Occurrences an hour."""

RISES = (1.25, 1.5, 2.0, 3.0, 4.0)
RISES_ELSEWHERE = (2.0, 4.0)
FALLS = (0.5, 0.25)
NEW_ITEM = 0.5
"""Occurrences of a new item per occurrence before the deploy."""

_DEPLOYS_PER_HISTORY = 8

_HOURS = (np.arange(HISTORY + BEFORE + AFTER) - (HISTORY + BEFORE)) / 6
"""Hours from the finish to the start of each spell."""


def simulate_process(process: Process, *, deploys: int, seed: int) -> Iterator[Cell]:
    """Judge simulated deploys of one process, at every rate and in every scenario. Equal arguments give equal cells."""
    for rate in RATES:
        generator = np.random.default_rng([seed, PROCESSES.index(process), rate])
        yield from simulate(process, rate, scenarios=SCENARIOS, deploys=deploys, generator=generator)


def simulate(
    process: Process, rate: int, *, scenarios: Sequence[Scenario], deploys: int, generator: Generator
) -> Iterator[Cell]:
    """Judge simulated deploys of one process and rate; return a cell for each scenario.

    Args:
        process: How occurrences arrive.
        rate: Occurrences an hour, on average.
        scenarios: How the rate moves. One with a steady history has the history of the scenario `steady` before it.
        deploys: Number of deploys.
        generator: Source of random numbers.
    """
    steady = np.ones(deploys)
    for scenario in scenarios:
        dispersions = steady
        if not scenario.steady_history:
            dispersions = _draw_dispersions(process, rate, scenario, deploys, generator)
        if scenario is STEADY:
            steady = dispersions
        rates = rate * scenario.draw(deploys, _HOURS[-BEFORE - AFTER :], generator)
        counts = draw_counts(process, rates, generator)
        yield _Sample(
            scenario=scenario,
            process=process,
            rate=rate,
            before=counts[:, :BEFORE],
            after=counts[:, BEFORE:],
            rates=rates[:, BEFORE:],
            dispersions=dispersions,
        ).judge(generator)


def _draw_dispersions(process: Process, rate: int, scenario: Scenario, deploys: int, generator: Generator) -> Floats:
    """Draw histories; return the dispersion of each deploy's. Several deploys share one, which saves time."""
    histories = -(-deploys // _DEPLOYS_PER_HISTORY)
    counts = draw_counts(process, rate * scenario.draw(histories, _HOURS[:HISTORY], generator), generator)
    return np.tile(estimate_dispersion(counts.reshape(histories, -1, BEFORE)), _DEPLOYS_PER_HISTORY)[:deploys]


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Harmless deploys of one scenario, process and rate.

    Attributes:
        scenario: How the rate moves.
        process: How occurrences arrive.
        rate: Occurrences an hour, on average.
        before: Counts by deploy and spell before the finish.
        after: Counts by deploy and spell after it.
        rates: Occurrences an hour by deploy and spell after the finish.
        dispersions: Dispersion of the history by deploy.
    """

    scenario: Scenario
    process: Process
    rate: int
    before: Counts
    after: Counts
    rates: Floats
    dispersions: Floats

    def judge(self, generator: Generator) -> Cell:
        """Count the verdicts on these deploys, and on deploys that change the rate."""
        early, late = (self._compare(self.after, look) for look in LOOKS)
        rises, falls = self._ratios()
        found_early, found, found_at_either = dict[str, float](), dict[str, float](), dict[str, float]()
        after, raised = self.after, 1.0
        for ratio in rises:
            after, raised = after + draw_counts(self.process, (ratio - raised) * self.rates, generator), ratio
            at_20, at_60 = (self._compare(after, look).rises for look in LOOKS)
            found_early[f"{ratio:g}"] = _share(at_20)
            found[f"{ratio:g}"] = _share(at_60)
            found_at_either[f"{ratio:g}"] = _share(at_20 | at_60)
        found_falls = {
            f"{ratio:g}": _share(
                self._compare(draw_counts(self.process, ratio * self.rates, generator), LOOKS[-1]).falls
            )
            for ratio in falls
        }
        return Cell(
            scenario=self.scenario.name,
            process=self.process.name,
            variance=self.process.variance,
            rate=self.rate,
            limited=self.scenario.limited,
            worse=_share(early.rises | late.rises),
            better=_share(early.falls | late.falls),
            too_few=_share(~late.rises & ~late.falls & ~late.sees_twofold),
            found_early=found_early,
            found=found,
            found_at_either=found_at_either,
            found_falls=found_falls,
            found_new_item=self._find_new_item(generator) if falls else {},
            smallest_ratio=_median(late.smallest_ratio),
        )

    def _ratios(self) -> tuple[Sequence[float], Sequence[float]]:
        """Return the ratios to which deploys raise and lower the rate: all in the scenario `steady`, few elsewhere."""
        if self.scenario is STEADY:
            return RISES, FALLS
        return ((), ()) if self.scenario.steady_history else (RISES_ELSEWHERE, ())

    def _compare(self, after: Counts, look: Look) -> Comparison:
        return compare(self.before, after[:, : look.spells], self.dispersions, look)

    def _find_new_item(self, generator: Generator) -> dict[str, float]:
        new = draw_counts(POISSON, NEW_ITEM * self.rates, generator)
        rises = self._compare(self.after + new, LOOKS[-1]).rises
        breaks = [new_item_breaks(before, [item]) for before, item in zip(self.before, new, strict=True)]
        return {f"{NEW_ITEM:g}": _share(rises | np.array(breaks))}


def _share(flags: NDArray[np.bool_]) -> float:
    return round(float(flags.mean()), 4)


def _median(ratios: Floats) -> float | None:
    """Return the median; None if most deploys have no such ratio."""
    median = float(np.median(ratios))
    return round(median, 2) if np.isfinite(median) else None
