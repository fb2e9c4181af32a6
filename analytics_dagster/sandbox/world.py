"""When things happen in the sandbox's project, as a pure function of (seed, day).

Here belongs what *happens* and when; what is visible at a given second, and what tests changed about it, is
in `store`.

A day never depends on where the history starts: its deploys come from its own random stream, and its
occurrences from that and the deploys of the day before. So two processes that began on different days agree
on every row.
"""

from bisect import bisect_right
from collections import Counter
from itertools import accumulate
from math import cos, pi
from random import Random
from typing import NamedTuple

from analytics_dagster.sandbox.model import DAY, HOUR, Deploy, Item, Job, Kind, Occurrence

EVENTS_PER_DAY = {"production": 1_130, "staging": 330}
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
    revision: str | None = None  # None: whatever runs in the environment


class World:
    """Everything that happens for one seed, day by day (days count from the epoch, UTC)."""

    def __init__(self, seed: int) -> None:
        """Draw the permanent items."""
        self._seed = seed
        rng = self._stream("items", 0)
        self.items = [self._permanent(index, rng) for index in range(PERMANENT_ITEMS)]
        self._items = {name: [i for i in self.items if i.environment == name] for name in EVENTS_PER_DAY}
        # Skewed frequencies: the n-th item of an environment has weight n^-1.3.
        self._weights = {
            name: list(accumulate((rank + 1) ** -1.3 for rank in range(len(items))))
            for name, items in self._items.items()
        }

    def _stream(self, name: str, number: int) -> Random:
        return Random(f"{self._seed}:{name}:{number}")  # noqa: S311 (demo data)

    @staticmethod
    def _permanent(index: int, rng: Random) -> Item:
        standing = {3: "muted", 6: "archived"}.get(index % 12)
        first_seen = _FIRST_SEEN + index * DAY + rng.randrange(DAY)
        every = None if standing or index % 3 == 0 else rng.randint(3, 9) * DAY
        return Item(
            counter=index + 1,
            environment="staging" if index % 10 in (2, 5, 8) else "production",
            kind=KINDS[index % len(KINDS)],
            part=_PARTS[(index * 7 + index // len(KINDS)) % len(_PARTS)],
            level=_LEVELS[(index + index // 10) % len(_LEVELS)],
            first_seen=first_seen,
            first_resolved=first_seen + rng.randint(2, 72) * HOUR if every else None,
            resolved_every=every,
            standing=standing,
        )

    def deploys(self, day: int) -> list[Deploy]:
        """The six to eight deploys of a day, oldest first. None runs past its slot, so none past midnight."""
        rng = self._stream("deploys", day)
        count = rng.randint(6, 8)
        production = rng.randint(count // 2, count - 2)
        places = ["production"] * production + ["staging"] * (count - production)
        rng.shuffle(places)
        bad = self._bad_slots(places, rng)
        return [self._deploy(day, slot, places, rng, bad=slot in bad) for slot in range(count)]

    @staticmethod
    def _bad_slots(places: list[str], rng: Random) -> set[int]:
        """One in six is bad. Never two a day in an environment, nor a day's first: surges do not overlap."""
        chance = rng.random()
        hit = ["production", "staging"] if chance < 1 / 6 else ["production"] if chance < 2 / 3 else ["staging"]
        return {rng.choice([slot for slot in range(1, len(places)) if places[slot] == place]) for place in hit}

    @staticmethod
    def _deploy(day: int, slot: int, places: list[str], rng: Random, *, bad: bool) -> Deploy:
        width = DAY // len(places)
        start = day * DAY + slot * width + rng.randrange(width * 6 // 10)
        # The first of a day always succeeds: what runs at any time is known from two days of deploys.
        sure = bad or places[slot] not in places[:slot]
        outcome = "succeeded" if sure else rng.choices(("succeeded", "failed", "timed_out"), (80, 13, 7))[0]
        longest = HOUR if rng.random() < 1 / 15 else 20 * 60
        finish = start + (HOUR if outcome == "timed_out" else rng.randint(60, longest))
        revision = f"{rng.getrandbits(160):040x}"
        born = tuple(
            Item(
                counter=PERMANENT_ITEMS + 40 + day * 24 + slot * 3 + number,
                environment=places[slot],
                kind=rng.choice(KINDS),
                part=f"{rng.choice(_PARTS)}_{revision[:4]}{number}",
                level=rng.choice(("error", "critical")),
                first_resolved=finish + SURGE + rng.randint(1, 12) * HOUR if rng.random() < 3 / 4 else None,
            )
            for number in range(rng.randint(1, 3) if bad else 0)
        )
        return Deploy(
            id=start // 60 * 10,
            environment=places[slot],
            revision=revision,
            start=start,
            finish=finish,
            outcome=outcome,
            local_username=rng.choice(("ci-runner", "release-bot", None)),
            user_id=rng.choice((None, 301, 304, 309)),
            comment=rng.choice((None, None, "hotfix", "weekly release", "roll forward")),
            born=born,
        )

    def jobs(self, day: int) -> list[Job]:
        """The query jobs of a day, oldest first."""
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
            jobs.append(Job(created // 60 * 10, query, created, finish, outcome))
        return jobs

    def occurrences(self, day: int) -> list[Occurrence]:
        """The occurrences of a day, ordered by id."""
        deploys = self.deploys(day - 1) + self.deploys(day)
        draws = self._background(day)
        for deploy in deploys:
            draws += [draw for draw in self._surge(deploy) if draw.second // DAY == day]
        draws.sort(key=lambda draw: draw.second)

        running = {
            place: sorted(
                (d.finish or 0, d.revision) for d in deploys if d.environment == place and d.outcome == "succeeded"
            )
            for place in EVENTS_PER_DAY
        }
        in_second: Counter[int] = Counter()
        occurrences = []
        for second, item, own in draws:
            versions = running[item.environment]
            revision = own or versions[bisect_right(versions, (second, "~")) - 1][1]
            number = second * 100 + in_second[second]
            in_second[second] += 1
            # Each item's events lag by its own few seconds: across items the timestamps are out of order, as
            # in the real service, yet an item's newest occurrence is the same by id and by timestamp.
            grouped = number % 211 != 0
            occurrences.append(Occurrence(number, second - item.counter % 4, item, revision, grouped))
        return occurrences

    def _background(self, day: int) -> list[_Draw]:
        rng = self._stream("occurrences", day)
        draws = []
        for place, items in self._items.items():
            for hour in range(24):
                count = int(_per_hour(place, hour) * rng.uniform(0.85, 1.15) + rng.random())
                start = day * DAY + hour * HOUR
                chosen = rng.choices(items, cum_weights=self._weights[place], k=count)
                draws += [_Draw(start + int(rng.random() * HOUR), item) for item in chosen]
        return draws

    def _surge(self, deploy: Deploy) -> list[_Draw]:
        """What a bad deploy adds in two hours: some three times the usual errors, most of them new."""
        if not deploy.born or deploy.finish is None:
            return []
        rng = self._stream("surge", deploy.id)
        place = deploy.environment
        usual = _per_hour(place, deploy.finish % DAY // HOUR) * SURGE / HOUR
        count = max(40, int(usual * rng.uniform(2.8, 4.0)))
        new = count * 6 // 10
        known = rng.choices(self._items[place], cum_weights=self._weights[place], k=count - new)
        draws = [_Draw(deploy.finish + rng.randrange(SURGE), item) for item in known]
        return draws + [
            _Draw(deploy.finish + rng.randrange(SURGE), deploy.born[number % len(deploy.born)], deploy.revision)
            for number in range(new)
        ]


def _per_hour(place: str, hour: int) -> float:
    """Expected errors in an hour: a peak at 15:00 UTC, a sixth of it at 03:00."""
    return EVENTS_PER_DAY[place] / 24 * (1 + 0.7 * cos((hour - 15) / 12 * pi))
