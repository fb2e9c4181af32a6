"""Counts of occurrences around deploys and in the days before them, as the warehouse returns them. Pure.

    around = CountsAround(rows_of_occurrences_around_deploys)
    history = History(rows_of_ten_minute_counts)
    around.spells(deploy.id, range(-12, 0))

Spells are ten minutes long and numbered from the finish of a deploy: -12 to -1 before it, 0 to 5 after it. The history
is counted in ten minutes of the clock instead, once for all deploys of an environment.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from analytics_dagster.insights.covered import Covered
from analytics_dagster.insights.deploys import Environment
from analytics_dagster.insights.verdicts import SPELLS_BEFORE

TEN_MINUTES = timedelta(minutes=10)
BLOCK = TEN_MINUTES * SPELLS_BEFORE
"""Length of the time before a deploy, and of a block of history."""

HISTORY = timedelta(days=7)
"""Time before the two hours before a deploy from which the dispersion is estimated."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CountsAround:
    """Occurrences by deploy and spell.

    Args:
        rows: Deploy, spell, item if it was first seen since the deploy began, and number of occurrences.
    """

    def __init__(self, rows: Iterable[tuple[int, int, int | None, int]]) -> None:
        self._all: dict[int, dict[int, int]] = {}
        self._new_items: dict[int, dict[int, dict[int, int]]] = {}
        for deploy, spell, new_item, occurrences in rows:
            counts = self._all.setdefault(deploy, {})
            counts[spell] = counts.get(spell, 0) + occurrences
            if new_item is not None:
                self._new_items.setdefault(deploy, {}).setdefault(new_item, {})[spell] = occurrences

    def spells(self, deploy: int, spells: Iterable[int]) -> list[int]:
        """Return the occurrences in spells around a deploy."""
        counts = self._all.get(deploy, {})
        return [counts.get(spell, 0) for spell in spells]

    def new_items(self, deploy: int, spells: Sequence[int]) -> list[list[int]]:
        """Return, for each item that was first seen since a deploy began, its occurrences in spells."""
        return [[counts.get(spell, 0) for spell in spells] for counts in self._new_items.get(deploy, {}).values()]


class History:
    """Occurrences by environment and ten minutes of the clock.

    Args:
        rows: Project, environment in lower case, ten minutes as a number from the epoch, and number of occurrences.
    """

    def __init__(self, rows: Iterable[tuple[int | None, str, int, int]]) -> None:
        self._counts: dict[Environment, Counter[int]] = {}
        for project, environment, number, occurrences in rows:
            self._counts.setdefault((project, environment), Counter())[number] += occurrences

    def count(self, place: Environment, ten_minutes: int) -> int:
        """Return the occurrences in ten minutes of the clock, numbered from the epoch."""
        return self._counts.get(place, Counter())[ten_minutes]

    def total(self, place: Environment) -> int:
        """Return all occurrences of an environment."""
        return self._counts.get(place, Counter()).total()

    def blocks(self, place: Environment, before: datetime, covered: Covered) -> list[list[int]]:
        """Return the two-hour blocks of ten-minute counts before a time that are covered, of up to seven days."""
        counts = self._counts.get(place, Counter())
        return [
            [counts[number] for number in range(first, first + SPELLS_BEFORE)]
            for first in _covered_blocks(before, covered)
        ]


def _covered_blocks(before: datetime, covered: Covered) -> Iterator[int]:
    """Yield the number of the first ten minutes of each covered block before a time, latest first."""
    last = (before - _EPOCH) // TEN_MINUTES
    end = _EPOCH + last * TEN_MINUTES
    all_covered = covered.contains(end - HISTORY, end)
    for block in range(1, HISTORY // BLOCK + 1):
        start = end - block * BLOCK
        if all_covered or covered.contains(start, start + BLOCK):
            yield last - block * SPELLS_BEFORE
