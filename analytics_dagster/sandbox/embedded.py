"""The sandbox's interface for its users: start and stop it, queue faults, set quirks, refuse keys.

The interface to its rows is in `project_rows`. Requests are answered in `service`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from analytics_dagster.sandbox.access import Keys, RateLimit
from analytics_dagster.sandbox.account import Account
from analytics_dagster.sandbox.payload import SECRET_MARKER
from analytics_dagster.sandbox.project import SandboxProject
from analytics_dagster.sandbox.project_rows import ProjectRows
from analytics_dagster.sandbox.quirks import Quirks
from analytics_dagster.sandbox.routes import routes
from analytics_dagster.sandbox.server import Server
from analytics_dagster.sandbox.service import RecordedRequest, Service
from analytics_dagster.sandbox.store import Store

# Marked like every secret in the rows, so that a search for leaks finds them too.
PROJECT_KEY = f"{SECRET_MARKER}project-key"
ACCOUNT_KEY = f"{SECRET_MARKER}account-key"


class Sandbox(ProjectRows):
    """An embedded stand-in for the analytics API on a loopback port.

    The rows of a project are a pure function of its seed and the clock. They reach from midnight (UTC) `history_days`
    ago to now. The inherited methods read and change the rows of the first project, `project` gives those of another.
    Nothing runs before `start`.

    Args:
        projects: The projects, at least one; by default a single one, `storefront`, with `seed` and `project_key`.
        seed: Seeds everything that happens in the default project.
        clock: Returns epoch seconds; the rate limit uses it as well.
        port: TCP port; 0 takes a free one.
        history_days: Full days before today.
        header: Name of the header that carries the key.
        project_key: Key to the seven resources of the default project.
        account_key: Key to projects, teams and users.
        paths: Paths that differ from the default, by resource, such as `{"occurrences": "/api/1/instances"}`.
        rate_limit: Calls that a key may make in a window.
        rate_window: Length of the fixed window, in seconds.
        team_page_size: Rows per page of teams.
        jobs_as_list: Whether the result of rql_jobs is the bare list.

    Attributes:
        clock_offset: Seconds to add to the clock.

    Raises:
        ValueError: `paths` names an unknown resource, or two projects have the same name, id or key.
    """

    def __init__(  # noqa: PLR0913 (each is a setting of the service)
        self,
        *,
        projects: Sequence[SandboxProject] = (),
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

        projects = projects or [SandboxProject(name="storefront", id=1001, key=project_key, seed=seed)]
        account = Account(projects)
        self._clock = clock
        self.clock_offset = 0.0
        self._port = port
        self._server: Server | None = None
        self._service = Service(
            stores=[Store(project, account, history_days) for project in projects],
            routes=routes(paths or {}, team_page_size, jobs_as_list=jobs_as_list),
            header=header,
            keys=Keys(projects, account_key),
            rate=RateLimit(rate_limit, rate_window),
            now=lambda: self.now,
        )
        self._names = [project.name for project in projects]
        super().__init__(partial(self._service.open_store, self._names[0]))

    def start(self) -> Self:
        """Build the history and serve it. Does nothing while the sandbox runs."""
        if self._server is None:
            # Opening a store builds its history; in the first request that would look like a slow service.
            for name in self._names:
                with self._service.open_store(name):
                    pass
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

    # Projects

    def project(self, name: str) -> ProjectRows:
        """Return the interface to the rows of a project. Raises ValueError if there is none of that name."""
        self._service.require_project(name)
        return ProjectRows(partial(self._service.open_store, name))

    def refuse(self, project: str) -> None:
        """Refuse the key of a project with 403, until `admit`. Raises ValueError if there is no such project."""
        self._service.refuse(project)

    def admit(self, project: str) -> None:
        """Accept the key of a project again. Raises ValueError if there is no such project."""
        self._service.admit(project)

    # Faults

    def fail_next(
        self,
        kind: str,
        *,
        resource: str | None = None,
        project: str | None = None,
        times: int = 1,
        after: int = 0,
        **options: object,
    ) -> None:
        """Queue a fault, which changes the next `times` replies after the next `after` ones.

        Kinds and their options: `status` (status=503, headers=True, remaining_seconds=None), `err` (status=200,
        message, echo_key=False), `html`, `broken_json`, `null_result`, `empty`, `reset`, `truncate`, `slow`
        (seconds=1.0), `redirect` (location="/login", status=302), `gzip`.

        Args:
            kind: Kind of the fault.
            resource: Resource whose replies count; None counts all.
            project: Name of the project to whose key the replies are; None counts all.
            times: Replies to change.
            after: Replies to leave as they are before.
            **options: Options of the kind.

        Raises:
            ValueError: There is no such kind, resource or project, or a number is out of range.
            TypeError: The kind has no such option.
        """
        self._service.fail_next(kind, resource=resource, project=project, times=times, after=after, options=options)

    def clear_faults(self) -> None:
        """Clear the queued faults."""
        self._service.clear_faults()

    # Quirks

    @property
    def quirks(self) -> Quirks:
        """Deviations from the documented service, read at each request. Set its fields."""
        return self._service.quirks

    def go_empty(self, seconds: float, *, project: str | None = None) -> None:
        """Answer every request with an empty list and status 200, for `seconds` of real time from now on.

        Models a service whose search index is being rebuilt. `total_count` of items is 0 as well.

        Args:
            seconds: Duration.
            project: Name of the project whose requests count; None counts all.

        Raises:
            ValueError: There is no such project.
        """
        self._service.go_empty(seconds, project)

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
