"""The code location's definitions, built by the modules of `defs`.

https://docs.dagster.io/api/dagster/definitions
"""

import logging

import dagster as dg

from analytics_dagster.defs.asset_checks.multi_asset_check import build_checks
from analytics_dagster.defs.assets import build_assets
from analytics_dagster.defs.jobs import build_jobs
from analytics_dagster.defs.resources import build_resources
from analytics_dagster.defs.schedules import build_schedules
from analytics_dagster.defs.sensors import build_sensors
from analytics_dagster.defs.translator import SERVICE
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.settings import Settings, load_settings

logger = logging.getLogger(__name__)


def definition_settings() -> Settings:
    """Return the settings of this process, or the defaults if they are invalid.

    Definitions must load with invalid settings too, so that the UI shows them. A run reads the settings again and fails
    with the message that is logged here.
    """
    try:
        return load_settings(need_key=False)
    except SettingsError as error:
        logger.warning("%s Until then the definitions show the defaults, and every load fails.", error)
        return Settings()


def build_definitions(settings: Settings) -> dg.Definitions:
    """Return all definitions for some settings."""
    return dg.Definitions(
        assets=[SERVICE, *build_assets(settings)],
        asset_checks=build_checks(settings),
        jobs=build_jobs(settings),
        schedules=build_schedules(settings),
        sensors=build_sensors(settings),
        resources=build_resources(),
        # The warehouse's pool runs one step at a time, so a process for each step would only take time to start.
        executor=dg.in_process_executor,
    )


defs = build_definitions(definition_settings())
