"""A loader whose clock is wrong, or a service whose `Date` is: no row is lost, and no coverage ends in the future.

`time_machine` moves the loader's clock; the service's is the test's own. A reply's `Date` comes from `Clocks`, because
both sides run in one process.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import time_machine

from analytics_dagster.ingest.clock import compare_clocks
from analytics_dagster.ingest.windows import Window
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, checked, load, materializations

START = datetime(2026, 3, 10, 18, 7, tzinfo=UTC)
MIDNIGHT = START.replace(hour=0, minute=0)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
TICK = 15 * MINUTE
MOST_LATE = 5
"""Seconds after its timestamp within which the service lists an occurrence."""

CHECKED = dg.AssetSelection.checks_for_assets(dg.AssetKey(["analytics", "occurrences"]))


@dataclass
class Clocks:
    """The service's clock, and the settings of the loader's and of the replies' `Date`.

    Attributes:
        now: The service's time, which is right.
        ahead: Time by which the loader's clock is ahead of it.
        dated_ahead: Time by which the `Date` of a reply is ahead of it; None for replies without a `Date`.
    """

    now: datetime = START
    ahead: timedelta = timedelta(0)
    dated_ahead: timedelta | None = timedelta(0)

    def seconds(self) -> float:
        """Return the service's time in epoch seconds."""
        return self.now.timestamp()

    def date(self, _: object) -> str | None:
        """Return the `Date` of a reply as the client reads it: in whole seconds."""
        if self.dated_ahead is None:
            return None
        return (self.now + self.dated_ahead).replace(microsecond=0).isoformat()


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    # The sandbox sends the machine's time, which is the loader's here.
    monkeypatch.setattr("analytics_dagster.ingest.client.service_time", clocks.date)
    return clocks


@pytest.fixture
def service(project: Project, clocks: Clocks) -> Iterator[Sandbox]:
    """A service with a day of history that runs on its own clock."""
    with Sandbox(clock=clocks.seconds, history_days=1, rate_limit=1_000_000) as service:
        project.use(service, page_size__occurrences=1000, start_date=(MIDNIGHT - DAY).date())
        yield service


def tick(clocks: Clocks, name: str = "occurrences") -> Any:
    """Load what the schedule would: yesterday and today by the loader's clock, from the end of coverage on."""
    with time_machine.travel(clocks.now + clocks.ahead, tick=False):
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return load(name, Window(start=today - DAY, end=today + DAY), resume=True)


def missing(project: Project, service: Sandbox, until: datetime) -> set[int]:
    """Return the keys of the service's occurrences before a time that the table lacks."""
    rows = {row["id"] for row in service.rows("occurrences") if row["timestamp"] < until.timestamp() - MOST_LATE}
    assert len(rows) > 1000
    return rows - {key for (key,) in project.rows("occurrences", "id")}


def covered_until(project: Project) -> datetime:
    ((end,),) = project.sql("SELECT max(window_end) FROM analytics.load_windows")
    return end.astimezone(UTC)


# -- the loader's clock -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [20 * MINUTE, -20 * MINUTE], ids=["ahead", "behind"])
def test_a_clock_that_is_wrong_by_twenty_minutes_loses_nothing_in_two_hours_and_is_reported(
    ahead: timedelta, project: Project, service: Sandbox, clocks: Clocks, caplog: pytest.LogCaptureFixture
):
    tick(clocks)
    clocks.ahead = ahead
    for _ in range(8):
        clocks.now += TICK
        report = tick(clocks)

    # The rows that came since the clock went wrong: with a clock that is behind, the newest 20 minutes are not due.
    assert missing(project, service, min(clocks.now, clocks.now + ahead)) == set()
    assert covered_until(project) == min(clocks.now, clocks.now + ahead)
    assert report.clocks
    assert report.clocks.difference == -ahead
    direction = "behind" if ahead > timedelta(0) else "ahead of"
    sentence = (
        f"occurrences: the service's clock is 1,200 s {direction} this machine's: 2026-03-10 20:07:00 UTC there, "
    )
    assert sentence in caplog.text
    assert "Synchronize this machine's clock" in caplog.text


@pytest.mark.usefixtures("service")
def test_freshness_is_told_from_the_services_time(project: Project, clocks: Clocks):
    clocks.ahead = 20 * MINUTE
    tick(clocks)

    with time_machine.travel(clocks.now + clocks.ahead, tick=False):
        result = checked(project, CHECKED)["occurrences", "freshness"]

    assert result.metadata["loaded_through"] == clocks.now.timestamp()
    assert result.metadata["age_seconds"] == 1200


def test_one_tick_with_a_clock_a_day_ahead_does_not_keep_the_next_ones_from_requesting(
    project: Project, service: Sandbox, clocks: Clocks
):
    tick(clocks)
    clocks.now += TICK
    clocks.ahead = 20 * HOUR
    tick(clocks)
    clocks.ahead = timedelta(0)
    for _ in range(2):
        clocks.now += TICK
        assert tick(clocks).requests > 0

    assert missing(project, service, clocks.now) == set()
    assert covered_until(project) == clocks.now


# -- recorded coverage that ends in the future ------------------------------------------------------------------


@pytest.fixture
def ahead_once(service: Sandbox, clocks: Clocks) -> None:  # noqa: ARG001 - it must run
    """Record coverage 20 hours into the future: the service sends no `Date`, and one tick's clock is ahead."""
    tick(clocks)
    clocks.now += TICK
    clocks.dated_ahead, clocks.ahead = None, 20 * HOUR
    tick(clocks)
    clocks.now += TICK
    clocks.ahead = timedelta(0)


@pytest.mark.usefixtures("ahead_once")
def test_recorded_coverage_that_ends_in_the_future_is_ignored_with_one_warning(
    project: Project, service: Sandbox, clocks: Clocks, caplog: pytest.LogCaptureFixture
):
    report = tick(clocks)

    assert report.requests > 0
    assert missing(project, service, clocks.now) == set()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    (warning,) = warnings
    assert warning == (
        "occurrences: recorded coverage ends in the future, at 2026-03-11 14:22:00 UTC, and is ignored: the clock "
        "of an earlier load was ahead. It is now 2026-03-10 18:37:00 UTC by this machine's clock; check that this is "
        "right."
    )


@pytest.mark.usefixtures("ahead_once")
def test_the_checks_ignore_coverage_that_ends_in_the_future_and_say_so(
    project: Project, clocks: Clocks, caplog: pytest.LogCaptureFixture
):
    with time_machine.travel(clocks.now, tick=False):
        results = checked(project, CHECKED)

    freshness, history = (results["occurrences", name] for name in ("freshness", "complete_history"))
    assert freshness.metadata["age_seconds"] == 30 * 60
    assert "Recorded coverage that ends in the future, at 2026-03-11 14:22 UTC, is ignored" in history.description
    assert caplog.text.count("occurrences: recorded coverage ends in the future") == 1


@pytest.mark.usefixtures("ahead_once")
def test_coverage_that_ended_in_the_future_does_not_count_once_that_time_has_come(
    project: Project, service: Sandbox, clocks: Clocks
):
    clocks.dated_ahead = timedelta(0)
    tick(clocks)
    clocks.now += 21 * HOUR  # nothing ran
    assert tick(clocks).window.start == START + 2 * TICK

    assert missing(project, service, clocks.now) == set()


@pytest.mark.usefixtures("ahead_once")
def test_a_loader_whose_clock_is_behind_forgets_no_coverage(project: Project, clocks: Clocks):
    before = project.rows("load_windows")
    clocks.dated_ahead, clocks.ahead = timedelta(0), -2 * HOUR
    clocks.now += 20 * HOUR  # all coverage is in the past by now, but for the loader

    tick(clocks)

    assert set(before) <= set(project.rows("load_windows"))


# -- the service's Date -----------------------------------------------------------------------------------------


def test_a_date_that_is_an_hour_behind_ends_coverage_an_hour_earlier_and_loses_nothing(
    project: Project, service: Sandbox, clocks: Clocks
):
    clocks.dated_ahead = -HOUR
    for _ in range(4):
        tick(clocks)
        assert covered_until(project) == clocks.now - HOUR
        clocks.now += TICK

    tick(clocks)
    assert missing(project, service, clocks.now) == set()


@pytest.mark.usefixtures("service")
def test_without_a_date_coverage_ends_at_the_loaders_time(project: Project, clocks: Clocks):
    clocks.dated_ahead = None
    report = tick(clocks)

    assert covered_until(project) == clocks.now
    assert report.clocks is None


@pytest.mark.usefixtures("service")
def test_a_window_that_has_not_begun_by_the_services_clock_is_not_covered(
    project: Project, clocks: Clocks, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    tick(clocks)
    before = project.rows("load_windows")
    clocks.now += MINUTE
    clocks.dated_ahead = -HOUR

    report = tick(clocks)

    assert report.window is None
    assert report.requests > 0
    assert project.rows("load_windows") == before
    assert (
        "occurrences: no coverage is recorded: the window begins at 2026-03-10 18:07:00 UTC, and it was 2026-03-10 "
        "17:08:00 UTC by the earlier of the clocks."
    ) in caplog.text


@pytest.mark.usefixtures("service")
def test_the_asset_shows_the_difference_always_and_a_sentence_for_a_large_one(project: Project, clocks: Clocks):
    shown = []
    for ahead in (0, 59, 61):
        clocks.ahead = timedelta(seconds=ahead)
        with time_machine.travel(clocks.now + clocks.ahead, tick=False):
            shown.append(materializations(project.materialize("deploys"))["deploys"])

    assert [metadata["clock_difference_seconds"] for metadata in shown] == [0, -59, -61]
    sentence = "By the first reply, the service's clock is 61 s behind this machine's: 2026-03-10 18:07:00 UTC there, "
    assert [metadata.get("clock", "")[: len(sentence)] for metadata in shown] == ["", "", sentence]


@pytest.mark.parametrize(
    ("service", "difference"),
    [
        pytest.param(-1200, -1200, id="behind"),
        pytest.param(-1.4, 0, id="whole seconds"),
        pytest.param(-1.5, -1.5, id="more than the whole seconds"),
        pytest.param(0, 0, id="equal"),
        pytest.param(30, 0, id="a reply that came late"),
        pytest.param(100, 0, id="a reply at the end"),
        pytest.param(1300, 1200, id="ahead"),
    ],
)
def test_clocks_differ_by_no_more_than_the_loads_duration_explains(service: float, difference: float):
    began, ended = START, START + timedelta(seconds=100)
    clocks = compare_clocks(START + timedelta(seconds=service), began_at=began, ended_at=ended)
    assert clocks.difference == timedelta(seconds=difference)


def test_the_date_of_a_real_reply_is_compared(project: Project):
    """Without a stub: the sandbox's replies have the machine's time."""
    with Sandbox(history_days=0, rate_limit=1_000_000) as service:
        project.use(service)
        report = load("deploys")

    assert report.clocks
    assert abs(report.clocks.service - report.clocks.loader) < timedelta(seconds=1.5)
