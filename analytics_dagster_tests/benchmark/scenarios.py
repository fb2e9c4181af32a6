"""What is measured: which server, which contenders, in what order, and what must have landed.

Contenders of a scenario take turns within each round, so that a disturbance of the machine meets all of them. Sizes for
`--quick` stand beside the real ones; they show that everything works and what lands is right, no more.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from analytics_dagster_tests.benchmark.loaders import Job
from analytics_dagster_tests.benchmark.measurements import FLOOR, OURS, Measurement, summed_up
from analytics_dagster_tests.benchmark.rows import FORMATS
from analytics_dagster_tests.benchmark.runs import Run, RunError, in_process, run, workspace
from analytics_dagster_tests.benchmark.server_process import Server, serving

HOUR = 3_600
LOOKBACK = 600
"""Seconds: an occurrence's lookback."""

PAGE = 20
LARGE_PAGE = 1_000
SPACING = 3.6
"""Seconds between two occurrences: a thousand an hour."""

UNLIMITED = f"{OURS}, no limit"
PLAIN, PLAIN_PARQUET = "plain dlt", "plain dlt, Parquet"
DEFINITIONS, LIBRARIES = "analytics_dagster.definitions", "dagster, dagster_dlt, dlt"


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


# -- scenarios ----------------------------------------------------------------------------------------------


def small_pages(bench: Bench) -> Iterator[Measurement]:
    """Many small pages without delay: what a request and a row cost."""
    rows = 4_000 if bench.quick else 100_000
    with serving(rows, spacing=SPACING) as server:
        jobs = {
            FLOOR: a_job("floor", in_flight=4),
            OURS: a_job("ours"),
            PLAIN_PARQUET: a_job("plain-parquet"),
        }
        if bench.quick:
            del jobs[PLAIN_PARQUET]
        yield from bench.compare("small-pages", rows, server, jobs)
    # Plain dlt's default format takes too long, and too much memory, for as many rows as the others load.
    rows = 500 if bench.quick else 20_000
    with serving(rows, spacing=SPACING) as server:
        yield from bench.compare("small-pages", rows, server, {PLAIN: a_job("plain")})


def large_pages(bench: Bench) -> Iterator[Measurement]:
    """Few large pages without delay: what a row costs."""
    rows = 4_000 if bench.quick else 100_000
    with serving(rows, spacing=SPACING) as server:
        jobs = {
            FLOOR: a_job("floor", in_flight=4, page_size=LARGE_PAGE),
            OURS: a_job("ours", page_size=LARGE_PAGE),
        }
        yield from bench.compare("large-pages", rows, server, jobs)


def latency(bench: Bench) -> Iterator[Measurement]:
    """A slow service: what reading ahead saves, and what the proof of continuity costs."""
    rows = 400 if bench.quick else 4_000
    with serving(rows, spacing=SPACING) as server:
        jobs = {FLOOR: a_job("floor", in_flight=8), OURS: a_job("ours", in_flight=8)}
        yield from bench.compare("latency", rows, server, jobs, delay=0.1)


def scale(bench: Bench) -> Iterator[Measurement]:
    """More and more rows, with the shipped memory limit and without."""
    for rows in (2_000, 4_000) if bench.quick else (10_000, 30_000, 100_000, 300_000, 1_000_000):
        with serving(rows, spacing=SPACING) as server:
            jobs = {
                FLOOR: a_job("floor", in_flight=4, page_size=LARGE_PAGE),
                OURS: a_job("ours", page_size=LARGE_PAGE),
                UNLIMITED: a_job("ours", page_size=LARGE_PAGE, memory_limit=""),
            }
            yield from bench.compare("scale", rows, server, jobs)


def depth(bench: Bench) -> Iterator[Measurement]:
    """One hour's window, further and further below the newest page."""
    depths = (30,) if bench.quick else (1, 10, 100, 1_000, 10_000)
    with serving(PAGE * max(depths) + 4_000, spacing=SPACING) as server:
        for pages in depths:
            end = server.newest - pages * PAGE * SPACING
            job = a_job("ours", start=end - HOUR - LOOKBACK, end=end)
            for measured in bench.compare("depth", pages, server, {OURS: job}):
                yield replace(measured, figures={"pages_of_window": -(-measured.rows // PAGE)})


def tick(bench: Bench) -> Iterator[Measurement]:
    """The schedule's run when nothing is new, fifteen minutes' lists being shorter than a page."""
    job = a_job("ours-resumed")
    with tempfile.TemporaryDirectory() as name, serving(200, spacing=60) as server:
        before = Path(name) / "before.duckdb"
        first = run(job, server, keep=before)
        again, requests = [], []
        for number in range(1, bench.rounds + 1):
            again.append(run(job, server, into=before))
            asked = server.stats()["requests"]
            requests.append({item.rows_at: asked.get(item.path, 0) for item in FORMATS})
            bench.report("tick", 0, OURS, number, again[-1])
        if any(done.landed != first.landed for done in again):
            raise RunError("A tick with nothing new changed the table.")
        figures = {item.rows_at: statistics.median(one[item.rows_at] for one in requests) for item in FORMATS}
        yield replace(summed_up("tick", OURS, 0, again, **figures), rows=0)


def growing(bench: Bench) -> Iterator[Measurement]:
    """A list that grows by twenty rows a second while it is read: what is missed of the rows it had before."""
    rows = 400 if bench.quick else 4_000
    jobs = {OURS: a_job("ours"), f"{OURS}, in sequence": a_job("ours", in_flight=1), FLOOR: a_job("floor")}
    if bench.quick:
        jobs = {OURS: jobs[OURS]}
    with serving(rows, spacing=SPACING) as server:
        server.reset()
        throughout = server.truth()
        for name, job in jobs.items():
            runs, missed = [], []
            for number in range(1, bench.rounds + 1):
                behaviour = {"delay": 0.05, "jitter": 0.8, "arrivals_per_second": 20, "seed": number}
                runs.append(run(job, server, duplicates=name == FLOOR, **behaviour))
                bench.report("growing", rows, name, number, runs[-1])
                missed.append(len(throughout - runs[-1].landed))
                if wrong := runs[-1].landed - server.truth():
                    raise RunError(f"{name}: {len(wrong)} rows landed that were never served.")
            yield summed_up("growing", name, rows, runs, missed=max(missed))


def merge(bench: Bench) -> Iterator[Measurement]:
    """One hour's window into an empty table, and into one that has it and all the others."""
    rows = 4_000 if bench.quick else 1_000_000
    with tempfile.TemporaryDirectory() as name, serving(rows, spacing=SPACING) as server:
        full = Path(name) / "full.duckdb"
        bench.say(f"merge: filling a table with {rows:,} rows")
        everything = run(a_job("ours", page_size=5_000, memory_limit=""), server, keep=full)
        check(everything, server.truth(), OURS)
        hour = a_job("ours", page_size=LARGE_PAGE, start=server.newest - HOUR, end=server.newest + 1)
        tables = {rows: full} if bench.quick else {0: None, rows: full}
        runs: dict[int, list[Run]] = {before: [] for before in tables}
        for number in range(1, bench.rounds + 1):
            for before, into in tables.items():
                done = run(hour, server, into=into)
                check(done, server.truth() if into else server.truth(hour.start, hour.end), OURS)
                bench.report("merge", before, OURS, number, done)
                runs[before].append(done)
        for before, done_runs in runs.items():
            yield replace(summed_up("merge", OURS, before, done_runs), rows=len(server.truth(hour.start, hour.end)))


def imports(bench: Bench) -> Iterator[Measurement]:
    """Importing the definitions, and importing what they are made with."""
    times: dict[str, list[float]] = {LIBRARIES: [], DEFINITIONS: []}
    with workspace() as folder:
        for _ in range(1 + (0 if bench.quick else max(5, bench.rounds))):
            for names, seconds in times.items():
                code = f"import time\nbegan = time.perf_counter()\nimport {names}\nprint(time.perf_counter() - began)"
                seconds.append(float(in_process([sys.executable, "-c", code], folder)))
                bench.say(f"imports: {names} {seconds[-1]:.2f} s")
    for names, seconds in times.items():
        counted = seconds if bench.quick else seconds[1:]  # the first ones compile
        yield Measurement(
            scenario="imports",
            contender=names,
            case=0,
            seconds=statistics.median(counted),
            all_seconds=[round(one, 3) for one in counted],
        )


SCENARIOS: dict[str, Callable[[Bench], Iterator[Measurement]]] = {
    "small-pages": small_pages,
    "large-pages": large_pages,
    "latency": latency,
    "depth": depth,
    "tick": tick,
    "growing": growing,
    "imports": imports,
    "merge": merge,
    "scale": scale,
}
"""The quick ones first."""

LONG = ("large-pages", "imports", "scale")
"""Left out of a quick run, unless they are asked for."""


def measure(names: list[str], bench: Bench) -> Iterator[Measurement]:
    """Run scenarios, one after the other."""
    for name in names:
        began = time.monotonic()
        yield from SCENARIOS[name](bench)
        bench.say(f"{name}: done in {time.monotonic() - began:.0f} s")
