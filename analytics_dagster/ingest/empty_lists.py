"""Empty lists: a service that lists no rows of a resource whose table has some is believed after three loads in a day.

A list can be empty by mistake, for a moment or with the key of another project, and coverage recorded from it would
hide rows for good.

    check_empty_list(resource, project, rows, load_state.coverage, seen_at=now, label=resource.name)
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.clock import format_moment
from analytics_dagster.ingest.errors import EmptyListError
from analytics_dagster.ingest.projects import Project
from analytics_dagster.ingest.warehouse.coverage import CoverageTable

logger = logging.getLogger(__name__)

LOADS_TO_ACCEPT = 3
TIME_TO_ACCEPT = timedelta(days=1)
"""Loads that must find the list empty, and the least time from the first of them to the last."""


def check_empty_list(
    resource: Resource, project: Project, rows: int, coverage: CoverageTable, *, seen_at: datetime, label: str
) -> None:
    """Record that the service listed no rows, and accept this or fail.

    Metrics are exempt, because their lists are empty while nothing happens. So are rows of another service.

    Args:
        resource: The resource, whose list was proven to be empty.
        project: The project whose list it is.
        rows: Its rows in the table, at least one.
        coverage: The loaded windows, and the records of empty lists.
        seen_at: The time of the load, UTC.
        label: The resource, and the project if there are several, as sentences name them.

    Raises:
        EmptyListError: Fewer than three loads, or loads of less than a day, found the list empty.
    """
    sources = coverage.sources(resource if resource.incremental else None)
    other_source = bool(sources) and coverage.source not in sources
    if other_source or not (resource.incremental or resource.complete_listing):
        return
    earlier = coverage.empty_lists(resource, project)
    coverage.record_empty_list(resource, project, seen_at)
    loads, first = len(earlier) + 1, min([*earlier, seen_at])
    if accepts_empty_list(earlier, seen_at):
        logger.warning(
            "%s: the service has listed no rows in %d loads since %s, so the empty list is accepted, although the "
            "table has %s. If the service deleted the rows, delete them from the table.",
            label, loads, format_moment(first), f"{rows:,}",
        )  # fmt: skip
        return
    key, owner = ("account_api_key", "account") if resource.account_key else ("api_key", "project")
    raise EmptyListError(
        f"{label}: the service lists no rows, but the table has {rows:,}. No coverage was recorded, and the "
        f"rows are untouched. Check base_url and {key}: the key may belong to another {owner}. If the service deleted "
        f"the rows, load again: the empty list is accepted once {LOADS_TO_ACCEPT} loads over at least a day have found "
        f"it ({loads} so far, the first at {format_moment(first)})."
    )


def accepts_empty_list(earlier: Sequence[datetime], seen_at: datetime) -> bool:
    """Return whether a list that a load finds empty is taken for empty, as earlier loads found it."""
    return len(earlier) + 1 >= LOADS_TO_ACCEPT and seen_at - min(earlier) >= TIME_TO_ACCEPT
