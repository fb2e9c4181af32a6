"""Results of a check by project, combined into one: Dagster keeps one result for each check of an asset.

    evaluate_by_project(projects, lambda project: evaluate_freshness(limits, coverage(project), None, now=now))

How one project is evaluated does not belong here.
"""

from collections.abc import Callable, Sequence

import dagster as dg

from analytics_dagster.defs.asset_checks.wording import format_names
from analytics_dagster.ingest.projects import Project

_SCHEMA = dg.TableSchema([dg.TableColumn(name, "text") for name in ("project", "result", "description")])


def evaluate_by_project(
    projects: Sequence[Project], evaluate: Callable[[Project], dg.AssetCheckResult]
) -> dg.AssetCheckResult:
    """Evaluate a check for each project, and return the worst result; it fails if one does.

    The figures are those of the project with the worst result; a table has the results of all. A single project's
    result is returned as it is.
    """
    results = {project.name: evaluate(project) for project in projects}
    if len(results) == 1:
        return next(iter(results.values()))
    worst = max(results, key=lambda name: _rank(results[name]))
    failed = [name for name, result in results.items() if not result.passed]
    others = [name for name, result in results.items() if result.passed]
    sentences = [f"{name}: {results[name].description}" for name in sorted(failed, key=lambda name: name != worst)]
    if others:
        sentences.append(f"{format_names(others)}: passed." if failed else f"{worst}: {results[worst].description}")
        if not failed and len(others) > 1:
            sentences.append(f"{format_names([name for name in others if name != worst])}: passed too.")
    records = [
        dg.TableRecord({"project": name, "result": _level(result), "description": result.description})
        for name, result in results.items()
    ]
    return results[worst]._replace(
        description=" ".join(sentences),
        metadata={
            **results[worst].metadata,
            "project": dg.MetadataValue.text(worst),
            "projects_failed": dg.MetadataValue.int(len(failed)),
            "projects": dg.MetadataValue.table(records, _SCHEMA),
        },
    )


def _rank(result: dg.AssetCheckResult) -> int:
    """Return how bad a result is."""
    if result.passed:
        return 0
    return 2 if result.severity == dg.AssetCheckSeverity.ERROR else 1


def _level(result: dg.AssetCheckResult) -> str:
    return "passed" if result.passed else result.severity.value
