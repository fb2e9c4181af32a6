"""Deploys, and what their environment's other deploys say of them: overlaps and rollbacks. Pure.

    relations = relate(deploys)
    relations[deploy.id].is_rollback

`deploy_impact.py` turns them into rows. An environment is a project and a name without its case: a deploy script that
says `Production` means the `production` of the errors. Two environments that differ in case alone count as one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

Environment = tuple[int | None, str]
"""A project, and the name of an environment in lower case."""


def place_of(project_id: int | None, environment: str) -> Environment:
    """Return the project and the environment by which deploys and occurrences are compared."""
    return project_id, environment.lower()


HOUR_AFTER = timedelta(minutes=60)
"""Time after the finish that a verdict looks at."""

_SUCCEEDED = "succeeded"


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """A deploy, as stored.

    Attributes:
        id: ID of the deploy.
        project_id: The project.
        environment: The environment, as the deploy spells it.
        revision: The revision.
        status: `started`, `succeeded`, `failed` or `timed_out`.
        user_id: The user who deployed.
        local_username: The account that ran it, where personal data is kept.
        start_time: The time of its start, UTC.
        finish_time: The time of its end, UTC; None while it runs.
    """

    id: int
    project_id: int | None
    environment: str
    revision: str
    status: str
    user_id: int | None
    local_username: str | None
    start_time: datetime
    finish_time: datetime | None

    @property
    def place(self) -> Environment:
        """The project and the environment that it was deployed to."""
        return place_of(self.project_id, self.environment)


@dataclass(frozen=True, kw_only=True)
class Relations:
    """Relations of a deploy to the others of its environment.

    Attributes:
        overlapping: IDs of the deploys that overlap, in order.
        is_rollback: Whether it brought back a revision that was live before the one that it replaced.
    """

    overlapping: Sequence[int]
    is_rollback: bool


def relate(deploys: Iterable[Deploy]) -> dict[int, Relations]:
    """Return the relations of each deploy that finished, by its id."""
    places: dict[Environment, list[Deploy]] = {}
    for deploy in deploys:
        places.setdefault(deploy.place, []).append(deploy)
    relations: dict[int, Relations] = {}
    for here in places.values():
        overlaps, rollbacks = _find_overlaps(here), _find_rollbacks(here)
        relations |= {
            deploy.id: Relations(overlapping=sorted(overlaps[deploy.id]), is_rollback=deploy.id in rollbacks)
            for deploy in here
            if deploy.finish_time
        }
    return relations


def _find_overlaps(deploys: Sequence[Deploy]) -> dict[int, set[int]]:
    """Return the deploys that overlap each one: from the start to an hour after the finish, or the start if it runs."""
    overlaps: dict[int, set[int]] = {deploy.id: set() for deploy in deploys}
    open_ones: list[Deploy] = []
    for deploy in sorted(deploys, key=lambda deploy: deploy.start_time):
        open_ones = [other for other in open_ones if _end(other) > deploy.start_time]
        for other in open_ones:
            overlaps[deploy.id].add(other.id)
            overlaps[other.id].add(deploy.id)
        open_ones.append(deploy)
    return overlaps


def _end(deploy: Deploy) -> datetime:
    return (deploy.finish_time or deploy.start_time) + HOUR_AFTER


def _find_rollbacks(deploys: Iterable[Deploy]) -> set[int]:
    """Return the deploys that brought back a revision that was live before the one that they replaced."""
    rollbacks: set[int] = set()
    live: str | None = None
    earlier: set[str] = set()
    finished = [(deploy.finish_time, deploy.id, deploy) for deploy in deploys if deploy.finish_time]
    for _, _, deploy in sorted(finished, key=lambda entry: entry[:2]):
        if deploy.status != _SUCCEEDED or deploy.revision == live:
            continue
        if deploy.revision in earlier:
            rollbacks.add(deploy.id)
        if live is not None:
            earlier.add(live)
        live = deploy.revision
    return rollbacks
