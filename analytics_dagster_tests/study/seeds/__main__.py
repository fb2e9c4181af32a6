"""The command `python -m analytics_dagster_tests.study.seeds`: loads seeds, prints, judges and writes the figures."""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

from analytics_dagster_tests.study.report import format_thresholds
from analytics_dagster_tests.study.seeds import report
from analytics_dagster_tests.study.seeds.loading import Judged, judge_seeds
from analytics_dagster_tests.study.seeds.results import judge, tabulate

RESULTS = Path(__file__).resolve().parents[3] / "docs" / "deploy-impact-seeds.json"
DOCUMENT = RESULTS.with_name("deploy-impact.md")


def main() -> int:
    """Load the seeds. Return 1 if a threshold is not met."""
    parser = argparse.ArgumentParser(prog="python -m analytics_dagster_tests.study.seeds", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="number of seeds, from 1 on (default: 200)")
    parser.add_argument("--days", type=int, default=3, help="days of history of each, at least 2 (default: 3)")
    parser.add_argument("--at-a-time", type=int, default=25, help="seeds in one warehouse (default: 25)")
    parser.add_argument("--minutes", type=float, default=60, help="time after which no more are loaded (default: 60)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON file (docs/deploy-impact-seeds.json)")
    options = parser.parse_args()
    began = time.monotonic()
    judged: list[Judged] = []
    seeds = 0
    while seeds < options.seeds and time.monotonic() - began < 60 * options.minutes:
        several = range(seeds + 1, min(seeds + options.at_a_time, options.seeds) + 1)
        judged += judge_seeds(several, days=options.days)
        seeds = several[-1]
        _print(f"{time.monotonic() - began:6.0f} s  {seeds} seeds, {len(judged)} deploys")
    results = tabulate(judged, seeds=seeds, days=options.days)
    judgements = list(judge(results))
    _print(f"\n{report.situations(results)}\n\n{format_thresholds(judgements)}")
    results.write(options.output, thresholds=[asdict(each) for each in judgements])
    if options.output == RESULTS:
        DOCUMENT.write_text(report.current(DOCUMENT.read_text(), results))
    return 0 if all(each.met for each in judgements) else 1


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
