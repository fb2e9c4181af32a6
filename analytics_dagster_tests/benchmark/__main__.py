"""`python -m analytics_dagster_tests.benchmark`: measure, print, judge, write, draw."""

import argparse
import sys
import time
from pathlib import Path
from typing import TextIO

from analytics_dagster_tests.benchmark import measurements, plots, report
from analytics_dagster_tests.benchmark.bench import Bench
from analytics_dagster_tests.benchmark.runs import RunError
from analytics_dagster_tests.benchmark.scenarios import LONG, SCENARIOS, measure
from analytics_dagster_tests.benchmark.server_process import ROOT

RESULTS = ROOT / "docs" / "performance.json"


def main() -> int:
    """Run the benchmark; 1 if a run failed or what landed is not what was served."""
    parser = argparse.ArgumentParser(prog="python -m analytics_dagster_tests.benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: under a minute; judges nothing")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, help="runs of each contender (3)")
    parser.add_argument(
        "--output", type=Path, help="results as JSON, others in it kept, and plots beside it (docs/performance.json)"
    )
    options = parser.parse_args()
    began = time.monotonic()
    bench = Bench(
        quick=options.quick,
        rounds=options.rounds or (1 if options.quick else 3),
        say=lambda what: _write(sys.stderr, f"{time.monotonic() - began:6.0f} s  {what}"),
    )
    names = options.only or [name for name in SCENARIOS if not (options.quick and name in LONG)]
    results, failure = measurements.Results(), None
    try:
        for measured in measure(names, bench):
            results.all.append(measured)
    except RunError as error:
        failure = error
    _write(sys.stdout, f"\n{report.table(results)}\n\n{report.verdicts(results, quick=options.quick)}")
    if failure:
        _write(sys.stderr, f"\nFAILED: {failure}")
        return 1
    file = options.output or (None if options.quick else RESULTS)
    if file:
        everything = measurements.read(file).replaced_by(results)
        report.write(everything, file)
        for written in (file, *plots.draw(everything, file.parent)):
            _write(sys.stdout, f"written: {written}")
    return 0


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
