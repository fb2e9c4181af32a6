"""Reads the events that can be announced from Dagster's event log, in a few queries, however long the log is.

    events, since = read_events(instance, repository, announced, location=location, now=now)

Checks and freshness policies are read by their latest state, one query each. Reading on from the last event would open
a file for each run, because Dagster's SQLite storage keeps their events apart. Failures of runs are read by their time,
with an overlap, instead of by the ids of events: SQLite gives the ids of deleted events out again, and PostgreSQL may
show an event after one with a higher id. Runs that succeeded are read only while a failed one waits for them.

https://docs.dagster.io/guides/test/asset-checks, https://docs.dagster.io/guides/observe/asset-freshness-policies
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import dagster as dg

from analytics_dagster.defs.alerts.causes import digest, fingerprint
from analytics_dagster.defs.alerts.due import Announced
from analytics_dagster.defs.alerts.events import Event, FailedRun, Level, Reading, SucceededRun

_OVERLAP = timedelta(minutes=10)
"""Time for which failures of runs are looked for again: clocks differ, and an event is seen after it was made."""

_RUNS_READ = 500
"""Runs that failed, and runs that succeeded, that one tick reads."""

_FAILED = "failed/"
"""Beginning of the names under which a run records the message of each resource that it did not load."""

_POLICY = {
    "PASS": (Level.PASS, "Loaded in time."),
    "WARN": (Level.WARN, "The last load is longer ago than the policy's warning limit. See the runs of its group."),
    "FAIL": (Level.ERROR, "The last load is longer ago than the policy allows. See the runs of its group."),
}
"""Level and sentence of each state of a freshness policy. Others are of assets that were never loaded."""


def newest_event(instance: dg.DagsterInstance) -> int | None:
    """Return the id of the newest event in the log: while it stays the same, the log has nothing new."""
    return instance.event_log_storage.get_maximum_record_id()


def read_events(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    announced: Announced,
    *,
    location: str | None,
    now: datetime,
) -> tuple[list[Event], float]:
    """Read the latest result of each check, the state of each freshness policy, and the runs that can be announced.

    Args:
        instance: Dagster's instance.
        repository: The definitions whose checks and policies are read.
        announced: What was announced: failures of these runs, and those before its `since`, are left out.
        location: The code location whose runs are read.
        now: The time of the tick, UTC.

    Returns:
        The events, and the time in epoch seconds up to which failures of runs are known now.
    """
    graph = repository.asset_graph
    failures = instance.fetch_run_status_changes(
        dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_timestamp=announced.since),
        limit=_RUNS_READ,
        ascending=True,
    )
    until = failures.records[-1].timestamp if failures.has_more else now.timestamp()
    since = until if failures.has_more else (now - _OVERLAP).timestamp()
    times = {
        record.run_id: datetime.fromtimestamp(record.timestamp, UTC)
        for record in failures.records
        if record.run_id not in announced.runs
    }
    events: list[Event] = [
        *_read_checks(instance, graph.asset_check_keys),
        *_read_policies(instance, graph.get_all_asset_keys()),
        *_read_failed_runs(instance, repository, times, location),
    ]
    if times or announced.failures:
        succeeded = _read_succeeded_runs(instance, repository, announced.since, location)
        events += [run for run in succeeded if run.time.timestamp() <= until]
    return events, max(since, announced.since)


def subjects(repository: dg.RepositoryDefinition) -> set[str]:
    """Return the subjects of all checks and freshness policies of a repository."""
    graph = repository.asset_graph
    checks = {key.to_user_string() for key in graph.asset_check_keys}
    return checks | {key.to_user_string() for key in graph.get_all_asset_keys()}


def _read_checks(instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]) -> Iterator[Reading]:
    """Yield the latest result of each check. One that is being evaluated has none."""
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    for key, record in latest.items():
        evaluation = record.event.asset_check_evaluation if record.event else None
        if record.event is None or evaluation is None or key not in keys:
            continue
        reading = Reading(
            subject=key.to_user_string(),
            name=f"{key.asset_key.path[-1]}.{key.name}",
            level=Level.PASS if evaluation.passed else Level[evaluation.severity.value],
            sentence=evaluation.description or "",
            page=f"{_asset_page(key.asset_key)}?view=checks&checkDetail={quote(key.name)}",
            time=datetime.fromtimestamp(record.event.timestamp, UTC),
        )
        projects = evaluation.metadata.get("projects")
        yield from _split_by_project(reading, projects) if isinstance(projects, dg.TableMetadataValue) else [reading]


def _split_by_project(reading: Reading, projects: dg.TableMetadataValue) -> Iterator[Reading]:
    """Yield the reading of each project: one can fail, or recover, while another fails already."""
    for result in (record.data for record in projects.records):
        yield replace(
            reading,
            project=str(result["project"]),
            level=Level.__members__.get(str(result["result"]), Level.PASS),
            sentence=str(result["description"]),
        )


def _read_policies(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> Iterator[Reading]:
    """Yield the state of each freshness policy, of assets that were loaded."""
    for key, record in instance.get_freshness_state_records(list(keys)).items():
        if state := _POLICY.get(record.freshness_state.value):
            level, sentence = state
            yield Reading(
                subject=key.to_user_string(),
                name=f"{key.path[-1]}, freshness policy",
                level=level,
                sentence=sentence,
                page=_asset_page(key),
                time=record.updated_at.astimezone(UTC),
                told_by=dg.AssetCheckKey(key, "freshness").to_user_string(),
            )


def _read_failed_runs(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, times: dict[str, datetime], location: str | None
) -> Iterator[FailedRun]:
    """Yield the runs of a code location among those that failed. Runs that were deleted since are left out."""
    records = instance.get_run_records(dg.RunsFilter(run_ids=list(times))) if times else []
    for run in (record.dagster_run for record in records):
        if _location_of(run) != location:
            continue
        sentence, causes = _describe_run(instance, run.run_id)
        again = " Dagster runs it again." if run.tags.get("dagster/will_retry") == "true" else ""
        yield FailedRun(
            run_id=run.run_id,
            job=run.job_name,
            work=_work_of(run, repository),
            sentence=sentence + again,
            causes=tuple(causes),
            page=f"/runs/{run.run_id}",
            time=times[run.run_id],
        )


def _read_succeeded_runs(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, since: float, location: str | None
) -> Iterator[SucceededRun]:
    """Yield the newest runs of a code location that succeeded after a time, in epoch seconds."""
    succeeded = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=datetime.fromtimestamp(since, UTC))
    for record in instance.get_run_records(succeeded, limit=_RUNS_READ, order_by="update_timestamp"):
        run = record.dagster_run
        if record.end_time and _location_of(run) == location:
            yield SucceededRun(
                run_id=run.run_id,
                job=run.job_name,
                work=_work_of(run, repository),
                page=f"/runs/{run.run_id}",
                time=datetime.fromtimestamp(record.end_time, UTC),
            )


def _location_of(run: dg.DagsterRun) -> str | None:
    origin = run.remote_job_origin
    return origin.repository_origin.code_location_origin.location_name if origin else None


def _work_of(run: dg.DagsterRun, repository: dg.RepositoryDefinition) -> str:
    """Return the work of a run: its job, with the assets, checks and projects that were chosen of it, if some were.

    The three runs of a night share a job, and so do assets that are loaded by hand: the success of one says nothing of
    another. The partitions do not count: each tick has others.
    """
    chosen = set(run.asset_selection or ())
    if repository.has_job(run.job_name) and chosen == repository.get_job(run.job_name).asset_layer.selected_asset_keys:
        chosen = set()
    config: Mapping[str, Any] = run.run_config
    parts = [
        *(key.to_user_string() for key in chosen),
        *(key.to_user_string() for key in run.asset_check_selection or ()),
        *(f"project {name}" for op in (config.get("ops") or {}).values() for name in _projects_of(op)),
    ]
    return f"{run.job_name} {digest(*sorted(parts))}" if parts else run.job_name


def _projects_of(op: Mapping[str, Any]) -> Iterable[str]:
    """Return the projects that the config of an op chooses; none if it loads all."""
    return (op.get("config") or {}).get("projects") or ()


def _describe_run(instance: dg.DagsterInstance, run_id: str) -> tuple[str, list[str]]:
    """Return the errors of a failed run as text, and their fingerprints.

    The errors are of its steps, or else of the run itself, as when its process was killed.
    """

    def read(of_type: dg.DagsterEventType) -> list[dg.DagsterEvent]:
        records = instance.get_records_for_run(run_id, of_type=of_type).records
        return [event for record in records if (event := record.event_log_entry.dagster_event)]

    steps = read(dg.DagsterEventType.STEP_FAILURE)
    if errors := describe_failures(steps):
        return " ".join(errors), [fingerprint(name, text) for step in steps for name, text in _step_errors(step)]
    for event in read(dg.DagsterEventType.RUN_FAILURE):
        data = event.job_failure_data  # None for a run that Dagster itself found dead
        error = data.error if data else None
        errors.append((error.cause or error).message.strip() if error else event.message or "")
    errors = list(filter(None, errors)) or ["No cause was recorded: see the run's log."]
    return " ".join(errors), [fingerprint("", error) for error in errors]


def describe_failures(events: Iterable[dg.DagsterEvent]) -> list[str]:
    """Return the error of each event of a failed step."""
    errors = []
    for data in (event.step_failure_data for event in events):
        if data.user_failure_data and data.user_failure_data.description:
            errors.append(data.user_failure_data.description)
        elif data.error:
            errors.append((data.error.cause or data.error).message.strip())
    return errors


def _step_errors(event: dg.DagsterEvent) -> list[tuple[str, str]]:
    """Return the name and the message of each resource that a step did not load, or else of the step itself."""
    failure = event.step_failure_data.user_failure_data
    recorded = failure.metadata if failure else {}
    resources = [(name, str(value.value)) for name, value in recorded.items() if name.startswith(_FAILED)]
    return resources or [(event.step_key or "", text) for text in describe_failures([event])]


def _asset_page(key: dg.AssetKey) -> str:
    return f"/assets/{'/'.join(map(quote, key.path))}"
