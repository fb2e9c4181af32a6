"""Watermarks of tables: the figures of the latest load, compared with those that a sensor acted on last. Pure.

Totals are compared instead of single loads, so that neither the number nor the order of the loads matters, nor
whether the run that loaded the rows was killed before it recorded its materialization.

    latest = Watermark.from_metadata(metadata)
    change = compare_watermarks(latest, acted_on=Watermark.from_cursor(context.cursor))

`sensors.py` keeps the watermark as its cursor: https://docs.dagster.io/guides/automate/sensors
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

_ROWS = "dagster/row_count"


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """The figures of a table by which new and newly settled rows are found.

    Attributes:
        rows: Rows in the table.
        settled: Rows that will not change any more.
        newest: Highest key; None for an empty table.
        source: The source of the latest load; None in a cursor of an earlier version.
    """

    rows: int
    settled: int
    newest: int | str | None
    source: str | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Self | None:
        """Return the watermark in a materialization's metadata; None if no load recorded it."""
        rows = metadata.get(_ROWS)
        if rows is None or (rows and "newest_key" not in metadata):
            return None
        return cls(
            rows=rows,
            settled=metadata.get("settled_rows", 0),
            newest=metadata.get("newest_key"),
            source=metadata.get("source"),
        )

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Self | None:
        """Return the watermark in a sensor's cursor; None if there is none or it cannot be parsed."""
        try:
            return cls(**json.loads(cursor or ""))
        except (TypeError, ValueError):
            return None

    @property
    def cursor(self) -> str:
        """The watermark as a sensor's cursor."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, kw_only=True)
class WatermarkChange:
    """The difference between two watermarks of a table.

    Attributes:
        key: Both watermarks as text: the run key of the run that acts on the change.
        rows: New rows; 0 if known rows settled and none came.
        settled: Newly settled rows.
        newest: Whether the newest row is new. It is not after a backfill of older rows, or if a known row settled.
    """

    key: str
    rows: int
    settled: int
    newest: bool


def compare_watermarks(latest: Watermark, acted_on: Watermark | None) -> WatermarkChange | None:
    """Compare the latest watermark of a table with the one that a sensor acted on last.

    Args:
        latest: The watermark of the latest load.
        acted_on: The sensor's cursor; None before the first run, or if the cursor was lost.

    Returns:
        The change; None if there is none, or if the table is empty.
    """
    if latest == acted_on or not latest.rows:
        return None
    nothing = Watermark(rows=0, settled=0, newest=None)
    before = acted_on or nothing
    # Both ends, because a table that was lost and loaded again returns to figures it had before.
    key = f"{_text(before)}..{_text(latest)}"
    # Fewer rows than before mean a new table, all of whose rows are new; so are those of another source.
    if latest.rows < before.rows or (before.source and before.source != latest.source):
        before = nothing
    return WatermarkChange(
        key=key,
        rows=latest.rows - before.rows,
        settled=latest.settled - before.settled if latest.settled >= before.settled else latest.settled,
        newest=latest.newest != before.newest,
    )


def _text(watermark: Watermark) -> str:
    values = (watermark.rows, watermark.settled, watermark.newest, watermark.source)
    return "-".join(str(value) for value in values if value is not None)
