"""Jobs: which assets are loaded together. They take no checks along; those have a job of their own."""

from typing import Any

import dagster as dg

from analytics_dagster.catalog import GROUPS, Group
from analytics_dagster.ingest.settings import Settings

INCREMENTAL_SYNC = "incremental_sync"
REFERENCE_SYNC = "reference_sync"
METRICS_REFRESH = "metrics_refresh"
NIGHTLY_REFRESH = "nightly_refresh"
FULL_SYNC = "full_sync"
DATA_CHECKS = "data_checks"

AssetJob = Any
"""What `define_asset_job` returns; Dagster exports no name for it."""

FULL_REFRESH = {"ops": {"incremental": {"config": {"full_refresh": True}}}}
"""Run config that reads the incremental assets to their oldest rows."""

RESUME = {"ops": {"incremental": {"config": {"resume": True}}}}
"""Run config that reads each incremental asset from where its coverage ends."""


def build_jobs(settings: Settings) -> list[AssetJob]:
    """Define the jobs whose assets are not all disabled."""
    return [
        *_job(settings, INCREMENTAL_SYNC, "incremental", description="Load partitions of the assets with a cursor."),
        *_job(settings, REFERENCE_SYNC, "reference", description="Load the complete listings."),
        *_job(
            settings,
            METRICS_REFRESH,
            "metrics",
            description="Load what is worth reading again after a deploy.",
            op_retry_policy=dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL),
        ),
        *_job(
            settings,
            NIGHTLY_REFRESH,
            "incremental",
            "metrics",
            description="What `full_refresh_schedule` asks for, in a run for each part of it.",
        ),
        *_job(
            settings,
            FULL_SYNC,
            *GROUPS,
            description="Load every row of every asset, to the oldest. Run again, it adds only what is new.",
            config=FULL_REFRESH if settings.enabled_resources("incremental") else None,
        ),
        *_checks(settings),
    ]


def _job(settings: Settings, name: str, *groups: Group, **options: Any) -> list[AssetJob]:
    """Return the job in a list, or an empty one if the settings leave none of its assets."""
    present = [group for group in groups if settings.enabled_resources(group)]
    if not present:
        return []
    selection = dg.AssetSelection.groups(*present).without_checks()
    return [dg.define_asset_job(name, selection, **options)]


def _checks(settings: Settings) -> list[AssetJob]:
    if not settings.enabled_resources():
        return []
    return [
        dg.define_asset_job(
            DATA_CHECKS, dg.AssetSelection.all_asset_checks(), description="Check every table; load nothing."
        )
    ]
