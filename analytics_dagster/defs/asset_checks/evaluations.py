"""What a check says of figures: passed, warning or error, and a sentence with numbers. Pure: `now` is passed in.

Where the figures come from is in `ingest/reading.py`; which checks there are, and on what, in `checks.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import islice
from typing import Any

import dagster as dg

from analytics_dagster.catalog import Freshness, Reference, Resource
from analytics_dagster.ingest.warehouse.table_stats import KeySample, Profile, UnknownFields
from analytics_dagster.ingest.windows import Window, gaps, loaded_through

RECENT = timedelta(days=1)
"""How long a row that was rejected, or that had an unknown field, is worth a warning after it was read."""

_DAY = timedelta(days=1)
_SHOWN = 5
_COMMANDS_SHOWN = 3
_HOURS_IN_DAYS = 72


class Level(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of a check.

    Attributes:
        level: How it ended.
        sentence: What was found, and what to do about it.
        figures: What it rests on: numbers, moments, lists of names.
    """

    level: Level
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)


NOT_LOADED_YET = Verdict(
    level=Level.PASS, sentence="Not loaded yet: there is nothing to check.", figures={"loaded": False}
)


# -- freshness ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Freshest:
    """How fresh the data is.

    Attributes:
        through: Until when the service's rows are known to be there.
        loaded: Whether a load says so; otherwise `through` is where one should have begun.
        newest_row: The newest cursor in the table; None without a cursor.
    """

    through: datetime
    loaded: bool = True
    newest_row: datetime | None = None


def fresh_since(limits: Freshness, *, start_date: date, now: datetime) -> datetime:
    """Return from when on the windows of a resource have to be without a gap for it to be fresh.

    That is the beginning of yesterday: what the schedule looks after at every tick, so that an older gap, which a
    backfill has to fill, is the business of `complete_history` alone. A resource that may be older than a day is looked
    at from further back, and none from before its first partition.
    """
    oldest = (now - max(_DAY, limits.fail_after)).date()
    return datetime.combine(max(oldest, start_date), time(), tzinfo=UTC)


def freshest_of_windows(windows: Iterable[Window], since: datetime, newest_row: datetime | None) -> Freshest:
    """Return how fresh a resource is that is loaded in windows."""
    through = loaded_through(windows, since)
    return Freshest(through=through, loaded=through > since, newest_row=newest_row)


def never_loaded(limits: Freshness) -> Verdict:
    """Say so."""
    return Verdict(level=Level.WARN, sentence="Never loaded: materialise it once.", figures=_limits(limits))


def freshness(limits: Freshness, freshest: Freshest, *, now: datetime) -> Verdict:
    """Say whether data is fresh enough."""
    age = max(now - freshest.through, timedelta(0))
    figures = {"loaded_through": freshest.through, "age_seconds": int(age.total_seconds()), **_limits(limits)}
    if freshest.newest_row:
        figures["newest_record"] = freshest.newest_row
        figures["newest_record_age_seconds"] = int(max(now - freshest.newest_row, timedelta(0)).total_seconds())
    if freshest.loaded:
        found = f"Loaded through {_moment(freshest.through)}, {_span(age)} ago"
    else:
        found = f"No load covers {_moment(freshest.through)}, {_span(age)} ago, and what came after it"
    if age <= limits.warn_after:
        return Verdict(level=Level.PASS, sentence=f"{found}: within {_span(limits.warn_after)}.", figures=figures)
    failed = age > limits.fail_after
    limit = limits.fail_after if failed else limits.warn_after
    sentence = f"{found}: more than {_span(limit)}. See the runs of its group for what holds it back."
    return Verdict(level=Level.ERROR if failed else Level.WARN, sentence=sentence, figures=figures)


def _limits(limits: Freshness) -> dict[str, Any]:
    return {
        "warn_after_seconds": int(limits.warn_after.total_seconds()),
        "fail_after_seconds": int(limits.fail_after.total_seconds()),
    }


def complete_history(
    windows: Iterable[Window],
    partitions: dg.TimeWindowPartitionsDefinition,
    *,
    asset: dg.AssetKey,
    grace: timedelta,
    now: datetime,
) -> Verdict:
    """Say which days since the first partition are not, or not wholly, loaded, and how to load them.

    Args:
        windows: Windows that were loaded.
        partitions: The asset's.
        asset: Which one.
        grace: How long after its end a day is not asked for yet: until then it is a matter of freshness.
        now: The present.
    """
    start = partitions.start.astimezone(UTC)
    end = datetime.combine((now - grace).date(), time(), tzinfo=UTC)
    expected = max((end - start) // _DAY, 0)
    missing = _days(gaps(windows, Window(start=start, end=end))) if expected else []
    ranges = _ranges(missing)
    figures = {"days": expected, "days_missing": len(missing), "first_day": f"{start:%Y-%m-%d}"}
    if not missing:
        sentence = f"All {expected} days since {start:%Y-%m-%d} are loaded."
        return Verdict(level=Level.PASS, sentence=sentence, figures=figures)
    to_load = ranges if len(ranges) <= _COMMANDS_SHOWN else [(ranges[0][0], ranges[-1][1])]
    commands = [_backfill(partitions, asset, first, last) for first, last in to_load]
    named = [f"{first}" if first == last else f"{first} to {last}" for first, last in ranges]
    return Verdict(
        level=Level.WARN,
        sentence=f"{_count(len(missing), 'day')} of {expected} since {start:%Y-%m-%d} not loaded: {_shown(named)}. "
        f"Launch a backfill in the UI, or: {' ; '.join(commands)}",
        figures={**figures, "missing": named},
    )


def _days(spans: Iterable[Window]) -> list[date]:
    """Days that the spans touch, oldest first."""
    days: list[date] = []
    for span in spans:
        assert span.start
        day = span.start.date()
        while datetime.combine(day, time(), tzinfo=UTC) < span.end:
            if day not in days[-1:]:
                days.append(day)
            day += _DAY
    return days


def _ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """Days, oldest first, as ranges of consecutive ones."""
    ranges: list[tuple[date, date]] = []
    for day in days:
        if ranges and ranges[-1][1] + _DAY == day:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def _backfill(partitions: dg.TimeWindowPartitionsDefinition, asset: dg.AssetKey, first: date, last: date) -> str:
    """The command that loads the partitions of a range of days in one run."""
    span = dg.TimeWindow(datetime.combine(first, time(), tzinfo=UTC), datetime.combine(last, time(), tzinfo=UTC) + _DAY)
    keys = partitions.get_partition_keys_in_time_window(span)
    return (
        "dagster asset materialize -m analytics_dagster.definitions "
        f"--select 'key:\"{asset.to_user_string()}\"' --partition-range '{keys[0]}...{keys[-1]}'"
    )


# -- rows -----------------------------------------------------------------------------------------------------


def primary_key(resource: Resource, profile: Profile, repeated: KeySample) -> Verdict:
    """Say whether the primary key is unique and never null."""
    name = ", ".join(resource.primary_key)
    nulls = sum(profile.nulls.get(column, 0) for column in resource.primary_key)
    figures = {"rows": profile.rows, "repeated_keys": repeated.count, "null_keys": nulls}
    if not (repeated.count or nulls):
        return Verdict(level=Level.PASS, sentence=f"{name} is unique in {profile.rows:,} rows.", figures=figures)
    faults = []
    if repeated.count:
        faults.append(f"{_count(repeated.count, 'value')} more than once ({_examples(repeated)})")
    if nulls:
        faults.append(f"null {_count(nulls, 'time')}")
    return Verdict(
        level=Level.ERROR,
        sentence=f"{name} is there with {' and '.join(faults)} in {profile.rows:,} rows. "
        "Something else than the loads wrote into the table: remove those rows, then load it in full.",
        figures=figures,
    )


def not_null(profile: Profile) -> Verdict:
    """Say whether every column that is declared to have a value has one."""
    figures = {
        "rows": profile.rows,
        "columns_with_nulls": len(profile.nulls),
        "columns_absent": len(profile.absent),
        **{f"nulls_in_{column}": count for column, count in profile.nulls.items()},
    }
    faults = []
    if profile.absent:
        faults.append(f"The table lacks {_shown(profile.absent)}: an earlier version made it. Load it once.")
    if profile.nulls:
        found = [f"{column} in {_count(count, 'row')}" for column, count in profile.nulls.items()]
        faults.append(f"Null where a value belongs: {_shown(found)}, of {profile.rows:,} rows. Load them again.")
    if faults:
        return Verdict(level=Level.ERROR, sentence=" ".join(faults), figures=figures)
    sentence = f"No null where a value belongs, in {profile.rows:,} rows."
    return Verdict(level=Level.PASS, sentence=sentence, figures=figures)


def unknown_fields(found: UnknownFields, *, since: datetime) -> Verdict:
    """Say whether the service sends fields that the catalog does not know."""
    figures = {"fields": sorted(found.fields), "rows_with_unknown_fields": found.rows, "since": since}
    if not found.fields:
        sentence = f"No unknown field in the rows read since {_moment(since)}."
        return Verdict(level=Level.PASS, sentence=sentence, figures=figures)
    fields = [f"{name} ({_count(count, 'row')})" for name, count in sorted(found.fields.items())]
    return Verdict(
        level=Level.WARN,
        sentence=f"The service sends {_count(len(fields), 'field')} that the catalog does not know: {_shown(fields)}. "
        "The values are in the column extra; to have columns for them, add these to the resource in the catalog.",
        figures=figures,
    )


def rejected_rows(reasons: Mapping[str, int], *, since: datetime) -> Verdict:
    """Say whether rows did not fit."""
    rows = sum(reasons.values())
    figures = {"rows_rejected": rows, "reasons": [f"{reason}: {count}" for reason, count in reasons.items()]}
    if not rows:
        sentence = f"No row rejected since {_moment(since)}."
        return Verdict(level=Level.PASS, sentence=sentence, figures=figures)
    found = [f"{reason} ({count})" for reason, count in reasons.items()]
    return Verdict(
        level=Level.WARN,
        sentence=f"{_count(rows, 'row')} rejected since {_moment(since)}: {_shown(found)}. "
        "They are in analytics.rejected_rows, with the reason.",
        figures=figures,
    )


def row_count(resource: Resource, rows: int, before: int | None) -> Verdict:
    """Say whether rows went missing since the last check of the same table; `before` is None for the first one."""
    if before is None:
        return Verdict(level=Level.PASS, sentence=f"{rows:,} rows, counted for the first time.", figures={"rows": rows})
    figures = {"rows": rows, "rows_before": before, "change": rows - before}
    if rows >= before:
        sentence = f"{rows:,} rows, {rows - before:,} more than at the last check."
        return Verdict(level=Level.PASS, sentence=sentence, figures=figures)
    replaced = (
        f" but where a load replaces the rows of one {', '.join(resource.replace_by)}" if resource.replace_by else ""
    )
    return Verdict(
        level=Level.WARN,
        sentence=f"{rows:,} rows, {before - rows:,} fewer than the {before:,} of the last check. Loads delete "
        f"none{replaced}: see who did, and load it in full.",
        figures=figures,
    )


def references(reference: Reference, profile: Profile, unmatched: KeySample | None, *, before: datetime) -> Verdict:
    """Say whether what rows refer to is there; `unmatched` is None where none of it is loaded yet."""
    if unmatched is None:
        sentence = f"{reference.resource} is not loaded yet: there is nothing to compare with."
        return Verdict(level=Level.PASS, sentence=sentence, figures={"rows": profile.rows})
    figures = {"rows": profile.rows, f"{reference.resource}_missing": unmatched.count, "before": before}
    if not unmatched.count:
        sentence = f"Every {reference.column} of rows before {_moment(before)} is in {reference.resource}."
        return Verdict(level=Level.PASS, sentence=sentence, figures=figures)
    return Verdict(
        level=Level.WARN,
        sentence=f"{_count(unmatched.count, f'{reference.column}')} of rows before {_moment(before)} not in "
        f"{reference.resource}: {_examples(unmatched)}. Load {reference.resource} up to today, or in full.",
        figures=figures,
    )


# -- words ----------------------------------------------------------------------------------------------------


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _span(span: timedelta) -> str:
    """A duration as a person says it."""
    hours = span / timedelta(hours=1)
    if hours * 60 < 1:
        return f"{span.seconds} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.3g} h" if hours < _HOURS_IN_DAYS else f"{hours / 24:.3g} days"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _shown(names: Sequence[str]) -> str:
    """The first few of a list."""
    rest = len(names) - _SHOWN
    return ", ".join(islice(names, _SHOWN)) + (f" and {rest} more" if rest > 0 else "")


def _examples(found: KeySample) -> str:
    more = ", …" if found.count > len(found.examples) else ""
    return ", ".join(found.examples) + more
