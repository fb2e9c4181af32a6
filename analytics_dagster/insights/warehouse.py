"""The tables that the insights read and write, in an open warehouse.

    with open_insights(settings) as tables:
        refresh(tables, now=datetime.now(UTC))

The statements are the files in `sql/`, but for those that write. Nothing here decides what is computed: `refresh.py`.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from typing import Any

import dlt
import pyarrow as pa
from dlt.common.destination.exceptions import SqlClientNotAvailable
from dlt.destinations.job_client_impl import SqlJobClientBase

from analytics_dagster.catalog import ColumnType, get_resource
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.schema import LOAD_WINDOWS, arrow_schema, column_hints
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.coverage import IS_COVERAGE, CoverageTable
from analytics_dagster.ingest.warehouse.location import warehouse_location
from analytics_dagster.ingest.warehouse.lock import write_lock
from analytics_dagster.ingest.warehouse.pipeline import (
    SqlClient,
    build_pipeline,
    forget_stored_schema,
    projects_with_rows,
    run_statement,
    stored_columns,
    timestamp_literal,
    utc,
)
from analytics_dagster.ingest.warehouse.tables import adapt_table
from analytics_dagster.ingest.warehouse.working_files import working_files
from analytics_dagster.ingest.windows import BEGINNING
from analytics_dagster.insights.counts import CountsAround, History
from analytics_dagster.insights.covered import Covered
from analytics_dagster.insights.deploy_impact import Row
from analytics_dagster.insights.deploys import Deploy
from analytics_dagster.insights.statements import Value, build_statement
from analytics_dagster.insights.tables import DEPLOY_IMPACT, DEPLOY_ITEMS, INSIGHT_TABLES, InsightTable
from analytics_dagster.insights.verdicts import Verdict

OCCURRENCES = get_resource("occurrences")
SOURCES = ("deploys", "items", OCCURRENCES.name)
"""Resources whose tables the insights are computed from."""

_PIPELINE = "insights"


class InsightTables:
    """The tables of the insights, and those that they are computed from.

    Args:
        client: An open SQL client of dlt.
        source: Address of the service whose loaded windows count.
        pipeline: The pipeline that writes; None to read.
    """

    def __init__(self, client: SqlClient, source: str, pipeline: dlt.Pipeline | None = None) -> None:
        self._client = client
        self._source = source
        self._coverage = CoverageTable(client, source)
        self._pipeline = pipeline

    # -- what the insights are computed from --------------------------------------------------------------

    def missing_sources(self) -> list[str]:
        """Return the tables that the insights need and that do not exist yet."""
        return [name for name in (*SOURCES, LOAD_WINDOWS) if stored_columns(self._client, name) is None]

    def deploys(self) -> list[Deploy]:
        """Return every deploy."""
        return [Deploy(**row) for row in self._select("deploys")]

    def recorded_windows(self, *, since: datetime) -> list[tuple[int | None, datetime]]:
        """Return the earliest start of the windows of occurrences that were recorded since a time, by project.

        A window to the oldest row starts at `BEGINNING`.
        """
        rows = run_statement(
            self._client,
            "SELECT project_id, min(window_start), count(*) - count(window_start) "
            f"FROM {{{LOAD_WINDOWS}}} WHERE resource = %s AND source = %s "
            f"AND {IS_COVERAGE} AND loaded_at >= {timestamp_literal(since)} "
            "GROUP BY project_id",
            OCCURRENCES.name,
            self._source,
        )
        return [(project, BEGINNING if to_oldest else utc(start)) for project, start, to_oldest in rows]

    def covered(
        self, project_ids: Collection[int | None], *, since: datetime, now: datetime
    ) -> dict[int | None, Covered]:
        """Return the covered times of the occurrences of projects, from a time on.

        Args:
            project_ids: The projects. If there is one alone, windows of loads whose rows named none are its own.
            since: The time, UTC.
            now: The time of the computation, UTC.
        """
        if not project_ids:
            return {}
        projects = [Project(id=project) for project in project_ids]
        if len(projects) == 1:
            projects.append(Project())
        with_rows = projects_with_rows(self._client, OCCURRENCES, projects)
        found = self._coverage.windows(OCCURRENCES, projects, now=now, with_rows=with_rows, since=since)
        if len(project_ids) == 1:
            return {project: Covered(chain(*(windows.valid for windows in found.values()))) for project in project_ids}
        return {project.id: Covered(windows.valid) for project, windows in found.items()}

    def counts_around(self, *, finished_since: datetime, only_project: int | None) -> CountsAround:
        """Return the occurrences around the deploys that finished since a time."""
        values = {"finished_since": finished_since, "only_project": only_project}
        return CountsAround(self._run("occurrences_around_deploys", **values))

    def history(self, *, since: datetime, only_project: int | None) -> History:
        """Return the occurrences by environment since a time."""
        return History(self._run("ten_minute_counts", since=since, only_project=only_project))

    def changed_suspects(self, *, counted_anew_since: datetime) -> list[Row]:
        """Return the rows of `deploy_items` to write or to delete; those that count from a time on are all written."""
        return self._select("changed_suspects", counted_anew_since=counted_anew_since)

    def ask(self, question: str) -> list[Row]:
        """Return the answer to one of `QUESTIONS`, by column."""
        return self._select(f"questions/{question}")

    # -- the insights themselves --------------------------------------------------------------------------

    def impacts(self) -> dict[int, Row]:
        """Return the rows of `deploy_impact` by the id of the deploy; none before the table exists."""
        return {row["id"]: row for row in self._read(DEPLOY_IMPACT)}

    def last_computed(self, table: InsightTable) -> datetime | None:
        """Return when a row of a table was last computed, UTC; None if it has none."""
        ((computed,),) = run_statement(self._client, f"SELECT max(computed_at) FROM {{{table.name}}}")
        return computed and utc(computed)

    def latest_impacts(self, count: int) -> list[Row]:
        """Return the rows of `deploy_impact` of the deploys that finished last, latest first."""
        return self._read(DEPLOY_IMPACT, "ORDER BY finish_time DESC, id DESC LIMIT %s", count)

    def impacts_since(self, moment: datetime) -> list[Row]:
        """Return the rows of `deploy_impact` of the deploys that finished since a time, latest first."""
        return self._read(DEPLOY_IMPACT, "WHERE finish_time >= %s ORDER BY finish_time DESC, id DESC", moment)

    def worse_since(self, moment: datetime) -> list[Row]:
        """Return the rows of `deploy_impact` of the deploys that are worse and finished since a time, latest first."""
        condition = "WHERE verdict = %s AND finish_time >= %s ORDER BY finish_time DESC, id DESC"
        return self._read(DEPLOY_IMPACT, condition, Verdict.WORSE.value, moment)

    def busiest_items(self, deploys: Sequence[int], *, each: int) -> dict[int, list[Row]]:
        """Return the items that deploys are suspected of, those with the most occurrences first, a few of each."""
        busiest: dict[int, list[Row]] = {deploy: [] for deploy in deploys}
        if not deploys:
            return busiest
        places = ", ".join(["%s"] * len(deploys))
        order = "ORDER BY occurrences DESC, item_id"
        for row in self._read(DEPLOY_ITEMS, f"WHERE deploy_id IN ({places}) {order}", *deploys):
            items = busiest[row["deploy_id"]]
            if len(items) < each:
                items.append(row)
        return busiest

    def row_count(self, table: InsightTable) -> int:
        """Return the number of rows of a table."""
        return int(run_statement(self._client, f"SELECT count(*) FROM {{{table.name}}}")[0][0])

    def write(self, table: InsightTable, rows: Sequence[Row]) -> None:
        """Merge rows into a table by its primary key, in one transaction."""
        assert self._pipeline, "the tables are open for reading"
        self._pipeline.run(_dlt_resource(table, rows))

    def delete(self, table: InsightTable, keys: Sequence[tuple[int, ...]]) -> None:
        """Delete the rows with some primary keys, in one transaction."""
        condition = " AND ".join(f"{self._client.escape_column_name(name)} = %s" for name in table.primary_key)
        with self._client.begin_transaction():
            for key in keys:
                run_statement(self._client, f"DELETE FROM {{{table.name}}} WHERE {condition}", *key)

    # -- statements ---------------------------------------------------------------------------------------

    def _run(self, name: str, **values: Value) -> Sequence[Any]:
        return self._client.execute_sql(build_statement(name, self._client, **values)) or []

    def _select(self, name: str, **values: Value) -> list[Row]:
        """Run the statement of a file and return its rows by column, with times in UTC."""
        with self._client.execute_query(build_statement(name, self._client, **values)) as cursor:
            return _named_rows(cursor)

    def _read(self, table: InsightTable, condition: str = "", *parameters: Any) -> list[Row]:
        """Return rows of a table of the insights; none before it exists."""
        if stored_columns(self._client, table.name) is None:
            return []
        qualified = self._client.make_qualified_table_name(table.name)
        with self._client.execute_query(f"SELECT * FROM {qualified} {condition}", *parameters) as cursor:
            rows = _named_rows(cursor)
        documents = [column.name for column in table.columns if column.type is ColumnType.JSON]
        return [row | {name: _json_text(row[name]) for name in documents} for row in rows]


@contextmanager
def open_insights(settings: Settings) -> Iterator[InsightTables]:
    """Hold the warehouse for writing, create the tables of the insights where they are missing, and yield them.

    Raises:
        WarehouseError: The warehouse cannot be written, or a table has columns of other types.
        SettingsError: The destination is misconfigured, or its driver is not installed.
    """
    with write_lock(settings), working_files() as folder:
        pipeline = build_pipeline(None, settings, name=_PIPELINE, pipelines_dir=folder)
        with pipeline.destination_client() as client:
            if not isinstance(client, SqlJobClientBase):
                raise SqlClientNotAvailable("pipeline", pipeline.pipeline_name, warehouse_location(settings).kind)
            incomplete = [table for table in INSIGHT_TABLES if adapt_table(client, table.name, table.columns)]
            if incomplete:
                forget_stored_schema(client.sql_client, pipeline)
                pipeline.run([_dlt_resource(table, ()) for table in INSIGHT_TABLES])
            yield InsightTables(client.sql_client, settings.source_address, pipeline)


@contextmanager
def read_insights(settings: Settings, connection: Any = None) -> Iterator[InsightTables]:
    """Open the tables of the insights for reading.

    Args:
        settings: The warehouse's destination, and the address of the service.
        connection: An open connection to DuckDB; None to let dlt connect to the destination.
    """
    with working_files() as folder:
        pipeline = build_pipeline(None, settings, name=_PIPELINE, pipelines_dir=folder, connection=connection)
        with pipeline.sql_client() as client:
            yield InsightTables(client, settings.source_address)


def _dlt_resource(table: InsightTable, rows: Sequence[Row]) -> Any:
    """Return rows of a table as a dlt resource, which merges them by the primary key."""
    return dlt.resource(
        [pa.Table.from_pylist(list(rows), arrow_schema(table.columns))],
        name=table.name,
        primary_key=list(table.primary_key),
        write_disposition={"disposition": "merge", "strategy": "delete-insert"},
        file_format="parquet",
        columns=column_hints(table.columns),
    )


def _named_rows(cursor: Any) -> list[Row]:
    names = [str(column[0]).lower() for column in cursor.description]
    return [
        {name: utc(value) if isinstance(value, datetime) else value for name, value in zip(names, values, strict=True)}
        for values in cursor.fetchall()
    ]


def _json_text(value: Any) -> str:
    """Return JSON as the text that is written: some warehouses return it parsed."""
    return value if isinstance(value, str) else json.dumps(value)
