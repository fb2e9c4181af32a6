"""Whether a table has news: what its newest load announced, against what was acted on last. Pure.

Only totals are compared, never single loads: so it does not matter how many loads brought the news, in which order,
or whether the one that did was killed before it could say so. The sensor around it is in `sensors.py`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

_ROWS = "dagster/row_count"


@dataclass(frozen=True, kw_only=True)
class Watermark:
    """The figures of a table that make a difference.

    Attributes:
        rows: Rows in the table.
        settled: Those that will not change any more.
        newest: Highest key; None for an empty table.
    """

    rows: int
    settled: int
    newest: int | str | None

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, Any]) -> Self | None:
        """Return what a materialisation's metadata says; None if it does not say, as one that a person reported."""
        rows = metadata.get(_ROWS)
        if rows is None or (rows and "newest_key" not in metadata):
            return None
        return cls(rows=rows, settled=metadata.get("settled_rows", 0), newest=metadata.get("newest_key"))

    @classmethod
    def of_cursor(cls, cursor: str | None) -> Self | None:
        """Return what a sensor's cursor says; None for one that is lost."""
        try:
            return cls(**json.loads(cursor or ""))
        except (TypeError, ValueError):
            return None

    @property
    def cursor(self) -> str:
        """The reading as a sensor's cursor."""
        return json.dumps({"rows": self.rows, "settled": self.settled, "newest": self.newest})

    def __str__(self) -> str:
        return f"{self.rows} in the table, {self.settled} settled, newest {self.newest}"


@dataclass(frozen=True, kw_only=True)
class WatermarkChange:
    """What is new in a table.

    Attributes:
        key: Name of the step from what was acted on last to what is there now.
        rows: New rows; 0 where only known ones have settled.
        settled: Rows that have settled.
    """

    key: str
    rows: int
    settled: int


def compare_watermarks(now: Watermark, acted_on: Watermark | None) -> WatermarkChange | None:
    """Return what is new in a table; None if nothing is, or if it has no rows."""
    if now == acted_on or not now.rows:
        return None
    before = acted_on or Watermark(rows=0, settled=0, newest=None)
    return WatermarkChange(
        # Both ends: a table that was lost and loaded again comes back to figures it had before.
        key=f"{before.rows}-{before.settled}-{before.newest}..{now.rows}-{now.settled}-{now.newest}",
        # Fewer rows than before are a new table, and all of it news.
        rows=now.rows - before.rows if now.rows >= before.rows else now.rows,
        settled=now.settled - before.settled if now.settled >= before.settled else now.settled,
    )
