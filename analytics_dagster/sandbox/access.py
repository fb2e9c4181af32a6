"""Authentication and rate limiting: the keys of the projects and the account, the rate limit and its headers."""

from collections.abc import Sequence
from dataclasses import dataclass

from analytics_dagster.sandbox.messages import RefusedError
from analytics_dagster.sandbox.project import SandboxProject


class Keys:
    """The keys that the service knows. Not thread-safe: the service holds a lock.

    Args:
        projects: The projects, each with its key.
        account: Key to the account's resources.

    Attributes:
        refused: Names of the projects whose keys are refused.

    Raises:
        ValueError: Two projects have the same key.
    """

    def __init__(self, projects: Sequence[SandboxProject], account: str) -> None:
        self._projects = {project.key: project for project in projects}
        if len(self._projects) < len(projects):
            raise ValueError("projects must have keys of their own")
        self._account = account
        self.refused: set[str] = set()

    def kind(self, key: str | None) -> str | None:
        """Return the kind of a key: `project`, `account`, `wrong`, or None if it is missing."""
        if not key:
            return None
        if key in self._projects:
            return "project"
        return "account" if key == self._account else "wrong"

    def project(self, key: str | None) -> SandboxProject | None:
        """Return the project of a key, None if it is no project's."""
        return self._projects.get(key or "")

    def require(self, key: str | None, kind: str) -> None:
        """Raise `RefusedError` unless the key is one of `kind` and not refused."""
        if not key:
            raise RefusedError(401, "missing access token")
        project = self.project(key)
        if project is None and key != self._account:
            raise RefusedError(403, "invalid access token")
        if project is not None and project.name in self.refused:
            raise RefusedError(403, "access token is disabled")
        if (project is None) if kind == "project" else (key != self._account):
            raise RefusedError(403, f"insufficient privileges: {kind} access token required")


@dataclass(frozen=True, slots=True)
class RateStatus:
    """The state of the rate limit after a call.

    Attributes:
        exceeded: Whether the call exceeds the limit.
        headers: Response headers that announce the state.
    """

    exceeded: bool
    headers: dict[str, str]


class RateLimit:
    """Counts calls in fixed windows aligned to the epoch. Not thread-safe: the service holds a lock.

    Args:
        limit: Calls that a key may make in a window.
        window: Length of a window, in seconds.
    """

    def __init__(self, limit: int, window: int) -> None:
        self._limit = limit
        self._window = window
        self._start = 0
        self._calls: dict[str, int] = {}

    def count_call(self, key: str, now: int) -> RateStatus:
        """Count a call at `now` (epoch seconds). Refused calls count as well."""
        start = now - now % self._window
        if start != self._start:
            self._start = start
            self._calls.clear()
        calls = self._calls[key] = self._calls.get(key, 0) + 1
        reset = start + self._window
        return RateStatus(
            exceeded=calls > self._limit,
            headers={
                "X-Rate-Limit-Limit": str(self._limit),
                "X-Rate-Limit-Remaining": str(max(0, self._limit - calls)),
                "X-Rate-Limit-Remaining-Seconds": str(reset - now),
                "X-Rate-Limit-Reset": str(reset),
            },
        )
