"""The ten resources of the analytics API, and every fact about them.

The other packages iterate over the catalog: dlt configuration, asset specs, column schemas, checks, schedules, the
README's table. An eleventh resource is one more entry in `resources.py`.

    from analytics_dagster.catalog import RESOURCES, get_resource, table_columns

    deploys = get_resource("deploys")
    columns = {resource.name: table_columns(resource) for resource in RESOURCES}
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
