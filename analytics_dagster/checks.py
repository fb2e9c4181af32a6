"""The checks from a terminal: runs the job `data_checks` in this process, and prints the sentence of each check.

    python -m analytics_dagster.checks

The exit code is 1 if a check failed with the severity ERROR, or the job itself failed, and 0 otherwise. `dg launch` can
run the job too, but prints no results, and a check that failed does not fail its run.
"""

import sys

import dagster as dg

from analytics_dagster.defs.jobs import DATA_CHECKS
from analytics_dagster.terminal import check_lines, has_job, open_instance, run_job, summary


def main() -> int:
    """Run the checks, print their results, and return the exit code."""
    if not has_job(DATA_CHECKS):
        print("Every resource is disabled: there is nothing to check.")
        return 0
    with open_instance() as instance:
        result, failures = run_job(instance, DATA_CHECKS)
    for failure in failures:
        print(f"failed: {failure}")
    lines = check_lines(result)
    for line in lines:
        print(line)
    print(f"\n{summary(lines)}")
    passed = result.success and all(line.level != dg.AssetCheckSeverity.ERROR.value for line in lines)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
