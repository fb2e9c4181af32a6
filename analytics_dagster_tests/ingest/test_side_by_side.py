"""Readers side by side: a few at a time, each with its own end, stopped together."""

import threading
from collections.abc import Generator
from typing import Any

import pytest

from analytics_dagster.ingest.side_by_side import Ended, Failed, read_side_by_side


def numbers(*values: int) -> Any:
    """Return a function that returns a generator of values."""

    def read() -> Generator[int]:
        yield from values

    return read


def failing(error: Exception, *values: int) -> Any:
    def read() -> Generator[int]:
        yield from values
        raise error

    return read


def never() -> bool:
    return False


@pytest.mark.parametrize("at_a_time", [1, 2, 10])
def test_every_reader_gives_its_items_in_order_and_then_its_end(at_a_time: int):
    readers = [numbers(1, 2, 3), numbers(), numbers(7)]
    found = list(read_side_by_side(readers, at_a_time=at_a_time, enough=never))

    of = {number: [item for other, item in found if other == number] for number in range(3)}
    assert of == {0: [1, 2, 3, Ended()], 1: [Ended()], 2: [7, Ended()]}


def test_a_reader_that_fails_leaves_the_others_alone():
    error = ValueError("refused")
    found = list(read_side_by_side([failing(error, 1), numbers(2, 3)], at_a_time=2, enough=never))

    assert [item for number, item in found if number == 0] == [1, Failed(error)]
    assert [item for number, item in found if number == 1] == [2, 3, Ended()]


def test_no_more_readers_read_at_a_time_than_asked_for():
    reading, most, lock = set[int](), list[int](), threading.Lock()

    def reader(number: int) -> Any:
        def read() -> Generator[int]:
            with lock:
                reading.add(number)
                most.append(len(reading))
            yield number
            with lock:
                reading.discard(number)

        return read

    list(read_side_by_side([reader(number) for number in range(8)], at_a_time=3, enough=never))
    assert 1 <= max(most) <= 3


def test_no_further_reader_is_started_once_it_is_enough():
    started: list[int] = []

    def reader(number: int) -> Any:
        def read() -> Generator[int]:
            started.append(number)
            yield number

        return read

    found: list[Any] = []
    readers = [reader(number) for number in range(5)]
    for entry in read_side_by_side(readers, at_a_time=1, enough=lambda: len(found) >= 2):
        found.append(entry)  # noqa: PERF402 - `enough` looks at it meanwhile
    assert started == [0]
    assert found == [(0, 0), (0, Ended())]


def test_readers_stop_and_close_when_nobody_takes_their_items_any_more():
    closed = threading.Event()

    def endless() -> Generator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    together = read_side_by_side([endless], at_a_time=2, enough=never)
    assert next(iter(together)) == (0, 1)
    together.close()  # type: ignore[attr-defined] # a generator
    assert closed.wait(5)
    assert not any(thread.name.startswith("reader-") for thread in threading.enumerate())
