"""Dagster resources: dlt, and the warehouse for loads and readers.

    def op(context, warehouse: WarehouseResource):
        with warehouse.tables(load_settings()) as tables:
            profile = tables.profile(resource)

An op that yields inside such a `with` can be abandoned there: where Dagster fails to record what it yielded, it takes
nothing more from the op's generator, and the exception keeps that alive. So the resource closes what an op left open:
before the next op opens the warehouse, and when Dagster tears the resource down at the end of the run.

https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from typing import Any, TypeVar

import dagster as dg
from dagster_dlt import DagsterDltResource
from dagster_duckdb import DuckDBResource
from duckdb import DuckDBPyConnection
from pydantic import PrivateAttr

from analytics_dagster.ingest.load import Loader, open_loader
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import destination_errors, warehouse_location
from analytics_dagster.ingest.warehouse.lock import read_lock
from analytics_dagster.ingest.warehouse.table_stats import TableStats
from analytics_dagster.insights.warehouse import InsightTables, open_insights, read_insights

_Opened = TypeVar("_Opened")


class WarehouseResource(dg.ConfigurableResource[None]):
    """Opens the warehouse of the settings, for every kind of destination, one op at a time.

    It has no configuration of its own: the op reads the settings, so that definitions load with wrong settings.
    """

    _opened: ExitStack = PrivateAttr(default_factory=ExitStack)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close what the ops of the run left open."""
        self._opened.close()

    @contextmanager
    def loader(self, settings: Settings) -> Iterator[Loader]:
        """Open the warehouse for loads.

        Raises:
            SettingsError: The destination is misconfigured.
            WarehouseError: The warehouse cannot be written, or is held longer than the setting `lock_timeout`.
        """
        with self._open(open_loader(settings)) as loader:
            yield loader

    @contextmanager
    def tables(self, settings: Settings) -> Iterator[TableStats]:
        """Open the tables for reading, in turn with the loads; there are none before the first load.

        Raises:
            SettingsError: The destination is misconfigured.
            WarehouseError: The DuckDB file cannot be read, or is held longer than the setting `lock_timeout`.
        """
        with self._open(_open_tables(settings)) as tables:
            yield tables

    @contextmanager
    def insights(self, settings: Settings, *, read_only: bool = False) -> Iterator[InsightTables]:
        """Open the tables of the insights, in turn with the loads.

        Args:
            settings: The settings of the run.
            read_only: Whether nothing is written; there may be no tables then.

        Raises:
            SettingsError: The destination is misconfigured.
            WarehouseError: The warehouse cannot be opened, or is held longer than the setting `lock_timeout`.
        """
        with self._open(_read_insights(settings) if read_only else open_insights(settings)) as tables:
            yield tables

    @contextmanager
    def _open(self, context: AbstractContextManager[_Opened]) -> Iterator[_Opened]:
        """Enter a context, after closing the one before it."""
        self._opened.close()
        with ExitStack() as self._opened:
            yield self._opened.enter_context(context)


@contextmanager
def _open_tables(settings: Settings) -> Iterator[TableStats]:
    """Open the tables for reading."""
    with _open_duckdb(settings) as connection, TableStats.open(settings, connection) as tables:
        yield tables


@contextmanager
def _read_insights(settings: Settings) -> Iterator[InsightTables]:
    """Open the tables of the insights for reading."""
    with _open_duckdb(settings) as connection, read_insights(settings, connection) as tables:
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
