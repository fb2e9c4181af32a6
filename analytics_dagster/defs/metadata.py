"""Metadata of materializations and asset specs: figures that Dagster plots over time, and the columns of a table.

https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""

from typing import Any

import dagster as dg

from analytics_dagster.catalog import Column, Resource, table_columns
from analytics_dagster.ingest.load import LoadReport
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.load_state import WatermarkValues
from analytics_dagster.ingest.warehouse.location import WarehouseLocation


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
        **({} if report.project is None else {"project": report.project}),
        "key_from": settings.key_name(account=report.resource.account_key),
        **{name: dg.MetadataValue.timestamp(moment) for name, moment in times.items() if moment},
        **(_build_watermark_metadata(report.watermark) if report.watermark else {}),
        **({"clock_difference_seconds": round(clocks.difference.total_seconds(), 3)} if clocks else {}),
        **({"clock": f"By the first reply, {clocks.warning}"} if clocks and clocks.warning else {}),
        **({"unknown_fields": ", ".join(report.unknown_fields)} if report.unknown_fields else {}),
    }


def build_column_schema(resource: Resource) -> dg.TableSchema:
    """Return the columns of a resource's table, with their types and descriptions."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type.value,
                description=column.description,
                constraints=_build_constraints(resource, column),
            )
            for column in table_columns(resource)
        ]
    )


def _build_watermark_metadata(watermark: WatermarkValues) -> dict[str, int | str]:
    """Return the part of the metadata that `Watermark.from_metadata` reads, and the columns that sensors show."""
    return {
        "settled_rows": watermark.settled_rows,
        "newest_key": watermark.newest_key,
        **{f"newest_{name}": value for name, value in watermark.labels.items()},
    }


def _build_constraints(resource: Resource, column: Column) -> dg.TableColumnConstraints:
    other = ["primary key"] * (column.name in resource.primary_key) + ["personal"] * column.personal
    return dg.TableColumnConstraints(nullable=column.stored_nullable, other=other)
