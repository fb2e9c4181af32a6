"""Jobs: which assets are loaded together. They take no checks along; those have a job of their own."""

from typing import Any

import dagster as dg

from analytics_dagster.catalog import GROUPS, Group
from analytics_dagster.defs.configured import enabled


def _selection(*groups: Group) -> dg.AssetSelection:
    return dg.AssetSelection.groups(*groups).without_checks()


def _job(name: str, *groups: Group, description: str, config: dict[str, Any] | None = None) -> list[Any]:
    """Return the job in a list, or an empty one if the settings leave none of its assets."""
    present = [group for group in groups if enabled(group)]
    if not present:
        return []
    return [dg.define_asset_job(name, _selection(*present), description=description, config=config)]


JOBS = [
    *_job("incremental_sync", "incremental", description="Load partitions of the assets that have a cursor."),
    *_job("reference_sync", "reference", description="Load the complete listings."),
    *_job("metrics_refresh", "metrics", description="Load what is worth reading again after a deploy."),
    *_job(
        "full_sync",
        *GROUPS,
        description="Load every row of every asset, to the oldest. Run again, it adds only what is new.",
        config={"ops": {"incremental": {"config": {"full_refresh": True}}}} if enabled("incremental") else None,
    ),
]
