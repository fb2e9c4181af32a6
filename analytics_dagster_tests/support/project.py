"""A project folder as a user has it: its settings, its warehouse, its Dagster instance; loads and checks in it.

with a_service() as service, a_project(tmp_path) as project:
    project.use(service)
    assert project.materialize("deploys", partition=daily_partition()).success
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dlt.common.runtime.run_context import active, switch_context

from analytics_dagster.catalog import get_resource
from analytics_dagster.definitions import build_definitions, definition_settings
from analytics_dagster.defs.jobs import DATA_CHECKS
from analytics_dagster.ingest.load import LoadReport, load_resource
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.postgres_server import PostgresDatabase

CONFIG = '[runtime]\ndlthub_telemetry = false\nlog_level = "ERROR"\n'


@dataclass
class Project:
    """A folder with a configuration, as a user has it, and Dagster's instance for it."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    instance: dg.DagsterInstance
    database: PostgresDatabase | None = None

    def set(self, **settings: Any) -> None:
        """Set settings as environment variables; `paths__items` for a setting of a resource."""
        for name, value in settings.items():
            self.monkeypatch.setenv(f"SOURCES__ANALYTICS__{name.upper()}", str(value))

    def use(self, service: Sandbox, **settings: Any) -> None:
        """Point the project at a service, as at a real account."""
        self.set(base_url=service.url, api_key=PROJECT_KEY, account_api_key=ACCOUNT_KEY, **settings)

    def use_postgres(self, database: PostgresDatabase) -> None:
        """Load into a PostgreSQL database; the sandbox's rows go to a DuckDB file all the same."""
        self.database = database
        self.monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", "postgres")
        self.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", database.url)

    @property
    def postgres(self) -> PostgresDatabase | None:
        """The database that has the tables; None if a DuckDB file has them."""
        return None if load_settings().sandbox else self.database

    @property
    def warehouse(self) -> Path:
        """The DuckDB file."""
        assert not self.postgres
        return self.folder / ("sandbox.duckdb" if load_settings().sandbox else "warehouse.duckdb")

    def materialize(
        self,
        *names: str,
        partition: str | None = None,
        span: tuple[str, str] | None = None,
        executes_again: str | None = None,
        **config: bool,
    ) -> dg.ExecuteInProcessResult:
        """Materialise assets by name, for a partition or a span of them, with run config for incremental ones.

        Args:
            names: Names of the assets.
            partition: Key of the partition.
            span: Keys of the first and the last partition.
            executes_again: The run that this one executes again.
            config: Run config.
        """
        definitions = build_definitions(definition_settings())
        first, last = span or (None, None)
        tags = {
            "dagster/asset_partition_range_start": first,
            "dagster/asset_partition_range_end": last,
            "dagster/root_run_id": executes_again,
        }
        return dg.materialize(
            list(definitions.assets or []),
            selection=[dg.AssetKey(["analytics", name]) for name in names],
            partition_key=partition,
            tags={name: value for name, value in tags.items() if value},
            run_config={"ops": {"incremental": {"config": config}}} if config else None,
            resources=definitions.resources,
            instance=self.instance,
            raise_on_error=False,
        )

    def sql(self, query: str) -> list[Any]:
        """Run a query on the warehouse and return its rows: times in UTC, JSON as text."""
        if self.postgres:
            return self.postgres.run(query)
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(query).fetchall()

    def execute(self, statement: str) -> None:
        """Run a statement that changes the warehouse, as a session outside the project does."""
        if self.postgres:
            self.postgres.run(statement)
            return
        with duckdb.connect(str(self.warehouse)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(statement)

    def qualified(self, table: str) -> str:
        """Return `database.schema.table`."""
        return f"{self.postgres.name if self.postgres else self.warehouse.stem}.analytics.{table}"

    def copy_warehouse(self, other: "Project") -> None:
        """Take over all tables of another project."""
        if self.postgres:
            assert other.database
            self.postgres.copy_from(other.database)
        else:
            shutil.copy(other.folder / self.warehouse.name, self.warehouse)

    def clear(self) -> None:
        """Remove all tables of the warehouse."""
        if self.postgres:
            self.execute("DROP SCHEMA analytics CASCADE")
        else:
            self.warehouse.unlink()

    def rows(self, table: str, *columns: str) -> list[Any]:
        """Return a table's rows, sorted, without the columns that differ between loads."""
        names = columns or [name for name in self.columns(table) if name not in {"read_at", "read_seq", "load_id"}]
        places = ", ".join(str(place + 1) for place in range(len(names)))
        return self.sql(f"SELECT {', '.join(names)} FROM analytics.{table} ORDER BY {places}")

    def columns(self, table: str) -> list[str]:
        """Return the names of a table's columns, in order; none if there is no such table."""
        found = self.sql(
            "SELECT column_name FROM information_schema.columns "
            f"WHERE table_schema = 'analytics' AND table_name = '{table}' ORDER BY ordinal_position"
        )
        return [name for (name,) in found]


@contextmanager
def a_project(folder: Path) -> Iterator[Project]:
    """Make an empty project in a folder, which is the working directory meanwhile."""
    (folder / ".dlt").mkdir()
    (folder / ".dlt" / "config.toml").write_text(CONFIG)
    before = active().run_dir
    with pytest.MonkeyPatch.context() as monkeypatch, dg.DagsterInstance.ephemeral() as instance:
        for name in list(os.environ):
            if name.startswith(("SOURCES__", "DESTINATION__", "API_KEY", "DAGSTER_HOME")):
                monkeypatch.delenv(name)
        monkeypatch.chdir(folder)
        switch_context(str(folder))
        yield Project(folder, monkeypatch, instance)
    switch_context(before)


def daily_partition(days_ago: int = 0) -> str:
    """Return the key of today's daily partition, or of that some days ago."""
    return (datetime.now(UTC) - timedelta(days=days_ago)).strftime("%Y-%m-%d")


def load(name: str, window: Window | None = None, *, resume: bool = False) -> LoadReport:
    """Load a resource as the assets do, without Dagster, with the settings of the working directory."""
    return load_resource(get_resource(name), load_settings(), window, resume=resume)


def materializations(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Return the metadata of each asset's materialisation, by the asset's name."""
    return {
        event.asset_key.path[-1]: {name: value.value for name, value in event.materialization.metadata.items()}
        for event in result.get_asset_materialization_events()
    }


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Return the sentence with which a run failed."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data, event.step_failure_data.error
    return data.description or ""


@dataclass(frozen=True)
class Checked:
    """The result of a check.

    Attributes:
        level: PASS, or the severity of a check that failed: WARN or ERROR.
        description: The sentence shown in the UI.
        metadata: Values of the metadata, by name.
    """

    level: str
    description: str
    metadata: dict[str, Any]


def checked(project: Project, selection: dg.AssetSelection | None = None) -> dict[tuple[str, str], Checked]:
    """Run the checks and return their results, by asset and check."""
    result = run_checks(project, selection)
    assert result.success
    return {
        (evaluation.asset_key.path[-1], evaluation.check_name): Checked(
            level="PASS" if evaluation.passed else evaluation.severity.value,
            description=evaluation.description or "",
            metadata={name: value.value for name, value in evaluation.metadata.items()},
        )
        for evaluation in result.get_asset_check_evaluations()
    }


def run_checks(project: Project, selection: dg.AssetSelection | None = None) -> dg.ExecuteInProcessResult:
    """Run the job of the checks, or a selection of them."""
    definitions = build_definitions(definition_settings())
    if selection is None:
        job = definitions.resolve_job_def(DATA_CHECKS)
        return job.execute_in_process(instance=project.instance, raise_on_error=False)
    return dg.materialize(
        [*(definitions.assets or []), *(definitions.asset_checks or [])],
        selection=selection,
        resources=definitions.resources,
        instance=project.instance,
        raise_on_error=False,
    )
