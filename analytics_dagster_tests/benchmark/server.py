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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from analytics_dagster_tests.benchmark.rows import FORMATS, OCCURRENCES, RowFormat, encode_rows, row_id

HIGHEST_LIMIT = 5_000
"""Largest page size; a larger one is cut to it silently, as the service does."""

HEADROOM = 20_000
"""Number of arrivals after which a list stops growing."""

WARM_UP = "/warm"
"""Prefix of the paths of the warm-up, whose lists have a few rows."""

WARM_UP_ROWS = 20
_CHUNK = 10_000

_HEADERS = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nX-Rate-Limit-Limit: 5000\r\n"
    "X-Rate-Limit-Remaining: 4999\r\nX-Rate-Limit-Remaining-Seconds: 30\r\nX-Rate-Limit-Reset: 1795501620\r\n"
    "Content-Length: %d\r\n\r\n"
)


class ServedList:
    """A list in one buffer, newest row first, with room in front for the rows that arrive.

    Args:
        row_format: Format of the rows.
        rows: Number of rows to begin with.
        newest: Time of the newest row, in epoch seconds.
        spacing: Seconds between two rows.
        headroom: Number of rows that can arrive.
    """

    def __init__(self, row_format: RowFormat, rows: int, *, newest: int, spacing: float, headroom: int = 0) -> None:
        self.row_format = row_format
        self._rows, self._headroom = rows, headroom
        self._newest, self._spacing = newest, spacing
        self._width = row_format.length + 1
        self._templates = row_format.templates()
        self._buffer = bytearray(self._width * (headroom + rows))
        self._arrivals: list[int] = []
        for first in range(0, rows, _CHUNK):
            chunk = range(rows - 1 - first, max(-1, rows - 1 - first - _CHUNK), -1)
            start = self._width * (headroom + first)
            text = encode_rows(self._templates, ((index, self._time(index)) for index in chunk))
            self._buffer[start : start + len(text)] = text

    def _time(self, index: int) -> int:
        """Return the time of a row; one row in ten is two seconds out of order."""
        if index >= self._rows:
            return self._arrivals[index - self._rows]
        return int(self._newest - (self._rows - 1 - index) * self._spacing) - 2 * (index % 10 == 0)

    @property
    def arrived(self) -> int:
        """Number of rows that arrived since the last reset."""
        return len(self._arrivals)

    def arrive(self, until: int, now: int) -> None:
        """Let rows arrive at the head, until `until` rows have arrived."""
        while len(self._arrivals) < min(until, self._headroom):
            self._arrivals.append(now)
            start = self._width * (self._headroom - len(self._arrivals))
            text = encode_rows(self._templates, iter([(self._rows + len(self._arrivals) - 1, now)]))
            self._buffer[start : start + self._width] = text

    def reset(self) -> None:
        """Remove the rows that arrived."""
        self._arrivals.clear()

    def reply(self, page: int, limit: int) -> bytes:
        """Return the reply with a page, headers included."""
        head = self._headroom - len(self._arrivals)
        first = min(head + (page - 1) * limit, self._headroom + self._rows)
        last = min(first + limit, self._headroom + self._rows)
        with memoryview(self._buffer) as buffer:
            body = b'{"err":0,"result":{"page":%d,"%s":[%b]}}' % (
                page,
                self.row_format.rows_at.encode(),
                buffer[first * self._width : max(first * self._width, last * self._width - 1)],
            )
        return (_HEADERS % len(body)).encode() + body

    def truth(self, start: float, end: float) -> Iterator[tuple[int, int]]:
        """Yield id and time of the rows in `[start, end)`."""
        for index in range(self._rows + len(self._arrivals)):
            if start <= (moment := self._time(index)) < end:
                yield row_id(index), moment


@dataclass
class Service:
    """The lists by path, the server's behaviour, and its requests since the last reset.

    Attributes:
        lists: The lists by path.
        delay: Seconds before a reply.
        jitter: Largest random deviation from the delay, as a part of it.
        arrivals_per_second: Occurrences that arrive per second.
        requests: Requests by path.
        began: Monotonic time of the last reset.
        chance: Source of the jitter.
    """

    lists: dict[str, ServedList]
    delay: float = 0.0
    jitter: float = 0.0
    arrivals_per_second: float = 0.0
    requests: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    def seconds_to_wait(self) -> float:
        """Return the delay of the next reply, jitter included."""
        return self.delay * (1 + self.chance.uniform(-self.jitter, self.jitter)) if self.delay else 0.0

    def page(self, path: str, query: str) -> bytes:
        """Return the reply with a page of a list in its present state."""
        parameters = dict(parse_qsl(query))
        served = self.lists[path]
        if self.arrivals_per_second and not path.startswith(WARM_UP):
            due = int(self.arrivals_per_second * (time.monotonic() - self.began))
            served.arrive(due, int(time.time()))
        return served.reply(int(parameters.get("page", 1)), min(HIGHEST_LIMIT, int(parameters.get("limit", 20))))

    def control(self, command: str, query: str) -> bytes:
        """Run a command of the benchmark, `reset`, `stats` or `truth`, and return the reply."""
        values = {name: float(value) for name, value in parse_qsl(query)}
        result: dict[str, object] = {}
        occurrences = self.lists[OCCURRENCES.path]
        if command == "reset":
            self.delay, self.jitter = values.get("delay", 0.0), values.get("jitter", 0.0)
            self.arrivals_per_second = values.get("arrivals_per_second", 0.0)
            self.chance.seed(int(values.get("seed", 0)))
            self.requests.clear()
            self.began = time.monotonic()
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
        body = json.dumps(result).encode()
        return (_HEADERS % len(body)).encode() + body


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
    options = parser.parse_args()
    lists = {}
    for row_format in FORMATS:
        rows = options.rows if row_format is OCCURRENCES else min(200, options.rows)
        spacing = options.spacing if row_format is OCCURRENCES else max(600.0, options.spacing)
        lists[row_format.path] = ServedList(
            row_format, rows, newest=options.newest, spacing=spacing, headroom=HEADROOM * (row_format is OCCURRENCES)
        )
        lists[WARM_UP + row_format.path] = ServedList(
            row_format, WARM_UP_ROWS, newest=options.newest, spacing=options.spacing
        )
    asyncio.run(serve(Service(lists), options.seconds))


if __name__ == "__main__":
    main()
