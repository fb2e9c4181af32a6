"""Bad input fails the run with a sentence that names the setting or asset, and leaves the warehouse as it was."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import duckdb
import pytest
from filelock import FileLock

from analytics_dagster.sandbox import PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.project import Project, daily_partition, failure, run_checks


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"api_key": ""}, "No api_key is set for {url}. Put it in .dlt/secrets.toml"),
        ({"api_key": "wrong"}, "deploys: HTTP 403"),
        ({"partitions": "daily"}, "There is no setting sources.analytics.partitions. Did you mean partition?"),
        ({"paths__item": "/x"}, "The setting sources.analytics.paths.item must name a resource. Did you mean items?"),
        (
            {"start_date": "2999-12-31"},
            "The setting sources.analytics.start_date must be a date that is not in the future",
        ),
        ({"start_date": "yesterday"}, "The setting sources.analytics.start_date must be a date such as"),
        (
            {"partition": "weekly"},
            "The setting sources.analytics.partition must be one of daily, hourly, not 'weekly'.",
        ),
        ({"base_url": "example.com"}, 'The setting sources.analytics.base_url must be "sandbox" or a URL'),
        (
            {"base_url": "http://key@127.0.0.1:9"},
            "The setting sources.analytics.base_url must be a URL without credentials",
        ),
        ({"base_url": "sandbox"}, "A key is set while base_url is the sandbox"),
        ({"read_ahead": "0"}, "The setting sources.analytics.read_ahead must be a whole number, at least 1, not '0'."),
        (
            {"disabled": "itemz"},
            "The setting sources.analytics.disabled must be a list of resource names; unknown: itemz",
        ),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence_and_the_warehouse_stays_as_it_was(
    settings: dict[str, str], sentence: str, project: Project, service: Sandbox
):
    project.use(service)
    assert project.materialize("deploys", partition=daily_partition()).success
    warehouse = project.warehouse
    before = warehouse.read_bytes()
    project.set(**settings)
    result = project.materialize("deploys", partition=daily_partition())
    assert not result.success
    text = failure(result)
    assert sentence.format(url=service.url) in text
    assert "key@" not in text
    assert "\n" not in text
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM analytics.load_windows").fetchall() == [(1,)]
    if "deploys:" not in sentence:
        assert warehouse.read_bytes() == before


class _Website(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<html>Welcome</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def website() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Website)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_base_url_that_answers_with_html_is_said_to_be_no_api(
    project: Project, website: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.01)
    project.set(base_url=website, api_key="any")
    text = failure(project.materialize("users"))
    assert "the reply is not JSON, with HTTP 200 after 4 attempts. Check base_url" in text


def test_a_service_that_is_not_there_is_said_to_be_so(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.01)
    project.set(base_url="http://127.0.0.1:9", api_key="any")
    text = failure(project.materialize("users"))
    assert text.startswith("1 of 1 did not load: users: no reply (NewConnectionError) after 4 attempts. Check base_url")


def test_a_missing_account_key_is_named(project: Project, service: Sandbox):
    project.set(base_url=service.url, api_key=PROJECT_KEY)
    text = failure(project.materialize("users"))
    assert "Check account_api_key: users needs an account's key" in text


HOLDER = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"


def test_a_warehouse_held_by_someone_else_is_named_with_its_holder(project: Project, service: Sandbox):
    project.use(service, lock_timeout=0.5)
    warehouse = project.warehouse
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(warehouse)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        text = failure(project.materialize("users"))
    finally:
        holder.communicate("", timeout=10)
    assert text.startswith(f"The warehouse {warehouse} cannot be opened for writing")
    assert f"PID {holder.pid}" in text


def test_a_load_elsewhere_is_waited_for_and_then_said_to_be_the_reason(project: Project, service: Sandbox):
    project.use(service, lock_timeout=0.2)
    with FileLock(project.warehouse.with_suffix(".lock")):
        text = failure(project.materialize("users"))
    assert "is still being written by another process after 0 s. Wait for that load to finish, or raise" in text


def test_a_directory_that_cannot_be_made_is_named(project: Project, service: Sandbox):
    project.use(service)
    (project.folder / "file").write_text("in the way")
    project.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", "file/warehouse.duckdb")
    text = failure(project.materialize("users"))
    assert "cannot be written" in text
    assert "destination.warehouse.credentials" in text


def test_a_file_named_as_the_schema_is_refused(project: Project, service: Sandbox):
    project.use(service)
    project.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", "analytics.duckdb")
    assert "Set destination.warehouse.credentials to a file of another name." in failure(project.materialize("users"))


def test_the_home_in_the_path_of_the_warehouse_is_the_user_s(project: Project, service: Sandbox, tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    project.use(service)
    project.monkeypatch.setenv("HOME", str(home))
    project.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", "~/w.duckdb")
    assert project.materialize("users").success
    assert (home / "w.duckdb").exists()
    assert not (project.folder / "~").exists()


@pytest.mark.parametrize(
    ("credentials", "advice"),
    [
        ("md:db", 'For another warehouse set destination.warehouse.destination_type to "motherduck".'),
        ("postgresql://loader:s3cret@host/db", 'destination_type to its type, such as "postgres".'),
        ("s3://bucket/w.duckdb", 'destination_type to its type, such as "postgres".'),
        (":memory:", 'destination_type to its type, such as "postgres".'),
        ("~nobody-of-that-name/w.duckdb", "begins with the home of a user who has none. Set it to a whole path."),
    ],
)
def test_credentials_that_are_no_file_make_no_file_and_are_not_repeated(
    credentials: str, advice: str, project: Project, service: Sandbox
):
    project.use(service)
    before = sorted(path.name for path in project.folder.iterdir())
    project.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", credentials)
    text = failure(project.materialize("users"))
    assert text.startswith("The setting destination.warehouse.credentials")
    assert text.endswith(advice)
    assert "s3cret" not in text
    assert sorted(path.name for path in project.folder.iterdir()) == before


@pytest.mark.parametrize(
    ("kind", "credentials", "sentence"),
    [
        (
            "postgres",
            "postgresql://loader:s3cret@127.0.0.1:9/db",
            "The warehouse 127.0.0.1:9/db cannot be opened: Connection refused. Start the server, or check host",
        ),
        (
            "postgres",
            "postgresql://127.0.0.1/db",
            "The destination postgres needs destination.warehouse.credentials.username.",
        ),
        (
            "mssql",
            "mssql://loader:s3cret@127.0.0.1:9/db",
            "The driver of the destination mssql is not installed.",
        ),
        (
            "postgres",
            "s3cret",
            "The setting destination.warehouse.credentials is no connection string that postgres takes.",
        ),
        (
            "postgress",
            "s3cret",
            "The setting destination.warehouse.destination_type must be a destination of dlt, not postgress.",
        ),
        (
            "dummy",
            "s3cret",
            "The destination dummy has no SQL.",
        ),
        *(
            (kind, "s3cret", f"The destination {kind} cannot replace rows by their key: dlt has no delete-insert merge")
            for kind in ("filesystem", "lancedb", "qdrant", "weaviate")
        ),
    ],
)
def test_a_destination_that_cannot_be_opened_is_one_sentence_in_loads_and_checks(
    kind: str, credentials: str, sentence: str, project: Project, service: Sandbox
):
    project.use(service)
    project.monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", kind)
    project.monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", credentials)
    for result in (project.materialize("users"), run_checks(project)):
        text = failure(result)
        assert text.startswith(sentence)
        assert text.endswith(".")
        assert "\n" not in text
        assert "s3cret" not in text


def test_rows_of_the_sandbox_do_not_go_into_a_warehouse_of_real_ones(project: Project, service: Sandbox):
    project.use(service)
    assert project.materialize("deploys", partition=daily_partition()).success
    warehouse = project.warehouse
    for name in ("base_url", "api_key", "account_api_key"):
        project.monkeypatch.delenv(f"SOURCES__ANALYTICS__{name.upper()}")
    project.monkeypatch.setenv("DESTINATION__SANDBOX__CREDENTIALS", str(warehouse))
    text = failure(project.materialize("deploys", partition=daily_partition()))
    assert text.startswith(f"The warehouse holds rows of {service.url}; rows of sandbox must not be mixed with them.")


def test_definitions_load_with_no_key_no_network_and_no_file(tmp_path: Path):
    (tmp_path / ".dlt").mkdir()
    (tmp_path / ".dlt" / "config.toml").write_text(
        '[sources.analytics]\nbase_url = "http://127.0.0.1:9"\nstart_date = "nonsense"\n'
    )
    command = "from analytics_dagster.definitions import defs; print(len(list(defs.resolve_all_asset_specs())))"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "13\n", done.stderr
    assert "sources.analytics.start_date must be a date such as" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dlt"]
