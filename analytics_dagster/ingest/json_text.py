"""JSON text of values, for JSON columns and rejected rows: text that every reader of JSON accepts."""

import json
from typing import Any

import orjson
import pyarrow as pa

from analytics_dagster.ingest.errors import InvalidValueError

_Values = list[Any]


_SEPARATOR = orjson.Fragment(b"\n")
"""Separates values that are encoded together: orjson writes no line break within a value."""


def json_array(values: _Values) -> pa.Array:
    """Return the JSON text of each value; null for None.

    Raises:
        InvalidValueError: An object is nested too deeply.
    """
    present = [value for value in values if value is not None]
    if not present:
        return pa.nulls(len(values), pa.string())
    try:
        texts = iter(_encode_together(present))
    except TypeError:  # half a surrogate pair, or an integer above 64 bits
        texts = map(_encode_portably, present)
    return pa.array([None if value is None else next(texts) for value in values], pa.string())


def _encode_together(values: _Values) -> list[str]:
    """Return the JSON text of each value. Encoding them one by one takes six times as long."""
    separated = [_SEPARATOR] * (2 * len(values) - 1)
    separated[::2] = values
    return orjson.dumps(separated)[1:-1].decode().split(",\n,")


def _encode_portably(value: Any) -> str:
    """Return JSON that every reader accepts: without NaN, without half of a surrogate pair."""
    try:
        text = json.dumps(_without_nan(value), ensure_ascii=False)
    except RecursionError:
        raise InvalidValueError("an object is nested too deeply to be stored") from None
    return text.encode("utf-8", "replace").decode()


def encode_rejected_row(row: Any) -> str:
    """Return a rejected row as JSON text; without its objects, if they are nested too deeply."""
    try:
        return json.dumps(_without_nan(row), sort_keys=True)
    except RecursionError:
        fields = row.items() if isinstance(row, dict) else ()
        return json.dumps({name: value for name, value in fields if not isinstance(value, dict | list)})


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not -float("inf") < value < float("inf") else value
