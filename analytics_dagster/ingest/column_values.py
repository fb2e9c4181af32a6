"""Values of one column as an Arrow array, or the reason why a value does not fit the column."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from analytics_dagster.catalog import Column, ColumnType, Path
from analytics_dagster.ingest.errors import InvalidValueError
from analytics_dagster.ingest.json_text import json_array
from analytics_dagster.ingest.schema import ARROW_TYPES

_Values = list[Any]
_NO_FIELDS: dict[str, Any] = {}


EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""An earlier timestamp is a mistake, such as a zero."""


LATEST_AHEAD = timedelta(days=1)
"""A timestamp further in the future is a mistake, such as milliseconds for seconds."""


def plausible_seconds(now: datetime) -> tuple[int, int]:
    """Return the earliest and the latest plausible timestamp, in epoch seconds."""
    return int(EARLIEST.timestamp()), int((now + LATEST_AHEAD).timestamp())


def strict_array(column: Column, values: _Values, plausible: tuple[int, int]) -> pa.Array:
    """Convert values to the column's type.

    Raises:
        InvalidValueError: A value is of another type, null where the column takes none, or out of range.
    """
    kinds = set(map(type, values))
    if not column.stored_nullable and type(None) in kinds:
        raise InvalidValueError(f"{column.name} is null or missing")
    kinds.discard(type(None))
    match column.type:
        case ColumnType.JSON:
            return json_array(values)
        case ColumnType.TEXT:
            expected: set[type] = {str}
        case ColumnType.BOOL:
            expected = {bool, int}
        case ColumnType.DOUBLE:
            expected = {int, float}
        case _:
            expected = {int}
    if not kinds <= expected:
        names = ", ".join(sorted(kind.__name__ for kind in kinds - expected))
        raise InvalidValueError(f"{column.name} is {names} where {column.type} belongs")
    try:
        if column.type is ColumnType.TIMESTAMP:
            return _timestamps(column, values, plausible)
        if column.type is ColumnType.BOOL and int in kinds:
            if not set(values) <= {None, 0, 1}:
                raise InvalidValueError(f"{column.name} is a number that is neither 0 nor 1")
            values = [None if value is None else bool(value) for value in values]
        return pa.array(values, ARROW_TYPES[column.type])
    except OverflowError:
        raise InvalidValueError(f"{column.name} is an integer above 64 bits") from None
    except UnicodeEncodeError:
        raise InvalidValueError(f"{column.name} holds half of a surrogate pair") from None


def _timestamps(column: Column, values: _Values, plausible: tuple[int, int]) -> pa.Array:
    seconds = pa.array(values, pa.int64())
    earliest, latest = plausible
    bounds = pc.min_max(seconds)
    if bounds["min"].is_valid and not (earliest <= bounds["min"].as_py() and bounds["max"].as_py() <= latest):
        raise InvalidValueError(f"{column.name} is no plausible time in epoch seconds")
    return seconds.cast(pa.timestamp("s", tz="UTC")).cast(ARROW_TYPES[ColumnType.TIMESTAMP])


def lenient_array(column: Column, values: _Values, plausible: tuple[int, int]) -> pa.Array:
    """Convert values that a reporter chose freely. Invalid ones become null: the JSON column keeps the original."""
    if column.type is ColumnType.TIMESTAMP:
        values = [_epoch_seconds(value, plausible) for value in values]
    elif not set(map(type, values)) <= {str, type(None)}:
        values = [str(value) if isinstance(value, str | int | float) else None for value in values]
    try:
        return strict_array(column, values, plausible)
    except InvalidValueError:
        fitting = [value.encode("utf-8", "replace").decode() if value is not None else None for value in values]
        return strict_array(column, fitting, plausible)


def _epoch_seconds(value: Any, plausible: tuple[int, int]) -> int | None:
    if type(value) in {int, float} and plausible[0] <= value <= plausible[1]:
        return int(value)
    return None


class NestedValues:
    """Values at paths inside rows. Objects that several paths share are looked up once."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self._objects: dict[Path, Sequence[dict[str, Any]]] = {(): rows}

    def values(self, path: Path) -> _Values:
        """Return the value at `path` of each row; None where there is none."""
        *parents, name = path
        return [inner.get(name) for inner in self._at(tuple(parents))]

    def _at(self, path: Path) -> Sequence[dict[str, Any]]:
        """Return the objects at `path`; an empty one where there is none."""
        if path not in self._objects:
            self._objects[path] = [value if type(value) is dict else _NO_FIELDS for value in self.values(path)]
        return self._objects[path]
