"""The sandbox's interface for its users: start and stop it, read and change its rows, queue faults, set quirks.

Requests are answered in `service`.
"""

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from analytics_dagster.sandbox.access import Keys, RateLimit
from analytics_dagster.sandbox.model import Deploy, noise
from analytics_dagster.sandbox.payload import SECRET_MARKER, Row
from analytics_dagster.sandbox.quirks import Quirks
from analytics_dagster.sandbox.routes import routes
from analytics_dagster.sandbox.server import Server
from analytics_dagster.sandbox.service import RecordedRequest, Service
from analytics_dagster.sandbox.store import Store

# Marked like every secret in the rows, so that a search for leaks finds them too.
PROJECT_KEY = f"{SECRET_MARKER}project-key"
ACCOUNT_KEY = f"{SECRET_MARKER}account-key"


class Sandbox:
    """An embedded stand-in for the analytics API on a loopback port.

    The rows are a pure function of `seed` and the clock. They reach from midnight (UTC) `history_days` ago to now.
    Nothing runs before `start`.

    Args:
        seed: Seeds everything that happens at the service.
        clock: Returns epoch seconds; the rate limit uses it as well.
        port: TCP port; 0 takes a free one.
        history_days: Full days before today.
        header: Name of the header that carries the key.
        project_key: Key to the project's seven resources.
        account_key: Key to projects, teams and users.
        paths: Paths that differ from the default, by resource, such as `{"occurrences": "/api/1/instances"}`.
        rate_limit: Calls that a key may make in a window.
        rate_window: Length of the fixed window, in seconds.
        team_page_size: Rows per page of teams.
        jobs_as_list: Whether the result of rql_jobs is the bare list.

    Attributes:
        clock_offset: Seconds to add to the clock.

    Raises:
        ValueError: `paths` names an unknown resource.
    """

    def __init__(  # noqa: PLR0913 (each is a setting of the service)
        self,
        *,
        seed: int = 7,
        clock: Callable[[], float] = time.time,
        port: int = 0,
        history_days: int = 21,
        header: str = "api_key",
        project_key: str = PROJECT_KEY,
        account_key: str = ACCOUNT_KEY,
        paths: Mapping[str, str] | None = None,
        rate_limit: int = 5_000,
        rate_window: int = 60,
        team_page_size: int = 20,
        jobs_as_list: bool = False,
    ) -> None:

        self._clock = clock
        self.clock_offset = 0.0
        self._port = port
        self._server: Server | None = None
        self._service = Service(
            store=Store(seed, history_days),
            routes=routes(paths or {}, team_page_size, jobs_as_list=jobs_as_list),
            header=header,
            keys=Keys(project_key, account_key),
            rate=RateLimit(rate_limit, rate_window),
            now=lambda: self.now,
        )

    def start(self) -> Self:
        """Build the history and serve it. Does nothing while the sandbox runs."""
        if self._server is None:
            # Opening the store builds the history; in the first request that would look like a slow service.
            with self._service.open_store():
                self._server = Server(self._port, self._service.answer)
        return self

    def stop(self) -> None:
        """Close the port and every connection. Does nothing unless the sandbox runs."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash. Raises RuntimeError unless the sandbox runs."""
        if self._server is None:
            raise RuntimeError("the sandbox is not running: start() it")
        return self._server.url

    @property
    def now(self) -> int:
        """The service's time in epoch seconds: the clock plus `clock_offset`."""
        return int(self._clock() + self.clock_offset)

    # Rows

    def texts(self, resource: str) -> list[str]:
        """Return the rows that the service has now, in served order, as the JSON text that it sends."""
        with self._service.open_store() as store:
            return [served.text for served in store.table(resource)]

    def rows(self, resource: str) -> list[Any]:
        """Return the rows that the service has now, in served order. Planted rows may be any JSON value."""
        return [json.loads(text) for text in self.texts(resource)]

    def add_deploy(  # noqa: PLR0913 (the fields of a deploy)
        self,
        *,
        environment: str = "production",
        revision: str | None = None,
        start_time: int | None = None,
        status: str | None = None,
        finish_time: int | None = None,
        settles_after: int | None = 300,
        local_username: str | None = None,
        user_id: int | None = None,
        comment: str | None = None,
    ) -> Row:
        """Start a deploy and return its row.

        Args:
            environment: Environment that is deployed to.
            revision: Revision that is deployed; by default made up.
            start_time: Start, in epoch seconds; by default now.
            status: Status from `finish_time` on. By default, or with `started`, the deploy runs until it succeeds.
            finish_time: End, in epoch seconds. By default `start_time` if a status is given; otherwise
                `settles_after` decides.
            settles_after: Seconds until the deploy succeeds; None: it never settles.
            local_username: Name of the user at the deploying machine.
            user_id: Id of the user who deployed.
            comment: Comment on the deploy.
        """
        with self._service.open_store() as store:
            start = store.now if start_time is None else start_time
            outcome = None if status == "started" else status
            if finish_time is None and outcome is not None:
                finish_time = start
            elif finish_time is None and settles_after is not None:
                finish_time = start + settles_after
            deploy = Deploy(
                id=0,
                environment=environment,
                revision=revision or f"{noise(start, len(store.table('deploys'))):016x}",
                start=start,
                finish=finish_time,
                outcome=outcome or "succeeded",
                local_username=local_username,
                user_id=user_id,
                comment=comment,
            )
            return store.add_deploy(deploy)

    def add_occurrences(
        self, count: int, *, at: int | None = None, item_id: int | None = None, id_at: int | None = None
    ) -> list[Row]:
        """Receive occurrences and return their rows. Their items move to the head of `items`.

        Args:
            count: Occurrences to receive.
            at: Their `timestamp`, in epoch seconds; by default now.
            item_id: Item that they belong to; by default many items.
            id_at: Epoch seconds that their ids are made from; by default `at`. The list is ordered by id, so this
                decides the rows' place: with a later `id_at` old rows are at the head, with an earlier one new rows are
                deep in the list.

        Raises:
            KeyError: No item has that id.
        """
        with self._service.open_store() as store:
            at = store.now if at is None else at
            return store.add_occurrences(count, at, item_id, at if id_at is None else id_at)

    def plant(self, resource: str, row: object) -> None:
        """Add any row as it is: a JSON value, or JSON text, which is served character by character.

        Text may hold NaN and lone surrogates. The field that orders the list decides the row's place; a row without a
        number there goes to the head.
        """
        with self._service.open_store() as store:
            store.plant(resource, row)

    def remove(self, resource: str, row_id: object) -> None:
        """Remove a row. Raises KeyError if there is none of that id."""
        with self._service.open_store() as store:
            store.remove(resource, row_id)

    def update(self, resource: str, row_id: object, /, **fields: object) -> None:
        """Change fields of a row, as a person does. The values stay, even if later events would change them.

        Raises:
            KeyError: No row has that id.
        """
        with self._service.open_store() as store:
            store.update(resource, row_id, fields)

    # Faults

    def fail_next(
        self, kind: str, *, resource: str | None = None, times: int = 1, after: int = 0, **options: object
    ) -> None:
        """Queue a fault, which changes the next `times` replies after the next `after` ones.

        Kinds and their options: `status` (status=503, headers=True, remaining_seconds=None), `err` (status=200,
        message, echo_key=False), `html`, `broken_json`, `null_result`, `empty`, `reset`, `truncate`, `slow`
        (seconds=1.0), `redirect` (location="/login", status=302), `gzip`.

        Args:
            kind: Kind of the fault.
            resource: Resource whose replies count; None counts all.
            times: Replies to change.
            after: Replies to leave as they are before.
            **options: Options of the kind.

        Raises:
            ValueError: There is no such kind or resource, or a number is out of range.
            TypeError: The kind has no such option.
        """
        self._service.fail_next(kind, resource, times, after, options)

    def clear_faults(self) -> None:
        """Clear the queued faults."""
        self._service.clear_faults()

    # Quirks

    @property
    def quirks(self) -> Quirks:
        """Deviations from the documented service, read at each request. Set its fields."""
        return self._service.quirks

    def go_empty(self, seconds: float) -> None:
        """Answer every request with an empty list and status 200, for `seconds` of real time from now on.

        Models a service whose search index is being rebuilt. `total_count` of items is 0 as well.
        """
        self._service.go_empty(seconds)

    # Requests

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, oldest first. Clear the list to forget them."""
        return self._service.requests

    @property
    def before_reply(self) -> Callable[[str, int | None], object] | None:
        """A hook that is called with the resource and page of each request, before its reply is made.

        The page is None for resources without pages. The hook runs in the server's thread and may call every method
        of the sandbox.
        """
        return self._service.before_reply

    @before_reply.setter
    def before_reply(self, hook: Callable[[str, int | None], object] | None) -> None:
        self._service.before_reply = hook
