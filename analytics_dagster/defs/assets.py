"""The ten assets: three `@dlt_assets` definitions, one op each, derived from the catalog.

https://docs.dagster.io/integrations/libraries/dlt
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource, dlt_assets
from dlt.sources.rest_api import rest_api_source
from pydantic import Field

from analytics_dagster.catalog import GROUPS, Group, Resource
from analytics_dagster.defs.execution import load_selected
from analytics_dagster.defs.instance import POOL
from analytics_dagster.defs.partitions import build_partitions, partition_window
from analytics_dagster.defs.resources import WarehouseResource
from analytics_dagster.defs.translator import CatalogTranslator
from analytics_dagster.ingest.rest_config import rest_api_config
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import destination_kind

Results = Iterator[dg.MaterializeResult[None]]


class ProjectsConfig(dg.Config):
    """Run config of every asset. By default a run reads all projects."""

    projects: list[str] = Field(default=[], description="Names of the projects to read, as in the settings.")


class SyncConfig(ProjectsConfig):
    """Run config of the incremental assets. By default a run reads all rows of its partitions, or of the service."""

    resume: bool = Field(default=False, description="Start each resource where its coverage of the partitions ends.")
    full_refresh: bool = Field(default=False, description="Read all rows, to the oldest, outside the partitions too.")


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Define the assets of every resource that is not disabled."""
    return [
        _build_incremental(settings, resources)
        if group == "incremental"
        else _build_snapshots(settings, group, resources)
        for group in GROUPS
        if (resources := settings.enabled_resources(group))
    ]


def _build_incremental(settings: Settings, resources: Sequence[Resource]) -> dg.AssetsDefinition:
    """Define the assets with a cursor, whose partitions are windows of that cursor."""

    @dlt_assets(
        **_options(settings, "incremental", resources),
        partitions_def=build_partitions(settings),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def incremental_assets(
        context: dg.AssetExecutionContext, dlt: DagsterDltResource, warehouse: WarehouseResource, config: SyncConfig
    ) -> Results:
        window = None if config.full_refresh else partition_window(context)
        yield from load_selected(
            context, dlt, warehouse, resources, window, resume=config.resume, projects=config.projects
        )

    return incremental_assets


def _build_snapshots(settings: Settings, group: Group, resources: Sequence[Resource]) -> dg.AssetsDefinition:
    """Define the assets whose rows are all read each time."""

    @dlt_assets(**_options(settings, group, resources))
    def snapshot_assets(
        context: dg.AssetExecutionContext,
        dlt: DagsterDltResource,
        warehouse: WarehouseResource,
        config: ProjectsConfig,
    ) -> Results:
        yield from load_selected(context, dlt, warehouse, resources, projects=config.projects)

    return snapshot_assets


def _options(settings: Settings, group: Group, rows: Sequence[Resource]) -> dict[str, Any]:
    return {
        "dlt_source": rest_api_source(rest_api_config(settings, rows), name=f"analytics_{group}"),
        # The specs need no pipeline, and one makes its folder at once: each load has its own instead.
        "dlt_pipeline": None,
        "dagster_dlt_translator": CatalogTranslator(destination_kind(settings)),
        "name": group,
        "pool": POOL,
    }
