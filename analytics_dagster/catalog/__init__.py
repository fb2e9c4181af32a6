"""The ten resources of the analytics API, and every fact about them.

The other packages iterate over the catalog: dlt configuration, asset specs, column schemas, checks, schedules, the
README's table. An eleventh resource is one more entry in `resources.py`.

    from analytics_dagster.catalog import RESOURCES, get_resource, table_columns

    deploys = get_resource("deploys")
    columns = {resource.name: table_columns(resource) for resource in RESOURCES}
"""

from analytics_dagster.catalog.loader_columns import LOAD_ID, table_columns
from analytics_dagster.catalog.model import (
    ANY_DEPTH,
    GROUPS,
    Column,
    ColumnType,
    Freshness,
    Group,
    Keyset,
    Origin,
    Path,
    Reference,
    Resource,
)
from analytics_dagster.catalog.resources import RESOURCES, get_resource

__all__ = [
    "ANY_DEPTH",
    "GROUPS",
    "LOAD_ID",
    "RESOURCES",
    "Column",
    "ColumnType",
    "Freshness",
    "Group",
    "Keyset",
    "Origin",
    "Path",
    "Reference",
    "Resource",
    "get_resource",
    "table_columns",
]
