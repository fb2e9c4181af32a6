"""A list in memory that is read by keys: it changes and misbehaves, and its replies come in any order."""

import bisect
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from analytics_dagster.ingest.keyset import KeyRequest, KeysetPlan
from analytics_dagster.ingest.lists import Bounds

NEWEST = 1_790_000_000
ROW_BYTES = 1_300
MOST_REQUESTS = 3_000
"""More than any list here takes: a plan that requests more does not end."""

Row = tuple[int, int]


def build_rows(count: int, *, seed: int = 0, gap: int = 900, spacing: int = 9, bursts: bool = False) -> list[Row]:
    """Return rows, key and time, newest first; times are up to three seconds out of the order of keys."""
    chance = Random(seed)
    rows = []
    key, time = 176_000_000_000, NEWEST - count * spacing
    for _ in range(count):
        key += chance.randint(1, 2 * gap)
        time += spacing if not bursts else (spacing * 50 if chance.random() < 0.02 else 0)
        rows.append((key, time - chance.randint(0, 3)))
    return rows[::-1]


@dataclass
class KeyedList:
    """A list of the service.

    Attributes:
        rows: Rows, newest first.
        largest_limit: A larger limit is silently cut to this one.
        last_id: Whether a key has an effect.
        is_down: Whether the service lists nothing at a time.
        happen: Called before each reply.
    """

    rows: list[Row]
    largest_limit: int = 5_000
    last_id: Literal["obeyed", "ignored", "seen ids only", "sometimes"] = "obeyed"
    is_down: Callable[[float], bool] = lambda _: False
    happen: Callable[["KeyedList"], None] = lambda _: None
    requests: list[KeyRequest] = field(default_factory=list)

    def reply(self, request: KeyRequest, now: float) -> list[Row]:
        self.happen(self)
        self.requests.append(request)
        ignored = self.last_id == "ignored" or (self.last_id == "sometimes" and len(self.requests) % 4 == 0)
        below = None if ignored else request.below
        limit = min(request.limit or 20, self.largest_limit)
        if self.is_down(now):
            return []
        if below is None:
            return self.rows[:limit]
        if self.last_id == "seen ids only" and below not in {key for key, _ in self.rows}:
            return []
        place = bisect.bisect_right(self.rows, -below, key=lambda row: -row[0])
        return self.rows[place : place + limit]

    def arrive(self, count: int = 1) -> None:
        for _ in range(count):
            key, time = self.rows[0] if self.rows else (176_000_000_000, NEWEST)
            self.rows.insert(0, (key + 700, time + 1))


@dataclass
class Reading:
    """The result of reading a list: the plan, the rows that it handed on, and the seconds that it took."""

    plan: KeysetPlan
    rows: list[Row]
    seconds: float


def read(
    keyed: KeyedList,
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    *,
    limit: int = 20,
    grows: bool = True,
    read_ahead: int = 8,
    latency: float = 0.1,
    chance: Random | None = None,
) -> Reading:
    """Read a list as the reader does. Each reply takes about `latency` seconds; the time is simulated."""
    chance = chance or Random(1)
    plan = KeysetPlan(bounds, limit=limit, grows=grows, read_ahead=read_ahead)
    now = 0.0
    waiting: list[tuple[float, int, KeyRequest]] = []
    rows: list[Row] = []
    while not plan.done:
        while (request := plan.next_request(now)) is not None:
            assert len(keyed.requests) < MOST_REQUESTS, f"the plan does not end: {keyed.requests[-5:]}"
            assert len(waiting) < read_ahead
            waiting.append((now + latency * chance.uniform(0.8, 1.2), len(waiting), request))
        if not waiting:
            pause = plan.seconds_to_wait(now)
            assert pause > 0, "the plan neither requests nor waits"
            now += pause
            continue
        first = min(waiting)
        waiting.remove(first)
        now = max(now, first[0])
        page = keyed.reply(first[2], now)
        shuffled = chance.sample(page, len(page))
        new = plan.take(first[2], shuffled, size=len(page) * ROW_BYTES, seconds=latency, now=now)
        rows += [row for row, is_new in zip(shuffled, new, strict=False) if is_new]
    return Reading(plan, rows, now)
