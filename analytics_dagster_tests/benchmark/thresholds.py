"""Thresholds: figures of the results and their limits. A figure that the results lack is not judged."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from analytics_dagster_tests.benchmark.measurements import (
    DEFINITIONS,
    FLOOR,
    LIBRARIES,
    OURS,
    UNLIMITED,
    Measurement,
    Results,
)

READ_AHEAD = 8
DEEP = 1_000
HUNDRED_THOUSAND, MILLION = 100_000, 1_000_000

Figure = Callable[[Results], float | None]
"""Takes a figure from the results; None if they lack it."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A figure and its limit.

    Attributes:
        name: Description of the figure.
        figure: Takes the figure from the results.
        limit: The largest figure that meets the threshold, or a function that takes it from the results.
        unit: Unit of both.
    """

    name: str
    figure: Figure
    limit: float | Figure
    unit: str = ""

    def judge(self, results: Results) -> dict[str, object] | None:
        """Return `name`, `figure`, `limit`, `unit` and `met`; None if the results lack the figure or the limit."""
        figure = self.figure(results)
        limit = self.limit(results) if callable(self.limit) else self.limit
        if figure is None or limit is None:
            return None
        return {
            "name": self.name,
            "figure": round(figure, 2),
            "limit": round(limit, 2),
            "unit": self.unit,
            "met": figure <= limit,
        }


def _ratio(numerator: Measurement | None, denominator: Measurement | None, field: str = "seconds") -> float | None:
    return getattr(numerator, field) / getattr(denominator, field) if numerator and denominator else None


def _against_floor(scenario: str) -> Figure:
    return lambda results: _ratio(results.find(scenario, OURS), results.find(scenario, FLOOR))


def _field(field: str, scenario: str, loader: str = OURS, case: int | None = None) -> Figure:
    return lambda results: getattr(results.find(scenario, loader, case), field, None)


def _allowed_requests(results: Results) -> float | None:
    measurement = results.find("depth", OURS, DEEP)
    return measurement.figures["pages_of_window"] + 2 * math.log2(DEEP) + READ_AHEAD if measurement else None


def _missed(results: Results) -> float | None:
    measurement = results.find("growing", OURS)
    return measurement.figures["missed"] if measurement else None


def _most_requests_of_a_tick(results: Results) -> float | None:
    measurement = results.find("tick", OURS)
    return max(measurement.figures.values()) if measurement else None


THRESHOLDS = (
    Threshold(
        name="100,000 occurrences, 20 a page, no delay",
        figure=_against_floor("small-pages"),
        limit=1.5,
        unit="times the floor",
    ),
    Threshold(
        name="100,000 occurrences, 1000 a page, no delay",
        figure=_against_floor("large-pages"),
        limit=1.5,
        unit="times the floor",
    ),
    Threshold(
        name="4,000 occurrences, 100 ms a page, 8 in flight, continuity proven",
        figure=_against_floor("latency"),
        limit=1.4,
        unit="times the floor",
    ),
    Threshold(
        name="Peak memory, 100,000 rows",
        figure=_field("peak_mb", "scale", case=HUNDRED_THOUSAND),
        limit=600,
        unit="MB",
    ),
    Threshold(
        name="Peak memory, 1,000,000 rows", figure=_field("peak_mb", "scale", case=MILLION), limit=600, unit="MB"
    ),
    Threshold(
        name="Peak memory, 1,000,000 rows against 100,000",
        figure=lambda results: _ratio(
            results.find("scale", OURS, MILLION), results.find("scale", OURS, HUNDRED_THOUSAND), "peak_mb"
        ),
        limit=1.25,
        unit="times",
    ),
    Threshold(
        name="Requests for one hour, 1000 pages below the newest",
        figure=_field("requests", "depth", case=DEEP),
        limit=_allowed_requests,
        unit="requests",
    ),
    Threshold(
        name="Requests of a tick without new rows, for each resource ordered by its cursor",
        figure=_most_requests_of_a_tick,
        limit=2,
        unit="requests",
    ),
    Threshold(
        name="One hour merged into 1,000,000 rows against into none",
        figure=lambda results: _ratio(results.find("merge", OURS, MILLION), results.find("merge", OURS, 0)),
        limit=2,
        unit="times",
    ),
    Threshold(
        name="Importing the definitions against importing the libraries",
        figure=lambda results: _ratio(results.find("imports", DEFINITIONS), results.find("imports", LIBRARIES)),
        limit=1.3,
        unit="times",
    ),
    Threshold(
        name="Rows missed of a list that grows by 20 rows a second",
        figure=_missed,
        limit=0,
        unit="rows",
    ),
)


def judge(results: Results) -> list[dict[str, object]]:
    """Return the verdict on each threshold whose figure is in the results."""
    return [verdict for threshold in THRESHOLDS if (verdict := threshold.judge(results))]


def describe_memory_limit(results: Results) -> str | None:
    """Return a sentence on the time and the memory with and without the memory limit, for the largest list."""
    limited, unlimited = results.find("scale", OURS), results.find("scale", UNLIMITED)
    if not limited or not unlimited:
        return None
    return (
        f"Memory limit, {limited.case:,} rows: {limited.seconds:.1f} s and {limited.peak_mb:.0f} MB with the default "
        f"limit, {unlimited.seconds:.1f} s and {unlimited.peak_mb:.0f} MB without one."
    )
