"""Decides which alerts are due: compares what Dagster recorded with what was announced. Pure.

    alerts, announced = alerts_due(events, announced)

A check, or a freshness policy, is at a level. An alert is due when it rises above its last level, and when it passes
again. A fall from ERROR to WARN is silent, because the fault lasts and its reader knows of it; a new rise is announced.
A failed run is announced once. A run that is executed again and fails is another one.

The first tick compares with nothing announced: it announces the checks that fail already, which nobody was told of. The
failures of runs before it are past. `event_log.py` reads the events, `wording.py` describes them.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from typing import TypeAlias


class Level(IntEnum):
    """The level of a check or a freshness policy: the severity of its failure, or PASS."""

    PASS = 0
    WARN = 1
    ERROR = 2


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
        time: When it was recorded, UTC.
    """

    subject: str
    project: str | None = None
    name: str
    level: Level
    sentence: str
    page: str
    time: datetime


@dataclass(frozen=True, kw_only=True)
class FailedRun:
    """A run that failed.

    Attributes:
        run_id: Id of the run.
        job: Name of its job.
        sentence: The cause, with the next step where it is known.
        page: Path of its page in the UI.
        time: When it failed, UTC.
    """

    run_id: str
    job: str
    sentence: str
    page: str
    time: datetime


Event: TypeAlias = Reading | FailedRun


@dataclass(frozen=True)
class Announced:
    """What was announced.

    Attributes:
        levels: Level of each subject, by project, that was announced and has not passed since; `""` for no project.
        runs: Time of failure, in epoch seconds, of each run that was announced, if it is later than `since`.
        since: Failures of runs up to this time, in epoch seconds, are known.
    """

    levels: Mapping[str, Mapping[str, Level]] = field(default_factory=dict)
    runs: Mapping[str, float] = field(default_factory=dict)
    since: float = 0.0

    def only(self, subjects: Container[str]) -> "Announced":
        """Return the same without the levels of other subjects: checks that are not defined any more."""
        return replace(self, levels={subject: found for subject, found in self.levels.items() if subject in subjects})

    def known_until(self, since: float) -> "Announced":
        """Return the same with the failures of runs known up to a time."""
        return replace(self, since=since, runs={run: time for run, time in self.runs.items() if time > since})


def alerts_due(events: Iterable[Event], announced: Announced) -> tuple[list[Event], Announced]:
    """Return the events to announce, oldest first, and what is announced with them.

    A reading at the level PASS among them announces that its subject passes again.

    Args:
        events: The latest reading of each subject and project, and runs that failed, in any order. A subject without
            a reading keeps its levels: its history was wiped, or its check is being evaluated. A project without one,
            of a subject that has others, is forgotten: it is not loaded any more.
        announced: What was announced before.
    """
    levels, runs = dict[str, dict[str, Level]](), dict(announced.runs)
    alerts = []
    for event in sorted(events, key=lambda event: event.time):
        if isinstance(event, FailedRun):
            due = event.run_id not in runs
            runs[event.run_id] = event.time.timestamp()
        else:
            project = event.project or ""
            before = announced.levels.get(event.subject, {}).get(project, Level.PASS)
            due = event.level > before or (event.level is Level.PASS and before is not Level.PASS)
            failing = levels.setdefault(event.subject, {})
            if event.level is not Level.PASS:
                failing[project] = event.level
        if due:
            alerts.append(event)
    failing_still = {subject: found for subject, found in {**announced.levels, **levels}.items() if found}
    return alerts, replace(announced, levels=failing_still, runs=runs)
