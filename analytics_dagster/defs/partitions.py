"""Partitions of the incremental assets, the window of a run's partitions, and the partitions that a tick loads.

Pure: the time and the materialized partitions are arguments. schedules.py turns the result into run requests.
https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from itertools import takewhile

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


MAX_RUNTIME = timedelta(hours=2)
"""Age at which the run monitor ends a run: `max_runtime_seconds` in `dagster.yaml`."""

_REREAD = timedelta(days=3)
"""A row may come up to a day late, and one night may fail."""


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
    """Return the partitions that a run should resume, or a sentence that says why none should.

    They reach to the open one, which is never done, from the one before the oldest that is missing: that one may have
    been open still when it was loaded last. With days and without a gap it is yesterday's.

    Args:
        partitions: All there are.
        known: Those that were materialised, for each asset.
        asked_at: When the runs that wait or go were asked for.
        now: The time of the tick.
        horizon: How far back a gap is looked for; the partition before the open one is always within it.
    """
    if going := [asked for asked in asked_at if now - asked < MAX_RUNTIME]:
        return f"The run that was asked for at {min(going):%H:%M:%S} UTC has not ended yet."
    keys = partitions.get_partition_keys(current_time=now)
    if not keys or partitions.time_window_for_partition_key(keys[-1]).start > now:
        return f"The first partition, {partitions.start:%Y-%m-%d}, has not begun yet."
    within = max(_since(partitions, keys, now - horizon), keys[-2:], key=len)
    *closed, last = within
    missing = next((place for place, key in enumerate(closed) if key not in known), len(closed))
    return dg.PartitionKeyRange(start=within[max(missing - 1, 0)], end=last)


def partitions_to_reread(
    partitions: dg.TimeWindowPartitionsDefinition, *, now: datetime
) -> dg.PartitionKeyRange | None:
    """Return the three days before the open partition, or what there is of them; None if there is nothing of them."""
    keys = partitions.get_partition_keys(current_time=now)
    closed = keys[:-1]
    if not closed:
        return None
    open_since = partitions.time_window_for_partition_key(keys[-1]).start
    return dg.PartitionKeyRange(start=_since(partitions, closed, open_since - _REREAD)[0], end=closed[-1])


def _since(partitions: dg.TimeWindowPartitionsDefinition, keys: Sequence[str], moment: datetime) -> Sequence[str]:
    """Return the keys, oldest first, whose partitions end after a moment."""
    newest_first = takewhile(lambda key: partitions.time_window_for_partition_key(key).end > moment, reversed(keys))
    return list(newest_first)[::-1]
