"""Dagster resources: dlt for loads, and the warehouse for readers.

    def op(context, warehouse: WarehouseResource):
        with warehouse.tables(load_settings()) as tables:
            profile = tables.profile(resource)

https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource
from dagster_duckdb import DuckDBResource
from duckdb import DuckDBPyConnection

from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import destination_errors, warehouse_location
from analytics_dagster.ingest.warehouse.lock import read_lock
from analytics_dagster.ingest.warehouse.table_stats import TableStats


class WarehouseResource(dg.ConfigurableResource[None]):
    """Opens the warehouse of the settings read-only, for every kind of destination.

    It has no configuration of its own: the op reads the settings, so that definitions load with wrong settings.
    """

    @contextmanager
    def tables(self, settings: Settings) -> Iterator[TableStats]:
        """Open the tables for reading, in turn with the loads; there are none before the first load.

        Raises:
            SettingsError: The destination is misconfigured.
            WarehouseError: The DuckDB file cannot be read, or is held longer than the setting `lock_timeout`.
        """
        with _open_duckdb(settings) as connection, TableStats.open(settings, connection) as tables:
            yield tables


@contextmanager
def _open_duckdb(settings: Settings) -> Iterator[DuckDBPyConnection | None]:
    """Open the DuckDB file read-only; None for other destinations, to which dlt's SQL client connects."""
    location = warehouse_location(settings)
    if location.file is None:
        with destination_errors(location):
            yield None
        return
    database, config = ":memory:", {"memory_limit": settings.memory_limit} if settings.memory_limit else {}
    with ExitStack() as opened:
        if location.file.exists():
            opened.enter_context(read_lock(location.file, location.name, settings.lock_timeout))
            database, config = str(location.file), {**config, "access_mode": "READ_ONLY"}
        connection = opened.enter_context(DuckDBResource(database=database, connection_config=config).get_connection())
        # The resource itself leaves its connection open if its body fails.
        yield opened.enter_context(closing(connection))


def build_resources() -> dict[str, dg.ConfigurableResource[Any]]:
    """Define the resources by their keys. They open nothing until they are used."""
    return {"dlt": DagsterDltResource(), "warehouse": WarehouseResource()}
