"""The dlt source of one resource: pages in, typed Arrow tables out.

Nothing is opened, asked or read from configuration until dlt extracts the source.
https://dlthub.com/docs/general-usage/source

    source = build_source(ReadRequest(resource=resource, settings=settings, window=window, now=now))
    build_pipeline(resource, settings).run(source)
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from datetime import datetime
from itertools import chain
from typing import Any

import dlt
import pyarrow as pa
from dlt.common.schema.typing import TDeleteInsertStrategyDict
from dlt.extract.source import DltSource
from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_dagster.catalog import LOAD_ID, table_columns
from analytics_dagster.ingest.arrow import TableBuilder, named_project
from analytics_dagster.ingest.fast_reader import read_fast
from analytics_dagster.ingest.lists import Page
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.rest_api_reader import read_rest_api
from analytics_dagster.ingest.schema import REJECTED_COLUMNS, REJECTED_ROWS, column_hints
from analytics_dagster.ingest.settings import Settings
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


Replan = Callable[[set[int]], ReadRequest | None]
"""Takes the projects that the first rows name; returns the request to read instead, or None to go on."""


def keep_plan(_: set[int]) -> None:
    """Go on with the request as it is."""


def build_source(
    request: ReadRequest,
    *,
    known_rejects: Mapping[str, datetime] | None = None,
    load_id: str | None = None,
    replan: Replan = keep_plan,
) -> DltSource:
    """Return a dlt source that reads one resource.

    The source extracts typed Arrow tables and merges them by the primary key. Its counts of rows and requests are in
    the pipeline's trace afterwards, as custom metrics of the resource.

    Args:
        request: What to read.
        known_rejects: When a rejected row was first seen, by its hash.
        load_id: Value of the column `load_id`, for tables that have it.
        replan: Called once, when the first rows are there.
    """
    resource = request.resource

    @dlt.resource(
        name=resource.name,
        primary_key=list(resource.primary_key),
        merge_key=list(resource.replace_by),
        write_disposition=_MERGE,
        file_format="parquet",
        columns=column_hints(table_columns(resource)),
    )
    def tables() -> Iterator[Any]:
        planned, pages = _plan_pages(request, replan)
        builder = TableBuilder(
            resource,
            window=planned.window,
            now=planned.now,
            keep_personal_data=planned.settings.keep_personal_data,
            brand=planned.settings.brand,
            known_rejects=known_rejects,
            known_key=planned.known_key,
        )
        for page in pages:
            builder.add(page)
            page.rows.clear()  # the reader still holds the pages of the batch
            if builder.pending >= ROWS_PER_TABLE or builder.pending_bytes >= BYTES_PER_TABLE:
                yield from _tables(builder, load_id)
        # An empty table makes dlt create the table in the warehouse.
        yield from _tables(builder, load_id)
        dlt.current.resource_metrics().update(builder.counts.as_dict(), **asdict(planned.traffic))

    return dlt.source(lambda: tables, name=f"analytics_{resource.name}")()


def _plan_pages(request: ReadRequest, replan: Replan) -> tuple[ReadRequest, Iterator[Page]]:
    """Read up to the first rows, replan by the projects that they name, and return the request and all its pages."""
    pages = _read_pages(request)
    read: list[Page] = []
    for page in pages:
        read.append(page)
        if page.rows:
            named = {project for row in page.rows if (project := named_project(row)) is not None}
            if other := replan(named):
                pages.close()
                other = replace(other, traffic=request.traffic)
                return other, _read_pages(other)
            break
    return request, chain(read, pages)


def _read_pages(request: ReadRequest) -> Generator[Page]:
    with service_address(request.settings) as base_url:
        yield from READERS[request.settings.reader](request, request.configs(base_url))


def service_address(settings: Settings) -> AbstractContextManager[str]:
    """Return a context with the URL of the service, which is the embedded sandbox's while it runs."""
    return shared_sandbox() if settings.sandbox else nullcontext(settings.base_url)


def _tables(builder: TableBuilder, load_id: str | None) -> Iterator[Any]:
    """Yield the rejected rows, if any, and the typed rows."""
    table, rejected = builder.take()
    if load_id:
        place = table.schema.get_field_index(LOAD_ID.name)
        ids = pa.array([load_id] * table.num_rows, pa.string())
        table = table.set_column(place, table.schema.field(place), ids)
    if rejected is not None:
        yield dlt.mark.with_hints(rejected, _rejected_hints(), create_table_variant=True)
    yield table


def _rejected_hints() -> Any:
    return dlt.mark.make_hints(
        table_name=REJECTED_ROWS,
        primary_key="row_hash",
        merge_key="",
        write_disposition=_MERGE,
        columns=column_hints(REJECTED_COLUMNS),
        file_format="parquet",
    )
