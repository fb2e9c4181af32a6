"""A dlt REST API source for one resource of the catalog.

The catalog's facts become dlt's configuration here, and here only. Nothing is opened, asked or read from
configuration until dlt extracts the source.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dlt
from dlt.common import jsonpath
from dlt.common.schema.typing import TDeleteInsertStrategyDict
from dlt.extract.items_transform import ItemTransform
from dlt.extract.source import DltSource
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import Endpoint, RESTAPIConfig

from analytics_dagster.catalog import Resource, table_columns
from analytics_dagster.ingest.arrow import TableBuilder, plausible_seconds
from analytics_dagster.ingest.connection import connect
from analytics_dagster.ingest.pagination import Bounds, ListOrder, paginate
from analytics_dagster.ingest.schema import REJECTED_ROWS, column_hints
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.transport import BodyBatchPaginator, PagesSession, WalkPaginator
from analytics_dagster.ingest.windows import Window

ROWS_PER_TABLE = 10_000
BYTES_PER_TABLE = 32 * 2**20
"""Rows gathered before they are handed to dlt, or less where they are large: they bound a load's memory."""

_KEY_TYPES = frozenset({int, str})
_MERGE: TDeleteInsertStrategyDict = {"disposition": "merge", "strategy": "delete-insert"}


def build_source(
    resource: Resource,
    settings: Settings | None = None,
    *,
    window: Window | None = None,
    lookup_values: Sequence[int] = (),
    known_rejects: Mapping[str, datetime] | None = None,
    now: datetime | None = None,
) -> DltSource:
    """Return a dlt source that reads one resource.

    The source extracts typed Arrow tables and merges them by the primary key. Counts of what it read are in
    the pipeline's trace afterwards, as custom metrics of the resource: see `load.py`.

    Args:
        resource: What to read.
        settings: How to reach the service. The default serves to look at the source, or to read the sandbox.
        window: Rows wanted, by cursor, lookback included; None for all.
        lookup_values: What the request's body asks for, where the resource has a `lookup`.
        known_rejects: When a rejected row was first seen, by its hash.
        now: The moment the load begins.
    """
    settings = settings or Settings()
    now = now or datetime.now(UTC)
    session = PagesSession(lambda: connect(resource, settings), resource=resource.name, rows_at=resource.rows_at)
    source = rest_api_source(
        _configuration(resource, settings, session, window, lookup_values, now), name=f"analytics_{resource.name}"
    )
    typed = TableBuilder(
        resource,
        window=window,
        now=now,
        keep_personal_data=settings.keep_personal_data,
        brand=settings.brand,
        known_rejects=known_rejects,
    )
    source.resources[resource.name].add_step(_ToTables(typed, session))
    return source


def _configuration(
    resource: Resource,
    settings: Settings,
    session: PagesSession,
    window: Window | None,
    lookup_values: Sequence[int],
    now: datetime,
) -> RESTAPIConfig:
    endpoint: Endpoint = {
        "path": settings.paths.get(resource.name, resource.path),
        "method": resource.method,
        "data_selector": jsonpath.compile_path(".".join(resource.rows_at)),
    }
    if resource.lookup:
        endpoint["paginator"] = BodyBatchPaginator(
            [
                {resource.lookup.body_field: list(lookup_values[first : first + resource.lookup.batch_size])}
                for first in range(0, len(lookup_values), resource.lookup.batch_size)
            ]
        )
    elif resource.paged:
        page_size = settings.page_size.get(resource.name, resource.page_size)
        endpoint["params"] = {"limit": page_size} if page_size else {}
        endpoint["paginator"] = WalkPaginator(
            lambda: paginate(
                _reading(resource, now), _bounds(window, now), read_ahead=settings.read_ahead, name=resource.name
            ),
            session,
        )
    else:
        endpoint["paginator"] = "single_page"
    return {
        "client": {"base_url": settings.base_url, "session": session},
        "resources": [
            {
                "name": resource.name,
                "primary_key": list(resource.primary_key),
                "merge_key": list(resource.replace_by),
                "write_disposition": _MERGE,
                "file_format": "parquet",
                "columns": column_hints(table_columns(resource)),
                "endpoint": endpoint,
            }
        ],
    }


def _reading(resource: Resource, now: datetime) -> ListOrder:
    """How a walk reads a raw row of the resource."""
    field = resource.ordered_by
    earliest, latest = plausible_seconds(now)

    def time(row: Any) -> int | None:
        value = row.get(field) if type(row) is dict else None
        return value if type(value) is int and earliest <= value <= latest else None

    def key(row: Any) -> object:
        values = [row.get(name) for name in resource.primary_key] if type(row) is dict else [None]
        return tuple(values) if all(type(value) in _KEY_TYPES for value in values) else None

    return ListOrder(key=key, time=time, ordered=field is not None)


def _bounds(window: Window | None, now: datetime) -> Bounds:
    """The window as a walk needs it: an end that is yet to come is none."""
    if window is None:
        return Bounds()
    return Bounds(
        start=int(window.start.timestamp()) if window.start else None,
        end=int(window.end.timestamp()) if window.end < now else None,
    )


class _ToTables(ItemTransform[Any, dict[str, Any]]):
    """The step of dlt's pipe that turns batches of raw pages into typed tables, and counts."""

    def __init__(self, rows: TableBuilder, session: PagesSession) -> None:
        super().__init__(self._tables)
        self._rows = rows
        self._session = session

    def __call__(self, item: Any, meta: Any = None) -> Iterator[Any]:
        """Gather the pages of a batch; hand on a table when there are rows enough, or no more to come."""
        return self._tables(item)

    def _tables(self, item: Any) -> Iterator[Any]:
        with self._session.closing_on_failure():
            for page in item:
                self._rows.add(page)
                page.rows.clear()  # dlt holds on to the batch until it has the next one
            last = not item.paginator.has_next_page
            few = self._rows.pending < ROWS_PER_TABLE and self._rows.pending_bytes < BYTES_PER_TABLE
            if few and not last:
                return
            table, rejected = self._rows.take()
            if last:
                self._session.close()
                self.custom_metrics.update(self._rows.counts.as_dict(), **self._session.traffic.as_dict())
            if rejected is not None:
                yield dlt.mark.with_hints(rejected, _rejected_hints(), create_table_variant=True)
            # An empty table makes dlt create the table in the warehouse.
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
