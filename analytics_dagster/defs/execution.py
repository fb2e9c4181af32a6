"""Execution of the three `@dlt_assets`: loads the selected resources one after the other, and yields their results.

A run that is executed again goes on where the first one stopped.

A resource that fails does not stop the others: the run records those that loaded, then fails with the name and the
error of each that did not. Small lists are loaded first, so that deploys do not wait behind a storm of occurrences.

    yield from load_selected(context, dlt, warehouse, resources, window, resume=config.resume)

https://docs.dagster.io/integrations/libraries/dlt
"""

import errno
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from tempfile import gettempdir
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltResource
from dlt.common.warnings import DltDeprecationWarning
from dlt.extract.source import DltSource

from analytics_dagster.catalog import Resource
from analytics_dagster.defs.history import Origin, forget_other_origins
from analytics_dagster.defs.instance import missing_instance_settings
from analytics_dagster.defs.metadata import build_metadata
from analytics_dagster.defs.resources import WarehouseResource
from analytics_dagster.defs.translator import asset_key, service_event
from analytics_dagster.ingest.errors import AnalyticsError, find_analytics_error
from analytics_dagster.ingest.load import Load, Loader, LoadReport
from analytics_dagster.ingest.settings import Settings, load_settings
from analytics_dagster.ingest.warehouse.location import destination_kind
from analytics_dagster.ingest.windows import Window

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def load_selected(
    context: dg.AssetExecutionContext,
    dlt: DagsterDltResource,
    warehouse: WarehouseResource,
    resources: Sequence[Resource],
    window: Window | None = None,
    *,
    resume: bool = False,
    projects: Sequence[str] = (),
) -> Iterator[dg.MaterializeResult[None]]:
    """Load the resources that a run selects.

    Args:
        context: The context of the run.
        dlt: Dagster's resource that runs dlt pipelines.
        warehouse: Dagster's resource that opens the warehouse.
        resources: The resources of the asset definition.
        window: The window of the cursor to load; None for all rows.
        resume: Start each resource at the end of its coverage.
        projects: Names of the projects to load; all by default.

    Yields:
        The result of each asset that loaded. Partitions count as loaded once all projects are: until then the figures
        of the others are recorded without a partition, so that sensors see them.

    Raises:
        dagster.Failure: A setting is wrong, the warehouse cannot be written, or at least one resource did not load.
    """
    selected = order_loads(resource for resource in resources if asset_key(resource) in context.selected_asset_keys)
    failed: dict[str, str] = {}
    answered = False
    since = None if resume else _began_first(context)
    try:
        settings = load_settings()
        if advice := missing_instance_settings(context.instance, destination_kind(settings)):
            context.log.warning(advice)
        if settings.sandbox:
            context.log.warning("base_url is the sandbox: these rows are made up.")
        with warehouse.loader(settings) as loader:
            for resource in selected:
                try:
                    load = loader.begin(resource, window, resume=resume, loaded_since=since, projects=projects)
                    for source in load.sources():
                        _run_pipeline(context, dlt, load, source)
                    report = load.finish()
                    if forgotten := _forget_other_origins(context, loader, report):
                        context.log.warning(forgotten)
                except Exception as error:  # noqa: BLE001 - any error, so that the other resources load
                    failed[resource.name] = _log_failure(context, error, resource.name)
                    continue
                failed |= _log_failures(context, report)
                if report.loaded:
                    yield from _record(context, report, build_metadata(report, settings, loader.location), settings)
                    if not answered:
                        context.instance.report_runless_asset_event(service_event(settings.source_address))
                    answered = True
    except AnalyticsError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    if failed:
        incomplete = {name.partition(" ")[0] for name in failed}
        raise dg.Failure(
            f"{len(incomplete)} of {len(selected)} did not load: {' '.join(failed.values())}",
            metadata={f"failed/{name}": text for name, text in failed.items()},
        )


def _record(
    context: dg.AssetExecutionContext, report: LoadReport, metadata: dict[str, Any], settings: Settings
) -> Iterator[dg.MaterializeResult[None]]:
    """Yield the result of a load. One that lacks projects is recorded without its partitions: they are not loaded."""
    asset = asset_key(report.resource)
    if report.resource.incremental and len(report.loaded) < len(settings.project_names):
        context.log_event(dg.AssetMaterialization(asset, metadata=metadata))
    else:
        yield dg.MaterializeResult(asset_key=asset, metadata=metadata)


def _log_failures(context: dg.AssetExecutionContext, report: LoadReport) -> dict[str, str]:
    """Log the failures of projects, and return their messages by resource and project."""
    names = {f"{report.resource.name} of {failed.project.name}": failed.error for failed in report.failed}
    return {name: _log_failure(context, error, name) for name, error in names.items()}


def _log_failure(context: dg.AssetExecutionContext, error: Exception | None, name: str) -> str:
    """Log the failure of a load, with the trace of an error that is not known, and return its message."""
    assert error
    message = failure_message(error, name)
    context.log.error(message, exc_info=None if find_analytics_error(error) else error)
    return message


def _forget_other_origins(context: dg.AssetExecutionContext, loader: Loader, report: LoadReport) -> str | None:
    """Wipe Dagster's history of other origins; return a sentence about it, or None if there was none."""
    if not report.loaded:
        return None
    projects = frozenset({project.id for project in loader.projects if project.id is not None})
    if report.resource.account_key or len(loader.projects) == 1:
        projects = frozenset() if report.project is None else frozenset({report.project})
    elif len(projects) < len(loader.projects):
        projects = frozenset()  # an unknown project may be the one of the history
    return forget_other_origins(context.instance, report.resource, Origin(loader.settings.source_address, projects))


def order_loads(resources: Iterable[Resource]) -> list[Resource]:
    """Return resources in the order of their loads: large lists, which have keyset pagination, come last."""
    return sorted(resources, key=lambda resource: resource.keyset is not None)


def _began_first(context: dg.AssetExecutionContext) -> datetime | None:
    """Return when the first run of a re-execution began, UTC: what it loaded stays loaded.

    None for a first run, and for one that is executed again though it succeeded: it loads everything once more.
    """
    root = context.run.tags.get("dagster/root_run_id")
    record = context.instance.get_run_record_by_id(root) if root else None
    failed = record is not None and not record.dagster_run.is_success
    return record.create_timestamp.astimezone(UTC) if record and failed else None


def _run_pipeline(context: dg.AssetExecutionContext, dlt: DagsterDltResource, load: Load, source: DltSource) -> None:
    """Run one source of a load inside a Dagster run."""
    with warnings.catch_warnings():
        # dagster-dlt calls a method that dlt 1.30 deprecated. To go once it calls `abort_packages`.
        warnings.simplefilter("ignore", DltDeprecationWarning)
        # Its results are dropped for those of `load_selected`, which also have the figures of an empty load.
        deque(dlt.run(context=context, dlt_source=source, dlt_pipeline=load.pipeline), maxlen=0)


def failure_message(error: BaseException, name: str) -> str:
    """Return the message of a resource's failure: that of the error which dlt or Dagster wrapped in others."""
    if (known := find_analytics_error(error)) is not None:
        return str(known)
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    first_line = str(cause).strip().partition("\n")[0].removesuffix(".")
    advice = ""
    if getattr(cause, "errno", None) in _NO_ROOM or any(os.strerror(number) in first_line for number in _NO_ROOM):
        advice = f" Make room where the warehouse is, and in {gettempdir()}."
    return f"{name}: {type(cause).__name__}: {first_line}.{advice} The rows that were there before are untouched."
