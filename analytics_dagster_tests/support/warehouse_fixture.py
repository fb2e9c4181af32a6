"""A warehouse as an earlier version wrote it, and the service that it was loaded from.

    with time_machine.travel(LOADED_AT, tick=False), fixture_service() as service:
        unpack("0.1", project.warehouse, source=service.url)

The fixtures are gzipped DuckDB files in `analytics_dagster_tests/fixtures`, named by version. Write one whenever the
tables change, before the change, with the code that is checked out:

    python -m analytics_dagster_tests.support.warehouse_fixture 0.2

This module uses the jobs, the settings and the sandbox alone, so that it also runs the code of an older commit, in a
worktree of that commit: `PYTHONPATH=/path/to/worktree python /path/to/this/warehouse_fixture.py 0.1`.
`warehouse-0.1.duckdb.gz` was written like this by the loader of commit 30f1040, with DuckDB 1.5.6 and dlt 1.31.0.

The rows of a fixture are the sandbox's. When those change, write every fixture again: put the present package `sandbox`
in the place of the one in the older commit's worktree first.
"""

import argparse
import gzip
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import duckdb
import time_machine

from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"

BEGAN_AT = datetime(2026, 3, 10, 6, 7, tzinfo=UTC)
LOADED_AT = BEGAN_AT + timedelta(minutes=30)
"""The times of the first load, of two partitions, and of the second one, which resumed it."""

REJECTED = {"id": 1, "project_id": 1001, "environment": "production", "status": "started", "start_time": "soon"}
"""A deploy without a revision, at a time that is no number: it is rejected."""

_PARTITIONS = {
    "dagster/asset_partition_range_start": f"{BEGAN_AT - timedelta(days=1):%Y-%m-%d}",
    "dagster/asset_partition_range_end": f"{BEGAN_AT:%Y-%m-%d}",
}
_RESUME = {"ops": {"incremental": {"config": {"resume": True}}}}
_CONFIG = '[runtime]\ndlthub_telemetry = false\nlog_level = "ERROR"\n'


def fixture_service() -> Sandbox:
    """Return the service of the fixtures, to be started while the clock stands on their day."""
    service = Sandbox(seed=7, history_days=0, rate_limit=1_000_000)
    service.plant("deploys", REJECTED)
    return service


def unpack(version: str, warehouse: Path, *, source: str) -> None:
    """Write the fixture of a version into a warehouse's place.

    Args:
        version: The version that wrote it.
        warehouse: The DuckDB file, which must not exist.
        source: Address of the service. The port of the one that the fixture was loaded from may be taken.
    """
    with gzip.open(FIXTURES / f"warehouse-{version}.duckdb.gz") as packed, warehouse.open("xb") as file:
        shutil.copyfileobj(packed, file)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("UPDATE analytics.load_windows SET source = ?", [source])


def write(version: str) -> Path:
    """Load the service with the code that is imported, twice, and pack the warehouse; return the file."""
    file = FIXTURES / f"warehouse-{version}.duckdb.gz"
    with TemporaryDirectory() as folder, time_machine.travel(BEGAN_AT, tick=False) as traveller:
        os.chdir(folder)
        Path(".dlt").mkdir()
        Path(".dlt/config.toml").write_text(_CONFIG)
        with fixture_service() as service, dg.DagsterInstance.ephemeral() as instance:
            os.environ |= {
                f"SOURCES__ANALYTICS__{name}": value
                for name, value in {
                    "BASE_URL": service.url,
                    "API_KEY": PROJECT_KEY,
                    "ACCOUNT_API_KEY": ACCOUNT_KEY,
                    "START_DATE": _PARTITIONS["dagster/asset_partition_range_start"],
                }.items()
            }
            # The definitions read the settings.
            from analytics_dagster.definitions import defs  # noqa: PLC0415

            def run(job: str, tags: Mapping[str, str], **config: object) -> None:
                defs.resolve_job_def(job).execute_in_process(instance=instance, tags=dict(tags), **config)

            run("incremental_sync", _PARTITIONS)
            run("reference_sync", {})
            run("metrics_refresh", {})
            traveller.move_to(LOADED_AT)
            run("incremental_sync", _PARTITIONS, run_config=_RESUME)
        FIXTURES.mkdir(exist_ok=True)
        with Path("warehouse.duckdb").open("rb") as warehouse, gzip.GzipFile(file, "wb", mtime=0) as packed:
            shutil.copyfileobj(warehouse, packed)
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a fixture with the code that is imported.")
    parser.add_argument("version", help="version that the code has, such as 0.1")
    write(parser.parse_args().version)
