"""The import of the definitions."""

import statistics
import sys
from collections.abc import Iterator

from analytics_dagster_tests.benchmark.bench import Bench
from analytics_dagster_tests.benchmark.measurements import DEFINITIONS, LIBRARIES, Measurement
from analytics_dagster_tests.benchmark.runs import run_process, workspace


def imports(bench: Bench) -> Iterator[Measurement]:
    """Import the definitions, and the libraries that they are built on."""
    times: dict[str, list[float]] = {LIBRARIES: [], DEFINITIONS: []}
    with workspace() as folder:
        for _ in range(1 + (0 if bench.quick else max(5, bench.rounds))):
            for names, seconds in times.items():
                code = f"import time\nbegan = time.perf_counter()\nimport {names}\nprint(time.perf_counter() - began)"
                seconds.append(float(run_process([sys.executable, "-c", code], folder)))
                bench.log(f"imports: {names} {seconds[-1]:.2f} s")
    for names, seconds in times.items():
        counted = seconds if bench.quick else seconds[1:]  # the first import compiles
        yield Measurement(
            scenario="imports",
            loader=names,
            case=0,
            seconds=statistics.median(counted),
            all_seconds=[round(each, 3) for each in counted],
        )
