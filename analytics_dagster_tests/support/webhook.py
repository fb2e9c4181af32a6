"""A chat service's webhook on loopback, which keeps what is posted to it.

with a_webhook() as webhook:
    webhook.answers = [503, 503]  # to the next posts; then 200
    post_to_webhook(webhook.url, "text")
    assert webhook.refused == ["text"]
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Webhook:
    """The webhook of one test.

    Attributes:
        url: Its address, with a secret in it.
        answers: Status of the replies to the next posts; 200 afterwards.
        taken: The texts that were answered with 200, in order.
        refused: The texts that were not.
    """

    SECRET = "planted-webhook-token"

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = f"http://127.0.0.1:{port}/hook?token={self.SECRET}"
        self.answers: list[int] = []
        self.taken: list[str] = []
        self.refused: list[str] = []

    def receive(self, message: dict[str, Any]) -> tuple[int, str]:
        """Keep a message, and return the status of the reply and the place that a redirect leads to."""
        assert set(message) == {"text"}
        status = self.answers.pop(0) if self.answers else 200
        (self.taken if status == 200 else self.refused).append(message["text"])
        # The same server by another name is another host.
        return status, f"http://localhost:{self._port}/elsewhere"

    def lines(self) -> list[str]:
        """Return the messages that were taken."""
        return [line for text in self.taken for line in text.splitlines()]


@contextmanager
def a_webhook() -> Iterator[Webhook]:
    """Run a webhook on a free port of loopback."""

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, location = webhook.receive(message)
            self.send_response(status)
            if status in range(300, 400):
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        webhook = Webhook(server.server_port)
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield webhook
        finally:
            server.shutdown()
            thread.join()
