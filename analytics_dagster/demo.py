"""The demo: loads the last days, judges the deploys, checks the tables, and prints what came.

    python -m analytics_dagster.demo

It runs the project's jobs in this process and on the project's Dagster instance, so that its runs show in the UI.
"""

import logging
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance

from analytics_dagster.catalog import RESOURCES
from analytics_dagster.definitions import definition_settings
from analytics_dagster.defs.jobs import (
    DATA_CHECKS,
    INCREMENTAL_SYNC,
    INSIGHTS_REFRESH,
    METRICS_REFRESH,
    REFERENCE_SYNC,
)
from analytics_dagster.defs.partitions import build_partitions, range_tags
from analytics_dagster.defs.resources import WarehouseResource
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.ingest.settings import SANDBOX_DAYS
from analytics_dagster.ingest.warehouse.location import warehouse_location
from analytics_dagster.insights.extra import describe_missing_packages
from analytics_dagster.insights.wording import format_lines
from analytics_dagster.terminal import PASSED, CheckLine, check_lines, has_job, open_instance, run_job, summary

DAYS = SANDBOX_DAYS
"""Days before today that the demo loads: all of the sandbox's, and no more of a real account's."""

_DEPLOYS = 5
"""Deploys whose verdicts are shown."""

_HEADINGS = ("asset", "rows", "newest record", "seconds")


def main() -> int:
    """Run the jobs, print their figures and the next steps; return the exit code."""
    _show_progress()
    succeeded = True
    with open_instance() as instance:
        for job in filter(has_job, _jobs()):
            print(f"\n{job}", flush=True)
            began = time.monotonic()
            tags = _tag_last_days(datetime.now(UTC)) if job == INCREMENTAL_SYNC else {}
            result, failures = run_job(instance, job, tags)
            succeeded &= result.success
            for failure in failures:
                print(f"  failed: {failure}", flush=True)
            _print_checks(check_lines(result), with_summary=job == DATA_CHECKS)
            print(f"  {time.monotonic() - began:.1f} s", flush=True)
        print(f"\n{_format_table(instance)}\n")
    print(f"{describe_missing_packages() or _format_deploys()}\n")
    location = warehouse_location(definition_settings())
    print(f"The tables are in {os.path.relpath(location.file or location.name)}, schema analytics. Next:")
    print("  make dev    the UI, at http://127.0.0.1:3000: the assets, their history, backfills")
    print("  README.md   how to point it at a real account")
    return 0 if succeeded else 1


def _jobs() -> Sequence[str]:
    """Return the names of the jobs, in order; the insights need an extra."""
    insights = [] if describe_missing_packages() else [INSIGHTS_REFRESH]
    return [INCREMENTAL_SYNC, REFERENCE_SYNC, METRICS_REFRESH, *insights, DATA_CHECKS]


def _tag_last_days(now: datetime) -> dict[str, str]:
    """Return the run tags for the partitions of the last days."""
    partitions = build_partitions(definition_settings())
    first = max(now - timedelta(days=DAYS), partitions.start).replace(hour=0, minute=0, second=0, microsecond=0)
    keys = partitions.get_partition_keys_in_time_window(dg.TimeWindow(first, now + timedelta(days=1)))
    return dict(range_tags(dg.PartitionKeyRange(start=keys[0], end=keys[-1])))


def _print_checks(checks: Sequence[CheckLine], *, with_summary: bool) -> None:
    """Print the checks that failed, and the numbers."""
    for line in checks:
        if line.level != PASSED:
            print(f"  {line}")
    if with_summary:
        print(f"  {summary(checks)}", flush=True)


def _show_progress() -> None:
    """Print the project's log messages, without their origin."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("  %(message)s"))
    logger = logging.getLogger("analytics_dagster")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


def _format_table(instance: DagsterInstance) -> str:
    """Return a table of the assets, with the figures of their latest materializations."""
    lines = [_HEADINGS]
    for resource in RESOURCES:
        event = instance.get_latest_materialization_event(asset_key(resource))
        materialization = event.asset_materialization if event else None
        if materialization is None:
            lines.append((resource.name, "-", "-", "-"))
            continue
        figures = {name: value.value for name, value in materialization.metadata.items()}
        newest = figures.get("newest")
        lines.append((
            resource.name,
            f"{figures['dagster/row_count']:,}",
            datetime.fromtimestamp(newest, UTC).strftime("%Y-%m-%d %H:%M:%S") if isinstance(newest, float) else "",
            f"{figures['seconds']:.1f}",
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "\n".join(
        f"{name:<{widths[0]}}  {rows:>{widths[1]}}  {newest:<{widths[2]}}  {seconds:>{widths[3]}}"
        for name, rows, newest, seconds in lines
    )


def _format_deploys() -> str:
    """Return a table of the last deploys and their verdicts."""
    with WarehouseResource().insights(definition_settings(), read_only=True) as tables:
        return format_lines(tables.latest_impacts(_DEPLOYS))


if __name__ == "__main__":
    sys.exit(main())
