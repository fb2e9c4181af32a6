"""What an asset looks like: the catalog's facts as an asset spec."""

import dagster as dg
from dagster_dlt import DagsterDltTranslator
from dagster_dlt.translator import DltResourceTranslatorData

from analytics_dagster.catalog import Column, Resource, get_resource, table_columns
from analytics_dagster.ingest.warehouse.location import DATASET

SERVICE = dg.AssetSpec(
    "analytics_api",
    description="The analytics API that all assets are read from.",
    group_name="service",
    kinds={"api"},
)
"""The service, as an asset of its own that nobody here materialises."""

OWNERS = ["team:analytics"]


class CatalogTranslator(DagsterDltTranslator):
    """Gives the dlt resource of a catalog row its asset spec.

    Args:
        destination: dlt's type of the destination, shown as a kind of every asset.
    """

    def __init__(self, destination: str) -> None:
        super().__init__()
        self._destination = destination

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:
        """Return the spec of the asset."""
        row = get_resource(data.resource.name)
        return dg.AssetSpec(
            asset_key(row),
            deps=[SERVICE.key, *_upstream(row)],
            description=row.description,
            group_name=row.group,
            kinds={"dlt", self._destination},
            owners=OWNERS,
            freshness_policy=dg.FreshnessPolicy.time_window(
                fail_window=row.freshness.fail_after, warn_window=row.freshness.warn_after
            ),
            metadata={
                "dagster/column_schema": column_schema(row),
                "primary_key": ", ".join(row.primary_key),
                **({"cursor": row.cursor, "lookback": str(row.lookback)} if row.incremental else {}),
            },
        )


def asset_key(row: Resource) -> dg.AssetKey:
    """Return the key of a resource's asset: the same path as its table's."""
    return dg.AssetKey([DATASET, row.name])


def column_schema(row: Resource) -> dg.TableSchema:
    """Return the columns of a resource's table, with their meanings."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type.value,
                description=column.description,
                constraints=dg.TableColumnConstraints(nullable=column.stored_nullable, other=_other(row, column)),
            )
            for column in table_columns(row)
        ]
    )


def _other(row: Resource, column: Column) -> list[str]:
    return ["primary key"] * (column.name in row.primary_key) + ["personal"] * column.personal


def _upstream(row: Resource) -> list[dg.AssetKey]:
    """Assets whose tables a resource's requests are made from."""
    return [asset_key(get_resource(row.lookup.resource))] if row.lookup else []
