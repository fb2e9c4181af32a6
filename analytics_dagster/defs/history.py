"""Dagster's history of the assets, told apart by the source and the projects that their rows were loaded from.

A materialization counts for its asset key, whatever service was configured when it was recorded: after the sandbox,
another service or another project's key, partitions would look loaded that never were. So the metadata of each load
names its source and the projects of its rows, and the first load of others wipes the history. Until then no partition
of another source counts; that a key is another project's is known once its rows are there. A project that is added or
removed wipes nothing while another one stays.

    known = loaded_partitions(context.instance, asset_key(resource), settings.source_address)
    forgotten = forget_other_origins(context.instance, resource, origin)

https://docs.dagster.io/guides/build/partitions-and-backfills/partitioning-assets
"""

from collections.abc import Iterator
from typing import NamedTuple

import dagster as dg

from analytics_dagster.catalog import RESOURCES, Resource
from analytics_dagster.defs.metadata import projects_in
from analytics_dagster.defs.translator import asset_key

_EVENTS_SEARCHED = 1_000
"""Materializations among which the last load is searched: a person may have reported others since, by partition."""


class Origin(NamedTuple):
    """The origin of rows: the address of a service, and the projects that they name; none if they name none."""

    source: str
    projects: frozenset[int] = frozenset()

    def differs_from(self, other: "Origin") -> bool:
        """Return whether rows of the other origin cannot be of this one. Unknown projects differ from none."""
        known = bool(self.projects and other.projects)
        return self.source != other.source or (known and not self.projects & other.projects)

    def __str__(self) -> str:
        if not self.projects:
            return self.source
        noun = "project" if len(self.projects) == 1 else "projects"
        return f"{self.source} ({noun} {', '.join(map(str, sorted(self.projects)))})"


def last_origin(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Origin | None:
    """Return the origin of an asset's last load; None if no load is recorded.

    A load that had nothing to request names no project: then the one before it from the same source tells.
    """
    last: Origin | None = None
    for origin in _origins(instance, asset):
        if last and origin.source != last.source:
            break
        last = origin
        if origin.projects:
            break
    return last


def _origins(instance: dg.DagsterInstance, asset: dg.AssetKey) -> Iterator[Origin]:
    """Yield the origins of an asset's loads, newest first. Nearly always the first event is enough."""
    cursor, limit, searched = None, 1, 0
    while searched < _EVENTS_SEARCHED:
        found = instance.fetch_materializations(asset, limit=limit, cursor=cursor)
        for record in found.records:
            metadata = record.asset_materialization.metadata if record.asset_materialization else {}
            if source := metadata.get("source"):
                yield Origin(str(source.value), projects_in(metadata))
        if not found.has_more:
            return
        cursor, searched, limit = found.cursor, searched + limit, 100


def loaded_partitions(instance: dg.DagsterInstance, asset: dg.AssetKey, source: str) -> set[str]:
    """Return the materialized partitions of an asset; none if its last load was of another source."""
    last = last_origin(instance, asset)
    return instance.get_materialized_partitions(asset) if last is None or last.source == source else set()


def forget_other_origins(instance: dg.DagsterInstance, loaded: Resource, origin: Origin) -> str | None:
    """Wipe the history of other origins after a load: of the resource, and of every asset with partitions.

    Assets without partitions keep their last materialization until they load themselves: by its source the check
    `freshness` tells whose rows are in the table.

    Args:
        instance: Dagster's instance.
        loaded: The resource that was loaded.
        origin: The origin of its rows.

    Returns:
        A sentence about the assets that were wiped; None if there were none.
    """
    candidates = [resource for resource in RESOURCES if resource.incremental or resource is loaded]
    found = {resource: last_origin(instance, asset_key(resource)) for resource in candidates}
    others = {resource: last for resource, last in found.items() if last and last.differs_from(origin)}
    if not others:
        return None
    instance.wipe_assets([asset_key(resource) for resource in others])
    return (
        f"Dagster's history of {', '.join(resource.name for resource in others)}, with the results of its checks, was "
        f"wiped: it was of "
        f"{' and '.join(sorted({str(last) for last in others.values()}))}, and rows are now loaded from {origin}. "
        "Partitions that were not loaded from there are missing again. The rows and their coverage are untouched."
    )
