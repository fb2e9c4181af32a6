"""Changes that tests make to the rows of a resource: rows planted, removed and updated, applied to the world's rows.

The order of each list and the keys of its rows are here too, because a planted row takes its place in the list
whatever it holds. Rows leave as JSON text, because the text of a planted row may be one that no encoder writes.
"""

import json
import math
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from analytics_dagster.sandbox.messages import to_json
from analytics_dagster.sandbox.payload import Row

# The field that orders each list, and whether the greatest (newest) value comes first.
_ORDER = {
    "items": ("last_occurrence_timestamp", True),
    "occurrences": ("id", True),
    "items_metrics": ("item_counter", False),
    "deploys": ("id", True),
    "environments": ("id", False),
    "rql_jobs": ("id", True),
    "top_active_items": ("occurrences", True),
    "projects": ("id", False),
    "teams": ("id", False),
    "users": ("id", False),
}
RESOURCES = tuple(_ORDER)

# Sorts entries of a list by their first field: the rank of a served row, the id of an occurrence.
BY_RANK = itemgetter(0)


class ServedRow(NamedTuple):
    """A row as it is served.

    Attributes:
        rank: Place in the list: the greatest comes first.
        key: Key of the row, None if it has none.
        text: JSON text of the row.
    """

    rank: float
    key: object
    text: str


def rank_of(value: object, *, descending: bool = True) -> float:
    """Return the rank of a row by the value that orders its list; `descending`: the greatest value comes first."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return math.inf  # the row has no place in the order: it goes to the head of the list
    return value if descending else -value


def row_key(resource: str, row: object) -> object:
    """Return the key of a row, None if a planted row has none."""
    if resource == "top_active_items" and isinstance(row, dict):
        row = row.get("item")
    if not isinstance(row, dict):
        return None
    return row.get("item_counter" if resource == "items_metrics" else "id")


class Changes:
    """The changes to the rows of one resource.

    Attributes:
        planted: Added rows.
        removed: Keys of removed rows.
        updated: Changed fields, by the key of the row.
    """

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self.planted: list[ServedRow] = []
        self.removed: set[object] = set()
        self.updated: dict[object, Row] = {}

    def apply(self, rows: Iterable[Row]) -> list[ServedRow]:
        """Return the planted rows, followed by the given rows with these changes. The result is not sorted."""
        kept = [row for row in rows if row_key(self._resource, row) not in self.removed]
        return [*self.planted, *(self._serve(self.apply_updates(row)) for row in kept)]

    def apply_updates(self, row: Row) -> Row:
        """Return the row with its changed fields."""
        return row | self.updated.get(row_key(self._resource, row), {})

    def plant(self, row: object) -> ServedRow:
        """Add a row: any value, or JSON text, which is served character by character."""
        planted = self._serve(json.loads(row), row) if isinstance(row, str) else self._serve(row)
        self.planted.append(planted)
        return planted

    def remove(self, key: object) -> None:
        """Remove a row for good."""
        self.planted = [planted for planted in self.planted if planted.key != key]
        self.removed.add(key)

    def update(self, key: object, fields: Row) -> None:
        """Change fields of a row. Later events in the world do not change them back."""
        for index, planted in enumerate(self.planted):
            if planted.key == key:
                self.planted[index] = self._serve(json.loads(planted.text) | fields)
        self.updated[key] = self.updated.get(key, {}) | fields

    def _serve(self, row: object, text: str | None = None) -> ServedRow:
        name, descending = _ORDER[self._resource]
        value = row.get(name) if isinstance(row, dict) else None
        rank = rank_of(value, descending=descending)
        return ServedRow(rank, row_key(self._resource, row), to_json(row) if text is None else text)
