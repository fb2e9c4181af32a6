"""A client for a resource, from settings: which URL, which key, and the embedded sandbox where it stands in."""

import threading
from dataclasses import dataclass, field
from typing import Any

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.client import ApiClient, Endpoint
from analytics_dagster.ingest.settings import SANDBOX, Settings
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox

BACKOFF_FACTOR = 2.0
"""Waits of 2, 4 and 8 seconds before the three retries. Specified."""


def connect(resource: Resource, settings: Settings) -> ApiClient:
    """Return a client that reads a resource. Closing it also stops the sandbox, if it was the last user."""
    base_url = settings.base_url
    if settings.sandbox:
        base_url = _EMBEDDED.acquire()
    return ApiClient(
        Endpoint(
            resource=resource.name,
            url=base_url + settings.paths.get(resource.name, resource.path),
            key_header=settings.api_key_header,
            **_key(resource, settings),
        ),
        timeout=settings.request_timeout,
        max_rate_wait=settings.max_rate_wait,
        backoff_factor=BACKOFF_FACTOR,
        on_close=_EMBEDDED.release if settings.base_url == SANDBOX else None,
    )


def _key(resource: Resource, settings: Settings) -> dict[str, Any]:
    kind = "an account's key" if resource.account_key else "a project's key"
    name = "account_api_key" if resource.account_key else "api_key"
    if settings.sandbox:
        keys: tuple[str, ...] = (PROJECT_KEY, ACCOUNT_KEY)
    else:
        secrets = (settings.api_key, settings.account_api_key or settings.api_key)
        keys = tuple(secret.get_secret_value() for secret in secrets)
    return {"key": keys[resource.account_key], "other_keys": keys, "key_name": name, "kind_of_key": kind}


@dataclass
class _EmbeddedSandbox:
    """The sandbox of this process: started by its first user, stopped by its last."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _users: int = 0
    _sandbox: Sandbox | None = None

    def acquire(self) -> str:
        """Return the sandbox's URL."""
        with self._lock:
            if self._sandbox is None:
                self._sandbox = Sandbox()
                self._sandbox.start()
            self._users += 1
            return self._sandbox.url

    def release(self) -> None:
        """Let go of the sandbox."""
        with self._lock:
            self._users -= 1
            if self._users == 0 and self._sandbox is not None:
                self._sandbox.stop()
                self._sandbox = None


_EMBEDDED = _EmbeddedSandbox()
