"""Evaluations of the checks of rows: pure functions from a table's figures to a `dg.AssetCheckResult`.

`specs.py` sets the severity of a failure; `freshness.py` evaluates the checks of loaded times, `row_count.py` the
comparison with the previous check.

    evaluate_not_null(profile)
"""

from collections.abc import Mapping
from datetime import datetime

import dagster as dg

from analytics_dagster.catalog import Reference, Resource
from analytics_dagster.defs.asset_checks.wording import format_count, format_examples, format_names, format_time
from analytics_dagster.ingest.warehouse.table_stats import KeySample, Profile, UnknownFields

NOT_LOADED_YET = dg.AssetCheckResult(
    passed=True, description="Not loaded yet: there is nothing to check.", metadata={"loaded": False}
)


def evaluate_primary_key(resource: Resource, profile: Profile, repeated: KeySample) -> dg.AssetCheckResult:
    """Pass if the primary key is unique and never null."""
    name = ", ".join(resource.primary_key)
    nulls = sum(profile.nulls.get(column, 0) for column in resource.primary_key)
    description = f"{name} is unique in {profile.rows:,} rows."
    if failed := bool(repeated.count or nulls):
        faults = []
        if repeated.count:
            verb = "is" if repeated.count == 1 else "are"
            values = f"{format_count(repeated.count, 'value')} {verb} duplicated ({format_examples(repeated)})"
            faults.append(f"{name} is not unique: {values}.")
        if nulls:
            faults.append(f"{name} has {format_count(nulls, 'null')}.")
        description = (
            f"{' '.join(faults)} Another writer changed the table: delete these of its {profile.rows:,} rows, "
            "then load it in full."
        )
    return dg.AssetCheckResult(
        passed=not failed,
        description=description,
        metadata={"rows": profile.rows, "repeated_keys": repeated.count, "null_keys": nulls},
    )


def evaluate_not_null(profile: Profile) -> dg.AssetCheckResult:
    """Pass if the table has every declared column, and a value in each row of those that are not nullable."""
    faults = []
    if profile.absent:
        faults.append(f"The table lacks {format_names(profile.absent)}: an earlier version created it. Load it once.")
    if profile.nulls:
        columns = [f"{column} in {format_count(count, 'row')}" for column, count in profile.nulls.items()]
        faults.append(f"Required columns have nulls: {format_names(columns)}, of {profile.rows:,}. Load these again.")
    return dg.AssetCheckResult(
        passed=not faults,
        description=" ".join(faults) or f"Required columns have no nulls in {profile.rows:,} rows.",
        metadata={
            "rows": profile.rows,
            "columns_with_nulls": len(profile.nulls),
            "columns_absent": len(profile.absent),
            **{f"nulls_in_{column}": count for column, count in profile.nulls.items()},
        },
    )


def evaluate_unknown_fields(found: UnknownFields, *, since: datetime) -> dg.AssetCheckResult:
    """Pass if the rows read since a time have only fields that the catalog knows."""
    description = f"No unknown fields in rows read since {format_time(since)}."
    if found.fields:
        fields = [f"{name} ({format_count(count, 'row')})" for name, count in sorted(found.fields.items())]
        description = (
            f"The service sends {format_count(len(fields), 'field')} that the catalog does not know: "
            f"{format_names(fields)}. Their values are in the column extra. Add columns for them to the resource in "
            "the catalog."
        )
    return dg.AssetCheckResult(
        passed=not found.fields,
        description=description,
        metadata={
            "fields": sorted(found.fields),
            "rows_with_unknown_fields": found.rows,
            "since": dg.MetadataValue.timestamp(since),
        },
    )


def evaluate_rejected_rows(reasons: Mapping[str, int], *, since: datetime) -> dg.AssetCheckResult:
    """Pass if no row was rejected since a time; `reasons` counts the rejected rows by reason."""
    rows = sum(reasons.values())
    description = f"No rows rejected since {format_time(since)}."
    if rows:
        counts = format_names([f"{reason} ({count})" for reason, count in reasons.items()])
        description = (
            f"{format_count(rows, 'row')} rejected since {format_time(since)}: {counts}. "
            "See analytics.rejected_rows for the rows and their reasons."
        )
    return dg.AssetCheckResult(
        passed=not rows,
        description=description,
        metadata={"rows_rejected": rows, "reasons": [f"{reason}: {count}" for reason, count in reasons.items()]},
    )


def evaluate_references(
    reference: Reference, profile: Profile, unmatched: KeySample | None, *, before: datetime
) -> dg.AssetCheckResult:
    """Pass if the rows before a time refer to rows that exist.

    Args:
        reference: The column that refers, and the resource it refers to.
        profile: Figures of the table that refers.
        unmatched: Keys that the other table lacks; None if that table is not loaded yet.
        before: Rows with a later cursor were not compared, UTC.
    """
    if unmatched is None:
        description = f"{reference.resource} is not loaded yet: there is nothing to compare with."
        return dg.AssetCheckResult(passed=True, description=description, metadata={"rows": profile.rows})
    description = f"{reference.resource} has every {reference.column} of rows before {format_time(before)}."
    if unmatched.count:
        description = (
            f"{reference.resource} lacks {format_count(unmatched.count, reference.column)} of rows before "
            f"{format_time(before)}: {format_examples(unmatched)}. Load {reference.resource} up to today, or in full."
        )
    return dg.AssetCheckResult(
        passed=not unmatched.count,
        description=description,
        metadata={
            "rows": profile.rows,
            f"{reference.resource}_missing": unmatched.count,
            "before": dg.MetadataValue.timestamp(before),
        },
    )
