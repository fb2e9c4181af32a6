"""Thresholds: figures of the results and their limits. A figure that the results lack is not judged."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from analytics_dagster.ingest.lists import PAUSE
from analytics_dagster_tests.benchmark.measurements import (
    ALL_VERDICTS,
    BY_PAGE,
    DEFINITIONS,
    FLOOR,
    IN_PIECES,
    LARGE_PAGES,
    LIBRARIES,
    NO_VERDICT,
    ON_DUCKDB,
    ONE_AFTER_THE_OTHER,
    OURS,
    PLAIN_PARQUET,
    SIDE_BY_SIDE,
    UNLIMITED,
    Measurement,
    Results,
)

READ_AHEAD = 8
DEEP = 1_000
HUNDRED_THOUSAND, MILLION = 100_000, 1_000_000

BEFORE_KEYSET = 1.9
"""Seconds of the reader by page per second of the floor, measured before there was a reader by key."""

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


def _seconds_ratio(scenario: str, loader: str, other: str) -> Figure:
    """Return the figure of a loader's seconds per second of another loader, in the same rounds."""
    return lambda results: _slowness(results.find(scenario, loader), results.find(scenario, other))


def _slowness(measurement: Measurement | None, other: Measurement | None) -> float | None:
    return measurement.slowness(other) if measurement and other else None


def _seconds_ratio_without_pause(scenario: str, loader: str, other: str) -> Figure:
    def ratio(results: Results) -> float | None:
        measurement, floor = results.find(scenario, loader), results.find(scenario, other)
        return (measurement.seconds - PAUSE) / floor.seconds if measurement and floor else None

    return ratio


def _memory_ratio(measurement: Measurement | None, other: Measurement | None) -> float | None:
    return measurement.peak_mb / other.peak_mb if measurement and other else None


def _memory_by_key(scenario: str) -> Figure:
    return lambda results: _memory_ratio(results.find(scenario, OURS), results.find(scenario, BY_PAGE))


def _field(field: str, scenario: str, loader: str = OURS, case: int | None = None) -> Figure:
    return lambda results: getattr(results.find(scenario, loader, case), field, None)


def _missed(scenario: str, loader: str) -> Figure:
    def missed(results: Results) -> float | None:
        measurement = results.find(scenario, loader)
        return measurement.figures["missed"] if measurement else None

    return missed


def _seconds_without_pause(results: Results) -> float | None:
    measurement = results.find("key-latency", OURS)
    return measurement.seconds - measurement.figures["seconds_of_pause"] if measurement else None


def _requests_allowed_by_page(results: Results) -> float | None:
    measurement = results.find("depth", BY_PAGE, DEEP)
    return measurement.figures["pages_of_window"] + 2 * math.log2(DEEP) + READ_AHEAD if measurement else None


def _most_requests_in_bursts(results: Results) -> float | None:
    return max((each.requests for each in results.all if each.scenario == "key-bursts"), default=None)


def _unsteadiness(results: Results) -> float | None:
    measurement = results.find("year", IN_PIECES)
    rates = measurement.figures.values() if measurement else []
    return max(rates) / min(rates) if rates else None


def _most_requests_of_a_tick(results: Results) -> float | None:
    measurement = results.find("tick", OURS)
    return max(measurement.figures.values()) if measurement else None


FULL_LOADS = (
    Threshold(
        name="100,000 occurrences by page, 20 a page, no delay",
        figure=_seconds_ratio("small-pages", BY_PAGE, FLOOR),
        limit=1.5,
        unit="times the floor",
    ),
    Threshold(
        name="100,000 occurrences by page, 20 a page, without the pause at the end, as before the reader by key",
        figure=_seconds_ratio_without_pause("small-pages", BY_PAGE, FLOOR),
        limit=BEFORE_KEYSET,
        unit="times the floor",
    ),
    Threshold(
        name="100,000 occurrences, 20 a page, no delay: by key against by page",
        figure=_seconds_ratio("small-pages", OURS, BY_PAGE),
        limit=1,
        unit="times the seconds",
    ),
    Threshold(
        name="100,000 occurrences by page, 1000 a page, no delay",
        figure=_seconds_ratio("large-pages", BY_PAGE, FLOOR),
        limit=1.5,
        unit="times the floor",
    ),
    Threshold(
        name="100,000 occurrences from a cold start",
        figure=_seconds_ratio("cold-start", OURS, FLOOR),
        limit=1.4,
        unit="times the floor",
    ),
    Threshold(
        name="100,000 occurrences from a cold start",
        figure=_field("requests", "cold-start"),
        limit=150,
        unit="requests",
    ),
    Threshold(
        name="4,000 occurrences by page, 100 ms a page, 8 in flight, continuity proven",
        figure=_seconds_ratio("latency", BY_PAGE, FLOOR),
        limit=1.4,
        unit="times the floor",
    ),
    Threshold(
        name="4,000 occurrences, 100 ms a reply",
        figure=_field("seconds", "key-latency"),
        limit=2.5,
        unit="s",
    ),
    Threshold(
        name="4,000 occurrences, 100 ms a reply, without the pause that proves the end",
        figure=_seconds_without_pause,
        limit=1.5,
        unit="s",
    ),
    Threshold(
        name="Rows missed by page of a list that grows by 20 rows a second",
        figure=_missed("growing", BY_PAGE),
        limit=0,
        unit="rows",
    ),
    Threshold(
        name="Rows missed of a list that grows by 100 rows a second",
        figure=_missed("key-growing", OURS),
        limit=0,
        unit="rows",
    ),
    Threshold(
        name="4,000 occurrences, 100 ms a reply, of a list that grows by 100 rows a second",
        figure=_field("seconds", "key-growing"),
        limit=10,
        unit="s",
    ),
)

WINDOWS = (
    Threshold(
        name="One hour by page, 1000 pages below the newest row",
        figure=_field("requests", "depth", BY_PAGE, DEEP),
        limit=_requests_allowed_by_page,
        unit="requests",
    ),
    Threshold(
        name="One hour, 1000 pages below the newest row, one row a second",
        figure=_field("requests", "key-depth", case=DEEP),
        limit=15,
        unit="requests",
    ),
    Threshold(
        name="One hour, 1000 pages below the newest row, rows in bursts, most requests",
        figure=_most_requests_in_bursts,
        limit=25,
        unit="requests",
    ),
    Threshold(
        name="A tick without new rows, for each resource ordered by its cursor",
        figure=_most_requests_of_a_tick,
        limit=2,
        unit="requests",
    ),
    Threshold(
        name="One hour merged into 1,000,000 rows against into none",
        figure=lambda results: _slowness(results.find("merge", OURS, MILLION), results.find("merge", OURS, 0)),
        limit=2,
        unit="times the seconds",
    ),
)

MEMORY = (
    Threshold(
        name="Peak memory, 100,000 rows",
        figure=_field("peak_mb", "scale", case=HUNDRED_THOUSAND),
        limit=600,
        unit="MB",
    ),
    Threshold(
        name="Peak memory, 1,000,000 rows",
        figure=_field("peak_mb", "scale", case=MILLION),
        limit=600,
        unit="MB",
    ),
    Threshold(
        name="Peak memory, 1,000,000 rows against 100,000",
        figure=lambda results: _memory_ratio(
            results.find("scale", OURS, MILLION), results.find("scale", OURS, HUNDRED_THOUSAND)
        ),
        limit=1.25,
        unit="times",
    ),
    *(
        Threshold(
            name=f"Peak memory, 100,000 rows, {page_size} a page: by key against by page",
            figure=_memory_by_key(scenario),
            limit=1.1,
            unit="times",
        )
        for scenario, page_size in (("small-pages", 20), ("large-pages", 1000))
    ),
)

PIECES = (
    Threshold(
        name="1,000,000 occurrences as one range, in pieces against one merge",
        figure=_seconds_ratio("pieces", IN_PIECES, OURS),
        limit=1.15,
        unit="times the seconds",
    ),
    Threshold(
        name="Peak memory in pieces, 1,000,000 rows against 100,000",
        figure=lambda results: _memory_ratio(
            results.find("pieces", IN_PIECES, MILLION), results.find("pieces", IN_PIECES, HUNDRED_THOUSAND)
        ),
        limit=1.15,
        unit="times",
    ),
    Threshold(
        name="A year of days into 10,000,000 rows: the fastest piece against the slowest",
        figure=_unsteadiness,
        limit=1.25,
        unit="times the rows a second",
    ),
)

POSTGRES = (
    Threshold(
        name="100,000 occurrences from a cold start into PostgreSQL against into DuckDB",
        figure=_seconds_ratio("postgres-cold", OURS, ON_DUCKDB),
        limit=1.5,
        unit="times the seconds",
    ),
    Threshold(
        name="20,000 occurrences into PostgreSQL against plain dlt with Parquet",
        figure=_seconds_ratio("postgres-cold", LARGE_PAGES, PLAIN_PARQUET),
        limit=1,
        unit="times the seconds",
    ),
    Threshold(
        name="One hour into 1,000,000 rows in PostgreSQL against into none, with coverage",
        figure=lambda results: _slowness(
            results.find("postgres-merge", IN_PIECES, MILLION), results.find("postgres-merge", IN_PIECES, 0)
        ),
        limit=2,
        unit="times the seconds",
    ),
)

PROJECTS = (
    Threshold(
        name="Two projects, 100 ms a page, side by side against one after the other",
        figure=_seconds_ratio("projects", SIDE_BY_SIDE, ONE_AFTER_THE_OTHER),
        limit=0.6,
        unit="times the seconds",
    ),
    Threshold(
        name="Peak memory of two projects, side by side against one after the other",
        figure=lambda results: _memory_ratio(
            results.find("projects", SIDE_BY_SIDE), results.find("projects", ONE_AFTER_THE_OTHER)
        ),
        limit=1.1,
        unit="times",
    ),
    Threshold(
        name="The plan of a tick of 100 projects, each with a year of days",
        figure=_field("seconds", "projects-plan"),
        limit=1,
        unit="s",
    ),
    Threshold(
        name="Loading the settings and the definitions, 100 projects against one",
        figure=lambda results: _slowness(
            results.find("projects-definitions", DEFINITIONS), results.find("projects-definitions", DEFINITIONS, 1)
        ),
        limit=1.1,
        unit="times the seconds",
    ),
)

IMPORTS = (
    Threshold(
        name="Importing the definitions against importing the libraries",
        figure=_seconds_ratio("imports", DEFINITIONS, LIBRARIES),
        limit=1.3,
        unit="times the seconds",
    ),
)


INSIGHTS = (
    Threshold(
        name="2,000 verdicts from 1,000,000 occurrences",
        figure=_field("seconds", "insights", ALL_VERDICTS),
        limit=3,
        unit="s",
    ),
    Threshold(
        name="The insights after a load without new rows, beside 1,000,000 occurrences",
        figure=_field("seconds", "insights", NO_VERDICT),
        limit=0.3,
        unit="s",
    ),
)


def judge(results: Results) -> list[dict[str, object]]:
    """Return the verdict on each threshold whose figure is in the results."""
    return [
        verdict
        for threshold in (*FULL_LOADS, *WINDOWS, *MEMORY, *PIECES, *POSTGRES, *PROJECTS, *IMPORTS, *INSIGHTS)
        if (verdict := threshold.judge(results))
    ]


def describe_memory_limit(results: Results) -> str | None:
    """Return a sentence on the time and the memory with and without the memory limit, for the largest list."""
    limited, unlimited = results.find("scale", OURS), results.find("scale", UNLIMITED)
    if not limited or not unlimited:
        return None
    return (
        f"Memory limit, {limited.case:,} rows: {limited.seconds:.1f} s and {limited.peak_mb:.0f} MB with the default "
        f"limit, {unlimited.seconds:.1f} s and {unlimited.peak_mb:.0f} MB without one."
    )
