"""`/_sandbox/…`: everything that tests do to a `Sandbox` in their own process, for tests in another one.

JSON in, the service's envelope out, no key asked for. Nothing is decided here; each path is a method of
`Sandbox`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from analytics_dagster.sandbox.messages import Reply, Request, failure, success, to_json

if TYPE_CHECKING:
    from analytics_dagster.sandbox.embedded import Sandbox

PREFIX = "/_sandbox/"


def answer(sandbox: Sandbox, request: Request) -> Reply:
    """The reply to a request under `PREFIX`: 404 for what does not exist, 422 for what cannot be done."""
    command, _, resource = request.path.removeprefix(PREFIX).partition("/")
    try:
        body = _body(request.content)
        result: object = None
        match request.method, command, resource:
            case "GET", "requests", "":
                result = [asdict(recorded) for recorded in sandbox.requests]
            case "GET", "rows", _ if resource:
                return Reply(content=success(f"[{','.join(sandbox.texts(resource))}]"))
            case "POST", "rows", _ if resource:
                _change(sandbox, resource, body)
            case "POST", "deploys", "":
                result = sandbox.add_deploy(**body)
            case "POST", "occurrences", "":
                result = sandbox.add_occurrences(**body)
            case "POST", "faults", "":
                sandbox.fail_next(**body)
            case "POST", "clock", "":
                sandbox.clock_offset = float(body["offset"])
                result = {"now": sandbox.now}
            case _:
                return failure(404, f"nothing at {request.method} {request.path}")
    except (TypeError, ValueError, KeyError) as error:
        return failure(422, f"{type(error).__name__}: {error}")
    return Reply(content=success(to_json(result)))


def _body(content: bytes) -> dict[str, Any]:
    body = json.loads(content) if content else {}
    if not isinstance(body, dict):
        raise TypeError("the body must be a JSON object")
    return body


def _change(sandbox: Sandbox, resource: str, body: dict[str, object]) -> None:
    """One of `{"plant": row or JSON text}`, `{"update": id, "fields": {…}}`, `{"remove": id}`."""
    match body:
        case {"plant": row, **rest} if not rest:
            sandbox.plant(resource, row)
        case {"update": row_id, "fields": dict(fields), **rest} if not rest:
            sandbox.update(resource, row_id, **fields)
        case {"remove": row_id, **rest} if not rest:
            sandbox.remove(resource, row_id)
        case _:
            raise ValueError('give "plant", "update" with "fields", or "remove"')
