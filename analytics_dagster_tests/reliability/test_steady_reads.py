"""Loads from a service that nobody promised to be steady: after the next tick nothing that it has is missing.

Each test is a deviation that was seen, or may be: the rows are read over real sockets, from a sandbox with that quirk.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics_dagster.ingest.load import LoadReport
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, load
from analytics_dagster_tests.support.service import a_service, truth

pytestmark = pytest.mark.full_pauses

DAYS = 9
"""Of history: some 14,000 occurrences."""


def tick() -> LoadReport:
    """Load as a tick does, from the end of coverage."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    window = Window(start=midnight - timedelta(days=DAYS), end=midnight + timedelta(days=1))
    return load("occurrences", window, resume=True)


def missing(project: Project, service: Sandbox) -> set[Any]:
    """Return the keys of occurrences that the service has and the warehouse lacks."""
    return truth(service, "occurrences") - {key for (key,) in project.rows("occurrences", "id")}


def at_request(service: Sandbox, number: int, act: Callable[[], object]) -> None:
    """Act before the reply to the occurrences' request of that number."""
    counted = 0
    lock = threading.Lock()

    def hook(resource: str, _: int | None) -> None:
        nonlocal counted
        with lock:
            counted += resource == "occurrences"
            due = resource == "occurrences" and counted == number
        if due:
            act()

    service.before_reply = hook


@pytest.mark.parametrize("paging", ["keyset", "page"])
@pytest.mark.parametrize("number", [1, 2, 30])
def test_a_moment_in_which_every_list_is_empty_hides_no_row(number: int, paging: str, project: Project) -> None:
    with a_service(history_days=DAYS) as service:
        project.use(service, paging__occurrences=paging)
        at_request(service, number, lambda: service.go_empty(0.9))
        tick()
        assert missing(project, service) == set()


def test_numbered_pages_that_end_at_a_depth_hide_no_row_that_keys_reach(project: Project) -> None:
    with a_service(history_days=DAYS) as service:
        service.quirks.deepest_page = 400
        project.use(service)
        tick()
        assert missing(project, service) == set()


def test_rows_that_vanish_while_others_are_read_hide_no_row(project: Project) -> None:
    with a_service(history_days=DAYS) as service:
        project.use(service, page_size__occurrences=100)
        rows = [row["id"] for row in service.rows("occurrences")]

        def vanish(resource: str, _: int | None) -> None:
            if resource == "occurrences":
                service.remove("occurrences", rows.pop(0))

        service.before_reply = vanish
        tick()
        service.before_reply = None
        assert len(rows) < len(truth(service, "occurrences")) + 5
        assert missing(project, service) == set()


@pytest.mark.parametrize(("paging", "requests"), [("keyset", 4), ("page", 40)])
def test_a_row_out_of_its_place_costs_a_tick_a_few_requests(paging: str, requests: int, project: Project) -> None:
    with a_service(history_days=DAYS) as service:
        project.use(service, paging__occurrences=paging)
        tick()
        service.add_occurrences(1, at=service.now - 90, id_at=service.now)
        service.add_occurrences(5)
        service.requests.clear()
        tick()
        assert missing(project, service) == set()
        assert len(service.requests) <= requests


@pytest.mark.parametrize("paging", ["keyset", "page"])
def test_late_rows_at_the_head_neither_stop_a_tick_nor_are_left_out(paging: str, project: Project) -> None:
    with a_service(history_days=DAYS) as service:
        project.use(service, paging__occurrences=paging)
        tick()
        service.add_occurrences(225, at=service.now)
        service.add_occurrences(45, at=service.now - 1_800, id_at=service.now + 60)
        service.requests.clear()
        tick()
        assert missing(project, service) == set()
        assert len(service.requests) <= (5 if paging == "keyset" else 40)


def test_heavy_arrivals_do_not_keep_a_load_from_ending(project: Project) -> None:
    with a_service(history_days=2) as service:
        project.use(service)
        began = time.monotonic()
        arrived = 0
        lock = threading.Lock()

        def arrive(resource: str, _: int | None) -> None:
            nonlocal arrived
            if resource != "occurrences":
                return
            time.sleep(0.1)
            with lock:
                due = int((time.monotonic() - began) * 100) - arrived
                arrived += due
                service.add_occurrences(due)

        there = truth(service, "occurrences")
        service.before_reply = arrive
        tick()
        service.before_reply = None
        assert there <= {key for (key,) in project.rows("occurrences", "id")}
        assert time.monotonic() - began < 30
        tick()
        assert missing(project, service) == set()


def test_a_service_that_repeats_its_last_page_is_read_to_the_end(project: Project) -> None:
    with a_service(history_days=2) as service:
        service.quirks.repeats_last_page = True
        project.use(service, paging__occurrences="page")
        names = ("deploys", "environments", "occurrences")
        for name in names:
            load(name)
            assert truth(service, name) == {key for (key,) in project.rows(name, "id")}
        assert len(service.requests) < 2 * sum(len(truth(service, name)) / 20 + 1 for name in names)


def test_a_list_by_number_that_ends_at_a_depth_says_where_it_ended(project: Project) -> None:
    with a_service(history_days=DAYS) as service:
        service.quirks.deepest_page = 40
        project.use(service, paging__occurrences="page")
        report = tick()
        assert len(missing(project, service)) > 10_000
        ((oldest,),) = project.sql("SELECT min(timestamp) FROM analytics.occurrences")
        assert report.list_end == oldest.astimezone(UTC)


QUIRKS: dict[str, dict[str, Any]] = {
    "replicas that lag": {"replica_lag": 0.2},
    "a head from a cache": {"cached_head": 2.0},
    "a service that ignores keys": {"last_id": "ignored"},
    "a service that honours keys on some requests": {"last_id": "sometimes"},
    "a service that knows keys of rows only": {"last_id": "seen ids only"},
    "a limit that is cut": {"largest_limit": 100},
    "a last page that repeats": {"repeats_last_page": True},
    "no Date": {"sends_date": False},
    "a Date that is ahead": {"date_offset": 3_600.0},
    "a Date that is behind": {"date_offset": -3_600.0},
}


@pytest.mark.parametrize("quirks", QUIRKS.values(), ids=QUIRKS)
def test_a_deviation_of_the_service_hides_no_row(quirks: dict[str, Any], project: Project) -> None:
    with a_service(history_days=2) as service:
        for name, value in quirks.items():
            setattr(service.quirks, name, value)
        project.use(service)
        tick()
        service.add_occurrences(30)
        service.add_occurrences(3, at=service.now - 120)
        time.sleep(quirks.get("cached_head", 0) + quirks.get("replica_lag", 0))
        tick()
        assert missing(project, service) == set()


def test_ties_and_rows_out_of_order_across_the_bounds_of_requests_hide_no_row(project: Project) -> None:
    with a_service(history_days=2) as service:
        for hours in range(1, 20):
            at = service.now - hours * 3_600
            service.add_occurrences(120, at=at)
            service.add_occurrences(20, at=at - 30, id_at=at)
        project.use(service)
        tick()
        assert missing(project, service) == set()
