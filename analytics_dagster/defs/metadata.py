"""Metadata of materializations and asset specs: figures that Dagster plots over time, and the columns of a table.

https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import dagster as dg

from analytics_dagster.catalog import Column, Resource, table_columns
from analytics_dagster.ingest.load import LoadReport
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.load_state import WatermarkValues
from analytics_dagster.ingest.warehouse.location import WarehouseLocation

PROJECT = "project"
PROJECTS = "projects"
"""Metadata of a load: the project of its rows, or a table of its projects if several are set."""

_PROJECTS_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("project", "text", "The project's name in the settings."),
        dg.TableColumn("project_id", "bigint", "Its id, as rows name it."),
        dg.TableColumn("rows", "bigint", "Rows loaded."),
        dg.TableColumn("requests", "bigint", "Requests sent."),
        dg.TableColumn("seconds", "double", "Seconds to read it; projects are read side by side."),
        dg.TableColumn("loaded", "bool", "Whether everything was loaded that the run was to load of it."),
    ]
)


def build_metadata(report: LoadReport, settings: Settings, location: WarehouseLocation) -> dict[str, Any]:
    """Return the metadata of a materialization.

    Its figures are those of the load rather than of a partition, because one load can cover many partitions.
    """
    window = report.window
    clocks = report.clocks
    times = {
        "newest": report.newest,
        "window_start": window and window.start,
        "window_end": window and window.end,
        "list_end": report.list_end,
    }
    return {
        "dagster/row_count": report.rows_in_table,
        "dagster/table_name": location.qualified(report.resource.name),
        "dagster/storage_kind": location.kind,
        "dagster/column_schema": build_column_schema(report.resource),
        "rows_read": report.rows_read,
        "rows_loaded": report.rows_loaded,
        "new_rows": report.new_rows,
        "rows_rejected": report.rows_rejected,
        "rows_removed": report.rows_removed,
        **({"rows_pruned": report.rows_pruned} if report.rows_pruned else {}),
        "requests": report.requests,
        "retries": report.retries,
        "seconds": round(report.seconds, 3),
        "source": settings.source_address,
        **_build_project_metadata(report, settings),
        "key_from": settings.key_name(account=report.resource.account_key),
        **{name: dg.MetadataValue.timestamp(moment) for name, moment in times.items() if moment},
        **(_build_watermark_metadata(report.watermark) if report.watermark else {}),
        **({"clock_difference_seconds": round(clocks.difference.total_seconds(), 3)} if clocks else {}),
        **({"clock": f"By the first reply, {clocks.warning}"} if clocks and clocks.warning else {}),
        **({"unknown_fields": ", ".join(report.unknown_fields)} if report.unknown_fields else {}),
    }


def build_column_schema(resource: Resource) -> dg.TableSchema:
    """Return the columns of a resource's table, with their types and descriptions."""
    return build_table_schema(table_columns(resource), resource.primary_key)


def build_table_schema(columns: Iterable[Column], primary_key: Collection[str]) -> dg.TableSchema:
    """Return the columns of a table, with their types and descriptions."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type.value,
                description=column.description,
                constraints=_build_constraints(column, primary_key),
            )
            for column in columns
        ]
    )


def _build_project_metadata(report: LoadReport, settings: Settings) -> dict[str, Any]:
    """Return the project of the rows, or a table of the projects if several are set."""
    if not settings.projects or report.resource.account_key:
        return {} if report.project is None else {PROJECT: report.project}
    records = [
        dg.TableRecord({
            "project": each.project.name,
            "project_id": each.project.id,
            "rows": each.rows_loaded,
            "requests": each.requests,
            "seconds": round(each.seconds, 3),
            "loaded": each.error is None,
        })
        for each in report.projects
    ]  # fmt: skip
    return {PROJECTS: dg.MetadataValue.table(records, _PROJECTS_SCHEMA)}


def project_records(metadata: Mapping[str, dg.MetadataValue[Any]]) -> list[Mapping[str, Any]]:
    """Return the records of the table of projects in a materialization's metadata; none if it has no table."""
    table = metadata.get(PROJECTS)
    return [record.data for record in table.records] if isinstance(table, dg.TableMetadataValue) else []


def projects_in(metadata: Mapping[str, dg.MetadataValue[Any]]) -> frozenset[int]:
    """Return the ids of the projects whose rows a materialization tells of."""
    if project := metadata.get(PROJECT):
        return frozenset({int(str(project.value))})
    ids = (record["project_id"] for record in project_records(metadata) if record["loaded"])
    return frozenset(project for project in ids if project is not None)


def _build_watermark_metadata(watermark: WatermarkValues) -> dict[str, int | str]:
    """Return the part of the metadata that `Watermark.from_metadata` reads, and the columns that sensors show."""
    return {
        "settled_rows": watermark.settled_rows,
        "newest_key": watermark.newest_key,
        **{f"newest_{name}": value for name, value in watermark.labels.items()},
    }


def _build_constraints(column: Column, primary_key: Collection[str]) -> dg.TableColumnConstraints:
    other = ["primary key"] * (column.name in primary_key) + ["personal"] * column.personal
    return dg.TableColumnConstraints(nullable=column.stored_nullable, other=other)
