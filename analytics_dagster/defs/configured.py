"""The settings that shape definitions: which resources there are, how their partitions are cut.

Definitions must load whatever is configured, so that the UI can show what is wrong; a load reads the settings
again, strictly, and fails with the sentence that is only logged here.
"""

import logging

from analytics_dagster.catalog import Group, Resource, resources_in
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.settings import Settings, load_settings

logger = logging.getLogger(__name__)


def definition_settings() -> Settings:
    """Return the settings as this process found them, or the defaults where they are wrong."""
    try:
        return load_settings(need_key=False)
    except SettingsError as error:
        logger.warning("%s Until then the definitions show their defaults, and every load fails.", error)
        return Settings()


def enabled(settings: Settings, *groups: Group) -> tuple[Resource, ...]:
    """Return the resources of groups that are not left out by the setting `disabled`."""
    return tuple(row for group in groups for row in resources_in(group) if row.name not in settings.disabled)
