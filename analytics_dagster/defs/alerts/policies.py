"""Folds the two alerts of an asset that is late, its check `freshness` and its freshness policy, into one. Pure.

    readings, announced = fold_policies(readings, announced)

The check is believed where both speak: it reads in the warehouse for which times rows are loaded, by project, while a
policy only knows when the asset was materialized last, and takes the backfill of an old day for a fresh load. The
policy is heard where the check is silent: the freshness daemon looks at it every half a minute and needs no run, so it
also notices that the job of the checks does not run.

How levels become alerts does not belong here: see `due.py`.
https://docs.dagster.io/guides/observe/asset-freshness-policies
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from analytics_dagster.defs.alerts.events import Level, Levels, Reading

_NEVER = datetime.min.replace(tzinfo=UTC)


def fold_policies(readings: Iterable[Reading], announced: Levels) -> tuple[list[Reading], Levels]:
    """Return the readings and the announced levels such that an asset that is late gives one alert.

    A reading that is not to be announced gets the level that was announced. A policy that is in time again, and whose
    check announces how the asset is, loses its announced level.

    Args:
        readings: The latest readings. A policy names the check of its asset in `told_by`.
        announced: The levels that were announced.
    """
    readings = list(readings)
    policies = {reading.told_by: reading for reading in readings if reading.told_by}
    results: dict[str, list[Reading]] = {}
    for reading in readings:
        results.setdefault(reading.subject, []).append(reading)
    folded, levels = list[Reading](), dict(announced)
    for reading in readings:
        if reading.told_by:
            level = _policy_level(reading, results.get(reading.told_by, ()), announced)
            if level is None:
                levels.pop(reading.subject, None)
                level = Level.PASS
            folded.append(replace(reading, level=level))
        else:
            policy = policies.get(reading.subject)
            told = policy is not None and _is_told_by_policy(reading, policy, announced)
            folded.append(replace(reading, level=_announced_level(reading, announced)) if told else reading)
    return folded, levels


def _policy_level(policy: Reading, results: Iterable[Reading], announced: Levels) -> Level | None:
    """Return the level of a policy beside the results of its check, by project; None to forget it silently.

    A check that is being evaluated has no result: what was announced of it stands for it.
    """
    assert policy.told_by
    check_announced = announced.get(policy.told_by, {})
    worst = max([result.level for result in results] or check_announced.values(), default=Level.PASS)
    checked_since = max((result.time for result in results), default=_NEVER) > policy.time
    known = _announced_level(policy, announced)
    if policy.level > known:
        # A result that is newer, and passes, is of a load that Dagster did not run, as in a notebook.
        return known if checked_since or worst >= policy.level else policy.level
    if policy.level is Level.PASS and known is not Level.PASS:
        if worst is not Level.PASS and not checked_since:
            return known  # the check has not seen the load yet: whether the asset is fresh is not known
        return None if worst is not Level.PASS or check_announced else Level.PASS
    return policy.level


def _is_told_by_policy(result: Reading, policy: Reading, announced: Levels) -> bool:
    """Return whether the alert of a policy tells a check's result: no project of the asset was loaded since.

    It does until the check was evaluated after the load that ended it.
    """
    lasts = policy.level >= result.level or result.time <= policy.time
    return _announced_level(result, announced) < result.level <= _announced_level(policy, announced) and lasts


def _announced_level(reading: Reading, announced: Levels) -> Level:
    return announced.get(reading.subject, {}).get(reading.project or "", Level.PASS)
