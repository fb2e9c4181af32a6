"""Ids that rows of another project have: in the table, or in lists that are read beside it.

    foreign = ForeignIds.of(resource, load_state, several=True)
    foreign.find([12, 13], project=1001)  # {13: 1002}

The service gives an id once. A row that arrives with the id of another project's row would replace that, so it is
rejected; `arrow.py` does it.
"""

from collections.abc import Sequence
from threading import Lock
from typing import Self

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.warehouse.load_state import LoadState


class ForeignIds:
    """The ids of a resource, by the project that has them.

    Args:
        resource: A resource whose rows name their project.
        load_state: The tables.
    """

    def __init__(self, resource: Resource, load_state: LoadState) -> None:
        self._resource = resource
        self._state = load_state
        self._read: dict[int, int] = {}
        self._lock = Lock()

    @classmethod
    def of(cls, resource: Resource, load_state: LoadState, *, several: bool) -> Self | None:
        """Return the ids of a resource; None if all rows are of one project.

        Args:
            resource: The resource.
            load_state: The tables, and the projects whose loads are recorded.
            several: Whether several projects are loaded.
        """
        if not resource.names_project or "project_id" in resource.primary_key:
            return None
        return cls(resource, load_state) if several or len(load_state.coverage.projects(resource)) > 1 else None

    def begin_run(self) -> None:
        """Forget the ids that were read: their rows are in the table by now."""
        self._read.clear()

    def find(self, ids: Sequence[int], project: int) -> dict[int, int]:
        """Return those ids that rows of another project have, with that project; the others are the project's now."""
        found = self._state.foreign_ids(self._resource, ids, project)
        with self._lock:
            for identifier in ids:
                owner = self._read.setdefault(identifier, found.get(identifier, project))
                if owner != project:
                    found[identifier] = owner
        return found
