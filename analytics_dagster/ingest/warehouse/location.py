"""The warehouse's location: the dlt destination and, for DuckDB, the file.

https://dlthub.com/docs/general-usage/destination

    location = warehouse_location(settings)
    table = location.qualified("deploys")  # warehouse.analytics.deploys
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dlt
from dlt.common.configuration.exceptions import ConfigFieldMissingException, InvalidNativeValue, LookupTraces
from dlt.common.destination.exceptions import SqlClientNotAvailable, UnknownDestinationModule
from dlt.common.exceptions import MissingDependencyException

from analytics_dagster.ingest.config_providers import project_root
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.settings import SANDBOX, Settings

DATASET = "analytics"
"""Schema of the tables (dlt's dataset), and first part of the asset keys."""

POSTGRES = "postgres"
"""dlt's type of the PostgreSQL destination, and sqlglot's name of its SQL."""


@dataclass(frozen=True, kw_only=True)
class WarehouseLocation:
    """The destination of the tables.

    Attributes:
        name: dlt's name of the destination: `warehouse`, or `sandbox` for the sandbox's rows.
        kind: dlt's type of the destination, such as `duckdb`.
        file: The DuckDB file; None for other destinations.
        database: Name of the database; None where the settings name none.
    """

    name: str
    kind: str
    file: Path | None
    database: str | None

    def qualified(self, table: str) -> str:
        """Return `database.schema.table`; `schema.table` where the settings name no database."""
        return ".".join(filter(None, (self.database, DATASET, table)))


def destination_kind(settings: Settings) -> str:
    """Return dlt's type of the destination, such as `duckdb` or `postgres`."""
    if settings.sandbox:
        return "duckdb"
    configured: Any = dlt.config.get("destination.warehouse.destination_type")
    return configured or "duckdb"


def warehouse_location(settings: Settings) -> WarehouseLocation:
    """Return the location for rows of the configured service. The sandbox's rows have one of their own.

    Raises:
        SettingsError: The credentials of the DuckDB destination are impossible.
    """
    name = SANDBOX if settings.sandbox else "warehouse"
    kind = destination_kind(settings)
    if kind != "duckdb":
        return WarehouseLocation(name=name, kind=kind, file=None, database=_configured_database(name))
    configured: Any = dlt.secrets.get(f"destination.{name}.credentials")
    file = _parse_file(configured or f"{name}.duckdb", name)
    if file.stem == DATASET:
        raise SettingsError(
            f"The DuckDB file {file.name} must not have the name of its schema: DuckDB cannot tell them apart. Set "
            f"destination.{name}.credentials to a file of another name."
        )
    return WarehouseLocation(name=name, kind=kind, file=file, database=file.stem)


def _configured_database(name: str) -> str | None:
    """Return the database that the credentials of a destination name, in their URL or by itself; None for none.

    A password that is not a part of a URL makes parsing fail: dlt refuses it with a sentence when the load begins.
    """
    credentials: Any = dlt.secrets.get(f"destination.{name}.credentials")
    if isinstance(credentials, str):
        with suppress(ValueError):
            return unquote(urlsplit(credentials).path).strip("/").partition("/")[0] or None
        return None
    named = credentials.get("database") if isinstance(credentials, Mapping) else None
    database: Any = named or dlt.secrets.get(f"destination.{name}.credentials.database")
    return database or None


_NO_FILE = re.compile(r":|[A-Za-z][A-Za-z0-9+.-]+:")
"""The beginning of a URL, or of `:memory:`; a single letter is a drive."""


def _parse_file(configured: Any, name: str) -> Path:
    """Return the absolute path of the DuckDB file.

    Raises:
        SettingsError: It is no path. The message leaves it out, because it may hold a password.
    """
    setting = f"The setting destination.{name}.credentials"
    path = configured.removeprefix("duckdb:///") if isinstance(configured, str) else ":"
    if _NO_FILE.match(path):
        other = '"motherduck"' if path.startswith("md:") else 'its type, such as "postgres"'
        advice = (
            "" if name == SANDBOX else f" For another warehouse set destination.{name}.destination_type to {other}."
        )
        raise SettingsError(f"{setting} must be the path of a DuckDB file.{advice}")
    try:
        return (project_root() / Path(path).expanduser()).resolve()
    except RuntimeError:
        raise SettingsError(f"{setting} begins with the home of a user who has none. Set it to a whole path.") from None


@contextmanager
def destination_errors(location: WarehouseLocation) -> Iterator[None]:
    """Raise the errors of a destination that cannot be opened as sentences.

    Raises:
        SettingsError: Its type, its credentials or its driver are missing or wrong.
    """
    setting = f"destination.{location.name}"
    try:
        yield
    except UnknownDestinationModule:
        message = f"The setting {setting}.destination_type must be a destination of dlt, not {location.kind}."
    except MissingDependencyException as error:
        packages = " ".join(f"'{package}'" for package in error.dependencies)
        message = (
            f"The driver of the destination {location.kind} is not installed. Install it with pip install {packages}."
        )
    except ConfigFieldMissingException as error:
        missing = ", ".join(f"{setting}.{field}" for field in _missing_fields(error.traces))
        message = f"The destination {location.kind} needs {missing}. Put what is missing in .dlt/secrets.toml."
    except InvalidNativeValue:
        message = (
            f"The setting {setting}.credentials is no connection string that {location.kind} takes. Check its form."
        )
    except SqlClientNotAvailable:
        message = f"The destination {location.kind} has no SQL. Set {setting}.destination_type to one that has."
    else:
        return
    raise SettingsError(message)


def _missing_fields(traces: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of missing settings, those within others by their paths."""
    for field, tried in traces.items():
        inner = next((trace.traces for trace in tried if isinstance(trace, LookupTraces)), None)
        if inner is None:
            yield field
        else:
            yield from (f"{field}.{name}" for name in _missing_fields(inner))
