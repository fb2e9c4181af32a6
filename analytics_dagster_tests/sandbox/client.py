"""Sends requests to a sandbox over real sockets. The service's interface is stated here once more."""

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlencode

from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox

NOW = 1_759_760_460  # an afternoon in 2025, while a deploy is going on
HOUR = 3_600
DAY = 24 * HOUR

# resource: method, path, where in `result` its rows are, key
INTERFACE = {
    "items": ("GET", "/v1/items", "items", PROJECT_KEY),
    "occurrences": ("GET", "/v1/occurrences", "instances", PROJECT_KEY),
    "items_metrics": ("POST", "/v1/metrics/items", "metrics", PROJECT_KEY),
    "deploys": ("GET", "/v1/deploys", "deploys", PROJECT_KEY),
    "environments": ("GET", "/v1/environments", "environments", PROJECT_KEY),
    "rql_jobs": ("GET", "/v1/rql/jobs", "jobs", PROJECT_KEY),
    "top_active_items": ("GET", "/v1/reports/top_active_items", None, PROJECT_KEY),
    "projects": ("GET", "/v1/projects", None, ACCOUNT_KEY),
    "teams": ("GET", "/v1/teams", None, ACCOUNT_KEY),
    "users": ("GET", "/v1/users", "users", ACCOUNT_KEY),
}


class Clock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


class Answer(NamedTuple):
    """A reply as it came over the socket."""

    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        parsed: dict[str, Any] = json.loads(self.content)
        return parsed

    @property
    def result(self) -> Any:
        """The result of a success."""
        assert self.json["err"] == 0
        return self.json["result"]


def ask(
    sandbox: Sandbox,
    path: str,
    *,
    key: str | None = PROJECT_KEY,
    method: str = "GET",
    body: object = None,
    **query: object,
) -> Answer:
    """Send one request on a connection of its own."""
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=5)
    target = f"{path}?{urlencode(query)}" if query else path
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    try:
        connection.request(method, target, content, {} if key is None else {"api_key": key})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


def fetch(sandbox: Sandbox, resource: str, **query: object) -> list[Any]:
    """Return the rows of one page of a resource."""
    method, path, rows_at, key = INTERFACE[resource]
    body = {"item_counters": list(range(1, 20))} if method == "POST" else None
    result = ask(sandbox, path, key=key, method=method, body=body, **query).result
    rows: list[Any] = result if rows_at is None else result[rows_at]
    return rows


def pages(sandbox: Sandbox, resource: str, **query: object) -> list[list[Any]]:
    """Return all pages of a resource up to the first empty one."""
    found: list[list[Any]] = []
    while page := fetch(sandbox, resource, page=len(found) + 1, **query):
        found.append(page)
    return found
