"""Evaluation of the check `row_count`: rows are compared with those of the previous check, as far as these may be gone.

    count = RowCount(rows=9, lasting_rows=9)
    evaluate_row_count(resource, count, previous=RowCount.from_metadata(metadata))

Pure. `inputs.py` counts the rows, and finds the previous evaluation in Dagster's event log, where `RowCount.metadata`
was kept. Rows that went for a reason that the two counts show are no failure: `_explain` lists the reasons.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import dagster as dg

from analytics_dagster.catalog import Resource
from analytics_dagster.defs.asset_checks.wording import format_count, format_names, format_time
from analytics_dagster.ingest.settings import DEFAULT_PROJECT

_NIGHT = timedelta(days=1)
"""Time between two moments of `keep_from`: it is a midnight."""


@dataclass(frozen=True, kw_only=True)
class RowCount:
    """The rows of a table at a check, and what tells a later check why some of them are gone.

    Attributes:
        rows: Rows in the table.
        lasting_rows: Rows among them that no load replaces, and that the next night does not delete.
        keep_from: Time from which rows were kept, by `keep_days`, UTC; None if all were.
        owners: Accounts or projects that the rows belong to; empty if rows name neither.
        first_load: Id of the first load that the warehouse recorded: it tells warehouses apart; None if unknown.
        latest_load: Id of the latest load that it recorded: a copy made earlier lacks it; None if unknown.
    """

    rows: int
    lasting_rows: int
    keep_from: datetime | None = None
    owners: frozenset[int] = frozenset()
    first_load: str | None = None
    latest_load: str | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Self:
        """Return the count in an evaluation's metadata; an earlier version recorded `rows` alone."""
        keep_from = metadata.get("keep_from")
        return cls(
            rows=metadata["rows"],
            lasting_rows=metadata.get("lasting_rows", metadata["rows"]),
            keep_from=None if keep_from is None else datetime.fromtimestamp(keep_from, UTC),
            owners=frozenset(metadata.get("owners", ())),
            first_load=metadata.get("first_load"),
            latest_load=metadata.get("latest_load"),
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """The count as metadata of an evaluation."""
        return {
            "rows": self.rows,
            "lasting_rows": self.lasting_rows,
            "owners": sorted(self.owners),
            **({"keep_from": dg.MetadataValue.timestamp(self.keep_from)} if self.keep_from else {}),
            **({"first_load": self.first_load} if self.first_load else {}),
            **({"latest_load": self.latest_load} if self.latest_load else {}),
        }


def evaluate_row_count(
    resource: Resource,
    count: RowCount,
    previous: RowCount | None,
    *,
    elsewhere: str | None = None,
    older_copy: bool = False,
    empty_lists: Mapping[str, Sequence[datetime]] | None = None,
) -> dg.AssetCheckResult:
    """Pass if no row is gone since the previous check without a known reason, and the service lists rows.

    Args:
        resource: The resource whose table is checked.
        count: The rows now.
        previous: The rows at the previous check of this table; None for the first one.
        elsewhere: The table and service of an earlier check, if only such a one is known.
        older_copy: Whether the warehouse lacks the latest load of the previous check.
        empty_lists: Times, oldest first, at which the service listed no rows, since it last listed any, by project.
    """
    unexplained = False
    if previous is None:
        description = f"{count.rows:,} rows, counted for the first time{f' here: {elsewhere}' if elsewhere else ''}."
    elif count.rows >= previous.rows:
        description = f"{count.rows:,} rows, {count.rows - previous.rows:,} more than at the last check."
    else:
        reason = _explain(resource, count, previous, older_copy=older_copy)
        unexplained = reason is None
        fewer = f"{previous.rows - count.rows:,} fewer than the {previous.rows:,} of the last check"
        description = f"{count.rows:,} rows, {fewer}: {reason}."
        if unexplained:
            description = (
                f"{count.rows:,} rows, {fewer}. No load deleted them: find the writer that did, then load the table in "
                "full."
            )
    gone = (empty_lists or {}) if count.rows else {}
    for project, times in gone.items():
        description += (
            f" But the service has listed none{'' if project == DEFAULT_PROJECT else f' of {project}'} since "
            f"{format_time(times[0])}, in {format_count(len(times), 'load')}: check base_url and the key. If the "
            "service deleted the rows, delete them from the table."
        )
    return dg.AssetCheckResult(
        passed=not (unexplained or gone),
        description=description,
        metadata={
            **count.metadata,
            **({"rows_before": previous.rows, "change": count.rows - previous.rows} if previous else {}),
            **({"empty_lists": max(map(len, gone.values()))} if gone else {}),
        },
    )


def _explain(resource: Resource, count: RowCount, previous: RowCount, *, older_copy: bool) -> str | None:
    """Return why rows of the previous check are gone; None if the counts show no reason."""
    if count.first_load and previous.first_load and count.first_load != previous.first_load:
        return f"this is another warehouse, whose first load was at {_format_load(count.first_load)}"
    if older_copy and previous.latest_load:
        return (
            "the warehouse is another copy, without the load of "
            f"{_format_load(previous.latest_load)} that the last check saw. Ticks load what came since, nights read "
            "three days again; complete_history names older gaps"
        )
    if (left := previous.owners - count.owners) and (came := count.owners - previous.owners):
        owner = str(resource.owner_column).removesuffix("_id")
        return f"those of {owner} {_format_owners(left)} are gone; the rows are of {owner} {_format_owners(came)} now"
    if count.keep_from and (previous.keep_from is None or count.keep_from > previous.keep_from + _NIGHT):
        # Some nights, or another setting, deleted rows that the previous check could not foresee.
        return _describe_kept(count.keep_from)
    if count.rows < previous.lasting_rows:
        return None
    if previous.keep_from:
        return _describe_kept(count.keep_from or previous.keep_from)
    return f"a load replaced those of the same {', '.join(resource.replace_by)}"


def _describe_kept(keep_from: datetime) -> str:
    return f"rows before {keep_from:%Y-%m-%d} are not kept (keep_days)"


def _format_owners(owners: frozenset[int]) -> str:
    return format_names([str(owner) for owner in sorted(owners)])


def _format_load(load_id: str) -> str:
    """Return the time of a load: dlt's id of it is that time in epoch seconds."""
    return format_time(datetime.fromtimestamp(float(load_id), UTC))
