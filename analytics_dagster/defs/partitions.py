"""Partitions of the incremental assets: spans of their cursors, and how a run's partitions become a window."""

from datetime import UTC, datetime, time

import dagster as dg

from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.windows import Window


def build_partitions(settings: Settings) -> dg.TimeWindowPartitionsDefinition:
    """Return days or hours from `start_date` on, the one that is not over yet included."""
    start = datetime.combine(settings.start_date, time(), tzinfo=UTC)
    if settings.partition == "hourly":
        return dg.HourlyPartitionsDefinition(start_date=start, end_offset=1)
    return dg.DailyPartitionsDefinition(start_date=start, end_offset=1)


def window_of(context: dg.AssetExecutionContext) -> Window | None:
    """Return the span of the partitions that a run is for; None if it is for none."""
    if not (context.has_partition_key or context.has_partition_key_range):
        return None
    span = context.partition_time_window
    return Window(start=span.start.astimezone(UTC), end=span.end.astimezone(UTC))
