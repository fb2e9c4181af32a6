"""The comparison of loaders, on which the scenarios are built.

The loaders of a scenario take turns within each round, so that a disturbance of the machine affects all of them. Each
scenario has small sizes for `--quick` beside its real ones: they show that everything runs and that the landed rows are
right.

    with start_server(100_000, spacing=SPACING) as server:
        jobs = {FLOOR: build_job("floor", page_size=20), OURS: build_job("ours", page_size=20)}
        yield from bench.compare("small-pages", 100_000, server, jobs)
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from analytics_dagster_tests.benchmark.loaders import Job
from analytics_dagster_tests.benchmark.measurements import Measurement, summarize
from analytics_dagster_tests.benchmark.runs import Run, RunError, run_job
from analytics_dagster_tests.benchmark.server_process import Server

HOUR = 3_600
LOOKBACK = 600
"""Lookback of the occurrences, in seconds."""

PAGE = 20
"""Rows a page in the specification."""

LARGE_PAGE = 1_000
SPACING = 3.6
"""Seconds between two occurrences: a thousand an hour."""


@dataclass(frozen=True)
class Bench:
    """Runs and compares loaders.

    Attributes:
        quick: Whether the small sizes are measured.
        rounds: Runs of each loader.
        log: Called with a line about each run.
    """

    quick: bool
    rounds: int
    log: Callable[[str], None]

    def compare(
        self, scenario: str, case: int, server: Server, jobs: Mapping[str, Job], **behaviour: float
    ) -> Iterator[Measurement]:
        """Run the jobs in turn, check the landed rows, and yield a measurement for each job.

        Raises:
            RunError: A run failed, or the landed rows differ from the served ones.
        """
        runs: dict[str, list[Run]] = {label: [] for label in jobs}
        for number in range(1, self.rounds + 1):
            for label, job in jobs.items():
                run = run_job(job, server, **behaviour)
                check_rows(run, server.truth(job.start, job.end), label)
                self.log_run(scenario, case, label, number, run)
                runs[label].append(run)
        for label, label_runs in runs.items():
            yield summarize(scenario, label, case, label_runs)

    def log_run(self, scenario: str, case: int, label: str, number: int, run: Run) -> None:
        """Log the figures of a run."""
        self.log(
            f"{scenario} {case:,}, round {number}: {label} {run.seconds:.2f} s, {run.peak_mb:.0f} MB, "
            f"{run.requests:,} requests, {len(run.landed):,} rows"
        )


def check_rows(run: Run, truth: set[tuple[int, int]], label: str) -> None:
    """Compare the landed rows with the served ones.

    Raises:
        RunError: They differ.
    """
    if run.landed != truth:
        raise RunError(f"{label}: {len(truth - run.landed)} rows are missing, {len(run.landed - truth)} are wrong.")


def build_job(loader: str, **options: object) -> Job:
    """Return a job for `run_job`, which fills in its URL, its folder and its warehouse."""
    return replace(Job(loader=loader, url="", folder="", warehouse=""), **options)
