"""Asset specs, derived from the catalog by a translator of dagster-dlt.

https://docs.dagster.io/integrations/libraries/dlt
"""

import dagster as dg
from dagster_dlt import DagsterDltTranslator
from dagster_dlt.translator import DltResourceTranslatorData

from analytics_dagster.catalog import Resource, get_resource
from analytics_dagster.defs.metadata import build_column_schema
from analytics_dagster.ingest.warehouse.location import DATASET

SERVICE = dg.AssetKey("analytics_api")
"""Key of the external asset for the service, upstream of all others."""

OWNERS = ["team:analytics"]


class CatalogTranslator(DagsterDltTranslator):
    """Builds the asset spec of a dlt resource from the catalog's resource of the same name.

    Args:
        destination: dlt's type of the destination, shown as a kind of every asset.
    """

    def __init__(self, destination: str) -> None:
        super().__init__()
        self._destination = destination

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        """Return the spec of the asset."""
        resource = get_resource(data.resource.name)
        # The tables that the values of a resource's requests come from are upstream too.
        upstream = [asset_key(get_resource(resource.lookup.resource))] if resource.lookup else []
        return dg.AssetSpec(
            asset_key(resource),
            deps=[SERVICE, *upstream],
            description=resource.description,
            group_name=resource.group,
            kinds={"dlt", self._destination},
            owners=OWNERS,
            freshness_policy=dg.FreshnessPolicy.time_window(
                fail_window=resource.freshness.fail_after, warn_window=resource.freshness.warn_after
            ),
            metadata={
                "dagster/column_schema": build_column_schema(resource),
                "primary_key": ", ".join(resource.primary_key),
                **({"cursor": resource.cursor, "lookback": str(resource.lookback)} if resource.incremental else {}),
            },
        )


def build_service(problem: str = "") -> dg.AssetSpec:
    """Return the spec of the external asset for the service; its description begins with a problem of the settings."""
    return dg.AssetSpec(
        SERVICE,
        description=f"{problem} The analytics API that all assets are read from.".lstrip(),
        group_name="service",
        kinds={"api"},
    )


def service_event(source: str) -> dg.AssetMaterialization:
    """Return the event that a run reports once the service answered; without one, the overview shows it as missing.

    Its data version is the source, so that one group's load makes no other group's assets out of date.
    """
    return dg.AssetMaterialization(
        SERVICE,
        description="Rows were read from the service.",
        metadata={"source": source},
        tags={"dagster/data_version": source},
    )


def asset_key(resource: Resource) -> dg.AssetKey:
    """Return the key of a resource's asset, which has the same path as its table."""
    return dg.AssetKey([DATASET, resource.name])
