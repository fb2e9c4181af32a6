"""Schemas: the catalog's columns as dlt hints and as an Arrow schema, and the columns of the loader's own tables.

Every column takes null in the warehouse: a constraint could not be added to a table with rows, nor would DuckDB add a
column with one. The catalog says which columns have a value in each row: rows that lack it are rejected before they are
loaded, and the check `not_null` judges the tables.
https://dlthub.com/docs/general-usage/schema

    columns = table_columns(resource)
    table = pa.table(arrays, schema=arrow_schema(columns))
    dlt.resource([table], columns=column_hints(columns))
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa
from dlt.common.schema.typing import TColumnSchema

from analytics_dagster.catalog import Column, ColumnType

ARROW_TYPES = {
    ColumnType.BIGINT: pa.int64(),
    ColumnType.DOUBLE: pa.float64(),
    ColumnType.TEXT: pa.string(),
    ColumnType.BOOL: pa.bool_(),
    ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    ColumnType.JSON: pa.string(),
}


REJECTED_ROWS = "rejected_rows"
"""Table of rows that do not fit their columns."""


_PROJECT_ID = Column(
    name="project_id",
    type=ColumnType.BIGINT,
    nullable=True,
    description="The project that the rows name; null if none was named.",
)

REJECTED_COLUMNS = (
    Column(name="row_hash", type=ColumnType.TEXT, description="SHA-256 of the resource's name and the raw row."),
    Column(name="resource", type=ColumnType.TEXT, description="The resource that the row belongs to."),
    Column(name="reason", type=ColumnType.TEXT, description="The field that does not fit, and why."),
    Column(name="first_seen", type=ColumnType.TIMESTAMP, description="The time when the row was first read."),
    Column(name="last_seen", type=ColumnType.TIMESTAMP, description="The time when the row was last read."),
    Column(name="raw", type=ColumnType.TEXT, description="The row as JSON, without secrets."),
    _PROJECT_ID,
)


LOAD_WINDOWS = "load_windows"
"""Table of loaded windows: one row for each load of a resource, or for each piece of a long window.

A window without length (its start is its end) covers nothing: it records that a load found the service's list empty,
although the table has rows. The next load that lists rows deletes these windows.
"""


LOAD_WINDOWS_COLUMNS = (
    Column(name="resource", type=ColumnType.TEXT, description="The resource that was loaded."),
    Column(name="source", type=ColumnType.TEXT, description="The base_url that it was loaded from."),
    Column(
        name="window_start",
        type=ColumnType.TIMESTAMP,
        nullable=True,
        description="The start of the window, without lookback; null for the oldest row. The same as window_end if "
        "the load covered nothing: the service listed no rows, but the table has some.",
    ),
    Column(
        name="window_end",
        type=ColumnType.TIMESTAMP,
        description="The end of the window, never in the future, by the clocks of the service and of the loader.",
    ),
    Column(name="rows_loaded", type=ColumnType.BIGINT, description="Rows that the load read in the window."),
    Column(
        name="list_end",
        type=ColumnType.TIMESTAMP,
        nullable=True,
        description="Time of the oldest row, if the service's list ended above the window's start, lookback included; "
        "null otherwise.",
    ),
    Column(name="loaded_at", type=ColumnType.TIMESTAMP, description="The time when the rows were in the table."),
    _PROJECT_ID,
    Column(
        name="project_name",
        type=ColumnType.TEXT,
        nullable=True,
        description="The project's name in the settings; `default` for the setting api_key.",
    ),
)


DAILY_ROWS = "daily_rows"
"""Table of the rows that loads left in a table, by the day of the cursor, UTC: to notice rows that vanish."""


DAILY_ROWS_COLUMNS = (
    Column(name="resource", type=ColumnType.TEXT, description="The resource that was loaded."),
    Column(name="source", type=ColumnType.TEXT, description="The base_url that it was loaded from."),
    _PROJECT_ID,
    Column(name="day", type=ColumnType.TEXT, description="The day of the cursor, UTC, as 2026-01-31."),
    Column(name="row_count", type=ColumnType.BIGINT, description="Rows of that day after the latest load of it."),
)


LOADER_TABLES = {
    LOAD_WINDOWS: LOAD_WINDOWS_COLUMNS,
    REJECTED_ROWS: REJECTED_COLUMNS,
    DAILY_ROWS: DAILY_ROWS_COLUMNS,
}
"""The loader's own tables, by name."""


LOADER_TABLE_DESCRIPTIONS = {
    LOAD_WINDOWS: "A window of a resource's cursor that was loaded, or an empty list that was seen.",
    REJECTED_ROWS: "A row that does not fit its columns.",
    DAILY_ROWS: "The rows of a day that the latest load left in a table.",
}
"""Description of a row, by table."""


def arrow_schema(columns: Iterable[Column]) -> pa.Schema:
    """Return the Arrow schema of columns."""
    return pa.schema([pa.field(column.name, ARROW_TYPES[column.type]) for column in columns])


def column_hints(columns: Sequence[Column]) -> dict[str, TColumnSchema]:
    """Return dlt's hints for columns, in order."""
    hints: dict[str, TColumnSchema] = {
        column.name: {
            "name": column.name,
            "data_type": column.type.value,
            "nullable": True,  # also for keys, which dlt would make NOT NULL
            "description": column.description,
        }
        for column in columns
    }
    if "read_seq" in hints:
        hints["read_seq"]["dedup_sort"] = "desc"
    return hints
