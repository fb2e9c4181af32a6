"""The deploys of a day: when they happen, how they end, and what they do to the errors of their environment.

The day is cut into slots of equal length. In each one an environment is deployed to once, except that a second deploy
can follow within minutes, and that a rollback can end a bad deploy. The errors that a bad deploy adds are in `world`.
"""

from random import Random

from analytics_dagster.sandbox.kinds import KINDS, PARTS
from analytics_dagster.sandbox.model import DAY, HOUR, PERMANENT_ITEMS, Deploy, Item, Surge
from analytics_dagster.sandbox.project import SandboxProject

_MINUTE = 60
# Of the first, second and third environment of a project: slots of a day, and the chance that one of them is bad.
_SLOTS = ((4, 5), (2, 2), (1, 1))
_CHANCES_OF_BAD = (0.8, 0.4, 0.2)
_CHANCE_OF_PAIR = 0.6
_CHANCE_OF_ROLLBACK = 2 / 3
_ITEMS_OF_A_DAY = 24  # counters for the new items of a day: three a slot


def plan_deploys(project: SandboxProject, day: int, rng: Random) -> list[Deploy]:
    """Return the deploys of a day, oldest first. Each ends before midnight.

    An environment's first deploy of a day succeeds, so two days of deploys tell the running revision at any time.
    """
    return _Plan(project, day, rng).deploys


class _Plan:
    def __init__(self, project: SandboxProject, day: int, rng: Random) -> None:
        self._project = project
        self._day = day
        self._rng = rng
        self._slots = [
            name
            for name, (fewest, most) in zip(project.eventful_environments, _SLOTS, strict=False)
            for _ in range(rng.randint(fewest, most))
        ]
        rng.shuffle(self._slots)
        self._live: dict[str, str] = {}  # revision of an environment's latest deploy of the day that succeeded
        self.deploys: list[Deploy] = []
        bad = self._choose_bad()
        pair = self._choose_pair(bad)
        for slot in range(len(self._slots)):
            if slot == pair:
                self._deploy_twice(slot, bad=slot in bad)
            elif slot in bad:
                self._deploy_badly(slot)
            else:
                self._deploy(slot)

    def _choose_bad(self) -> set[int]:
        """Choose the slots with a bad deploy: at most one an environment, and never the first slot of the day.

        So surges do not overlap, whatever the day before had.
        """
        bad = set()
        for environment, chance in zip(self._project.eventful_environments, _CHANCES_OF_BAD, strict=False):
            slots = [slot for slot, name in enumerate(self._slots) if slot and name == environment]
            if slots and self._rng.random() < chance:
                bad.add(self._rng.choice(slots))
        return bad

    def _choose_pair(self, bad: set[int]) -> int | None:
        """Choose the slot with two deploys, if any: every third time a bad one, so that both deploys are suspects."""
        if self._rng.random() >= _CHANCE_OF_PAIR:
            return None
        return self._rng.choice(sorted(bad) if bad and self._rng.random() < 1 / 3 else range(len(self._slots)))

    def _deploy(self, slot: int) -> None:
        """Add a harmless deploy, which can fail or take an hour."""
        rng = self._rng
        sure = self._slots[slot] not in self._live
        outcome = "succeeded" if sure else rng.choices(("succeeded", "failed", "timed_out"), (80, 13, 7))[0]
        longest = HOUR if rng.random() < 1 / 15 else 20 * _MINUTE
        seconds = HOUR if outcome == "timed_out" else rng.randint(_MINUTE, longest)
        self._add(slot, self._start(slot), seconds, outcome=outcome)

    def _deploy_badly(self, slot: int) -> None:
        """Add a bad deploy and, two times in three, a rollback of it to the revision before."""
        rng = self._rng
        before = self._live.get(self._slots[slot])
        start, seconds = self._start(slot), rng.randint(_MINUTE, 10 * _MINUTE)
        finish = start + seconds
        if before is None or rng.random() >= _CHANCE_OF_ROLLBACK:
            self._add(slot, start, seconds, surge=self._surge(finish))
            return
        rolled_back = finish + rng.randint(12 * _MINUTE, 48 * _MINUTE)
        restored = rng.randint(_MINUTE, 5 * _MINUTE)
        bad = self._add(slot, start, seconds, surge=self._surge(finish)._replace(end=rolled_back + restored))
        self._add(slot, rolled_back, restored, revision=before, rolls_back=bad.id)

    def _deploy_twice(self, slot: int, *, bad: bool) -> None:
        """Add two deploys of which the second one ends within six minutes of the first. One of them can be bad."""
        rng = self._rng
        start, seconds = self._start(slot), rng.randint(_MINUTE, 4 * _MINUTE)
        second = start + seconds + rng.randint(30, 3 * _MINUTE)
        second_seconds = rng.randint(_MINUTE, 3 * _MINUTE)
        guilty = rng.randrange(2) if bad else None
        self._add(slot, start, seconds, surge=self._surge(start + seconds) if guilty == 0 else None)
        self._add(slot, second, second_seconds, surge=self._surge(second + second_seconds) if guilty == 1 else None)

    def _start(self, slot: int) -> int:
        width = DAY // len(self._slots)
        return self._day * DAY + slot * width + self._rng.randrange(width * 6 // 10)

    def _surge(self, finish: int) -> Surge:
        return Surge(factor=self._rng.choice((2, 4)), end=finish + self._rng.randint(80, 160) * _MINUTE)

    def _add(
        self,
        slot: int,
        start: int,
        seconds: int,
        *,
        outcome: str = "succeeded",
        revision: str | None = None,
        surge: Surge | None = None,
        rolls_back: int | None = None,
    ) -> Deploy:
        rng, environment = self._rng, self._slots[slot]
        revision = revision or f"{rng.getrandbits(160):040x}"
        comment = "roll back" if rolls_back else rng.choice((None, None, "hotfix", "weekly release", "roll forward"))
        deploy = Deploy(
            id=self._project.deploy_id(start),
            environment=environment,
            revision=revision,
            start=start,
            finish=start + seconds,
            outcome=outcome,
            local_username=rng.choice(("ci-runner", "release-bot", None)),
            user_id=rng.choice((None, 301, 304, 309)),
            comment=comment,
            surge=surge,
            new_items=self._new_items(slot, revision, surge) if surge and rng.random() < 1 / 2 else (),
            rolls_back=rolls_back,
        )
        if outcome == "succeeded":
            self._live[environment] = revision
        self.deploys.append(deploy)
        return deploy

    def _new_items(self, slot: int, revision: str, surge: Surge) -> tuple[Item, ...]:
        rng = self._rng
        first_counter = PERMANENT_ITEMS + 40 + self._day * _ITEMS_OF_A_DAY + slot * 3
        return tuple(
            Item(
                id=self._project.item_id(first_counter + number),
                counter=first_counter + number,
                environment=self._slots[slot],
                kind=rng.choice(KINDS),
                part=f"{rng.choice(PARTS)}_{revision[:4]}{number}",
                level=rng.choice(("error", "critical")),
                first_resolved=surge.end + rng.randint(1, 12) * HOUR if rng.random() < 3 / 4 else None,
            )
            for number in range(rng.randint(1, 3))
        )
