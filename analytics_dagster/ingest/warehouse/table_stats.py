"""Figures of the warehouse's tables, read by SQL; nothing here writes, or decides whether a figure is good.

    with TableStats.open(settings) as tables:
        profile = tables.profile(resource)

In Dagster, `WarehouseResource` opens the tables, read-only. The statements are SQL that every SQL destination of dlt
takes; the names in them are the catalog's. https://dlthub.com/docs/general-usage/dataset-access/sql-client
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analytics_dagster.catalog import ColumnType, Resource, get_resource, table_columns
from analytics_dagster.ingest.errors import WarehouseError
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.schema import REJECTED_ROWS
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.coverage import CoverageTable
from analytics_dagster.ingest.warehouse.daily_rows import DailyRows, Shortfall
from analytics_dagster.ingest.warehouse.location import DATASET
from analytics_dagster.ingest.warehouse.pipeline import (
    SqlClient,
    build_pipeline,
    projects_with_rows,
    read_one_state,
    stored_columns,
    utc,
    with_table_names,
)
from analytics_dagster.ingest.warehouse.working_files import working_files
from analytics_dagster.ingest.windows import LoadedWindows

_EXTRAS_READ = 10_000
"""Rows read for their unknown fields: a field that the service began to send is in most rows."""

_EXAMPLES = 5

_LOADS = "_dlt_loads"
"""dlt's table of the loads into the warehouse. https://dlthub.com/docs/general-usage/destination-tables"""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Figures of one table, from one statement.

    Attributes:
        rows: Rows in the table.
        nulls: Rows with null, for each column that is not nullable; columns without such rows are left out.
        absent: Declared columns that the table lacks, because an earlier version created it.
        newest_read: Newest `read_at`, UTC; None for an empty table.
        newest_row: Newest cursor, UTC; None for an empty table, or a resource without a cursor.
    """

    rows: int
    nulls: Mapping[str, int]
    absent: tuple[str, ...]
    newest_read: datetime | None
    newest_row: datetime | None


@dataclass(frozen=True, kw_only=True)
class KeySample:
    """The number of keys that a statement found, and the first few of them."""

    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RecordedLoads:
    """The ids of the first and the latest load that the warehouse records: epoch seconds as text."""

    first: str
    latest: str


@dataclass(frozen=True, kw_only=True)
class UnknownFields:
    """The number of rows with fields that the catalog does not know, and of each field the rows that have it."""

    rows: int
    fields: Mapping[str, int]


class TableStats:
    """The tables of the warehouse, open for reading.

    Args:
        client: An open SQL client of dlt.
        source: Address of the service whose loaded windows count.
    """

    def __init__(self, client: SqlClient, source: str) -> None:
        self._client = client
        self._coverage = CoverageTable(client, source)
        self._daily_rows = DailyRows(client, source)

    @classmethod
    @contextmanager
    def open(cls, settings: Settings, connection: Any = None) -> Iterator["TableStats"]:
        """Open the warehouse.

        Args:
            settings: The warehouse's destination, and the address of the service.
            connection: An open connection to DuckDB; None to let dlt connect to the destination.
        """
        with working_files() as folder:
            pipeline = build_pipeline(None, settings, pipelines_dir=folder, connection=connection)
            with pipeline.sql_client() as client:
                read_one_state(client)
                yield cls(client, settings.source_address)

    def profile(self, resource: Resource) -> Profile | None:
        """Return the figures of a resource's table; None if it does not exist yet.

        Raises:
            WarehouseError: A time column has another type.
        """
        existing = stored_columns(self._client, resource.name)
        if existing is None:
            return None
        declared = table_columns(resource)
        present = [column for column in declared if column.name in existing]
        required = [column.name for column in present if not column.stored_nullable]
        times = ["read_at", *([resource.cursor] if resource.cursor else [])]
        figures = [
            "count(*)",
            *(f"count({self._name(name)})" for name in required),
            *(f"max({self._name(name)})" for name in times),
        ]
        rows, *others = self._run(f"SELECT {', '.join(figures)} FROM {_table(resource.name)}")[0]
        counts, newest = others[: len(required)], others[len(required) :]
        for name, value in zip(times, newest, strict=True):
            if value is not None and not isinstance(value, datetime):
                raise WarehouseError(
                    f"The column {name} of {DATASET}.{resource.name} does not have the type of the catalog. Load the "
                    "table: the load names the statement that converts the column."
                )
        return Profile(
            rows=rows,
            nulls={name: rows - count for name, count in zip(required, counts, strict=True) if count < rows},
            absent=tuple(column.name for column in declared if column not in present),
            newest_read=newest[0] and utc(newest[0]),
            newest_row=utc(newest[1]) if resource.cursor and newest[1] else None,
        )

    def repeated_keys(self, resource: Resource) -> KeySample:
        """Return the primary keys that more than one row has."""
        names = ", ".join(self._name(name) for name in resource.primary_key)
        return self._sample(f"SELECT {names} FROM {_table(resource.name)} GROUP BY {names} HAVING count(*) > 1")

    def unmatched(self, resource: Resource, *, before: datetime) -> KeySample | None:
        """Return the keys in a resource's rows that the table they refer to lacks.

        Args:
            resource: A resource with `references` and a cursor.
            before: Rows with a later cursor do not count, UTC.

        Returns:
            The keys; None if the table that they refer to does not exist yet.
        """
        reference = resource.references
        assert reference
        assert resource.cursor
        if stored_columns(self._client, reference.resource) is None:
            return None
        column, cursor = self._name(reference.column), self._name(resource.cursor)
        (key,) = get_resource(reference.resource).primary_key
        return self._sample(
            f"SELECT DISTINCT named.{column} FROM {_table(resource.name)} AS named "
            f"WHERE named.{column} IS NOT NULL AND named.{cursor} < %s AND NOT EXISTS ("
            f"SELECT 1 FROM {_table(reference.resource)} AS known WHERE known.{self._name(key)} = named.{column})",
            before,
        )

    def unknown_fields(self, resource: Resource, *, since: datetime) -> UnknownFields:
        """Return the fields that the catalog does not know, in rows that were read since a time."""
        extra = self._name("extra")
        rows = self._run(
            f"SELECT {extra} FROM {_table(resource.name)} WHERE {extra} IS NOT NULL AND {self._name('read_at')} >= %s",
            since,
            limit=_EXTRAS_READ,
        )
        # Some destinations return JSON as text, others parse it.
        extras = [json.loads(extra) if isinstance(extra, str) else extra for (extra,) in rows]
        return UnknownFields(rows=len(extras), fields=Counter(field for extra in extras for field in extra))

    def rejected(self, resource: Resource, *, since: datetime) -> Mapping[str, int]:
        """Return the number of a resource's rows that were rejected since a time, by reason, largest first."""
        rows = self._run(
            f"SELECT reason, count(*) FROM {_table(REJECTED_ROWS)} WHERE resource = %s AND last_seen >= %s "
            "GROUP BY reason ORDER BY count(*) DESC, reason",
            resource.name,
            since,
        )
        return dict(rows)

    def projects(self, names: Sequence[str]) -> list[Project]:
        """Return projects of the settings, with the ids that their latest loads named."""
        ids = self._coverage.latest_projects()
        return [Project(name, ids.get(name)) for name in names]

    def windows(
        self, resource: Resource, projects: Sequence[Project], *, now: datetime
    ) -> Mapping[Project, LoadedWindows]:
        """Return the windows of a resource that were loaded from the configured service, by project."""
        with_rows = projects_with_rows(self._client, resource, projects)
        return self._coverage.windows(resource, projects, now=now, with_rows=with_rows)

    def empty_lists(self, resource: Resource, project: Project) -> list[datetime]:
        """Return the times, oldest first, at which the service listed no rows, since it last listed any."""
        return self._coverage.empty_lists(resource, project)

    def shortfalls(self, resource: Resource, project: Project) -> list[Shortfall]:
        """Return the days with fewer rows than their latest load left; none where the cursor of rows moves."""
        return [] if resource.cursor_moves else self._daily_rows.shortfalls(resource, project)

    def newest_read(self, resource: Resource, project: Project) -> datetime | None:
        """Return the newest `read_at` of a project's rows, UTC; None if it has none."""
        statement = f"SELECT max({self._name('read_at')}) FROM {_table(resource.name)} WHERE project_id = %s"
        ((newest,),) = self._run(statement, project.id)
        return newest and utc(newest)

    def owners(self, resource: Resource) -> set[int]:
        """Return the accounts or projects that the rows of a resource belong to; none if rows name neither."""
        if resource.owner_column is None:
            return set()
        owner = self._name(resource.owner_column)
        rows = self._run(f"SELECT DISTINCT {owner} FROM {_table(resource.name)} WHERE {owner} IS NOT NULL")
        return {row[0] for row in rows}

    def lasting_rows(self, resource: Resource, *, keep_from: datetime | None) -> int:
        """Return the number of rows that no load replaces any more, and that are not before a time.

        Args:
            resource: The resource.
            keep_from: Rows with an earlier cursor do not count, UTC; None to count all.
        """
        conditions, parameters = ["1 = 1"], []
        if keep_from:
            conditions.append(f"{self._name(str(resource.cursor))} >= %s")
            parameters.append(keep_from)
        if resource.replace_by:
            # The next load may replace the rows of its own time, such as the hour of a snapshot.
            times = [name for name in resource.replace_by if resource.column(name).type is ColumnType.TIMESTAMP]
            newest = [f"{name} < (SELECT max({name}) FROM {_table(resource.name)})" for name in map(self._name, times)]
            conditions += newest or ["1 = 0"]
        statement = f"SELECT count(*) FROM {_table(resource.name)} WHERE {' AND '.join(conditions)}"
        return int(self._run(statement, *parameters)[0][0])

    def recorded_loads(self) -> RecordedLoads | None:
        """Return the first and the latest load of the warehouse; None if it records none."""
        if stored_columns(self._client, _LOADS) is None:
            return None
        ((first, latest),) = self._run(f"SELECT min(load_id), max(load_id) FROM {_table(_LOADS)}")
        return None if first is None else RecordedLoads(first=first, latest=latest)

    def has_load(self, load_id: str) -> bool:
        """Return whether the warehouse records a load."""
        if stored_columns(self._client, _LOADS) is None:
            return False
        return bool(self._run(f"SELECT 1 FROM {_table(_LOADS)} WHERE load_id = %s", load_id))

    def _sample(self, keys: str, *parameters: Any) -> KeySample:
        """Count the keys that a statement selects, and return the first few of them."""
        count = int(self._run(f"SELECT count(*) FROM ({keys}) AS found", *parameters)[0][0])
        examples = self._run(keys, *parameters, limit=_EXAMPLES) if count else ()
        return KeySample(count=count, examples=tuple(str(key[0] if len(key) == 1 else tuple(key)) for key in examples))

    def _name(self, column: str) -> str:
        return self._client.escape_column_name(column)

    def _run(self, statement: str, *parameters: Any, limit: int | None = None) -> Sequence[Any]:
        """Run a statement and return its rows, or the first few; `{table}` stands for the table's qualified name."""
        with self._client.execute_query(with_table_names(statement, self._client), *parameters) as cursor:
            return cursor.fetchmany(limit) if limit else cursor.fetchall()


def _table(name: str) -> str:
    return "{" + name + "}"
