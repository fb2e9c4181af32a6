"""The command `python -m analytics_dagster_tests.benchmark`: measures, prints, judges, writes and draws."""

import argparse
import sys
import time
from pathlib import Path
from typing import TextIO

from analytics_dagster_tests.benchmark import plots, report
from analytics_dagster_tests.benchmark.bench import Bench
from analytics_dagster_tests.benchmark.measurements import Results, read_results
from analytics_dagster_tests.benchmark.runs import RunError
from analytics_dagster_tests.benchmark.scenarios import LONG, SCENARIOS, measure
from analytics_dagster_tests.benchmark.server_process import ROOT

RESULTS = ROOT / "docs" / "performance.json"


def main() -> int:
    """Run the benchmark. Return 1 if a run failed, or if the landed rows differ from the served ones."""
    parser = argparse.ArgumentParser(prog="python -m analytics_dagster_tests.benchmark", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, one round, about a minute; nothing is judged or written"
    )
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--rounds", type=int, help="runs of each loader (default: 3)")
    parser.add_argument(
        "--output",
        type=Path,
        help="JSON file of the results, with the plots beside it; other scenarios in it stay (docs/performance.json)",
    )
    options = parser.parse_args()
    began = time.monotonic()
    bench = Bench(
        quick=options.quick,
        rounds=options.rounds or (1 if options.quick else 3),
        log=lambda line: _write(sys.stderr, f"{time.monotonic() - began:6.0f} s  {line}"),
    )
    names = options.only or [name for name in SCENARIOS if not (options.quick and name in LONG)]
    results, failure = Results(), None
    try:
        for measurement in measure(names, bench):
            results.all.append(measurement)
    except RunError as error:
        failure = error
    _write(sys.stdout, f"\n{report.format_table(results)}\n\n{report.format_verdicts(results, quick=options.quick)}")
    if failure:
        _write(sys.stderr, f"\nFAILED: {failure}")
        return 1
    file = options.output or (None if options.quick else RESULTS)
    if file:
        all_results = read_results(file).updated_with(results)
        report.write_results(all_results, file)
        for written in (file, *plots.draw_plots(all_results, file.parent)):
            _write(sys.stdout, f"Wrote {written}")
    return 0


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
