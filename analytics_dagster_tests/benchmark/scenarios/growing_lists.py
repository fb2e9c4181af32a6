"""Loads of a list that grows while it is read."""

from collections.abc import Iterator

from analytics_dagster_tests.benchmark.bench import SPACING, Bench, a_job
from analytics_dagster_tests.benchmark.measurements import FLOOR, OURS, Measurement, summed_up
from analytics_dagster_tests.benchmark.runs import RunError, run
from analytics_dagster_tests.benchmark.server_process import serving


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
