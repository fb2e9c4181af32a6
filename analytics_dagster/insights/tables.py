"""The tables of the insights: their columns, types and meanings, in the terms of the catalog.

They are no resources of the service, so the catalog does not list them: `deploy_impact.py` and `deploy_items.py`
compute their rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from analytics_dagster.catalog import Column, ColumnType

_bigint = partial(Column, type=ColumnType.BIGINT)
_bool = partial(Column, type=ColumnType.BOOL)
_double = partial(Column, type=ColumnType.DOUBLE)
_json = partial(Column, type=ColumnType.JSON)
_text = partial(Column, type=ColumnType.TEXT)
_timestamp = partial(Column, type=ColumnType.TIMESTAMP)


@dataclass(frozen=True, kw_only=True)
class InsightTable:
    """A table of the insights.

    Attributes:
        name: Name of the table, and last part of the asset key.
        description: Description of a row; shown in the UI.
        primary_key: Columns of the primary key.
        columns: The columns, in order.
    """

    name: str
    description: str
    primary_key: tuple[str, ...]
    columns: Sequence[Column]


DEPLOY_IMPACT = InsightTable(
    name="deploy_impact",
    description="The verdict on a deploy that finished: occurrences in its environment after it against those before. "
    "It counts errors. There is no denominator, so it does not know error rates: twice the traffic looks like a bad "
    "deploy. Environments are compared without case, and never across projects.",
    primary_key=("id",),
    columns=(
        _bigint(name="id", description="ID of the deploy."),
        _bigint(name="project_id", description="The project that was deployed."),
        _text(name="environment", description="The environment that was deployed to."),
        _text(
            name="verdict",
            description="worse, better, unchanged, too few (a twofold rise could have been missed), too early, or not "
            "loaded (occurrences around the deploy are not all loaded).",
        ),
        _bool(
            name="provisional",
            description="Whether the verdict can still change as time passes: 20 minutes after the finish it is "
            "provisional, 60 minutes after it stays, unless late occurrences correct it.",
        ),
        _bigint(name="minutes", description="Minutes after the finish that the verdict looks at: 0, 20 or 60."),
        _text(name="revision", description="The revision that was deployed."),
        _text(name="status", description="succeeded, failed or timed_out."),
        _bigint(name="user_id", nullable=True, description="The user who deployed."),
        _text(
            name="local_username",
            nullable=True,
            personal=True,
            description="The account that ran it on the deploying host.",
        ),
        _timestamp(name="start_time", description="The time of its start."),
        _timestamp(name="finish_time", description="The time of its end, which divides before from after."),
        _bool(
            name="is_rollback",
            description="Whether it succeeded with a revision that was live before the one that it replaced.",
        ),
        _json(
            name="overlapping_deploys",
            description="IDs of the other deploys of the environment that began before the hour after this one ended, "
            "and whose own hour ended after this one began: the verdict may be on them as well.",
        ),
        _bigint(
            name="occurrences_before", nullable=True, description="Occurrences in the 120 minutes before the finish."
        ),
        _bigint(
            name="occurrences_after_20", nullable=True, description="Occurrences in the 20 minutes after the finish."
        ),
        _bigint(
            name="occurrences_after_60", nullable=True, description="Occurrences in the 60 minutes after the finish."
        ),
        _double(name="per_minute_before", nullable=True, description="occurrences_before per minute."),
        _double(name="per_minute_after_20", nullable=True, description="occurrences_after_20 per minute."),
        _double(name="per_minute_after_60", nullable=True, description="occurrences_after_60 per minute."),
        _double(
            name="dispersion",
            nullable=True,
            description="Variance per mean of the ten-minute counts of up to seven days before, at least 1: how much "
            "occurrences come in bursts.",
        ),
        _double(name="ratio", nullable=True, description="Rate after per rate before, over the verdict's minutes."),
        _double(name="ratio_low", nullable=True, description="Lower end of its 95 % confidence interval."),
        _double(name="ratio_high", nullable=True, description="Upper end of its 95 % confidence interval."),
        _double(
            name="smallest_ratio",
            nullable=True,
            description="The smallest ratio that would have been found with a probability of 80 %.",
        ),
        _double(name="p_value", nullable=True, description="Two-sided p-value of equal rates."),
        _timestamp(name="computed_at", description="The time when the row was computed."),
    ),
)

DEPLOY_ITEMS = InsightTable(
    name="deploy_items",
    description="An item that a deploy is suspected of: first seen, or active again after it was resolved, in the "
    "deploy's environment after it began and before the next one did.",
    primary_key=("deploy_id", "item_id"),
    columns=(
        _bigint(name="deploy_id", description="The deploy: deploys.id."),
        _bigint(name="item_id", description="The item: items.id."),
        _bigint(name="project_id", description="The project of both."),
        _text(name="environment", description="The environment of the item."),
        _text(name="reason", description="first seen, or active again."),
        _timestamp(name="since", description="The time when it was first seen, or became active again."),
        _bigint(name="counter", description="The item's number within its project."),
        _text(name="title", description="The title of the item."),
        _text(name="level", description="debug, info, warning, error or critical."),
        _bigint(
            name="occurrences",
            description="Its loaded occurrences in the environment since then, for up to seven days.",
        ),
        _timestamp(name="computed_at", description="The time when the row was computed."),
    ),
)

INSIGHT_TABLES = (DEPLOY_IMPACT, DEPLOY_ITEMS)
"""Every table of the insights."""
