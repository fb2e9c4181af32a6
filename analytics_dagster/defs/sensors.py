"""Sensors that request runs after loads of other assets, from Dagster's event log alone.

The daemon evaluates sensors while loads run, so they must not open DuckDB: they would block a load, or wait for one.
`watermark.py` decides whether a table has new rows. The sensor that posts alerts is in `alerts`.
https://docs.dagster.io/guides/automate/sensors
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from analytics_dagster.catalog import Resource, get_resource
from analytics_dagster.defs.alerts.sensor import build_alerts_sensor
from analytics_dagster.defs.jobs import METRICS_REFRESH
from analytics_dagster.defs.pause import pause_sensor
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.defs.watermark import Watermark, WatermarkChange, compare_watermarks
from analytics_dagster.ingest.settings import Settings


def build_sensors(settings: Settings, problem: str = "") -> list[dg.SensorDefinition]:
    """Define the sensors whose assets are enabled, and the one for alerts if `failure_webhook` is set.

    Args:
        settings: The valid settings.
        problem: The sentence about a wrong setting: then only alerts go on, and announce it.
    """
    status = dg.DefaultSensorStatus.RUNNING if settings.automation else dg.DefaultSensorStatus.STOPPED
    waiting: dict[str, list[Resource]] = {}
    for resource in settings.enabled_resources("metrics"):
        if resource.refresh_after and resource.refresh_after not in settings.disabled:
            waiting.setdefault(resource.refresh_after, []).append(resource)
    sensors = [_build_sensor(get_resource(name), to_load, status) for name, to_load in waiting.items()]
    if problem:
        sensors = [pause_sensor(sensor, problem) for sensor in sensors]
    return [*sensors, build_alerts_sensor(settings, status, problem)] if settings.failure_webhook else sensors


def _build_sensor(
    upstream: Resource, to_load: Sequence[Resource], status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Define the sensor that loads resources after the watermark of an upstream resource changed."""
    name, key = upstream.name, asset_key(upstream)

    @dg.sensor(
        name=f"new_{name}_sensor",
        description=f"Loads {', '.join(resource.name for resource in to_load)} after {name} are new or have settled.",
        job_name=METRICS_REFRESH,
        default_status=status,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        event = context.instance.get_latest_materialization_event(key)
        materialization = event.asset_materialization if event else None
        if materialization is None:
            return dg.SkipReason(f"No load of {name} has been recorded yet.")
        metadata = {entry: value.value for entry, value in materialization.metadata.items()}
        latest = Watermark.from_metadata(metadata)
        if latest is None:
            return dg.SkipReason(f"The latest materialization of {name} has no watermark: no load recorded it.")
        change = compare_watermarks(latest, acted_on=Watermark.from_cursor(context.cursor))
        if change is None:
            reason = f"No new or newly settled {name} since the last run ({latest.rows} rows, newest {latest.newest})."
            reason = reason if latest.rows else f"The table {name} is empty."
            return dg.SensorResult(skip_reason=reason, cursor=latest.cursor)
        request = dg.RunRequest(
            run_key=change.key,
            asset_selection=[asset_key(resource) for resource in to_load],
            tags={f"{name}/{tag}": value for tag, value in _describe(change, upstream, metadata).items()},
        )
        return dg.SensorResult(run_requests=[request], cursor=latest.cursor)

    return sensor


def _describe(change: WatermarkChange, upstream: Resource, metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a run, without the resource's name.

    They are the numbers of new and of settled rows, then the key and the labels of the newest row if it is new, or else
    the window of the load: after a backfill of older rows the newest row tells nothing of those that came.
    """
    if change.newest:
        columns = {upstream.primary_key[0]: "newest_key"}
        columns |= {column: f"newest_{column}" for column in (upstream.watermark.labels if upstream.watermark else ())}
        # A load of an earlier version may have recorded other labels.
        described = {tag: str(metadata[entry]) for tag, entry in columns.items() if entry in metadata}
    else:
        bounds = [metadata.get("window_start"), metadata.get("window_end")]
        known = [f"{datetime.fromtimestamp(bound, UTC):%Y-%m-%d %H:%M}" for bound in bounds if bound is not None]
        described = {"loaded": " to ".join(known)} if len(known) == len(bounds) else {}
    return {"new": str(change.rows), "settled": str(change.settled), **described}
