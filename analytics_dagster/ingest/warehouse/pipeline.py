"""dlt pipelines into the warehouse, and statements for its SQL client.

https://dlthub.com/docs/general-usage/pipeline

    pipeline = build_pipeline(get_resource("deploys"), settings)
    with pipeline.sql_client() as client:
        run_statement(client, "SELECT count(*) FROM {deploys}")
"""

import re
from collections.abc import Sequence
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
    resource: Resource | None,
    settings: Settings,
    *,
    pipelines_dir: str | None = None,
    connection: Any = None,
) -> dlt.Pipeline:
    """Return a dlt pipeline into the warehouse. The warehouse is not opened yet.

    Args:
        resource: Resource to load: each has its own pipeline, so that none holds back another. None for the loader's
            own tables.
        settings: Settings that name the warehouse, and DuckDB's memory limit.
        pipelines_dir: Folder of dlt's working files; dlt's default if None.
        connection: An open connection to the DuckDB file; None to open one.
    """
    pipeline = dlt.pipeline(
        pipeline_name=f"{DATASET}_{resource.name if resource else 'loads'}",
        destination=_destination(settings, connection),
        dataset_name=DATASET,
        pipelines_dir=cast("str", pipelines_dir),  # None is its default, and how it is typed
    )
    # Load state is a table of the warehouse, so dlt keeps no state of its own.
    pipeline.config.restore_from_destination = False
    return pipeline


def _destination(settings: Settings, connection: Any) -> Destination[Any, Any]:
    location = warehouse_location(settings)
    if location.file is None:
        return dlt.destination(location.name, destination_type=location.kind)
    # Other destinations are spared the slow import.
    from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials  # noqa: PLC0415

    from analytics_dagster.ingest.warehouse.duckdb_merge import MergingDuckDb  # noqa: PLC0415

    if connection is not None:
        return MergingDuckDb(connection, destination_name=location.name)
    # Each thread of DuckDB fills row groups of its own: a second thread costs more memory than it saves time.
    limits = {"memory_limit": settings.memory_limit, "threads": 1} if settings.memory_limit else {}
    return MergingDuckDb(DuckDbCredentials(str(location.file), global_config=limits), destination_name=location.name)


def with_table_names(statement: str, client: SqlClient) -> str:
    """Return a statement with each `{table}` in it replaced by the table's qualified name."""
    return re.sub(r"{(\w+)}", lambda table: client.make_qualified_table_name(table[1]), statement)


def run_statement(client: SqlClient, statement: str, *parameters: Any) -> Sequence[Any]:
    """Run a statement and return its rows; `{table}` in it becomes that table's qualified name."""
    return client.execute_sql(with_table_names(statement, client), *parameters) or []


def utc(moment: datetime) -> datetime:
    """Return a time in UTC; one without a time zone is taken as UTC, since some destinations drop the zone."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
