"""Loads leave no key and no personal data in any file, log, event or table.

The keys of the configuration, which the service repeats in its errors, and the marked values in the sandbox's rows are
searched for. Each search also looks for an ordinary text, which must be found.
"""

import json
import logging
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import dagster as dg
import duckdb
import pyarrow.parquet as pq
import pytest
import yaml
from dlt.common.runtime.run_context import switch_context

from analytics_dagster.catalog import RESOURCES
from analytics_dagster.sandbox import PERSONAL_MARKERS, SECRET_MARKER, Sandbox
from analytics_dagster_tests.support.dagster_dev import DAGSTER, a_clone, environment
from analytics_dagster_tests.support.postgres_server import PASSWORD as LOADERS_PASSWORD
from analytics_dagster_tests.support.postgres_server import QUOTED_PASSWORD, PostgresDatabase
from analytics_dagster_tests.support.project import CONFIG, Project, daily_partition, failure
from analytics_dagster_tests.support.service import a_service

INCREMENTAL = [resource.name for resource in RESOURCES if resource.incremental]
UNPARTITIONED = [resource.name for resource in RESOURCES if not resource.incremental]

# The keys contain characters that are escaped in a URL.
PROJECT_KEY = "planted/project+key=1&a b%z"
ACCOUNT_KEY = "planted/account+key=2&a b%z"
PASSWORD = "planted-password"
HOOK = "planted-hook"
KEYS = (PROJECT_KEY, ACCOUNT_KEY, PASSWORD, HOOK)
SPELLINGS: Sequence[Callable[[str], str]] = (str, quote, partial(quote, safe=""), quote_plus)
SECRETS = (SECRET_MARKER, *(spell(key) for key in KEYS for spell in SPELLINGS))


@dataclass(frozen=True)
class Traces:
    """The texts that a project leaves behind, by place: a file, a table, or an output of the process.

    Attributes:
        rows: The warehouse's bytes and tables, and the files of dlt's working directories that hold rows.
        rest: Every other file except `secrets.toml`, and the process's outputs.
    """

    rows: dict[str, str]
    rest: dict[str, str]

    def places_of(self, *values: str, rows: bool = True) -> set[tuple[str, str]]:
        """Return the places that contain any of the values, each with the value."""
        places = self.rest | (self.rows if rows else {})
        return {(place, value) for place, text in places.items() for value in values if value in text}


def traces_of(folder: Path, database: PostgresDatabase | None = None, **said: str) -> Traces:
    """Read all files in a project's folder, the tables and the log of a server, and `said`: outputs of the process."""
    rows = dict(tables_of_server(database)) if database else {}
    rest = dict(said)
    if database:
        rest["server log"] = (database.server.folder / "log").read_text()
    for path in sorted(folder.rglob("*")):
        place = str(path.relative_to(folder))
        if not path.is_file() or path == folder / ".dlt" / "secrets.toml":
            continue
        if path.suffix == ".parquet":  # compressed
            rows[place] = str(pq.read_table(path).to_pylist())
            continue
        content = path.read_bytes().decode("latin-1")
        if path.suffix == ".duckdb":  # its strings may be compressed as well
            rows |= {place: content} | {f"{place}:{table}": text for table, text in tables_of(path)}
        else:
            rest[place] = content
    return Traces(rows, rest)


def tables_of(file: Path) -> Iterator[tuple[str, str]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        for schema, table in connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables"
        ).fetchall():
            yield f"{schema}.{table}", str(connection.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall())


def tables_of_server(database: PostgresDatabase) -> Iterator[tuple[str, str]]:
    for (name,) in database.run("SELECT CAST(oid AS regclass) FROM pg_class WHERE relkind = 'r' AND oid >= 16384"):
        yield f"server:{name}", str(database.run(f"SELECT * FROM {name}"))


@pytest.fixture
def service() -> Iterator[Sandbox]:
    """The service with keys of its own, and with rows that do not fit their columns among the others."""
    with a_service(history_days=0, project_key=PROJECT_KEY, account_key=ACCOUNT_KEY) as service:
        for name in ("occurrences", "projects", "users"):
            row = service.rows(name)[0]
            service.plant(name, {**row, "id": "no number"})
            service.plant(name, [row])
        plant_other_spellings(service)
        yield service


def plant_other_spellings(service: Sandbox) -> None:
    """Plant rows whose secrets and personal data have other places or names than in the sandbox's own."""
    secret, personal = f"{SECRET_MARKER}spelt-otherwise", PERSONAL_MARKERS[0]
    payloads: list[Any] = [
        {"notifier": {"configured_options": {"accessToken": secret}}},
        {"notifier": {"configured_options": {"server": {"side": [{"Access-Token": secret}]}}}},
        {"request": {"headers": {"COOKIE": secret, "X-API-Key": secret}, "User-IP": personal}},
        {"Metadata": {"ACCESS_TOKEN": secret}, "Person": {"E-Mail": personal}},
    ]
    payloads += [json.dumps(payload) for payload in payloads]
    newest = service.rows("occurrences")[-1]
    for number, payload in enumerate([*payloads, f"access_token={secret}"], start=1):
        service.plant("occurrences", {**newest, "id": newest["id"] + number, "data": payload})
    service.update("deploys", service.add_deploy()["id"], local_username=f"somebody{personal}")
    service.plant("users", {"id": 1, "username": "one", "E-Mail": personal, "pager": personal})


@pytest.fixture
def secretive(project: Project, service: Sandbox) -> Iterator[Project]:
    """A project with its keys in `secrets.toml`, a home for Dagster, and working directories that stay."""
    folder = project.folder
    write_settings(folder, service)
    switch_context(str(folder))
    working = folder / "working"
    working.mkdir()

    @contextmanager
    def kept() -> Iterator[str]:
        yield tempfile.mkdtemp(dir=working)

    project.monkeypatch.setattr("analytics_dagster.ingest.load.working_files", kept)
    project.monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.001)
    project.monkeypatch.setenv("DLT_DATA_DIR", str(folder / "dlt"))
    home = folder / "home"
    home.mkdir()
    logs = yaml.safe_load((Path(__file__).resolve().parents[2] / "dagster.yaml").read_text())["python_logs"]
    logs["python_log_level"] = "DEBUG"
    with dg.instance_for_test(temp_dir=str(home), overrides={"python_logs": logs}) as instance:
        yield replace(project, instance=instance)


def write_settings(folder: Path, service: Sandbox) -> None:
    (folder / ".dlt" / "config.toml").write_text(f'{CONFIG}[sources.analytics]\nbase_url = "{service.url}"\n')
    (folder / ".dlt" / "secrets.toml").write_text(
        f'[sources.analytics]\napi_key = "{PROJECT_KEY}"\naccount_api_key = "{ACCOUNT_KEY}"\n'
        f'failure_webhook = "http://127.0.0.1:9/{HOOK}"\n'
    )


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], dict[str, str]]:
    """The process's outputs: the log at DEBUG, standard output, standard error."""
    caplog.set_level(logging.DEBUG)

    def so_far() -> dict[str, str]:
        out, err = capfd.readouterr()
        return {"log": caplog.text, "out": out, "err": err}

    return so_far


@pytest.mark.every_warehouse
@pytest.mark.parametrize("keep", ["false", "true"])
def test_loads_leave_no_secret_anywhere_and_personal_data_only_in_rows_where_it_is_kept(
    keep: str, secretive: Project, service: Sandbox, said: Callable[[], dict[str, str]]
) -> None:
    project = secretive
    project.set(keep_personal_data=keep)

    assert project.materialize("occurrences", "deploys", partition=daily_partition()).success
    assert project.materialize("projects", "users").success

    left = traces_of(project.folder, project.postgres, **said())
    assert {request.key for request in service.requests} == {"project", "account"}
    assert left.places_of(*SECRETS, LOADERS_PASSWORD, QUOTED_PASSWORD) == set()
    assert left.places_of(*PERSONAL_MARKERS, rows=keep == "false") == set()
    kept_in = {place.rpartition(".")[2] for place, _ in left.places_of(*PERSONAL_MARKERS)}
    assert kept_in >= ({"users", "occurrences", "rejected_rows", "parquet"} if keep == "true" else set())
    # An ordinary text is found in each place, so a secret would be as well.
    assert len(project.rows("rejected_rows")) == 6
    revision = service.rows("deploys")[0]["revision"]
    assert {place.rpartition(".")[2] for place, _ in left.places_of(revision)} >= {"deploys", "parquet"}
    assert {place.partition("/")[0] for place, _ in left.places_of("users: loaded")} == {"home", "log", "err"}
    assert any(place.endswith("trace.pickle") for place in left.rest)


def test_loads_that_fail_leave_no_secret_anywhere(
    secretive: Project, service: Sandbox, said: Callable[[], dict[str, str]]
) -> None:
    project = secretive
    account, project_s = (" ".join(spell(key) for spell in SPELLINGS) for key in (ACCOUNT_KEY, PROJECT_KEY))
    service.fail_next("err", resource="users", status=403, message=f"no such key: {account}")
    service.fail_next("err", resource="projects", status=503, message=f"no such key: {account}", times=4)
    service.fail_next("redirect", resource="teams", location=f"/login?key={quote(ACCOUNT_KEY)}")
    service.fail_next("err", resource="environments", message=f"no such key: {project_s}")
    sentences = [failure(project.materialize("users", "projects", "teams", "environments"))]

    with project.monkeypatch.context() as monkeypatch:
        monkeypatch.setenv("SOURCES__ANALYTICS__PATHS__USERS", f"/v1/users?key={PROJECT_KEY}")
        sentences.append(failure(project.materialize("users")))
    with project.monkeypatch.context() as monkeypatch:
        monkeypatch.setenv("SOURCES__ANALYTICS__BASE_URL", f"https://{quote(PROJECT_KEY, safe='')}@127.0.0.1:9")
        sentences.append(failure(project.materialize("users")))
    with project.monkeypatch.context() as monkeypatch:
        monkeypatch.setenv("DESTINATION__WAREHOUSE__DESTINATION_TYPE", "sqlalchemy")
        monkeypatch.setenv("DESTINATION__WAREHOUSE__CREDENTIALS", f"mysql://loader:{PASSWORD}@127.0.0.1:9/database")
        sentences.append(failure(project.materialize("users")))

    left = traces_of(project.folder, **said())
    assert left.places_of(*SECRETS) == set()
    assert sentences[0].count("no such key: [redacted]") == 3
    assert "redirect to /login?key=[redacted]" in sentences[0]
    assert "paths.users" in sentences[1]
    assert "base_url" in sentences[2]
    assert "The driver of the destination sqlalchemy is not installed." in sentences[3]
    # An ordinary text is found in each place, so a secret would be as well.
    places = {place.partition("/")[0] for place, _ in left.places_of("no such key: [redacted]")}
    assert places == {"home", "working", "log", "err"}


def cli(folder: Path, *names: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Materialise assets as in a terminal, in the project's folder, with a home for Dagster in it."""
    selection = " or ".join(f"key:analytics/{name}" for name in names)
    partition = ["--partition", daily_partition()] if set(names) <= set(INCREMENTAL) else []
    return subprocess.run(
        [*DAGSTER, "asset", "materialize", "-m", "analytics_dagster.definitions", "--select", selection, *partition],
        cwd=folder, env=environment(DAGSTER_HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"), **variables),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_processes_of_dagster_leave_no_secret_and_no_personal_data_anywhere(tmp_path: Path, service: Sandbox) -> None:
    a_clone(tmp_path)
    write_settings(tmp_path, service)
    for name in ("home", "tmp"):
        (tmp_path / name).mkdir()
    account = " ".join(spell(ACCOUNT_KEY) for spell in SPELLINGS)
    service.fail_next("err", resource="teams", status=403, message=f"no such key: {account}")
    loaded, failed = cli(tmp_path, *INCREMENTAL), cli(tmp_path, *UNPARTITIONED)

    assert (loaded.returncode, failed.returncode) == (0, 1)
    said = {"loaded out": loaded.stdout, "loaded err": loaded.stderr, "out": failed.stdout, "err": failed.stderr}
    left = traces_of(tmp_path, **said)
    assert left.places_of(*SECRETS, *PERSONAL_MARKERS) == set()
    # An ordinary text is found in each place, so a secret would be as well.
    places = {place.partition("/")[0] for place, _ in left.places_of("no such key: [redacted]")}
    assert places == {"home", "err"}
    assert {place for place in left.rows if place.startswith("warehouse.duckdb:analytics.")} >= {
        f"warehouse.duckdb:analytics.{name}" for name in ("occurrences", "projects", "users", "rejected_rows")
    }
