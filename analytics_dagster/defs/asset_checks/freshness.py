"""Evaluations of the checks of loaded times: `freshness` and `complete_history`. Pure: `now` is an argument.

    coverage = coverage_of_windows(windows, coverage_start(limits, start_date=start_date, now=now))
    evaluate_freshness(limits, coverage, newest_row, now=now)

Dagster's freshness policies, which `translator.py` sets from the same limits, tell how long ago an asset was
materialized; these checks tell for which times the table has rows.
https://docs.dagster.io/guides/observe/asset-freshness-policies
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from analytics_dagster.catalog import Freshness, Resource
from analytics_dagster.defs.asset_checks.wording import format_count, format_duration, format_names, format_time
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.ingest.warehouse.daily_rows import Shortfall
from analytics_dagster.ingest.windows import LoadedWindows, Window, gaps, listed_from, loaded_through, midnight

_DAY = timedelta(days=1)
_COMMANDS_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The end of what is loaded of a resource, without a gap.

    Attributes:
        through: Time through which the service's rows are loaded, UTC.
        begun: Whether a load reaches `through`; if not, `through` is the time from which coverage is required.
    """

    through: datetime
    begun: bool = True


def coverage_start(limits: Freshness, *, start_date: date, now: datetime) -> datetime:
    """Return the time from which the loaded windows of a resource must have no gap for it to be fresh.

    This is the beginning of yesterday, because the schedule fills gaps from there at every tick; `complete_history`
    reports older gaps, which a backfill must fill. A resource whose limit is more than a day needs coverage from
    further back, and none needs it from before `start_date`.
    """
    oldest = (now - max(_DAY, limits.fail_after)).date()
    return midnight(max(oldest, start_date))


def coverage_of_windows(windows: Iterable[Window], start: datetime) -> Coverage:
    """Return the coverage of loaded windows from `start` on."""
    through = loaded_through(windows, start)
    return Coverage(through=through, begun=through > start)


def evaluate_never_loaded(limits: Freshness) -> dg.AssetCheckResult:
    """Return WARN for a table that was never loaded."""
    return dg.AssetCheckResult(
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        description="Never loaded. Materialize the asset.",
        metadata=_limits_in_seconds(limits),
    )


def evaluate_freshness(
    limits: Freshness, coverage: Coverage | None, newest_row: datetime | None, *, now: datetime
) -> dg.AssetCheckResult:
    """Pass if the coverage ends within the limits' `warn_after`; fail with WARN within `fail_after`, then with ERROR.

    Args:
        limits: The resource's limits.
        coverage: The end of what is loaded; None for a table that was never loaded.
        newest_row: Newest cursor in the table, UTC; None without a cursor.
        now: The time of the check, UTC.
    """
    if coverage is None:
        return evaluate_never_loaded(limits)
    age = max(now - coverage.through, timedelta(0))
    ago = f"{format_time(coverage.through)}, {format_duration(age)} ago"
    description = f"Loaded through {ago}" if coverage.begun else f"No load covers the time from {ago}"
    passed, failed = age <= limits.warn_after, age > limits.fail_after
    limit = format_duration(limits.fail_after if failed else limits.warn_after)
    verdict = f"within the limit of {limit}." if passed else f"over the limit of {limit}. See the runs of its group."
    metadata: dict[str, dg.MetadataValue[Any] | int] = {
        "loaded_through": dg.MetadataValue.timestamp(coverage.through),
        "age_seconds": int(age.total_seconds()),
        **_limits_in_seconds(limits),
    }
    if newest_row:
        metadata["newest_record"] = dg.MetadataValue.timestamp(newest_row)
        metadata["newest_record_age_seconds"] = int(max(now - newest_row, timedelta(0)).total_seconds())
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        description=f"{description}: {verdict}",
        metadata=metadata,
    )


def _limits_in_seconds(limits: Freshness) -> dict[str, int]:
    return {
        "warn_after_seconds": int(limits.warn_after.total_seconds()),
        "fail_after_seconds": int(limits.fail_after.total_seconds()),
    }


def evaluate_complete_history(
    resource: Resource,
    windows: LoadedWindows,
    partitions: dg.TimeWindowPartitionsDefinition,
    *,
    keep_from: datetime | None,
    shortfalls: Sequence[Shortfall],
    now: datetime,
    project: str | None = None,
) -> dg.AssetCheckResult:
    """Pass if every day since the first partition is wholly loaded and has its rows; name the others, and the backfill.

    A day before the end of the service's list is loaded: the sentence says from when on the service lists rows.

    Args:
        resource: An incremental resource. Until its limit `fail_after` after the end of a day, the check `freshness`
            reports a missing load of that day, and this one does not count it.
        windows: Loaded windows of the resource.
        partitions: The partitions of its asset.
        keep_from: Time from which rows are kept, UTC; None if all are.
        shortfalls: Days with fewer rows than their latest load left.
        now: The time of the check, UTC.
        project: The project of the windows, if there are several: the backfill is of it alone.
    """
    start = max(filter(None, (partitions.start.astimezone(UTC), keep_from)))
    end = midnight((now - resource.freshness.fail_after).date())
    expected = max((end - start) // _DAY, 0)
    history = Window(start=start, end=end) if expected else None
    missing = _overlapped_days(gaps(windows.valid, history)) if history else []
    fewer = [each for each in shortfalls if each.day >= start.date() and each.day not in missing]
    oldest = listed_from(windows.valid, history) if history else None
    notes = _describe_list_end(oldest) + _describe_ignored(windows) + _describe_kept(keep_from)
    names = _name_ranges(_group_days(missing))
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {expected} days since {start:%Y-%m-%d} not loaded: {format_names(names)}.")
    if fewer:
        days = [f"{each.day} ({each.rows:,} of {each.recorded:,})" for each in fewer]
        faults.append(f"{format_count(len(fewer), 'day')} with fewer rows than were loaded: {format_names(days)}.")
    description = f"All {expected} days since {start:%Y-%m-%d} are loaded.{notes}"
    if faults:
        ranges = _group_days(sorted({*missing, *(each.day for each in fewer)}))
        to_load = ranges if len(ranges) <= _COMMANDS_SHOWN else [(ranges[0][0], ranges[-1][1])]
        commands = [_backfill_command(partitions, asset_key(resource), first, last, project) for first, last in to_load]
        description = f"{' '.join(faults)}{notes} Launch a backfill in the UI, or run: {' ; '.join(commands)}"
    return dg.AssetCheckResult(
        passed=not faults,
        description=description,
        metadata={
            "days": expected,
            "days_missing": len(missing),
            "days_with_fewer_rows": len(fewer),
            "first_day": f"{start:%Y-%m-%d}",
            **({"missing": names} if missing else {}),
            **({"listed_from": dg.MetadataValue.timestamp(oldest)} if oldest else {}),
            **({"windows_ignored": len(windows.future)} if windows.future else {}),
            **({"windows_void": len(windows.void)} if windows.void else {}),
        },
    )


def _describe_list_end(oldest: datetime | None) -> str:
    return f" The service lists nothing before {format_time(oldest)}." if oldest else ""


def _describe_ignored(windows: LoadedWindows) -> str:
    """Describe the windows that do not count."""
    sentence = ""
    if end := max((window.end for window in windows.future), default=None):
        sentence += (
            f" Recorded coverage that ends in the future, at {format_time(end)}, is ignored: the clock of an earlier "
            "load was ahead."
        )
    if windows.void:
        rows = sum(window.rows for window in windows.void)
        sentence += f" Recorded coverage is ignored, because the table lost the {rows:,} rows that it speaks of."
    return sentence


def _describe_kept(keep_from: datetime | None) -> str:
    return f" Rows before {keep_from:%Y-%m-%d} are not kept (keep_days)." if keep_from else ""


def _name_ranges(ranges: Iterable[tuple[date, date]]) -> list[str]:
    return [f"{first}" if first == last else f"{first} to {last}" for first, last in ranges]


def _overlapped_days(windows: Iterable[Window]) -> list[date]:
    """Return the days that windows overlap, oldest first."""
    days: set[date] = set()
    for window in windows:
        assert window.start
        first, last = window.start.date(), (window.end - timedelta.resolution).date()
        days.update(first + number * _DAY for number in range((last - first).days + 1))
    return sorted(days)


def _group_days(days: Iterable[date]) -> list[tuple[date, date]]:
    """Group days, oldest first, into ranges of consecutive days; each is its first and last day."""
    ranges: list[tuple[date, date]] = []
    for day in days:
        if ranges and ranges[-1][1] + _DAY == day:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def _backfill_command(
    partitions: dg.TimeWindowPartitionsDefinition, asset: dg.AssetKey, first: date, last: date, project: str | None
) -> str:
    """Return the command that loads the partitions of a range of days in one run, of one project or all."""
    keys = partitions.get_partition_keys_in_time_window(dg.TimeWindow(midnight(first), midnight(last) + _DAY))
    command = f"dg launch --assets 'key:\"{asset.to_user_string()}\"' --partition-range '{keys[0]}...{keys[-1]}'"
    config = {"ops": {"incremental": {"config": {"projects": [project]}}}}
    return f"{command} --config-json '{json.dumps(config)}'" if project else command
