"""Loads of a list that grows while it is read."""

from collections.abc import Iterator

from analytics_dagster_tests.benchmark.bench import SPACING, Bench, build_job
from analytics_dagster_tests.benchmark.measurements import FLOOR, OURS, Measurement, summarize
from analytics_dagster_tests.benchmark.runs import RunError, run_job
from analytics_dagster_tests.benchmark.server_process import start_server


def growing(bench: Bench) -> Iterator[Measurement]:
    """Load a list that grows by twenty rows a second, and count the missed rows among those that it had before."""
    rows = 400 if bench.quick else 4_000
    jobs = {OURS: build_job("ours"), f"{OURS}, in sequence": build_job("ours", in_flight=1), FLOOR: build_job("floor")}
    if bench.quick:
        jobs = {OURS: jobs[OURS]}
    with start_server(rows, spacing=SPACING) as server:
        server.reset()
        first_rows = server.truth()
        for label, job in jobs.items():
            runs, missed = [], []
            for number in range(1, bench.rounds + 1):
                behaviour = {"delay": 0.05, "jitter": 0.8, "arrivals_per_second": 20, "seed": number}
                runs.append(run_job(job, server, duplicates=label == FLOOR, **behaviour))
                bench.log_run("growing", rows, label, number, runs[-1])
                missed.append(len(first_rows - runs[-1].landed))
                if unknown := runs[-1].landed - server.truth():
                    raise RunError(f"{label}: {len(unknown)} landed rows were never served.")
            yield summarize("growing", label, rows, runs, missed=max(missed))
