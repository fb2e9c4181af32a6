"""Schedules: when what is loaded. They choose assets by group or by the catalog's fields, never by name.

Each only gathers what is known and hands it to a pure function of `due.py`. Runs they ask for take turns through the
pool of the warehouse, in the order they were asked for.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta
from typing import Any

import dagster as dg

from analytics_dagster.catalog import Resource
from analytics_dagster.defs.jobs import (
    DATA_CHECKS,
    FULL_REFRESH,
    INCREMENTAL_SYNC,
    NIGHTLY_REFRESH,
    REFERENCE_SYNC,
    RESUME,
)
from analytics_dagster.defs.partitions import (
    MAX_RUNTIME,
    build_partitions,
    partitions_due,
    partitions_to_reread,
    range_tags,
)
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.ingest.settings import Settings

_ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


def build_schedules(settings: Settings) -> list[dg.ScheduleDefinition]:
    """Define the schedules whose assets are not all disabled."""
    schedules = []
    if settings.enabled_resources("incremental"):
        schedules.append(_incremental(settings))
    if settings.enabled_resources("reference"):
        schedules.append(_plain(settings, "reference_schedule", REFERENCE_SYNC, "0 1 * * *"))
    if settings.enabled_resources("incremental", "metrics"):
        schedules.append(_full_refresh(settings))
    if settings.enabled_resources():
        # A while after the hour, when what most settings load on the hour is there.
        schedules.append(_plain(settings, "checks_schedule", DATA_CHECKS, "10 * * * *"))
    return schedules


def _plain(settings: Settings, name: str, job: str, cron: str) -> dg.ScheduleDefinition:
    """Define a schedule that has a job run as it is."""
    return dg.ScheduleDefinition(name=name, job_name=job, cron_schedule=cron, default_status=_status(settings))


def _incremental(settings: Settings) -> dg.ScheduleDefinition:
    """Define the schedule that keeps the assets with a cursor fresh, and makes good what earlier ticks missed."""
    name = "incremental_schedule"
    partitions = build_partitions(settings)
    keys = [asset_key(row) for row in settings.enabled_resources("incremental")]

    @dg.schedule(
        name=name,
        description=f"Loads what is new, and what is missing of the last {settings.horizon} hours, in one run.",
        job_name=INCREMENTAL_SYNC,
        cron_schedule=settings.incremental_cron,
        default_status=_status(settings),
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        # Backfills, and what a person launched, are other runs: they carry no tag of this schedule.
        unfinished = dg.RunsFilter(
            job_name=INCREMENTAL_SYNC,
            statuses=[status for status in dg.DagsterRunStatus if status not in _ENDED],
            tags={"dagster/schedule_name": name},
            created_after=now - MAX_RUNTIME,
        )
        due = partitions_due(
            partitions,
            known=set.intersection(*(context.instance.get_materialized_partitions(key) for key in keys)),
            asked_at=[record.create_timestamp for record in context.instance.get_run_records(unfinished)],
            now=now,
            horizon=timedelta(hours=settings.horizon),
        )
        if isinstance(due, str):
            return dg.SkipReason(due)
        return dg.RunRequest(run_config=RESUME, tags=range_tags(due))

    return schedule


def _full_refresh(settings: Settings) -> dg.ScheduleDefinition:
    """Define the schedule that sees what no cursor tells: late rows, silent changes, rows that slipped past a page."""
    partitions = build_partitions(settings)
    incremental = settings.enabled_resources("incremental")

    @dg.schedule(
        name="full_refresh_schedule",
        description="Reads the last three days again, what changes silently in full, then the metrics, every night.",
        job_name=NIGHTLY_REFRESH,
        cron_schedule="0 2 * * *",
        default_status=_status(settings),
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        last_days = partitions_to_reread(partitions, now=context.scheduled_execution_time.astimezone(UTC))
        if last_days:
            rows = [row for row in incremental if not row.changes_silently]
            yield from _request("last_days", rows, tags=range_tags(last_days))
        silent = [row for row in incremental if row.changes_silently]
        yield from _request("in_full", silent, run_config=FULL_REFRESH)
        yield from _request("metrics", settings.enabled_resources("metrics"))

    return schedule


def _request(run_key: str, rows: Sequence[Resource], **options: Any) -> list[dg.RunRequest]:
    """Return the request for a run of resources in a list, or an empty one if there are none."""
    return [dg.RunRequest(run_key, asset_selection=[asset_key(row) for row in rows], **options)] if rows else []


def _status(settings: Settings) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if settings.automation else dg.DefaultScheduleStatus.STOPPED
