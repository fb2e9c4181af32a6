"""Decides which alerts are due: compares what Dagster recorded with what was announced. Pure.

    alerts, announced = alerts_due(events, announced)

A check, or a freshness policy, is at a level. An alert is due when it rises above its last level, and when it passes
again. A fall from ERROR to WARN is silent, because the fault lasts and its reader knows of it; a new rise is announced.

A failed run is announced if one of its causes is new: not seen in the last failures of the same work. While a service
is down, a job fails every quarter of an hour, and says nothing new. The first run of the work that succeeds is
announced, and ends its failures.

The first tick compares with nothing announced: it announces the checks that fail already, which nobody was told of. The
failures of runs before it are past. `event_log.py` reads the events, `wording.py` describes them.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TypeAlias, TypeVar

from analytics_dagster.defs.alerts.events import Event, FailedRun, Failures, Level, Levels, Reading, SucceededRun
from analytics_dagster.defs.alerts.policies import fold_policies

Run: TypeAlias = FailedRun | SucceededRun

Value = TypeVar("Value")

CAUSE_REMEMBERED = timedelta(days=2)
"""Time for which a cause that does not come back is remembered: longer than from one night to the next. A cause that
is gone, while another goes on failing the job, is announced again when it returns after that."""

CAUSES_KEPT = 1_000
"""Causes of a work that are remembered: more than ten assets of a hundred projects make in practice."""

WORKS_KEPT = 20
"""Works whose failures are remembered: more than there are jobs, because assets that are chosen by hand are another."""


@dataclass(frozen=True)
class Announced:
    """What was announced.

    Attributes:
        levels: Levels that were announced, of subjects that have not passed since.
        runs: Time of failure, in epoch seconds, of each failed run that was read, if it is later than `since`.
        failures: Failures of each work since its last success, the longest ago first.
        since: Failures of runs up to this time, in epoch seconds, are known.
    """

    levels: Levels = field(default_factory=dict)
    runs: Mapping[str, float] = field(default_factory=dict)
    failures: Mapping[str, Failures] = field(default_factory=dict)
    since: float = 0.0

    def only(self, subjects: Container[str]) -> "Announced":
        """Return the same without the levels of other subjects: checks that are not defined any more."""
        return replace(self, levels={subject: found for subject, found in self.levels.items() if subject in subjects})

    def known_until(self, since: float) -> "Announced":
        """Return the same with the failures of runs known up to a time."""
        return replace(self, since=since, runs={run: time for run, time in self.runs.items() if time > since})


def alerts_due(events: Sequence[Event], announced: Announced) -> tuple[list[Event], Announced]:
    """Return the events to announce, oldest first, and what is announced with them.

    A reading at the level PASS among them announces that its subject passes again, a run that succeeded that its work
    does.

    Args:
        events: The latest reading of each subject and project, runs that failed, and runs that succeeded, in any order.
            A subject without a reading keeps its levels: its history was wiped, or its check is being evaluated. A
            project without one, of a subject that has others, is forgotten: it is not loaded any more.
        announced: What was announced before.
    """
    readings = [event for event in events if isinstance(event, Reading)]
    runs = [event for event in events if not isinstance(event, Reading)]
    changed, levels = _changed_readings(*fold_policies(readings, announced.levels))
    told, announced = _runs_to_tell(sorted(runs, key=lambda run: run.time), announced)
    return sorted([*changed, *told], key=lambda event: event.time), replace(announced, levels=levels)


def _changed_readings(readings: Iterable[Reading], announced: Levels) -> tuple[list[Reading], Levels]:
    """Return the readings that rose above their announced level, or passed again, and the levels announced then."""
    levels, changed = dict[str, dict[str, Level]](), []
    for reading in readings:
        project = reading.project or ""
        before = announced.get(reading.subject, {}).get(project, Level.PASS)
        if reading.level > before or (reading.level is Level.PASS and before is not Level.PASS):
            changed.append(reading)
        failing = levels.setdefault(reading.subject, {})
        if reading.level is not Level.PASS:
            failing[project] = reading.level
    return changed, {subject: found for subject, found in {**announced, **levels}.items() if found}


def _runs_to_tell(runs: Iterable[Run], announced: Announced) -> tuple[list[Run], Announced]:
    """Return the runs that failed for a new cause or ended failures; runs come, and are returned, oldest first."""
    read, failures, told = dict(announced.runs), dict(announced.failures), list[Run]()
    for run in runs:
        time = run.time.timestamp()
        before = failures.get(run.work)
        if isinstance(run, SucceededRun):
            if before and time > max(before.causes.values()):
                told.append(replace(run, ended=failures.pop(run.work)))
        elif run.run_id not in read:
            read[run.run_id] = time
            known = _known_causes(before, time)
            if not known.keys() >= set(run.causes):
                told.append(run)
            seen = {cause: max(time, known.pop(cause, time)) for cause in run.causes}
            failures.pop(run.work, None)
            failures[run.work] = Failures(
                runs=before.runs + 1 if before else 1,
                since=min(time, before.since) if before else time,
                causes=_last_items({**known, **seen}, CAUSES_KEPT),
            )
    return told, replace(announced, runs=read, failures=_last_items(failures, WORKS_KEPT))


def _known_causes(failures: Failures | None, time: float) -> dict[str, float]:
    """Return the causes of failures that a run at some time, in epoch seconds, need not tell again."""
    recent = time - CAUSE_REMEMBERED.total_seconds()
    return {cause: seen for cause, seen in failures.causes.items() if seen >= recent} if failures else {}


def _last_items(values: dict[str, Value], number: int) -> dict[str, Value]:
    return dict(list(values.items())[-number:])
