"""The checks that there are, and how each gets from the figures of a table to a verdict.

Every check is a row of `CHECKS`, and applies to each resource of the catalog whose facts it needs; a resource gets its
checks by being in the catalog. What a figure means is said in `verdicts.py`; how Dagster runs them, in `checks.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from analytics_dagster.catalog import Resource
from analytics_dagster.defs.asset_checks import evaluations as verdicts
from analytics_dagster.defs.asset_checks.evaluations import NOT_LOADED_YET, Freshest, Verdict
from analytics_dagster.defs.partitions import build_partitions
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.location import WarehouseLocation
from analytics_dagster.ingest.warehouse.table_stats import Profile, TableStats

_EVALUATIONS_LOOKED_AT = 25
"""Runs of a check among which the last one that ended is looked for."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A table that is checked, and what is known around it.

    Attributes:
        resource: What the table is of.
        profile: What it holds.
        tables: The warehouse.
        place: Where that is.
        settings: As configured.
        instance: What Dagster remembers.
        now: When it is checked.
    """

    resource: Resource
    profile: Profile
    tables: TableStats
    place: WarehouseLocation
    settings: Settings
    instance: dg.DagsterInstance
    now: datetime

    @property
    def recently(self) -> datetime:
        """A day before the table's newest row was read: so the last load counts, however long ago it was."""
        return min(self.profile.newest_read or self.now, self.now) - verdicts.RECENT

    @property
    def identity(self) -> dict[str, str]:
        """What tells this table from one of the same name elsewhere, as loads and checks put it in their metadata."""
        return {
            "dagster/table_name": self.place.qualified(self.resource.name),
            "source": self.settings.source_address,
        }

    def is_of(self, metadata: Mapping[str, dg.MetadataValue[Any]]) -> bool:
        """Return whether an event is about this table, and not about one of the same name elsewhere."""
        return all(name in metadata and metadata[name].value == value for name, value in self.identity.items())


@dataclass(frozen=True, kw_only=True)
class Check:
    """A kind of check.

    Attributes:
        name: Its name on an asset; `{noun}` in it stands for what the resource refers to.
        description: What it says.
        judge: The verdict on a table.
        applies: Whether a resource has what it needs.
        unloaded: The verdict on a table that is not there.
    """

    name: str
    description: str
    judge: Callable[[Subject], Verdict]
    applies: Callable[[Resource, Settings], bool] = lambda *_: True
    unloaded: Callable[[Resource], Verdict] = lambda _: NOT_LOADED_YET

    def key(self, resource: Resource) -> dg.AssetCheckKey:
        """Return the check's key on a resource's asset."""
        noun = resource.references.noun if resource.references else ""
        return dg.AssetCheckKey(asset_key(resource), self.name.format(noun=noun))


# -- from the warehouse to a verdict --------------------------------------------------------------------------


def _freshness(subject: Subject) -> Verdict:
    resource, newest_row = subject.resource, subject.profile.newest_row
    freshest = None
    if resource.incremental:
        if windows := subject.tables.windows(resource):
            since = verdicts.fresh_since(resource.freshness, start_date=subject.settings.start_date, now=subject.now)
            freshest = verdicts.freshest_of_windows(windows, since, newest_row)
    elif loaded_at := _last_load(subject):
        freshest = Freshest(through=loaded_at, newest_row=newest_row)
    if freshest is None:
        return verdicts.never_loaded(resource.freshness)
    return verdicts.freshness(resource.freshness, freshest, now=subject.now)


def _last_load(subject: Subject) -> datetime | None:
    """When a table that is read whole was loaded last.

    Every load writes its rows anew, so that the newest `read_at` tells, and goes with the table. Only a load that
    brings no row leaves no such trace (items_metrics, while no item is active): of such a one, into this very table,
    Dagster's materialisation tells. Of others it does not count: it would outlive the rows.
    """
    moments = [subject.profile.newest_read] if subject.profile.newest_read else []
    event = subject.instance.get_latest_materialization_event(asset_key(subject.resource))
    if event and event.asset_materialization:
        metadata = event.asset_materialization.metadata
        if subject.is_of(metadata) and metadata["rows_loaded"].value == 0:
            moments.append(datetime.fromtimestamp(event.timestamp, UTC))
    return max(moments, default=None)


def _complete_history(subject: Subject) -> Verdict:
    return verdicts.complete_history(
        subject.tables.windows(subject.resource),
        build_partitions(subject.settings),
        asset=asset_key(subject.resource),
        grace=subject.resource.freshness.fail_after,
        now=subject.now,
    )


def _primary_key(subject: Subject) -> Verdict:
    repeated = subject.tables.repeated_keys(subject.resource)
    return verdicts.primary_key(subject.resource, subject.profile, repeated)


def _unknown_fields(subject: Subject) -> Verdict:
    found = subject.tables.unknown_fields(subject.resource, since=subject.recently)
    return verdicts.unknown_fields(found, since=subject.recently)


def _rejected_rows(subject: Subject) -> Verdict:
    reasons = subject.tables.rejected(subject.resource, since=subject.recently)
    return verdicts.rejected_rows(reasons, since=subject.recently)


def _row_count(subject: Subject) -> Verdict:
    return verdicts.row_count(subject.resource, subject.profile.rows, _rows_before(subject))


def _rows_before(subject: Subject) -> int | None:
    """Rows that the last evaluation of the check found in this very table."""
    key = ROW_COUNT.key(subject.resource)
    # The instance's own method returns the newest record only, which is this run's, still planned; one of a run that
    # was killed stays so.
    records = subject.instance.event_log_storage.get_asset_check_execution_history(key, limit=_EVALUATIONS_LOOKED_AT)
    for record in records:
        evaluation = record.event and record.event.asset_check_evaluation
        if evaluation and subject.is_of(evaluation.metadata) and "rows" in evaluation.metadata:
            rows = evaluation.metadata["rows"].value
            assert isinstance(rows, int)
            return rows
    return None


def _references(subject: Subject) -> Verdict:
    reference, newest = subject.resource.references, subject.profile.newest_row
    assert reference
    before = min(newest or subject.now, subject.now) - reference.tolerated
    unmatched = subject.tables.unmatched(subject.resource, before=before)
    return verdicts.references(reference, subject.profile, unmatched, before=before)


# -- the checks -----------------------------------------------------------------------------------------------


ROW_COUNT = Check(
    name="row_count",
    description="The table has no fewer rows than at the last check.",
    judge=_row_count,
)

CHECKS = (
    Check(
        name="freshness",
        description="The data is there up to now, within the limits of the catalog.",
        judge=_freshness,
        unloaded=lambda resource: verdicts.never_loaded(resource.freshness),
    ),
    Check(
        name="complete_history",
        description="Every day since start_date is loaded.",
        judge=_complete_history,
        applies=lambda resource, _: resource.incremental,
    ),
    Check(
        name="primary_key",
        description="The primary key is unique, and never null.",
        judge=_primary_key,
    ),
    Check(
        name="not_null",
        description="Columns that are declared to have a value have one.",
        judge=lambda subject: verdicts.not_null(subject.profile),
    ),
    Check(
        name="unknown_fields",
        description="The service sends no field that the catalog does not know.",
        judge=_unknown_fields,
    ),
    Check(
        name="rejected_rows",
        description="No row was set aside because it does not fit its columns.",
        judge=_rejected_rows,
    ),
    ROW_COUNT,
    Check(
        name="{noun}_exists",
        description="What a row refers to is there, but for the youngest rows.",
        judge=_references,
        applies=lambda resource, settings: (
            resource.references is not None and resource.references.resource not in settings.disabled
        ),
    ),
)
