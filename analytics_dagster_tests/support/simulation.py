"""A project that is kept up to date with a service through simulated time, over real HTTP, dlt and DuckDB.

The clock of both sides and the events at the service are simulated: hourly ticks, nights, faults, crashes, late rows.
A seed reproduces a simulation.

    with simulated(project, seed=1, faults=0.3) as simulation:
        usages = simulation.run(ticks=60)
        simulation.settle()
        assert simulation.missing() == {}

`python -m analytics_dagster_tests.support.simulation --ticks 500 --output docs/soak.svg` runs a long simulation, prints
its figures as it goes and draws them.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median_high
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import time_machine
from dlt.pipeline.exceptions import PipelineStepFailed

from analytics_dagster.catalog import RESOURCES, get_resource
from analytics_dagster.defs.partitions import build_partitions, partitions_due, partitions_to_reread
from analytics_dagster.ingest.errors import AnalyticsApiError, find_analytics_error
from analytics_dagster.ingest.load import open_loader
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.benchmark.plots import plot
from analytics_dagster_tests.support.project import Project, a_project

START = datetime(2026, 3, 10, 20, 7, tzinfo=UTC)
COMPARED_FROM = START - timedelta(days=1)
INCREMENTAL = tuple(resource.name for resource in RESOURCES if resource.incremental)
HORIZON = timedelta(hours=48)
MOST_LATE = timedelta(seconds=5)
SOAK_SEED = 1
TICKS_BETWEEN_LINES = 10
POINTS_DRAWN = 50

EMPTY_SECONDS = 0.3
"""Seconds of real time for which every list is empty, with 200."""

FAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("status", {"status": 503}),
    ("status", {"status": 429, "remaining_seconds": 0}),
    ("status", {"status": 500}),
    ("reset", {}),
    ("truncate", {}),
    ("html", {}),
    ("broken_json", {}),
)

# The columns compared after a night, by resource: the key, and columns whose values change.
COMPARED_AFTER_NIGHT = {
    "occurrences": ("id", "item_id"),
    "items": ("id", "status", "total_occurrences"),
    "deploys": ("id", "status"),
    "rql_jobs": ("id", "status"),
}

# A tick sees changes that move the cursor or settle within the lookback; an item's status changes silently.
COMPARED_AFTER_TICK = COMPARED_AFTER_NIGHT | {"items": ("id", "last_occurrence_id")}


@dataclass(frozen=True, kw_only=True)
class Usage:
    """The resources that a simulation uses after a number of ticks.

    Attributes:
        tick: Ticks so far.
        rows: Rows in the tables of the incremental assets.
        memory: Bytes of memory resident in this process, which also runs the service.
        file: Bytes of the DuckDB file.
    """

    tick: int
    rows: int
    memory: int
    file: int

    def __str__(self) -> str:
        return f"{self.rows:9,} rows  {self.memory / 2**20:6.0f} MB of memory  {self.file / 2**20:6.1f} MB of file"


class Simulation:
    """Ticks of an hour, and random events between and during them.

    Args:
        project: The project that loads.
        service: The service that it reads, on the simulated clock.
        traveller: Moves the clock.
        seed: Seeds every random choice.

    Attributes:
        faults: Share of the loads that meet a fault.
        calm: Whether rows only arrive, move and settle; otherwise they also come late, change silently and vanish.
        happened: Number of events so far, by kind.
    """

    def __init__(self, project: Project, service: Sandbox, traveller: time_machine.Traveller, seed: int) -> None:
        self.faults = 0.0
        self.calm = False
        self.happened: Counter[str] = Counter()
        self._project = project
        self._service = service
        self._traveller = traveller
        self._chance = Random(seed)
        self._settings = load_settings()
        self._partitions = build_partitions(self._settings)
        self._materialized: dict[str, set[str]] = {name: set() for name in INCREMENTAL}

    def run(self, ticks: int) -> list[Usage]:
        """Run ticks, print the usage now and then, and return it for each of them."""
        usages = []
        began = time.perf_counter()
        for tick in range(1, ticks + 1):
            self.tick()
            usages.append(self._usage(tick))
            if tick % TICKS_BETWEEN_LINES == 0:
                print_line(f"{tick:5} ticks {time.perf_counter() - began:6.0f} s  {usages[-1]}")
        return usages

    def tick(self) -> None:
        """Let an hour pass, then load as the schedules do: what is due and, after midnight, the nightly partitions."""
        self._traveller.shift(timedelta(hours=1))
        self._change_rows()
        self._ticked = datetime.now(UTC)
        self._service_ticked = self._service.now
        due = partitions_due(
            self._partitions,
            known=set.intersection(*self._materialized.values()),
            asked_at=[],
            now=self._ticked,
            horizon=HORIZON,
        )
        assert isinstance(due, dg.PartitionKeyRange)
        with self._lists_changing_while_read():
            for name in INCREMENTAL:
                self._load(name, due, resume=True)
            if self._ticked.hour == 0:
                self._night()

    def tick_without_faults(self) -> None:
        """Run a tick on which nothing goes wrong."""
        self.faults = 0.0
        self.tick()

    def settle(self) -> None:
        """Run a tick at midnight, with its night, without faults: a row that is missing afterwards is lost."""
        while datetime.now(UTC).hour != 23:
            self._traveller.shift(timedelta(hours=1))
        self.tick_without_faults()

    def missing(self, compared: Mapping[str, tuple[str, ...]] = COMPARED_AFTER_NIGHT) -> dict[str, set[Any]]:
        """Return the service's rows that the warehouse lacks or has in another version, by resource.

        Rows count up to the start of the latest tick by the service's clock, since it goes on and new rows come. The
        service lists an occurrence up to `MOST_LATE` after its timestamp.
        """
        since, until = COMPARED_FROM.timestamp(), self._service_ticked - MOST_LATE.total_seconds()
        missing = {}
        for name, columns in compared.items():
            ordered_by = get_resource(name).ordered_by
            rows = [row for row in self._service.rows(name) if since <= row[ordered_by] < until]
            # A deploy that settled since is another version than the tick could see.
            rows = [row for row in rows if (row.get("finish_time") or 0) < until]
            found = self._project.rows(name, *columns)
            assert len(found) == len({row[0] for row in found}), f"{name} has duplicates"
            if lost := {tuple(row[column] for column in columns) for row in rows} - set(found):
                missing[name] = lost
        return missing

    def _usage(self, tick: int) -> Usage:
        tables = " + ".join(f"(SELECT count(*) FROM analytics.{name})" for name in INCREMENTAL)
        ((rows,),) = self._project.sql(f"SELECT {tables}")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Usage(tick=tick, rows=rows, memory=pages * 4_096, file=self._project.warehouse.stat().st_size)

    def _change_rows(self) -> None:
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
    def _lists_changing_while_read(self) -> Iterator[None]:
        """Let rows arrive and vanish between the pages of a list."""

        def change(name: str, _: int | None) -> None:
            if name == "occurrences" and self._chance.random() < (0.5 if self.calm else 0.1):
                self._service.add_occurrences(1)
                self.happened["arrivals while reading"] += 1
            elif name == "occurrences" and not self.calm and self._chance.random() < 0.02:
                self._service.remove(name, self._chance.choice(self._service.rows(name)[:200])["id"])
                self.happened["deletions while reading"] += 1

        self._service.before_reply = change if self.faults else None
        yield
        self._service.before_reply = None

    def _night(self) -> None:
        partitions = partitions_to_reread(self._partitions, now=datetime.now(UTC))
        for name in INCREMENTAL:
            self._load(name, None if get_resource(name).changes_silently else partitions, resume=False)

    def _load(self, name: str, partitions: dg.PartitionKeyRange | None, *, resume: bool) -> None:
        """Load a resource; the load may meet a fault, or crash after its rows and before their record."""
        window = None
        if partitions is not None:
            ends = (partitions.start, partitions.end)
            first, last = (self._partitions.time_window_for_partition_key(key) for key in ends)
            window = Window(start=first.start.astimezone(UTC), end=last.end.astimezone(UTC))
        if self._chance.random() < self.faults:
            kind, options = self._chance.choice(FAULTS)
            self._service.fail_next(kind, times=self._chance.randrange(1, 7), **options)
            self.happened["faults"] += 1
        if self._chance.random() < self.faults / 4:
            self._service.go_empty(EMPTY_SECONDS)
            self.happened["moments of empty lists"] += 1
        try:
            with open_loader(self._settings) as loader:
                load = loader.begin(get_resource(name), window, resume=resume)
                for source in load.sources():
                    load.pipeline.run(source)
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
        if partitions is not None:
            self._materialized[name].update(self._partitions.get_partition_keys_in_range(partitions))


@contextmanager
def simulated(project: Project, seed: int, *, faults: float = 0.1) -> Iterator[Simulation]:
    """Simulate in a project. The first tick has passed, without faults."""
    project.monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.0001)
    with (
        time_machine.travel(START) as traveller,
        Sandbox(seed=seed, history_days=3, rate_limit=1_000_000) as service,
    ):
        # Two minutes between the clocks, either way; occurrences by key or by number.
        service.clock_offset = 120 * (-1) ** (seed // 2)
        paging = "page" if seed % 2 else "auto"
        project.use(service, start_date=(START - timedelta(days=2)).date(), paging__occurrences=paging)
        simulation = Simulation(project, service, traveller, seed)
        simulation.tick()
        simulation.faults = faults
        yield simulation


def growth(usages: Sequence[Usage]) -> tuple[float, float]:
    """Return the factors by which memory, and the file's bytes per row, grew from the second fifth to the last.

    Medians of each fifth are compared. The first fifth loads the history; the pages of DuckDB's file and the heap's
    arenas are coarse then.
    """
    fifth = len(usages) // 5
    early, late = usages[fifth : 2 * fifth], usages[-fifth:]
    memory = median_high(usage.memory for usage in late) / median_high(usage.memory for usage in early)
    per_row = median_high(one.file / one.rows for one in late) / median_high(one.file / one.rows for one in early)
    return memory, per_row


def draw(usages: Sequence[Usage], file: Path) -> None:
    """Draw the usages as SVG."""
    shown = usages[:: max(1, len(usages) // POINTS_DRAWN)]
    series = {
        "rows, thousands": [(usage.tick, usage.rows / 1_000) for usage in shown],
        "memory, MB": [(usage.tick, usage.memory / 2**20) for usage in shown],
        "file, MB": [(usage.tick, usage.file / 2**20) for usage in shown],
    }
    file.write_text(plot(f"{len(usages)} ticks of an hour", "ticks", series))


def print_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run a long simulation, print a summary and draw it. Return 1 if rows are missing."""
    parser = argparse.ArgumentParser(description="Run a long simulation.")
    parser.add_argument("--ticks", type=int, default=500)
    parser.add_argument("--seed", type=int, default=SOAK_SEED)
    parser.add_argument("--output", type=Path, help="SVG file to draw the figures into")
    options = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        a_project(Path(folder)) as project,
        simulated(project, options.seed) as simulation,
    ):
        usages = simulation.run(options.ticks)
        simulation.settle()
        missing = simulation.missing()
    memory, per_row = growth(usages)
    print_line("events: " + ", ".join(f"{count} {kind}" for kind, count in sorted(simulation.happened.items())))
    print_line(f"growth: memory {memory:.2f} times, bytes per row {per_row:.2f} times")
    print_line(f"missing: {missing or 'nothing'}")
    if options.output:
        draw(usages, options.output)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
