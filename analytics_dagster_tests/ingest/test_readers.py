"""The two readers: the same requests from the same configuration, the same rows from the same service."""

import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from dlt.sources.helpers.rest_client.auth import APIKeyAuth

from analytics_dagster.catalog import RESOURCES, get_resource
from analytics_dagster.ingest import read_request
from analytics_dagster.ingest.errors import AnalyticsApiError, find_analytics_error
from analytics_dagster.ingest.lists import Page
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.settings import Settings, load_settings
from analytics_dagster.ingest.source import READERS
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.http_replies import replying
from analytics_dagster_tests.support.project import Project, a_project, failure, materializations
from analytics_dagster_tests.support.service import serving, truth

NOW = datetime(2026, 3, 10, tzinfo=UTC)
ROWS = [
    {"id": 2, "project_id": 1, "start_time": 1_760_000_060},
    {"id": 1, "project_id": 1, "start_time": 1_760_000_000},
]

both_readers = pytest.mark.parametrize("reader", READERS)


class Seen(NamedTuple):
    """A request as a server sees it."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


@contextmanager
def recording() -> Iterator[tuple[str, list[Seen]]]:
    """A server whose first page has rows, and the requests that it saw."""
    seen: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            seen.append(Seen(self.command, parts.path, query, dict(self.headers), body))
            rows = ROWS if query.get("page", query.get("seite", ["1"])) == ["1"] else []
            reply = json.dumps({"err": 0, "result": {"deploys": rows, "others": rows[:1]}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        do_POST = do_GET  # noqa: N815 - the name is the library's

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as address:
        yield f"http://{address}", seen


def read(reader: str, url: str, edit: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> list[Page]:
    """Read deploys with an edited configuration."""

    def edited_config(*args: Any, **options: Any) -> Any:
        config: Any = rest_api_config(*args, **options)
        edit(config)
        return config

    rest_api_config = read_request.rest_api_config
    request = ReadRequest(
        resource=get_resource("deploys"),
        settings=Settings(base_url=url, api_key="k1", reader=reader),
        window=None,
        lookup_values=(),
        now=NOW,
    )
    with monkeypatch.context() as patch:
        patch.setattr(read_request, "rest_api_config", edited_config)
        return list(READERS[reader](request, request.configs(url)))


def endpoint(config: Any) -> Any:
    return config["resources"][0]["endpoint"]


def keep(_: Any) -> None:
    """Change nothing."""


EDITS: dict[str, tuple[Callable[[Any], None], Callable[[Seen], bool]]] = {
    "path": (lambda config: endpoint(config).update(path="/v2/deploys"), lambda seen: seen.path == "/v2/deploys"),
    "method": (lambda config: endpoint(config).update(method="POST"), lambda seen: seen.method == "POST"),
    "body": (
        lambda config: endpoint(config).update(method="POST", json={"of": [1, 2]}),
        lambda seen: seen.body == {"of": [1, 2]},
    ),
    "parameters": (
        lambda config: endpoint(config).update(params={"limit": 7, "environment": "production"}),
        lambda seen: seen.query.get("limit") == ["7"] and seen.query.get("environment") == ["production"],
    ),
    "page parameter": (
        lambda config: endpoint(config)["paginator"].update(page_param="seite"),
        lambda seen: "seite" in seen.query and "page" not in seen.query,
    ),
    "single page": (
        lambda config: endpoint(config).update(paginator="single_page"),
        lambda seen: "page" not in seen.query,
    ),
    "authentication": (
        lambda config: endpoint(config).update(auth=APIKeyAuth(name="X-Key", api_key="k2")),
        lambda seen: seen.headers.get("X-Key") == "k2" and "api_key" not in seen.headers,
    ),
    "header": (
        lambda config: config["client"].update(headers={"X-Team": "errors"}),
        lambda seen: seen.headers.get("X-Team") == "errors",
    ),
}


@both_readers
@pytest.mark.parametrize(("edit", "shows"), EDITS.values(), ids=EDITS)
def test_what_the_configuration_says_is_what_is_requested(
    edit: Callable[[Any], None], shows: Callable[[Seen], bool], reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording() as (url, seen):
        read(reader, url, keep, monkeypatch)
        assert seen
        assert not any(map(shows, seen))
        seen.clear()

        read(reader, url, edit, monkeypatch)

        assert seen
        assert all(map(shows, seen))


@both_readers
def test_rows_are_taken_from_where_the_selector_points(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with recording() as (url, _):
        pages_read = read(reader, url, keep, monkeypatch)
        assert [row for page in pages_read for row in page.rows] == ROWS
        assert pages_read[0].envelope["others"] == ROWS[:1]

        pages_read = read(
            reader, url, lambda config: endpoint(config).update(data_selector="result.others"), monkeypatch
        )

        assert [row for page in pages_read for row in page.rows] == ROWS[:1]


def test_both_readers_send_the_same_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    first = []
    for reader in READERS:
        with recording() as (url, seen):
            read(reader, url, keep, monkeypatch)
        public = {"Accept", "User-Agent", "api_key"}
        headers = {name: value for name, value in seen[0].headers.items() if name in public}
        first.append(seen[0]._replace(headers=headers))
    assert first[0] == first[1]
    assert first[0].query == {"limit": ["20"], "page": ["1"]}
    assert first[0].headers.keys() == {"Accept", "User-Agent", "api_key"}


@both_readers
def test_a_list_without_its_envelope_is_taken_as_well(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps({"err": 0, "result": ROWS}).encode()
    with replying(body) as url:
        pages_read = read(reader, url, lambda config: endpoint(config).update(paginator="single_page"), monkeypatch)
    assert [row for page in pages_read for row in page.rows] == ROWS


@both_readers
def test_a_service_that_ignores_the_page_number_is_not_read_for_ever(
    reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"err": 0, "result": {"deploys": ROWS}}).encode()
    with replying(body) as url:
        pages_read = read(reader, url, keep, monkeypatch)
    assert {row["id"] for page in pages_read for row in page.rows} == {1, 2}
    assert len(pages_read) < 5


REFUSALS = {
    "an error with 200": (
        "err",
        {"message": "no such project"},
        "(no such project). Check base_url",
    ),
    "a key that is refused": ("err", {"status": 403, "message": "bad key"}, "HTTP 403 (bad key). Check api_key"),
    "an outage": ("status", {"status": 503}, "HTTP 503"),
    "HTML with 200": ("html", {}, "the reply is not JSON, with HTTP 200"),
    "a reset": ("reset", {}, "no reply ("),
    "a redirect": ("redirect", {"location": "/login"}, "(redirect to /login)"),
    "no result": ("null_result", {}, "(no result)"),
}


@both_readers
@pytest.mark.parametrize(("kind", "options", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_failures_are_sentences(
    reader: str,
    kind: str,
    options: dict[str, Any],
    sentence: str,
    project: Project,
    service: Sandbox,
) -> None:
    project.monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.001)
    project.use(service)
    service.fail_next(kind, times=4, **options)
    request = ReadRequest(
        resource=get_resource("deploys"), settings=load_settings(), window=None, lookup_values=(), now=NOW
    )

    with pytest.raises(Exception, match="deploys") as caught:
        list(READERS[reader](request, request.configs(service.url)))

    error: BaseException | None = caught.value
    while error and not isinstance(error, AnalyticsApiError):
        error = error.__cause__
    assert str(error).startswith("deploys: ")
    assert sentence in str(error)


@both_readers
def test_a_failure_that_passes_is_retried_and_counted(reader: str, project: Project, service: Sandbox) -> None:
    project.monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.001)
    project.use(service, reader=reader)
    service.fail_next("status", status=503, times=3)

    (deploys,) = materializations(project.materialize("deploys")).values()

    assert deploys["retries"] == 3
    assert deploys["requests"] == len(service.requests)


@both_readers
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_the_sandbox_is_read_beside_a_proxy_of_the_environment(
    reader: str, variable: str, address: str, project: Project
) -> None:
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        project.monkeypatch.delenv(name, raising=False)
        project.monkeypatch.delenv(name.upper(), raising=False)
    project.monkeypatch.setenv(variable, address)
    project.set(reader=reader)

    assert project.materialize("users").success
    assert project.rows("users")


@both_readers
@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1080", "SOCKS is not supported"),
        ("SSL_CERT_FILE", "/nowhere/bundle.pem", "The certificates that SSL_CERT_FILE names cannot be read"),
        ("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem", "The certificates that REQUESTS_CA_BUNDLE names cannot be read"),
    ],
)
def test_an_environment_that_cannot_be_used_is_one_sentence(
    reader: str, variable: str, value: str, sentence: str, project: Project
) -> None:
    project.set(base_url="https://service.invalid", api_key="key", reader=reader)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "https_proxy", "HTTPS_PROXY"):
        project.monkeypatch.delenv(name, raising=False)
    project.monkeypatch.setenv(variable, value)

    text = failure(project.materialize("users"))

    assert sentence in text
    assert "\n" not in text
    assert text.endswith((" or unset it.", " to no_proxy."))


def refused_by_its_bounds(reader: str, url: str, settings: dict[str, Any]) -> str:
    """The sentence with which a reader refuses a reply."""
    request = ReadRequest(
        resource=get_resource("deploys"),
        settings=Settings(base_url=url, api_key="key", **settings),
        window=None,
        lookup_values=(),
        now=NOW,
    )
    with pytest.raises(Exception, match="deploys") as caught:
        list(READERS[reader](request, request.configs(url)))
    error = find_analytics_error(caught.value)
    assert error
    return str(error)


@both_readers
def test_a_reply_that_inflates_beyond_its_bound_is_refused(reader: str) -> None:
    bomb = gzip.compress(b" " * 3_000_000)
    with replying(bomb, headers={"Content-Encoding": "gzip"}) as url:
        sentence = refused_by_its_bounds(reader, url, {"max_reply_megabytes": 2})

    assert sentence == (
        "deploys: the reply is larger than max_reply_megabytes. Lower page_size.deploys, or raise max_reply_megabytes."
    )


@both_readers
def test_a_body_that_drips_ends_at_its_deadline(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.001)

    class Dripping(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            with suppress(OSError):
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.05)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Dripping) as address:
        sentence = refused_by_its_bounds(reader, f"http://{address}", {"reply_timeout": 0.2})

    assert sentence.startswith("deploys: no reply (not complete after 0.2 s, the reply_timeout)")


# -- all ten --------------------------------------------------------------------------------------------------


def test_all_ten_assets_materialize_with_dlt_s_own_source(project: Project, service: Sandbox) -> None:
    project.use(service, reader="rest_api")
    names = [resource.name for resource in RESOURCES]

    assert project.materialize(*(name for name in names if get_resource(name).incremental)).success
    assert project.materialize(*(name for name in names if not get_resource(name).incremental)).success

    for name in names:
        key = "item_counter" if name == "items_metrics" else "id"
        assert {row[0] for row in project.rows(name, key)} == truth(service, name)


def test_both_readers_load_the_same_rows(service: Sandbox, tmp_path: Path) -> None:
    loaded = {}
    for reader in READERS:
        folder = tmp_path / reader
        folder.mkdir()
        with a_project(folder) as project:
            project.use(service, reader=reader)
            day = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"
            results = [
                project.materialize(*(r.name for r in RESOURCES if r.incremental), partition=day),
                project.materialize(*(r.name for r in RESOURCES if not r.incremental)),
            ]
            assert all(result.success for result in results)
            loaded[reader] = {resource.name: project.rows(resource.name) for resource in RESOURCES}
    assert all(loaded["fast"].values())
    assert loaded["fast"] == loaded["rest_api"]
