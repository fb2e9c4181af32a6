"""What ops are given: dlt to load with, and DuckDB to read with."""

from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource
from dagster_duckdb import DuckDBResource

from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import warehouse_location

DUCKDB = "duckdb"
"""The resource that reads the DuckDB file. There is none where the warehouse is another database."""


def build_resources(settings: Settings) -> dict[str, Any]:
    """Define the resources. Nothing is opened yet."""
    return {"dlt": DagsterDltResource(), **_duckdb(settings)}


def _duckdb(settings: Settings) -> dict[str, dg.ConfigurableResource[Any]]:
    try:
        file = warehouse_location(settings).file
    except SettingsError:
        # Whatever opens the warehouse reads the settings again, strictly, and says what is wrong.
        return {}
    if file is None:
        return {}
    limits = {"memory_limit": settings.memory_limit} if settings.memory_limit else {}
    # Read-only, so that nothing can write beside the loads.
    return {DUCKDB: DuckDBResource(database=str(file), connection_config={"access_mode": "READ_ONLY", **limits})}
