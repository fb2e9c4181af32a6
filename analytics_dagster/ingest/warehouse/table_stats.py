"""Reading the warehouse: what its tables hold, as figures. Nothing here writes, or says whether a figure is good.

    with read_lock(settings) as place, TableStats.open(settings) as tables:
        profile = tables.profile(resource)

Statements are plain SQL that every destination of dlt takes; the names in them are the catalog's.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from tempfile import TemporaryDirectory
from typing import Any

from dlt.common.destination.dataset import DBApiCursor
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from analytics_dagster.catalog import Resource, get_resource, table_columns
from analytics_dagster.ingest.schema import REJECTED_ROWS
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.load_state import LoadState
from analytics_dagster.ingest.warehouse.pipeline import SqlClient, build_pipeline, utc, with_table_names
from analytics_dagster.ingest.windows import Window

ROWS_LOOKED_AT = 10_000
"""Rows whose unknown fields are looked at: a field that the service began to send is in most of them."""

_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one look at a table tells.

    Attributes:
        rows: Rows in it.
        nulls: Rows that lack a value, for each column declared to have one; those without such rows are left out.
        absent: Columns that the table does not have: an earlier version made it.
        newest_read: When the newest of its rows was read.
        newest_row: The newest cursor among them; None without a cursor.
    """

    rows: int
    nulls: Mapping[str, int]
    absent: tuple[str, ...]
    newest_read: datetime | None
    newest_row: datetime | None


@dataclass(frozen=True, kw_only=True)
class KeySample:
    """How often something was found, and a few examples of it."""

    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UnknownFields:
    """In how many rows a field stands that the catalog does not know, by field, and how many were looked at."""

    rows: int
    fields: Mapping[str, int]


class TableStats:
    """The tables of the warehouse, open for reading.

    Args:
        client: An open SQL client of dlt.
        source: Address of the service whose loads count.
    """

    def __init__(self, client: SqlClient, source: str) -> None:
        self._client = client
        self._load_state = LoadState(client, source)

    @classmethod
    @contextmanager
    def open(cls, settings: Settings, connection: Any = None) -> Iterator["TableStats"]:
        """Open the warehouse: through a connection to the DuckDB file, or else through one of dlt's own."""
        with TemporaryDirectory(prefix="analytics-", ignore_cleanup_errors=True) as working_files:
            pipeline = build_pipeline(None, settings, pipelines_dir=working_files, connection=connection)
            with pipeline.sql_client() as client:
                yield cls(client, settings.source_address)

    def profile(self, resource: Resource) -> Profile | None:
        """Return what the table of a resource holds; None before it exists."""
        existing = self._columns(resource.name)
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
        repeated = f"SELECT {names} FROM {_table(resource.name)} GROUP BY {names} HAVING count(*) > 1"
        return self._found(repeated)

    def unmatched(self, resource: Resource, *, before: datetime) -> KeySample | None:
        """Return the keys that rows name, and that the resource they refer to lacks; None before that is loaded.

        Args:
            resource: One with `references`.
            before: Rows with a later cursor do not count.
        """
        reference = resource.references
        assert reference
        assert resource.cursor
        if self._columns(reference.resource) is None:
            return None
        column, cursor = self._name(reference.column), self._name(resource.cursor)
        (key,) = get_resource(reference.resource).primary_key
        return self._found(
            f"SELECT DISTINCT named.{column} FROM {_table(resource.name)} AS named "
            f"WHERE named.{column} IS NOT NULL AND named.{cursor} < %s AND NOT EXISTS ("
            f"SELECT 1 FROM {_table(reference.resource)} AS known WHERE known.{self._name(key)} = named.{column})",
            before,
        )

    def unknown_fields(self, resource: Resource, *, since: datetime) -> UnknownFields:
        """Return the fields that the catalog does not know in rows read since a moment."""
        statement = (
            f"SELECT {self._name('extra')} FROM {_table(resource.name)} "
            f"WHERE {self._name('extra')} IS NOT NULL AND {self._name('read_at')} >= %s"
        )
        rows = self._first(statement, since, count=ROWS_LOOKED_AT)
        # Some destinations hand JSON back as text, others as what it stands for.
        extras = [json.loads(extra) if isinstance(extra, str) else extra for (extra,) in rows]
        return UnknownFields(rows=len(extras), fields=Counter(field for extra in extras for field in extra))

    def rejected(self, resource: Resource, *, since: datetime) -> Mapping[str, int]:
        """Return how many rows of a resource were rejected and seen since a moment, by the reason."""
        rows = self._run(
            f"SELECT reason, count(*) FROM {_table(REJECTED_ROWS)} WHERE resource = %s AND last_seen >= %s "
            "GROUP BY reason ORDER BY count(*) DESC, reason",
            resource.name,
            since,
        )
        return dict(rows)

    def windows(self, resource: Resource) -> list[Window]:
        """Return the windows of a resource that were loaded from the configured service."""
        return self._load_state.windows(resource)

    def _columns(self, table: str) -> set[str] | None:
        """Names of a table's columns; None before it exists."""
        try:
            with self._query(f"SELECT * FROM {_table(table)} WHERE 1 = 0") as cursor:
                return {str(column[0]).lower() for column in cursor.description}
        except DatabaseUndefinedRelation:
            return None

    def _found(self, keys: str, *parameters: Any) -> KeySample:
        """Count the rows of a statement that selects keys, with the first few of them."""
        count = int(self._run(f"SELECT count(*) FROM ({keys}) AS found", *parameters)[0][0])
        examples = self._first(keys, *parameters, count=_EXAMPLES) if count else ()
        return KeySample(count=count, examples=tuple(str(key[0] if len(key) == 1 else tuple(key)) for key in examples))

    def _name(self, column: str) -> str:
        return self._client.escape_column_name(column)

    def _run(self, statement: str, *parameters: Any) -> Sequence[Any]:
        with self._query(statement, *parameters) as cursor:
            return cursor.fetchall()

    def _first(self, statement: str, *parameters: Any, count: int) -> Sequence[Any]:
        with self._query(statement, *parameters) as cursor:
            return cursor.fetchmany(count)

    def _query(self, statement: str, *parameters: Any) -> AbstractContextManager[DBApiCursor]:
        return self._client.execute_query(with_table_names(statement, self._client), *parameters)


def _table(name: str) -> str:
    return "{" + name + "}"
