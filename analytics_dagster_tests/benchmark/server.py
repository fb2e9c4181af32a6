"""A server of lists that replies at next to no cost: each page is a slice of prepared bytes.

It runs in a process of its own (`server_process.py` starts it), so that its cost is not part of a load's. Lists are
newest first, as the service's are. Each reply can be delayed, without delaying others, and rows can arrive at the head
of the list meanwhile. Errors and rate limits belong to the sandbox.
"""

import argparse
import asyncio
import json
import random
import resource
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qsl

from analytics_dagster_tests.benchmark.rows import FORMATS, OCCURRENCES, RowFormat, encode_rows
from analytics_dagster_tests.benchmark.times_and_ids import (
    IDS_BY,
    IDS_PER_SECOND,
    SPREADS,
    assign_ids,
    received_times,
    spread_times,
)

HIGHEST_LIMIT = 5_000
"""Largest page size; a larger one is cut to it silently, as the service does."""

HEADROOM = 20_000
"""Largest number of arrivals."""

WARM_UP = "/warm"
"""Prefix of the paths of the warm-up, whose lists have a few rows."""

WARM_UP_ROWS = 20
OTHER_ROWS, OTHER_SPACING = 200, 600.0
"""Most rows of the lists besides occurrences, and the least seconds between two of them."""

_CHUNK = 10_000

_HEADERS = (
    "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: application/json; charset=utf-8\r\nX-Rate-Limit-Limit: 5000\r\n"
    "X-Rate-Limit-Remaining: 4999\r\nX-Rate-Limit-Remaining-Seconds: 30\r\nX-Rate-Limit-Reset: 1795501620\r\n"
    "Content-Length: %d\r\n\r\n"
)


class ServedList:
    """A list in one buffer, newest row first, with room in front for the rows that arrive.

    Args:
        row_format: Format of the rows.
        times: Times of the rows, from `spread_times`; none may be in the future.
        ids: Ids of the rows, from `assign_ids`.
        headroom: Number of rows that can arrive.
    """

    def __init__(self, row_format: RowFormat, times: "array[float]", ids: "array[int]", *, headroom: int = 0) -> None:
        self._rows_at = row_format.rows_at.encode()
        self._width = row_format.length + 1
        self._templates = row_format.templates()
        self._rows, self._headroom = len(times), headroom
        self._newest = self._first_newest = times[-1]
        self._ids, self._times = ids[:], received_times(times)
        self._buffer = bytearray(self._width * (headroom + self._rows))
        for first in range(0, self._rows, _CHUNK):
            self._write(range(first, min(first + _CHUNK, self._rows)))

    def _write(self, indexes: range) -> None:
        """Write rows into the buffer; index 0 is the oldest row."""
        text = encode_rows(self._templates, ((each, self._ids[each], self._times[each]) for each in reversed(indexes)))
        start = self._width * self._position(indexes[-1])
        self._buffer[start : start + len(text)] = text

    def _position(self, index: int) -> int:
        """Return the position of a row in the buffer."""
        return self._headroom + self._rows - 1 - index

    @property
    def arrived(self) -> int:
        """Number of rows that arrived since the last reset."""
        return len(self._ids) - self._rows

    def arrive(self, until: int, now: float) -> None:
        """Let rows arrive at the head, until `until` rows have arrived."""
        first = len(self._ids)
        for _ in range(min(until, self._headroom) - self.arrived):
            self._ids.append(self._ids[-1] + 1 + int(IDS_PER_SECOND * (now - self._newest)))
            self._times.append(int(now))
            self._newest = now
        if first < len(self._ids):
            self._write(range(first, len(self._ids)))

    def reset(self) -> None:
        """Remove the rows that arrived."""
        del self._ids[self._rows :], self._times[self._rows :]
        self._newest = self._first_newest

    def reply_page(self, page: int, limit: int) -> bytes:
        """Return the reply with a page, headers included."""
        return self._reply(page, len(self._ids) - (page - 1) * limit, limit)

    def reply_below(self, last_id: int, limit: int) -> bytes:
        """Return the reply with the newest rows whose ids are smaller than `last_id`, headers included."""
        return self._reply(1, bisect_left(self._ids, last_id), limit)

    def _reply(self, page: int, older: int, limit: int) -> bytes:
        """Return the reply with the newest of the `older` oldest rows, at most `limit`."""
        older = max(0, older)
        start = self._width * self._position(older - 1)
        end = start + self._width * min(limit, older)
        with memoryview(self._buffer) as buffer:
            rows = buffer[start : max(start, end - 1)]
            body = b'{"err":0,"result":{"page":%d,"%b":[%b]}}' % (page, self._rows_at, rows)
        return _add_headers(body)

    def truth(self, start: float, end: float) -> Iterator[tuple[int, int]]:
        """Yield id and time of the rows in `[start, end)`."""
        return ((row_id, time) for row_id, time in zip(self._ids, self._times, strict=True) if start <= time < end)


def _add_headers(body: bytes) -> bytes:
    return (_HEADERS % (formatdate(usegmt=True), len(body))).encode() + body


@dataclass
class Service:
    """The lists by path, the server's behaviour, and its requests since the last reset.

    Attributes:
        lists: The lists by path.
        delay: Seconds before a reply.
        jitter: Largest random deviation from the delay, as a part of it.
        arrivals_per_second: Occurrences that arrive per second.
        most_arrivals: Number of arrivals after which the list stops growing, at most `HEADROOM`.
        requests: Requests by path.
        began: Monotonic time of the first request after the warm-up, when rows begin to arrive; None before it.
        chance: Source of the jitter.
    """

    lists: dict[str, ServedList]
    delay: float = 0.0
    jitter: float = 0.0
    arrivals_per_second: float = 0.0
    most_arrivals: int = HEADROOM
    requests: Counter[str] = field(default_factory=Counter)
    began: float | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def seconds_to_wait(self) -> float:
        """Return the delay of the next reply, jitter included."""
        return self.delay * (1 + self.chance.uniform(-self.jitter, self.jitter)) if self.delay else 0.0

    def page(self, path: str, query: str) -> bytes:
        """Return the reply with a page of a list in its present state."""
        parameters = dict(parse_qsl(query))
        served = self.lists[path]
        if self.arrivals_per_second and not path.startswith(WARM_UP):
            self.began = self.began or time.monotonic()
            due = int(self.arrivals_per_second * (time.monotonic() - self.began))
            served.arrive(min(due, self.most_arrivals), time.time())
        limit = min(HIGHEST_LIMIT, int(parameters.get("limit", 20)))
        if "lastId" in parameters:
            return served.reply_below(int(parameters["lastId"]), limit)
        return served.reply_page(int(parameters.get("page", 1)), limit)

    def control(self, command: str, query: str) -> bytes:
        """Run a command of the benchmark, `reset`, `stats` or `truth`, and return the reply."""
        values = {name: float(value) for name, value in parse_qsl(query)}
        result: dict[str, object] = {}
        occurrences = self.lists[OCCURRENCES.path]
        if command == "reset":
            self.delay, self.jitter = values.get("delay", 0.0), values.get("jitter", 0.0)
            self.arrivals_per_second = values.get("arrivals_per_second", 0.0)
            self.most_arrivals = int(values.get("most_arrivals", HEADROOM))
            self.chance.seed(int(values.get("seed", 0)))
            self.requests.clear()
            self.began = None
            for served in self.lists.values():
                served.reset()
        elif command == "stats":
            usage = resource.getrusage(resource.RUSAGE_SELF)
            result = {
                "requests": dict(self.requests),
                "arrived": occurrences.arrived,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
            }
        elif command == "truth":
            rows = list(occurrences.truth(values.get("start", 0), values.get("end", float("inf"))))
            result = {"ids": [row[0] for row in rows], "times": [row[1] for row in rows]}
        return _add_headers(json.dumps(result).encode())


class Connection(asyncio.Protocol):
    """A keep-alive connection, with one request at a time and without request bodies."""

    transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request once its headers are complete."""
        self._received += data
        if not self._received.endswith(b"\r\n\r\n"):
            return
        target = self._received[: self._received.index(b"\r")].split(b" ")[1].decode()
        self._received = b""
        path, _, query = target.partition("?")
        service = self._service
        if path.startswith("/control/"):
            self.transport.write(service.control(path.removeprefix("/control/"), query))
            return
        service.requests[path] += 1
        if wait := service.seconds_to_wait():
            asyncio.get_running_loop().call_later(wait, self._reply, path, query)
        else:
            self._reply(path, query)

    def _reply(self, path: str, query: str) -> None:
        if not self.transport.is_closing():
            self.transport.write(self._service.page(path, query))


async def serve(service: Service, seconds: float) -> None:
    """Serve on a free port of the loopback interface for a number of seconds, and print the port."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(service), "127.0.0.1", 0)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - read by server_process.py
        await asyncio.sleep(seconds)


def main() -> None:
    """Prepare the lists and serve them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--newest", type=int, required=True)
    parser.add_argument("--spacing", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--spread", choices=SPREADS, required=True)
    parser.add_argument("--ids-by", choices=IDS_BY, required=True)
    options = parser.parse_args()
    lists = {}
    for row_format in FORMATS:
        occurrences = row_format is OCCURRENCES
        rows = options.rows if occurrences else min(OTHER_ROWS, options.rows)
        spacing = options.spacing if occurrences else max(OTHER_SPACING, options.spacing)
        times = spread_times(options.spread, rows=rows, newest=options.newest, spacing=spacing)
        ids = assign_ids(times, by=options.ids_by, spacing=spacing)
        lists[row_format.path] = ServedList(row_format, times, ids, headroom=HEADROOM if occurrences else 0)
        lists[WARM_UP + row_format.path] = ServedList(row_format, times[-WARM_UP_ROWS:], ids[-WARM_UP_ROWS:])
    asyncio.run(serve(Service(lists), options.seconds))


if __name__ == "__main__":
    main()
