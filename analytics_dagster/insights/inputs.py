"""The deploys, and what was loaded of the occurrences of their projects.

inputs = read_inputs(tables)
changed_from = inputs.changed_from(tables, computed_at)
covered = inputs.covered(tables, since=start, now=now)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from analytics_dagster.ingest.windows import BEGINNING, CLOCK_TOLERANCE, END
from analytics_dagster.insights.covered import Covered
from analytics_dagster.insights.deploys import Deploy
from analytics_dagster.insights.warehouse import OCCURRENCES, InsightTables


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The deploys and their projects.

    Attributes:
        deploys: Every deploy.
        projects: The projects that they belong to.
    """

    deploys: Sequence[Deploy]
    projects: frozenset[int | None]

    @property
    def only_project(self) -> int | None:
        """The project if there is one alone, else None: occurrences and loads that name none are its own then."""
        return next(iter(self.projects)) if len(self.projects) == 1 else None

    def covered(self, tables: InsightTables, *, since: datetime, now: datetime) -> Mapping[int | None, Covered]:
        """Return the covered times of the occurrences by project, from a time on.

        Args:
            tables: The tables.
            since: The time, UTC.
            now: The time of the computation, UTC.
        """
        return tables.covered(self.projects, since=since, now=now)

    def changed_from(self, tables: InsightTables, computed_at: datetime | None) -> Mapping[int | None, datetime]:
        """Return, by project, from when on its occurrences may differ from those of the last computation.

        Args:
            tables: The tables.
            computed_at: The time of the last computation, UTC; None if there was none.
        """
        if computed_at is None:
            return dict.fromkeys(self.projects, BEGINNING)
        # The clock of another machine may have recorded a load that the last computation did not see.
        starts = tables.recorded_windows(since=computed_at - CLOCK_TOLERANCE)
        return {
            project: min(
                (
                    start if start == BEGINNING else start - OCCURRENCES.lookback
                    for owner, start in starts
                    if owner == project or (owner is None and len(self.projects) == 1)
                ),
                default=END,
            )
            for project in self.projects
        }


def read_inputs(tables: InsightTables) -> Inputs:
    """Read the deploys. The tables that the insights need must exist."""
    deploys = tables.deploys()
    return Inputs(deploys=deploys, projects=frozenset(deploy.project_id for deploy in deploys))
