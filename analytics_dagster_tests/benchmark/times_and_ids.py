"""Times and ids of a list's rows, from the oldest row to the newest. The same arguments give the same rows.

    times = spread_times("hourly", rows=24_000, newest=1_795_500_000, spacing=1.0)
    ids = assign_ids(times, by="time", spacing=1.0)

Ids have twelve digits and large gaps, because the service numbers the rows of all its projects together. They ascend
with the rows; `received_times` puts some of the times out of order.
"""

import random
from array import array
from collections.abc import Sequence
from typing import Literal, get_args

FIRST_ID = 200_000_000_000
IDS_PER_SECOND = 1_000
"""Ids that the service assigns in a second. A list must be shorter than 25 years: ids must keep their twelve digits."""

Spread = Literal["even", "hourly", "random"]
"""How rows are spread over time: evenly, in the first five minutes of each hour, or in bursts of random length."""

SPREADS: tuple[Spread, ...] = get_args(Spread)

IdsBy = Literal["time", "row"]
"""Whether ids grow with time, as in a busy service, or with each row, as in a service of a single project."""

IDS_BY: tuple[IdsBy, ...] = get_args(IdsBy)

_HOUR = 3_600
_LONGEST_BURST = 600
_SECONDS_IN_BURST = 0.05
"""Seconds between two rows of a random burst."""


def spread_times(spread: Spread, *, rows: int, newest: int, spacing: float) -> "array[float]":
    """Return the times of the rows in epoch seconds, ascending.

    Args:
        spread: How the rows are spread over time.
        rows: Number of rows.
        newest: Time of the newest row; the newest row of an hourly burst is older.
        spacing: Mean seconds between two rows.
    """
    even = array("d", (newest - spacing * place for place in range(rows - 1, -1, -1)))
    if spread == "hourly":
        return array("d", (time - time % _HOUR * 11 / 12 for time in even))
    if spread == "random":
        return _random_bursts(rows, newest, spacing)
    return even


def _random_bursts(rows: int, newest: int, spacing: float) -> "array[float]":
    """Return bursts of random length, each after a random pause: the mean pause keeps the mean spacing."""
    chance = random.Random(0)
    times: list[float] = []
    time = float(newest)
    while len(times) < rows:
        length = chance.randint(1, _LONGEST_BURST)
        times += [time - _SECONDS_IN_BURST * place for place in range(length)]
        time = times[-1] - chance.expovariate(1 / (length * spacing))
    return array("d", reversed(times[:rows]))


def assign_ids(times: Sequence[float], *, by: IdsBy, spacing: float) -> "array[int]":
    """Return the ids of rows with these times, ascending, with random gaps.

    Args:
        times: Times of the rows, ascending.
        by: Whether a gap is in proportion to the time between its rows, or is of the same mean everywhere.
        spacing: Mean seconds between two rows.
    """
    chance = random.Random(1)
    ids = array("q")
    newest, before = FIRST_ID, times[0]
    for time in times:
        seconds = time - before if by == "time" else spacing
        newest += 1 + int(IDS_PER_SECOND * seconds * chance.uniform(0.5, 1.5))
        ids.append(newest)
        before = time
    return ids


def received_times(times: Sequence[float]) -> "array[int]":
    """Return whole seconds, with one row in ten two seconds too early: lists are ordered by time approximately."""
    return array("q", (int(time) - 2 * (index % 10 == 0) for index, time in enumerate(times)))
