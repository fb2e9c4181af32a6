"""The ten assets: three definitions, derived from the catalog's rows, one op each."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import dagster as dg
import dlt
from dagster_dlt import DagsterDltResource, dlt_assets
from dlt.sources.rest_api import rest_api_source
from pydantic import Field

from analytics_dagster.catalog import GROUPS, Group, Resource
from analytics_dagster.defs.execution import load_selected
from analytics_dagster.defs.partitions import build_partitions, window_of
from analytics_dagster.defs.translator import CatalogTranslator
from analytics_dagster.ingest.rest_config import rest_api_config
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import DATASET, destination_kind

POOL = "warehouse"
"""Pool of everything that opens the warehouse: one writer at a time."""

Results = Iterator[dg.MaterializeResult[None]]


class SyncConfig(dg.Config):
    """How an incremental run reads its partitions. By default their whole span; without any, every row."""

    resume: bool = Field(
        default=False, description="Start each resource where its coverage within the partitions ends."
    )
    full_refresh: bool = Field(default=False, description="Read every row to the oldest, whatever the partitions.")


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Define the assets of every resource that is not disabled."""
    return [
        _incremental(settings, rows) if group == "incremental" else _whole(settings, group, rows)
        for group in GROUPS
        if (rows := settings.enabled_resources(group))
    ]


def _incremental(settings: Settings, rows: Sequence[Resource]) -> dg.AssetsDefinition:
    """Define the assets that have a cursor: their partitions are windows of it."""

    @dlt_assets(
        **_options(settings, "incremental", rows),
        partitions_def=build_partitions(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def incremental_assets(context: dg.AssetExecutionContext, dlt: DagsterDltResource, config: SyncConfig) -> Results:
        window = None if config.full_refresh else window_of(context)
        yield from load_selected(context, dlt, rows, window, resume=config.resume)

    return incremental_assets


def _whole(settings: Settings, group: Group, rows: Sequence[Resource]) -> dg.AssetsDefinition:
    """Define the assets that are read whole each time."""

    @dlt_assets(**_options(settings, group, rows))
    def snapshot_assets(context: dg.AssetExecutionContext, dlt: DagsterDltResource) -> Results:
        yield from load_selected(context, dlt, rows)

    return snapshot_assets


def _options(settings: Settings, group: Group, rows: Sequence[Resource]) -> dict[str, Any]:
    return {
        "dlt_source": rest_api_source(rest_api_config(settings, rows), name=f"analytics_{group}"),
        "dlt_pipeline": _pipeline_of_specs(),
        "dagster_dlt_translator": CatalogTranslator(destination_kind(settings)),
        "name": group,
        "pool": POOL,
    }


@cache
def _pipeline_of_specs() -> dlt.Pipeline:
    """A dlt pipeline that is never run; the loads have their own."""
    return dlt.pipeline(f"{DATASET}_specs", destination=dlt.destinations.duckdb(), dataset_name=DATASET)
