"""Raw rows of a resource into typed Arrow tables. Knows neither HTTP nor dlt.

What does not fit its column is not forced: the row goes, with the reason, to the rejected rows, and the others
load. Secrets leave a row before anything else happens to it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from analytics_dagster.catalog import Column, ColumnType, Origin, Path, Resource, table_columns
from analytics_dagster.ingest.schema import ARROW_TYPES, REJECTED_COLUMNS, arrow_schema
from analytics_dagster.ingest.windows import Window

Row = dict[str, Any]

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""A timestamp before this is a mistake, such as a zero."""

LATEST_AHEAD = timedelta(days=1)
"""A timestamp further in the future than this is a mistake, such as milliseconds for seconds."""


ROWS_TYPED_TOGETHER = 2_000
"""Rows gathered before they are typed: a column of an array costs much the same for one row as for a thousand."""

_Values = list[Any]
_NOTHING: Row = {}

_BETWEEN = orjson.Fragment(b"\n")
"""Stands between values that are encoded together; JSON has no line break within a value, as orjson writes it."""


class Page(Protocol):
    """A page of raw rows, as `transport.py` fetches it."""

    @property
    def rows(self) -> list[Any]: ...  # noqa: D102

    @property
    def envelope(self) -> Any: ...  # noqa: D102

    @property
    def read_at(self) -> datetime: ...  # noqa: D102


@dataclass
class RowCounts:
    """What became of the rows of a load: `read` = `typed` + `rejected`; `typed` = `loaded` + outside the window.

    Attributes:
        read: Rows in the replies.
        typed: Rows that fit their columns.
        loaded: Rows handed on, those of a page that was read twice included.
        rejected: Rows that do not fit.
        unknown_fields: Names of fields that the catalog does not know.
        newest: Newest cursor among the rows handed on.
    """

    read: int = 0
    typed: int = 0
    loaded: int = 0
    rejected: int = 0
    unknown_fields: set[str] = field(default_factory=set)
    newest: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the figures by name, as JSON takes them."""
        newest = self.newest and self.newest.isoformat()
        return {**asdict(self), "unknown_fields": sorted(self.unknown_fields), "newest": newest}


class _MisfitError(Exception):
    """A value does not fit its column. The text says which and why."""


class TableBuilder:
    """Makes typed tables of a resource's raw pages.

    Args:
        resource: Whose rows.
        window: Rows whose cursor lies outside are left out; None keeps all.
        now: The moment the load began; timestamps more than a day later are mistakes.
        keep_personal_data: Whether personal values are stored.
        brand: Prefix to replace by `analytics` in names of fields; empty for none.
        known_rejects: When a rejected row was first seen, by its hash, from earlier loads.
    """

    def __init__(
        self,
        resource: Resource,
        *,
        window: Window | None,
        now: datetime,
        keep_personal_data: bool = False,
        brand: str = "",
        known_rejects: Mapping[str, datetime] | None = None,
    ) -> None:
        self.counts = RowCounts()
        self._taken = 0
        self.schema = arrow_schema(table_columns(resource))
        self._resource = resource
        self._window = window
        self._plausible = plausible_seconds(now)
        self._brand_prefix = f"{brand}_" if brand else ""
        self._renames = bool(brand or resource.unwrap)
        self._keep_personal_data = keep_personal_data
        self._known_rejects = known_rejects or {}
        self._known_fields = frozenset(column.field for column in resource.columns if column.field)
        self._hidden = _tree(
            path
            for column in resource.columns
            for path in (
                *([(column.name,)] if column.secret else []),
                *((column.name, *inside) for inside in column.secret_paths),
                *(() if keep_personal_data else ((column.name, *inside) for inside in column.personal_paths)),
            )
        )
        self._personal_fields = frozenset(column.name for column in resource.columns if column.personal)
        self._raw = _RawRows()
        self._batches: list[pa.RecordBatch] = []
        self._rejected: list[Row] = []

    @property
    def pending(self) -> int:
        """Rows added and not yet taken, whatever has become of them."""
        return self.counts.read - self._taken

    @property
    def pending_bytes(self) -> int:
        """Bytes of the typed ones among them."""
        return sum(batch.nbytes for batch in self._batches)

    def add(self, page: Page) -> None:
        """Take over the rows of a page."""
        self._raw.extend(page.rows, page, first_seq=self.counts.read)
        self.counts.read += len(page.rows)
        if len(self._raw) >= ROWS_TYPED_TOGETHER:
            self._type_raw()

    def take(self) -> tuple[pa.Table, pa.Table | None]:
        """Return the typed rows of the window so far and the rejected ones, if any, and start anew."""
        self._type_raw()
        self._taken = self.counts.read
        table = pa.Table.from_batches(self._batches, schema=self.schema)
        cursor = self._resource.cursor
        if self._window and cursor and table.num_rows:
            table = table.filter(self._window.mask(table[cursor]))
        if cursor and table.num_rows:
            newest = pc.max(table[cursor]).as_py()
            self.counts.newest = max(newest, self.counts.newest or newest)
        self.counts.loaded += table.num_rows
        rejected = None
        if self._rejected:
            rejected = pa.Table.from_pylist(self._rejected, schema=arrow_schema(REJECTED_COLUMNS))
        self._batches, self._rejected = [], []
        return table, rejected

    # -- raw rows -----------------------------------------------------------------------------------------

    def _renamed(self, entry: Any) -> Any:
        """Unwrap a row and give its fields neutral names."""
        if not isinstance(entry, dict):
            return [self._renamed(inner) for inner in entry] if isinstance(entry, list) else entry
        row: Row = entry
        if (unwrap := self._resource.unwrap) and isinstance(inner := row.get(unwrap), dict):
            row = {**inner, **{name: value for name, value in row.items() if name != unwrap}}
        if self._brand_prefix:
            row = {_neutral(name, self._brand_prefix): value for name, value in row.items()}
        return row

    def _reject(self, raw: "_RawRows", reason: str) -> None:
        (row,), (page,) = raw.rows, raw.pages
        text = _raw_text(row if self._keep_personal_data else _without(row, self._personal_fields))
        row_hash = hashlib.sha256(f"{self._resource.name} {text}".encode()).hexdigest()
        self.counts.rejected += 1
        self._rejected.append({
            "row_hash": row_hash,
            "resource": self._resource.name,
            "reason": reason,
            "first_seen": self._known_rejects.get(row_hash, page.read_at),
            "last_seen": page.read_at,
            "raw": text,
        })  # fmt: skip

    # -- columns ------------------------------------------------------------------------------------------

    def _type_raw(self) -> None:
        raw, self._raw = self._raw, _RawRows()
        if self._renames:
            raw.rows = [self._renamed(row) for row in raw.rows]
        _remove(raw.rows, self._hidden)
        self._fit(raw)

    def _fit(self, raw: "_RawRows") -> None:
        """Type rows together; where that fails, halve them until the misfits stand alone."""
        if not len(raw):
            return
        try:
            self._batches.append(self._typed(raw))
        except _MisfitError as misfit:
            if len(raw) == 1:
                self._reject(raw, str(misfit))
                return
            middle = len(raw) // 2
            self._fit(raw.part(0, middle))
            self._fit(raw.part(middle, len(raw)))
        else:
            self.counts.typed += len(raw)

    def _typed(self, raw: "_RawRows") -> pa.RecordBatch:
        if not set(map(type, raw.rows)) <= {dict}:
            raise _MisfitError("the row is no object")
        inside = _Inside(raw.rows)
        arrays = [self._array(column, self._values(column, raw, inside)) for column in self._resource.stored_columns]
        arrays += [
            _json_array(self._extra(raw.rows)),
            pa.array([page.read_at for page in raw.pages], ARROW_TYPES[ColumnType.TIMESTAMP]),
            pa.array(raw.seqs, pa.int64()),
        ]
        arrays += [pa.nulls(len(raw), field.type) for field in list(self.schema)[len(arrays) :]]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def _values(self, column: Column, raw: "_RawRows", inside: "_Inside") -> _Values:
        """Raw values of a column, one for each row."""
        if column.personal and not self._keep_personal_data:
            return [None] * len(raw)
        match column.origin:
            case Origin.ROW:
                return [row.get(column.name) for row in raw.rows]
            case Origin.INSIDE:
                return inside.values(column.path)
            case Origin.ENVELOPE:
                return [_dig(page.envelope, column.path) for page in raw.pages]
            case Origin.RANK:
                return raw.ranks
            case Origin.SNAPSHOT_HOUR:
                hours = (page.read_at.replace(minute=0, second=0, microsecond=0) for page in raw.pages)
                return [int(hour.timestamp()) for hour in hours]
            case Origin.IS_NULL:
                return [row.get(column.path[0]) is None for row in raw.rows]

    def _array(self, column: Column, values: _Values) -> pa.Array:
        if column.origin is Origin.INSIDE:
            return _lenient_array(column, values, self._plausible)
        return _strict_array(column, values, self._plausible)

    def _extra(self, rows: Iterable[Row]) -> _Values:
        """Fields of each row that the catalog does not know, as one object; None if there are none."""
        extras: _Values = []
        for row in rows:
            unknown = row.keys() - self._known_fields
            self.counts.unknown_fields |= unknown
            extras.append({name: row[name] for name in sorted(unknown)} if unknown else None)
        return extras


def plausible_seconds(now: datetime) -> tuple[int, int]:
    """Return the earliest and the latest timestamp, in epoch seconds, that is not taken for a mistake."""
    return int(EARLIEST.timestamp()), int((now + LATEST_AHEAD).timestamp())


@dataclass
class _RawRows:
    """Rows that wait to be typed, with what is known of each: its page, its place there, its order of reading."""

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


class _Inside:
    """Values at paths inside rows; objects that several paths pass through are looked up once."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._objects: dict[Path, Sequence[Row]] = {(): rows}

    def values(self, path: Path) -> _Values:
        """Return the value at `path` of each row; None where there is none."""
        *parents, name = path
        return [inner.get(name) for inner in self._at(tuple(parents))]

    def _at(self, path: Path) -> Sequence[Row]:
        """The objects at `path`; an empty one where there is none."""
        if path not in self._objects:
            self._objects[path] = [value if type(value) is dict else _NOTHING for value in self.values(path)]
        return self._objects[path]


def _strict_array(column: Column, values: _Values, plausible: tuple[int, int]) -> pa.Array:
    """Convert values to a column's type, or raise `_MisfitError`."""
    kinds = set(map(type, values))
    if not column.stored_nullable and type(None) in kinds:
        raise _MisfitError(f"{column.name} is null or missing")
    kinds.discard(type(None))
    match column.type:
        case ColumnType.JSON:
            return _json_array(values)
        case ColumnType.TEXT:
            expected: set[type] = {str}
        case ColumnType.BOOL:
            expected = {bool, int}
        case _:
            expected = {int}
    if not kinds <= expected:
        names = ", ".join(sorted(kind.__name__ for kind in kinds - expected))
        raise _MisfitError(f"{column.name} is {names} where {column.type} belongs")
    try:
        if column.type is ColumnType.TIMESTAMP:
            return _timestamps(column, values, plausible)
        if column.type is ColumnType.BOOL and int in kinds:
            if not set(values) <= {None, 0, 1}:
                raise _MisfitError(f"{column.name} is a number that is neither 0 nor 1")
            values = [None if value is None else bool(value) for value in values]
        return pa.array(values, ARROW_TYPES[column.type])
    except OverflowError:
        raise _MisfitError(f"{column.name} is an integer above 64 bits") from None
    except UnicodeEncodeError:
        raise _MisfitError(f"{column.name} holds half of a surrogate pair") from None


def _timestamps(column: Column, values: _Values, plausible: tuple[int, int]) -> pa.Array:
    seconds = pa.array(values, pa.int64())
    earliest, latest = plausible
    bounds = pc.min_max(seconds)
    if bounds["min"].is_valid and not (earliest <= bounds["min"].as_py() and bounds["max"].as_py() <= latest):
        raise _MisfitError(f"{column.name} is no plausible time in epoch seconds")
    return seconds.cast(pa.timestamp("s", tz="UTC")).cast(ARROW_TYPES[ColumnType.TIMESTAMP])


def _lenient_array(column: Column, values: _Values, plausible: tuple[int, int]) -> pa.Array:
    """Convert values that a reporter chose freely; what does not fit becomes null, for the object has it anyway."""
    if column.type is ColumnType.TIMESTAMP:
        values = [_epoch_seconds(value, plausible) for value in values]
    elif not set(map(type, values)) <= {str, type(None)}:
        values = [str(value) if isinstance(value, str | int | float) else None for value in values]
    try:
        return _strict_array(column, values, plausible)
    except _MisfitError:
        fitting = [value.encode("utf-8", "replace").decode() if value is not None else None for value in values]
        return _strict_array(column, fitting, plausible)


def _epoch_seconds(value: Any, plausible: tuple[int, int]) -> int | None:
    if type(value) in {int, float} and plausible[0] <= value <= plausible[1]:
        return int(value)
    return None


def _json_array(values: _Values) -> pa.Array:
    """JSON text of each value; null for None."""
    present = [value for value in values if value is not None]
    if not present:
        return pa.nulls(len(values), pa.string())
    try:
        texts = iter(_encoded(present))
    except TypeError:  # half a surrogate pair, or an integer above 64 bits
        texts = map(_portable_json, present)
    return pa.array([None if value is None else next(texts) for value in values], pa.string())


def _encoded(values: _Values) -> list[str]:
    """JSON text of each value. Encoding them one by one takes six times as long."""
    separated = [_BETWEEN] * (2 * len(values) - 1)
    separated[::2] = values
    return orjson.dumps(separated)[1:-1].decode().split(",\n,")


def _portable_json(value: Any) -> str:
    """JSON that every reader takes: no NaN, no half of a surrogate pair."""
    try:
        text = json.dumps(_without_nan(value), ensure_ascii=False)
    except RecursionError:
        raise _MisfitError("an object is nested too deeply to be stored") from None
    return text.encode("utf-8", "replace").decode()


def _raw_text(row: Any) -> str:
    """A rejected row as JSON text; without its objects, if those are nested too deeply."""
    try:
        return json.dumps(_without_nan(row), sort_keys=True)
    except RecursionError:
        fields = row.items() if isinstance(row, dict) else ()
        return json.dumps({name: value for name, value in fields if not isinstance(value, dict | list)})


def _without(row: Any, fields: frozenset[str]) -> Any:
    """A row, or what came in place of one, without some fields."""
    if isinstance(row, list):
        return [_without(inner, fields) for inner in row]
    return {name: value for name, value in row.items() if name not in fields} if isinstance(row, dict) else row


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value


def _neutral(name: str, brand_prefix: str) -> str:
    return f"analytics_{name.removeprefix(brand_prefix)}" if name.startswith(brand_prefix) else name


_Tree = dict[str, Any]


def _tree(paths: Iterable[Path]) -> _Tree:
    """Paths as nested mappings, each ending at None."""
    tree: _Tree = {}
    for *parents, name in paths:
        level = tree
        for parent in parents:
            level = level.setdefault(parent, {})
        level[name] = None
    return tree


def _remove(values: _Values, tree: _Tree) -> None:
    """Delete from nested objects what stands at the ends of a tree's paths; lists on the way are looked through."""
    objects = [value for value in values if type(value) is dict]
    for name, rest in tree.items():
        if rest is None:
            for value in objects:
                value.pop(name, None)
        elif name == "*":
            _remove([inner for value in objects for inner in value.values()], rest)
        else:
            _remove([value[name] for value in objects if name in value], rest)
    if len(objects) < len(values):
        inside_lists = [inner for value in values if type(value) is list for inner in value]
        if inside_lists:
            _remove(inside_lists, tree.get("*") or tree)


def _dig(value: Any, path: Path) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
