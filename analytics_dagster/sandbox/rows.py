"""The rows of a project as of a second: items, metrics, deploys, query jobs, environments and the top active items.

Each function builds a row from entities (`model`), the project and `now`. Rows of occurrences are in `payload`, rows of
the account in `account`.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from operator import attrgetter

from analytics_dagster.sandbox.kinds import KINDS
from analytics_dagster.sandbox.model import DAY, HOUR, Deploy, Job, Occurrence, noise
from analytics_dagster.sandbox.payload import Row
from analytics_dagster.sandbox.project import SandboxProject

_BY_ID = attrgetter("id")
_LEVEL_CODES = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_FRAMEWORK_CODES = {name: code for code, name in enumerate(sorted({kind.framework for kind in KINDS}), start=1)}
_JOB_RUNS_AFTER = 3
_JOB_DELETED_AFTER = 7 * DAY


def _count_up_to(project: SandboxProject, events: Sequence[Occurrence], second: int) -> int:
    """Return how many of the events, which are ordered by id, have ids up to the end of a second."""
    return bisect_right(events, project.occurrence_id(second, 99), key=_BY_ID)


def _open_period(project: SandboxProject, events: Sequence[Occurrence], now: int) -> tuple[bool, Sequence[Occurrence]]:
    """Return whether the item is open, and the occurrences of its present open period, or else of its last one."""
    last, before = events[0].item.resolutions(now)
    if last is None:
        return True, events
    cut = _count_up_to(project, events, last)
    if cut < len(events):
        return True, events[cut:]
    return False, events if before is None else events[_count_up_to(project, events, before) :]


def item_row(project: SandboxProject, events: Sequence[Occurrence], now: int) -> Row:
    """Return the row of /v1/items. `events` are all occurrences of one item, at least one, ordered by id."""
    item = events[0].item
    number = noise(item.counter)
    # Occurrences that tests add may be late, so the greatest id need not be the newest.
    newest = max(events, key=attrgetter("timestamp", "id"))
    last_resolved, _ = item.resolutions(now)
    is_open, period = _open_period(project, events, now)
    # The first occurrence of the period is known if the history reaches back to it.
    first = period[0] if period and (last_resolved is not None or item.first_seen is None) else None
    status = item.fixed_status or ("active" if is_open else "resolved")
    tracked = {"tracker": {"issue-key": f"OPS-{item.counter}", "Priority": 2}}
    row: Row = {
        "id": item.id,
        "counter": item.counter,
        "project_id": project.id,
        "environment": item.environment,
        "title": item.title,
        "title_lock": int(number % 13 == 0),
        "level": item.level,
        "level_lock": int(number % 11 == 0),
        "status": status,
        "platform": item.kind.platform,
        "framework": item.kind.framework,
        "hash": "".join(f"{noise(item.counter, part):010x}"[-10:] for part in range(4)),
        "first_occurrence_id": project.occurrence_id(item.first_seen, 7) if item.first_seen else events[0].id,
        "first_occurrence_timestamp": item.first_seen or events[0].timestamp,
        "last_occurrence_id": newest.id,
        "last_occurrence_timestamp": newest.timestamp,
        "activating_occurrence_id": first.id if first else None,
        "last_activated_timestamp": first.timestamp if first else None,
        "last_resolved_timestamp": last_resolved,
        "total_occurrences": len(period),
        "unique_occurrences": len({event.person for event in period}) if item.counter % 5 else None,
        "assigned_user_id": (None, 301, 304)[number % 3],
        "last_modified_by": (None, 301, 302)[number // 3 % 3],
        "resolved_in_version": period[-1].code_version[:12] if status == "resolved" and period else None,
        "public_item_id": number % 90_000 + 10_000 if number % 17 == 0 else None,
        "integrations_data": (None, None, "", tracked)[number % 4],
        "controlling_id": item.id,
        "group_item_id": None,
        "group_status": 1,
    }
    if number % 4:
        row["assigned_team_id"] = 2001 + number % 7 if number % 3 == 0 else None
    if item.counter % 12 == 0:
        row |= {"group_status": 2, "group_item_id": item.id}
    return row


def metric_row(project: SandboxProject, events: Sequence[Occurrence], now: int) -> Row:
    """Return the row of /v1/metrics/items: the seconds to the item's first and last resolution."""
    item = events[0].item
    last, before = item.resolutions(now)
    first_ttr = last_ttr = None
    if last is not None and item.first_resolved is not None:
        first_ttr = last_ttr = max(0, item.first_resolved - (item.first_seen or events[0].timestamp))
        if before is not None:
            start = _count_up_to(project, events, before)
            # If the history does not reach back to that open period, the first time to resolve stands in.
            if start < len(events) and events[start].timestamp <= last:
                last_ttr = last - events[start].timestamp
    return {"item_counter": item.counter, "first_ttr": first_ttr, "last_ttr": last_ttr}


def active_row(project: SandboxProject, events: Sequence[Occurrence], now: int, hours: int) -> Row:
    """Return an entry of /v1/reports/top_active_items for the last `hours` clock hours, the current one included."""
    item = events[0].item
    start = now - now % HOUR - (hours - 1) * HOUR
    hours_begin = range(start, start + hours * HOUR, HOUR)
    edges = [_count_up_to(project, events, begin - 1) for begin in hours_begin] + [len(events)]
    counts = [after - before for before, after in pairwise(edges)]
    return {
        "item": {
            "id": item.id,
            "counter": item.counter,
            "project_id": project.id,
            "environment": item.environment,
            "title": item.title,
            "level": _LEVEL_CODES[item.level],
            "framework": _FRAMEWORK_CODES[item.kind.framework],
            "occurrences": sum(counts),
            "unique_occurrences": len({e.person for e in events[edges[0] :]}) if item.counter % 5 else None,
            "group_status": 2 if item.counter % 12 == 0 else 1,
            "last_occurrence_timestamp": events[-1].timestamp,
        },
        "counts": counts,
    }


def deploy_row(project: SandboxProject, deploy: Deploy, now: int) -> Row:
    """Return the row of /v1/deploys. Its status is `started` until the deploy settles; `start_time` never moves."""
    settled = deploy.finish is not None and deploy.finish <= now
    return {
        "id": deploy.id,
        "project_id": project.id,
        "environment": deploy.environment,
        "revision": deploy.revision,
        "status": deploy.outcome if settled else "started",
        "start_time": deploy.start,
        "finish_time": deploy.finish if settled else None,
        "local_username": deploy.local_username,
        "user_id": deploy.user_id,
        "comment": deploy.comment,
    }


def environment_row(project: SandboxProject, index: int) -> Row:
    """Return the row of /v1/environments. `visible` is a number in some rows and a boolean in others."""
    return {
        "id": project.environment_id(index),
        "project_id": project.id,
        "environment": project.environments[index],
        "visible": (1, True, 0, 1, False)[index % 5] if index > 1 else 1,
    }


def job_row(project: SandboxProject, job: Job, now: int) -> Row:
    """Return the row of /v1/rql/jobs. The job goes through its states; a week after its creation it is `Deleted`."""
    if now >= job.created + _JOB_DELETED_AFTER:
        status, modified = "Deleted", job.created + _JOB_DELETED_AFTER
    elif now >= job.finish:
        status, modified = job.outcome, job.finish
    elif now >= job.created + _JOB_RUNS_AFTER:
        status, modified = "running", job.created + _JOB_RUNS_AFTER
    else:
        status, modified = "new", job.created
    return {
        "id": job.id,
        "project_id": project.id,
        "project_group_id": 31 if job.id % 3 == 0 else None,
        "query_string": job.query,
        "status": status,
        "job_hash": f"{noise(job.id):016x}",
        "date_created": job.created,
        "date_modified": modified,
    }
