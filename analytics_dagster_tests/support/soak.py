"""A long simulation: does the warehouse equal the service in the end, and do memory and file grow with the rows alone?

`python -m analytics_dagster_tests.support.soak --ticks 500` prints figures as it goes and draws them. What happens in a
tick is up to `simulation.py`.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median_high
from tempfile import TemporaryDirectory

from analytics_dagster_tests.benchmark.plots import plot
from analytics_dagster_tests.support.project import Project, a_project
from analytics_dagster_tests.support.simulation import COMPARED, START, Simulation, simulated

SEED = 1
TICKS_BETWEEN_LINES = 10
POINTS_DRAWN = 50


@dataclass(frozen=True, kw_only=True)
class Point:
    """What a simulation occupies after a number of ticks.

    Attributes:
        tick: Ticks so far.
        rows: Rows in the tables of the incremental assets.
        memory: Bytes of memory resident in this process, the service's included.
        file: Bytes of the DuckDB file.
    """

    tick: int
    rows: int
    memory: int
    file: int


def soak(project: Project, simulation: Simulation, ticks: int) -> list[Point]:
    """Run ticks; return what they occupied, after each of them."""
    points = []
    began = time.perf_counter()
    for tick in range(1, ticks + 1):
        simulation.tick()
        tables = " + ".join(f"(SELECT count(*) FROM analytics.{name})" for name in COMPARED)
        ((rows,),) = project.sql(f"SELECT {tables}")
        points.append(Point(tick=tick, rows=rows, memory=_resident(), file=project.warehouse.stat().st_size))
        if tick % TICKS_BETWEEN_LINES == 0:
            _say(f"{tick:5} ticks {time.perf_counter() - began:6.0f} s  {_figures(points[-1])}")
    return points


def growth(points: Sequence[Point]) -> tuple[float, float]:
    """How often the memory, and the bytes a row in the file, have grown from the first fifth to the last, by medians.

    The first fifth loads what was there before; the pages of DuckDB's file and the heap's arenas are coarse then.
    """
    fifth = len(points) // 5
    early, late = points[fifth : 2 * fifth], points[-fifth:]
    memory = median_high(one.memory for one in late) / median_high(one.memory for one in early)
    bytes_a_row = median_high(one.file / one.rows for one in late) / median_high(one.file / one.rows for one in early)
    return memory, bytes_a_row


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096


def _figures(point: Point) -> str:
    return f"{point.rows:9,} rows  {point.memory / 2**20:6.0f} MB of memory  {point.file / 2**20:6.1f} MB of file"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run a simulation, say what it came to, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=500)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, help="SVG to draw the figures into")
    options = parser.parse_args()
    with TemporaryDirectory() as folder, a_project(Path(folder)) as project, simulated(project, options.seed) as life:
        points = soak(project, life, options.ticks)
        life.settle()
        missing = life.missing(project, START - timedelta(days=1))
        happened = ", ".join(f"{count} {what}" for what, count in sorted(life.happened.items()))
    memory, bytes_a_row = growth(points)
    _say(f"happened: {happened}")
    _say(f"grown: memory {memory:.2f} times, bytes a row {bytes_a_row:.2f} times")
    _say(f"missing in the end: {missing or 'nothing'}")
    if options.output:
        shown = points[:: max(1, len(points) // POINTS_DRAWN)]
        series = {
            "rows, thousands": [(one.tick, one.rows / 1_000) for one in shown],
            "memory, MB": [(one.tick, one.memory / 2**20) for one in shown],
            "file, MB": [(one.tick, one.file / 2**20) for one in shown],
        }
        options.output.write_text(plot(f"{options.ticks} ticks of an hour", "ticks", series))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
