"""An asset with the freshness policy of the catalog's items, in a code location that loads in the process of a test."""

import dagster as dg

from analytics_dagster.catalog import get_resource

_LIMITS = get_resource("items").freshness

defs = dg.Definitions(
    assets=[
        dg.AssetSpec(
            ["analytics", "items"],
            freshness_policy=dg.FreshnessPolicy.time_window(
                fail_window=_LIMITS.fail_after, warn_window=_LIMITS.warn_after
            ),
        )
    ]
)
