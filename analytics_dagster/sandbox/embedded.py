"""The sandbox as its users hold it: started and stopped, asked what it holds, and steered.

How requests are answered is in `service`.
"""

import json
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from analytics_dagster.sandbox.access import Keys, RateLimit
from analytics_dagster.sandbox.model import Deploy, noise
from analytics_dagster.sandbox.payload import SECRET_MARKER, Row
from analytics_dagster.sandbox.routes import routes
from analytics_dagster.sandbox.server import Server
from analytics_dagster.sandbox.service import RecordedRequest, Service
from analytics_dagster.sandbox.store import Store

# Marked like every secret in the rows, so that the search for leaks finds them too.
PROJECT_KEY = f"{SECRET_MARKER}project-key"
ACCOUNT_KEY = f"{SECRET_MARKER}account-key"


class Sandbox:
    """An embedded stand-in for the analytics API on a loopback port.

    The rows are a pure function of `seed` and the clock: from midnight (UTC) `history_days` ago to now.

    Args:
        seed: chooses the world.
        clock: epoch seconds; the rate limit goes by it as well.
        port: 0 takes a free one.
        history_days: full days before today.
        header: the name of the header that carries the key.
        project_key: opens the first seven resources.
        account_key: opens projects, teams and users.
        paths: other paths for resources, such as `{"occurrences": "/api/1/instances"}`.
        rate_limit: calls of one key in a window.
        rate_window: length of the fixed window, in seconds.
        team_page_size: rows of a page of teams.
        jobs_as_list: the result of rql_jobs is the bare list.
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
        """Prepare; nothing runs before `start`."""
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
        """Build the history and serve it."""
        if self._server is None:
            # The history is built here, not in the first request: that would look like a slow service.
            with self._service.present():
                self._server = Server(self._port, self._service.answer)
        return self

    def stop(self) -> None:
        """Close the port and every connection. Does nothing where nothing runs."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        if self._server is None:
            raise RuntimeError("the sandbox is not running: start() it")
        return self._server.url

    @property
    def now(self) -> int:
        """The service's present, in epoch seconds: the clock with `clock_offset`."""
        return int(self._clock() + self.clock_offset)

    # What it holds

    def texts(self, resource: str) -> list[str]:
        """The rows the service has now, in served order, as the JSON text that it sends."""
        with self._service.present() as store:
            return [served.text for served in store.table(resource)]

    def rows(self, resource: str) -> list[Any]:
        """The rows the service has now, in served order: objects, but for what was planted otherwise."""
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
        """Start a deploy, by default now; returns its row.

        Without a `status`, or with `started`, it succeeds `settles_after` seconds later (None: never). With
        another, it has that status from `finish_time` on (by default from its start).
        """
        with self._service.present() as store:
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

    def add_occurrences(self, count: int, *, at: int | None = None, item_id: int | None = None) -> list[Row]:
        """Receive `count` errors of many items, or of one: these move to the head of `items`."""
        with self._service.present() as store:
            return store.add_occurrences(count, store.now if at is None else at, item_id)

    def plant(self, resource: str, row: object) -> None:
        """Add any row as it is: a JSON value, or text, served letter by letter (NaN, lone surrogates).

        It stands where the field that orders the list puts it; at the head, if that is no number.
        """
        with self._service.present() as store:
            store.plant(resource, row)

    def remove(self, resource: str, row_id: object) -> None:
        """Let a row vanish."""
        with self._service.present() as store:
            store.remove(resource, row_id)

    def update(self, resource: str, row_id: object, /, **fields: object) -> None:
        """Change a row as a person would; the values stay, whatever happens to it later."""
        with self._service.present() as store:
            store.update(resource, row_id, fields)

    # How it misbehaves

    def fail_next(
        self, kind: str, *, resource: str | None = None, times: int = 1, after: int = 0, **options: object
    ) -> None:
        """Spoil the next `times` replies, of `resource` or of any, once `after` of them have passed.

        Kinds and options: `status` (status=503, headers=True, remaining_seconds=None), `err` (status=200,
        message, echo_key=False), `html`, `broken_json`, `null_result`, `empty`, `reset`, `truncate`, `slow`
        (seconds=1.0), `redirect` (location="/login", status=302), `gzip`.
        """
        self._service.fail_next(kind, resource, times, after, options)

    def clear_faults(self) -> None:
        """Behave again."""
        self._service.clear_faults()

    # What it was asked

    @property
    def requests(self) -> list[RecordedRequest]:
        """The requests so far, oldest first; the list itself, so clearing it forgets them."""
        return self._service.requests

    @property
    def before_reply(self) -> Callable[[str, int | None], object] | None:
        """Called with resource and page of each request before its reply is made.

        The page is None for unpaged resources. It runs in the server's thread and may use every method here.
        """
        return self._service.before_reply

    @before_reply.setter
    def before_reply(self, hook: Callable[[str, int | None], object] | None) -> None:
        self._service.before_reply = hook
