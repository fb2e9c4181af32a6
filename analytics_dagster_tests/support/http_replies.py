"""Replies that a client handles: faults to queue at the sandbox, servers for other replies, a clock for waits."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from analytics_dagster.ingest.bounded_replies import Limits
from analytics_dagster_tests.support.service import serving

RETRIED = [429, 500, 502, 503, 504]


PATIENCE = 10.0
"""Seconds after which a waiting test fails."""


def limits(*, timeout: float = 5.0, reply_timeout: float = 60.0, reply_bytes: int = 10_000_000) -> Limits:
    """Bounds of a reply that no ordinary one reaches."""
    return Limits(timeout=timeout, reply_timeout=reply_timeout, reply_bytes=reply_bytes)


# Faults after which a request is retried: kind, options and HTTP status (None without a reply).
PASSING = {
    **{f"status {status}": ("status", {"status": status, "headers": False}, status) for status in RETRIED},
    "connection reset": ("reset", {}, None),
    "reply cut short": ("truncate", {}, None),
    "reply too slow": ("slow", {"seconds": 2.0}, None),
    "HTML": ("html", {}, 200),
    "broken JSON": ("broken_json", {}, 200),
}


# Faults that fail at once: kind, options, HTTP status and texts of the message.
FINAL = {
    "400": ("status", {"status": 400}, 400, ["HTTP 400 (refused with 400)", "base_url", "paths.occurrences"]),
    "401": ("status", {"status": 401}, 401, ["Check api_key: the service did not accept it."]),
    "403": ("status", {"status": 403}, 403, ["Check api_key: occurrences needs a project's key", "plan"]),
    "404": ("status", {"status": 404}, 404, ["Check base_url and paths.occurrences."]),
    "405": ("status", {"status": 405}, 405, ["base_url", "paths.occurrences"]),
    "422": ("status", {"status": 422}, 422, ["api_key", "paths.occurrences", "page_size.occurrences"]),
    "501": ("status", {"status": 501}, 501, ["HTTP 501"]),
    "505": ("status", {"status": 505}, 505, ["HTTP 505"]),
    "error with 200": ("err", {"message": "no such project"}, 200, ["(no such project)", "Check"]),
    "error without a message": ("err", {"message": ""}, 200, ["HTTP 200"]),
    "null for a result": ("null_result", {}, 200, ["(no result)"]),
    "redirect": ("redirect", {"location": "/login"}, 302, ["redirect to /login", "Check base_url"]),
    "permanent redirect": ("redirect", {"location": "https://x.invalid/", "status": 308}, 308, ["https://x.invalid/"]),
}


@contextmanager
def answering(answer: Callable[[], tuple[int, Mapping[str, str], bytes]]) -> Iterator[str]:
    """Serve the status, headers and body that a function returns for each request, and yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as address:
        yield f"http://{address}"


@contextmanager
def replying(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """Serve one and the same reply, and yield the URL."""
    with answering(lambda: (status, headers or {}, body)) as url:
        yield url


class Clock:
    """Replaces `time` in the client: `sleep` advances the time at once."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
