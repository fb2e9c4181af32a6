"""Partitions of the incremental assets: all of them, those of a run, and those that a schedule's tick loads.

Pure: the time and the materialized partitions are arguments. `schedules.py` turns the result into run requests:

    partitions = build_partitions(settings)
    due = partitions_due(partitions, known=known, asked_at=[], now=now, horizon=timedelta(hours=48))
    dg.RunRequest(tags=range_tags(due))

https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg

from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.windows import Window, midnight

MAX_RUNTIME = timedelta(hours=2)
"""Age at which the run monitor ends a run: `max_runtime_seconds` in `dagster.yaml`."""

REREAD = timedelta(days=3)
"""Time before the open partition that is read again every night: a row may be a day late, and one night may fail."""


def build_partitions(settings: Settings) -> dg.TimeWindowPartitionsDefinition:
    """Define days or hours from `start_date` on, including the open one, which has not ended yet."""
    start = midnight(settings.start_date)
    if settings.partition == "hourly":
        return dg.HourlyPartitionsDefinition(start_date=start, end_offset=1)
    return dg.DailyPartitionsDefinition(start_date=start, end_offset=1)


def partition_window(context: dg.AssetExecutionContext) -> Window | None:
    """Return the window of a run's partitions; None for a run without partitions."""
    if not (context.has_partition_key or context.has_partition_key_range):
        return None
    window = context.partition_time_window
    return Window(start=window.start.astimezone(UTC), end=window.end.astimezone(UTC))


def range_tags(partitions: dg.PartitionKeyRange) -> Mapping[str, str]:
    """Return the tags by which one run loads all partitions of a range."""
    return {
        "dagster/asset_partition_range_start": partitions.start,
        "dagster/asset_partition_range_end": partitions.end,
    }


def partitions_due(
    partitions: dg.TimeWindowPartitionsDefinition,
    *,
    known: Collection[str],
    asked_at: Iterable[datetime],
    now: datetime,
    horizon: timedelta,
) -> dg.PartitionKeyRange | str:
    """Return the partitions that a tick of `incremental_schedule` loads, or the reason why it loads none.

    The range ends with the open partition, which always has new rows. It starts with the partition before the oldest
    missing one, because that partition may have been open when it was last loaded. With daily partitions and no gap,
    it starts with yesterday.

    Args:
        partitions: The partitions of the assets.
        known: Keys of the partitions that are materialized for every asset.
        asked_at: Times at which the schedule's unfinished runs were requested, UTC.
        now: The time of the tick, UTC.
        horizon: Time before `now` that is searched for missing partitions; the partition before the open one is always
            searched.
    """
    if unfinished := [asked for asked in asked_at if now - asked < MAX_RUNTIME]:
        return f"The run that was requested at {min(unfinished):%H:%M:%S} UTC has not ended yet."
    keys = partitions.get_partition_keys(current_time=now)
    if not keys or partitions.time_window_for_partition_key(keys[-1]).start > now:
        return f"The first partition, {partitions.start:%Y-%m-%d}, has not begun yet."
    searched = max(_keys_after(partitions, keys, now - horizon), keys[-2:], key=len)
    *closed, open_key = searched
    oldest_missing = next((index for index, key in enumerate(closed) if key not in known), len(closed))
    return dg.PartitionKeyRange(start=searched[max(oldest_missing - 1, 0)], end=open_key)


def partitions_to_reread(
    partitions: dg.TimeWindowPartitionsDefinition, *, now: datetime
) -> dg.PartitionKeyRange | None:
    """Return the partitions that `full_refresh_schedule` reads again: those of `REREAD` before the open partition.

    Returns:
        The range, shorter if the partitions begin later; None if no partition is closed yet.
    """
    keys = partitions.get_partition_keys(current_time=now)
    closed = keys[:-1]
    if not closed:
        return None
    open_since = partitions.time_window_for_partition_key(keys[-1]).start
    return dg.PartitionKeyRange(start=_keys_after(partitions, closed, open_since - REREAD)[0], end=closed[-1])


def _keys_after(partitions: dg.TimeWindowPartitionsDefinition, keys: Sequence[str], moment: datetime) -> Sequence[str]:
    """Return the keys, oldest first, of the partitions that end after a moment."""
    newest_first = takewhile(lambda key: partitions.time_window_for_partition_key(key).end > moment, reversed(keys))
    return list(newest_first)[::-1]
