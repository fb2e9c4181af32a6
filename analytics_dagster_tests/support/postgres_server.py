"""A PostgreSQL server of the tests' own, and databases in it.

    with start_server(*FAST) as server, server.database() as database:
        ...  # load into database.url

The server runs on a free loopback port, in a temporary folder. A keeper, a process of this module, starts it and stops
it when its standard input closes: also when the tests are killed. PostgreSQL refuses to run as root, so for root the
server belongs to another user.
"""

import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, connection
from psycopg2.extras import register_default_jsonb

ROOT = Path(__file__).resolve().parents[2]

ADMIN = "admin"
LOADER = "loader"
PASSWORD = "loader's-p@ss/word"
QUOTED_PASSWORD = "loader%27s-p%40ss%2Fword"

_READY = "ready"
_LIFETIME = 3_600.0
"""Seconds after which the keeper stops the server in any case."""
_PATIENCE = 30.0
"""Seconds to wait for a server that starts or stops."""
_OPTIONS = ("listen_addresses=127.0.0.1", "unix_socket_directories=")
FAST = (
    "fsync=off",  # what a crash of the machine loses, no test needs
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_connections=60",
    "timezone=Asia/Kolkata",  # no test may depend on it
)
"""Settings of a server for tests."""


@dataclass
class PostgresServer:
    """A running server.

    Attributes:
        port: Its port, on 127.0.0.1.
        folder: Folder of its data and its log.
    """

    port: int
    folder: Path
    _numbers: Iterator[int] = field(default_factory=count)

    def url(self, database: str, user: str = LOADER, password: str = QUOTED_PASSWORD, host: str = "127.0.0.1") -> str:
        """Return the URL of a database for a user."""
        return f"postgresql://{user}:{password}@{host}:{self.port}/{database}"

    @contextmanager
    def database(self, options: str = "") -> "Iterator[PostgresDatabase]":
        """Create a database that the loader owns, yield it, and drop it.

        Args:
            options: Options of CREATE DATABASE.
        """
        database = PostgresDatabase(self, f"test_{next(self._numbers)}")
        database.create(options)
        try:
            yield database
        finally:
            database.drop()

    def run(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the superuser and return its rows."""
        return run_statement(self.url(database, ADMIN), statement)


@dataclass(frozen=True)
class PostgresDatabase:
    """A database of a server.

    Attributes:
        server: The server.
        name: The database's name.
    """

    server: PostgresServer
    name: str

    @property
    def url(self) -> str:
        """The URL of the database for the loader."""
        return self.server.url(self.name)

    def create(self, options: str = "") -> None:
        self.server.run(f"CREATE DATABASE {self.name} OWNER {LOADER} {options}")

    def drop(self) -> None:
        self.server.run(f"DROP DATABASE {self.name} WITH (FORCE)")

    def copy_from(self, other: "PostgresDatabase") -> None:
        """Become a copy of another database, which nobody uses."""
        self.drop()
        self.create(f"TEMPLATE {other.name}")

    def run(self, statement: str) -> list[Any]:
        """Run a statement as the loader and return its rows."""
        return run_statement(self.url, statement)


def run_statement(url: str, statement: str) -> list[Any]:
    """Run a statement in a session of its own and return its rows: times in UTC, JSON as text."""
    with closing(connect(url)) as session, session.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


def connect(url: str) -> connection:
    """Open a session whose statements are transactions of their own."""
    session = psycopg2.connect(url, options="-c timezone=UTC")
    session.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    register_default_jsonb(session, loads=str)
    return session


@contextmanager
def start_server(*options: str) -> Iterator[PostgresServer]:
    """Start a server and stop it at the end.

    Args:
        options: Settings of the server; PostgreSQL's defaults otherwise.

    Raises:
        RuntimeError: The machine has no PostgreSQL, or it does not start.
    """
    keeper = subprocess.Popen(
        [sys.executable, "-m", "analytics_dagster_tests.support.postgres_server", *options],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        start_new_session=True,  # what ends the group of the tests, such as Ctrl-C, ends the server in good order
    )  # fmt: skip
    assert keeper.stdin
    assert keeper.stdout
    try:
        said = keeper.stdout.readline().strip()
        word, _, place = said.partition(" ")
        if word != _READY:
            raise RuntimeError(said or "The keeper of the PostgreSQL server did not start; its message is above.")
        port, _, folder = place.partition(" ")
        server = PostgresServer(int(port), Path(folder))
        server.run(f"CREATE ROLE {LOADER} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
        yield server
    finally:
        keeper.stdin.close()
        keeper.wait(timeout=2 * _PATIENCE)
        keeper.stdout.close()


# -- the keeper -------------------------------------------------------------------------------------------


def find_programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: the newest of Debian's, or that on the path; None for none."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    debian = max(versions, key=lambda program: float(program.parts[-3]), default=None)
    found = debian or shutil.which("postgres")
    return Path(found).parent if found else None


def keep_server(options: Sequence[str]) -> str:
    """Start a server, say where it is, and stop it once nobody needs it; return a sentence if it does not start."""
    programs = find_programs()
    if programs is None:
        return "No PostgreSQL server is installed. Install one: apt-get install postgresql, or brew install postgresql."
    user = next((name for name in ("postgres", "nobody") if os.geteuid() == 0 and _exists(name)), None)
    other: dict[str, Any] = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    folder = Path(mkdtemp(prefix="postgres-"))
    try:
        password = folder / "password"
        password.write_text(PASSWORD)
        if user:
            shutil.chown(folder, user)
            shutil.chown(password, user)
        data = folder / "data"
        made = subprocess.run(
            [programs / "initdb", "--pgdata", data, "--username", ADMIN, "--pwfile", password,
             "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"],
            cwd=folder, capture_output=True, text=True, check=False, **other,
        )  # fmt: skip
        if made.returncode:
            return f"initdb failed: {' '.join(made.stderr.split())}"
        port = _free_port()
        words = [word for option in (*_OPTIONS, *options) for word in ("-c", option)]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, "-p", str(port), *words],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **other,
            )  # fmt: skip
        try:
            if not _answers(server, port):
                return f"PostgreSQL did not start: {' '.join((folder / 'log').read_text().split())}"
            print(_READY, port, folder, flush=True)  # noqa: T201 - to the process that reads it
            select.select([sys.stdin], [], [], _LIFETIME)
        finally:
            server.send_signal(signal.SIGINT)  # sessions are ended, not waited for
            try:
                server.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ""


def _exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(server: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until the server answers; return False if it ends or does not."""
    give_up_at = time.monotonic() + _PATIENCE
    while server.poll() is None and time.monotonic() < give_up_at:
        try:
            psycopg2.connect(
                host="127.0.0.1", port=port, dbname="postgres", user=ADMIN, password=PASSWORD, connect_timeout=5
            ).close()
        except psycopg2.OperationalError:
            time.sleep(0.05)
        else:
            return True
    return False


if __name__ == "__main__":
    if problem := keep_server(sys.argv[1:]):
        print(problem)  # noqa: T201
