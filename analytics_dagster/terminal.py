"""Runs of the project's jobs in this process, for the commands `demo` and `checks`.

    with open_instance() as instance:
        result = run_job(instance, DATA_CHECKS)
        print(describe_checks(result))

The runs are on the project's Dagster instance, so they show in the UI.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster import DagsterInstance

from analytics_dagster.definitions import defs
from analytics_dagster.defs.alerts.event_log import describe_failures
from analytics_dagster.ingest.config_providers import project_root

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
PASSED = "PASS"


@dataclass(frozen=True, kw_only=True)
class CheckLine:
    """The result of a check, for a terminal.

    Attributes:
        asset: Name of the asset, which is the resource's.
        check: Name of the check.
        level: `PASS`, or the severity of a check that failed: `WARN` or `ERROR`.
        sentence: The description that the UI shows.
    """

    asset: str
    check: str
    level: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.level:<5}  {self.asset}.{self.check}: {self.sentence}"


def open_instance() -> DagsterInstance:
    """Open the instance that `dg dev` uses in this project."""
    return DagsterInstance.get() if "DAGSTER_HOME" in os.environ else DagsterInstance.from_config(str(project_root()))


def has_job(name: str) -> bool:
    """Return whether the settings leave a job anything to do."""
    return name in {job.name for job in defs.resolve_all_job_defs()}


def run_job(
    instance: DagsterInstance, name: str, tags: Mapping[str, str] | None = None
) -> tuple[dg.ExecuteInProcessResult, list[str]]:
    """Run a job, and return its result and the message of each step that failed."""
    result = defs.resolve_job_def(name).execute_in_process(
        instance=instance, tags=dict(tags or {}), run_config=_QUIET, raise_on_error=False
    )
    return result, describe_failures(event for event in result.all_events if event.is_step_failure)


def check_lines(result: dg.ExecuteInProcessResult) -> Sequence[CheckLine]:
    """Return the results of a run's checks, in the order of their evaluation."""
    return [
        CheckLine(
            asset=evaluation.asset_key.path[-1],
            check=evaluation.check_name,
            level=PASSED if evaluation.passed else evaluation.severity.value,
            sentence=evaluation.description or "",
        )
        for evaluation in result.get_asset_check_evaluations()
    ]


def summary(lines: Sequence[CheckLine]) -> str:
    """Return the numbers of checks that passed and failed, as a sentence."""
    levels = [line.level for line in lines]
    warnings, errors = (
        levels.count(severity.value) for severity in (dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR)
    )
    return f"{len(lines)} checks: {levels.count(PASSED)} passed, {warnings} with a warning, {errors} with an error."
