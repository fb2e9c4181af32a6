"""Draws counts of occurrences in spells of ten minutes, for many deploys at once: how they arrive, how rates move.

    process = Process(variance=8, minutes=15)
    counts = draw_counts(process, 60 * DAILY_RHYTHM.draw(deploys, hours, generator), generator)

Occurrences arrive one by one, or in bursts. Bursts begin at random; the occurrences of one are spread evenly over its
length, and their mean number is random itself, with an exponential distribution, so that some bursts are large. That is
a Neyman-Scott process: Neyman and Scott, "Statistical approach to problems of cosmology", Journal of the Royal
Statistical Society B 20 (1958).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

HISTORY, BEFORE, AFTER = 84 * 12, 12, 6
"""Spells of a week, of the two hours before a deploy, and of the hour after it."""

SPELL = 10.0
"""Minutes."""

_STEPS = 4
"""Steps of a spell, of 2.5 minutes, at which bursts begin."""

_LEAD = 2
"""Spells that are drawn before the first one and dropped: bursts that began in them reach into it."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """How occurrences arrive.

    Attributes:
        variance: Variance of the counts of ten minutes, per mean. 1 is a Poisson process.
        minutes: Length of a burst.
        share: Share of the occurrences that come in bursts. The others come one by one.
    """

    variance: int = 1
    minutes: int = 5
    share: float = 1.0

    @property
    def name(self) -> str:
        """Name in tables."""
        if self.variance == 1:
            return "Poisson"
        return f"{self.variance}x, {self.minutes} min, {'all' if self.share == 1 else 'half'}"

    @property
    def burst(self) -> float:
        """Mean number of occurrences of a burst, of which the variance follows."""
        if self.minutes <= SPELL:
            overlap = 1 - self.minutes / (3 * SPELL)
        else:
            overlap = SPELL / self.minutes**2 * (self.minutes - SPELL / 3)
        return (self.variance - 1) / (2 * overlap * self.share)


POISSON = Process()

PROCESSES = (
    POISSON,
    *(
        Process(variance=variance, minutes=minutes, share=share)
        for variance in (3, 8, 20)
        for minutes in (5, 15)
        for share in (1.0, 0.5)
    ),
)


def draw_counts(process: Process, rates: Floats, generator: Generator) -> Counts:
    """Draw counts by deploy and spell.

    Args:
        process: How occurrences arrive.
        rates: Occurrences an hour by deploy and spell. Their moves change how often bursts begin, not the bursts.
        generator: Source of random numbers.
    """
    deploys, spells = rates.shape
    lead = np.repeat(rates[:, :1], _LEAD, axis=1)
    steps = np.repeat(np.hstack([lead, rates]), _STEPS, axis=1) * (SPELL / _STEPS / 60)
    intensity = steps if process.variance == 1 else _draw_intensity(process, steps, generator)
    return generator.poisson(intensity.reshape(deploys, spells + _LEAD, _STEPS).sum(axis=2)[:, _LEAD:])


def _draw_intensity(process: Process, steps: Floats, generator: Generator) -> Floats:
    """Draw the mean number of occurrences in each step, bursts included."""
    starts = generator.poisson(steps * (process.share / process.burst))
    occurrences = np.zeros(starts.shape)
    bursts = starts > 0
    occurrences[bursts] = generator.gamma(starts[bursts], process.burst)
    length = round(process.minutes / SPELL * _STEPS)
    total = np.cumsum(occurrences, axis=1)
    running = total.copy()
    running[:, length:] -= total[:, :-length]
    return np.maximum(running / length, 0) + (1 - process.share) * steps


Draw = Callable[[int, Floats, Generator], Floats]
"""Draws the rate by deploy and spell, relative to its mean, from the hours between each spell and the finish."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How the rate moves without any influence of the deploy.

    Attributes:
        name: Name in tables.
        draw: Draws the rate.
        steady_history: Whether the rate moves around the deploy alone.
        limited: Whether false alarms must stay below the limit. Those of other scenarios are published alone.
    """

    name: str
    draw: Draw
    steady_history: bool = False
    limited: bool = True


def _draw_steady(deploys: int, hours: Floats, _generator: Generator) -> Floats:
    return np.ones((deploys, hours.size))


def _draw_rhythm(deploys: int, hours: Floats, generator: Generator) -> Floats:
    """Draw a wave that is three times as high by day as by night. Deploys finish at any hour."""
    return 1 + 0.5 * np.sin(2 * np.pi * (hours + generator.uniform(0, 24, (deploys, 1))) / 24)


def _draw_bad_deploys(deploys: int, hours: Floats, generator: Generator) -> Floats:
    """Draw the rhythm, and on each day of the history twice or four times its rate for one to three hours."""
    rates = _draw_rhythm(deploys, hours, generator)
    for day in range(1, 8):
        start = generator.uniform(0, 21, (deploys, 1)) - 2 - 24 * day
        end = start + generator.uniform(1, 3, (deploys, 1))
        rates *= np.where((hours >= start) & (hours < end), generator.choice([2.0, 4.0], (deploys, 1)), 1.0)
    return rates


def _draw_ramp(factor: float, length: float) -> Draw:
    """Return a function that draws an even move from 1 to a factor within some hours, among them the finish."""

    def draw(deploys: int, hours: Floats, generator: Generator) -> Floats:
        start = generator.uniform(-length, 0, (deploys, 1))
        return 1 + (factor - 1) * np.clip((hours - start) / length, 0, 1)

    return draw


STEADY = Scenario(name="steady", draw=_draw_steady)
DAILY_RHYTHM = Scenario(name="daily rhythm", draw=_draw_rhythm)
BAD_DEPLOYS = Scenario(name="rhythm, bad deploys", draw=_draw_bad_deploys)

SCENARIOS = (
    STEADY,
    DAILY_RHYTHM,
    BAD_DEPLOYS,
    Scenario(name="ramp up", draw=_draw_ramp(1.2, 6), steady_history=True),
    Scenario(name="ramp down", draw=_draw_ramp(1 / 1.2, 6), steady_history=True),
    Scenario(name="steep ramp up", draw=_draw_ramp(2, 3), steady_history=True, limited=False),
    Scenario(name="steep ramp down", draw=_draw_ramp(1 / 2, 3), steady_history=True, limited=False),
)
