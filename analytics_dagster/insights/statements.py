"""SQL of the insights: the files in `sql/`, written for DuckDB, in the dialect of the warehouse.

    statement = build_statement("deploys", client)
    rows = client.execute_sql(statement)

A file names tables without a schema, so that it also runs as it stands after `USE analytics`, and values as `:name`.
sqlglot, which dlt brings, qualifies the tables, fills in the values and transpiles.
https://github.com/tobymao/sqlglot
"""

from datetime import datetime
from functools import cache
from importlib.resources import files

import sqlglot
from sqlglot import exp

from analytics_dagster.ingest.warehouse.pipeline import SqlClient

Value = datetime | int | None
"""A value for a placeholder: a time in UTC, an integer or null. Texts of rows and settings never are."""


def build_statement(name: str, client: SqlClient, **values: Value) -> str:
    """Return the statement of a file for a warehouse.

    Args:
        name: Path of the file below `sql/`, without its suffix.
        client: An SQL client of the warehouse.
        values: Values for the placeholders of the file.
    """
    # It would leave the placeholder of a null in place.
    tree = exp.replace_placeholders(_parse(name), **{key: exp.convert(value) for key, value in values.items()})
    own_names = {cte.alias for cte in tree.find_all(exp.CTE)}
    for table in tree.find_all(exp.Table):
        if table.name in own_names:
            continue
        parts = client.make_qualified_table_name_path(table.name, quote=False)
        name, schema, database = [*reversed(parts), "", ""][:3]
        table.replace(exp.table_(name, schema, database, quoted=True, alias=table.alias_or_name))
    return tree.sql(dialect=client.capabilities.sqlglot_dialect, comments=False)


def read_text(name: str) -> str:
    """Return the text of a file below `sql/`, named without its suffix."""
    return files(__package__).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


@cache
def _parse(name: str) -> exp.Expr:
    return sqlglot.parse_one(read_text(name), read="duckdb")
