"""Jobs: the assets that are loaded together, and one job for all checks, which the other jobs leave out.

https://docs.dagster.io/guides/build/jobs/asset-jobs
"""

from typing import Any

import dagster as dg

from analytics_dagster.catalog import GROUPS, Group
from analytics_dagster.defs.insights import GROUP
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.insights.warehouse import SOURCES

INCREMENTAL_SYNC = "incremental_sync"
REFERENCE_SYNC = "reference_sync"
METRICS_REFRESH = "metrics_refresh"
NIGHTLY_REFRESH = "nightly_refresh"
FULL_SYNC = "full_sync"
INSIGHTS_REFRESH = "insights_refresh"
DATA_CHECKS = "data_checks"

AssetJob = Any
"""The type that `define_asset_job` returns; Dagster exports no name for it."""

FULL_REFRESH = {"ops": {"incremental": {"config": {"full_refresh": True}}}}
"""Run config that reads the incremental assets to their oldest rows."""

RESUME = {"ops": {"incremental": {"config": {"resume": True}}}}
"""Run config that reads each incremental asset from the end of its coverage."""


def build_jobs(settings: Settings) -> list[AssetJob]:
    """Define the jobs whose assets are not all disabled."""
    jobs = [
        *_build_job(settings, INCREMENTAL_SYNC, "incremental", description="Load partitions of incremental assets."),
        *_build_job(settings, REFERENCE_SYNC, "reference", description="Load the complete listings."),
        *_build_job(
            settings,
            METRICS_REFRESH,
            "metrics",
            description="Load the assets that change with every deploy.",
            op_retry_policy=dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL),
        ),
        *_build_job(
            settings,
            NIGHTLY_REFRESH,
            "incremental",
            "metrics",
            description="Load one part of the nightly refresh, as `full_refresh_schedule` requests it.",
        ),
        *_build_job(
            settings,
            FULL_SYNC,
            *GROUPS,
            description="Load every row of every asset, to the oldest. A repeated run adds only new rows.",
            config=FULL_REFRESH if settings.enabled_resources("incremental") else None,
        ),
    ]
    if not settings.disabled.intersection(SOURCES):
        insights = dg.AssetSelection.groups(GROUP)
        jobs.append(dg.define_asset_job(INSIGHTS_REFRESH, insights, description="Compute the insights; load nothing."))
    if settings.enabled_resources():
        # The insights run their check themselves: it is of the rows that they have just computed.
        checks = dg.AssetSelection.checks_for_assets(*map(asset_key, settings.enabled_resources()))
        jobs.append(dg.define_asset_job(DATA_CHECKS, checks, description="Check every table; load nothing."))
    return jobs


def _build_job(settings: Settings, name: str, *groups: Group, **options: Any) -> list[AssetJob]:
    """Return the job in a list, or an empty list if the settings disable all of its assets."""
    present = [group for group in groups if settings.enabled_resources(group)]
    if not present:
        return []
    selection = dg.AssetSelection.groups(*present).without_checks()
    return [dg.define_asset_job(name, selection, **options)]
