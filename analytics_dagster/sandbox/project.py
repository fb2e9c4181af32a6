"""A project of the service as a value: its name, key and seed, how busy it is, and the ids of its rows.

    SandboxProject(name="mobile", id=1005, environments=("live", "preprod"), activity=0.2)

Its events are in `world`, its rows at a second in `store`, the listings of the account in `account`.
"""

from dataclasses import dataclass

from analytics_dagster.sandbox.payload import SECRET_MARKER

# The default project's id. Ids of rows grow by a span with each id above it, so they are unique across projects.
_FIRST_ID = 1001
_LAST_ID = 9999  # the largest ids of occurrences stay below 2**53, which every JSON reader knows exactly
_OCCURRENCE_SPAN = 10**12
_DEPLOY_SPAN = _JOB_SPAN = _ITEM_SPAN = 10**9
_ENVIRONMENT_SPAN = 1_000

_MOST_ACTIVITY = 20.0  # with more, the occurrences of a second could use up its ids
_FEWEST_ENVIRONMENTS = 2

DEFAULT_ENVIRONMENTS = (
    "production",
    "staging",
    "development",
    "qa",
    *(f"review-{number}" for number in range(101, 124)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxProject:
    """A project of the service.

    Attributes:
        name: Name and slug, unique in the service.
        id: Id, unique in the service, from 1001 to 9999.
        key: Key to the project's seven resources; by default one made from the name.
        seed: Seeds everything that happens in the project; by default the id.
        environments: Names of the environments, at least two. Errors and deploys are in the first three: many in the
            first one, fewer in the second one, a few errors an hour in the third one.
        activity: Factor of the occurrences per day. A project with 0 has no items, occurrences, deploys, jobs and
            environments, until some are added.
        delay: Seconds of real time that each reply waits.

    Raises:
        ValueError: A number is out of range, or there are fewer than two environments.
    """

    name: str
    id: int
    key: str = ""
    seed: int | None = None
    environments: tuple[str, ...] = DEFAULT_ENVIRONMENTS
    activity: float = 1.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        if not _FIRST_ID <= self.id <= _LAST_ID:
            raise ValueError(f"id must be from {_FIRST_ID} to {_LAST_ID}; not {self.id}")
        if not 0 <= self.activity <= _MOST_ACTIVITY:
            raise ValueError(f"activity must be from 0 to {_MOST_ACTIVITY:g}; not {self.activity:g}")
        if self.delay < 0:
            raise ValueError(f"delay must not be negative; not {self.delay:g}")
        if len(set(self.environments)) < _FEWEST_ENVIRONMENTS:
            raise ValueError(f"environments must be at least {_FEWEST_ENVIRONMENTS} different names")
        object.__setattr__(self, "key", self.key or f"{SECRET_MARKER}{self.name}-key")
        object.__setattr__(self, "seed", self.id if self.seed is None else self.seed)

    @property
    def eventful_environments(self) -> tuple[str, ...]:
        """The environments with errors and deploys: a busy one, one with fewer, and a quiet one if there is a third."""
        return self.environments[:3]

    def occurrence_id(self, second: int, number: int) -> int:
        """Return the id of an occurrence: it grows with the second, then with the number (0 to 99)."""
        return self._offset(_OCCURRENCE_SPAN) + second * 100 + number

    def deploy_id(self, second: int, number: int = 0) -> int:
        """Return the id of a deploy: it grows with the minute of the second, then with the number (0 to 9)."""
        return self._offset(_DEPLOY_SPAN) + second // 60 * 10 + number

    def job_id(self, second: int) -> int:
        """Return the id of a query job: it grows with the minute of the second."""
        return self._offset(_JOB_SPAN) + second // 60 * 10

    def item_id(self, counter: int) -> int:
        """Return the id of an item. It differs from the counter, which other projects use as well, on purpose."""
        return self._offset(_ITEM_SPAN) + 1_200_000_000 + counter * 37

    def environment_id(self, index: int) -> int:
        """Return the id of an environment by its place in the listing."""
        return self._offset(_ENVIRONMENT_SPAN) + 5001 + index

    def _offset(self, span: int) -> int:
        return (self.id - _FIRST_ID) * span


def second_of(occurrence_id: int) -> int:
    """Return the epoch second that an occurrence's id is made from."""
    return occurrence_id % _OCCURRENCE_SPAN // 100
