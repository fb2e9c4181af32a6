"""The loads that are compared, each a function of a `Job`, and the process that runs one of them.

`python -m analytics_dagster_tests.benchmark.loaders '{…}'` loads a few rows elsewhere first, so that nothing is
imported or compiled while the clock runs, then does the job and prints what it took as JSON. One job a
process: peak memory and the state of libraries are the job's alone.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analytics_dagster_tests.benchmark.server import WARM_UP

if TYPE_CHECKING:
    from analytics_dagster.ingest.settings import Settings

KEY = "benchmark-key"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A load.

    Attributes:
        contender: Key of `CONTENDERS`.
        url: Base URL of the service.
        folder: Working files.
        warehouse: DuckDB file.
        page_size: Rows a page.
        in_flight: Requests in flight, where the contender knows more than one.
        memory_limit: DuckDB's, in our load; None for the shipped default, empty for none.
        start: First moment that is wanted, in epoch seconds; None, as the end, for all.
        end: First moment that is no longer wanted.
    """

    contender: str
    url: str
    folder: str
    warehouse: str
    page_size: int = 20
    in_flight: int = 8
    memory_limit: str | None = None
    start: float | None = None
    end: float | None = None


def ours(job: Job) -> None:
    """Load through the package, as the assets do: types, secrets removed, merge by key, continuity proven."""
    from analytics_dagster.catalog import get_resource  # noqa: PLC0415
    from analytics_dagster.ingest.source import build_source  # noqa: PLC0415
    from analytics_dagster.ingest.warehouse.pipeline import build_pipeline  # noqa: PLC0415
    from analytics_dagster.ingest.windows import Window  # noqa: PLC0415

    settings, occurrences = _settings(job), get_resource("occurrences")
    window = None
    if job.start is not None and job.end is not None:
        window = Window(start=datetime.fromtimestamp(job.start, UTC), end=datetime.fromtimestamp(job.end, UTC))
    source = build_source(occurrences, settings, now=datetime.now(UTC), window=window)
    build_pipeline(occurrences, settings, pipelines_dir=job.folder).run(source)


def ours_resumed(job: Job) -> None:
    """Load what is new of the last day, as the schedule does, of every resource ordered by its cursor."""
    from analytics_dagster.catalog import RESOURCES  # noqa: PLC0415
    from analytics_dagster.ingest.load import open_loader  # noqa: PLC0415
    from analytics_dagster.ingest.windows import Window  # noqa: PLC0415

    settings, now = _settings(job), datetime.now(UTC)
    with open_loader(settings) as loader:
        for row in RESOURCES:
            if row.cursor and row.cursor == row.ordered_by:
                load = loader.begin(row, Window(start=now - timedelta(days=1), end=now), resume=True)
                load.pipeline.run(load.source)
                load.finish()


def _settings(job: Job) -> "Settings":
    from analytics_dagster.ingest.settings import Settings  # noqa: PLC0415

    os.environ["DESTINATION__WAREHOUSE__CREDENTIALS"] = job.warehouse
    settings = Settings(
        base_url=job.url, api_key=KEY, page_size={"occurrences": job.page_size}, read_ahead=job.in_flight
    )
    return settings if job.memory_limit is None else settings.model_copy(update={"memory_limit": job.memory_limit})


def plain(job: Job, **run: Any) -> None:
    """Load through dlt's REST source alone, from the project's configuration of it."""
    import dlt  # noqa: PLC0415
    from dlt.sources.rest_api import rest_api_source  # noqa: PLC0415

    from analytics_dagster.catalog import get_resource  # noqa: PLC0415
    from analytics_dagster.ingest.rest_config import rest_api_config  # noqa: PLC0415

    source = rest_api_source(rest_api_config(_settings(job), [get_resource("occurrences")]))
    pipeline = dlt.pipeline(
        pipeline_name="plain",
        destination=dlt.destinations.duckdb(job.warehouse),
        dataset_name="analytics",
        pipelines_dir=job.folder,
    )
    pipeline.run(source, **run)


def plain_parquet(job: Job) -> None:
    """Load likewise, with Parquet as the format of the load files."""
    plain(job, loader_file_format="parquet")


def floor(job: Job) -> None:
    """Load through the fastest loop."""
    from analytics_dagster_tests.benchmark.fastest_loader import load  # noqa: PLC0415

    load(job.url, Path(job.warehouse), page_size=job.page_size, threads=job.in_flight)


CONTENDERS: dict[str, Callable[[Job], None]] = {
    "ours": ours,
    "ours-resumed": ours_resumed,
    "plain": plain,
    "plain-parquet": plain_parquet,
    "floor": floor,
}


def main(text: str) -> None:
    """Do the job given as JSON, after a small one, and print seconds, CPU seconds and peak memory."""
    job = Job(**json.loads(text))
    contender = CONTENDERS[job.contender]
    folder = Path(job.folder)
    warm_up = {
        "url": job.url + WARM_UP,
        "folder": str(folder / "warm"),
        "warehouse": str(folder / "warm.duckdb"),
        "start": None,
        "end": None,
    }
    contender(replace(job, **warm_up))
    usage = _cpu_seconds()
    began = time.perf_counter()
    contender(replace(job, folder=str(folder / "run")))
    seconds = time.perf_counter() - began
    print(  # noqa: T201 - read by runs.py
        json.dumps({"seconds": seconds, "cpu_seconds": _cpu_seconds() - usage, "peak_mb": _peak_mb()})
    )


def as_text(job: Job) -> str:
    """Return the job as `main` takes it."""
    return json.dumps(asdict(job))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _peak_mb() -> float:
    """Most memory that was resident in this process.

    Linux hands `ru_maxrss` on through `exec`: a child would be charged with the memory of its parent. The
    kernel's own figure for the process starts anew.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main(sys.argv[1])
