"""The events that alerts are about: readings of checks and policies, runs that failed, runs that succeeded.

`event_log.py` makes them of Dagster's records; whether one is announced does not belong here: see `due.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TypeAlias


class Level(IntEnum):
    """The level of a check or a freshness policy: the severity of its failure, or PASS."""

    PASS = 0
    WARN = 1
    ERROR = 2


Levels: TypeAlias = Mapping[str, Mapping[str, Level]]
"""Level of each subject, by project; `""` for no project."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The latest result of a check, or the latest state of a freshness policy.

    Attributes:
        subject: The check or the policy, by a name that is unique.
        project: The project whose rows were checked; None if they are of one project, or of the account.
        name: Name of the subject for people.
        level: Its level.
        sentence: The sentence of the result, with the next step.
        page: Path of its page in the UI.
        time: When it was recorded, UTC; for a policy, when its state changed.
        told_by: Of a policy: the subject of the check that tells the same in more detail; None for a check.
    """

    subject: str
    project: str | None = None
    name: str
    level: Level
    sentence: str
    page: str
    time: datetime
    told_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class FailedRun:
    """A run that failed.

    Attributes:
        run_id: Id of the run.
        job: Name of its job.
        work: The work of the run: runs of the same job that load the same assets of the same projects share it.
        sentence: The cause, with the next step where it is known.
        causes: Fingerprint of each cause; at least one.
        page: Path of its page in the UI.
        time: When it failed, UTC.
    """

    run_id: str
    job: str
    work: str
    sentence: str
    causes: tuple[str, ...]
    page: str
    time: datetime


@dataclass(frozen=True, kw_only=True)
class Failures:
    """The failed runs of a work since it succeeded last.

    Attributes:
        runs: How many there are.
        since: When the first of them failed, in epoch seconds.
        causes: When each cause was seen last, in epoch seconds, by its fingerprint.
    """

    runs: int
    since: float
    causes: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class SucceededRun:
    """A run that succeeded.

    Attributes:
        run_id: Id of the run.
        job: Name of its job.
        work: As in `FailedRun`.
        page: Path of its page in the UI.
        time: When it ended, UTC.
        ended: The failures that it ended; None before `due.py` looked for them.
    """

    run_id: str
    job: str
    work: str
    page: str
    time: datetime
    ended: Failures | None = None


Event: TypeAlias = Reading | FailedRun | SucceededRun
