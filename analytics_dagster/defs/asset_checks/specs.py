"""The checks of every table, one row of `CHECKS` each.

A check applies to each resource of the catalog whose facts it needs, so a new resource has its checks at once. To turn
a warning into an error, change the check's `severity` here. `evaluations.py`, `freshness.py` and `row_count.py`
evaluate the checks, `multi_asset_check.py` runs them:

    for check in CHECKS:
        if check.applies_to(resource, settings):
            result = check.evaluate(inputs)

https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

from analytics_dagster.catalog import Resource
from analytics_dagster.defs.asset_checks import evaluations, freshness, row_count
from analytics_dagster.defs.asset_checks.by_project import evaluate_by_project
from analytics_dagster.defs.asset_checks.inputs import CheckInputs
from analytics_dagster.defs.partitions import build_partitions
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.ingest.settings import Settings

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check, on every resource that it applies to.

    Attributes:
        name: Name of the check on an asset; `{noun}` in it stands for what the resource refers to.
        description: Sentence for the UI that is true if the check passes.
        severity: Severity of a failure; None if the evaluation sets it.
        evaluate: Evaluates a table that exists.
        evaluate_missing: Evaluates a resource whose table does not exist yet.
        applies_to: Whether the check applies to a resource under the settings.
    """

    name: str
    description: str
    severity: dg.AssetCheckSeverity | None
    evaluate: Callable[[CheckInputs], dg.AssetCheckResult]
    evaluate_missing: Callable[[Resource], dg.AssetCheckResult] = lambda _: evaluations.NOT_LOADED_YET
    applies_to: Callable[[Resource, Settings], bool] = lambda *_: True

    def key(self, resource: Resource) -> dg.AssetCheckKey:
        """Return the check's key on a resource's asset."""
        noun = resource.references.noun if resource.references else ""
        return dg.AssetCheckKey(asset_key(resource), self.name.format(noun=noun))


def _evaluate_references(inputs: CheckInputs) -> dg.AssetCheckResult:
    reference = inputs.resource.references
    assert reference
    before = min(inputs.profile.newest_row or inputs.now, inputs.now) - reference.tolerated
    unmatched = inputs.tables.unmatched(inputs.resource, before=before)
    return evaluations.evaluate_references(reference, inputs.profile, unmatched, before=before)


def _evaluate_row_count(inputs: CheckInputs) -> dg.AssetCheckResult:
    previous = inputs.previous_row_count()
    return row_count.evaluate_row_count(
        inputs.resource,
        inputs.row_count(),
        previous,
        elsewhere=inputs.counted_elsewhere(),
        older_copy=bool(previous and previous.latest_load and not inputs.tables.has_load(previous.latest_load)),
        empty_lists={
            project.name: times
            for project in inputs.projects
            if (times := inputs.tables.empty_lists(inputs.resource, project))
        },
    )


def _evaluate_freshness(inputs: CheckInputs) -> dg.AssetCheckResult:
    newest_row = inputs.profile.newest_row
    return evaluate_by_project(
        inputs.projects,
        lambda project: freshness.evaluate_freshness(
            inputs.resource.freshness, inputs.coverage(project), newest_row, now=inputs.now
        ),
    )


def _evaluate_complete_history(inputs: CheckInputs) -> dg.AssetCheckResult:
    return evaluate_by_project(
        inputs.projects,
        lambda project: freshness.evaluate_complete_history(
            inputs.resource,
            inputs.windows[project],
            build_partitions(inputs.settings),
            keep_from=inputs.settings.keep_from(inputs.resource, inputs.now),
            shortfalls=inputs.tables.shortfalls(inputs.resource, project),
            now=inputs.now,
            project=project.name if len(inputs.projects) > 1 else None,
        ),
    )


CHECKS = (
    Check(
        name="freshness",
        description="The data is there up to now, within the limits of the catalog.",
        severity=None,  # WARN, then ERROR, by the resource's `freshness` in the catalog
        evaluate=_evaluate_freshness,
        evaluate_missing=lambda resource: freshness.evaluate_never_loaded(resource.freshness),
    ),
    Check(
        name="complete_history",
        description="Every day since start_date is loaded, and has the rows that were loaded.",
        severity=WARN,
        evaluate=_evaluate_complete_history,
        applies_to=lambda resource, _: resource.incremental,
    ),
    Check(
        name="primary_key",
        description="The primary key is unique, and never null.",
        severity=ERROR,
        evaluate=lambda inputs: evaluations.evaluate_primary_key(
            inputs.resource, inputs.profile, inputs.tables.repeated_keys(inputs.resource)
        ),
    ),
    Check(
        name="not_null",
        description="Columns that are declared to have a value have one.",
        severity=ERROR,
        evaluate=lambda inputs: evaluations.evaluate_not_null(inputs.profile),
    ),
    Check(
        name="unknown_fields",
        description="The service sends no field that the catalog does not know.",
        severity=WARN,
        evaluate=lambda inputs: evaluations.evaluate_unknown_fields(
            inputs.tables.unknown_fields(inputs.resource, since=inputs.recent_since), since=inputs.recent_since
        ),
    ),
    Check(
        name="rejected_rows",
        description="No row was set aside because it does not fit its columns.",
        severity=WARN,
        evaluate=lambda inputs: evaluations.evaluate_rejected_rows(
            inputs.tables.rejected(inputs.resource, since=inputs.recent_since), since=inputs.recent_since
        ),
    ),
    Check(
        name="row_count",
        description="No row is gone since the last check without a known reason, and the service still lists rows.",
        severity=WARN,
        evaluate=_evaluate_row_count,
    ),
    Check(
        name="{noun}_exists",
        description="The row that a row refers to is there, except for the youngest rows.",
        severity=WARN,
        evaluate=_evaluate_references,
        applies_to=lambda resource, settings: (
            resource.references is not None and resource.references.resource not in settings.disabled
        ),
    ),
)
