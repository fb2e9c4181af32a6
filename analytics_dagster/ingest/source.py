"""The dlt source of one resource: pages in, typed Arrow tables out.

Nothing is opened, asked or read from configuration until dlt extracts the source.
https://dlthub.com/docs/general-usage/source

    source = build_source(resource, settings, window=window, now=now)
    build_pipeline(resource, settings).run(source)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import datetime
from typing import Any

import dlt
from dlt.common.schema.typing import TDeleteInsertStrategyDict
from dlt.extract.source import DltSource
from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_dagster.catalog import Resource, table_columns
from analytics_dagster.ingest.arrow import TableBuilder
from analytics_dagster.ingest.fast_reader import read_fast
from analytics_dagster.ingest.lists import Page
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.rest_api_reader import read_rest_api
from analytics_dagster.ingest.schema import REJECTED_ROWS, column_hints
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox.shared_sandbox import shared_sandbox

READERS: dict[str, Callable[[ReadRequest, Sequence[RESTAPIConfig]], Iterator[Page]]] = {
    "fast": read_fast,
    "rest_api": read_rest_api,
}
"""Readers by the value of the setting `reader`."""

ROWS_PER_TABLE = 10_000
BYTES_PER_TABLE = 32 * 2**20
"""A table is handed to dlt when it has so many rows or, if they are large, bytes. They bound a load's memory."""

_MERGE: TDeleteInsertStrategyDict = {"disposition": "merge", "strategy": "delete-insert"}


def build_source(
    resource: Resource,
    settings: Settings,
    *,
    now: datetime,
    window: Window | None = None,
    lookup_values: Sequence[int] = (),
    known_rejects: Mapping[str, datetime] | None = None,
    known_key: int | None = None,
) -> DltSource:
    """Return a dlt source that reads one resource.

    The source extracts typed Arrow tables and merges them by the primary key. Its counts of rows and requests are in
    the pipeline's trace afterwards, as custom metrics of the resource.

    Args:
        resource: The resource.
        settings: How to reach the service.
        now: When the load began, UTC.
        window: Rows wanted, by cursor, lookback included; None for all.
        lookup_values: Values that the request's body asks for, where the resource has a `lookup`.
        known_rejects: When a rejected row was first seen, by its hash.
        known_key: The largest key of rows that earlier loads covered; None if keys do not grow, or none was covered.
    """
    request = ReadRequest(
        resource=resource,
        settings=settings,
        window=window,
        lookup_values=lookup_values,
        now=now,
        known_key=known_key,
    )

    @dlt.resource(
        name=resource.name,
        primary_key=list(resource.primary_key),
        merge_key=list(resource.replace_by),
        write_disposition=_MERGE,
        file_format="parquet",
        columns=column_hints(table_columns(resource)),
    )
    def tables() -> Iterator[Any]:
        builder = TableBuilder(
            resource,
            window=window,
            now=now,
            keep_personal_data=settings.keep_personal_data,
            brand=settings.brand,
            known_rejects=known_rejects,
            known_key=known_key,
        )
        for page in _read_pages(request):
            builder.add(page)
            page.rows.clear()  # the reader still holds the pages of the batch
            if builder.pending >= ROWS_PER_TABLE or builder.pending_bytes >= BYTES_PER_TABLE:
                yield from _tables(builder)
        # An empty table makes dlt create the table in the warehouse.
        yield from _tables(builder)
        dlt.current.resource_metrics().update(builder.counts.as_dict(), **asdict(request.traffic))

    return dlt.source(lambda: tables, name=f"analytics_{resource.name}")()


def _read_pages(request: ReadRequest) -> Iterator[Page]:
    settings = request.settings
    with shared_sandbox() if settings.sandbox else nullcontext(settings.base_url) as base_url:
        yield from READERS[settings.reader](request, request.configs(base_url))


def _tables(builder: TableBuilder) -> Iterator[Any]:
    """Yield the rejected rows, if any, and the typed rows."""
    table, rejected = builder.take()
    if rejected is not None:
        yield dlt.mark.with_hints(rejected, _rejected_hints(), create_table_variant=True)
    yield table


def _rejected_hints() -> Any:
    return dlt.mark.make_hints(
        table_name=REJECTED_ROWS,
        primary_key="row_hash",
        merge_key="",
        write_disposition=_MERGE,
        columns={},  # none of the resource's own; the Arrow table has its types with it
        file_format="parquet",
    )
