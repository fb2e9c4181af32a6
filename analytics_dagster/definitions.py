"""The code location: everything that `defs` defines, in one place."""

import dagster as dg

from analytics_dagster.defs.asset_checks.definitions import build_checks
from analytics_dagster.defs.assets import build_assets
from analytics_dagster.defs.configured import definition_settings
from analytics_dagster.defs.jobs import build_jobs
from analytics_dagster.defs.resources import build_resources
from analytics_dagster.defs.schedules import build_schedules
from analytics_dagster.defs.sensors import build_sensors
from analytics_dagster.defs.translator import SERVICE
from analytics_dagster.ingest.settings import Settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """Return all definitions as the settings shape them."""
    return dg.Definitions(
        assets=[SERVICE, *build_assets(settings)],
        asset_checks=build_checks(settings),
        jobs=build_jobs(settings),
        schedules=build_schedules(settings),
        sensors=build_sensors(settings),
        resources=build_resources(settings),
        # Whatever loads takes its turn at the warehouse: a process for each step would only cost its start.
        executor=dg.in_process_executor,
    )


defs = build_definitions(definition_settings())
