"""What the insights are computed from: the deploys, and the covered times of the occurrences of their projects.

inputs = read_inputs(tables, now=now)
inputs.covered[deploy.project_id].contains(start, end)
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
    """The deploys, and the coverage of occurrences.

    Attributes:
        deploys: Every deploy.
        covered: Covered times of the occurrences, by project.
        only_project: The project, if there is one alone: occurrences that name none are its own then. Else None.
    """

    deploys: Sequence[Deploy]
    covered: Mapping[int | None, Covered]
    only_project: int | None

    def changed_from(self, project: int | None, computed_at: datetime | None) -> datetime:
        """Return from when on the occurrences of a project may differ from those of the last computation.

        Args:
            project: The project.
            computed_at: The time of the last computation, UTC; None if there was none.
        """
        if computed_at is None:
            return BEGINNING
        # The clock of another machine may have recorded a load that the last computation did not see.
        changed = self.covered[project].changed_from(computed_at - CLOCK_TOLERANCE, OCCURRENCES.lookback)
        return END if changed is None else changed


def read_inputs(tables: InsightTables, *, now: datetime) -> Inputs:
    """Read the deploys and the coverage of occurrences.

    Args:
        tables: The tables; those that the insights need must exist.
        now: The time, UTC.
    """
    deploys = tables.deploys()
    projects = {deploy.project_id for deploy in deploys}
    return Inputs(
        deploys=deploys,
        covered=tables.covered(projects, now=now),
        only_project=next(iter(projects)) if len(projects) == 1 else None,
    )
