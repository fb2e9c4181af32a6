"""The body of the three assets: load the selected resources one after the other, and report each.

One resource that fails holds back none of the others: what loaded is recorded, then the run fails and says
which did not, and why.
"""

import errno
import os
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from tempfile import gettempdir

import dagster as dg
from dagster_dlt import DagsterDltResource
from dlt.common.warnings import DltDeprecationWarning

from analytics_dagster.catalog import Resource
from analytics_dagster.defs.metadata import metadata
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.ingest.errors import AnalyticsError, find_analytics_error
from analytics_dagster.ingest.load import Loader, LoadReport
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.warehouse.lock import write_lock
from analytics_dagster.ingest.windows import Window

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def load_selected(
    context: dg.AssetExecutionContext,
    dlt: DagsterDltResource,
    rows: Sequence[Resource],
    window: Window | None = None,
    *,
    resume: bool = False,
) -> Iterator[dg.MaterializeResult[None]]:
    """Load the resources that a run selects.

    Args:
        context: The run's.
        dlt: What runs a dlt pipeline inside a run.
        rows: The resources to choose from.
        window: What of them; None for all.
        resume: Start each where its coverage ends.

    Yields:
        The materialisation of each asset that loaded.

    Raises:
        dagster.Failure: A setting is wrong, the warehouse cannot be written, or at least one did not load.
    """
    selected = [row for row in rows if asset_key(row) in context.selected_asset_keys]
    failed: dict[str, str] = {}
    try:
        settings = load_settings()
        if settings.sandbox:
            context.log.warning("base_url is the sandbox: these rows are made up.")
        with write_lock(settings) as place, Loader(settings) as loader:
            for row in selected:
                try:
                    report = _load(context, dlt, loader, row, window, resume=resume)
                except Exception as error:  # whatever it is, the others are to load
                    failed[row.name] = sentence(error, row.name)
                    context.log.error(failed[row.name], exc_info=not find_analytics_error(error))  # noqa: TRY400 - a known one needs no trace
                else:
                    yield dg.MaterializeResult(asset_key=asset_key(row), metadata=metadata(report, settings, place))
    except AnalyticsError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {len(selected)} did not load: {' '.join(failed.values())}",
            metadata={f"failed/{name}": text for name, text in failed.items()},
        )


def _load(
    context: dg.AssetExecutionContext,
    dlt: DagsterDltResource,
    loader: Loader,
    row: Resource,
    window: Window | None,
    *,
    resume: bool,
) -> LoadReport:
    load = loader.begin(row, window, resume=resume)
    if load.source is not None:
        with warnings.catch_warnings():
            # dagster-dlt calls what dlt 1.30 deprecated; to go once it calls `abort_packages`.
            warnings.simplefilter("ignore", DltDeprecationWarning)
            # Its events are replaced by ours, which also count rows of an empty load.
            deque(dlt.run(context=context, dlt_source=load.source, dlt_pipeline=load.pipeline), maxlen=0)
    return load.finish()


def sentence(error: BaseException, name: str) -> str:
    """Return what went wrong as a sentence, out of whatever dlt wrapped around it."""
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
