"""Readers side by side: each in a thread of its own, a few at a time, their items in one stream.

    for number, item in read_side_by_side([read_web, read_mobile], at_a_time=4, enough=lambda: False):
        ...

A reader that fails ends with a `Failed` as its last item, and the others go on. What is read does not belong here.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

_Item = TypeVar("_Item")

_POLL_SECONDS = 0.2
"""Seconds after which a reader whose items nobody takes looks whether it was stopped."""

_JOIN_SECONDS = 5.0
"""Seconds to wait for stopped readers. One that waits for a reply ends with its process, or after its timeout."""


@dataclass(frozen=True)
class Ended:
    """The last item of a reader that read everything."""


@dataclass(frozen=True)
class Failed:
    """The last item of a reader that failed."""

    error: Exception


def read_side_by_side(
    readers: Sequence[Callable[[], Generator[_Item]]], *, at_a_time: int, enough: Callable[[], bool]
) -> Iterator[tuple[int, _Item | Ended | Failed]]:
    """Yield the items of readers as they come, each with the number of its reader.

    One item of each reader waits at most until it is taken, so that the memory does not grow with what is read.

    Args:
        readers: Functions that return the generators to read, in the order in which they are started.
        at_a_time: Readers that read at the same time.
        enough: Whether no further reader is to be started; the others go on to their ends.
    """
    taken: queue.Queue[tuple[int, _Item | Ended | Failed]] = queue.Queue(maxsize=1)
    stopped = threading.Event()
    waiting = deque(enumerate(readers))
    threads: dict[int, threading.Thread] = {}
    try:
        while waiting or threads:
            while waiting and len(threads) < at_a_time and not enough():
                number, reader = waiting.popleft()
                threads[number] = threading.Thread(
                    target=_run, args=(number, reader, taken, stopped), name=f"reader-{number}", daemon=True
                )
                threads[number].start()
            if not threads:
                return
            number, item = taken.get()
            if isinstance(item, Ended | Failed):
                threads.pop(number).join()
            yield number, item
    finally:
        stopped.set()
        for thread in threads.values():
            thread.join(_JOIN_SECONDS)


def _run(
    number: int,
    reader: Callable[[], Generator[_Item]],
    taken: "queue.Queue[tuple[int, _Item | Ended | Failed]]",
    stopped: threading.Event,
) -> None:
    """Put the items of a reader into the queue until it ends, fails or is stopped."""
    last: Ended | Failed = Ended()
    try:
        with closing(reader()) as items:
            for item in items:
                if not _put(taken, (number, item), stopped):
                    return
    except Exception as error:  # noqa: BLE001 - the thread that takes the items decides what becomes of it
        last = Failed(error)
    _put(taken, (number, last), stopped)


def _put(
    taken: "queue.Queue[tuple[int, _Item | Ended | Failed]]",
    entry: "tuple[int, _Item | Ended | Failed]",
    stopped: threading.Event,
) -> bool:
    """Put an entry into the queue as soon as there is room; return whether it was put before the stop."""
    while not stopped.is_set():
        try:
            taken.put(entry, timeout=_POLL_SECONDS)
        except queue.Full:
            continue
        return True
    return False
