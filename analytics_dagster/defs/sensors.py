"""Sensors: what happens after something else did. They read Dagster's event log alone, never the warehouse.

The daemon evaluates them beside running loads: opening DuckDB from there would block a load, or wait for one.
"""

from collections.abc import Sequence

import dagster as dg

from analytics_dagster.catalog import Resource, get_resource
from analytics_dagster.defs.alerts import build_failure_sensor
from analytics_dagster.defs.jobs import METRICS_REFRESH
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.defs.watermark import Watermark, compare_watermarks
from analytics_dagster.ingest.settings import Settings


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Define the sensors whose assets are enabled, and the one for failures if there is where to send them."""
    status = dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED
    waiting: dict[str, list[Resource]] = {}
    for row in settings.enabled_resources("metrics"):
        if row.refresh_after and row.refresh_after not in settings.disabled:
            waiting.setdefault(row.refresh_after, []).append(row)
    sensors = [_news_sensor(get_resource(name), rows, status) for name, rows in waiting.items()]
    return [*sensors, build_failure_sensor(settings, status)] if settings.failure_webhook else sensors


def _news_sensor(
    announcer: Resource, waiting: Sequence[Resource], status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Define the sensor that has the resources loaded that wait for an announcer's new rows."""
    name, key = announcer.name, asset_key(announcer)

    @dg.sensor(
        name=f"new_{name}_sensor",
        description=f"Has {', '.join(row.name for row in waiting)} read again once {name} are new or have settled.",
        job_name=METRICS_REFRESH,
        default_status=status,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        event = context.instance.get_latest_materialization_event(key)
        materialization = event.asset_materialization if event else None
        if materialization is None:
            return dg.SkipReason(f"No load of {name} has been recorded yet.")
        metadata = {entry: value.value for entry, value in materialization.metadata.items()}
        now = Watermark.of_metadata(metadata)
        if now is None:
            return dg.SkipReason(f"The newest event of {name} says nothing of its rows: no load made it.")
        acted_on = Watermark.of_cursor(context.cursor)
        found = compare_watermarks(now, acted_on)
        if found is None:
            reason = f"As at the last run: {now}." if now.rows else "Its table is empty."
            return dg.SensorResult(skip_reason=f"No news of {name}. {reason}", cursor=now.cursor)
        shown = announcer.watermark.labels if announcer.watermark else ()
        request = dg.RunRequest(
            run_key=found.key,
            asset_selection=[asset_key(row) for row in waiting],
            tags={
                f"{name}/new": str(found.rows),
                f"{name}/settled": str(found.settled),
                f"{name}/{announcer.primary_key[0]}": str(now.newest),
                **{f"{name}/{column}": metadata[f"newest_{column}"] for column in shown},
            },
        )
        return dg.SensorResult(run_requests=[request], cursor=now.cursor)

    return sensor
