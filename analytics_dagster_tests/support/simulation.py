"""A project that is kept up to date with a service through simulated time: ticks, nights, faults, crashes, late rows.

Real HTTP, dlt and DuckDB; simulated are the clock, of both sides, and what happens at the service. A seed
reproduces all of it. What the figures of a long simulation mean is up to `soak.py`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import dagster as dg
import time_machine
from dlt.pipeline.exceptions import PipelineStepFailed

from analytics_dagster.catalog import RESOURCES, get_resource
from analytics_dagster.defs.partitions import build_partitions, partitions_due, partitions_to_reread
from analytics_dagster.ingest.errors import AnalyticsApiError, find_analytics_error
from analytics_dagster.ingest.load import Loader
from analytics_dagster.ingest.settings import Settings, load_settings
from analytics_dagster.ingest.warehouse.lock import write_lock
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project

START = datetime(2026, 3, 10, 20, 7, tzinfo=UTC)
INCREMENTAL = tuple(row.name for row in RESOURCES if row.incremental)
HORIZON = timedelta(hours=48)

FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("status", {"status": 503}),
    ("status", {"status": 429, "remaining_seconds": 0}),
    ("status", {"status": 500}),
    ("reset", {}),
    ("truncate", {}),
    ("html", {}),
    ("broken_json", {}),
)

# What is compared of each resource: its key, and what changes.
COMPARED = {
    "occurrences": ("id", "item_id"),
    "items": ("id", "status", "total_occurrences"),
    "deploys": ("id", "status"),
    "rql_jobs": ("id", "status"),
}

# The same, of what moves the cursor or settles within the lookback: what a tick sees, and need not wait for a night.
SEEN_BY_A_TICK = COMPARED | {"items": ("id", "last_occurrence_id")}


class Simulation:
    """Ticks of an hour, and what happens in between.

    Args:
        service: What is read; its clock is the simulated one.
        traveller: Moves the clock.
        seed: Of everything that happens by chance.

    Attributes:
        faults: Share of the loads that meet one.
        calm: Whether rows only arrive, move and settle; otherwise they come late, change silently and vanish as well.
        happened: How often what happened.
    """

    def __init__(self, service: Sandbox, traveller: time_machine.Traveller, seed: int) -> None:
        self.faults = 0.0
        self.calm = False
        self.happened: Counter[str] = Counter()
        self._service = service
        self._traveller = traveller
        self._chance = Random(seed)
        self._settings: Settings = load_settings()
        self._partitions = build_partitions(self._settings)
        self._materialized: dict[str, set[str]] = {name: set() for name in INCREMENTAL}

    def tick(self) -> None:
        """Let an hour pass, then load what the schedules would: what is new; after midnight, what may have changed."""
        self._traveller.shift(timedelta(hours=1))
        self._events()
        self._ticked = datetime.now(UTC)
        due = partitions_due(
            self._partitions,
            known=set.intersection(*self._materialized.values()),
            asked_at=[],
            now=self._ticked,
            horizon=HORIZON,
        )
        assert isinstance(due, dg.PartitionKeyRange)
        with self._alive():
            for name in INCREMENTAL:
                self._load(name, due, resume=True)
            if self._ticked.hour == 0:
                self.night()

    def night(self) -> None:
        """Read again what the nightly schedule reads again."""
        span = partitions_to_reread(self._partitions, now=datetime.now(UTC))
        for name in INCREMENTAL:
            self._load(name, None if get_resource(name).changes_silently else span, resume=False)

    def settle(self) -> None:
        """A last tick, at midnight, and a night on which nothing goes wrong: what is still missing then is lost."""
        while datetime.now(UTC).hour != 23:
            self._traveller.shift(timedelta(hours=1))
        self.quiet_tick()

    def quiet_tick(self) -> None:
        """A tick on which nothing goes wrong."""
        self.faults = 0.0
        self.tick()

    def missing(
        self, project: Project, since: datetime, compared: Mapping[str, tuple[str, ...]] = COMPARED
    ) -> dict[str, set[Any]]:
        """Rows of the service that the warehouse lacks or has in another version, by resource.

        Only rows from a moment on until the latest tick began count: the clock goes on, and new rows come.
        """
        until = self._ticked.timestamp()
        missing = {}
        for name, columns in compared.items():
            ordered_by = get_resource(name).ordered_by
            rows = [row for row in self._service.rows(name) if since.timestamp() <= row[ordered_by] < until]
            found = project.rows(name, *columns)
            assert len(found) == len({row[0] for row in found}), f"{name} has doubles"
            if lost := {tuple(row[column] for column in columns) for row in rows} - set(found):
                missing[name] = lost
        return missing

    # -- what happens ---------------------------------------------------------------------------------------

    def _events(self) -> None:
        chance, service = self._chance, self._service
        if self.calm:
            return
        if chance.random() < 0.3:
            late = timedelta(minutes=chance.randrange(20 * 60))
            service.add_occurrences(chance.randrange(1, 5), at=int((datetime.now(UTC) - late).timestamp()))
            self.happened["late rows"] += 1
        if chance.random() < 0.3:
            item = chance.choice(service.rows("items"))
            service.update("items", item["id"], status=chance.choice(["active", "resolved", "muted"]))
            self.happened["silent changes"] += 1

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """Rows arrive and vanish while pages are being read."""

        def live(name: str, _: int | None) -> None:
            if name == "occurrences" and self._chance.random() < (0.5 if self.calm else 0.1):
                self._service.add_occurrences(1)
                self.happened["arrivals while reading"] += 1
            elif name == "occurrences" and not self.calm and self._chance.random() < 0.02:
                self._service.remove(name, self._chance.choice(self._service.rows(name)[:200])["id"])
                self.happened["deletions while reading"] += 1

        self._service.before_reply = live if self.faults else None
        yield
        self._service.before_reply = None

    def _load(self, name: str, span: dg.PartitionKeyRange | None, *, resume: bool) -> None:
        """Load a resource; it may meet a fault, or crash between its rows and their record."""
        window = None
        if span is not None:
            first, last = (self._partitions.time_window_for_partition_key(key) for key in (span.start, span.end))
            window = Window(start=first.start.astimezone(UTC), end=last.end.astimezone(UTC))
        if self._chance.random() < self.faults:
            kind, options = self._chance.choice(FAULTS)
            self._service.fail_next(kind, times=self._chance.randrange(1, 7), **options)
            self.happened["faults"] += 1
        try:
            with write_lock(self._settings), Loader(self._settings) as loader:
                load = loader.begin(get_resource(name), window, resume=resume)
                if load.source:
                    load.pipeline.run(load.source)
                if self._chance.random() < self.faults / 2:
                    self.happened["crashes"] += 1
                    return
                load.finish()
        except PipelineStepFailed as error:
            if not isinstance(find_analytics_error(error), AnalyticsApiError):
                raise
            self.happened["failed loads"] += 1
            return
        finally:
            self._service.clear_faults()
        if span is not None:
            keys = dg.PartitionKeyRange(span.start, span.end)
            self._materialized[name].update(self._partitions.get_partition_keys_in_range(keys))


@contextmanager
def simulated(project: Project, seed: int, *, faults: float = 0.1) -> Iterator[Simulation]:
    """A simulation in a project; its first tick has passed, and nothing went wrong on it."""
    project.monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.0001)
    with (
        time_machine.travel(START) as traveller,
        Sandbox(seed=seed, history_days=3, rate_limit=1_000_000) as service,
    ):
        project.use(service, start_date=(START - timedelta(days=2)).date())
        simulation = Simulation(service, traveller, seed)
        simulation.tick()
        simulation.faults = faults
        yield simulation
