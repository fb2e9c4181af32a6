"""Events in a project and their times, as a pure function of (seed, day).

The rows that are visible at a second, with the changes that tests made, are in `store`.

A day does not depend on the start of the history: its deploys come from a random stream of the day, its occurrences
from another one and the deploys of that day and the day before. Processes that start on different days agree on every
row.
"""

from bisect import bisect_right
from itertools import accumulate
from math import cos, pi
from operator import itemgetter
from random import Random
from typing import NamedTuple

from analytics_dagster.sandbox.deploys import plan_deploys
from analytics_dagster.sandbox.kinds import KINDS, PARTS
from analytics_dagster.sandbox.model import DAY, HOUR, PERMANENT_ITEMS, Deploy, Item, Job, Occurrence
from analytics_dagster.sandbox.project import SandboxProject

# Of the first, second and third environment of a project, at activity 1.
_EVENTS_PER_DAY = (2_400, 300, 48)
_BURSTS_PER_DAY = (2.0, 1.0, 0.5)
_LONGEST_BURST = 10 * 60
_SHARE_OF_NEW_ITEMS = 0.6
_FIRST_SEEN = 1_559_347_200  # 2019-06-01: permanent items are older than any history

_LEVELS = ("error", "error", "error", "warning", "critical", "error", "info", "error", "warning", "debug")


class _Draw(NamedTuple):
    second: int
    item: Item
    revision: str | None = None  # None: the one that runs in the environment


class World:
    """The events of one project by day. Days count from the epoch, in UTC.

    Attributes:
        items: Items that exist throughout; bad deploys add others.
    """

    def __init__(self, project: SandboxProject) -> None:
        self._project = project
        self._per_day = {
            name: count * project.activity
            for name, count in zip(project.eventful_environments, _EVENTS_PER_DAY, strict=False)
        }
        rng = self._stream("items", 0)
        self.items = [self._permanent(index, rng) for index in range(PERMANENT_ITEMS)]
        self._items = {name: [i for i in self.items if i.environment == name] for name in self._per_day}
        # Skewed frequencies: the n-th item of an environment has weight n^-1.3.
        self._weights = {
            name: list(accumulate((rank + 1) ** -1.3 for rank in range(len(items))))
            for name, items in self._items.items()
        }

    def _stream(self, name: str, number: int) -> Random:
        return Random(f"{self._project.seed}:{name}:{number}")  # noqa: S311 (demo data)

    def _permanent(self, index: int, rng: Random) -> Item:
        names = self._project.eventful_environments
        fixed_status = {3: "muted", 6: "archived"}.get(index % 12)
        first_seen = _FIRST_SEEN + index * DAY + rng.randrange(DAY)
        every = None if fixed_status or index % 3 == 0 else rng.randint(3, 9) * DAY
        return Item(
            id=self._project.item_id(index + 1),
            counter=index + 1,
            environment=names[{2: 1, 5: len(names) - 1, 8: 1}.get(index % 10, 0)],
            kind=KINDS[index % len(KINDS)],
            part=PARTS[(index * 7 + index // len(KINDS)) % len(PARTS)],
            level=_LEVELS[(index + index // 10) % len(_LEVELS)],
            first_seen=first_seen,
            first_resolved=first_seen + rng.randint(2, 72) * HOUR if every else None,
            resolved_every=every,
            fixed_status=fixed_status,
        )

    def deploys(self, day: int) -> list[Deploy]:
        """Return the deploys of a day, oldest first. Each ends before midnight."""
        return plan_deploys(self._project, day, self._stream("deploys", day)) if self._project.activity else []

    def jobs(self, day: int) -> list[Job]:
        """Return the query jobs of a day, oldest first."""
        if not self._project.activity:
            return []
        rng = self._stream("jobs", day)
        count = rng.randint(4, 8)
        width = DAY // count
        jobs = []
        for slot in range(count):
            created = day * DAY + slot * width + rng.randrange(width - 60)
            outcome = rng.choices(("success", "failed", "cancelled", "timed_out"), (80, 10, 6, 4))[0]
            field = rng.choice(("item.counter", "body.trace.exception.class", "server.host", "person.id"))
            query = f"select {field}, count(*) from item_occurrence group by 1 limit {rng.randint(5, 99)}"
            finish = created + (900 if outcome == "timed_out" else rng.randint(10, 300))
            jobs.append(Job(self._project.job_id(created), query, created, finish, outcome))
        return jobs

    def occurrences(self, day: int) -> list[Occurrence]:
        """Return the occurrences of a day, ordered by id."""
        if not self._project.activity:
            return []
        deploys = self.deploys(day - 1) + self.deploys(day)
        draws = self._background(day) + self._bursts(day)
        for deploy in deploys:
            draws += [draw for draw in self._surge(deploy) if draw.second // DAY == day]
        draws.sort(key=itemgetter(0))

        running = {
            environment: sorted(
                (d.finish or 0, d.revision)
                for d in deploys
                if d.environment == environment and d.outcome == "succeeded"
            )
            for environment in self._per_day
        }
        base = number = self._project.occurrence_id(0, 0)  # a call for each occurrence would make the start 4 % slower
        occurrences = []
        for second, item, own in draws:
            versions = running[item.environment]
            revision = own or versions[bisect_right(versions, (second, "~")) - 1][1]
            number = max(number + 1, base + second * 100)
            # Timestamps lag by a few seconds, which depend on the item: across items they are out of order, as in the
            # real service, yet an item's newest occurrence is the same by id and by timestamp.
            grouped = number % 211 != 0
            occurrences.append(Occurrence(number, second - item.counter % 4, item, revision, grouped))
        return occurrences

    def _background(self, day: int) -> list[_Draw]:
        rng = self._stream("occurrences", day)
        draws: list[_Draw] = []
        for environment in self._items:
            for hour in range(24):
                start, per_hour = day * DAY + hour * HOUR, self._per_hour(environment, hour) * rng.uniform(0.85, 1.15)
                seconds = _arrivals(rng, start, start + HOUR, per_hour)
                draws += map(_Draw, seconds, self._choose_items(rng, environment, len(seconds)))
        return draws

    def _bursts(self, day: int) -> list[_Draw]:
        """Draw bursts: many errors of one item within some minutes, without any cause among the deploys."""
        rng = self._stream("bursts", day)
        draws = []
        for environment, bursts in zip(self._items, _BURSTS_PER_DAY, strict=False):
            for start in _arrivals(rng, day * DAY, (day + 1) * DAY - _LONGEST_BURST, bursts / 24):
                usual = self._per_hour(environment, start % DAY // HOUR)
                count = int((5 + usual / 2) * rng.uniform(0.5, 1.5))
                seconds = rng.randint(2 * 60, _LONGEST_BURST)
                (item,) = self._choose_items(rng, environment, 1)
                draws += [_Draw(start + rng.randrange(seconds), item) for _ in range(count)]
        return draws

    def _surge(self, deploy: Deploy) -> list[_Draw]:
        """Draw the errors that a bad deploy adds. Of those, 60 % are of its new items if it has any."""
        if deploy.surge is None or deploy.finish is None:
            return []
        rng, environment, end = self._stream("surge", deploy.id), deploy.environment, deploy.surge.end
        draws = []
        for hour in range(deploy.finish // HOUR, end // HOUR + 1):
            added = self._per_hour(environment, hour % 24) * (deploy.surge.factor - 1)
            seconds = _arrivals(rng, max(deploy.finish, hour * HOUR), min(end, (hour + 1) * HOUR), added)
            for second, item in zip(seconds, self._choose_items(rng, environment, len(seconds)), strict=True):
                if deploy.new_items and rng.random() < _SHARE_OF_NEW_ITEMS:
                    draws.append(_Draw(second, rng.choice(deploy.new_items), deploy.revision))
                else:
                    draws.append(_Draw(second, item))
        return draws

    def _choose_items(self, rng: Random, environment: str, count: int) -> list[Item]:
        return rng.choices(self._items[environment], cum_weights=self._weights[environment], k=count)

    def _per_hour(self, environment: str, hour: int) -> float:
        """Return the expected errors in an hour: a peak at 15:00 UTC, a quarter of it at 03:00."""
        return self._per_day[environment] / 24 * (1 + 0.6 * cos((hour - 15) / 12 * pi))


def _arrivals(rng: Random, start: int, end: int, per_hour: float) -> list[int]:
    """Return the seconds of a Poisson process between `start` and `end`, in order."""
    seconds = []
    moment = start + rng.expovariate(per_hour / HOUR)
    while moment < end:
        seconds.append(int(moment))
        moment += rng.expovariate(per_hour / HOUR)
    return seconds
