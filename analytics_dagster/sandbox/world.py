"""Events in a project and their times, as a pure function of (seed, day).

The rows that are visible at a second, with the changes that tests made, are in `store`.

A day does not depend on the start of the history: its deploys come from a random stream of the day, its occurrences
from another one and the deploys of that day and the day before. Processes that start on different days agree on every
row.
"""

from bisect import bisect_right
from collections import Counter
from itertools import accumulate, cycle, islice
from math import cos, pi
from random import Random
from typing import NamedTuple

from analytics_dagster.sandbox.model import DAY, HOUR, Deploy, Item, Job, Kind, Occurrence
from analytics_dagster.sandbox.project import SandboxProject

_EVENTS_PER_DAY = (1_130, 330)  # of the first and the second environment of a project, at activity 1
PERMANENT_ITEMS = 60
SURGE = 2 * HOUR
_FIRST_SEEN = 1_559_347_200  # 2019-06-01: permanent items are older than any history

KINDS = (
    Kind("python", "django", "linux", "KeyError", "'{part}_id'"),
    Kind("ruby", "rails", "linux", "NoMethodError", "undefined method `total' for nil in {part}"),
    Kind(
        "javascript",
        "react",
        "browser",
        "TypeError",
        "Cannot read properties of undefined (reading '{part}')",
    ),
    Kind("java", "spring", "linux", "java.lang.NullPointerException", 'Cannot invoke "{part}.getTotal()"'),
    Kind("python", "celery", "linux", "TimeoutError", "task {part}.sync exceeded 30 s"),
    Kind("php", "laravel", "linux", "QueryException", "SQLSTATE[40001]: deadlock found in table {part}s"),
    Kind("go", "gin", "linux", "*url.Error", "Get /internal/{part}: context deadline exceeded"),
    Kind("python", "flask", "linux", None, "Slow response from {part}: 2310 ms ≥ 2000 ms"),
    Kind("javascript", "node", "linux", "RangeError", "Invalid array length in {part}"),
    Kind("javascript", "vue", "browser", None, "Unhandled rejection in {part}"),
)
_PARTS = (
    *("checkout", "cart", "billing", "search", "login", "profile", "invoice"),
    *("shipment", "coupon", "inbox", "report", "upload", "webhook"),
)
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
        self._busy, self._quiet = project.environments[:2]
        self._per_day = {
            name: count * project.activity
            for name, count in zip((self._busy, self._quiet), _EVENTS_PER_DAY, strict=True)
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
        fixed_status = {3: "muted", 6: "archived"}.get(index % 12)
        first_seen = _FIRST_SEEN + index * DAY + rng.randrange(DAY)
        every = None if fixed_status or index % 3 == 0 else rng.randint(3, 9) * DAY
        return Item(
            id=self._project.item_id(index + 1),
            counter=index + 1,
            environment=self._quiet if index % 10 in (2, 5, 8) else self._busy,
            kind=KINDS[index % len(KINDS)],
            part=_PARTS[(index * 7 + index // len(KINDS)) % len(_PARTS)],
            level=_LEVELS[(index + index // 10) % len(_LEVELS)],
            first_seen=first_seen,
            first_resolved=first_seen + rng.randint(2, 72) * HOUR if every else None,
            resolved_every=every,
            fixed_status=fixed_status,
        )

    def deploys(self, day: int) -> list[Deploy]:
        """Return the six to eight deploys of a day, oldest first. Each ends within its slot, so before midnight."""
        if not self._project.activity:
            return []
        rng = self._stream("deploys", day)
        count = rng.randint(6, 8)
        production = rng.randint(count // 2, count - 2)
        environments = [self._busy] * production + [self._quiet] * (count - production)
        rng.shuffle(environments)
        bad = self._bad_slots(environments, rng)
        return [self._deploy(day, slot, environments, rng, bad=slot in bad) for slot in range(count)]

    def _bad_slots(self, environments: list[str], rng: Random) -> set[int]:
        """Choose the bad deploys of a day.

        One deploy in six is bad: at most one per environment and day, and never the first of a day, so that surges do
        not overlap.
        """
        chance = rng.random()
        hit = [self._busy, self._quiet] if chance < 1 / 6 else [self._busy] if chance < 2 / 3 else [self._quiet]
        return {
            rng.choice([slot for slot in range(1, len(environments)) if environments[slot] == environment])
            for environment in hit
        }

    def _deploy(self, day: int, slot: int, environments: list[str], rng: Random, *, bad: bool) -> Deploy:
        width = DAY // len(environments)
        start = day * DAY + slot * width + rng.randrange(width * 6 // 10)
        # An environment's first deploy of a day succeeds: two days of deploys tell the running revision at any time.
        sure = bad or environments[slot] not in environments[:slot]
        outcome = "succeeded" if sure else rng.choices(("succeeded", "failed", "timed_out"), (80, 13, 7))[0]
        longest = HOUR if rng.random() < 1 / 15 else 20 * 60
        finish = start + (HOUR if outcome == "timed_out" else rng.randint(60, longest))
        revision = f"{rng.getrandbits(160):040x}"
        first_counter = PERMANENT_ITEMS + 40 + day * 24 + slot * 3
        new_items = tuple(
            Item(
                id=self._project.item_id(first_counter + number),
                counter=first_counter + number,
                environment=environments[slot],
                kind=rng.choice(KINDS),
                part=f"{rng.choice(_PARTS)}_{revision[:4]}{number}",
                level=rng.choice(("error", "critical")),
                first_resolved=finish + SURGE + rng.randint(1, 12) * HOUR if rng.random() < 3 / 4 else None,
            )
            for number in range(rng.randint(1, 3) if bad else 0)
        )
        return Deploy(
            id=self._project.deploy_id(start),
            environment=environments[slot],
            revision=revision,
            start=start,
            finish=finish,
            outcome=outcome,
            local_username=rng.choice(("ci-runner", "release-bot", None)),
            user_id=rng.choice((None, 301, 304, 309)),
            comment=rng.choice((None, None, "hotfix", "weekly release", "roll forward")),
            new_items=new_items,
        )

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
        draws = self._background(day)
        for deploy in deploys:
            draws += [draw for draw in self._surge(deploy) if draw.second // DAY == day]
        draws.sort(key=lambda draw: draw.second)

        running = {
            environment: sorted(
                (d.finish or 0, d.revision)
                for d in deploys
                if d.environment == environment and d.outcome == "succeeded"
            )
            for environment in self._per_day
        }
        base = self._project.occurrence_id(0, 0)  # a call for each occurrence would make the start 4 % slower
        in_second: Counter[int] = Counter()
        occurrences = []
        for second, item, own in draws:
            versions = running[item.environment]
            revision = own or versions[bisect_right(versions, (second, "~")) - 1][1]
            number = base + second * 100 + in_second[second]
            in_second[second] += 1
            # Timestamps lag by a few seconds, which depend on the item: across items they are out of order, as in the
            # real service, yet an item's newest occurrence is the same by id and by timestamp.
            grouped = number % 211 != 0
            occurrences.append(Occurrence(number, second - item.counter % 4, item, revision, grouped))
        return occurrences

    def _background(self, day: int) -> list[_Draw]:
        rng = self._stream("occurrences", day)
        draws = []
        for environment, items in self._items.items():
            for hour in range(24):
                count = int(self._per_hour(environment, hour) * rng.uniform(0.85, 1.15) + rng.random())
                start = day * DAY + hour * HOUR
                chosen = rng.choices(items, cum_weights=self._weights[environment], k=count)
                draws += [_Draw(start + int(rng.random() * HOUR), item) for item in chosen]
        return draws

    def _surge(self, deploy: Deploy) -> list[_Draw]:
        """Draw the errors that a bad deploy adds in two hours: some three times the usual number, most of new items."""
        if not deploy.new_items or deploy.finish is None:
            return []
        rng = self._stream("surge", deploy.id)
        environment = deploy.environment
        usual = self._per_hour(environment, deploy.finish % DAY // HOUR) * SURGE / HOUR
        count = max(int(40 * self._project.activity), int(usual * rng.uniform(2.8, 4.0)))
        new = count * 6 // 10
        known = rng.choices(self._items[environment], cum_weights=self._weights[environment], k=count - new)
        draws = [_Draw(deploy.finish + rng.randrange(SURGE), item) for item in known]
        return draws + [
            _Draw(deploy.finish + rng.randrange(SURGE), item, deploy.revision)
            for item in islice(cycle(deploy.new_items), new)
        ]

    def _per_hour(self, environment: str, hour: int) -> float:
        """Return the expected errors in an hour: a peak at 15:00 UTC, a sixth of it at 03:00."""
        return self._per_day[environment] / 24 * (1 + 0.7 * cos((hour - 15) / 12 * pi))
