"""The warehouse's location: the dlt destination and, for DuckDB, the file.

https://dlthub.com/docs/general-usage/destination

    location = warehouse_location(settings)
    table = location.qualified("deploys")  # warehouse.analytics.deploys
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dlt

from analytics_dagster.ingest.config_providers import project_root, use_project_root
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.settings import SANDBOX, Settings

DATASET = "analytics"
"""Schema of the tables (dlt's dataset), and first part of the asset keys."""


@dataclass(frozen=True, kw_only=True)
class WarehouseLocation:
    """The destination of the tables.

    Attributes:
        name: dlt's name of the destination: `warehouse`, or `sandbox` for the sandbox's rows.
        kind: dlt's type of the destination, such as `duckdb`.
        file: The DuckDB file; None for other destinations.
    """

    name: str
    kind: str
    file: Path | None

    def qualified(self, table: str) -> str:
        """Return `database.schema.table` for DuckDB, `schema.table` for other destinations."""
        return f"{self.file.stem}.{DATASET}.{table}" if self.file else f"{DATASET}.{table}"


def destination_kind(settings: Settings) -> str:
    """Return dlt's type of the destination, such as `duckdb` or `postgres`."""
    use_project_root()
    configured: Any = None if settings.sandbox else dlt.config.get("destination.warehouse.destination_type")
    return configured or "duckdb"


def warehouse_location(settings: Settings) -> WarehouseLocation:
    """Return the location for rows of the configured service. The sandbox's rows have one of their own.

    Raises:
        SettingsError: The credentials of the DuckDB destination are impossible.
    """
    name = SANDBOX if settings.sandbox else "warehouse"
    kind = destination_kind(settings)
    if kind != "duckdb":
        return WarehouseLocation(name=name, kind=kind, file=None)
    configured: Any = dlt.secrets.get(f"destination.{name}.credentials")
    configured = configured or f"{name}.duckdb"
    if not isinstance(configured, str):
        raise SettingsError(f"The setting destination.{name}.credentials must be the path of a DuckDB file.")
    file = (project_root() / configured.removeprefix("duckdb:///")).resolve()
    if file.stem == DATASET:
        raise SettingsError(
            f"The DuckDB file {file.name} must not have the name of its schema: DuckDB cannot tell them apart. Set "
            f"destination.{name}.credentials to a file of another name."
        )
    return WarehouseLocation(name=name, kind=kind, file=file)
