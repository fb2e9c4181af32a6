"""The code location's definitions, built by the modules of `defs`.

https://docs.dagster.io/api/dagster/definitions
"""

import logging

import dagster as dg

from analytics_dagster.defs.asset_checks.multi_asset_check import build_checks
from analytics_dagster.defs.assets import build_assets
from analytics_dagster.defs.insights import build_insights, build_insights_sensors
from analytics_dagster.defs.jobs import build_jobs
from analytics_dagster.defs.pause import pause_schedule
from analytics_dagster.defs.resources import build_resources
from analytics_dagster.defs.schedules import build_schedules
from analytics_dagster.defs.sensors import build_sensors
from analytics_dagster.defs.translator import build_service
from analytics_dagster.ingest.settings import Settings, load_valid_settings

logger = logging.getLogger(__name__)


def definition_settings() -> Settings:
    """Return the valid settings of this process, with defaults in the place of the others."""
    return load_valid_settings()[0]


def build_definitions(settings: Settings, problem: str = "") -> dg.Definitions:
    """Return all definitions for some settings.

    Args:
        settings: The valid settings. Definitions load with wrong ones too, so that the UI shows what is wrong.
        problem: The sentence about a wrong setting. It is shown in the UI and posted as an alert, and schedules and
            sensors that request runs are paused. A run reads the settings again and fails with the same sentence.
    """
    schedules = build_schedules(settings)
    sensors = [*build_sensors(settings, problem), *build_insights_sensors(settings, problem)]
    if problem:
        logger.warning("%s Until then every load fails, and schedules and sensors request none.", problem)
        schedules = [pause_schedule(schedule, problem) for schedule in schedules]
    return dg.Definitions(
        assets=[build_service(problem), *build_assets(settings), *build_insights(settings, automate=not problem)],
        asset_checks=build_checks(settings),
        jobs=build_jobs(settings),
        schedules=schedules,
        sensors=sensors,
        resources=build_resources(),
        # The warehouse's pool runs one step at a time, so a process for each step would only take time to start.
        executor=dg.in_process_executor,
    )


defs = build_definitions(*load_valid_settings())
