"""The command `python -m analytics_dagster_tests.study`: simulates, prints, judges, writes and draws."""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from analytics_dagster_tests.study import plots, report
from analytics_dagster_tests.study.processes import PROCESSES
from analytics_dagster_tests.study.results import Cell, Results
from analytics_dagster_tests.study.simulation import simulate_process
from analytics_dagster_tests.study.thresholds import judge

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "deploy-impact.json"
DOCUMENT = RESULTS.with_suffix(".md")


def main() -> int:
    """Run the study. Return 1 if a threshold is not met."""
    parser = argparse.ArgumentParser(prog="python -m analytics_dagster_tests.study", description=__doc__)
    parser.add_argument("--deploys", type=int, default=4_000, help="deploys of each cell (default: 4000)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random numbers (default: 1)")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="JSON file, with the plots beside it (docs/deploy-impact.json)"
    )
    options = parser.parse_args()
    began = time.monotonic()
    cells: list[Cell] = []
    for process in PROCESSES:
        cells += simulate_process(process, deploys=options.deploys, seed=options.seed)
        _write(sys.stderr, f"{time.monotonic() - began:6.0f} s  {process.name}")
    results = Results(deploys=options.deploys, seed=options.seed, cells=cells)
    judged = list(judge(results))
    _write(sys.stdout, f"\n{report.format_table(results)}\n\n{report.format_thresholds(judged)}")
    results.write(options.output, thresholds=[asdict(each) for each in judged])
    for written in (options.output, *plots.draw_plots(results, options.output.parent)):
        _write(sys.stdout, f"Wrote {written}")
    if options.output == RESULTS:
        DOCUMENT.write_text(report.current(DOCUMENT.read_text(), results))
    return 0 if all(each.met for each in judged) else 1


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
