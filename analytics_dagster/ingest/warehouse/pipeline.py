"""dlt pipelines into the warehouse, and statements for its SQL client.

https://dlthub.com/docs/general-usage/pipeline

    pipeline = build_pipeline(get_resource("deploys"), settings)
    with pipeline.sql_client() as client:
        run_statement(client, "SELECT count(*) FROM {deploys}")
"""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import dlt
from dlt.common.destination import Destination
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import DATASET, POSTGRES, WarehouseLocation, warehouse_location

if TYPE_CHECKING:
    from analytics_dagster.ingest.warehouse.postgres_client import PostgresSqlClient

SqlClient = SqlClientBase[Any]

_one_statement = Lock()
"""A connection takes one statement at a time, and projects that are read side by side ask the load state."""


def build_pipeline(
    resource: Resource | None,
    settings: Settings,
    *,
    name: str = "loads",
    pipelines_dir: str | None = None,
    connection: Any = None,
) -> dlt.Pipeline:
    """Return a dlt pipeline into the warehouse. The warehouse is not opened yet.

    Args:
        resource: Resource to load: each has its own pipeline, so that none holds back another. None for other tables.
        settings: Settings that name the warehouse, and DuckDB's memory limit.
        name: Name of the pipeline without a resource: of the loader's own tables by default.
        pipelines_dir: Folder of dlt's working files; dlt's default if None.
        connection: An open connection to the DuckDB file; None to open one.
    """
    pipeline = dlt.pipeline(
        pipeline_name=f"{DATASET}_{resource.name if resource else name}",
        destination=_destination(settings, connection),
        dataset_name=DATASET,
        pipelines_dir=cast("str", pipelines_dir),  # None is its default, and how it is typed
    )
    # Load state is a table of the warehouse, so dlt keeps no state of its own.
    pipeline.config.restore_from_destination = False
    return pipeline


def _destination(settings: Settings, connection: Any) -> Destination[Any, Any]:
    location = warehouse_location(settings)
    if location.kind == POSTGRES:
        return _postgres(location.name)
    if location.file is None:
        return _other_destination(location)
    # Other destinations are spared the slow import.
    from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials  # noqa: PLC0415

    from analytics_dagster.ingest.warehouse.duckdb_merge import MergingDuckDb  # noqa: PLC0415

    if connection is not None:
        return MergingDuckDb(connection, destination_name=location.name)
    # Each thread of DuckDB fills row groups of its own: a second thread costs more memory than it saves time.
    limits = {"memory_limit": settings.memory_limit, "threads": 1} if settings.memory_limit else {}
    return MergingDuckDb(DuckDbCredentials(str(location.file), global_config=limits), destination_name=location.name)


def _other_destination(location: WarehouseLocation) -> Destination[Any, Any]:
    """Return a destination of dlt whose merge is dlt's own.

    Raises:
        SettingsError: It has no merge that replaces rows by their key: object stores and vector stores have none.
    """
    destination = dlt.destination(location.name, destination_type=location.kind)
    if "delete-insert" not in (destination.capabilities().supported_merge_strategies or ()):
        raise SettingsError(
            f"The destination {location.kind} cannot replace rows by their key: dlt has no delete-insert merge for it. "
            f"Set destination.{location.name}.destination_type to one that has, such as duckdb or postgres."
        )
    return destination


def _postgres(name: str) -> Destination[Any, Any]:
    try:
        from analytics_dagster.ingest.warehouse.postgres_merge import MergingPostgres  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        raise SettingsError(
            "The driver of the destination postgres is not installed. Install it with pip install '.[postgres]'."
        ) from None
    return MergingPostgres(destination_name=name)


def read_one_state(client: SqlClient) -> None:
    """Let the statements of a reader see one state of the warehouse, where loads may write meanwhile."""
    if client.capabilities.sqlglot_dialect == POSTGRES:
        cast("PostgresSqlClient", client).read_one_state()


def with_table_names(statement: str, client: SqlClient) -> str:
    """Return a statement with each `{table}` in it replaced by the table's qualified name."""
    return re.sub(r"{(\w+)}", lambda table: client.make_qualified_table_name(table[1]), statement)


def run_statement(client: SqlClient, statement: str, *parameters: Any) -> Sequence[Any]:
    """Run a statement and return its rows; `{table}` in it becomes that table's qualified name."""
    with _one_statement:
        return client.execute_sql(with_table_names(statement, client), *parameters) or []


def select_records(client: SqlClient, statement: str, *parameters: Any) -> list[dict[str, Any]]:
    """Run a query and return its rows by the names of their columns."""
    with _one_statement, client.execute_query(with_table_names(statement, client), *parameters) as cursor:
        names = [str(column[0]).lower() for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def stored_columns(client: SqlClient, table: str) -> set[str] | None:
    """Return the names of the columns of a table in the warehouse; None if there is no such table."""
    statement = with_table_names(f"SELECT * FROM {{{table}}} WHERE 1 = 0", client)
    try:
        with _one_statement, client.execute_query(statement) as cursor:
            return {str(column[0]).lower() for column in cursor.description}
    except DatabaseUndefinedRelation:
        return None


def forget_stored_schema(client: SqlClient, pipeline: dlt.Pipeline) -> None:
    """Make dlt compare a pipeline's tables with those in the warehouse at its next run, and create what is missing.

    dlt trusts the schema that it stored there, even where somebody dropped a table since.
    https://dlthub.com/docs/general-usage/schema-evolution
    """
    with suppress(DatabaseUndefinedRelation):
        run_statement(client, "DELETE FROM {_dlt_version} WHERE schema_name = %s", pipeline.pipeline_name)


def of_project(project: Project) -> tuple[str, list[int]]:
    """Return a condition for the rows of a project, and its parameters; rows without a project belong to any."""
    return ("1 = 1", []) if project.id is None else ("(project_id = %s OR project_id IS NULL)", [project.id])


def recorded_for(resource: Resource, source: str, project: Project) -> tuple[Any, ...]:
    """Return a condition for the loader's own records of a resource, a source and a project, and its parameters."""
    if project.id is None:
        return ("resource = %s AND source = %s AND project_id IS NULL", resource.name, source)
    return ("resource = %s AND source = %s AND project_id = %s", resource.name, source, project.id)


def projects_with_rows(client: SqlClient, resource: Resource, projects: Collection[Project]) -> set[Project]:
    """Return the projects that have a row in a resource's table; none before it exists."""
    named = {project.id: project for project in projects if project.id is not None}
    found = set[Project]()
    try:
        if named:
            ids = ", ".join(f"({project})" for project in named)
            statement = (
                f"SELECT id FROM (VALUES {ids}) AS projects (id) "
                f"WHERE EXISTS (SELECT 1 FROM {{{resource.name}}} AS rows WHERE rows.project_id = projects.id)"
            )
            found = {named[row[0]] for row in run_statement(client, statement)}
            # Rows without a project belong to any.
            if len(found) < len(named) and run_statement(
                client, f"SELECT 1 FROM {{{resource.name}}} WHERE project_id IS NULL LIMIT 1"
            ):
                found = set(named.values())
        unnamed = set(projects) - set(named.values())
        if unnamed and run_statement(client, f"SELECT 1 FROM {{{resource.name}}} LIMIT 1"):
            found |= unnamed
    except DatabaseUndefinedRelation:
        return set()
    return found


def timestamp_literal(moment: datetime) -> str:
    """Return a time as a literal of SQL, which DuckDB and PostgreSQL both take."""
    return f"TIMESTAMP WITH TIME ZONE '{moment.astimezone(UTC).isoformat()}'"


def utc(moment: datetime) -> datetime:
    """Return a time in UTC; one without a time zone is taken as UTC, since some destinations drop the zone."""
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
