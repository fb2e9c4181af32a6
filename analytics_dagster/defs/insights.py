"""The insights: assets on top of the ten, computed from their tables, and the check `deploy_regression`.

One op computes both tables, because they are compared with what is stored in one look at the warehouse. It reports an
asset only where its table changed, and the picture of `deploy_impact` once an hour besides: each event keeps its
picture in Dagster's storage.

Declarative automation requests the op after loads of the tables that it reads, once none is under way.
https://docs.dagster.io/guides/automate/declarative-automation
"""

import time
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from analytics_dagster.catalog import get_resource
from analytics_dagster.defs.instance import POOL
from analytics_dagster.defs.metadata import build_table_schema
from analytics_dagster.defs.pause import pause_sensor
from analytics_dagster.defs.resources import WarehouseResource
from analytics_dagster.defs.translator import OWNERS, asset_key
from analytics_dagster.ingest.errors import AnalyticsError
from analytics_dagster.ingest.settings import Settings, load_settings
from analytics_dagster.ingest.warehouse.location import DATASET, destination_kind, warehouse_location
from analytics_dagster.insights.deploy_impact import Row
from analytics_dagster.insights.extra import describe_missing_packages
from analytics_dagster.insights.overview import Overview, draw_overview, read_overview
from analytics_dagster.insights.refresh import Refreshed, Report, refresh
from analytics_dagster.insights.tables import DEPLOY_IMPACT, INSIGHT_TABLES, InsightTable
from analytics_dagster.insights.warehouse import SOURCES, InsightTables
from analytics_dagster.insights.wording import describe_deploy, format_table

GROUP = "insights"

DEPLOY_REGRESSION = "deploy_regression"
"""Name of the check."""

_DAY = timedelta(days=1)
"""Time after its finish for which a deploy that is worse fails the check."""

_PICTURE_EVERY = timedelta(hours=1)
"""Time after which a new picture is worth an event, although no verdict changed."""

_ITEMS_NAMED = 3


class InsightsConfig(dg.Config):
    """Run config of the insights. By default a run computes the rows whose inputs changed."""

    recompute: bool = Field(default=False, description="Compute every row again.")


def insight_key(table: InsightTable) -> dg.AssetKey:
    """Return the key of a table's asset, which has the same path as the table."""
    return dg.AssetKey([DATASET, table.name])


def build_insights(settings: Settings, *, automate: bool = True) -> list[dg.AssetsDefinition]:
    """Define the assets of the insights, unless a resource that they need is disabled.

    Args:
        settings: The settings.
        automate: Whether they have a condition under which a sensor requests them. Dagster adds a sensor of its own for
            conditions that none of the project's evaluates, so there must be none while `insights_sensor` is paused.
    """
    if settings.disabled.intersection(SOURCES):
        return []
    missing = describe_missing_packages()
    condition = _after_loads() if automate and not missing else None

    @dg.multi_asset(
        name=GROUP,
        specs=[_build_spec(table, settings, missing, condition) for table in INSIGHT_TABLES],
        check_specs=[
            dg.AssetCheckSpec(
                DEPLOY_REGRESSION,
                asset=insight_key(DEPLOY_IMPACT),
                description="No deploy of the last 24 hours is worse: errors did not rise after it.",
            )
        ],
        can_subset=True,
        pool=POOL,
    )
    def insights(
        context: dg.AssetExecutionContext, warehouse: WarehouseResource, config: InsightsConfig
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        selected = [table for table in INSIGHT_TABLES if insight_key(table) in context.selected_asset_keys]
        if selected and missing:
            raise dg.Failure(missing, allow_retries=False)
        try:
            yield from _run(context, warehouse, selected, recompute=config.recompute)
        except AnalyticsError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    return [insights]


def build_insights_sensors(settings: Settings, problem: str = "") -> list[dg.SensorDefinition]:
    """Define the sensor that evaluates the automation conditions of the insights, unless there are none.

    Args:
        settings: The settings.
        problem: The sentence about a wrong setting, for which the sensor is paused.
    """
    if settings.disabled.intersection(SOURCES) or describe_missing_packages():
        return []
    sensor = dg.AutomationConditionSensorDefinition(
        "insights_sensor",
        target=dg.AssetSelection.groups(GROUP),
        description=f"Computes the insights after loads of {', '.join(SOURCES)}.",
        default_status=dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED,
    )
    return [pause_sensor(sensor, problem) if problem else sensor]


def _after_loads() -> dg.AutomationCondition[dg.AssetKey]:
    """Return the condition that a load has ended since the last request, and none is under way.

    `eager` alone would wait until no partition of the loaded assets is missing.
    """
    return dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_missing())


def _build_spec(
    table: InsightTable, settings: Settings, missing: str | None, condition: dg.AutomationCondition[dg.AssetKey] | None
) -> dg.AssetSpec:
    return dg.AssetSpec(
        insight_key(table),
        deps=[asset_key(get_resource(name)) for name in SOURCES],
        description=f"{missing or ''} {table.description}".lstrip(),
        group_name=GROUP,
        kinds={"sql", destination_kind(settings)},
        owners=OWNERS,
        skippable=True,
        automation_condition=condition,
        metadata={
            "dagster/column_schema": build_table_schema(table.columns, table.primary_key),
            "primary_key": ", ".join(table.primary_key),
        },
    )


def _run(
    context: dg.AssetExecutionContext,
    warehouse: WarehouseResource,
    selected: Sequence[InsightTable],
    *,
    recompute: bool,
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Refresh the tables if assets are selected, evaluate the check if it is, and yield what is to be recorded."""
    settings, now, began = load_settings(), datetime.now(UTC), time.monotonic()
    report = Report()
    overview: Overview | None = None
    due: list[InsightTable] = []
    with warehouse.insights(settings, read_only=not selected) as tables:
        if selected:
            report = refresh(tables, now=now, recompute=recompute)
        if not report.missing:
            due = [table for table in selected if recompute or _is_due(context.instance, table, report, now)]
        if DEPLOY_IMPACT in due:
            overview = read_overview(tables, now=now)
        regression = _evaluate_regression(tables, now)
    if report.missing:
        context.log.info("Not loaded yet: %s. There is nothing to compute.", ", ".join(report.missing))
    for table in due:
        metadata = _build_metadata(table, settings, _result(table, report), seconds=time.monotonic() - began)
        if table is DEPLOY_IMPACT and overview:
            metadata |= _build_overview_metadata(overview)
        yield dg.MaterializeResult(asset_key=insight_key(table), metadata=metadata)
    if context.selected_asset_check_keys:
        yield regression


def _result(table: InsightTable, report: Report) -> Refreshed:
    return report.impact if table is DEPLOY_IMPACT else report.items


def _is_due(instance: dg.DagsterInstance, table: InsightTable, report: Report, now: datetime) -> bool:
    """Return whether a table is to be reported: it changed, was never reported, or its picture is old."""
    event = instance.get_latest_materialization_event(insight_key(table))
    old = table is DEPLOY_IMPACT and event and now - datetime.fromtimestamp(event.timestamp, UTC) >= _PICTURE_EVERY
    return bool(_result(table, report).changed or event is None or old)


def _build_metadata(table: InsightTable, settings: Settings, result: Refreshed, *, seconds: float) -> dict[str, Any]:
    location = warehouse_location(settings)
    return {
        "dagster/row_count": result.rows,
        "dagster/table_name": location.qualified(table.name),
        "dagster/storage_kind": location.kind,
        "rows_computed": result.computed,
        "rows_changed": result.changed,
        "seconds": round(seconds, 3),
        "source": settings.source_address,
    }


def _build_overview_metadata(overview: Overview) -> dict[str, Any]:
    if not overview.latest:
        return {}
    image = b64encode(draw_overview(overview)).decode()
    picture = f"![Occurrences per ten minutes, and deploys](data:image/png;base64,{image})"
    table = format_table(overview.latest, overview.items)
    return {"overview": dg.MetadataValue.md(f"{picture}\n\n{table}")}


def _evaluate_regression(tables: InsightTables, now: datetime) -> dg.AssetCheckResult:
    """Fail while a deploy of the last 24 hours is worse."""
    worse = tables.worse_since(now - _DAY)
    items = tables.busiest_items([row["id"] for row in worse], each=_ITEMS_NAMED)
    sentences = [describe_deploy(row, items[row["id"]]) for row in worse]
    return dg.AssetCheckResult(
        asset_key=insight_key(DEPLOY_IMPACT),
        check_name=DEPLOY_REGRESSION,
        passed=not worse,
        severity=dg.AssetCheckSeverity.WARN,
        description=" ".join(sentences) or "No deploy of the last 24 hours is worse.",
        metadata={"deploys_worse": len(worse), **_build_worst_metadata(worse)},
    )


def _build_worst_metadata(worse: Sequence[Row]) -> dict[str, Any]:
    return {"revisions": [row["revision"] for row in worse]} if worse else {}
