"""Loads of a list that grows while it is read. Rows are missed if the list had them before and they do not land."""

from collections.abc import Iterator, Mapping

from analytics_dagster_tests.benchmark.bench import PAGE, SPACING, Bench, build_job
from analytics_dagster_tests.benchmark.loaders import Job
from analytics_dagster_tests.benchmark.measurements import BY_PAGE, FLOOR, OURS, Measurement, summarize
from analytics_dagster_tests.benchmark.runs import RunError, run_job
from analytics_dagster_tests.benchmark.server_process import start_server


def growing(bench: Bench) -> Iterator[Measurement]:
    """Load page by page while twenty rows a second arrive."""
    rows = 400 if bench.quick else 4_000
    by_page = build_job("ours", page_size=PAGE, paging="page")
    jobs = {
        BY_PAGE: by_page,
        f"{BY_PAGE}, in sequence": build_job("ours", page_size=PAGE, paging="page", in_flight=1),
        FLOOR: build_job("floor", page_size=PAGE),
    }
    if bench.quick:
        jobs = {BY_PAGE: by_page}
    yield from _count_missed("growing", rows, bench, jobs, delay=0.05, jitter=0.8, arrivals_per_second=20)


def key_growing(bench: Bench) -> Iterator[Measurement]:
    """Load with the default settings while a hundred rows a second arrive, until a load by page would end as well."""
    rows, most_arrivals = (400, 200) if bench.quick else (4_000, 1_500)
    behaviour = {"delay": 0.1, "arrivals_per_second": 100, "most_arrivals": most_arrivals}
    yield from _count_missed("key-growing", rows, bench, {OURS: build_job("ours")}, **behaviour)


def _count_missed(
    scenario: str, rows: int, bench: Bench, jobs: Mapping[str, Job], **behaviour: float
) -> Iterator[Measurement]:
    """Run the jobs one after the other, and yield a measurement of each with the figure `missed`.

    Raises:
        RunError: A run failed, or rows landed that were never served.
    """
    with start_server(rows, spacing=SPACING) as server:
        server.reset()
        first_rows = server.truth()
        for label, job in jobs.items():
            runs, missed = [], []
            for number in range(1, bench.rounds + 1):
                runs.append(run_job(job, server, duplicates=label == FLOOR, seed=number, **behaviour))
                bench.log_run(scenario, rows, label, number, runs[-1])
                missed.append(len(first_rows - runs[-1].landed))
                if unknown := runs[-1].landed - server.truth():
                    raise RunError(f"{label}: {len(unknown)} landed rows were never served.")
            yield summarize(scenario, label, rows, runs, missed=max(missed))
