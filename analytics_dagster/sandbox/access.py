"""Authentication and rate limiting: the two kinds of key, the rate limit and its response headers."""

from dataclasses import dataclass

from analytics_dagster.sandbox.messages import RefusedError


class Keys:
    """The two keys that the service knows.

    Args:
        project: Key to the project's resources.
        account: Key to the account's resources.
    """

    def __init__(self, project: str, account: str) -> None:
        self._keys = {"project": project, "account": account}

    def kind(self, key: str | None) -> str | None:
        """Return the kind of a key: `project`, `account`, `wrong`, or None if it is missing."""
        if not key:
            return None
        return next((kind for kind, value in self._keys.items() if value == key), "wrong")

    def require(self, key: str | None, kind: str) -> None:
        """Raise `RefusedError` unless the key is the one of `kind`."""
        if not key:
            raise RefusedError(401, "missing access token")
        if key not in self._keys.values():
            raise RefusedError(403, "invalid access token")
        if key != self._keys[kind]:
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
