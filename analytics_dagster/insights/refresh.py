"""Refreshes the tables of the insights: computes the rows whose inputs changed, and writes those that differ.

    with open_insights(settings) as tables:
        report = refresh(tables, now=datetime.now(UTC))

A verdict is a function of the deploys, the items, the occurrences around the deploy and of the week before, and their
coverage. Deploys and items are compared with what is stored. Occurrences are too many for that: every load records the
windows that it read, so those that were recorded since the last computation tell from when on occurrences may differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from analytics_dagster.ingest.windows import BEGINNING, END
from analytics_dagster.insights.counts import BLOCK, HISTORY, TEN_MINUTES
from analytics_dagster.insights.deploy_impact import (
    Row,
    build_rows,
    finished,
    is_changed,
    is_open,
    keep_settled,
    relate_row,
)
from analytics_dagster.insights.deploys import HOUR_AFTER, Deploy, relate
from analytics_dagster.insights.inputs import Inputs, read_inputs
from analytics_dagster.insights.tables import DEPLOY_IMPACT, DEPLOY_ITEMS
from analytics_dagster.insights.warehouse import InsightTables

_ITEMS_COUNTED = timedelta(days=7)
"""Time for which the occurrences of a suspected item are counted: as in `sql/changed_suspects.sql`."""


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """The result of the refresh of a table.

    Attributes:
        rows: Rows in the table.
        computed: Rows that were computed.
        changed: Rows that are new, gone, or say something else than before.
    """

    rows: int = 0
    computed: int = 0
    changed: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of a refresh.

    Attributes:
        missing: Tables that do not exist yet; nothing is computed without them.
        impact: The result for `deploy_impact`.
        items: The result for `deploy_items`.
    """

    missing: Sequence[str] = ()
    impact: Refreshed = Refreshed()
    items: Refreshed = Refreshed()


def refresh(tables: InsightTables, *, now: datetime, recompute: bool = False) -> Report:
    """Refresh both tables, each in one transaction.

    Args:
        tables: The tables, open for writing.
        now: The time, UTC.
        recompute: Whether every row is computed again, as after a change of the rule.
    """
    if missing := tables.missing_sources():
        return Report(missing=missing)
    inputs = read_inputs(tables)
    suspects = _find_changed_suspects(tables, inputs, recompute=recompute)
    # Verdicts first: if the process dies between the two tables, the same suspects are found again.
    new_suspects = {
        row["deploy_id"] or row["stored_deploy_id"] for row in suspects if row["since"] != row["stored_since"]
    }
    impact = _refresh_impact(tables, inputs, new_suspects, now=now, recompute=recompute)
    items = _write_suspects(tables, suspects, now=now)
    return Report(impact=impact, items=items)


def _refresh_impact(
    tables: InsightTables, inputs: Inputs, new_suspects: set[int], *, now: datetime, recompute: bool
) -> Refreshed:
    """Compute the verdicts whose inputs changed, and write them."""
    stored = tables.impacts()
    relations = relate(inputs.deploys)
    changed_from = inputs.changed_from(tables, None if recompute else tables.last_computed(DEPLOY_IMPACT))

    def is_stale(deploy: Deploy) -> bool:
        assert deploy.finish_time
        row, changed = stored.get(deploy.id), changed_from[deploy.project_id]
        return (
            deploy.id in new_suspects
            or deploy.finish_time + HOUR_AFTER > changed
            # A later load can leave a gap behind it.
            or (row is not None and is_open(row) and changed < END)
            or is_changed(relate_row(deploy, relations[deploy.id]), row)
        )

    known = finished(inputs.deploys)
    stale = [deploy for deploy in known if is_stale(deploy)]
    gone = stored.keys() - {deploy.id for deploy in known}
    rows = _compute_impact(tables, inputs, stale, stored, now=now)
    if rows:
        # Rows that stay the same are written too: their new time of computation tells which loads were seen.
        tables.write(DEPLOY_IMPACT, rows)
    tables.delete(DEPLOY_IMPACT, [(key,) for key in gone])
    changed = [row for row in rows if is_changed(row, stored.get(row["id"]))]
    return Refreshed(rows=len(known), computed=len(rows), changed=len(changed) + len(gone))


def _compute_impact(
    tables: InsightTables, inputs: Inputs, stale: Sequence[Deploy], stored: Mapping[int, Row], *, now: datetime
) -> list[Row]:
    if not stale:
        return []
    since = min(deploy.finish_time for deploy in stale if deploy.finish_time)
    earliest = since - BLOCK - HISTORY - TEN_MINUTES
    rows = build_rows(
        stale,
        relate(inputs.deploys),
        tables.counts_around(finished_since=since, only_project=inputs.only_project),
        tables.history(since=earliest, only_project=inputs.only_project),
        inputs.covered(tables, since=earliest, now=now),
        now=now,
    )
    return [keep_settled(row, stored.get(row["id"])) for row in rows]


def _find_changed_suspects(tables: InsightTables, inputs: Inputs, *, recompute: bool) -> list[Row]:
    """Return the rows of `deploy_items` to write or to delete."""
    changed_from = inputs.changed_from(tables, None if recompute else tables.last_computed(DEPLOY_ITEMS))
    earliest = min(changed_from.values(), default=END)
    earlier = max(earliest, BEGINNING + _ITEMS_COUNTED) - _ITEMS_COUNTED
    return tables.changed_suspects(counted_anew_since=earlier)


def _write_suspects(tables: InsightTables, suspects: Sequence[Row], *, now: datetime) -> Refreshed:
    """Write the rows of `deploy_items` that changed, and delete those that are gone."""
    rows = [row | {"computed_at": now} for row in suspects if row["item_id"] is not None]
    gone = [(row["stored_deploy_id"], row["stored_item_id"]) for row in suspects if row["item_id"] is None]
    if rows:
        tables.write(DEPLOY_ITEMS, rows)
    tables.delete(DEPLOY_ITEMS, gone)
    return Refreshed(rows=tables.row_count(DEPLOY_ITEMS), computed=len(rows), changed=len(suspects))
