"""The ten resources of the analytics API: the one place for every fact about them.

Everything else iterates this catalog: dlt configuration, asset specs, column schemas, checks, schedules,
the README's table. An eleventh resource is one more row in `resources.py`.
"""

from analytics_dagster.catalog.columns import BOOKKEEPING_COLUMNS, REMOVED_AT, table_columns
from analytics_dagster.catalog.model import (
    GROUPS,
    Column,
    ColumnType,
    Freshness,
    Group,
    Lookup,
    Origin,
    Path,
    Reference,
    Resource,
    WatermarkColumns,
)
from analytics_dagster.catalog.resources import RESOURCES, get_resource, resources_in

__all__ = [
    "BOOKKEEPING_COLUMNS",
    "GROUPS",
    "REMOVED_AT",
    "RESOURCES",
    "Column",
    "ColumnType",
    "Freshness",
    "Group",
    "Lookup",
    "Origin",
    "Path",
    "Reference",
    "Resource",
    "WatermarkColumns",
    "get_resource",
    "resources_in",
    "table_columns",
]
