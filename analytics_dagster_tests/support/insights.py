"""A warehouse with the deploys, items and occurrences of a test, as if they had been loaded.

history = LoadedHistory(traveller)
history.errors(since=-30 * HOUR, until=2 * HOUR, every=60)
history.deploy(1, finish=0)
history.load()
assert history.refresh()[1]["verdict"] == "unchanged"

Times are given in seconds from `NOON`. The rows are written by dlt, with the columns of the catalog, so that this holds
on every destination; the clock stands still.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dlt
import pyarrow as pa
import time_machine

from analytics_dagster.catalog import get_resource, table_columns
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.schema import arrow_schema, column_hints
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.warehouse.load_state import open_load_state
from analytics_dagster.ingest.warehouse.pipeline import build_pipeline, run_statement, utc
from analytics_dagster.ingest.warehouse.working_files import working_files
from analytics_dagster.ingest.windows import Window
from analytics_dagster.insights.deploy_impact import Row
from analytics_dagster.insights.refresh import Report, refresh
from analytics_dagster.insights.tables import DEPLOY_IMPACT, DEPLOY_ITEMS, InsightTable
from analytics_dagster.insights.warehouse import open_insights

MINUTE, HOUR, DAY = 60, 3_600, 86_400
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
PROJECT = 1001

EVERYTHING = ((-9 * DAY, 3 * HOUR),)
"""A span that covers each time that most tests use."""


def at(seconds: float) -> datetime:
    """Return a time in seconds from `NOON`."""
    return NOON + timedelta(seconds=seconds)


class LoadedHistory:
    """Rows that a test made, and the loads that brought them.

    Args:
        traveller: The clock, which stands still.
    """

    def __init__(self, traveller: time_machine.Traveller) -> None:
        self._traveller = traveller
        self._rows: dict[str, list[dict[str, Any]]] = {"deploys": [], "items": [], "occurrences": []}
        self._next_id = 1
        self._written = False
        self.report = Report()

    # -- rows ---------------------------------------------------------------------------------------------

    def deploy(self, identifier: int, finish: float | None, *, start: float | None = None, **columns: Any) -> None:
        """Add a deploy, or a new version of one; it takes five minutes unless its start is given."""
        begun = start if start is not None else (finish or 0) - 5 * MINUTE
        self._add(
            "deploys",
            id=identifier,
            start_time=at(begun),
            finish_time=None if finish is None else at(finish),
            **{
                "project_id": PROJECT,
                "environment": "production",
                "revision": f"revision-{identifier}",
                "status": "started" if finish is None else "succeeded",
                **columns,
            },
        )

    def item(self, identifier: int, first_seen: float, **columns: Any) -> None:
        """Add an item, or a new version of one."""
        times = ("last_activated_timestamp", "last_resolved_timestamp")
        columns |= {name: at(columns[name]) for name in times if columns.get(name) is not None}
        self._add(
            "items",
            id=identifier,
            first_occurrence_timestamp=at(first_seen),
            **{
                "counter": identifier,
                "project_id": PROJECT,
                "environment": "production",
                "title": f"Error {identifier}",
                "level": "error",
                "last_activated_timestamp": at(first_seen),
                **columns,
            },
        )

    def errors(self, *, since: float, until: float, every: float, item: int = 0, **columns: Any) -> None:
        """Add occurrences at even distances."""
        moment = float(since)
        while moment < until:
            values = {"project_id": PROJECT, "environment": "production", "item_id": item, **columns}
            self._add("occurrences", id=self._next_id, timestamp=at(moment), **values)
            self._next_id += 1
            moment += every

    def _add(self, table: str, **row: Any) -> None:
        self._rows[table].append(row | {"read_at": datetime.now(UTC), "read_seq": len(self._rows[table])})

    # -- loads --------------------------------------------------------------------------------------------

    def load(
        self, *, covering: Iterable[tuple[float | None, float]] = ((-8 * DAY, 3 * HOUR),), project: Any = PROJECT
    ) -> None:
        """Write the rows that were added, and record that spans of a project's occurrences are loaded."""
        settings, added = load_settings(), self._rows
        self._rows = {name: [] for name in added}
        with working_files() as folder, open_load_state(settings, pipelines_dir=folder) as state:
            resources = [_dlt_resource(name, rows) for name, rows in added.items() if rows or not self._written]
            self._written = True
            if resources:
                build_pipeline(None, settings, name="tests", pipelines_dir=folder).run(resources)
            for start, end in covering:
                window = Window(start=None if start is None else at(start), end=at(end))
                owner = Project(id=project)
                state.coverage.record(get_resource("occurrences"), owner, window, len(added["occurrences"]))

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self._traveller.shift(seconds)

    def refresh(self, *, after: float = 0, recompute: bool = False) -> dict[int, Row]:
        """Refresh the insights some seconds after the last time, and return the rows of `deploy_impact`."""
        self._traveller.shift(after)
        with open_insights(load_settings()) as tables:
            self.report = refresh(tables, now=datetime.now(UTC), recompute=recompute)
        return self.impact()

    def impact(self) -> dict[int, Row]:
        """Return the rows of `deploy_impact`, by the deploy's id."""
        return {row["id"]: row for row in self._read(DEPLOY_IMPACT)}

    def items(self) -> dict[tuple[int, int], Row]:
        """Return the rows of `deploy_items`, by deploy and item."""
        return {(row["deploy_id"], row["item_id"]): row for row in self._read(DEPLOY_ITEMS)}

    def run(self, statement: str) -> Sequence[Any]:
        """Run a statement in the warehouse and return its rows; `{table}` becomes that table's qualified name."""
        with working_files() as folder:
            pipeline = build_pipeline(None, load_settings(), name="tests", pipelines_dir=folder)
            with pipeline.sql_client() as client:
                return run_statement(client, statement)

    def _read(self, table: InsightTable) -> list[Row]:
        names = [column.name for column in table.columns]
        rows = self.run(f"SELECT {', '.join(names)} FROM {{{table.name}}}")
        return [dict(zip(names, map(_plain, row), strict=True)) for row in rows]


def _plain(value: Any) -> Any:
    """Return a value as every warehouse has it: a time in UTC, JSON parsed."""
    if isinstance(value, datetime):
        return utc(value)
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value


def _dlt_resource(name: str, rows: list[dict[str, Any]]) -> Any:
    columns = table_columns(get_resource(name))
    return dlt.resource(
        [pa.Table.from_pylist(rows, arrow_schema(columns))],
        name=name,
        primary_key=["id"],
        write_disposition={"disposition": "merge", "strategy": "delete-insert"},
        file_format="parquet",
        columns=column_hints(columns),
    )
