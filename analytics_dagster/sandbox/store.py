"""The rows of a project at a second: the world's events up to `now`, with the changes that tests made.

`world` is a pure function; `changes` are kept while the clock advances. The store merges both into lists.
"""

import math
import time
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from itertools import takewhile

from analytics_dagster.sandbox import rows
from analytics_dagster.sandbox.account import ACCOUNT_RESOURCES, Account
from analytics_dagster.sandbox.changes import BY_RANK, RESOURCES, Changes, ServedRow, rank_of
from analytics_dagster.sandbox.messages import to_json
from analytics_dagster.sandbox.model import (
    DAY,
    FIRST_ADDED_DEPLOY,
    FIRST_ADDED_OCCURRENCE,
    Deploy,
    Job,
    Occurrence,
    code_version,
    noise,
)
from analytics_dagster.sandbox.payload import Row, occurrence_row
from analytics_dagster.sandbox.project import SandboxProject, second_of
from analytics_dagster.sandbox.world import World

_TOP = 10


def _key(entry: Occurrence | ServedRow) -> object:
    return entry.key if isinstance(entry, ServedRow) else entry.id


class Store:
    """The rows of a project at `now`, and the account's. Not thread-safe: the service holds a lock.

    Args:
        project: The project.
        account: The account's rows, which the stores of all projects share.
        history_days: Full days of history before the last midnight (UTC).

    Attributes:
        project: The project.
        now: Epoch seconds; `advance` sets it.
    """

    def __init__(self, project: SandboxProject, account: Account, history_days: int) -> None:
        self.project = project
        self._account = account
        self._world = World(project)
        self._history_days = history_days
        self._changes = {
            resource: account.changes(resource) if resource in ACCOUNT_RESOURCES else Changes(resource)
            for resource in RESOURCES
        }
        self._added: dict[int, Occurrence] = {}  # by id
        self._next_ids: dict[int, int] = {}  # by second
        self._added_deploys: list[Deploy] = []
        self.now = -1
        self._days: dict[int, list[Occurrence]] = {}
        self._deploys: list[Deploy] = []
        self._jobs: list[Job] = []
        self._upcoming: list[Occurrence] = []  # the rest of today, the next one last
        # Ordered by the entries' first field: the id of an occurrence, the rank of a planted row.
        self._received: list[Occurrence | ServedRow] = []
        self._by_item: dict[int, list[Occurrence]] = {}  # by counter
        # When occurrences were received (time.monotonic()), and their ids, latest last. The history is not in it.
        self._arrivals: list[tuple[float, int]] = []
        self._texts: dict[int, str] = {}
        self._tables: dict[str, list[ServedRow]] = {}

    def advance(self, now: int) -> None:
        """Move to `now` (epoch seconds): rows appear, and at midnight the oldest day disappears."""
        if now == self.now:
            return
        before, self.now = self.now, now
        self._tables.clear()
        if now < before or now // DAY != before // DAY:
            self._rebuild()
        while self._upcoming and second_of(self._upcoming[-1].id) <= now:
            self._receive(self._upcoming.pop())

    def _rebuild(self) -> None:
        today = self.now // DAY
        days = range(today - self._history_days, today + 1)
        self._days = {day: self._days.get(day) or self._world.occurrences(day) for day in days}
        self._deploys = [deploy for day in days for deploy in self._world.deploys(day)]
        self._jobs = [job for day in days for job in self._world.jobs(day)]
        changes = self._changes["occurrences"]
        happened = [o for day in days for o in self._days[day] if o.id not in changes.removed]
        cut = bisect_right(happened, self.project.occurrence_id(self.now, 99), key=BY_RANK)
        self._upcoming = happened[cut:][::-1]
        past = sorted([*happened[:cut], *self._added.values()], key=BY_RANK)
        self._received = sorted([*past, *changes.planted], key=BY_RANK)
        self._by_item = defaultdict(list)
        for occurrence in past:
            if occurrence.grouped:
                self._by_item[occurrence.item.counter].append(occurrence)
        self._texts = {number: text for number, text in self._texts.items() if second_of(number) // DAY in self._days}
        self._arrivals = [entry for entry in self._arrivals if second_of(entry[1]) // DAY in self._days]

    def _receive(self, occurrence: Occurrence) -> None:
        self._arrivals.append((time.monotonic(), occurrence.id))
        insort(self._received, occurrence, key=BY_RANK)
        if occurrence.grouped:
            insort(self._by_item[occurrence.item.counter], occurrence, key=BY_RANK)

    def _forget(self, occurrence: Occurrence) -> None:
        self._added.pop(occurrence.id, None)
        self._texts.pop(occurrence.id, None)
        if occurrence.grouped:
            events = self._by_item[occurrence.item.counter]
            del events[bisect_left(events, occurrence.id, key=BY_RANK)]
            if not events:
                del self._by_item[occurrence.item.counter]

    # Reading

    def occurrences(
        self, skip: int, count: int, *, below: int | None = None, arrived_by: float = math.inf
    ) -> list[str]:
        """Return the texts of `count` occurrences after the `skip` newest, ordered by id, newest first.

        Args:
            skip: Rows to leave out.
            count: Rows to return.
            below: Id above the largest one to return.
            arrived_by: Time (time.monotonic()) of the latest arrival to return.
        """
        received = self._received_by(arrived_by)
        end = len(received) if below is None else bisect_left(received, below, key=BY_RANK)
        stop = max(0, end - skip)
        return [self._text(entry) for entry in reversed(received[max(0, stop - count) : stop])]

    def count_occurrences(self, arrived_by: float = math.inf) -> int:
        """Return the number of occurrences that had arrived by a time (time.monotonic())."""
        return len(self._received_by(arrived_by))

    def has_occurrence(self, key: object) -> bool:
        """Return whether there is an occurrence of that key."""
        return bool(self._positions(key))

    def _received_by(self, arrived_by: float) -> list[Occurrence | ServedRow]:
        late = {number for _, number in takewhile(lambda entry: entry[0] > arrived_by, reversed(self._arrivals))}
        return [entry for entry in self._received if entry[0] not in late] if late else self._received

    def _positions(self, key: object) -> list[int]:
        rank = rank_of(key)
        first, end = (bisect(self._received, rank, key=BY_RANK) for bisect in (bisect_left, bisect_right))
        return [position for position in range(first, end) if _key(self._received[position]) == key]

    def table(self, resource: str) -> list[ServedRow]:
        """Return all rows of a resource, in served order."""
        match resource:
            case "occurrences":
                return [ServedRow(entry[0], _key(entry), self._text(entry)) for entry in reversed(self._received)]
            case "top_active_items":
                return self.top_active()
            case "projects" | "teams" | "users":
                return self._account.table(resource)
        if resource not in self._tables:
            served = self._changes[resource].apply(self._world_rows(resource))
            self._tables[resource] = sorted(served, key=BY_RANK, reverse=True)
        return self._tables[resource]

    def top_active(
        self, hours: int = 24, environments: frozenset[str] = frozenset(), sort: str = "occurrences"
    ) -> list[ServedRow]:
        """Return the top ten of the last `hours` by `sort`, a field of the entries. No `environments` means all."""
        found = [
            rows.active_row(self.project, events, self.now, hours)
            for events in self._by_item.values()
            if not environments or events[0].item.environment in environments
        ]
        found = [row for row in found if row["item"]["occurrences"]]
        found.sort(key=lambda row: (row["item"].get(sort) or 0, row["item"]["id"]), reverse=True)
        return self._changes["top_active_items"].apply(found)[:_TOP]

    def _world_rows(self, resource: str) -> list[Row]:
        project, now = self.project, self.now
        match resource:
            case "items":
                return [rows.item_row(project, events, now) for events in self._by_item.values()]
            case "items_metrics":
                return [rows.metric_row(project, events, now) for events in self._by_item.values()]
            case "deploys":
                return [rows.deploy_row(project, deploy, now) for deploy in self.deploys()]
            case "rql_jobs":
                return [rows.job_row(project, job, now) for job in self._jobs if job.created <= now]
        count = len(project.environments) if project.activity else 0
        return [rows.environment_row(project, index) for index in range(count)]

    def _text(self, entry: Occurrence | ServedRow) -> str:
        if isinstance(entry, ServedRow):
            return entry.text
        text = self._texts.get(entry.id)
        if text is None:
            row = self._changes["occurrences"].apply_updates(occurrence_row(entry, self.project.id))
            text = self._texts[entry.id] = to_json(row)
        return text

    def deploys(self) -> list[Deploy]:
        """Return the deploys that have started, oldest first, added ones last."""
        return [*(deploy for deploy in self._deploys if deploy.start <= self.now), *self._added_deploys]

    # Changing

    def plant(self, resource: str, row: object) -> None:
        """Add any row, or the JSON text of one."""
        planted = self._changes[resource].plant(row)
        if resource == "occurrences":
            insort(self._received, planted, key=BY_RANK)
        self._tables.clear()

    def remove(self, resource: str, key: object) -> None:
        """Remove a row."""
        self._require(resource, key)
        self._changes[resource].remove(key)
        if resource == "occurrences":
            # A rebuild would take some 5 ms for 15,000 rows, during which no request is answered.
            for position in reversed(self._positions(key)):
                entry = self._received.pop(position)
                if isinstance(entry, Occurrence):
                    self._forget(entry)
        self._tables.clear()

    def update(self, resource: str, key: object, fields: Row) -> None:
        """Change fields of a row."""
        self._require(resource, key)
        self._changes[resource].update(key, fields)
        if resource == "occurrences":
            self._texts.clear()
            self._rebuild()
        self._tables.clear()

    def _require(self, resource: str, key: object) -> None:
        # The rows of occurrences are not built for this, because there are many.
        if resource == "occurrences":
            found = self.has_occurrence(key)
        else:
            found = any(row.key == key for row in self.table(resource))
        if not found:
            raise KeyError(f"no row {key!r} in {resource}")

    def add_deploy(self, deploy: Deploy) -> Row:
        """Add a deploy under the next free id of its minute, and return its row."""
        taken = {other.id for other in self._added_deploys}
        identifier = self.project.deploy_id(deploy.start, FIRST_ADDED_DEPLOY)
        while identifier in taken or identifier % 10 < FIRST_ADDED_DEPLOY:
            identifier += 1
        deploy = deploy._replace(id=identifier)
        self._added_deploys.append(deploy)
        self._tables.clear()
        return rows.deploy_row(self.project, deploy, self.now)

    def add_occurrences(self, count: int, at: int, item_id: int | None, id_at: int) -> list[Row]:
        """Receive occurrences at `at` under ids of `id_at` (both epoch seconds) and return their rows.

        A second has fifty ids for them; further ids are of later seconds. No id is given twice.
        """
        removed = self._changes["items"].removed
        items = [item for item in self._world.items if item.id not in removed]
        if item_id is not None:
            known = {
                item.id: item for item in [*self._world.items, *(events[0].item for events in self._by_item.values())]
            }
            if item_id not in known:
                raise KeyError(f"no item {item_id}")
            items = [known[item_id]]
        day = at // DAY
        deploys = [*self._world.deploys(day - 1), *self._world.deploys(day), *self._added_deploys]
        removed_ids = self._changes["occurrences"].removed
        identifier = self._next_ids.get(id_at, self.project.occurrence_id(id_at, FIRST_ADDED_OCCURRENCE))
        added = []
        for _ in range(count):
            while identifier % 100 < FIRST_ADDED_OCCURRENCE or identifier in self._added or identifier in removed_ids:
                identifier += 1
            item = items[noise(identifier) % len(items)]
            version = code_version(deploys, item.environment, at)
            added.append(Occurrence(identifier, at, item, version))
            identifier += 1
        self._next_ids[id_at] = identifier
        for occurrence in added:
            self._added[occurrence.id] = occurrence
            self._receive(occurrence)
        self._tables.clear()
        return [occurrence_row(occurrence, self.project.id) for occurrence in added]
