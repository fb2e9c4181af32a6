"""The rows of the served lists: JSON as bytes. The rows of a list have one length, so that any page is one slice.

The bodies are written out as the service sends them, and share nothing with the sandbox or the package. Rows of the
same variant differ in their id, their time and a check value, the `uuid`, which contains the id.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from analytics_dagster_tests.benchmark.times_and_ids import FIRST_ID

VARIANTS = 61
"""Number of different bodies; a prime number, so that no two pages are alike."""

_ID, _TIME = 111_111_111_111, 1_111_111_111
"""Placeholders for the id and the time of a row in a body, with the same number of digits."""


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """The format of a list's rows.

    Attributes:
        path: Path of the list.
        rows_at: Key of the rows in `result`.
        length: Bytes of a row.
        body: Returns the body of a variant. Its second argument is text that pads the body to `length`.
    """

    path: str
    rows_at: str
    length: int
    body: Callable[[int, str], dict[str, Any]]

    def templates(self) -> list[bytes]:
        """Return a template for each variant: bytes with `%(id)d` and `%(time)d`."""
        return [self._template(variant) for variant in range(VARIANTS)]

    def _template(self, variant: int) -> bytes:
        missing = self.length - len(_dumps(self.body(variant, "")))
        text = _dumps(self.body(variant, "." * missing))
        assert len(text) == self.length, (self.path, len(text))
        assert b"%" not in text
        return text.replace(b"%d" % _ID, b"%(id)d").replace(b"%d" % _TIME, b"%(time)d")


def encode_rows(templates: list[bytes], rows: Iterable[tuple[int, int, int]]) -> bytes:
    """Return rows, given by index, id and time, as JSON, each followed by a comma."""
    return b"".join(templates[index % VARIANTS] % {b"id": row_id, b"time": time} + b"," for index, row_id, time in rows)


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _revision(number: int) -> str:
    """Return forty varied hexadecimal digits: a parser's speed may depend on the text."""
    return hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest()


def _occurrence(variant: int, note: str) -> dict[str, Any]:
    mail = f"person-{variant:04d}@example.invalid"
    part = ("checkout", "search", "coupon", "invoice")[variant % 4]
    message = f"task {part}.sync exceeded {variant + 10} s"
    return {
        "id": _ID,
        "item_id": 1_200_000_000 + variant if variant % 20 else None,
        "project_id": 1_001,
        "timestamp": _TIME,
        "version": 2,
        "billable": 1,
        "data": {
            "environment": ("production", "staging")[variant % 2],
            "level": ("error", "warning", "critical")[variant % 3],
            "platform": "linux",
            "language": "python",
            "framework": "celery",
            "title": f"TimeoutError: {message}",
            "uuid": f"00000000-0000-0000-0000-{_ID}",
            "context": f"{part}#index",
            "code_version": _revision(variant),
            "timestamp": _TIME,
            "body": {
                "trace": {
                    "exception": {"class": "TimeoutError", "message": message},
                    "frames": [
                        {"filename": f"app/{name}/service.src", "lineno": 23 + variant, "method": name}
                        for name in ("dispatch", part)
                    ],
                }
            },
            "server": {"host": f"web-{variant % 8}.internal", "root": "/srv/app", "pid": 4_455 + variant},
            "notifier": {
                "version": "2.3.1",
                "configured_options": {"server.side": {"accessToken": f"benchmark-secret-{variant:08x}"}},
            },
            "metadata": {"access_token": f"benchmark-secret-{variant:08x}"},
            "custom": {"feature.flags": {"new-checkout": variant % 2 == 0}, "Cart.Total": 441.55, "note": note},
            "person": {"id": str(1_000 + variant), "username": mail, "email": mail},
            "request": {
                "url": f"https://shop.example/{part}/{variant}?tab=1",
                "method": "GET",
                "user_ip": "203.0.113.9",
                "headers": {"User-Agent": "Firefox 131", "X-User": mail},
            },
        },
    }


def _item(variant: int, note: str) -> dict[str, Any]:
    return {
        "id": _ID,
        "counter": variant + 1,
        "project_id": 1_001,
        "environment": "production",
        "title": f"TimeoutError {note}",
        "title_lock": 0,
        "level": "error",
        "level_lock": 0,
        "status": ("active", "resolved")[variant % 2],
        "platform": "linux",
        "framework": "celery",
        "hash": _revision(variant),
        "first_occurrence_id": FIRST_ID,
        "first_occurrence_timestamp": 1_560_557_312,
        "last_occurrence_id": FIRST_ID,
        "last_occurrence_timestamp": _TIME,
        "activating_occurrence_id": None,
        "last_activated_timestamp": None,
        "last_resolved_timestamp": None,
        "total_occurrences": 23,
        "unique_occurrences": None,
        "assigned_user_id": None,
        "last_modified_by": None,
        "resolved_in_version": None,
        "public_item_id": None,
        "integrations_data": None,
        "controlling_id": _ID,
        "group_item_id": None,
        "group_status": 1,
    }


def _deploy(variant: int, note: str) -> dict[str, Any]:
    return {
        "id": _ID,
        "project_id": 1_001,
        "environment": "production",
        "revision": _revision(variant),
        "status": "succeeded",
        "start_time": _TIME,
        "finish_time": _TIME,
        "local_username": None,
        "user_id": None,
        "comment": note,
    }


OCCURRENCES = RowFormat(path="/v1/occurrences", rows_at="instances", length=1_300, body=_occurrence)
ITEMS = RowFormat(path="/v1/items", rows_at="items", length=900, body=_item)
DEPLOYS = RowFormat(path="/v1/deploys", rows_at="deploys", length=300, body=_deploy)
FORMATS = (OCCURRENCES, ITEMS, DEPLOYS)
