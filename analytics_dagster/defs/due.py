"""What is due at a tick: which partitions a schedule asks for. Pure: what is known and what time it is are passed in.

When the ticks are, and how a request becomes a run, is in `schedules.py`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

import dagster as dg

MAX_RUNTIME = timedelta(hours=2)
"""Age at which the run monitor ends a run: `max_runtime_seconds` in `dagster.yaml`."""

_REREAD = timedelta(days=3)
"""A row may come up to a day late, and one night may fail."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Partitions from the first to the last, both included."""

    first: str
    last: str

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags by which one run is for all of them."""
        return {
            "dagster/asset_partition_range_start": self.first,
            "dagster/asset_partition_range_end": self.last,
        }


def partitions_due(
    partitions: dg.TimeWindowPartitionsDefinition,
    *,
    known: Collection[str],
    asked_at: Iterable[datetime],
    now: datetime,
    horizon: timedelta,
) -> Span | str:
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
    return Span(first=within[max(missing - 1, 0)], last=last)


def partitions_to_reread(partitions: dg.TimeWindowPartitionsDefinition, *, now: datetime) -> Span | None:
    """Return the three days before the open partition, or what there is of them; None if there is nothing of them."""
    keys = partitions.get_partition_keys(current_time=now)
    closed = keys[:-1]
    if not closed:
        return None
    open_since = partitions.time_window_for_partition_key(keys[-1]).start
    return Span(first=_since(partitions, closed, open_since - _REREAD)[0], last=closed[-1])


def _since(partitions: dg.TimeWindowPartitionsDefinition, keys: Sequence[str], moment: datetime) -> Sequence[str]:
    """Return the keys, oldest first, whose partitions end after a moment."""
    newest_first = takewhile(lambda key: partitions.time_window_for_partition_key(key).end > moment, reversed(keys))
    return list(newest_first)[::-1]
