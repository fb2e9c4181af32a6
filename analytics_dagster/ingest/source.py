"""The dlt source of one resource: the pages of its projects in, typed Arrow tables out.

Nothing is opened, asked or read from configuration until dlt extracts the source.
https://dlthub.com/docs/general-usage/source

    reading = Reading(request=ReadRequest(resource=resource, settings=settings, window=window, now=now))
    build_pipeline(resource, settings).run(build_source([reading]))
    print(reading.counts)

Several projects are read side by side into one run of dlt. One that fails leaves the others alone: its reading has the
error. Rows that it read before are merged, since any row may be loaded at any time; nothing records them.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Any

import dlt
import pyarrow as pa
from dlt.common.schema.typing import TDeleteInsertStrategyDict
from dlt.extract.source import DltSource
from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_dagster.catalog import LOAD_ID, table_columns
from analytics_dagster.ingest.arrow import ROWS_TYPED_TOGETHER, FindForeign, TableBuilder, named_projects
from analytics_dagster.ingest.fast_reader import rare_collections, read_fast
from analytics_dagster.ingest.lists import Page
from analytics_dagster.ingest.read_request import ReadRequest
from analytics_dagster.ingest.rest_api_reader import read_rest_api
from analytics_dagster.ingest.schema import REJECTED_COLUMNS, REJECTED_ROWS, column_hints
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.side_by_side import Ended, Failed, read_side_by_side
from analytics_dagster.sandbox.shared_sandbox import shared_sandbox

READERS: dict[str, Callable[[ReadRequest, Sequence[RESTAPIConfig]], Iterator[Page]]] = {
    "fast": read_fast,
    "rest_api": read_rest_api,
}
"""Readers by the value of the setting `reader`."""

ROWS_PER_TABLE = 10_000
BYTES_PER_TABLE = 32 * 2**20
"""A table is handed to dlt when it has so many rows or, if they are large, bytes. They bound a load's memory: projects
that are read side by side share them."""

ROWS_GATHERED = 1_000
BYTES_GATHERED = 4 * 2**20
"""Smaller tables of several projects are handed to dlt together: a table costs dlt 10 ms, whatever is in it."""

ROWS_PER_RUN = 200_000
"""Rows after which no further project begins to read in a run: the others are read in the next one."""

_MERGE: TDeleteInsertStrategyDict = {"disposition": "merge", "strategy": "delete-insert"}

Replan = Callable[[set[int]], ReadRequest | None]
"""Takes the projects that the first rows name; returns the request to read instead, or None to go on."""


def keep_plan(_: set[int]) -> None:
    """Go on with the request as it is."""


@dataclass(kw_only=True)
class Reading:
    """What a run reads of one project, and what came of it.

    Attributes:
        request: What to read.
        project_id: The project that rows without one belong to; None if it is not known. Rows that name it tell.
        known_rejects: When a rejected row was first seen, by its hash.
        load_id: Value of the column `load_id`, for tables that have it.
        replan: Called once, when the first rows are there.
        find_foreign: Finds the ids that rows of other projects have.
        whole: Whether the rows are loaded only if the list was read whole: no coverage tells of a part.
        pause: Seconds to wait before the run.
        counts: Counts of rows, requests and observations, once everything was read; None before, or if it failed.
        error: The error with which it failed.
        seconds: How long it read.
    """

    request: ReadRequest
    project_id: int | None = None
    known_rejects: Mapping[str, datetime] = field(default_factory=dict)
    load_id: str | None = None
    replan: Replan = keep_plan
    find_foreign: FindForeign | None = None
    whole: bool = False
    pause: float = 0.0
    counts: dict[str, Any] | None = None
    error: Exception | None = None
    seconds: float = 0.0


_Tables = tuple[pa.Table, pa.Table | None]
"""Typed rows, and the rejected ones if there are any."""


def build_source(readings: Sequence[Reading], *, at_a_time: int = 1) -> DltSource:
    """Return a dlt source that reads one resource.

    The source extracts typed Arrow tables and merges them by the primary key. What came of each reading is in the
    reading afterwards. The error of a single reading is raised; of several each has its own.

    Args:
        readings: What to read of the resource, one for each project. A run that has many rows leaves the last ones to
            the next run: they have neither counts nor an error.
        at_a_time: Readings at the same time.
    """
    resource = readings[0].request.resource

    @dlt.resource(
        name=resource.name,
        primary_key=list(resource.primary_key),
        merge_key=list(resource.replace_by),
        write_disposition=_MERGE,
        file_format="parquet",
        columns=column_hints(table_columns(resource)),
    )
    def tables() -> Iterator[Any]:
        with rare_collections():
            several = len(readings) > 1
            read = _gather(_read_together(readings, at_a_time)) if several else _read(readings[0], share=1)
            for table, rejected in read:
                if rejected is not None:
                    yield dlt.mark.with_hints(rejected, _rejected_hints(), create_table_variant=True)
                yield table
        # An empty table makes dlt create the table in the warehouse.
        yield TableBuilder(resource, window=None, now=readings[0].request.now).take()[0]
        counts = [reading.counts for reading in readings if reading.counts]
        summed = ("read", "typed", "loaded", "rejected", "requests", "retries")
        dlt.current.resource_metrics().update({name: sum(each[name] for each in counts) for name in summed})

    return dlt.source(lambda: tables, name=f"analytics_{resource.name}")()


def _read_together(readings: Sequence[Reading], at_a_time: int) -> Iterator[_Tables]:
    """Yield the tables of several readings, which are read side by side; each gets its error if it fails."""
    rows: list[int] = []
    kept: dict[int, deque[_Tables]] = {}
    share = min(at_a_time, len(readings))
    readers = [partial(_read, reading, share=share) for reading in readings]
    for number, item in read_side_by_side(readers, at_a_time=at_a_time, enough=lambda: sum(rows) >= ROWS_PER_RUN):
        reading = readings[number]
        match item:
            case Failed(error):
                reading.error, reading.counts = error, None
                kept.pop(number, None)
            case Ended():
                yield from kept.pop(number, ())
            case tables:
                rows.append(tables[0].num_rows)
                if reading.whole:
                    kept.setdefault(number, deque()).append(tables)
                else:
                    yield tables


def _gather(tables: Iterator[_Tables]) -> Iterator[_Tables]:
    """Yield tables, small ones together: in a tick most projects have few new rows."""
    gathered: list[pa.Table] = []
    rows = size = 0
    for table, rejected in tables:
        gathered.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
        if rejected is not None or rows >= ROWS_GATHERED or size >= BYTES_GATHERED:
            yield pa.concat_tables(gathered), rejected
            gathered.clear()
            rows = size = 0
    if gathered:
        yield pa.concat_tables(gathered), None


def _read(reading: Reading, *, share: int) -> Generator[_Tables]:
    """Read the pages of a project and yield their tables; the counts are in the reading then.

    Args:
        reading: What to read.
        share: Readings that share the memory for rows.
    """
    began = time.monotonic()
    planned, pages = _plan_pages(reading)
    builder = TableBuilder(
        planned.resource,
        window=planned.window,
        now=planned.now,
        keep_personal_data=planned.settings.keep_personal_data,
        brand=planned.settings.brand,
        known_rejects=reading.known_rejects,
        known_key=planned.known_key,
        project_id=reading.project_id,
        find_foreign=reading.find_foreign,
        rows_together=ROWS_TYPED_TOGETHER // share,
    )
    for page in pages:
        builder.add(page)
        page.rows.clear()  # the reader still holds the pages of the batch
        if builder.pending >= ROWS_PER_TABLE // share or builder.pending_bytes >= BYTES_PER_TABLE // share:
            yield _with_load_id(builder.take(), reading.load_id)
    yield _with_load_id(builder.take(), reading.load_id)
    reading.seconds = time.monotonic() - began
    reading.counts = {**builder.counts.as_dict(), **asdict(planned.traffic)}


def _plan_pages(reading: Reading) -> tuple[ReadRequest, Iterator[Page]]:
    """Read up to the first rows, replan by the projects that they name, and return the request and all its pages."""
    request = reading.request
    pages = _read_pages(request)
    read: list[Page] = []
    for page in pages:
        read.append(page)
        if page.rows:
            if other := reading.replan(named_projects(page) if request.resource.names_project else set()):
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


def _with_load_id(tables: _Tables, load_id: str | None) -> _Tables:
    """Return the tables with a value in the column `load_id` of the typed rows."""
    if load_id is None:
        return tables
    table, rejected = tables
    place = table.schema.get_field_index(LOAD_ID.name)
    ids = pa.array([load_id] * table.num_rows, pa.string())
    return table.set_column(place, table.schema.field(place), ids), rejected


def _rejected_hints() -> Any:
    return dlt.mark.make_hints(
        table_name=REJECTED_ROWS,
        primary_key="row_hash",
        merge_key="",
        write_disposition=_MERGE,
        columns=column_hints(REJECTED_COLUMNS),
        file_format="parquet",
    )
