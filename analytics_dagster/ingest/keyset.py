"""Keyset pagination: chooses the requests that read a window by keys. Pure: no HTTP, no dlt; the time is an argument.

A request for the rows below a key returns the rows with the largest smaller keys. A reply therefore covers all keys
from its smallest one up to the requested one, whatever arrives, vanishes or moves meanwhile. A `KeysetPlan` keeps the
covered ranges of keys, requests the gaps, and cuts large gaps so that several requests are under way.

    plan = KeysetPlan(bounds, limit=20, grows=True, read_ahead=8)
    while not plan.done:
        request = plan.next_request(now)  # None: wait for a reply, or plan.seconds_to_wait(now)
        plan.take(request, rows, size=size, seconds=seconds, now=now)

Keys grow with time, but only approximately. The window's bounds become keys where a run of rows is older, or newer,
than the bound by a margin; cuts between requests are exact. An empty reply covers nothing: it hints that the list ends,
until two looks at its last rows, with a pause between, prove it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from analytics_dagster.ingest.known_keys import NO_KEY, KnownKeys
from analytics_dagster.ingest.lists import DISORDER_SECONDS, PAUSE, Bounds, UnsteadyListError

LARGEST_LIMIT = 1_000
LARGEST_REPLY = 2 * 2**20
"""Rows and bytes up to which a reply may grow."""

SLOW_REPLY = 5.0
"""Seconds after which a reply is too slow, so that the next ones are halved."""

_LATENCY = 0.03
"""Seconds of a reply above which all requests of `read_ahead` pay; below it two do: one is answered, one is read."""

_RUN = 20
"""Rows in a row that must be beyond a bound of the window, unless pages are smaller."""

_MOST_GUESSES = 20
_MOST_ATTEMPTS = 6
_KNOWN_LOW_KEYS = 10
Row = tuple[int | None, int | None]
"""Key and time of a row, in epoch seconds; None for a value that is not one."""


class NotObeyedError(Exception):
    """A reply holds keys that were not asked for: the service ignores the key."""


@dataclass(frozen=True)
class KeyRequest:
    """A request for the rows below a key.

    Attributes:
        below: The key; None for the newest rows.
        limit: Rows of the reply; None for the configured number.
        proof: Whether it only looks at the end of the list.
    """

    below: int | None
    limit: int | None
    proof: bool = False


class KeysetPlan:
    """The requests that read the rows of a window, and all rows with new keys.

    Args:
        bounds: The window, and the largest key that earlier loads covered.
        limit: Configured rows of a reply; None if the service has no such parameter.
        grows: Whether the limit may grow.
        read_ahead: Requests under way at a time.

    Attributes:
        ended: Whether the list was proven to end within the window.
        empty: Whether the list was proven to be empty.
        keys: What replies showed of the list's keys.
        seen_keys_only: Whether the service knows only keys of rows that exist, so that requests go one by one.
    """

    def __init__(self, bounds: Bounds, *, limit: int | None, grows: bool, read_ahead: int) -> None:
        self.ended = self.empty = self.seen_keys_only = False
        self.keys = KnownKeys(bounds, run=min(_RUN, limit or _RUN))
        self._bounds = bounds
        self._first_limit = limit
        self._limit = limit or _RUN
        self._grows = grows and limit is not None
        self._read_ahead = read_ahead
        self._latency = float("inf")
        self._covered: list[tuple[int, int]] = []
        """Ranges of keys, lowest first: from a key, up to but not including a key."""
        self._in_flight: list[KeyRequest] = []
        self._one_page = False
        """Whether the newest page was shorter than requested: the list seems to end on it."""
        self._full = False
        """Whether the reply with the lowest keys had as many rows as requested."""
        self._obeyed: bool | None = None
        self._seeking = bounds.end is not None
        self._older_below = 0
        """Largest key below which the first row is not newer than the window."""
        self._guesses = 0
        self._floor: int | None = None
        """Key below which a reply was empty."""
        self._low_keys: list[int] = []
        self._end_seen_at: float | None = None
        self._failed_proofs = 0
        self._attempts: dict[int | None, int] = {}
        self._not_before: dict[int | None, float] = {}

    # -- requests -----------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether everything is read, and the end of the list is proven where it was reached."""
        if self.empty:
            return True
        return bool(self._covered) and (self.keys.low is not None or self.ended) and not list(self._gaps())

    def next_request(self, now: float) -> KeyRequest | None:
        """Return the next request; None if there is none before the next reply, or before a pause has passed."""
        self._not_before = {key: due for key, due in self._not_before.items() if due > now}
        request = None if len(self._in_flight) >= self._width else self._choose(now)
        if request is not None:
            self._in_flight.append(request)
        return request

    def seconds_to_wait(self, now: float) -> float:
        """Return the seconds until a request is due that waits for a pause; 0 if none does."""
        return max(0.0, min(self._not_before.values(), default=now) - now)

    @property
    def _width(self) -> int:
        if self._obeyed is not True or self.seen_keys_only or self._seeking:
            return 1
        return self._read_ahead if self._latency > _LATENCY else min(2, self._read_ahead)

    def _choose(self, now: float) -> KeyRequest | None:
        if not self._covered:
            return self._due(KeyRequest(None, self._first_limit), now)
        if self.done:
            return None
        if self._obeyed is None:
            probe = self._probe()
            rows = (probe - self._estimated_bottom(0, probe)) / self.keys.per_row * 1.5 + 2 * _RUN
            return self._due(KeyRequest(probe, self._sized(rows)), now)
        if self._seeking and (guess := self._guess()) is not None:
            return self._due(KeyRequest(guess, self._first_limit), now)
        self._seeking = False
        gaps = list(self._gaps())
        if self._bounds.start is None and self._end_seen_at is None:
            if due := self._due(self._seek_end(gaps[-1]), now):
                return due
            gaps.reverse()
        for bottom, top in gaps:
            if bottom == 0 and self._floor is not None and self._floor >= top:
                request = self._prove_end()
            else:
                low = max((bottom, self._floor or 0, *self._tops(bottom, top)))
                rows = (top - low) / self.keys.per_row * 1.1 + _RUN if low else LARGEST_LIMIT
                request = KeyRequest(top, self._sized(rows))
            if due := self._due(request, now):
                return due
        return self._due(self._cut(gaps), now)

    def _due(self, request: KeyRequest | None, now: float) -> KeyRequest | None:
        if request is None or any(request.below == other.below for other in self._in_flight):
            return None
        return None if request.below in self._not_before else request

    def _tops(self, bottom: int, top: int) -> list[int]:
        """Return the keys of the requests that are under way within a gap, lowest first."""
        keys = (request.below for request in self._in_flight if not request.proof)
        return sorted(key for key in keys if key is not None and bottom < key < top)

    def _sized(self, rows: float) -> int | None:
        """Return the limit of a request that is likely to find so many rows."""
        if not self._grows:
            return self._first_limit
        return int(max(self._first_limit or 1, min(self._limit, rows)))

    def _probe(self) -> int:
        """Return a key for the first request below a key: one that no row has, if the newest page has room for one."""
        keys = self._low_keys
        free = next((low + 1 for low, high in pairwise(keys) if high - low > 1), None)
        return keys[0] if free is None or self.seen_keys_only else free

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges of keys that are still to be read, highest first; one from 0 has an unknown end."""
        bottom = self.keys.low if self.keys.low is not None else (self._low_keys[0] if self.ended else 0)
        top = self.keys.high
        for low, high in reversed(self._covered):
            if high < top and max(high, bottom) < top:
                yield max(high, bottom), top
            top = min(top, low)
        if bottom < top:
            yield bottom, top

    def _cut(self, gaps: Sequence[tuple[int, int]]) -> KeyRequest | None:
        """Return a request in the middle of the largest part of the gaps; None if all parts are small."""
        reply = self._limit * self.keys.per_row
        best: tuple[float, int] | None = None
        for bottom, top in gaps:
            if not (bottom or self._floor or self._bounds.start or self._full):
                continue  # a short reply may be the end: look there before guessing further down
            tops = self._tops(bottom, top)
            for low, high in zip((self._estimated_bottom(bottom, top), *tops), (*tops, top), strict=True):
                # `high` is under way, or is the top of a gap that waits for a pause.
                rest = high - reply - low
                if rest > reply and (best is None or rest > best[0]):
                    best = (rest, low + int(rest / 2))
        return KeyRequest(best[1], self._sized(self._limit)) if best else None

    def _estimated_bottom(self, bottom: int, top: int) -> int:
        """Return the likely end of a gap whose bottom is unknown."""
        if bottom:
            return bottom
        if self._floor is not None:
            return self._floor
        if self._bounds.start is not None:
            return self.keys.estimate(self._bounds.start - DISORDER_SECONDS)
        ahead = 2 * self._read_ahead * self._limit * self.keys.per_row
        return max(1, int(top - max(ahead, self.keys.highest - top)))

    # -- the list's end, if it is wanted ------------------------------------------------------------------

    def _seek_end(self, gap: tuple[int, int]) -> KeyRequest | None:
        """Return a small request that looks for the list's end below the lowest known row; None if it is near.

        The end is read early, so that the pause before its proof overlaps with reading.
        """
        bottom, top = gap
        looking = self._tops(0, top) or not self._full  # a short reply may be the end
        if bottom or looking or self.seen_keys_only or self._guesses >= _MOST_GUESSES:
            return None
        reply = int(self._limit * self.keys.per_row)
        if self._floor is not None and top - self._floor <= reply:
            return None
        deeper = top - 4 * max(reply, self.keys.highest - top)
        key = deeper if self._floor is None else (self._floor + top) // 2
        if key <= 0:
            return None
        self._guesses += 1
        return KeyRequest(key, self._first_limit)

    # -- the window's end ---------------------------------------------------------------------------------

    def _guess(self) -> int | None:
        """Return a key to look for the window's end; None if the known bound is near enough."""
        assert self._bounds.end is not None
        if self.keys.nearest_newer is None or self.seen_keys_only or self._guesses >= _MOST_GUESSES:
            return None
        key, time = self.keys.nearest_newer
        low = max(self.keys.nearest_older, self._older_below, self._floor or 0)
        wanted = self.keys.estimate(self._bounds.end + DISORDER_SECONDS)
        if wanted <= low:
            wanted = (low + key) // 2
        enough = max(self._limit, _RUN) * self.keys.per_row / 2
        if time <= self._bounds.end + 2 * DISORDER_SECONDS or key - max(wanted, low) <= enough:
            return None
        self._guesses += 1
        guess = wanted + int(2 * _RUN * self.keys.per_row)
        if self._guesses % 3 == 0 and low:
            guess = (key + low) // 2
        guess = min(max(guess, low + 1), key - 1)
        return guess if guess > 0 else None

    # -- replies ------------------------------------------------------------------------------------------

    def take(
        self, request: KeyRequest, rows: Sequence[Row], *, size: int, seconds: float, now: float
    ) -> Sequence[bool]:
        """Take the reply to a request, and return for each row whether no earlier reply covered it.

        Args:
            request: The request.
            rows: Key and time of the rows, in any order.
            size: Bytes of the reply.
            seconds: Duration of the request.
            now: The time of any clock that does not go back, in seconds.

        Raises:
            NotObeyedError: The reply holds keys that were not asked for, or no keys at all.
            UnsteadyListError: The reply is empty for the last time that this is tolerated.
        """
        self._in_flight.remove(request)
        below = NO_KEY if request.below is None else request.below
        keyed = sorted(((key, time) for key, time in rows if key is not None), reverse=True)
        if (rows and not keyed) or (keyed and keyed[0][0] >= below):
            raise NotObeyedError
        self._latency = min(self._latency, seconds)
        if not keyed:
            self._take_empty(request, now)
            return ()
        self._attempts.pop(request.below, None)
        self._learn(request, keyed, size, seconds)
        if self._seeking and request.below is not None and keyed[0][0] <= self.keys.nearest_older:
            self._older_below = max(self._older_below, request.below)
        if self._floor is not None and keyed[-1][0] < self._floor:
            self._floor = None
        lowest = self._low_keys[0] if self._low_keys else NO_KEY
        if keyed[-1][0] <= lowest and not request.proof:
            self._full = len(keyed) >= (request.limit or _RUN)
            self._one_page = request.below is None and not self._full
        if request.proof:
            self._take_proof(keyed, lowest, now)
        new = [not (request.proof if key is None else self._is_covered(key)) for key, _ in rows]
        self._cover(keyed[-1][0], below)
        self._low_keys = sorted({*self._low_keys, *(key for key, _ in keyed[-_KNOWN_LOW_KEYS:])})[:_KNOWN_LOW_KEYS]
        if request.below is not None and self._obeyed is None:
            self._obeyed = True
        return new

    def _learn(self, request: KeyRequest, keyed: Sequence[tuple[int, int | None]], size: int, seconds: float) -> None:
        """Learn from a reply its keys, and how many rows the next ones may have."""
        self.keys.learn(keyed)
        asked = request.limit or 0
        if self._grows and not request.proof:
            fitting = LARGEST_REPLY * len(keyed) // max(size, 1)
            self._limit = max(self._first_limit or 1, min(LARGEST_LIMIT, fitting))
            if asked > len(keyed) >= 100 and request.below not in self._attempts:  # noqa: PLR2004 - a cut limit is round
                self._limit = min(self._limit, max(len(keyed), self._first_limit or 1))
            if seconds > SLOW_REPLY:
                self._limit = max(self._first_limit or 1, asked // 2)

    def _is_covered(self, key: int) -> bool:
        return any(low <= key < high for low, high in self._covered)

    def _cover(self, low: int, high: int) -> None:
        """Add a range of keys to those that are covered."""
        apart = []
        for other_low, other_high in self._covered:
            if other_high < low or other_low > high:
                apart.append((other_low, other_high))
            else:
                low, high = min(low, other_low), max(high, other_high)
        self._covered = sorted([*apart, (low, high)])

    # -- empty replies and the end ------------------------------------------------------------------------

    def _take_empty(self, request: KeyRequest, now: float) -> None:
        below = request.below
        attempts = self._attempts[below] = self._attempts.get(below, 0) + 1
        if below is None:
            if not request.proof:
                self.empty = attempts > 1
            self.ended = request.proof and attempts > 1
            self._not_before[None] = now + PAUSE
            return
        lowest = self._low_keys[0]
        if request.proof or lowest < below:
            # Rows below this key are known: the service lists nothing for a moment, or knows only keys of rows.
            if self._obeyed is None and below not in self._low_keys and attempts > 1:
                self.seen_keys_only = True
                return
            if max(attempts, self._failed_proofs) >= _MOST_ATTEMPTS:
                raise UnsteadyListError
            self._failed_proofs += request.proof
            if self._failed_proofs > 1 and not self.seen_keys_only:
                # Perhaps no row has this key, and the service knows keys of rows only: then no hint counts either.
                self.seen_keys_only, self._floor = True, None
            self._end_seen_at = None
            self._not_before[self._proof_key if request.proof else below] = now + PAUSE
        else:
            self._obeyed = True if self._obeyed is None else self._obeyed
            self._floor = below if self._floor is None else max(self._floor, below)

    def _prove_end(self) -> KeyRequest:
        """Return a request that finds known rows at the end of the list, and none below them."""
        limit = self._first_limit and max(self._first_limit, 2 * _KNOWN_LOW_KEYS)
        return KeyRequest(self._proof_key, limit, proof=True)

    @property
    def _proof_key(self) -> int | None:
        """The key that the proof requests; None for the newest page, if the list is shorter than it."""
        if self._one_page:
            return None
        # A row may have been deleted: then another one shows the end.
        keys = self._low_keys[1:] or self._low_keys
        return keys[-1 - self._failed_proofs % len(keys)] + (not self.seen_keys_only)

    def _take_proof(self, keyed: Sequence[tuple[int, int | None]], lowest: int, now: float) -> None:
        if keyed[-1][0] < lowest:
            self._floor = self._end_seen_at = None  # the list goes on
        elif not {key for key, _ in keyed} & set(self._low_keys):
            self._end_seen_at, self._one_page = None, False
            self._not_before[self._proof_key] = now + PAUSE
        elif self._end_seen_at is None:
            self._end_seen_at = now
            self._not_before[self._proof_key] = now + PAUSE
        elif now - self._end_seen_at >= PAUSE:
            self.ended = True
