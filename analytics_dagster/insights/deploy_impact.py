"""The rows of the table `deploy_impact`: the verdict on each deploy that finished, and its figures. Pure.

    rows = build_rows(deploys, relations, around, history, covered, now=now)

`refresh.py` chooses the deploys and gathers the arguments; `verdicts.py` judges counts.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from analytics_dagster.insights.counts import BLOCK, TEN_MINUTES, CountsAround, History
from analytics_dagster.insights.covered import Covered
from analytics_dagster.insights.deploys import HOUR_AFTER, Deploy, Relations
from analytics_dagster.insights.verdicts import (
    SPELLS_AFTER,
    SPELLS_BEFORE,
    DeployCounts,
    Judgement,
    Verdict,
    judge_all,
    undecided,
)

Row = dict[str, Any]
"""Values of a row by column."""

_LOOKS = {20: 2, 60: SPELLS_AFTER}
"""Minutes after a finish whose occurrences have columns, and how many spells they are."""

_JUDGED_AT_A_TIME = 500
"""Deploys whose histories are in memory at once."""

_NOT_LOADED = undecided(Verdict.NOT_LOADED)

_FROM_DEPLOY = (
    "id", "project_id", "environment", "revision", "status", "user_id", "local_username", "start_time", "finish_time",
)  # fmt: skip
"""Columns that are the deploy's own."""

RELATED = (*_FROM_DEPLOY, "is_rollback", "overlapping_deploys")
"""Columns that do not depend on occurrences."""

_WINDOWS = ("project_id", "environment", "finish_time")
"""Columns that say where and when the occurrences of a verdict are."""


@dataclass(frozen=True, kw_only=True)
class CoveredSpells:
    """The part of the time around a deploy whose occurrences are loaded.

    Attributes:
        before: Whether the two hours before are.
        after: Number of complete spells after the finish, up to six, that are loaded without a gap.
        gap: Whether a later time is loaded although the hour after the finish is not.
    """

    before: bool
    after: int
    gap: bool

    @classmethod
    def around(cls, finish: datetime, covered: Covered) -> "CoveredSpells":
        """Return the spells around a finish that are covered."""
        through = covered.through(finish)
        return cls(
            before=covered.contains(finish - BLOCK, finish),
            after=min((through - finish) // TEN_MINUTES, SPELLS_AFTER),
            gap=through < finish + HOUR_AFTER and covered.end > through,
        )

    @property
    def judged(self) -> bool:
        """Whether the deploy can be judged, or is too early to be: nothing that was due is missing."""
        return self.before and not self.gap


def relate_row(deploy: Deploy, relations: Relations) -> Row:
    """Return the columns of a row that do not depend on occurrences."""
    return {name: getattr(deploy, name) for name in _FROM_DEPLOY} | {
        "is_rollback": relations.is_rollback,
        "overlapping_deploys": json.dumps(list(relations.overlapping)),
    }


def build_rows(
    deploys: Sequence[Deploy],
    relations: Mapping[int, Relations],
    around: CountsAround,
    history: History,
    covered: Mapping[int | None, Covered],
    *,
    now: datetime,
) -> list[Row]:
    """Return the rows of deploys that finished.

    Args:
        deploys: The deploys.
        relations: Their relations to the others, by id.
        around: Occurrences around them.
        history: Occurrences of the days before them.
        covered: The covered times of the occurrences, by project.
        now: The time of the computation, UTC.
    """
    rows: list[Row] = []
    for start in range(0, len(deploys), _JUDGED_AT_A_TIME):
        batch = deploys[start : start + _JUDGED_AT_A_TIME]
        spells = {deploy.id: CoveredSpells.around(_finish(deploy), covered[deploy.project_id]) for deploy in batch}
        judged = [deploy for deploy in batch if spells[deploy.id].judged]
        judgements = dict(
            zip(
                (deploy.id for deploy in judged),
                judge_all(
                    [
                        _count(deploy, spells[deploy.id], around, history, covered[deploy.project_id])
                        for deploy in judged
                    ]
                ),
                strict=True,
            )
        )
        rows += [
            {
                **relate_row(deploy, relations[deploy.id]),
                **_figures(deploy, spells[deploy.id], around),
                **_judgement_columns(judgements.get(deploy.id, _NOT_LOADED)),
                "computed_at": now,
            }
            for deploy in batch
        ]
    return rows


def keep_settled(row: Row, stored: Row | None) -> Row:
    """Return a row, or the stored one if that has settled and its occurrences are not loaded any more.

    A verdict outlives the occurrences that it was made from: `keep_days` may delete them.
    """
    if row["verdict"] != Verdict.NOT_LOADED or stored is None or stored["provisional"]:
        return row
    if any(row[name] != stored[name] for name in _WINDOWS):
        return row
    return {**stored, **{name: row[name] for name in (*RELATED, "computed_at")}}


def is_open(row: Row) -> bool:
    """Return whether the hour after a deploy was not loaded to its end, but for gaps, when its row was computed."""
    return bool(row["provisional"]) and row["verdict"] != Verdict.NOT_LOADED


def is_changed(row: Row, stored: Row | None) -> bool:
    """Return whether a row says something else than the stored one, but for the time of its computation."""
    return stored is None or any(stored[name] != value for name, value in row.items() if name != "computed_at")


def _finish(deploy: Deploy) -> datetime:
    assert deploy.finish_time, "only deploys that finished have rows"
    return deploy.finish_time


def _count(
    deploy: Deploy, spells: CoveredSpells, around: CountsAround, history: History, covered: Covered
) -> DeployCounts:
    after = range(spells.after)
    return DeployCounts(
        before=around.spells(deploy.id, range(-SPELLS_BEFORE, 0)),
        after=around.spells(deploy.id, after),
        history=history.blocks(deploy.place, _finish(deploy) - BLOCK, covered),
        new_items=around.new_items(deploy.id, after),
    )


def _figures(deploy: Deploy, spells: CoveredSpells, around: CountsAround) -> Row:
    """Return the numbers of occurrences before and after a deploy; null for times that are not loaded or over yet."""
    before = sum(around.spells(deploy.id, range(-SPELLS_BEFORE, 0))) if spells.before else None
    figures: Row = {"occurrences_before": before, "per_minute_before": _per_minute(before, BLOCK.seconds // 60)}
    for minutes, needed in _LOOKS.items():
        after = sum(around.spells(deploy.id, range(needed))) if spells.after >= needed else None
        figures[f"occurrences_after_{minutes}"] = after
        figures[f"per_minute_after_{minutes}"] = _per_minute(after, minutes)
    return figures


def _per_minute(occurrences: int | None, minutes: int) -> float | None:
    return None if occurrences is None else occurrences / minutes


def _judgement_columns(judgement: Judgement) -> Row:
    columns = {name: getattr(judgement, name) for name in Judgement.__dataclass_fields__}
    return {**columns, "verdict": judgement.verdict.value}


def finished(deploys: Iterable[Deploy]) -> list[Deploy]:
    """Return the deploys that finished."""
    return [deploy for deploy in deploys if deploy.finish_time]
