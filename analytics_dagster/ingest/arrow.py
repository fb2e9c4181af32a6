"""Typed Arrow tables from the raw rows of a resource. Knows neither HTTP nor dlt.

Secrets are removed from a row first. A row with a value that does not fit its column goes to the rejected rows, with
the reason; the others load.

    builder = TableBuilder(resource, window=window, now=now)
    builder.add(page)
    table, rejected = builder.take()
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analytics_dagster.catalog import Column, ColumnType, Origin, Path, Resource, table_columns
from analytics_dagster.ingest.column_values import NestedValues, lenient_array, plausible_seconds, strict_array
from analytics_dagster.ingest.errors import InvalidValueError
from analytics_dagster.ingest.json_text import encode_rejected_row, json_array
from analytics_dagster.ingest.lists import Page
from analytics_dagster.ingest.redaction import PathTree, remove_other_fields
from analytics_dagster.ingest.schema import ARROW_TYPES, REJECTED_COLUMNS, arrow_schema
from analytics_dagster.ingest.windows import Window

Row = dict[str, Any]


ROWS_TYPED_TOGETHER = 2_000
"""Rows that are typed together: an Arrow array of one value costs nearly as much as one of a thousand."""

_LARGEST_ID = 2**63
"""Below which an id fits a bigint."""

_Values = list[Any]

FindForeign = Callable[[Sequence[int], int], Mapping[int, int]]
"""Takes ids of rows and the project that lists them; returns the project of each id that rows of another one have."""


@dataclass
class RowCounts:
    """Counts of a load's rows: `read` = `typed` + `rejected`; `typed` = `loaded` + rows outside the window.

    Attributes:
        read: Rows in the replies.
        typed: Rows that fit their columns.
        loaded: Rows in the tables, those of a page that was read twice included.
        rejected: Rows that do not fit.
        unknown_fields: Names of fields that the catalog does not know.
        newest: Newest cursor in the tables.
        projects: Projects that the rows name.
    """

    read: int = 0
    typed: int = 0
    loaded: int = 0
    rejected: int = 0
    unknown_fields: set[str] = field(default_factory=set)
    newest: datetime | None = None
    projects: set[int] = field(default_factory=set)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts by name, as JSON values."""
        newest = self.newest and self.newest.isoformat()
        sets = {"unknown_fields": sorted(self.unknown_fields), "projects": sorted(self.projects)}
        return {**asdict(self), **sets, "newest": newest}


class TableBuilder:
    """Builds typed tables from the pages of a resource.

    Args:
        resource: The resource that the rows belong to.
        window: Rows with a cursor outside are dropped; None keeps all.
        now: When the load began, UTC; timestamps more than a day later are mistakes.
        keep_personal_data: Whether personal values are stored.
        brand: Prefix of field names to replace by `analytics`; empty for none.
        known_rejects: When a rejected row was first seen, by its hash, from earlier loads.
        known_key: Rows with larger keys are kept even if they are older than the window; None for none.
        project_id: The project of rows that do not name theirs; None if it is not known yet: then the first row or
            reply that names one tells.
        find_foreign: Finds the ids that rows of other projects have: rows with such ids are rejected.
        rows_together: Rows that are typed together.

    Attributes:
        counts: Counts of the rows so far.
        pending_bytes: Bytes of the typed rows that were not taken yet.
    """

    def __init__(  # noqa: PLR0913 - each is a fact of the load
        self,
        resource: Resource,
        *,
        window: Window | None,
        now: datetime,
        keep_personal_data: bool = False,
        brand: str = "",
        known_rejects: Mapping[str, datetime] | None = None,
        known_key: int | None = None,
        project_id: int | None = None,
        find_foreign: FindForeign | None = None,
        rows_together: int = ROWS_TYPED_TOGETHER,
    ) -> None:
        self.counts = RowCounts()
        self.pending_bytes = 0
        self._taken = 0
        self.schema = arrow_schema(table_columns(resource))
        self._resource = resource
        self._window = window
        self._known_key = known_key
        self._project_id = project_id
        self._find_foreign = None if "project_id" in resource.primary_key else find_foreign
        self._rows_together = rows_together
        self._plausible = plausible_seconds(now)
        self._brand_prefix = f"{brand}_" if brand else ""
        self._renames = bool(brand or resource.unwrap)
        self._keep_personal_data = keep_personal_data
        self._known_rejects = known_rejects or {}
        self._known_fields = frozenset(column.field for column in resource.columns if column.field)
        self._removed = PathTree(
            path
            for column in resource.columns
            for path in (
                *([(column.name,)] if column.secret or (column.personal and not keep_personal_data) else []),
                *((column.name, *inside) for inside in column.secret_paths),
                *(() if keep_personal_data else ((column.name, *inside) for inside in column.personal_paths)),
            )
        )
        self._keeps_unknown_fields = keep_personal_data or not resource.unknown_fields_personal
        self._raw = _RawRows()
        self._typed_rows: list[pa.Table] = []
        self._rejected: list[Row] = []

    @property
    def pending(self) -> int:
        """Rows added and not yet taken, rejected ones included."""
        return self.counts.read - self._taken

    def add(self, page: Page) -> None:
        """Take over the rows of a page."""
        if self._project_id is None and self._resource.names_project and len(named := named_projects(page)) == 1:
            (self._project_id,) = named
        self._raw.extend(page.rows, page, first_seq=self.counts.read)
        self.counts.read += len(page.rows)
        if len(self._raw) >= self._rows_together:
            self._type_pending()

    def take(self) -> tuple[pa.Table, pa.Table | None]:
        """Return the typed rows of the window and the rejected rows, if any, that were added since the last call."""
        self._type_pending()
        self._taken = self.counts.read
        table = pa.concat_tables(self._typed_rows) if self._typed_rows else self.schema.empty_table()
        if self._resource.names_project:
            self.counts.projects |= set(pc.unique(table["project_id"]).drop_null().to_pylist())
        cursor = self._resource.cursor
        if self._window and cursor and table.num_rows:
            table = table.filter(self._wanted(table, self._window, cursor))
        if cursor and table.num_rows:
            newest = pc.max(table[cursor]).as_py()
            self.counts.newest = max(newest, self.counts.newest or newest)
        self.counts.loaded += table.num_rows
        rejected = None
        if self._rejected:
            rejected = pa.Table.from_pylist(self._rejected, schema=arrow_schema(REJECTED_COLUMNS))
        self._typed_rows, self._rejected, self.pending_bytes = [], [], 0
        return table, rejected

    def _wanted(self, table: pa.Table, window: Window, cursor: str) -> pa.ChunkedArray:
        """Return, for each row, whether it is in the window, or is new although it is older."""
        inside = window.mask(table[cursor])
        if self._known_key is None:
            return inside
        new = pc.greater(table[self._resource.primary_key[0]], self._known_key)
        return pc.or_(inside, pc.and_(new, pc.less(table[cursor], pa.scalar(window.end, table[cursor].type))))

    # -- raw rows -----------------------------------------------------------------------------------------

    def _rename(self, entry: Any) -> Any:
        """Unwrap a row and give its fields neutral names."""
        if not isinstance(entry, dict):
            return [self._rename(inner) for inner in entry] if isinstance(entry, list) else entry
        row: Row = entry
        if (unwrap := self._resource.unwrap) and isinstance(inner := row.get(unwrap), dict):
            row = {**inner, **{name: value for name, value in row.items() if name != unwrap}}
        if self._brand_prefix:
            row = {_neutral(name, self._brand_prefix): value for name, value in row.items()}
        return row

    def _reject(self, raw: "_RawRows", reason: str) -> None:
        (row,), (page,) = raw.rows, raw.pages
        text = encode_rejected_row(row)
        row_hash = hashlib.sha256(f"{self._resource.name} {text}".encode()).hexdigest()
        self.counts.rejected += 1
        self._rejected.append({
            "row_hash": row_hash,
            "resource": self._resource.name,
            "reason": reason,
            "first_seen": self._known_rejects.get(row_hash, page.read_at),
            "last_seen": page.read_at,
            "raw": text,
            "project_id": self._project_of(row),
        })  # fmt: skip

    # -- columns ------------------------------------------------------------------------------------------

    def _type_pending(self) -> None:
        raw, self._raw = self._raw, _RawRows()
        if self._renames:
            raw.rows = [self._rename(row) for row in raw.rows]
        self._removed.remove_from(raw.rows)
        if not self._keeps_unknown_fields:
            self.counts.unknown_fields |= remove_other_fields(raw.rows, self._known_fields)
        self._type_rows(self._reject_foreign(raw) if self._find_foreign else raw)

    def _project_of(self, row: Any) -> int | None:
        """Return the project of a raw row: the one that it names, or else the key's; None if neither is known."""
        return self._project_id if (named := named_project(row)) is None else named

    def _reject_foreign(self, raw: "_RawRows") -> "_RawRows":
        """Reject the rows whose id a row of another project has, and return the others."""
        assert self._find_foreign
        key = self._resource.primary_key[-1]
        by_project: dict[int, list[int]] = {}
        for row in raw.rows:
            identifier, project = (row.get(key), self._project_of(row)) if isinstance(row, dict) else (None, None)
            if type(identifier) is int and abs(identifier) < _LARGEST_ID and project is not None:
                by_project.setdefault(project, []).append(identifier)
        foreign = {project: self._find_foreign(ids, project) for project, ids in by_project.items()}
        if not any(foreign.values()):
            return raw
        kept = []
        for place, row in enumerate(raw.rows):
            project = self._project_of(row)
            known = foreign.get(project) if project is not None else None
            other = known.get(row.get(key)) if known else None
            if other is None:
                kept.append(place)
            else:
                self._reject(raw.part(place, place + 1), f"{key} {row[key]} belongs to project {other}")
        return raw.chosen(kept)

    def _type_rows(self, raw: "_RawRows") -> None:
        """Type rows together; if that fails, type each half, down to the single rows that are rejected."""
        if not len(raw):
            return
        try:
            table = self._build_table(raw)
        except InvalidValueError as error:
            if len(raw) == 1:
                self._reject(raw, str(error))
                return
            middle = len(raw) // 2
            self._type_rows(raw.part(0, middle))
            self._type_rows(raw.part(middle, len(raw)))
        else:
            self._typed_rows.append(table)
            self.pending_bytes += table.nbytes
            self.counts.typed += len(raw)

    def _build_table(self, raw: "_RawRows") -> pa.Table:
        if not set(map(type, raw.rows)) <= {dict}:
            raise InvalidValueError("row is not a JSON object")
        inside = NestedValues(raw.rows)
        arrays = [self._array(column, self._values(column, raw, inside)) for column in self._resource.stored_columns]
        arrays += [
            json_array(self._extra(raw.rows)),
            pa.array([page.read_at for page in raw.pages], ARROW_TYPES[ColumnType.TIMESTAMP]),
            pa.array(raw.seqs, pa.int64()),
        ]
        arrays += [pa.nulls(len(raw), field.type) for field in list(self.schema)[len(arrays) :]]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _values(self, column: Column, raw: "_RawRows", inside: "NestedValues") -> _Values:
        """Return the raw values of a column, one for each row."""
        match column.origin:
            case Origin.ROW:
                return self._fill_project(column, [row.get(column.name) for row in raw.rows])
            case Origin.INSIDE:
                return inside.values(column.path)
            case Origin.ENVELOPE:
                values = [_dig(page.envelope, column.path) for page in raw.pages]
                return self._fill_project(column, values)
            case Origin.RANK:
                return raw.ranks
            case Origin.SNAPSHOT_HOUR:
                hours = (page.read_at.replace(minute=0, second=0, microsecond=0) for page in raw.pages)
                return [int(hour.timestamp()) for hour in hours]
            case Origin.IS_NULL:
                return [row.get(column.path[0]) is None for row in raw.rows]

    def _fill_project(self, column: Column, values: _Values) -> _Values:
        """Return the values of a column; rows that do not name their project have the key's."""
        if column.name != "project_id" or self._project_id is None:
            return values
        return [self._project_id if value is None else value for value in values]

    def _array(self, column: Column, values: _Values) -> pa.Array:
        if column.origin is Origin.INSIDE:
            return lenient_array(column, values, self._plausible)
        return strict_array(column, values, self._plausible)

    def _extra(self, rows: list[Row]) -> _Values:
        """Return the fields of each row that the catalog does not know, as one object; None if there are none."""
        unknown = set[str]().union(*rows) - self._known_fields
        if not unknown:
            return [None] * len(rows)
        self.counts.unknown_fields |= unknown
        return [{name: row[name] for name in sorted(row.keys() & unknown)} or None for row in rows]


@dataclass
class _RawRows:
    """Rows to be typed, each with its page, its rank there, and its sequence number within the load."""

    rows: list[Any] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def extend(self, rows: list[Any], page: Page, *, first_seq: int) -> None:
        """Append the rows of a page."""
        self.rows += rows
        self.pages += [page] * len(rows)
        self.ranks += range(1, len(rows) + 1)
        self.seqs += range(first_seq, first_seq + len(rows))

    def part(self, first: int, end: int) -> "_RawRows":
        """Return a slice."""
        span = slice(first, end)
        return _RawRows(self.rows[span], self.pages[span], self.ranks[span], self.seqs[span])

    def chosen(self, places: Sequence[int]) -> "_RawRows":
        """Return the rows at some places."""
        chosen = _RawRows()
        for place in places:
            chosen.rows.append(self.rows[place])
            chosen.pages.append(self.pages[place])
            chosen.ranks.append(self.ranks[place])
            chosen.seqs.append(self.seqs[place])
        return chosen


def named_project(row: Any) -> int | None:
    """Return the project that a raw row names; None if it names none."""
    project = row.get("project_id") if isinstance(row, dict) else None
    return project if type(project) is int and abs(project) < _LARGEST_ID else None


def named_projects(page: Page) -> set[int]:
    """Return the projects that the rows of a page, or the envelope around them, name."""
    named = {named_project(row) for row in (*page.rows, page.envelope)}
    return {project for project in named if project is not None}


def _neutral(name: str, brand_prefix: str) -> str:
    return f"analytics_{name.removeprefix(brand_prefix)}" if name.startswith(brand_prefix) else name


def _dig(value: Any, path: Path) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
