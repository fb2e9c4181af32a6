"""The code location: everything that `defs` defines, in one place."""

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
    """Return the settings of this process, or the defaults where they are invalid.

    Definitions must load with invalid settings too, so that the UI can show them. A load reads the settings again and
    fails with the message that is only logged here.
    """
    try:
        return load_settings(need_key=False)
    except SettingsError as error:
        logger.warning("%s Until then the definitions show the defaults, and every load fails.", error)
        return Settings()


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
