"""Schedules: the times at which jobs run, and the run requests of each tick.

- `partitions_due` in `partitions.py` decides which partitions a tick of `incremental_schedule` loads.
- `partitions_to_reread`, beside it, decides which partitions `full_refresh_schedule` reads again every night.

The functions here gather the arguments of those two and choose assets by group or by a field of the catalog, never by
name. The pool of the warehouse runs the requested runs one at a time, in the order of the requests.
https://docs.dagster.io/guides/automate/schedules
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, timedelta
from typing import Any

import dagster as dg

from analytics_dagster.catalog import Resource
from analytics_dagster.defs.history import loaded_partitions
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
    REREAD,
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
        schedules.append(_build_incremental_schedule(settings))
    if settings.enabled_resources("reference"):
        schedules.append(_build_job_schedule(settings, "reference_schedule", REFERENCE_SYNC, "0 1 * * *"))
    if settings.enabled_resources("incremental", "metrics"):
        schedules.append(_build_full_refresh_schedule(settings))
    if settings.enabled_resources():
        # After the full hour, at which the incremental schedule starts a load unless its cron expression is set.
        schedules.append(_build_job_schedule(settings, "checks_schedule", DATA_CHECKS, "10 * * * *"))
    return schedules


def _build_job_schedule(settings: Settings, name: str, job: str, cron: str) -> dg.ScheduleDefinition:
    """Define a schedule that runs a job with its default config."""
    return dg.ScheduleDefinition(name=name, job_name=job, cron_schedule=cron, default_status=_default_status(settings))


def _build_incremental_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Define the schedule that keeps the incremental assets fresh, and fills the gaps that earlier ticks left."""
    name = "incremental_schedule"
    partitions = build_partitions(settings)
    keys = [asset_key(resource) for resource in settings.enabled_resources("incremental")]
    source = settings.source_address

    @dg.schedule(
        name=name,
        description=f"Loads new rows, and the gaps of the last {settings.horizon} hours, in one run.",
        job_name=INCREMENTAL_SYNC,
        cron_schedule=settings.incremental_cron,
        default_status=_default_status(settings),
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        now = context.scheduled_execution_time.astimezone(UTC)
        # Backfills and runs launched by a person do not count: they lack the schedule's tag.
        unfinished = dg.RunsFilter(
            job_name=INCREMENTAL_SYNC,
            statuses=[status for status in dg.DagsterRunStatus if status not in _ENDED],
            tags={"dagster/schedule_name": name},
            created_after=now - MAX_RUNTIME,
        )
        due = partitions_due(
            partitions,
            known=set.intersection(*(loaded_partitions(context.instance, key, source) for key in keys)),
            asked_at=[record.create_timestamp for record in context.instance.get_run_records(unfinished)],
            now=now,
            horizon=timedelta(hours=settings.horizon),
        )
        if isinstance(due, str):
            return dg.SkipReason(due)
        return dg.RunRequest(run_config=RESUME, tags=range_tags(due))

    return schedule


def _build_full_refresh_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Define the schedule for rows that the cursor misses: late rows, silent changes, rows between two pages."""
    partitions = build_partitions(settings)
    incremental = settings.enabled_resources("incremental")

    @dg.schedule(
        name="full_refresh_schedule",
        description=f"Loads the last {REREAD.days} days, all rows of assets that change silently, and the metrics.",
        job_name=NIGHTLY_REFRESH,
        cron_schedule="0 2 * * *",
        default_status=_default_status(settings),
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        last_days = partitions_to_reread(partitions, now=context.scheduled_execution_time.astimezone(UTC))
        if last_days:
            by_cursor = [resource for resource in incremental if not resource.changes_silently]
            yield from _request_run("last_days", by_cursor, tags=range_tags(last_days))
        silent = [resource for resource in incremental if resource.changes_silently]
        yield from _request_run("in_full", silent, run_config=FULL_REFRESH)
        yield from _request_run("metrics", settings.enabled_resources("metrics"))

    return schedule


def _request_run(run_key: str, resources: Sequence[Resource], **options: Any) -> list[dg.RunRequest]:
    """Return the request for a run of resources in a list, or an empty list if there are no resources."""
    assets = [asset_key(resource) for resource in resources]
    return [dg.RunRequest(run_key, asset_selection=assets, **options)] if assets else []


def _default_status(settings: Settings) -> dg.DefaultScheduleStatus:
    return dg.DefaultScheduleStatus.RUNNING if settings.automation else dg.DefaultScheduleStatus.STOPPED
