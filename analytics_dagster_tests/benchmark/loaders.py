"""The loaders that are compared, each a function of a `Job`, and the process that runs one of them.

`python -m analytics_dagster_tests.benchmark.loaders '{…}'` first loads a few rows into another warehouse, so that
nothing is imported or compiled while the clock runs. Then it does the job and prints the duration and the memory as
JSON. A process does one job: peak memory and the state of libraries belong to that job alone.
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
from typing import TYPE_CHECKING, Any, Literal

from analytics_dagster_tests.benchmark.server import WARM_UP

if TYPE_CHECKING:
    from analytics_dagster.ingest.settings import Settings
    from analytics_dagster.ingest.windows import Window

KEY = "benchmark-key"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A load.

    Attributes:
        loader: Key of `LOADERS`.
        url: Base URL of the service.
        folder: Folder of the working files.
        warehouse: DuckDB file, or URL of a PostgreSQL database.
        warm_warehouse: The same for the warm-up.
        page_size: The setting `page_size` of the occurrences; None if it is not set. The floor needs one.
        paging: The setting `paging` of the occurrences.
        in_flight: Requests in flight, if the loader sends several at a time.
        memory_limit: The setting `memory_limit`; None for its default, empty for no limit.
        start: Start of the window `[start, end)`, in epoch seconds; None, like `end`, for all rows.
        end: End of the window.
    """

    loader: str
    url: str
    folder: str
    warehouse: str
    warm_warehouse: str = ""
    page_size: int | None = None
    paging: Literal["auto", "page", "keyset"] = "auto"
    in_flight: int = 8
    memory_limit: str | None = None
    start: float | None = None
    end: float | None = None


def load_with_package(job: Job) -> None:
    """Load through the package, as the assets do: typed columns, secrets removed, merge by key, continuity proven."""
    from analytics_dagster.catalog import get_resource  # noqa: PLC0415
    from analytics_dagster.ingest.read_request import ReadRequest  # noqa: PLC0415
    from analytics_dagster.ingest.source import Reading, build_source  # noqa: PLC0415
    from analytics_dagster.ingest.warehouse.pipeline import build_pipeline  # noqa: PLC0415

    settings, occurrences, window = _build_settings(job), get_resource("occurrences"), _build_window(job)
    request = ReadRequest(resource=occurrences, settings=settings, now=datetime.now(UTC), window=window)
    source = build_source([Reading(request=request)])
    build_pipeline(occurrences, settings, pipelines_dir=job.folder).run(source)


def load_in_pieces(job: Job) -> None:
    """Load through the package as the assets do, with coverage: a long window in pieces, each merged by itself."""
    from analytics_dagster.catalog import get_resource  # noqa: PLC0415
    from analytics_dagster.ingest.load import load_resource  # noqa: PLC0415

    load_resource(get_resource("occurrences"), _build_settings(job), _build_window(job))


def _build_window(job: Job) -> "Window | None":
    from analytics_dagster.ingest.windows import Window  # noqa: PLC0415

    if job.start is None or job.end is None:
        return None
    return Window(start=datetime.fromtimestamp(job.start, UTC), end=datetime.fromtimestamp(job.end, UTC))


def resume_with_package(job: Job) -> None:
    """Load the new rows of the last day, as the schedule does, of every resource that is ordered by its cursor."""
    from analytics_dagster.catalog import RESOURCES  # noqa: PLC0415
    from analytics_dagster.ingest.load import open_loader  # noqa: PLC0415
    from analytics_dagster.ingest.windows import Window  # noqa: PLC0415

    settings, now = _build_settings(job), datetime.now(UTC)
    with open_loader(settings) as loader:
        for each in RESOURCES:
            if each.cursor and each.cursor == each.ordered_by:
                load = loader.begin(each, Window(start=now - timedelta(days=1), end=now), resume=True)
                for source in load.sources():
                    load.pipeline.run(source)
                load.finish()


def _build_settings(job: Job) -> "Settings":
    from pydantic import SecretStr  # noqa: PLC0415

    from analytics_dagster.ingest.settings import Settings  # noqa: PLC0415

    os.environ["DESTINATION__WAREHOUSE__DESTINATION_TYPE"] = "postgres" if _in_postgres(job) else "duckdb"
    os.environ["DESTINATION__WAREHOUSE__CREDENTIALS"] = job.warehouse
    settings = Settings(
        base_url=job.url,
        api_key=SecretStr(KEY),
        page_size={} if job.page_size is None else {"occurrences": job.page_size},
        paging={"occurrences": job.paging},
        read_ahead=job.in_flight,
    )
    return settings if job.memory_limit is None else settings.model_copy(update={"memory_limit": job.memory_limit})


def _in_postgres(job: Job) -> bool:
    return job.warehouse.startswith("postgresql:")


def load_with_plain_dlt(job: Job, **run_options: Any) -> None:
    """Load through dlt's own REST API source, with the project's configuration of it."""
    import dlt  # noqa: PLC0415
    from dlt.sources.rest_api import rest_api_source  # noqa: PLC0415

    from analytics_dagster.catalog import get_resource  # noqa: PLC0415
    from analytics_dagster.ingest.rest_config import rest_api_config  # noqa: PLC0415

    source = rest_api_source(rest_api_config(_build_settings(job), [get_resource("occurrences")]))
    pipeline = dlt.pipeline(
        pipeline_name="plain",
        destination=(dlt.destinations.postgres if _in_postgres(job) else dlt.destinations.duckdb)(job.warehouse),
        dataset_name="analytics",
        pipelines_dir=job.folder,
    )
    pipeline.run(source, **run_options)


def load_with_plain_dlt_parquet(job: Job) -> None:
    """Load through dlt's own REST API source, with Parquet as the format of the load files."""
    load_with_plain_dlt(job, loader_file_format="parquet")


def load_with_floor(job: Job) -> None:
    """Load through the fastest loader."""
    from analytics_dagster_tests.benchmark.fastest_loader import load_occurrences  # noqa: PLC0415

    if job.page_size is None:
        raise ValueError("The floor needs a page size.")
    load_occurrences(job.url, Path(job.warehouse), page_size=job.page_size, threads=job.in_flight)


LOADERS: dict[str, Callable[[Job], None]] = {
    "ours": load_with_package,
    "ours-in-pieces": load_in_pieces,
    "ours-resumed": resume_with_package,
    "plain": load_with_plain_dlt,
    "plain-parquet": load_with_plain_dlt_parquet,
    "floor": load_with_floor,
}


def main(text: str) -> None:
    """Run a job given as JSON, after a warm-up, and print its seconds, CPU seconds and peak memory as JSON."""
    job = Job(**json.loads(text))
    load = LOADERS[job.loader]
    folder = Path(job.folder)
    warm_up = {
        "url": job.url + WARM_UP,
        "folder": str(folder / "warm"),
        "warehouse": job.warm_warehouse,
        "start": None,
        "end": None,
    }
    load(replace(job, **warm_up))
    cpu_began = cpu_seconds()
    began = time.perf_counter()
    load(replace(job, folder=str(folder / "run")))
    seconds = time.perf_counter() - began
    print(  # noqa: T201 - read by runs.py
        json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds() - cpu_began, "peak_mb": peak_mb()})
    )


def encode_job(job: Job) -> str:
    """Return the job as JSON, the argument of `main`."""
    return json.dumps(asdict(job))


def cpu_seconds() -> float:
    """Return the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_mb() -> float:
    """Return the peak resident memory of this process.

    Linux passes `ru_maxrss` on through `exec`, so that it would include the memory of the parent. `VmHWM` starts anew.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except (OSError, IndexError):
        unit = 1024**2 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main(sys.argv[1])
