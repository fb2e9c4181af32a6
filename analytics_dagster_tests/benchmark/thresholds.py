"""What is good enough. Each bar takes its figure from the results; one whose scenario was not run has none."""

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


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A figure and its limit.

    Attributes:
        name: What is limited.
        figure: Takes the figure from the results; None where they lack it.
        limit: What the figure must not exceed; taken from the results as well where it depends on them.
        unit: Of both.
    """

    name: str
    figure: Callable[[Results], float | None]
    limit: float | Callable[[Results], float | None]
    unit: str = ""

    def judged(self, results: Results) -> dict[str, object] | None:
        """Return name, figure, limit, unit and whether the bar is met; None where there is nothing to judge."""
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


def _ratio(above: Measurement | None, below: Measurement | None, what: str = "seconds") -> float | None:
    return getattr(above, what) / getattr(below, what) if above and below else None


def _against_floor(scenario: str) -> Callable[[Results], float | None]:
    return lambda results: _ratio(results.find(scenario, OURS), results.find(scenario, FLOOR))


def _peak(contender: str, rows: int) -> Callable[[Results], float | None]:
    def peak(results: Results) -> float | None:
        measured = results.find("scale", contender, rows)
        return measured.peak_mb if measured else None

    return peak


def _requests(scenario: str, case: int) -> Callable[[Results], float | None]:
    def requests(results: Results) -> float | None:
        measured = results.find(scenario, OURS, case)
        return measured.requests if measured else None

    return requests


def _allowed_requests(results: Results) -> float | None:
    measured = results.find("depth", OURS, DEEP)
    return measured.figures["pages_of_window"] + 2 * math.log2(DEEP) + READ_AHEAD if measured else None


def _figure(scenario: str, contender: str, name: str) -> Callable[[Results], float | None]:
    def figure(results: Results) -> float | None:
        measured = results.find(scenario, contender)
        return measured.figures.get(name) if measured else None

    return figure


def _most_requests_of_a_tick(results: Results) -> float | None:
    measured = results.find("tick", OURS)
    return max(measured.figures.values()) if measured else None


BARS = (
    Bar(
        name="100,000 occurrences, 20 a page, no delay",
        figure=_against_floor("small-pages"),
        limit=1.5,
        unit="times the floor",
    ),
    Bar(
        name="100,000 occurrences, 1000 a page, no delay",
        figure=_against_floor("large-pages"),
        limit=1.5,
        unit="times the floor",
    ),
    Bar(
        name="4,000 occurrences, 100 ms a page, 8 in flight, continuity proven",
        figure=_against_floor("latency"),
        limit=1.4,
        unit="times the floor",
    ),
    Bar(name="Peak memory, 100,000 rows", figure=_peak(OURS, HUNDRED_THOUSAND), limit=600, unit="MB"),
    Bar(name="Peak memory, 1,000,000 rows", figure=_peak(OURS, MILLION), limit=600, unit="MB"),
    Bar(
        name="Peak memory, 1,000,000 rows against 100,000",
        figure=lambda results: _ratio(
            results.find("scale", OURS, MILLION), results.find("scale", OURS, HUNDRED_THOUSAND), "peak_mb"
        ),
        limit=1.25,
        unit="times",
    ),
    Bar(
        name="Requests for one hour, 1000 pages below the newest",
        figure=_requests("depth", DEEP),
        limit=_allowed_requests,
        unit="requests",
    ),
    Bar(
        name="Requests of a tick with nothing new, for each resource ordered by its cursor",
        figure=_most_requests_of_a_tick,
        limit=2,
        unit="requests",
    ),
    Bar(
        name="One hour merged into 1,000,000 rows against into none",
        figure=lambda results: _ratio(results.find("merge", OURS, MILLION), results.find("merge", OURS, 0)),
        limit=2,
        unit="times",
    ),
    Bar(
        name="Importing the definitions against importing the libraries",
        figure=lambda results: _ratio(results.find("imports", DEFINITIONS), results.find("imports", LIBRARIES)),
        limit=1.3,
        unit="times",
    ),
    Bar(
        name="Rows missed of a list that grows by 20 rows a second",
        figure=_figure("growing", OURS, "missed"),
        limit=0,
        unit="rows",
    ),
)


def judged(results: Results) -> list[dict[str, object]]:
    """Return every bar that the results have a figure for."""
    return [verdict for bar in BARS if (verdict := bar.judged(results))]


def cost_of_the_limit(results: Results) -> str | None:
    """Say what the memory limit costs and saves, for the largest list measured."""
    limited, free = results.find("scale", OURS), results.find("scale", UNLIMITED)
    if not limited or not free:
        return None
    return (
        f"Memory limit, {limited.case:,} rows: {limited.seconds:.1f} s and {limited.peak_mb:.0f} MB with the shipped "
        f"one, {free.seconds:.1f} s and {free.peak_mb:.0f} MB without."
    )
