"""Tables as they stand in the warehouse, and what a load needs of them.

    if adapt_table(client, "deploys", table_columns(resource)):
        forget_stored_schema(client.sql_client, pipeline)

A table can be older than the catalog, or another program made it. dlt adds columns and compares nothing else
(https://dlthub.com/docs/general-usage/schema-evolution). So constraints in the way of rows are dropped here, and a
column of another type fails the load before it reads. No row is deleted, and no value changed.
"""

import logging
from collections.abc import Mapping, Sequence

from dlt.common.schema.typing import TColumnSchema
from dlt.destinations.exceptions import DatabaseException
from dlt.destinations.job_client_impl import SqlJobClientBase

from analytics_dagster.catalog import Column
from analytics_dagster.ingest.errors import WarehouseError
from analytics_dagster.ingest.schema import column_hints
from analytics_dagster.ingest.warehouse.location import DATASET

logger = logging.getLogger(__name__)

_CONVERSIONS: Mapping[tuple[str | None, str | None], str] = {
    ("bigint", "timestamp"): "to_timestamp({column})",
    ("timestamp", "bigint"): "CAST(extract(epoch FROM {column}) AS {type})",
    ("bigint", "bool"): "{column} <> 0",
    ("bool", "bigint"): "CAST(CAST({column} AS integer) AS {type})",
}
"""Conversions that a cast does not do everywhere, by the types before and after, in SQL of DuckDB and PostgreSQL."""

_CAST = "CAST({column} AS {type})"
_BIGINT_BITS = 64


def adapt_table(client: SqlJobClientBase, table: str, columns: Sequence[Column]) -> bool:
    """Make a table accept rows with the columns of the catalog.

    Args:
        client: An open job client of dlt.
        table: The table's name.
        columns: The columns that the catalog declares.

    Returns:
        Whether the table, or a column of it, is missing: dlt must create it.

    Raises:
        WarehouseError: A column has another type, or a constraint that the warehouse does not drop.
    """
    stored = _stored_columns(client, table)
    _require_types(client, table, columns, stored)
    declared = {column.name: column for column in columns}
    for name, column in stored.items():
        takes_null = name not in declared or declared[name].stored_nullable
        if takes_null and not column["nullable"]:
            _drop_not_null(client, table, name)
    return not stored.keys() >= declared.keys()


def _stored_columns(client: SqlJobClientBase, table: str) -> Mapping[str, TColumnSchema]:
    """Return the columns of a table by name, as the warehouse describes them; none if there is no such table."""
    _, columns = client.get_storage_table(table)
    return {name.lower(): column for name, column in columns.items()}


def _require_types(
    client: SqlJobClientBase, table: str, columns: Sequence[Column], stored: Mapping[str, TColumnSchema]
) -> None:
    """Raise an error with the statements that mend it if columns have other types than the catalog declares."""
    mapper = client.capabilities.get_type_mapper()
    qualified = client.sql_client.make_qualified_table_name(table)
    faults, statements = [], []
    for name, hint in column_hints(columns).items():
        if name not in stored:
            continue
        type_name = mapper.to_destination_type(hint, {"name": table, "columns": {}})
        # Not every type of dlt has one of its own in the warehouse: JSON can be text there.
        expected = mapper.from_destination_type(type_name, None, None)["data_type"]
        found = stored[name]["data_type"]
        narrow = found == expected == "bigint" and (stored[name].get("precision") or _BIGINT_BITS) < _BIGINT_BITS
        if found == expected and not narrow:
            continue
        faults.append(f"{name} is {'a shorter integer' if narrow else found} instead of {expected}")
        column = client.sql_client.escape_column_name(name)
        value = _CONVERSIONS.get((found, expected), _CAST).format(column=column, type=type_name)
        statements.append(f"ALTER TABLE {qualified} ALTER COLUMN {column} TYPE {type_name} USING {value};")
    if faults:
        raise WarehouseError(
            f"The table {DATASET}.{table} does not have the types of the catalog: {', '.join(faults)}. To keep its "
            f"rows, run in the warehouse: {' '.join(statements)} If values do not convert, rename the table: the next "
            "load in full makes a new one."
        )


def _drop_not_null(client: SqlJobClientBase, table: str, name: str) -> None:
    """Let a column take null.

    Rows that lack a required value are rejected before they are loaded, and the checks judge the nulls of a table.
    """
    sql = client.sql_client
    statement = (
        f"ALTER TABLE {sql.make_qualified_table_name(table)} ALTER COLUMN {sql.escape_column_name(name)} DROP NOT NULL"
    )
    try:
        sql.execute_sql(statement)
    except DatabaseException as error:
        raise WarehouseError(
            f"The column {name} of {DATASET}.{table} takes no null, and the warehouse does not change that: "
            f"{str(error).splitlines()[0]} Drop the indexes and keys of the table, or rename it: the next load in "
            "full makes a new one."
        ) from None
    logger.info("%s: the column %s takes null from now on", table, name)
