"""The fastest loader of occurrences that we could write: the floor, against which the other loaders are measured.

Threads send requests on keep-alive sockets, with the least HTTP that works; orjson parses the replies; one Arrow table
is inserted into DuckDB at once. It lands the rows and promises nothing else: no retries, no typed columns beyond the
six fields of a row, no merge, no secrets removed, and rows missed if the list grows meanwhile. Replace it if you find a
faster one with the same four parts.

Slower or equally fast when tried: an Arrow batch for each page; one loop over the sockets without threads; requesting
the next page before parsing the current one; Arrow chunks; DuckDB without insertion order, or with one thread.
"""

import gc
import itertools
import socket
import sys
import threading
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import orjson
import pyarrow as pa

_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("item_id", pa.int64()),
        ("project_id", pa.int64()),
        ("timestamp", pa.timestamp("s")),
        ("version", pa.int64()),
        ("billable", pa.int64()),
        ("data", pa.string()),
    ]
)
_FIELDS = itemgetter(*_SCHEMA.names)
_DATA = _SCHEMA.get_field_index("data")
_BUFFER = 1 << 16
_SEPARATOR = orjson.Fragment(b"\n")

Columns = list[list[Any]]


def load_occurrences(url: str, warehouse: Path, *, page_size: int, threads: int) -> None:
    """Load all occurrences of the service at `url` into a new DuckDB file.

    Args:
        url: Base URL of the service.
        warehouse: The DuckDB file.
        page_size: Rows a page.
        threads: Threads, each with a request in flight.
    """
    gc.disable()
    # At the default interval a thread that received a reply interrupts another one that is parsing.
    sys.setswitchinterval(0.1)
    numbers = itertools.count(1)
    ended = threading.Event()
    parts: list[Columns] = [[[] for _ in _SCHEMA] for _ in range(threads)]
    workers = [threading.Thread(target=_read_pages, args=(url, page_size, numbers, ended, part)) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    arrays = [
        pa.array([value for part in parts for value in part[position]], field.type)
        for position, field in enumerate(_SCHEMA)
    ]
    table = pa.Table.from_arrays(arrays, schema=_SCHEMA)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE SCHEMA analytics")
        connection.register("pages", table)
        connection.execute("CREATE TABLE analytics.occurrences AS SELECT * FROM pages")


def _read_pages(
    url: str, page_size: int, numbers: "itertools.count[int]", ended: threading.Event, columns: Columns
) -> None:
    target = urlsplit(url)
    assert target.hostname
    assert target.port
    request = f"GET {target.path}/v1/occurrences?limit={page_size}&page=%d HTTP/1.1\r\nHost: {target.netloc}\r\n\r\n"
    with socket.create_connection((target.hostname, target.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(_BUFFER)
        while not ended.is_set():
            connection.sendall((request % next(numbers)).encode())
            body, buffer = _receive_reply(connection, buffer)
            rows = orjson.loads(body)["result"]["instances"]
            if not rows:
                ended.set()
                return
            for position, values in enumerate(zip(*map(_FIELDS, rows), strict=True)):
                columns[position] += values if position < _DATA else _encode_json(values)


def _encode_json(values: tuple[Any, ...]) -> list[str]:
    """Return the JSON text of each value. They are encoded together: orjson allocates 8 KB for a single value."""
    separated: list[Any] = [_SEPARATOR] * (2 * len(values) - 1)
    separated[::2] = values
    return orjson.dumps(separated)[1:-1].decode().split(",\n,")


def _receive_reply(connection: socket.socket, buffer: bytearray) -> tuple[memoryview, bytearray]:
    """Return a reply's body, and the buffer that holds it: the given one, or a larger one if it is too small."""
    received = connection.recv_into(buffer)
    start = buffer.index(b"\r\n\r\n") + 4
    length_at = buffer.index(b"Content-Length: ") + 16
    end = start + int(buffer[length_at : buffer.index(b"\r", length_at)])
    if end > len(buffer):
        buffer = buffer + bytearray(end - len(buffer))
    view = memoryview(buffer)
    while received < end:
        count = connection.recv_into(view[received:])
        if not count:
            raise ConnectionError("The server closed the connection in the middle of a reply.")
        received += count
    return view[start:end], buffer
