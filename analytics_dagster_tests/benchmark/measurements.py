"""Results of the benchmark: medians over the rounds, written as JSON and read back."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from analytics_dagster_tests.benchmark.runs import Run

FLOOR = "floor"
OURS = "ours"
BY_PAGE = f"{OURS}, by page"
UNLIMITED = f"{OURS}, no limit"
IN_PIECES = f"{OURS}, in pieces"
ON_DUCKDB = f"{OURS}, DuckDB"
LARGE_PAGES = f"{OURS}, 1000 a page"
PLAIN, PLAIN_PARQUET = "plain dlt", "plain dlt, Parquet"
ALL_VERDICTS, NO_VERDICT = "all verdicts", "nothing new"
SIDE_BY_SIDE, ONE_AFTER_THE_OTHER = "side by side", "one after the other"
DEFINITIONS, LIBRARIES = "analytics_dagster.definitions", "dagster, dagster_dlt, dlt"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A loader's result in a scenario.

    Attributes:
        scenario: Name of the scenario.
        loader: Label of the loader.
        case: Number that varies within the scenario: rows of the list, or pages below the newest row.
        rows: Rows loaded; 0 where their number has no meaning.
        seconds: Median over the rounds.
        all_seconds: Seconds of each round, in their order.
        cpu_seconds: Median CPU seconds of the loading process.
        peak_mb: Median peak memory of the loading process.
        requests: Median of the requests served.
        figures: Further figures, by name.
        measured_at: Time of the measurement, ISO 8601 in UTC.
    """

    scenario: str
    loader: str
    case: int
    rows: int = 0
    seconds: float
    all_seconds: Sequence[float]
    cpu_seconds: float = 0.0
    peak_mb: float = 0.0
    requests: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    measured_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def slowness(self, other: "Measurement") -> float:
        """Return the median over the rounds of the seconds per second of `other`, which ran in the same rounds."""
        pairs = zip(self.all_seconds, other.all_seconds, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    @property
    def rows_per_second(self) -> float:
        """Rows landed per second."""
        return self.rows / self.seconds if self.seconds else 0.0


def summarize(scenario: str, loader: str, case: int, runs: Sequence[Run], **figures: float) -> Measurement:
    """Return the medians of runs."""
    return Measurement(
        scenario=scenario,
        loader=loader,
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
    """Measurements by scenario, loader and case."""

    def __init__(self, measurements: Iterable[Measurement] = ()) -> None:
        self.all = list(measurements)

    def find(self, scenario: str, loader: str, case: int | None = None) -> Measurement | None:
        """Return the measurement of a case, or of the largest case if none is given; None if it is missing."""
        found = [each for each in self.by_case(scenario, loader) if case in {None, each.case}]
        return found[-1] if found else None

    def by_case(self, scenario: str, loader: str) -> list[Measurement]:
        """Return a loader's measurements in a scenario, smallest case first."""
        found = [each for each in self.all if each.scenario == scenario and each.loader == loader]
        return sorted(found, key=lambda each: each.case)

    def updated_with(self, newer: "Results") -> "Results":
        """Return these results, with every scenario that `newer` has taken from `newer`."""
        scenarios = {each.scenario for each in newer.all}
        return Results([*(each for each in self.all if each.scenario not in scenarios), *newer.all])


def read_results(file: Path) -> Results:
    """Read results from JSON; return empty ones if the file does not exist."""
    if not file.exists():
        return Results()
    return Results(Measurement(**each) for each in json.loads(file.read_text())["measurements"])


def as_dicts(results: Results) -> list[dict[str, object]]:
    """Return the measurements as JSON objects, with rounded figures."""
    return [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(each).items()}
        for each in results.all
    ]
