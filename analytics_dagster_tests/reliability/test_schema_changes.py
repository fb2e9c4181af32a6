"""Tables that differ from the catalog: they are adapted without losing a row, or a sentence says what to run."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dlt
import pytest
from dlt.sources.rest_api import rest_api_source

from analytics_dagster.catalog import Column, ColumnType, Resource, get_resource, table_columns
from analytics_dagster.ingest.errors import WarehouseError
from analytics_dagster.ingest.load import load_resource
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.rest_config import rest_api_config
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.source import Reading, build_source
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, checked, failure, load, run_checks
from analytics_dagster_tests.support.service import truth

DEPLOYS = get_resource("deploys")
NOW = datetime.now(UTC)


def change(project: Project, *statements: str) -> None:
    """Run statements on the warehouse, as a person does."""
    for statement in statements:
        project.execute(statement)


def advised(error: object) -> str:
    """Return the statements that a message advises to run."""
    return " ".join(re.findall(r"ALTER TABLE .*?;", str(error)))


def with_column(resource: Resource, column: Column) -> Resource:
    """Return a resource with a column added, or with another one of the same name."""
    others = [other for other in resource.columns if other.name != column.name]
    return replace(resource, columns=(*others, column))


def load_changed(resource: Resource) -> None:
    load_resource(resource, load_settings())


def columns_of(project: Project, table: str) -> dict[str, tuple[str, str]]:
    """Return the type of each column of a table, and whether it takes null."""
    rows = project.sql(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
        f"WHERE table_schema = 'analytics' AND table_name = '{table}'"
    )
    return {name: (kind.upper(), nullable) for name, kind, nullable in rows}


@pytest.fixture
def loaded(project: Project, service: Sandbox) -> Project:
    """A project with deploys, environments and teams."""
    project.use(service)
    for name in ("deploys", "environments", "teams"):
        load(name)
    return project


# -- the catalog changes ------------------------------------------------------------------------------------------


@pytest.mark.every_warehouse
def test_a_column_for_an_unknown_field_is_added_as_the_check_advises(loaded: Project, service: Sandbox) -> None:
    old = loaded.rows("deploys", "id", "revision")
    newest = service.add_deploy()
    service.update("deploys", newest["id"], stage="canary")
    load("deploys")
    assert "Add columns for them" in checked(loaded)["deploys", "unknown_fields"].description

    load_changed(with_column(DEPLOYS, Column(name="stage", type=ColumnType.TEXT, description="The stage.")))

    assert loaded.rows("deploys", "stage") == [("canary",), *[(None,)] * len(old)]
    assert set(loaded.rows("deploys", "id", "revision")) >= set(old)


@pytest.mark.every_warehouse
def test_a_type_that_the_catalog_changed_fails_the_load_with_the_statement_that_mends_it(
    loaded: Project, service: Sandbox
) -> None:
    changed = with_column(
        DEPLOYS, Column(name="user_id", type=ColumnType.TEXT, nullable=True, description="The user, as text.")
    )
    before = loaded.rows("deploys")
    for deploy in service.rows("deploys"):
        service.update("deploys", deploy["id"], user_id="u-1")

    with pytest.raises(WarehouseError) as raised:
        load_changed(changed)
    assert "analytics.deploys does not have the types of the catalog: user_id is bigint instead of text." in str(
        raised.value
    )
    assert loaded.rows("deploys") == before

    change(loaded, advised(raised.value))
    assert loaded.rows("deploys", "id") == [(row_id,) for row_id in sorted(truth(service, "deploys"))]
    load_changed(changed)
    assert set(loaded.rows("deploys", "user_id")) == {("u-1",)}


@pytest.mark.every_warehouse
@pytest.mark.parametrize(
    ("table", "column", "kind", "value", "said"),
    [
        ("deploys", "start_time", "BIGINT", "extract(epoch FROM start_time)", "bigint instead of timestamp"),
        ("deploys", "user_id", "VARCHAR", "user_id", "text instead of bigint"),
        ("deploys", "id", "INTEGER", "id", "a shorter integer instead of bigint"),
        ("deploys", "id", "TIMESTAMP WITH TIME ZONE", "to_timestamp(id)", "timestamp instead of bigint"),
        ("deploys", "id", "DOUBLE PRECISION", "id", "double instead of bigint"),
        ("deploys", "user_id", "BOOLEAN", "user_id <> 0", "bool instead of bigint"),
        ("deploys", "extra", "VARCHAR", "extra", "text instead of json"),
        ("deploys", "revision", "JSON", "to_json(revision)", "json instead of text"),
        ("environments", "visible", "BIGINT", "CAST(visible AS INTEGER)", "bigint instead of bool"),
    ],
)
def test_each_type_that_differs_has_a_statement_that_keeps_the_rows(
    table: str, column: str, kind: str, value: str, said: str, loaded: Project
) -> None:
    before = loaded.rows(table)
    change(loaded, f"ALTER TABLE analytics.{table} ALTER COLUMN {column} TYPE {kind} USING CAST({value} AS {kind})")

    sentence = failure(
        loaded.materialize(table) if table == "environments" else loaded.materialize(table, full_refresh=True)
    )
    assert f"{column} is {said}" in sentence

    change(loaded, advised(sentence))
    converted = loaded.rows(table)
    assert len(converted) == len(before)
    load(table)
    assert loaded.rows(table) == before


@pytest.mark.every_warehouse
def test_one_table_of_other_types_holds_back_no_other(loaded: Project, service: Sandbox) -> None:
    change(loaded, "ALTER TABLE analytics.environments ALTER COLUMN visible TYPE BIGINT USING CAST(visible AS INTEGER)")
    team = service.rows("teams")[0]
    service.update("teams", team["id"], name="renamed")

    sentence = failure(loaded.materialize("environments", "teams"))
    assert sentence.startswith("1 of 2 did not load: The table analytics.environments")
    assert ("renamed",) in loaded.rows("teams", "name")


@pytest.mark.every_warehouse
def test_the_checks_of_times_of_another_type_fail_with_a_sentence(loaded: Project) -> None:
    change(
        loaded,
        "ALTER TABLE analytics.deploys ALTER COLUMN start_time TYPE BIGINT "
        "USING CAST(extract(epoch FROM start_time) AS BIGINT)",
    )
    sentence = failure(run_checks(loaded))
    assert sentence.startswith("The column start_time of analytics.deploys does not have the type of the catalog. Load")

    with pytest.raises(WarehouseError) as raised:
        load("deploys")
    change(loaded, advised(raised.value))
    assert run_checks(loaded).success


@pytest.mark.every_warehouse
def test_a_column_that_became_nullable_takes_nulls(loaded: Project, service: Sandbox) -> None:
    change(loaded, "ALTER TABLE analytics.deploys ALTER COLUMN revision SET NOT NULL")
    before = loaded.rows("deploys")
    newest = service.add_deploy()
    service.update("deploys", newest["id"], revision=None)

    load_changed(
        with_column(DEPLOYS, Column(name="revision", type=ColumnType.TEXT, nullable=True, description="The revision."))
    )
    assert (newest["id"], None) in loaded.rows("deploys", "id", "revision")
    assert set(loaded.rows("deploys")) > set(before)


@pytest.mark.every_warehouse
def test_a_column_that_left_the_catalog_holds_back_no_row(loaded: Project, service: Sandbox) -> None:
    change(
        loaded,
        "ALTER TABLE analytics.deploys ADD COLUMN retired VARCHAR DEFAULT 'old'",
        "ALTER TABLE analytics.deploys ALTER COLUMN retired DROP DEFAULT",
        "ALTER TABLE analytics.deploys ALTER COLUMN retired SET NOT NULL",
    )
    newest = service.add_deploy()

    load("deploys")
    assert (newest["id"], None) in loaded.rows("deploys", "id", "retired")


def test_a_constraint_that_the_warehouse_does_not_drop_fails_the_load_with_a_sentence(loaded: Project) -> None:
    change(
        loaded,
        "ALTER TABLE analytics.deploys ALTER COLUMN comment SET DEFAULT ''",
        "UPDATE analytics.deploys SET comment = '' WHERE comment IS NULL",
        "ALTER TABLE analytics.deploys ALTER COLUMN comment SET NOT NULL",
        "CREATE INDEX by_comment ON analytics.deploys (comment)",
    )
    before = loaded.rows("deploys")

    with pytest.raises(WarehouseError, match=r"The column comment of analytics\.deploys takes no null, .*Drop the ind"):
        load("deploys")
    assert loaded.rows("deploys") == before


# -- tables that others made -----------------------------------------------------------------------------------------


@pytest.mark.every_warehouse
def test_no_column_of_a_new_table_has_a_constraint(loaded: Project) -> None:
    tables = "FROM information_schema.{} WHERE table_schema = 'analytics' AND table_name NOT LIKE '!_dlt%' ESCAPE '!'"
    assert loaded.sql(f"SELECT * {tables.format('table_constraints')}") == []
    assert loaded.sql(f"SELECT * {tables.format('columns')} AND is_nullable = 'NO'") == []
    names = {name for (name,) in loaded.sql(f"SELECT table_name {tables.format('tables')}")}
    assert names > {"deploys", "load_windows"}


@pytest.mark.every_warehouse
def test_the_tables_of_an_earlier_version_are_continued(loaded: Project, service: Sandbox) -> None:
    """An earlier version made the columns that are never null NOT NULL, those of the loader's own tables too."""
    for name in ("deploys", "teams"):
        required = [column.name for column in table_columns(get_resource(name)) if not column.stored_nullable]
        change(loaded, *(f"ALTER TABLE analytics.{name} ALTER COLUMN {column} SET NOT NULL" for column in required))
    change(
        loaded,
        "ALTER TABLE analytics.load_windows ALTER COLUMN source SET NOT NULL",
        "ALTER TABLE analytics.load_windows DROP COLUMN list_end",
        "DELETE FROM analytics.daily_rows WHERE project_id IS NULL",
        "ALTER TABLE analytics.daily_rows ALTER COLUMN project_id SET NOT NULL",
    )
    before = loaded.rows("deploys")
    service.add_deploy()

    load("deploys")
    load("teams")
    assert set(loaded.rows("deploys")) > set(before)
    assert columns_of(loaded, "load_windows")["list_end"] == ("TIMESTAMP WITH TIME ZONE", "YES")
    assert columns_of(loaded, "daily_rows")["project_id"] == ("BIGINT", "YES")


@pytest.mark.every_warehouse
def test_a_table_of_the_loader_with_another_type_fails_the_load_with_the_statement_that_mends_it(
    loaded: Project,
) -> None:
    change(loaded, "ALTER TABLE analytics.load_windows ALTER COLUMN rows_loaded TYPE VARCHAR")
    before = loaded.rows("load_windows")

    with pytest.raises(
        WarehouseError, match=r"analytics\.load_windows .* rows_loaded is text instead of bigint"
    ) as raised:
        load("deploys")
    assert loaded.rows("load_windows") == before
    change(loaded, advised(raised.value))
    load("deploys")
    assert len(loaded.rows("load_windows")) == len(before) + 1


def stock_destination(project: Project) -> Any:
    """Return dlt's own destination for the project's warehouse."""
    if project.postgres:
        return dlt.destinations.postgres(project.postgres.url)
    return dlt.destinations.duckdb(str(project.warehouse))


def load_with_stock_dlt(project: Project, names: Sequence[str]) -> None:
    """Load resources into the warehouse with dlt's own REST API source and destination."""
    source: Any = rest_api_source(rest_api_config(load_settings(), [get_resource(name) for name in names]))
    dlt.pipeline(
        "stock",
        destination=stock_destination(project),
        dataset_name="analytics",
        pipelines_dir=str(project.folder / "stock"),
    ).run(source)


@pytest.mark.every_warehouse
def test_a_table_of_dlts_stock_destination_is_continued(project: Project, service: Sandbox) -> None:
    project.use(service)
    load_with_stock_dlt(project, ["teams"])
    before = project.rows("teams", "id", "name")
    service.update("teams", service.rows("teams")[0]["id"], name="renamed")

    load("teams")
    assert len(project.rows("teams")) == len(before)
    assert ("renamed",) in project.rows("teams", "name")
    assert "_dlt_id" in columns_of(project, "teams")


@pytest.mark.every_warehouse
def test_a_table_of_dlts_stock_destination_with_other_types_is_continued_after_the_statements(
    project: Project, service: Sandbox
) -> None:
    project.use(service)
    load_with_stock_dlt(project, ["deploys", "environments"])
    before = project.rows("deploys", "id", "revision")
    service.add_deploy()

    for name in ("deploys", "environments"):
        with pytest.raises(WarehouseError, match="does not have the types of the catalog") as raised:
            load(name)
        change(project, advised(raised.value))
        load(name)
    assert {row_id for (row_id,) in project.rows("deploys", "id")} == truth(service, "deploys")
    assert set(project.rows("deploys", "id", "revision")) > set(before)
    assert [key for key, check in checked(project).items() if key[0] == "deploys" and check.level == "ERROR"] == []


@pytest.mark.every_warehouse
def test_a_table_that_the_projects_source_loaded_by_dlts_stock_destination_is_continued(
    project: Project, service: Sandbox
) -> None:
    project.use(service)
    settings = load_settings()
    dlt.pipeline(
        "stock",
        destination=stock_destination(project),
        dataset_name="analytics",
        pipelines_dir=str(project.folder / "stock"),
    ).run(build_source([Reading(request=ReadRequest(resource=DEPLOYS, settings=settings, window=None, now=NOW))]))
    service.add_deploy()

    load("deploys")
    assert {row_id for (row_id,) in project.rows("deploys", "id")} == truth(service, "deploys")
