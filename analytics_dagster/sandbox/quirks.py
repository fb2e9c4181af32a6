"""The ways in which the sandbox can deviate from the documented service, without an error status.

A quirk lasts until it is set back, and its replies look like any other. Faults, which spoil single replies, are in
`faults`. The quirks are carried out in `lists`, those of the `Date` header in `service`:

    sandbox.quirks.last_id = "ignored"
    sandbox.quirks.largest_limit = 100
"""

from dataclasses import dataclass
from typing import Literal, get_args

LastId = Literal["obeyed", "ignored", "seen ids only", "sometimes"]


@dataclass(slots=True)
class Quirks:
    """Deviations of the service, read at each request. The defaults are the documented service.

    "Every second" counts the requests to which the quirk applies: the first reply is right, the second one deviates.
    Durations are seconds of real time, whatever the sandbox's clock says.

    Attributes:
        deepest_page: Last numbered page that has rows; later ones are empty. Models a search engine's limit on paging
            depth. Requests that `lastId` decides have no limit.
        repeats_last_page: Whether a page number beyond the end returns the last page that has rows. Models a paginator
            that clamps the number. The reply names the page that was asked for.
        last_id: Effect of `lastId`. `ignored`: none, the page number decides; models a service or proxy that does not
            know the parameter. `seen ids only`: the list is empty below an id that no row has; models a cursor that
            looks up its row. `sometimes`: every second request with `lastId` is answered as if it had none; models two
            versions of the service behind one address.
        largest_limit: Largest number of rows in a reply of a list that takes `limit`; a larger limit is silently cut.
            Models a cap that the service does not document.
        sends_date: Whether replies have a `Date` header. Models a proxy that drops it.
        date_offset: Seconds by which `Date` is ahead of the service's clock. Models a wrong clock of a host.
        replica_lag: Seconds by which every second reply of occurrences is behind: it lacks the rows that arrived within
            them. Models reads from a replica of the database. Rows that were removed or planted are in step.
        cached_head: Seconds for which the body of page 1 is cached, by the parameters of its request. Models a cache
            inside the service: `Date` and the rate limit's headers are current. Requests with `lastId` are not cached.

    Raises:
        ValueError: `last_id` is set to anything else.
    """

    deepest_page: int | None = None
    repeats_last_page: bool = False
    last_id: LastId = "obeyed"
    largest_limit: int | None = None
    sends_date: bool = True
    date_offset: float = 0.0
    replica_lag: float = 0.0
    cached_head: float = 0.0

    def __setattr__(self, name: str, value: object) -> None:
        # A misspelt value would leave the service well-behaved, and a test without the quirk that it is about.
        if name == "last_id" and value not in get_args(LastId):
            raise ValueError(f"last_id must be one of {', '.join(get_args(LastId))}; not {value!r}")
        object.__setattr__(self, name, value)
