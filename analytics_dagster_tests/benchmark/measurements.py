"""What was measured: medians over the rounds, and their way into JSON and back."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from analytics_dagster_tests.benchmark.runs import Run

FLOOR = "floor"
OURS = "ours"
UNLIMITED = f"{OURS}, no limit"
PLAIN, PLAIN_PARQUET = "plain dlt", "plain dlt, Parquet"
DEFINITIONS, LIBRARIES = "analytics_dagster.definitions", "dagster, dagster_dlt, dlt"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A contender in a scenario.

    Attributes:
        scenario: Which comparison it belongs to.
        contender: What was run.
        case: What varies within the scenario: rows of the list, or pages below the newest.
        rows: Rows that were loaded; 0 where that says nothing.
        seconds: Median over the rounds.
        all_seconds: Of each round.
        cpu_seconds: Median, of the loading process.
        peak_mb: Median of the most memory the loading process had.
        requests: Median of requests served.
        figures: What else was counted, by name.
        made: When, in UTC.
    """

    scenario: str
    contender: str
    case: int
    rows: int = 0
    seconds: float
    all_seconds: Sequence[float]
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    requests: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    made: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def rows_per_second(self) -> float:
        """Rows landed in a second."""
        return self.rows / self.seconds if self.seconds else 0.0


def summed_up(scenario: str, contender: str, case: int, runs: Sequence[Run], **figures: float) -> Measurement:
    """Return the medians of runs."""
    return Measurement(
        scenario=scenario,
        contender=contender,
        case=case,
        rows=len(runs[0].landed),
        seconds=statistics.median(run.seconds for run in runs),
        all_seconds=[round(run.seconds, 3) for run in runs],
        cpu_seconds=statistics.median(run.cpu_seconds for run in runs),
        peak_mb=statistics.median(run.peak_mb for run in runs),
        requests=statistics.median(run.requests for run in runs),
        figures=figures,
    )


class Results:
    """Measurements by scenario, contender and case."""

    def __init__(self, measurements: Iterable[Measurement] = ()) -> None:
        self.all = list(measurements)

    def find(self, scenario: str, contender: str, case: int | None = None) -> Measurement | None:
        """Return a measurement; the one of the largest case if none is given. None if it was not made."""
        fitting = [
            one
            for one in self.all
            if one.scenario == scenario and one.contender == contender and case in {None, one.case}
        ]
        return max(fitting, key=lambda one: one.case, default=None)

    def of(self, scenario: str, contender: str) -> list[Measurement]:
        """Return the measurements of a contender in a scenario by case, smallest first."""
        fitting = [one for one in self.all if one.scenario == scenario and one.contender == contender]
        return sorted(fitting, key=lambda one: one.case)

    def replaced_by(self, newer: "Results") -> "Results":
        """Return these results with the scenarios that `newer` has taken from there."""
        scenarios = {one.scenario for one in newer.all}
        return Results([*(one for one in self.all if one.scenario not in scenarios), *newer.all])


def read(file: Path) -> Results:
    """Read results; none if there is no file."""
    if not file.exists():
        return Results()
    return Results(Measurement(**one) for one in json.loads(file.read_text())["measurements"])


def as_dicts(results: Results) -> list[dict[str, object]]:
    """Return the measurements as JSON takes them."""
    return [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(one).items()}
        for one in results.all
    ]
