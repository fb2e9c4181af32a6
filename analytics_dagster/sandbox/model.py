"""The entities of a project: items, deploys, query jobs, occurrences.

The times at which they happen are in `world`, their ids in `project`, and their JSON rows are built in `rows` and
`payload`.
"""

from dataclasses import dataclass
from typing import NamedTuple

HOUR = 3_600
DAY = 24 * HOUR
PERMANENT_ITEMS = 90  # items that every project has; their counters are 1 to 90

# An id is made from a time and a number, so it grows with time wherever the history starts. The world uses the lower
# numbers, rows that tests add use numbers from here on.
FIRST_ADDED_OCCURRENCE = 50
FIRST_ADDED_DEPLOY = 1

_MASK = (1 << 64) - 1


class Kind(NamedTuple):
    """A kind of error. `error` is the exception's class, None for a logged message."""

    language: str
    framework: str
    platform: str
    error: str | None
    message: str


def noise(*parts: int) -> int:
    """Return a pseudo-random 64-bit number that depends on `parts` alone. Much cheaper than seeding `Random`."""
    value = 0x9E3779B97F4A7C15
    for part in parts:
        value = ((value ^ part) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        value ^= value >> 31
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A group of similar occurrences. `fixed_status` is a status that a person gave it for good."""

    id: int
    counter: int
    environment: str
    kind: Kind
    part: str
    level: str
    first_seen: int | None = None  # None: the time of its first occurrence
    first_resolved: int | None = None
    resolved_every: int | None = None
    fixed_status: str | None = None

    @property
    def message(self) -> str:
        """The error's message."""
        return self.kind.message.format(part=self.part)

    @property
    def title(self) -> str:
        """The item's title."""
        return f"{self.kind.error}: {self.message}" if self.kind.error else self.message

    def resolutions(self, now: int) -> tuple[int | None, int | None]:
        """Return the times of the last two resolutions up to `now`, latest first; None for each that is missing."""
        if self.first_resolved is None or self.first_resolved > now:
            return None, None
        if self.resolved_every is None:
            return self.first_resolved, None
        turns = (now - self.first_resolved) // self.resolved_every
        last = self.first_resolved + turns * self.resolved_every
        return last, last - self.resolved_every if turns else None


class Surge(NamedTuple):
    """The errors that a bad deploy adds from its finish on.

    Attributes:
        factor: What the errors of the environment are multiplied by.
        end: Epoch second at which the surge is over: the finish of the rollback, if there is one.
    """

    factor: int
    end: int


class Deploy(NamedTuple):
    """A deploy. Its status is `started` until `finish` (None: for ever), and `outcome` from then on.

    The last three fields are the truth about its effect, which no row tells.

    Attributes:
        surge: The errors that it adds; None: it is harmless.
        new_items: Items that it brings. A bad deploy without any adds errors of items that were there before.
        rolls_back: Id of the bad deploy that it undoes by deploying the revision before.
    """

    id: int
    environment: str
    revision: str
    start: int
    finish: int | None
    outcome: str = "succeeded"
    local_username: str | None = None
    user_id: int | None = None
    comment: str | None = None
    surge: Surge | None = None
    new_items: tuple[Item, ...] = ()
    rolls_back: int | None = None


class Job(NamedTuple):
    """A query job."""

    id: int
    query: str
    created: int
    finish: int
    outcome: str


class Occurrence(NamedTuple):
    """An error that was received. It is light: its row is built when it is served."""

    id: int
    timestamp: int
    item: Item
    code_version: str
    grouped: bool = True

    @property
    def person(self) -> int:
        """Number of the person who met the error."""
        return noise(self.id, 1) % 1_200


def code_version(deploys: list[Deploy], environment: str, at: int) -> str:
    """Return the revision that runs in `environment` at `at`: that of the latest deploy that succeeded."""
    done = [
        deploy
        for deploy in deploys
        if deploy.environment == environment
        and deploy.outcome == "succeeded"
        and deploy.finish is not None
        and deploy.finish <= at
    ]
    return max(reversed(done), key=lambda deploy: deploy.finish or 0).revision if done else "unknown"
