"""dlt pipelines into the warehouse, and its SQL client.

https://dlthub.com/docs/general-usage/pipeline
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import dlt
from dlt.common.destination import Destination
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import DATASET, warehouse_location

SqlClient = SqlClientBase[Any]


def build_pipeline(
    resource: Resource | None = None,
    settings: Settings | None = None,
    *,
    pipelines_dir: str | None = None,
    connection: Any = None,
) -> dlt.Pipeline:
    """Return a dlt pipeline into the warehouse. It opens nothing yet.

    Args:
        resource: Whose pipeline; one each, so that none can hold back another. None for the loader's own tables.
        settings: Which warehouse, and DuckDB's memory limit.
        pipelines_dir: Where dlt keeps its working files; its own default otherwise.
        connection: A connection to the DuckDB file that is open already, to use instead of opening another.
    """
    settings = settings or Settings()
    pipeline = dlt.pipeline(
        pipeline_name=f"{DATASET}_{resource.name if resource else 'loads'}",
        destination=_destination(settings, connection),
        dataset_name=DATASET,
        pipelines_dir=cast("str", pipelines_dir),  # None is its default, and how it is typed
    )
    # The windows that were loaded are all the state there is: dlt need not keep any of its own.
    pipeline.config.restore_from_destination = False
    return pipeline


def _destination(settings: Settings, connection: Any) -> Destination[Any, Any]:
    place = warehouse_location(settings)
    if place.file is None:
        return dlt.destination(place.name, destination_type=place.kind)
    # Slow to import, and of no use to other destinations.
    from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials  # noqa: PLC0415

    from analytics_dagster.ingest.warehouse.duckdb_merge import MergingDuckDb  # noqa: PLC0415

    if connection is not None:
        return MergingDuckDb(connection, destination_name=place.name)
    # Each thread of DuckDB fills row groups of its own: a second one costs more memory than it saves time.
    limits = {"memory_limit": settings.memory_limit, "threads": 1} if settings.memory_limit else {}
    return MergingDuckDb(DuckDbCredentials(str(place.file), global_config=limits), destination_name=place.name)


def with_table_names(statement: str, client: SqlClient) -> str:
    """Return a statement with the qualified name of each `{table}` in it."""
    return statement.format_map(_Names(client.make_qualified_table_name))


class _Names(dict[str, str]):
    """Qualified names of tables, for `str.format_map`."""

    def __init__(self, qualify: Callable[[str], str]) -> None:
        super().__init__()
        self._qualify = qualify

    def __missing__(self, table: str) -> str:
        return self._qualify(table)


def utc(moment: datetime) -> datetime:
    """Return a moment in UTC, which a destination may have returned without saying so."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
