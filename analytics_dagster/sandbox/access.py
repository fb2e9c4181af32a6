"""Who may call, and how often: the two kinds of key, and the rate limit with the headers that tell of it."""

from dataclasses import dataclass

from analytics_dagster.sandbox.messages import RefusedError


class Keys:
    """The two keys that the service knows."""

    def __init__(self, project: str, account: str) -> None:
        """Open the project's resources with one, the account's with the other."""
        self._keys = {"project": project, "account": account}

    def kind(self, key: str | None) -> str | None:
        """What `key` is: `project`, `account`, `wrong`, or None where it is missing."""
        if not key:
            return None
        return next((kind for kind, value in self._keys.items() if value == key), "wrong")

    def require(self, key: str | None, kind: str) -> None:
        """Refuse every key but the one of `kind`."""
        if not key:
            raise RefusedError(401, "missing access token")
        if key not in self._keys.values():
            raise RefusedError(403, "invalid access token")
        if key != self._keys[kind]:
            raise RefusedError(403, f"insufficient privileges: {kind} access token required")


@dataclass(frozen=True, slots=True)
class Rate:
    """The state after one call."""

    exceeded: bool
    headers: dict[str, str]


class RateLimit:
    """Counts calls in windows aligned to the epoch. Not thread-safe: the service holds a lock."""

    def __init__(self, limit: int, window: int) -> None:
        """Allow `limit` calls of a key every `window` seconds."""
        self._limit = limit
        self._window = window
        self._start = 0
        self._calls: dict[str, int] = {}

    def take(self, key: str, now: int) -> Rate:
        """Count one call; refused ones count as well."""
        start = now - now % self._window
        if start != self._start:
            self._start = start
            self._calls.clear()
        calls = self._calls[key] = self._calls.get(key, 0) + 1
        reset = start + self._window
        return Rate(
            exceeded=calls > self._limit,
            headers={
                "X-Rate-Limit-Limit": str(self._limit),
                "X-Rate-Limit-Remaining": str(max(0, self._limit - calls)),
                "X-Rate-Limit-Remaining-Seconds": str(reset - now),
                "X-Rate-Limit-Reset": str(reset),
            },
        )
