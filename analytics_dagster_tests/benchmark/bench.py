"""How much to measure, and the comparison of loaders: what the scenarios share.

Contenders of a scenario take turns within each round, so that a disturbance of the machine meets all of them. Sizes for
`--quick` stand beside the real ones; they show that everything works and what lands is right, no more.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from analytics_dagster_tests.benchmark.loaders import Job
from analytics_dagster_tests.benchmark.measurements import Measurement, summed_up
from analytics_dagster_tests.benchmark.runs import Run, RunError, run
from analytics_dagster_tests.benchmark.server_process import Server

HOUR = 3_600
LOOKBACK = 600
"""Seconds: an occurrence's lookback."""

PAGE = 20
LARGE_PAGE = 1_000
SPACING = 3.6
"""Seconds between two occurrences: a thousand an hour."""


@dataclass(frozen=True)
class Bench:
    """How much to measure.

    Attributes:
        quick: Whether small sizes and one round will do.
        rounds: How often each contender runs.
        say: Told of every run.
    """

    quick: bool
    rounds: int
    say: Callable[[str], None]

    def compare(
        self, scenario: str, case: int, server: Server, jobs: Mapping[str, Job], **behaviour: float
    ) -> Iterator[Measurement]:
        """Let contenders load the same rows in turn, and compare what landed with what was served."""
        runs: dict[str, list[Run]] = {name: [] for name in jobs}
        for number in range(1, self.rounds + 1):
            for name, job in jobs.items():
                done = run(job, server, **behaviour)
                check(done, server.truth(job.start, job.end), name)
                self.report(scenario, case, name, number, done)
                runs[name].append(done)
        for name, done_runs in runs.items():
            yield summed_up(scenario, name, case, done_runs)

    def report(self, scenario: str, case: int, name: str, number: int, done: Run) -> None:
        """Say what a run took."""
        self.say(
            f"{scenario} {case:,}, round {number}: {name} {done.seconds:.2f} s, {done.peak_mb:.0f} MB, "
            f"{done.requests:,} requests, {len(done.landed):,} rows"
        )


def check(done: Run, truth: set[tuple[int, int]], name: str) -> None:
    """Raise RunError unless exactly the rows that were served landed."""
    if done.landed != truth:
        raise RunError(f"{name}: {len(truth - done.landed)} rows are missing, {len(done.landed - truth)} are wrong.")


def a_job(contender: str, **options: object) -> Job:
    """A job; the rest is filled in for each run."""
    return replace(Job(contender=contender, url="", folder="", warehouse=""), **options)
