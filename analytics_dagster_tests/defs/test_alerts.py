"""Failed runs are posted to a webhook, without secrets."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import dagster as dg
import pytest

from analytics_dagster.definitions import build_definitions, definition_settings
from analytics_dagster.defs.alerts import failure_text, post_to_webhook
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.project import Project


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    """A webhook's address, and what was posted to it."""
    posted: list[Any] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if self.path.startswith("/moved"):
                self.send_response(307)
                # The same server by another name is another host.
                self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere")
            else:
                self.send_response(500 if self.path.startswith("/broken") else 200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/hook?token=secret-token", posted
        server.shutdown()
        thread.join()


def test_a_failed_run_is_posted_as_one_sentence_without_keys(
    project: Project, service: Sandbox, webhook: tuple[str, list[Any]]
):
    url, posted = webhook
    project.use(service, failure_webhook=url)
    service.fail_next("err", resource="deploys", status=403, message=f"{PROJECT_KEY} is not allowed", times=9)
    result = project.materialize("deploys", partition=f"{datetime.now(UTC):%Y-%m-%d}")
    assert not result.success
    (failed,) = [event for event in result.all_events if event.event_type_value == "PIPELINE_FAILURE"]
    context = dg.build_run_status_sensor_context(
        "run_failure_sensor", failed, project.instance, result.dagster_run
    ).for_run_failure()
    build_definitions(definition_settings()).get_repository_def().get_sensor_def("run_failure_sensor")(context)
    (message,) = posted
    assert set(message) == {"text"}
    assert message["text"].startswith(f"{result.dagster_run.job_name} failed (run {result.run_id}): 1 of 1 did not")
    assert "HTTP 403" in message["text"]
    assert "\n" not in message["text"]
    assert PROJECT_KEY not in message["text"]


def test_no_key_is_in_the_sentence_even_where_one_begins_like_another():
    settings = Settings(
        base_url="https://api.example.com", api_key="abc", account_api_key="abcdef", failure_webhook="https://x.y/z"
    )
    text = failure_text("sync", "1", ["abc and\n abcdef  at https://x.y/z"], settings.secrets)
    assert text == "sync failed (run 1): [redacted] and [redacted] at [redacted]"


def test_a_long_description_is_cut():
    assert len(failure_text("sync", "1", ["long " * 1000], secrets=[])) < 1100


@pytest.mark.parametrize("path", ["/broken", None])
def test_failing_to_post_is_logged_without_the_address(
    path: str | None, webhook: tuple[str, list[Any]], caplog: pytest.LogCaptureFixture
):
    url = webhook[0].replace("/hook", path) if path else "http://127.0.0.1:9/hook?token=secret-token"
    with caplog.at_level(logging.WARNING):
        post_to_webhook(url, "text", logging.getLogger("test"))
    assert "could not be posted to failure_webhook" in caplog.text
    assert "secret-token" not in caplog.text


def test_a_redirect_of_the_webhook_is_not_followed_and_is_logged(
    webhook: tuple[str, list[Any]], caplog: pytest.LogCaptureFixture
):
    url, posted = webhook
    with caplog.at_level(logging.WARNING):
        post_to_webhook(url.replace("/hook", "/moved"), "text", logging.getLogger("test"))
    assert posted == [{"text": "text"}]
    assert "it answered with a redirect, which is not followed. Set failure_webhook to the URL" in caplog.text
    assert "secret-token" not in caplog.text


def test_a_webhook_on_this_machine_is_not_posted_to_through_a_proxy(
    webhook: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
):
    url, posted = webhook
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    post_to_webhook(url, "text", logging.getLogger("test"))
    assert posted == [{"text": "text"}]


def test_certificates_that_cannot_be_read_do_not_fail_the_sensor(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    with caplog.at_level(logging.WARNING):
        post_to_webhook("https://127.0.0.1:9/hook?token=secret-token", "text", logging.getLogger("test"))
    assert "could not be posted to failure_webhook" in caplog.text
    assert "secret-token" not in caplog.text


def test_the_webhook_is_in_no_representation_of_the_settings(project: Project):
    project.set(failure_webhook="https://chat.example.com/secret-token")
    settings = definition_settings()
    assert settings.failure_webhook.get_secret_value() == "https://chat.example.com/secret-token"
    assert "secret-token" not in repr(settings)
    assert ACCOUNT_KEY not in repr(settings)
