"""The row of an occurrence, with its unbounded `data` object. It is larger than all other rows together.

Secrets and personal data are in `data` where the real service has them. Each such value carries a marker
(`SECRET_MARKER`, `PERSONAL_MARKERS`), so that tests find leaks by searching for it.
"""

from typing import Any

from analytics_dagster.sandbox.model import Occurrence, noise

Row = dict[str, Any]

SECRET_MARKER = "sandbox-secret-"  # noqa: S105 (a marker, no secret)
# A reserved domain, and a network reserved for documentation: neither belongs to anybody.
PERSONAL_MARKERS = ("@example.invalid", "203.0.113.")

_BROWSERS = ("Firefox 131", "Chrome 130", "Safari 18", "Edge 130")


def secret(name: str, number: int) -> str:
    """Return a secret value that carries the marker."""
    return f"{SECRET_MARKER}{name}-{number:08x}"


def address(number: int) -> str:
    """Return a personal e-mail address that carries a marker."""
    return f"person-{number:04d}@example.invalid"


def occurrence_row(occurrence: Occurrence, project_id: int) -> Row:
    """Return the row of /v1/occurrences."""
    number = noise(occurrence.id)
    return {
        "id": occurrence.id,
        "item_id": occurrence.item.id if occurrence.grouped else None,
        "project_id": project_id if number % 97 else None,
        "timestamp": occurrence.timestamp,
        "version": 2 if number % 41 else None,
        "billable": (1, 1, 1, 0, None)[number % 5],
        "data": _data(occurrence, number),
    }


def _data(occurrence: Occurrence, number: int) -> Row:
    item, kind = occurrence.item, occurrence.item.kind
    route = f"/{item.part.split('_')[0]}/{number % 9_000 + 1_000}"
    browser = kind.platform == "browser"
    user_ip = f"203.0.113.{number % 254 + 1}"
    # One client clock in fifty is an hour off, the others a few seconds.
    skew = 3_600 if number % 50 == 0 else number % 6
    data: Row = {
        "environment": item.environment,
        "level": item.level,
        "platform": kind.platform,
        "language": kind.language,
        "framework": kind.framework,
        "title": item.title,
        "uuid": f"{number:016x}{noise(occurrence.id, 2):016x}",
        "context": f"{item.part}#{('index', 'create', 'update')[number % 3]}",
        "code_version": occurrence.code_version,
        "timestamp": occurrence.timestamp - skew,
        "body": _body(occurrence, number),
        "server": {
            "host": f"web-{number % 8 + 1}.{item.environment}.internal",
            "root": "/srv/app",
            "branch": "main",
            "pid": number % 30_000 + 300,
        },
        "notifier": {
            "name": f"{kind.language}-notifier",
            "version": f"2.{number % 9}.1",
            "configured_options": {
                "browser-js" if browser else "server.side": {
                    "accessToken": secret("notifier", number % 7),
                    "captureUncaught": True,
                    "scrub.headers": ["Cookie"],
                },
            },
        },
        "metadata": {
            "access_token": secret("access", number % 5),
            "customer_timestamp": occurrence.timestamp - skew,
            "api_server_hostname": f"api-{number % 4}",
            "debug": {"routes": {"counters": {"post_item": 1}}},
        },
        "custom": {
            "feature.flags": {"new-checkout": number % 2 == 0, "Search.V2": number % 3 == 0},
            "X-Trace-Id": f"{noise(occurrence.id, 3):016x}",
            "orderId": number % 100_000,
            "retry-count": number % 4,
            "Cart.Total": round(number % 50_000 / 100, 2),
        },
    }
    if number % 4:
        mail = address(occurrence.person)
        data["person"] = {"id": str(occurrence.person), "username": mail, "email": mail}
    if kind.framework != "celery":
        data["request"] = {
            "url": f"https://shop.{item.environment}.example{route}?tab={number % 5}",
            "method": ("GET", "POST", "PUT")[number % 3],
            "query_string": f"tab={number % 5}",
            "user_ip": user_ip,
            "headers": {
                "User-Agent": _BROWSERS[number % len(_BROWSERS)],
                "Authorization": f"Bearer {secret('session', number % 100_000)}",
                "X-Forwarded-For": user_ip,
                "X-User": address(occurrence.person),
            },
        }
    if browser:
        data["client"] = {
            "user_ip": user_ip,
            "runtime_ms": number % 90_000,
            "javascript": {
                "browser": _BROWSERS[number % len(_BROWSERS)],
                "source_map_enabled": number % 2 == 0,
            },
        }
    return data


def _body(occurrence: Occurrence, number: int) -> Row:
    item = occurrence.item
    if item.kind.error is None:
        return {"message": {"body": item.message, "log.logger": f"app.{item.part}", "Thread-Id": number % 64}}
    names = ("dispatch", item.part)
    return {
        "trace": {
            "exception": {"class": item.kind.error, "message": item.message},
            "frames": [
                {
                    "filename": f"app/{name}/service.src",
                    "lineno": noise(item.counter, depth) % 400 + 1,
                    "method": name,
                }
                for depth, name in enumerate(names)
            ],
        }
    }
