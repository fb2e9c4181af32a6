"""The SQL of the insights, in the dialects of the warehouses."""

import re
from datetime import UTC, datetime
from importlib.resources import files
from types import SimpleNamespace

import pytest
import sqlglot
from sqlglot import exp

from analytics_dagster.catalog import RESOURCES
from analytics_dagster.ingest.schema import LOADER_TABLES
from analytics_dagster.insights.statements import build_statement, read_text
from analytics_dagster.insights.tables import INSIGHT_TABLES

SQL = files("analytics_dagster.insights") / "sql"
NAMES = sorted(str(path.relative_to(SQL)).removesuffix(".sql") for path in SQL.rglob("*.sql"))
TABLES = {*(row.name for row in RESOURCES), *LOADER_TABLES, *(table.name for table in INSIGHT_TABLES)}


def client(dialect: str, *path: str) -> SimpleNamespace:
    """A client of a warehouse of that dialect, whose tables are under a path."""

    def qualify(table: str, *, quote: bool) -> list[str]:
        assert not quote
        return [*path, table]

    return SimpleNamespace(
        capabilities=SimpleNamespace(sqlglot_dialect=dialect), make_qualified_table_name_path=qualify
    )


def build(name: str, dialect: str, *path: str) -> exp.Expr:
    placeholders = set(re.findall(r":(\w+)", read_text(name)))
    values = {each: 7 if each == "only_project" else datetime(2026, 3, 10, tzinfo=UTC) for each in placeholders}
    return sqlglot.parse_one(build_statement(name, client(dialect, *path), **values), read=dialect)


@pytest.mark.parametrize("dialect", ["duckdb", "postgres", "snowflake"])
@pytest.mark.parametrize("name", NAMES)
def test_every_statement_is_of_the_dialect_with_qualified_tables_and_without_placeholders(name: str, dialect: str):
    tree = build(name, dialect, "warehouse", "analytics")
    own = {cte.alias.lower() for cte in tree.find_all(exp.CTE)}
    others = [table for table in tree.find_all(exp.Table) if table.name.lower() not in own]
    assert {table.name for table in others} <= TABLES
    assert {(table.catalog, table.db) for table in others} == {("warehouse", "analytics")}
    assert not list(tree.find_all(exp.Placeholder, exp.Parameter))


def test_a_warehouse_without_databases_has_schema_and_table():
    assert {table.sql() for table in build("deploys", "postgres", "analytics").find_all(exp.Table)} == {
        '"analytics"."deploys" AS deploys'
    }


def test_a_null_and_a_time_are_filled_in():
    since = datetime(2026, 3, 10, 12, tzinfo=UTC)
    statement = build_statement("ten_minute_counts", client("postgres", "a"), since=since, only_project=None)
    assert "COALESCE(project_id, NULL)" in statement
    assert "2026-03-10 12:00:00+00:00" in statement
