"""Loads during faults of the service succeed, or fail with a sentence and leave the warehouse as it was.

Faults meet a load into DuckDB here, between its pages. Their effect on a single request is tested in `test_client.py`.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from dlt.pipeline.exceptions import PipelineStepFailed

from analytics_dagster.defs.execution import failure_message
from analytics_dagster.ingest import client, replies
from analytics_dagster.ingest.keep_alive import Connections
from analytics_dagster.ingest.load import LoadReport
from analytics_dagster.ingest.pieces import Estimate
from analytics_dagster.sandbox import PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.http_replies import FINAL, PASSING, PATIENCE, RETRIED, Clock, limits
from analytics_dagster_tests.support.project import Project, a_project, load
from analytics_dagster_tests.support.service import a_service, truth

ATTEMPTS = 4


@dataclass
class OutdatedProject:
    """A project whose warehouse lacks a deploy of its service."""

    project: Project
    service: Sandbox

    def load(self) -> LoadReport:
        """Load the deploys, page by page."""
        self.service.requests.clear()
        return load("deploys")

    def fail_to_load(self) -> str:
        """Load the deploys, which fails, and return the sentence of the error."""
        with pytest.raises(PipelineStepFailed) as caught:
            self.load()
        return failure_message(caught.value, "deploys")

    def requested_pages(self) -> list[str]:
        """Return the pages that were requested since the load began, in order."""
        return [request.query["page"] for request in self.service.requests]

    def tables(self) -> tuple[list[Any], ...]:
        """Return the tables that a failed load could have changed."""
        tables = ("deploys", "load_windows", "rejected_rows")
        return tuple(self.project.sql(f"SELECT * FROM analytics.{table} ORDER BY ALL") for table in tables)

    def is_complete(self) -> bool:
        return {key for (key,) in self.project.rows("deploys", "id")} == truth(self.service, "deploys")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OutdatedProject]:
    with (
        a_service(history_days=2) as service,
        a_project(tmp_path_factory.mktemp("project")) as project,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.001)
        monkeypatch.setattr(replies, "UNANNOUNCED_RATE_WAIT", 0.001)
        # Requests are counted here: no load looks far down the list for pieces.
        monkeypatch.setattr("analytics_dagster.ingest.window_plan.estimate_window", lambda *_: Estimate(cuts=()))
        project.use(service, page_size__deploys=4, read_ahead=1)
        load("deploys")
        yield OutdatedProject(project, service)


@pytest.fixture
def outdated(loaded: OutdatedProject) -> Iterator[OutdatedProject]:
    loaded.service.add_deploy()
    yield loaded
    loaded.service.clear_faults()


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("status", RETRIED)
def test_a_status_that_passes_costs_a_load_its_retries_and_nothing_else(
    status: int, times: int, outdated: OutdatedProject
) -> None:
    outdated.service.fail_next("status", status=status, headers=False, after=1, times=times)

    report = outdated.load()

    assert outdated.is_complete()
    asked = Counter(outdated.requested_pages())
    assert asked.pop("2") == 1 + times
    # The list's end is proven by a second look at the last page with rows and at the empty page.
    beyond = max(map(int, asked))
    asked.subtract([str(beyond - 2), str(beyond - 1)])
    assert set(asked.values()) == {1}
    assert (report.retries, report.requests) == (times, len(outdated.service.requests))


@pytest.mark.parametrize(("kind", "options", "status"), PASSING.values(), ids=PASSING)
def test_a_lasting_fault_fails_the_load_with_a_sentence_and_leaves_the_warehouse_as_it_was(
    kind: str, options: dict[str, Any], status: int | None, outdated: OutdatedProject
) -> None:
    before = outdated.tables()
    outdated.service.fail_next(kind, resource="deploys", after=1, times=ATTEMPTS, **options)

    outdated.project.set(request_timeout=0.4 if kind == "slow" else PATIENCE)
    said = outdated.fail_to_load()
    outdated.project.set(request_timeout=PATIENCE)

    assert said.startswith("deploys: ")
    assert f"after {ATTEMPTS} attempts. " in said
    assert "Check base_url" in said or status == 429
    assert status is None or f"HTTP {status}" in said
    assert outdated.requested_pages() == ["1", *["2"] * ATTEMPTS]
    assert outdated.tables() == before
    outdated.load()
    assert outdated.is_complete()


@pytest.mark.parametrize(("kind", "options", "status", "texts"), FINAL.values(), ids=FINAL)
def test_a_final_fault_fails_the_load_at_once_and_leaves_the_warehouse_as_it_was(
    kind: str, options: dict[str, Any], status: int, texts: list[str], outdated: OutdatedProject
) -> None:
    before = outdated.tables()
    outdated.service.fail_next(kind, resource="deploys", after=1, **options)

    said = outdated.fail_to_load()

    assert said.startswith(f"deploys: HTTP {status}")
    assert [text for text in texts if text.replace("occurrences", "deploys") not in said] == []
    assert outdated.requested_pages() == ["1", "2"]
    assert outdated.tables() == before


def test_a_load_of_compressed_pages_is_complete(outdated: OutdatedProject) -> None:
    outdated.service.fail_next("gzip", resource="deploys", times=100)

    report = outdated.load()

    assert outdated.is_complete()
    assert report.retries == 0


class OtherUser:
    """Another user of the same key, who uses up the rate limit of some windows while the occurrences are read.

    Args:
        service: The service.
        limit: Calls to make in a window.
        windows: Windows to use up.
    """

    def __init__(self, service: Sandbox, limit: int, windows: int) -> None:
        self.service = service
        self.limit = limit
        self.windows = windows
        self.used: set[int] = set()
        self.requests = 0
        self.lock = threading.Lock()

    def __call__(self, resource: str, page: int | None) -> None:
        with self.lock if resource == "occurrences" else nullcontext():
            window = self.service.now // 60
            self.requests += resource == "occurrences"
            if self.requests > 10 and window not in self.used and len(self.used) < self.windows:
                self.used.add(window)
                self.use_up()

    def use_up(self) -> None:
        connections = Connections(
            f"{self.service.url}/v1/environments", {"api_key": PROJECT_KEY}, limits(timeout=PATIENCE)
        )
        for _ in range(self.limit):
            connections.receive(connections.send("GET"))
        connections.close()


@pytest.mark.parametrize("paging", ["page", "keyset"])
@pytest.mark.parametrize("windows", [0, 1, 3])
def test_a_storm_of_429s_during_read_ahead_is_waited_out_window_by_window(
    windows: int, paging: str, project: Project
) -> None:
    clock = Clock()
    project.monkeypatch.setattr(client, "time", clock)
    limit = 100 if windows else 25
    full_minute = time.time() // 60 * 60
    with Sandbox(clock=lambda: full_minute + clock.now, history_days=1, rate_limit=limit) as service:
        project.use(service, read_ahead=8, page_size__occurrences=50, paging__occurrences=paging)
        service.before_reply = OtherUser(service, limit, windows)
        there = truth(service, "occurrences")
        report = load("occurrences")
        later = truth(service, "occurrences")

    assert there <= {key for (key,) in project.rows("occurrences", "id")} <= later
    asked = [request for request in service.requests if request.resource == "occurrences"]
    refused = [request for request in asked if request.status == 429]
    # By key, requests in flight are few enough that the announced end of the window holds them back.
    assert len(refused) >= (max(windows, 1) if paging == "page" else windows)
    assert (report.requests, report.retries) == (len(asked), len(refused))
    answered = len(asked) - len(refused)
    assert clock.now == 60 * (windows or (answered - 1) // limit), "each window's end is waited for, once"


@pytest.mark.parametrize("paging", ["page", "keyset"])
def test_a_storm_of_429s_that_does_not_end_fails_the_load_and_leaves_the_warehouse_as_it_was(
    paging: str, project: Project
) -> None:
    clock = Clock()
    project.monkeypatch.setattr(client, "time", clock)
    full_minute = time.time() // 60 * 60
    with Sandbox(clock=lambda: full_minute + clock.now, history_days=1, rate_limit=100) as service:
        project.use(service, page_size__occurrences=50, paging__occurrences=paging)
        load("deploys")
        before = project.sql("SELECT * FROM analytics.load_windows")
        service.before_reply = OtherUser(service, 100, ATTEMPTS)
        with pytest.raises(PipelineStepFailed) as caught:
            load("occurrences")

    assert failure_message(caught.value, "occurrences") == (
        "occurrences: HTTP 429 (rate limit exceeded) after 4 attempts. Try again later, or lower read_ahead."
    )
    assert clock.now == 180
    assert project.sql("SELECT * FROM analytics.load_windows") == before
    assert project.sql("SELECT table_name FROM information_schema.tables WHERE table_name = 'occurrences'") == []
