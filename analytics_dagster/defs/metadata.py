"""A load's report as metadata of a materialisation: figures that plot over time, and where the rows are."""

from typing import Any

import dagster as dg

from analytics_dagster.defs.translator import column_schema
from analytics_dagster.ingest.load import LoadReport
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.warehouse.load_state import WatermarkValues
from analytics_dagster.ingest.warehouse.location import WarehouseLocation


def metadata(report: LoadReport, settings: Settings, place: WarehouseLocation) -> dict[str, Any]:
    """Return the metadata of a load. Figures are of the load, never of a partition: a load can cover many."""
    window = report.window
    times = {
        "newest": report.newest,
        "window_start": window and window.start,
        "window_end": window and window.end,
    }
    return {
        "dagster/row_count": report.rows_in_table,
        "dagster/table_name": place.qualified(report.resource.name),
        "dagster/storage_kind": place.kind,
        "dagster/column_schema": column_schema(report.resource),
        "rows_read": report.rows_read,
        "rows_loaded": report.rows_loaded,
        "new_rows": report.new_rows,
        "rows_rejected": report.rows_rejected,
        "rows_removed": report.rows_removed,
        "requests": report.requests,
        "retries": report.retries,
        "seconds": round(report.seconds, 3),
        "source": settings.source_address,
        **{name: dg.MetadataValue.timestamp(moment) for name, moment in times.items() if moment},
        **(announcement(report.watermark) if report.watermark else {}),
        **({"unknown_fields": ", ".join(report.unknown_fields)} if report.unknown_fields else {}),
    }


def announcement(watermark: WatermarkValues) -> dict[str, int | str]:
    """Return the part of the metadata that a sensor compares: `news.Reading` reads it back."""
    return {
        "settled_rows": watermark.settled_rows,
        "newest_key": watermark.newest_key,
        **{f"newest_{name}": value for name, value in watermark.labels.items()},
    }
