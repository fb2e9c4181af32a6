"""The floor: the fastest loop we could write. It keeps no promise beyond landing the rows.

Threads on keep-alive sockets that know as much HTTP as they need, orjson, one Arrow table, one INSERT into
DuckDB. No retries, no types but the six fields of a row and its payload, no merge, no proof that nothing was missed
while the list grew, secrets and personal data still in it. A faster one with those four parts belongs here.

Tried and slower, or no faster: an Arrow batch for each page, one socket loop without threads, asking for the next
page before parsing the one at hand, Arrow chunks, DuckDB without order or with one thread.
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
_BETWEEN = orjson.Fragment(b"\n")

Columns = list[list[Any]]


def load(url: str, warehouse: Path, *, page_size: int, threads: int) -> None:
    """Load every occurrence that `url` lists."""
    gc.disable()
    # A thread that waits for a reply would otherwise take the interpreter from one that parses.
    sys.setswitchinterval(0.1)
    numbers = itertools.count(1)
    ended = threading.Event()
    parts: list[Columns] = [[[] for _ in _SCHEMA] for _ in range(threads)]
    workers = [threading.Thread(target=_read, args=(url, page_size, numbers, ended, part)) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    arrays = [
        pa.array([value for part in parts for value in part[place]], field.type) for place, field in enumerate(_SCHEMA)
    ]
    table = pa.Table.from_arrays(arrays, schema=_SCHEMA)
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("CREATE SCHEMA analytics")
        connection.register("pages", table)
        connection.execute("CREATE TABLE analytics.occurrences AS SELECT * FROM pages")


def _read(url: str, page_size: int, numbers: "itertools.count[int]", ended: threading.Event, columns: Columns) -> None:
    target = urlsplit(url)
    assert target.hostname
    assert target.port
    request = f"GET {target.path}/v1/occurrences?limit={page_size}&page=%d HTTP/1.1\r\nHost: {target.netloc}\r\n\r\n"
    with socket.create_connection((target.hostname, target.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = bytearray(_BUFFER)
        while not ended.is_set():
            connection.sendall((request % next(numbers)).encode())
            body, buffer = _reply(connection, buffer)
            rows = orjson.loads(body)["result"]["instances"]
            if not rows:
                ended.set()
                return
            for place, values in enumerate(zip(*map(_FIELDS, rows), strict=True)):
                columns[place] += values if place < _DATA else _encoded(values)


def _encoded(values: tuple[Any, ...]) -> list[str]:
    """JSON of each value; together, for what orjson returns for one occupies 8 KB at first."""
    separated: list[Any] = [_BETWEEN] * (2 * len(values) - 1)
    separated[::2] = values
    return orjson.dumps(separated)[1:-1].decode().split(",\n,")


def _reply(connection: socket.socket, buffer: bytearray) -> tuple[memoryview, bytearray]:
    """Return a reply's body, and the buffer it stands in: a larger one if it has to be."""
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
