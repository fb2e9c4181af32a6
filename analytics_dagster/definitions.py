"""The code location: everything that `defs` defines, in one place."""

import dagster as dg
from dagster_dlt import DagsterDltResource

from analytics_dagster.defs.assets import build_assets
from analytics_dagster.defs.configured import definition_settings
from analytics_dagster.defs.jobs import build_jobs
from analytics_dagster.defs.translator import SERVICE
from analytics_dagster.ingest.settings import Settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """Return all definitions as the settings shape them."""
    return dg.Definitions(
        assets=[SERVICE, *build_assets(settings)],
        jobs=build_jobs(settings),
        resources={"dlt": DagsterDltResource()},
        # Whatever loads takes its turn at the warehouse: a process for each step would only cost its start.
        executor=dg.in_process_executor,
    )


defs = build_definitions(definition_settings())
