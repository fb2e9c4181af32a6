"""Load state, kept in the warehouse beside the rows: coverage, rows by day, rejected rows, marks of removed rows.

It takes the place of dlt's pipeline state (https://dlthub.com/docs/general-usage/state), which cannot be queried.

    with open_load_state(settings) as load_state:
        load_state.coverage.record(resource, project, window, rows=65)
        count = load_state.row_count(resource)
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dlt
from dlt.common.destination.exceptions import SqlClientNotAvailable
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.job_client_impl import SqlJobClientBase
from dlt.pipeline.exceptions import PipelineStepFailed

from analytics_dagster.catalog import RESOURCES, Resource, table_columns
from analytics_dagster.ingest.errors import WarehouseError, find_analytics_error
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.schema import LOAD_WINDOWS, LOADER_TABLES, REJECTED_ROWS, arrow_schema, column_hints
from analytics_dagster.ingest.settings import SANDBOX, Settings
from analytics_dagster.ingest.warehouse.coverage import CoverageTable
from analytics_dagster.ingest.warehouse.daily_rows import DailyRows, DayCounts
from analytics_dagster.ingest.warehouse.location import warehouse_location
from analytics_dagster.ingest.warehouse.lock import load_lock, setup_lock
from analytics_dagster.ingest.warehouse.pipeline import (
    build_pipeline,
    forget_stored_schema,
    of_project,
    projects_with_rows,
    run_statement,
    stored_columns,
    timestamp_literal,
    utc,
)
from analytics_dagster.ingest.warehouse.tables import adapt_table
from analytics_dagster.ingest.windows import LoadedWindows, Window

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WatermarkValues:
    """Values of `catalog.WatermarkColumns` in a table that has rows.

    Attributes:
        settled_rows: Number of rows that have settled.
        newest_key: Highest key.
        labels: Values of the label columns in the row with that key, by column.
    """

    settled_rows: int
    newest_key: int | str
    labels: Mapping[str, str]


@contextmanager
def open_load_state(settings: Settings, *, pipelines_dir: str | None = None) -> Iterator["LoadState"]:
    """Open the warehouse for loads; create the loader's own tables, or their new columns, where they are missing.

    DuckDB stays open for the whole context: opening its file for every load would checkpoint it every time.

    Args:
        settings: Settings that name the warehouse and the service.
        pipelines_dir: Folder of dlt's working files; dlt's default if None.

    Raises:
        SqlClientNotAvailable: The destination has no SQL.
        WarehouseError: The warehouse holds rows of a real service while the sandbox is configured, or the reverse; or
            a table of the loader has columns of other types.
    """
    pipeline = build_pipeline(None, settings, pipelines_dir=pipelines_dir)
    with pipeline.destination_client() as client:
        if not isinstance(client, SqlJobClientBase):
            raise SqlClientNotAvailable("pipeline", pipeline.pipeline_name, warehouse_location(settings).kind)
        load_state = LoadState(client, settings.source_address)
        with setup_lock(client.sql_client):
            before = stored_columns(client.sql_client, LOAD_WINDOWS)
            sources = load_state.coverage.sources() if before else set()
            if sources and settings.sandbox != (SANDBOX in sources):
                raise WarehouseError(
                    f"The warehouse holds rows of {', '.join(sorted(sources))}; rows of {settings.source_address} must "
                    "not be mixed with them. Set base_url or the destination's credentials."
                )
            incomplete = [name for name, columns in LOADER_TABLES.items() if adapt_table(client, name, columns)]
            if incomplete:
                forget_stored_schema(client.sql_client, pipeline)
                try:
                    pipeline.run(_empty_tables())
                except PipelineStepFailed as error:
                    raise find_analytics_error(error) or error from None
                load_state = LoadState(client, settings.source_address)
            if before and "project_name" not in before:
                load_state.adopt_windows()
        yield load_state


class LoadState:
    """The loader's records in the warehouse.

    Args:
        client: An open job client of dlt.
        source: Address of the service whose coverage is read and recorded.

    Attributes:
        coverage: The loaded windows.
        daily_rows: The rows that loads left, by day.
    """

    def __init__(self, client: SqlJobClientBase, source: str) -> None:
        self.coverage = CoverageTable(client.sql_client, source)
        self.daily_rows = DailyRows(client.sql_client, source)
        self._job_client = client
        self._client = client.sql_client

    def adopt_windows(self) -> None:
        """Give what a version for one project wrote without a project to the only project in the tables.

        Where the tables have rows of several projects, nobody knows whose windows and rows they are: such windows cover
        nothing.
        """
        tables = [
            resource
            for resource in RESOURCES
            if resource.incremental and resource.names_project and stored_columns(self._client, resource.name)
        ]
        projects: set[int] = set()
        for resource in tables:
            rows = run_statement(self._client, f"SELECT DISTINCT project_id FROM {{{resource.name}}}")
            projects |= {row[0] for row in rows if row[0] is not None}
        if len(projects) == 1:
            (project,) = projects
            self.coverage.adopt(project)
            for resource in tables:
                statement = f"UPDATE {{{resource.name}}} SET project_id = %s WHERE project_id IS NULL"
                run_statement(self._client, statement, project)
        self.coverage.name_project()

    def hold(self, settings: Settings, resource: Resource, *project_names: str) -> AbstractContextManager[None]:
        """Return a context that holds what a load of a resource and of projects writes: see `load_lock`."""
        return load_lock(self._client, settings, resource.name, project_names)

    def prepare_table(self, resource: Resource, pipeline: dlt.Pipeline) -> None:
        """Let the next run of a resource's pipeline load into its table: what the table lacks, dlt will create.

        Raises:
            WarehouseError: A column has another type, or a constraint that the warehouse does not drop.
        """
        if adapt_table(self._job_client, resource.name, table_columns(resource)):
            forget_stored_schema(self._client, pipeline)

    def windows(
        self, resource: Resource, projects: Collection[Project], *, now: datetime, since: datetime | None = None
    ) -> dict[Project, LoadedWindows]:
        """Return the loaded windows of a resource by project, as `CoverageTable.windows` does."""
        with_rows = projects_with_rows(self._client, resource, projects)
        return self.coverage.windows(resource, projects, now=now, with_rows=with_rows, since=since)

    def count_days(self, resource: Resource, windows: Mapping[Project, Window]) -> dict[Project, DayCounts]:
        """Return the rows of the days that windows touch, by project; none before the table exists."""
        try:
            return self.daily_rows.count(resource, windows)
        except DatabaseUndefinedRelation:
            return {project: DayCounts() for project in windows}

    def largest_keys(self, resource: Resource, before: Mapping[Project, datetime]) -> dict[Project, int]:
        """Return the largest primary key of each project's rows whose cursor is before a time of it; none without rows.

        Rows without a project count as those of a project alone.
        """
        (key,) = resource.primary_key
        if len(before) == 1:
            ((project, moment),) = before.items()
            condition, parameters = of_project(project)
            condition += f" AND {resource.cursor} < {timestamp_literal(moment)}"
            rows = self._rows_or_none(f"SELECT max({key}) FROM {{{resource.name}}} WHERE {condition}", *parameters)
            largest = rows[0][0] if rows else None
            return {} if largest is None else {project: int(largest)}
        named = {project.id: project for project in before if project.id is not None}
        if not named:
            return {}
        values = ", ".join(f"({project.id}, {timestamp_literal(before[project])})" for project in named.values())
        rows = self._rows_or_none(
            f"SELECT project_id, max({key}) FROM {{{resource.name}}} "
            f"JOIN (VALUES {values}) AS bounds (project, before) ON project_id = bounds.project "
            f"WHERE {resource.cursor} < bounds.before GROUP BY 1"
        )
        return {named[project]: int(largest) for project, largest in rows}

    def _rows_or_none(self, statement: str, *parameters: Any) -> Sequence[Any]:
        """Run a query and return its rows; none before its table exists."""
        try:
            return run_statement(self._client, statement, *parameters)
        except DatabaseUndefinedRelation:
            return ()

    def delete_before(self, resource: Resource, moment: datetime) -> int:
        """Delete the rows of a resource whose cursor is before a moment; return how many.

        Their coverage is deleted first: after a crash between the two it is behind the rows, never ahead of them.
        """
        self.coverage.forget_windows_before(resource, moment)
        self.daily_rows.forget_before(resource, moment)
        condition = f"FROM {{{resource.name}}} WHERE {resource.cursor} < %s"
        ((count,),) = run_statement(self._client, f"SELECT count(*) {condition}", moment)
        if count:
            run_statement(self._client, f"DELETE {condition}", moment)
            if not self.row_count(resource):
                self.coverage.empty_windows(resource)
        return int(count)

    def known_rejects(self, resource: Resource) -> dict[str, datetime]:
        """Return the time when each rejected row of a resource was first seen, by its hash."""
        rows = run_statement(
            self._client, f"SELECT row_hash, first_seen FROM {{{REJECTED_ROWS}}} WHERE resource = %s", resource.name
        )
        return {row_hash: utc(seen) for row_hash, seen in rows}

    def foreign_ids(self, resource: Resource, ids: Sequence[int], project: int) -> dict[int, int]:
        """Return the ids that rows of another project have, with that project; none before the table exists."""
        key = resource.primary_key[-1]
        # The bounds let the warehouse skip most of a large table; the ids are integers, so they need no parameters.
        statement = (
            f"SELECT {key}, min(project_id) FROM {{{resource.name}}} WHERE {key} BETWEEN {min(ids)} AND {max(ids)} "
            f"AND {key} IN ({', '.join(map(str, ids))}) AND project_id <> %s GROUP BY {key}"
        )
        try:
            return dict(run_statement(self._client, statement, project))
        except DatabaseUndefinedRelation:
            return {}

    def lookup_values(self, resource: Resource, project: Project, *, active_since: datetime) -> list[int]:
        """Return the values for the requests of a resource with a lookup; none before their table exists."""
        assert resource.lookup
        lookup = resource.lookup
        active = " OR ".join(f"{column} >= %s" for column in lookup.active_by)
        condition, parameters = of_project(project)
        try:
            rows = run_statement(
                self._client,
                f"SELECT DISTINCT {lookup.column} FROM {{{lookup.resource}}} "
                f"WHERE {condition} AND ({active}) ORDER BY 1",
                *parameters,
                *[active_since] * len(lookup.active_by),
            )
        except DatabaseUndefinedRelation:
            return []
        return [row[0] for row in rows]

    def row_count(self, resource: Resource, project: Project | None = None) -> int:
        """Return the number of rows in a resource's table, of one project or all; 0 before it exists."""
        condition, parameters = of_project(project or Project())
        statement = f"SELECT count(*) FROM {{{resource.name}}} WHERE {condition}"
        try:
            return int(run_statement(self._client, statement, *parameters)[0][0])
        except DatabaseUndefinedRelation:
            return 0

    def watermark(self, resource: Resource) -> WatermarkValues | None:
        """Return the watermark of a resource's table; None if it declares none, has no row or does not exist."""
        if resource.watermark is None:
            return None
        (key,), labels, table = resource.primary_key, resource.watermark.labels, "{" + resource.name + "}"
        columns = ", ".join((f"(SELECT count({resource.watermark.settled_by}) FROM {table})", key, *labels))
        try:
            rows = run_statement(
                self._client, f"SELECT {columns} FROM {table} WHERE {key} = (SELECT max({key}) FROM {table})"
            )
        except DatabaseUndefinedRelation:
            return None
        if not rows:
            return None
        settled, newest, *values = rows[0]
        return WatermarkValues(
            settled_rows=settled, newest_key=newest, labels=dict(zip(labels, map(str, values), strict=True))
        )

    def lacking(self, resource: Resource, listings: Sequence[str], *, new_rows: int) -> int:
        """Return the number of rows that complete listings lacked, and that were not marked before.

        Only rows of the accounts or projects in the listings count. Where rows name neither, listings that lack more
        rows than they repeat count none: they may be another account's.

        Args:
            resource: Resource that was listed.
            listings: Values of `load_id` of the listings.
            new_rows: Rows that they added to the table.
        """
        condition, parameters = _lacking(resource, listings)
        ((count,),) = run_statement(
            self._client, f"SELECT count(*) FROM {{{resource.name}}} WHERE {condition}", *parameters
        )
        if not count or resource.listed_within:
            return int(count)
        of_listings, ids = _listed(listings)
        ((listed,),) = run_statement(
            self._client, f"SELECT count(*) FROM {{{resource.name}}} WHERE {of_listings}", *ids
        )
        repeated = listed - new_rows
        if count > repeated:
            logger.warning(
                "%s: the listing lacks %d rows of the table and repeats %d, so none is marked as removed. Check "
                "that the key belongs to the same account. If the rows were removed, delete them from the table.",
                resource.name, count, repeated,
            )  # fmt: skip
            return 0
        return int(count)

    def mark_removed(self, resource: Resource, listings: Sequence[str], *, at: datetime) -> None:
        """Mark the rows that complete listings lacked, as of a time."""
        condition, parameters = _lacking(resource, listings)
        statement = f"UPDATE {{{resource.name}}} SET removed_at = %s WHERE {condition}"
        run_statement(self._client, statement, at, *parameters)


def _listed(listings: Sequence[str]) -> tuple[str, list[str]]:
    """Return a condition for the rows of listings, and its parameters."""
    return f"load_id IN ({', '.join(['%s'] * len(listings))})", list(listings)


def _lacking(resource: Resource, listings: Sequence[str]) -> tuple[str, list[str]]:
    """Return a condition for the unmarked rows that listings lacked, and its parameters."""
    listed, ids = _listed(listings)
    limits = [
        f"{column} IN (SELECT {column} FROM {{{resource.name}}} WHERE {listed})" for column in resource.listed_within
    ]
    lacking = f"removed_at IS NULL AND (load_id IS NULL OR NOT {listed})"
    return " AND ".join([lacking, *limits]), ids * (1 + len(limits))


def _empty_tables() -> list[Any]:
    """Return the loader's own tables as dlt resources without rows."""
    return [
        dlt.resource(
            [arrow_schema(columns).empty_table()],
            name=name,
            columns=column_hints(columns),
            write_disposition="append",
            file_format="parquet",
        )
        for name, columns in LOADER_TABLES.items()
    ]
