"""Jobs: which assets are loaded together. They take no checks along; those have a job of their own."""

from typing import Any

import dagster as dg

from analytics_dagster.catalog import GROUPS, Group
from analytics_dagster.defs.configured import enabled
from analytics_dagster.ingest.settings import Settings

INCREMENTAL_SYNC = "incremental_sync"
REFERENCE_SYNC = "reference_sync"
METRICS_REFRESH = "metrics_refresh"
FULL_SYNC = "full_sync"

AssetJob = Any
"""What `define_asset_job` returns; Dagster exports no name for it."""

FULL_REFRESH = {"ops": {"incremental": {"config": {"full_refresh": True}}}}
"""Run config that reads the incremental assets to their oldest rows."""


def build_jobs(settings: Settings) -> list[AssetJob]:
    """Define the jobs whose assets are not all disabled."""
    return [
        *_job(settings, INCREMENTAL_SYNC, "incremental", description="Load partitions of the assets with a cursor."),
        *_job(settings, REFERENCE_SYNC, "reference", description="Load the complete listings."),
        *_job(settings, METRICS_REFRESH, "metrics", description="Load what is worth reading again after a deploy."),
        *_job(
            settings,
            FULL_SYNC,
            *GROUPS,
            description="Load every row of every asset, to the oldest. Run again, it adds only what is new.",
            config=FULL_REFRESH if enabled(settings, "incremental") else None,
        ),
    ]


def _job(
    settings: Settings, name: str, *groups: Group, description: str, config: dict[str, Any] | None = None
) -> list[AssetJob]:
    """Return the job in a list, or an empty one if the settings leave none of its assets."""
    present = [group for group in groups if enabled(settings, group)]
    if not present:
        return []
    selection = dg.AssetSelection.groups(*present).without_checks()
    return [dg.define_asset_job(name, selection, description=description, config=config)]
