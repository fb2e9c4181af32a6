"""The service's interface to the ten resources: paths, keys, page sizes and envelopes.

The literals repeat the catalog's on purpose, so that tests compare two independent statements. Requests are answered in
`lists`, the rows are in `store`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from analytics_dagster.sandbox.messages import RefusedError, Request, to_json
from analytics_dagster.sandbox.project import SandboxProject

_UNPROCESSABLE = 422
_MOST_COUNTED = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The interface to a resource. `rows_at` names the field of `result` with the rows; None: `result` is the list."""

    resource: str
    path: str
    method: str = "GET"
    rows_at: str | None = None
    page_size: int | None = None  # None: one reply has all rows, and `page` is ignored
    largest_page: int | None = 100  # None: every page has `page_size` rows, and `limit` is ignored
    account: bool = False  # requires the account's key instead of the project's


def routes(paths: Mapping[str, str], team_page_size: int, *, jobs_as_list: bool) -> tuple[Route, ...]:
    """Return the routes of the ten resources. `paths` replaces the paths of the resources that it names."""
    table = (
        Route(resource="items", path="/v1/items", rows_at="items", page_size=100),
        Route(
            resource="occurrences",
            path="/v1/occurrences",
            rows_at="instances",
            page_size=20,
            largest_page=5_000,
        ),
        Route(resource="items_metrics", path="/v1/metrics/items", method="POST", rows_at="metrics"),
        Route(resource="deploys", path="/v1/deploys", rows_at="deploys", page_size=20),
        Route(resource="environments", path="/v1/environments", rows_at="environments", page_size=20),
        Route(resource="rql_jobs", path="/v1/rql/jobs", rows_at=None if jobs_as_list else "jobs", page_size=20),
        Route(resource="top_active_items", path="/v1/reports/top_active_items"),
        Route(resource="projects", path="/v1/projects", account=True),
        Route(resource="teams", path="/v1/teams", page_size=team_page_size, largest_page=None, account=True),
        Route(resource="users", path="/v1/users", rows_at="users", account=True),
    )
    unknown = set(paths) - {route.resource for route in table}
    if unknown:
        raise ValueError(f"paths for unknown resources: {', '.join(sorted(unknown))}")
    return tuple(replace(route, path=paths.get(route.resource, route.path)) for route in table)


def page_of(route: Route, request: Request) -> int | None:
    """Return the page that a request asks for, None if the resource has no pages."""
    return None if route.page_size is None else positive(request.query, "page", 1)


def envelope(
    route: Route, project: SandboxProject, page: int | None, texts: Iterable[str], total: int | None = None
) -> str:
    """Return the JSON text of `result`, from the JSON texts of its rows. `project` is the one that they belong to."""
    listed = f"[{','.join(texts)}]"
    if route.rows_at is None:
        return listed
    fields: dict[str, object] = {} if page is None else {"page": page}
    if route.resource == "items":
        fields["total_count"] = total if total is not None and total <= _MOST_COUNTED else None
    if route.resource == "items_metrics":
        fields |= {"project_id": project.id, "project_slug": project.name}
    other_fields = "".join(f'"{name}":{to_json(value)},' for name, value in fields.items())
    return f'{{{other_fields}"{route.rows_at}":{listed}}}'


def positive(query: Mapping[str, str], name: str, default: int) -> int:
    """Return the value of a parameter. Raises `RefusedError` unless it is a positive integer or missing."""
    if name not in query:
        return default
    text = query[name]
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise RefusedError(_UNPROCESSABLE, f"{name} must be a positive integer")
    return int(text)
