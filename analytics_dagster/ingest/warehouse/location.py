"""The warehouse's location: the dlt destination and, for DuckDB, the file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt

from analytics_dagster.ingest.configuration import project_root, use_project_root
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.settings import SANDBOX, Settings

DATASET = "analytics"
"""Schema of the tables, and first part of the assets' keys."""


@dataclass(frozen=True, kw_only=True)
class WarehouseLocation:
    """Where the tables are.

    Attributes:
        name: dlt's name of the destination: `warehouse`, or `sandbox` for the sandbox's rows.
        kind: dlt's type of the destination.
        file: The DuckDB file; None for other destinations.
    """

    name: str
    kind: str
    file: Path | None

    def qualified(self, table: str) -> str:
        """Return `database.schema.table`, as far as the database has a name."""
        return f"{self.file.stem}.{DATASET}.{table}" if self.file else f"{DATASET}.{table}"


def destination_kind(settings: Settings) -> str:
    """Return dlt's type of the destination, such as `duckdb` or `postgres`."""
    use_project_root()
    configured: Any = None if settings.sandbox else dlt.config.get("destination.warehouse.destination_type")
    return configured or "duckdb"


def warehouse_location(settings: Settings) -> WarehouseLocation:
    """Return where rows of the configured service belong: the sandbox's never share a place with real ones.

    Raises:
        SettingsError: The destination is configured in a way that cannot be.
    """
    name = SANDBOX if settings.sandbox else "warehouse"
    kind = destination_kind(settings)
    if kind != "duckdb":
        return WarehouseLocation(name=name, kind=kind, file=None)
    configured: Any = dlt.secrets.get(f"destination.{name}.credentials")
    configured = configured or f"{name}.duckdb"
    if not isinstance(configured, str):
        raise SettingsError(f"The setting destination.{name}.credentials is the path of a DuckDB file.")
    file = (project_root() / configured.removeprefix("duckdb:///")).resolve()
    if file.stem == DATASET:
        raise SettingsError(
            f"The DuckDB file {file.name} has the name of the schema in it, which DuckDB cannot tell apart. Set "
            f"destination.{name}.credentials to a file of another name."
        )
    return WarehouseLocation(name=name, kind=kind, file=file)
