"""The messages that wait to be posted, oldest first. Pure.

    outbox = outbox.add(texts)
    if outbox and posted(outbox.next_post()):
        outbox = outbox.without_next_post()

One post a tick, because chat services limit their rate: it has as many messages as fit, a line each. A post that fails
is made again at the next tick, so messages keep their order, and a receiver that was down gets them later. The outbox
is a part of the sensor's cursor, which Dagster stores with each tick, so it is bounded.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

POST_LENGTH = 4_000
"""Characters of a post: a length that chat services show as one message."""

OUTBOX_LENGTH = 40_000
"""Characters that wait: more than all checks of ten assets, failing at once, take."""


@dataclass(frozen=True)
class Outbox:
    """Messages that wait.

    Attributes:
        waiting: Messages of one line each, oldest first.
        dropped: Messages that were dropped since the last post, because others had to wait.
    """

    waiting: tuple[str, ...] = ()
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, texts: Iterable[str]) -> "Outbox":
        """Return the outbox with more messages. Beyond its bound the oldest are dropped: the newest tell what is."""
        waiting = (*self.waiting, *texts)
        kept = _count_within(OUTBOX_LENGTH, reversed(waiting))
        return Outbox(waiting[len(waiting) - kept :], self.dropped + len(waiting) - kept)

    def next_post(self) -> str:
        """Return the text of the next post: the oldest messages, after a sentence about those that were dropped."""
        lines = self.waiting[: self._posted_next()]
        if self.dropped:
            lost = "1 older message was" if self.dropped == 1 else f"{self.dropped} older messages were"
            lines = (f"{lost} dropped, because alerts could not be posted. See the runs and checks in the UI.", *lines)
        return "\n".join(lines)

    def without_next_post(self) -> "Outbox":
        """Return the outbox after its next post was posted."""
        return Outbox(self.waiting[self._posted_next() :])

    def _posted_next(self) -> int:
        return max(1, _count_within(POST_LENGTH, self.waiting))


def _count_within(length: int, texts: Iterable[str]) -> int:
    """Return how many of the first texts have at most some characters in all, line ends included."""
    return sum(total <= length for total in accumulate(len(text) + 1 for text in texts))
