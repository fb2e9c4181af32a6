"""dlt's SQL client for PostgreSQL: sessions that a loader needs, and errors that say what to do.

A server is shared, guarded and far away, so opening it fails in more ways than opening a file. Each known way is one
sentence with the next step; the password is in none. The merge is in `postgres_merge.py`, locks are in `lock.py`.

https://www.postgresql.org/docs/current/libpq-connect.html
"""

import re
from typing import Any

import psycopg2
from dlt.common.destination.exceptions import DestinationTerminalException, DestinationTransientException
from dlt.destinations.impl.postgres.sql_client import Psycopg2SqlClient

from analytics_dagster.ingest.errors import WarehouseError

_SETTING = "destination.warehouse.credentials"

_SESSION = (
    # The server ends a session, and with it its locks, 90 s after the loader's machine vanished: two hours by default.
    "SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; "
    # A session that holds a lock is idle while a load reads. The setting exists since PostgreSQL 14.
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'idle_session_timeout'"
)

_ENCODINGS = ("UTF8", "SQL_ASCII")
"""Encodings of a database that take every character; SQL_ASCII stores the bytes as they come."""

_AUTHORITY = f"Set sslrootcert in {_SETTING} to the certificate of the authority that signed the server's."
_BUSY = "Raise max_connections of the server, or run fewer loads at once."
_CONNECTION_ADVICE = (
    ("no password supplied", f"Set {_SETTING}.password, or put the password into the URL."),
    ("password authentication failed", f"Check user and password in {_SETTING}."),
    ("(Peer|Ident) authentication failed", f"Set {_SETTING} to a URL with host, user and password."),
    ("no pg_hba.conf entry", "Let the server's pg_hba.conf admit the user; for TLS add ?sslmode=require to the URL."),
    ("server does not support SSL", f"Turn TLS on there, or choose another sslmode in {_SETTING}."),
    ("root certificate file|certificate verify failed", _AUTHORITY),
    ("does not match host name", f"Use the name in the certificate as the host of {_SETTING}, or sslmode=verify-ca."),
    ("permission denied for database", "Run GRANT CONNECT ON DATABASE … TO … in the server."),
    ("database .* does not exist", f"Run CREATE DATABASE in the server, or name another database in {_SETTING}."),
    ("role .* does not exist", f"Run CREATE ROLE … LOGIN in the server, or name another user in {_SETTING}."),
    ("could not translate host name", f"Check the host in {_SETTING}."),
    ("Connection refused", f"Start the server, or check host and port in {_SETTING}."),
    ("timeout expired", f"Check host and port in {_SETTING}, and the firewalls on the way."),
    ("too many|remaining connection slots", _BUSY),
    ("", f"Check {_SETTING}."),
)
"""Advice by the first pattern that is in libpq's or the server's message: a refused connection has no SQLSTATE."""

_REFUSALS = {
    "42501": "Let the user create the schema, or grant it USAGE and CREATE there and make it the owner of the tables.",
    "25006": f"Set {_SETTING} to the primary server and to a user whose transactions may write.",
    "53100": "Make room where the server keeps its data.",
}
"""Advice by SQLSTATE (insufficient privilege, read-only transaction, disk full): trying again mends none of them.
https://www.postgresql.org/docs/current/errcodes-appendix.html"""


_ENDED = "57P"
"""SQLSTATEs of sessions that were ended: by an administrator, a shutdown, a crash or a timeout."""


class RefusedStatementError(WarehouseError, DestinationTerminalException):
    """The server refused a statement, and will refuse it again until somebody changes the server."""


class LostSessionError(WarehouseError, DestinationTransientException):
    """The server, or the network, ended a session."""


def refusal(error: BaseException, sqlstate: str | None) -> RefusedStatementError | None:
    """Return a sentence for an error that only the server's administrator can mend; None for other errors."""
    advice = _REFUSALS.get(sqlstate or "")
    if advice is None:
        return None
    reason = str(error).splitlines()[0].rpartition("ERROR:")[2].strip(" .")
    return RefusedStatementError(f"The warehouse refused a statement: {reason}. {advice}")


class PostgresSqlClient(Psycopg2SqlClient):
    """Opens sessions with sentences for errors, and lets readers see one state of the database."""

    _reads_one_state = False

    def open_connection(self) -> Any:
        """Open a session.

        Raises:
            WarehouseError: The server cannot be reached, refuses the user, or its database is not in UTF-8.
        """
        try:
            connection = super().open_connection()
        except psycopg2.Error as error:
            raise self._connection_error(str(error)) from None
        with connection.cursor() as cursor:
            cursor.execute(_SESSION)
        encoding = connection.get_parameter_status("server_encoding")
        if encoding not in _ENCODINGS:
            self.close_connection()
            raise WarehouseError(
                f"The database {self.credentials.database} is in {encoding}, which lacks characters that rows have. "
                f"Set {_SETTING} to a database in UTF8."
            )
        return connection

    def read_one_state(self) -> None:
        """Let the statements from now on see the database as it is at the first of them, and write nothing.

        A load commits rows, then coverage: without this, a reader could see the coverage and the rows of before.
        https://www.postgresql.org/docs/current/transaction-iso.html
        """
        self._reads_one_state = True
        self._reset_connection()

    def _connection_error(self, text: str) -> WarehouseError:
        """Return the sentence of a connection that failed. Of several addresses of the host, the last one's counts."""
        lines = [line for line in text.splitlines() if "failed:" in line] or text.splitlines() or [""]
        reason = re.sub(r".*failed:\s+(FATAL:\s+)?", "", lines[-1]).strip(" .")
        advice = next(advice for pattern, advice in _CONNECTION_ADVICE if re.search(pattern, reason))
        server = f"{self.credentials.host}:{self.credentials.port}/{self.credentials.database}"
        if password := self.credentials.password:
            reason = reason.replace(password, "[redacted]")
        return WarehouseError(f"The warehouse {server} cannot be opened: {reason}. {advice}")

    def _reset_connection(self) -> None:
        """End the transaction of a statement that failed. dlt resets the session, and with it its locks would go."""
        self._conn.rollback()
        self._conn.autocommit = True
        if self._reads_one_state:
            self._conn.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)

    @classmethod
    def _make_database_exception(cls, ex: Exception) -> Exception:
        sqlstate = getattr(ex, "pgcode", None)
        ended = isinstance(ex, psycopg2.OperationalError | psycopg2.InterfaceError) and sqlstate is None
        if ended or (sqlstate or "").startswith(_ENDED):
            reason = str(ex).splitlines()[0].rpartition("FATAL:")[2].strip(" .")
            return LostSessionError(
                f"The warehouse's session was ended: {reason}. Load again: what was recorded stays, and the load "
                "goes on from there."
            )
        return refusal(ex, sqlstate) or super()._make_database_exception(ex)
