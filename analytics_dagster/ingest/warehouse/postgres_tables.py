"""Indexes and comments of the tables in PostgreSQL: dlt creates neither.

The primary key has a unique index, the cursor and the project have one, so that a merge, a count of days and a look for
a project's rows read what they touch rather than the whole table. Descriptions of the catalog are comments, which
clients of the database show. Nothing is repeated: what stands there already is left alone.

https://www.postgresql.org/docs/current/sql-createindex.html
"""

import logging
from collections.abc import Iterable, Iterator

from dlt.common.schema.typing import TTableSchema
from dlt.common.schema.utils import get_columns_names_with_prop
from dlt.destinations.exceptions import DatabaseTerminalException

from analytics_dagster.catalog import RESOURCES
from analytics_dagster.ingest.schema import LOADER_TABLE_DESCRIPTIONS
from analytics_dagster.ingest.warehouse.postgres_client import PostgresSqlClient, RefusedStatementError

logger = logging.getLogger(__name__)

_DESCRIPTIONS = {resource.name: resource.description for resource in RESOURCES} | LOADER_TABLE_DESCRIPTIONS
_INDEXED = {resource.name: (resource.cursor, "project_id") for resource in RESOURCES}
"""Columns with an index of their own, those that the table has and that do not begin its key, by table."""


def complete_tables(client: PostgresSqlClient, tables: Iterable[TTableSchema]) -> None:
    """Create the indexes and comments that tables lack.

    Args:
        client: An open SQL client.
        tables: dlt's schemas of tables that exist. Those of another owner are left as they are, with a warning.
    """
    for table in tables:
        try:
            _create_indexes(client, table)
            for statement in _comments(client, table):
                client.execute_sql(statement)
        except RefusedStatementError as error:
            logger.warning("%s: without an index, or a comment, loads go on but may be slow. %s", table["name"], error)


def _create_indexes(client: PostgresSqlClient, table: TTableSchema) -> None:
    name = str(table["name"])
    found = client.execute_sql(
        "SELECT indexname FROM pg_indexes WHERE schemaname = %s AND tablename = %s", client.dataset_name, name
    )
    existing = {index for (index,) in found or ()}
    unique, repeated = f"{name}_key", f"{name}_repeated_key"
    key = get_columns_names_with_prop(table, "primary_key")
    if key and not existing & {unique, repeated}:
        try:
            _create_index(client, unique, name, key, unique=True)
        except DatabaseTerminalException:
            logger.warning(
                "%s: rows share a primary key, so its index is not unique. The check primary_key names them. Delete "
                "those that are too many, then run DROP INDEX %s: the next load creates a unique one.",
                name, f"{client.dataset_name}.{repeated}",
            )  # fmt: skip
            _create_index(client, repeated, name, key)
    for column in _INDEXED.get(name, ()):
        if column in table["columns"] and column not in key[:1] and (index := f"{name}_{column}") not in existing:
            _create_index(client, index, name, [column])


def _create_index(
    client: PostgresSqlClient, index: str, table: str, columns: Iterable[str], *, unique: bool = False
) -> None:
    escape = client.escape_column_name
    client.execute_sql(
        f"CREATE {'UNIQUE ' * unique}INDEX {escape(index)} ON {client.make_qualified_table_name(table)} "
        f"({', '.join(map(escape, columns))})"
    )


def _comments(client: PostgresSqlClient, table: TTableSchema) -> Iterator[str]:
    """Yield the statements for descriptions of a table and its columns that are not its comments yet."""
    table_name = str(table["name"])
    qualified = client.make_qualified_table_name(table_name)
    rows = client.execute_sql(
        "SELECT NULL, obj_description(to_regclass(%s), 'pg_class') UNION ALL SELECT attname, "
        "col_description(attrelid, attnum) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0",
        qualified,
        qualified,
    )
    existing: dict[str | None, str | None] = {column: text for column, text in rows or ()}  # noqa: C416 - typed as rows
    literal = client.capabilities.escape_literal
    description = _DESCRIPTIONS.get(table_name)
    if description and existing[None] != description:
        yield f"COMMENT ON TABLE {qualified} IS {literal(description)}"
    for name, column in table["columns"].items():
        text = column.get("description")
        if text and name in existing and existing[name] != text:
            yield f"COMMENT ON COLUMN {qualified}.{client.escape_column_name(name)} IS {literal(text)}"
