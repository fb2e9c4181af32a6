"""The interface to the rows of one project: read and change them.

    sandbox.project("mobile").add_occurrences(3)

How the rows are kept is in `store`.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from analytics_dagster.sandbox.model import Deploy, noise
from analytics_dagster.sandbox.payload import Row
from analytics_dagster.sandbox.store import Store


class ProjectRows:
    """Reads and changes the rows of a project. Projects, teams and users are the account's: all projects share them.

    Args:
        open_store: Opens the project's store as of now, for exclusive use.
    """

    def __init__(self, open_store: Callable[[], AbstractContextManager[Store]]) -> None:
        self._open_store = open_store

    def texts(self, resource: str) -> list[str]:
        """Return the rows that the project has now, in served order, as the JSON text that it sends."""
        with self._open_store() as store:
            return [served.text for served in store.table(resource)]

    def rows(self, resource: str) -> list[Any]:
        """Return the rows that the project has now, in served order. Planted rows may be any JSON value."""
        return [json.loads(text) for text in self.texts(resource)]

    def deploys(self) -> list[Deploy]:
        """Return the deploys of the rows with the truth about their effect, which no row tells.

        Oldest first, added ones last. Rows that were planted, removed or updated make no difference.
        """
        with self._open_store() as store:
            return store.deploys()

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
        with self._open_store() as store:
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
        with self._open_store() as store:
            at = store.now if at is None else at
            return store.add_occurrences(count, at, item_id, at if id_at is None else id_at)

    def plant(self, resource: str, row: object) -> None:
        """Add any row as it is: a JSON value, or JSON text, which is served character by character.

        Text may hold NaN and lone surrogates. The field that orders the list decides the row's place; a row without a
        number there goes to the head.
        """
        with self._open_store() as store:
            store.plant(resource, row)

    def remove(self, resource: str, row_id: object) -> None:
        """Remove a row. Raises KeyError if there is none of that id."""
        with self._open_store() as store:
            store.remove(resource, row_id)

    def update(self, resource: str, row_id: object, /, **fields: object) -> None:
        """Change fields of a row, as a person does. The values stay, even if later events would change them.

        Raises:
            KeyError: No row has that id.
        """
        with self._open_store() as store:
            store.update(resource, row_id, fields)
