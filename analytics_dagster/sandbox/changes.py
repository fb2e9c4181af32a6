"""What tests changed about one resource: rows planted, removed and altered, over the world's own.

Here too: how a list is ordered and what identifies its rows, since a planted row must find its place in the
list whatever it holds. Rows leave as JSON text, for a planted one may be text that no encoder would write.
"""

import json
import math
from collections.abc import Iterable
from operator import itemgetter
from typing import NamedTuple

from analytics_dagster.sandbox.messages import to_json
from analytics_dagster.sandbox.payload import Row

# What each list is ordered by, and whether the greatest (newest) comes first.
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

# By what entries of a list start with: `rank` here, the id of an occurrence.
BY_RANK = itemgetter(0)


class Served(NamedTuple):
    """A row as it is served. `rank` places it: the greatest comes first."""

    rank: float
    key: object
    text: str


def key_of(resource: str, row: object) -> object:
    """What identifies a row, None where a planted row lacks it."""
    if resource == "top_active_items" and isinstance(row, dict):
        row = row.get("item")
    if not isinstance(row, dict):
        return None
    return row.get("item_counter" if resource == "items_metrics" else "id")


class Changes:
    """The changes to one resource."""

    def __init__(self, resource: str) -> None:
        """Begin without any."""
        self._resource = resource
        self.planted: list[Served] = []
        self.removed: set[object] = set()
        self.changed: dict[object, Row] = {}

    def served(self, row: object, text: str | None = None) -> Served:
        """The row in its place; one whose order field holds no number goes to the head of the list."""
        name, descending = _ORDER[self._resource]
        value = row.get(name) if isinstance(row, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            rank: float = math.inf
        else:
            rank = value if descending else -value
        return Served(rank, key_of(self._resource, row), to_json(row) if text is None else text)

    def altered(self, row: Row) -> Row:
        """The row with the fields that were updated."""
        return row | self.changed.get(key_of(self._resource, row), {})

    def over(self, rows: Iterable[Row]) -> list[Served]:
        """The world's rows with these changes, in no order but the planted ones first."""
        kept = [row for row in rows if key_of(self._resource, row) not in self.removed]
        return [*self.planted, *(self.served(self.altered(row)) for row in kept)]

    def plant(self, row: object) -> Served:
        """Add a row: any value, or the JSON text of one, which is then served letter by letter."""
        planted = self.served(json.loads(row), row) if isinstance(row, str) else self.served(row)
        self.planted.append(planted)
        return planted

    def remove(self, key: object) -> None:
        """Let a row vanish for good."""
        self.planted = [planted for planted in self.planted if planted.key != key]
        self.removed.add(key)

    def update(self, key: object, fields: Row) -> None:
        """Give a row other values. They stay, whatever happens in the world."""
        for index, planted in enumerate(self.planted):
            if planted.key == key:
                self.planted[index] = self.served(json.loads(planted.text) | fields)
        self.changed[key] = self.changed.get(key, {}) | fields
