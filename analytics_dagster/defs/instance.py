"""Settings of the Dagster instance that the project relies on, and which belong into the instance's `dagster.yaml`.

The project's own `dagster.yaml` has them. With `DAGSTER_HOME` set, as in a deployment, Dagster reads the file there
instead, and without them loads wait for each other's lock until they fail.

    if advice := missing_instance_settings(context.instance, destination_kind(settings)):
        context.log.warning(advice)

https://docs.dagster.io/deployment/oss/oss-instance-configuration
"""

from pathlib import Path

import dagster as dg

from analytics_dagster.defs.partitions import MAX_RUNTIME
from analytics_dagster.ingest.warehouse.location import POSTGRES

POOL = "warehouse"
"""Pool of the ops that open the warehouse, because DuckDB takes one writer at a time. PostgreSQL takes several: there a
larger limit lets loads of different resources run at once."""

_POOLS = "concurrency: {pools: {granularity: op, default_limit: 1}}"
_MONITORING = (
    "run_monitoring: {enabled: true, free_slots_after_run_end_seconds: 30, "
    f"max_runtime_seconds: {MAX_RUNTIME.total_seconds():.0f}}}"
)


def missing_instance_settings(instance: dg.DagsterInstance, destination: str) -> str | None:
    """Return what is missing in the `dagster.yaml` of an instance, and what for; None if nothing is.

    An instance in memory, as of a test or a notebook, needs neither. PostgreSQL needs no limit of the pool: there loads
    hold locks of what they write.

    Args:
        instance: The instance of the run.
        destination: dlt's type of the destination.
    """
    if instance.is_ephemeral:
        return None
    missing = []
    if destination != POSTGRES and _pool_limit(instance) != 1:
        missing.append((_POOLS, f"loads must take turns in the pool {POOL}, or they wait for each other and fail"))
    if not instance.run_monitoring_enabled:
        missing.append((_MONITORING, "a run that is killed must be ended, or its place in the pool is never freed"))
    if not missing:
        return None
    file = Path(instance.root_directory) / "dagster.yaml"
    lines = "\n".join(f"{line}  # {reason}" for line, reason in missing)
    return f"Settings of the Dagster instance are missing. Add these lines to {file}, then restart Dagster:\n{lines}"


def _pool_limit(instance: dg.DagsterInstance) -> int | None:
    """Return the limit of the pool, its own or the instance's default; None if it has none."""
    limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits() if not pool.from_default}
    return limits.get(POOL, instance.get_concurrency_config().pool_config.default_pool_limit)
