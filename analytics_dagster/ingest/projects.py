"""Projects: the name of a key in the settings, and the id that its rows name.

    project = Project(name="web", id=1001)

A key tells nothing of its project. The rows that it lists do, so the id is known once a row named it.
"""

from dataclasses import dataclass

from analytics_dagster.ingest.settings import DEFAULT_PROJECT


@dataclass(frozen=True)
class Project:
    """A project.

    Attributes:
        name: Its name in the settings: `default` for the setting `api_key`.
        id: Its id, as rows name it; None before a row named it.
    """

    name: str = DEFAULT_PROJECT
    id: int | None = None

    def __str__(self) -> str:
        return self.name if self.id is None else f"{self.name} ({self.id})"


@dataclass(kw_only=True)
class KeyOwner:
    """The project that a key answers for, as far as loads have told.

    Attributes:
        name: Name of the project in the settings.
        presumed: The id that rows of the latest load before named; None if there was none.
        named: The id that rows named since the warehouse was opened; None before.
    """

    name: str
    presumed: int | None = None
    named: int | None = None

    @property
    def project(self) -> Project:
        """The project whose records count: what rows named now, or else what they named before."""
        return Project(self.name, self.presumed if self.named is None else self.named)
