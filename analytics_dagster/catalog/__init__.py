"""The ten resources of the analytics API: the one place for every fact about them.

Everything else iterates this catalog: dlt configuration, asset specs, column schemas, checks, schedules,
the README's table. An eleventh resource is one more row in `resources.py`.
"""

from analytics_dagster.catalog.columns import BOOKKEEPING_COLUMNS, REMOVED_AT, table_columns
from analytics_dagster.catalog.model import (
    GROUPS,
    Announcement,
    Column,
    ColumnType,
    Freshness,
    Group,
    Lookup,
    Origin,
    Path,
    Reference,
    Resource,
)
from analytics_dagster.catalog.resources import RESOURCES, resource, resources_in

__all__ = [
    "BOOKKEEPING_COLUMNS",
    "GROUPS",
    "REMOVED_AT",
    "RESOURCES",
    "Announcement",
    "Column",
    "ColumnType",
    "Freshness",
    "Group",
    "Lookup",
    "Origin",
    "Path",
    "Reference",
    "Resource",
    "resource",
    "resources_in",
    "table_columns",
]
