"""What a server adds to a file: rights, TLS, several loads at once, indexes and comments, and one sentence for each
thing that is missing. That loads and checks do the same as on DuckDB is in the modules marked `every_warehouse`."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dlt
import pytest
import trustme
from dlt.destinations.exceptions import DatabaseException

from analytics_dagster.catalog import RESOURCES, get_resource, table_columns
from analytics_dagster.ingest.errors import AnalyticsError, WarehouseError
from analytics_dagster.ingest.load import open_loader
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.source import Reading, build_source
from analytics_dagster.ingest.warehouse.table_stats import TableStats
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.postgres_server import (
    LOADER,
    PASSWORD,
    QUOTED_PASSWORD,
    PostgresDatabase,
    PostgresServer,
)
from analytics_dagster_tests.support.project import Project, checked, failure, load, run_checks
from analytics_dagster_tests.support.service import truth

pytestmark = pytest.mark.postgres

CREDENTIALS = "DESTINATION__WAREHOUSE__CREDENTIALS"


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    with postgres_server.database() as database:
        yield database


@pytest.fixture
def stored(project: Project, service: Sandbox, database: PostgresDatabase) -> Project:
    """A project with an empty PostgreSQL database."""
    project.use(service)
    project.use_postgres(database)
    return project


# -- one sentence each -----------------------------------------------------------------------------------------


def refused(project: Project, url: str) -> str:
    """Return the sentence with which a load and the checks fail for a URL; it has no password."""
    project.monkeypatch.setenv(CREDENTIALS, url)
    loaded, checks = (failure(run) for run in (project.materialize("users"), run_checks(project)))
    assert loaded == checks
    assert "\n" not in loaded
    assert not [word for word in (PASSWORD, QUOTED_PASSWORD, "wrong-one") if word in loaded]
    return loaded


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"password": "wrong-one"},
            'password authentication failed for user "loader". Check user and password in {}.',
        ),
        (
            {"database": "absent"},
            'database "absent" does not exist. Run CREATE DATABASE in the server, or name another database in {}.',
        ),
        (
            {"host": "host.invalid"},
            'could not translate host name "host.invalid" to address: Name or service not known. Check the host in {}.',
        ),
    ],
    ids=["password", "database", "host"],
)
def test_a_connection_that_is_refused_is_one_sentence(change: dict[str, str], sentence: str, stored: Project):
    assert stored.database
    parts = {"database": stored.database.name} | change
    said = refused(stored, stored.database.server.url(**parts))
    place = f"{parts.get('host', '127.0.0.1')}:{stored.database.server.port}/{parts['database']}"
    expected = sentence.format("destination.warehouse.credentials")
    assert said == f"The warehouse {place} cannot be opened: {expected}"


def test_a_password_that_is_missing_is_asked_for(stored: Project, monkeypatch: pytest.MonkeyPatch):
    assert stored.database
    url = stored.database.url.replace(f":{QUOTED_PASSWORD}", "")
    said = refused(stored, url)
    assert said.endswith(
        "no password supplied. Set destination.warehouse.credentials.password, or put the password into the URL."
    )
    # Where libpq finds one, none is missed.
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert stored.materialize("users").success


def test_a_password_of_any_characters_opens_the_server(stored: Project):
    """dlt leaves spaces as they are, and libpq 17 then refuses the URL and repeats the password."""
    assert stored.database
    server = stored.database.server
    server.run("CREATE ROLE spaced LOGIN PASSWORD 'a b+c%20:@/?#\u00e9'")
    try:
        server.run(f"ALTER DATABASE {stored.database.name} OWNER TO spaced")
        password = quote("a b+c%20:@/?#\u00e9", safe="")
        stored.monkeypatch.setenv(CREDENTIALS, server.url(stored.database.name, "spaced", password))
        assert stored.materialize("users").success
        assert len(stored.database.server.run("SELECT id FROM analytics.users", stored.database.name)) > 0
    finally:
        server.run(f"REASSIGN OWNED BY spaced TO {LOADER}", stored.database.name)
        server.run("DROP ROLE spaced")


def test_a_driver_that_is_missing_is_named_with_the_extra(stored: Project, monkeypatch: pytest.MonkeyPatch):
    for name in list(sys.modules):
        if name.startswith(("analytics_dagster.ingest.warehouse.postgres_merge", "adbc_driver_postgresql")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    assert failure(stored.materialize("users")) == (
        "The driver of the destination postgres is not installed. Install it with pip install '.[postgres]'."
    )


def test_a_user_without_rights_is_told_which(stored: Project):
    assert stored.database
    server = stored.database.server
    server.run(f"ALTER DATABASE {stored.database.name} OWNER TO admin")
    said = failure(stored.materialize("users"))
    assert said == (
        f"The warehouse refused a statement: permission denied for database {stored.database.name}. Let the user "
        "create the schema, or grant it USAGE and CREATE there and make it the owner of the tables."
    )
    server.run(f"CREATE SCHEMA analytics; GRANT USAGE, CREATE ON SCHEMA analytics TO {LOADER}", stored.database.name)
    assert stored.materialize("users").success


def test_a_table_of_another_owner_is_one_sentence_and_holds_back_no_other(stored: Project):
    assert stored.database
    assert stored.materialize("users").success
    stored.database.server.run("ALTER TABLE analytics.users OWNER TO admin", stored.database.name)
    said = failure(stored.materialize("users", "teams"))
    assert said.startswith(
        "1 of 2 did not load: The warehouse refused a statement: permission denied for table users. Let the user"
    )
    assert len(stored.rows("teams")) > 0


def test_a_table_of_another_owner_that_may_be_written_is_loaded_with_a_warning(
    stored: Project, service: Sandbox, caplog: pytest.LogCaptureFixture
):
    assert stored.database
    load("users")
    stored.execute("DROP INDEX analytics.users_key")
    give_away = f"ALTER TABLE analytics.users OWNER TO admin; GRANT ALL ON analytics.users TO {LOADER}"
    stored.database.server.run(give_away, stored.database.name)
    service.update("users", service.rows("users")[0]["id"], email="renamed")
    with caplog.at_level(logging.WARNING):
        assert load("users").rows_in_table == len(service.rows("users"))
    assert "users: without an index, or a comment, loads go on but may be slow. The warehouse refused" in caplog.text


def test_a_server_that_takes_no_writes_is_one_sentence(stored: Project):
    assert stored.database
    stored.database.run(f"ALTER DATABASE {stored.database.name} SET default_transaction_read_only = on")
    said = failure(stored.materialize("users"))
    assert said.startswith("The warehouse refused a statement: cannot execute ")
    assert said.endswith("Set destination.warehouse.credentials to the primary server and to a user whose transactions "
                         "may write.")  # fmt: skip


def test_a_database_that_lacks_characters_is_refused(stored: Project, postgres_server: PostgresServer):
    with postgres_server.database("TEMPLATE template0 ENCODING 'LATIN1'") as database:
        assert refused(stored, database.url) == (
            f"The database {database.name} is in LATIN1, which lacks characters that rows have. Set "
            "destination.warehouse.credentials to a database in UTF8."
        )


@contextmanager
def tls(server: PostgresServer, authority: trustme.CA) -> Iterator[None]:
    """Turn TLS on in a running server, with a certificate for `localhost`."""
    issued = authority.issue_cert("localhost")
    owner = server.folder.stat()
    for name, content in (("cert", issued.cert_chain_pems[0].bytes()), ("key", issued.private_key_pem.bytes())):
        file = server.folder / f"{name}.pem"
        file.write_bytes(content)
        file.chmod(0o600)
        os.chown(file, owner.st_uid, owner.st_gid)
        server.run(f"ALTER SYSTEM SET ssl_{name}_file = '{file}'")
    server.run("ALTER SYSTEM SET ssl = on")
    server.run("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        server.run("ALTER SYSTEM RESET ssl")
        server.run("SELECT pg_reload_conf()")


def test_tls_is_chosen_by_the_url(stored: Project, tmp_path: Path):
    assert stored.database
    server, name = stored.database.server, stored.database.name
    ours, others = trustme.CA(), trustme.CA()
    for file, authority in (("ours", ours), ("others", others)):
        authority.cert_pem.write_to_path(str(tmp_path / f"{file}.pem"))
    url = server.url(name, host="localhost") + "?sslmode=verify-full&sslrootcert="
    off = refused(stored, server.url(name) + "?sslmode=require")
    assert off.endswith(
        "server does not support SSL, but SSL was required. Turn TLS on there, or choose another sslmode in "
        "destination.warehouse.credentials."
    )
    with tls(server, ours):
        assert "certificate verify failed. Set sslrootcert in" in refused(stored, f"{url}{tmp_path}/others.pem")
        assert "does not exist" in (missing := refused(stored, f"{url}{tmp_path}/absent.pem"))
        assert "Set sslrootcert in" in missing
        wrong_name = f"{server.url(name)}?sslmode=verify-full&sslrootcert={tmp_path}/ours.pem"
        assert "Use the name in the certificate as the host" in refused(stored, wrong_name)

        stored.monkeypatch.setenv(CREDENTIALS, f"{url}{tmp_path}/ours.pem")
        assert stored.materialize("users").success
        assert {check.level for (name, _), check in checked(stored).items() if name == "users"} == {"PASS"}


def test_no_password_is_in_the_log_of_a_load(stored: Project, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    assert stored.database
    assert stored.materialize("users").success
    refused(stored, stored.database.server.url(stored.database.name, password="wrong-one"))
    assert "users: loaded" in caplog.text
    assert not [word for word in (PASSWORD, QUOTED_PASSWORD, "wrong-one") if word in caplog.text]


# -- tables ----------------------------------------------------------------------------------------------------


def indexes(project: Project, table: str) -> set[tuple[str, bool]]:
    """Return the columns of each index of a table, and whether it is unique."""
    rows = project.sql(
        f"SELECT pg_get_indexdef(indexrelid), indisunique FROM pg_index WHERE indrelid = 'analytics.{table}'::regclass"
    )
    return {(definition.partition(" USING btree ")[2].replace('"', ""), unique) for definition, unique in rows}


def test_keys_cursors_and_projects_have_indexes_and_everything_has_its_description(stored: Project, service: Sandbox):
    service.plant("deploys", {"id": None})
    names = [resource.name for resource in RESOURCES]
    for name in names:
        load(name)
    for resource in RESOURCES:
        expected = {(f"({', '.join(resource.primary_key)})", True)}
        columns = {column.name for column in table_columns(resource)}
        expected |= {(f"({name})", False) for name in ("project_id", resource.cursor) if name in columns}
        expected -= {("(project_id)", False)} if resource.primary_key[0] == "project_id" else set()
        assert indexes(stored, resource.name) == expected
    assert indexes(stored, "rejected_rows") == {("(row_hash)", True)}

    described = {
        (table, column): text
        for table, column, text in stored.sql(
            "SELECT c.relname, a.attname, coalesce(col_description(c.oid, a.attnum), '') FROM pg_class c "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            "WHERE c.relnamespace = 'analytics'::regnamespace AND c.relkind = 'r' AND c.relname NOT LIKE '\\_dlt%'"
        )
    }
    for resource in RESOURCES:
        for column in table_columns(resource):
            assert described[resource.name, column.name] == column.description
    assert [place for place, text in described.items() if not text] == []
    tables = dict(
        stored.sql(
            "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class "
            "WHERE relnamespace = 'analytics'::regnamespace AND relkind = 'r' AND relname NOT LIKE '\\_dlt%'"
        )
    )
    assert {name: tables[name] for name in names} == {resource.name: resource.description for resource in RESOURCES}
    assert all(tables.values())


def test_json_can_be_compared_and_searched(stored: Project, service: Sandbox):
    load("occurrences")
    environments = [row["data"]["environment"] for row in service.rows("occurrences")]
    ((found,),) = stored.sql(
        f'SELECT count(*) FROM analytics.occurrences WHERE data @> \'{{"environment": "{environments[0]}"}}\''
    )
    assert found == environments.count(environments[0])


def test_a_key_that_rows_share_has_an_index_all_the_same_and_the_load_says_what_to_do(
    stored: Project, caplog: pytest.LogCaptureFixture
):
    load("deploys")
    stored.execute("DROP INDEX analytics.deploys_key")
    stored.execute("INSERT INTO analytics.deploys SELECT * FROM analytics.deploys ORDER BY id LIMIT 1")

    today = datetime.combine(datetime.now(UTC).date(), time(), UTC)
    with caplog.at_level(logging.WARNING):
        load("deploys", Window(start=today, end=today + timedelta(days=1)))  # the oldest row is not among them
    assert "then run DROP INDEX analytics.deploys_repeated_key: the next load creates a unique one." in caplog.text
    assert ("(id)", False) in indexes(stored, "deploys")
    assert checked(stored)["deploys", "primary_key"].level == "ERROR"

    load("deploys")  # reads the row anew, once
    stored.execute("DROP INDEX analytics.deploys_repeated_key")
    load("deploys")
    assert ("(id)", True) in indexes(stored, "deploys")
    assert checked(stored)["deploys", "primary_key"].level == "PASS"


def test_a_table_that_dlt_made_is_continued(stored: Project, service: Sandbox):
    """dlt's own destination made columns of the type json, and no index."""
    settings, resource = load_settings(), get_resource("deploys")
    assert stored.database
    service.update("deploys", service.rows("deploys")[0]["id"], colour="red")
    dlt.pipeline(
        "stock",
        destination=dlt.destinations.postgres(stored.database.url),
        dataset_name="analytics",
        pipelines_dir=str(stored.folder / "stock"),
    ).run(
        build_source(
            [Reading(request=ReadRequest(resource=resource, settings=settings, window=None, now=datetime.now(UTC)))]
        )
    )
    service.update("deploys", service.add_deploy()["id"], colour="blue")

    load("deploys")
    assert {row_id for (row_id,) in stored.rows("deploys", "id")} == truth(service, "deploys")
    assert ("(id)", True) in indexes(stored, "deploys")


def test_a_load_leaves_nothing_beside_its_tables(stored: Project):
    load("deploys")
    load("deploys")
    schemas = {name for (name,) in stored.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'analytics%'")}
    assert schemas == {"analytics"}
    tables = {name for (name,) in stored.sql("SELECT relname FROM pg_class WHERE relkind = 'r' AND oid >= 16384")}
    assert {name for name in tables if not name.startswith("_dlt")} == {
        "deploys", "load_windows", "daily_rows", "rejected_rows",
    }  # fmt: skip


# -- several at once -------------------------------------------------------------------------------------------


def test_the_same_load_waits_and_then_says_so_while_others_go_on(stored: Project, service: Sandbox):
    stored.set(lock_timeout=0)
    with open_loader(load_settings()) as elsewhere:
        running = elsewhere.begin(get_resource("deploys"))
        with pytest.raises(WarehouseError) as raised:
            load("deploys")
        assert str(raised.value) == (
            "analytics.deploys, project default, is still being written by another process after 0 s. Wait for that "
            "load to finish, or raise lock_timeout."
        )
        assert load("users").rows_in_table == len(service.rows("users"))
        for source in running.sources():
            running.pipeline.run(source)
        running.finish()
        assert load("deploys").rows_in_table == len(service.rows("deploys")), "a load that ended holds nothing"


def test_a_load_that_failed_holds_nothing_once_the_next_one_begins(stored: Project):
    stored.set(lock_timeout=0)
    with open_loader(load_settings()) as loader:
        loader.begin(get_resource("deploys"))  # and never finished
        loader.begin(get_resource("users"))
        load("deploys")


def test_a_loader_that_is_killed_holds_nothing(stored: Project, service: Sandbox):
    stored.set(lock_timeout=0)
    hold = (
        "from analytics_dagster.catalog import get_resource\n"
        "from analytics_dagster.ingest.load import open_loader\n"
        "from analytics_dagster.ingest.settings import load_settings\n"
        "import time\n"
        "with open_loader(load_settings()) as loader:\n"
        "    loader.begin(get_resource('deploys'))\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", hold], cwd=stored.folder, stdout=subprocess.PIPE, text=True) as victim:
        assert victim.stdout
        assert victim.stdout.readline() == "held\n"
        with pytest.raises(WarehouseError, match="is still being written by another process"):
            load("deploys")
        victim.send_signal(signal.SIGKILL)
    stored.set(lock_timeout=5)  # the server takes a moment to notice
    load("deploys")
    assert {row_id for (row_id,) in stored.rows("deploys", "id")} == truth(service, "deploys")


LOAD = """
import sys
from analytics_dagster.catalog import get_resource
from analytics_dagster.ingest.load import load_resource
from analytics_dagster.ingest.settings import load_settings
print("ready", flush=True)
sys.stdin.readline()
for name in sys.argv[1:]:
    load_resource(get_resource(name), load_settings())
"""


def test_loads_that_begin_together_in_an_empty_database_all_end_well(stored: Project, service: Sandbox):
    service.plant("deploys", {"id": None})
    service.plant("items", {"id": None})
    loaders = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD, *names], cwd=stored.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for names in (("deploys",), ("items", "deploys"), ("users", "items"))
    ]  # fmt: skip
    try:
        for loader in loaders:
            assert loader.stdout
            assert loader.stdout.readline() == "ready\n"
        for loader in loaders:
            assert loader.stdin
            loader.stdin.write("go\n")
            loader.stdin.flush()
        errors = [loader.communicate(timeout=100)[1] for loader in loaders]
        assert [loader.returncode for loader in loaders] == [0, 0, 0], errors
    finally:
        for loader in loaders:
            loader.kill()
            loader.communicate()
    for name in ("deploys", "items", "users"):
        keys = [key for (key,) in stored.rows(name, "id")]
        assert len(keys) == len(set(keys))
        assert set(keys) == truth(service, name) - {None}
    assert len(stored.rows("rejected_rows")) == 2


def test_a_reader_sees_one_state_and_writes_nothing(stored: Project):
    load("deploys")
    resource = get_resource("deploys")
    with TableStats.open(load_settings()) as tables:
        before = tables.profile(resource)
        stored.execute("DELETE FROM analytics.deploys")
        assert tables.profile(resource) == before
        with pytest.raises((DatabaseException, AnalyticsError), match="read-only transaction"):
            tables._client.execute_sql("DELETE FROM analytics.load_windows")  # noqa: SLF001 - readers have no public way
    assert stored.rows("load_windows")


def test_a_session_that_is_idle_while_a_load_reads_is_not_ended(stored: Project, service: Sandbox):
    assert stored.database
    server = stored.database.server
    server.run(f"ALTER DATABASE {stored.database.name} SET idle_session_timeout = '300ms'")
    service.fail_next("slow", resource="deploys", seconds=1)
    load("deploys")
    assert {row_id for (row_id,) in stored.rows("deploys", "id")} == truth(service, "deploys")


def test_a_session_that_is_ended_fails_the_load_and_the_next_one_is_complete(stored: Project, service: Sandbox):
    def end_sessions(resource: str, _: int | None) -> None:
        if resource == "deploys" and not ended:
            ended.append(stored.database.server.run(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                f"WHERE datname = '{stored.database.name}'"
            ))  # fmt: skip

    ended: list[Any] = []
    service.before_reply = end_sessions
    result = stored.materialize("deploys")
    assert ended == [[(1,)]]
    said = failure(result)
    assert said.startswith("1 of 1 did not load: The warehouse's session was ended: ")
    assert said.endswith(". Load again: what was recorded stays, and the load goes on from there.")
    service.before_reply = None
    assert stored.materialize("deploys").success
    assert {row_id for (row_id,) in stored.rows("deploys", "id")} == truth(service, "deploys")
