"""The log of a load: a line for each batch of pages, each retry, each wait, and the end."""

import logging
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from analytics_dagster.ingest import client, fast_reader, project_load
from analytics_dagster.ingest import load as load_module
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.http_replies import Clock, replying
from analytics_dagster_tests.support.project import Project, daily_partition, failure, load, materializations
from analytics_dagster_tests.support.service import a_service

BATCH = re.compile(r"occurrences: (?:pages|reply) ([\d-]+) with (\d+) rows; (\d+) rows so far, \d+ rows/s")


@pytest.fixture
def day() -> Iterator[Sandbox]:
    """The service with yesterday's and today's history."""
    with a_service(history_days=1) as sandbox:
        yield sandbox


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries come at once."""
    monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.01)


def lines(caplog: pytest.LogCaptureFixture, name: str, level: int | None = None) -> list[str]:
    """Return the lines that a module logged."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == name and (level is None or record.levelno == level)
    ]


def pages_of(spans: str) -> list[int]:
    """Return the pages of a text such as `1-3, 7`."""
    ends = [[int(end) for end in span.split("-")] for span in spans.split(", ")]
    return [page for first, *last in ends for page in range(first, (last or [first])[0] + 1)]


def test_the_first_line_and_the_metadata_name_where_the_key_came_from_and_not_the_key(
    project: Project, day: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="analytics_dagster")
    project.set(base_url=day.url)
    project.monkeypatch.setenv("API_KEY", PROJECT_KEY)
    project.set(account_api_key=ACCOUNT_KEY)

    loaded = materializations(project.materialize("environments", "users"))

    assert loaded["environments"]["key_from"] == "API_KEY"
    assert loaded["users"]["key_from"] == "SOURCES__ANALYTICS__ACCOUNT_API_KEY"
    first = next(line for line in lines(caplog, project_load.__name__) if line.startswith("environments"))
    assert first == f"environments: reading from {day.url}, key from API_KEY"
    assert not any(key in f"{caplog.text}{loaded}" for key in (PROJECT_KEY, ACCOUNT_KEY))


def test_a_load_from_the_sandbox_starts_beside_another_program_s_key(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="analytics_dagster")
    project.monkeypatch.setenv("API_KEY", "another-program-s")

    assert project.materialize("users").success

    assert lines(caplog, project_load.__name__)[0] == "users: reading from sandbox, key from sandbox"


@pytest.mark.parametrize("paging", ["page", "keyset"])
def test_each_batch_of_pages_has_a_line_with_its_pages_and_rows_and_the_rate(
    paging: str, project: Project, day: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    project.use(day, paging__occurrences=paging, page_size__occurrences=20)
    caplog.set_level(logging.DEBUG, logger=fast_reader.__name__)

    report = load("occurrences")

    batches = [BATCH.fullmatch(line) for line in lines(caplog, fast_reader.__name__)]
    assert len(batches) > 5
    assert all(batches)
    pages = [page for batch in batches if batch for page in pages_of(batch[1])]
    assert sorted(set(pages)) == list(range(1, max(pages) + 1))
    rows = [int(batch[2]) for batch in batches if batch]
    assert [int(batch[3]) for batch in batches if batch] == [sum(rows[: index + 1]) for index in range(len(rows))]
    assert sum(rows) == report.rows_read


@pytest.mark.parametrize(("seconds", "level"), [(0.0, logging.INFO), (3600.0, logging.DEBUG)])
def test_a_batch_is_more_than_a_detail_once_every_few_seconds(
    seconds: float, level: int, project: Project, day: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    project.monkeypatch.setattr(fast_reader, "SECONDS_BETWEEN_LINES", seconds)
    caplog.set_level(logging.DEBUG, logger=fast_reader.__name__)
    project.use(day)

    load("deploys")

    assert {record.levelno for record in caplog.records if record.name == fast_reader.__name__} == {level}


@pytest.mark.usefixtures("impatient")
def test_each_retry_has_a_line_and_so_has_the_end(
    project: Project, day: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    project.use(day)
    caplog.set_level(logging.INFO)
    day.fail_next("status", resource="deploys", status=503, times=2)

    report = load("deploys")

    assert lines(caplog, client.__name__, logging.WARNING) == [
        "deploys: HTTP 503; retry 1 of 3 in 0.0 s",
        "deploys: HTTP 503; retry 2 of 3 in 0.0 s",
    ]
    rows = len(day.rows("deploys"))
    assert lines(caplog, load_module.__name__, logging.INFO) == [
        f"deploys: loaded {rows} rows, {rows} new, 0 rejected, in {report.requests} requests and {report.seconds:.1f} s"
    ]


def test_a_wait_for_the_rate_limit_says_how_long_it_will_be(
    project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    full_minute = time.time() // 60 * 60
    caplog.set_level(logging.INFO)
    with Sandbox(clock=lambda: full_minute + clock.now, history_days=0, rate_limit=1) as service:
        project.use(service)
        service.fail_next("status", resource="environments", status=429, remaining_seconds=60)
        report = load("environments")

    logged = Counter(lines(caplog, client.__name__))
    refused = logged.pop("environments: HTTP 429 (rate limit exceeded); retry 1 of 3 in 60.0 s")
    assert refused == report.retries
    assert set(logged) == {"environments: the rate limit is used up; waiting 60 s"}
    assert logged.total() > 1


@pytest.fixture
def logged_project(project: Project) -> Iterator[Project]:
    """A project whose instance records the loader's log lines, as `dagster.yaml` configures it."""
    settings = yaml.safe_load((Path(__file__).resolve().parents[2] / "dagster.yaml").read_text())
    used = {name: settings[name] for name in ("concurrency", "python_logs", "run_monitoring")}
    with dg.instance_for_test(overrides=used) as instance:
        yield Project(project.folder, project.monkeypatch, instance)


def logged(project: Project, result: dg.ExecuteInProcessResult, level: int) -> list[str]:
    """Return the log lines of a run, at a level."""
    entries = project.instance.all_logs(result.run_id)
    return [entry.user_message for entry in entries if entry.level == level and not entry.is_dagster_event]


@pytest.mark.usefixtures("impatient")
def test_a_run_in_the_ui_has_the_lines_of_its_loads(logged_project: Project, day: Sandbox) -> None:
    project = logged_project
    project.use(day)
    project.monkeypatch.setattr(fast_reader, "SECONDS_BETWEEN_LINES", 0.0)
    day.fail_next("status", resource="deploys", status=502)

    result = project.materialize("deploys", partition=daily_partition())

    assert result.success
    assert logged(project, result, logging.WARNING) == ["deploys: HTTP 502; retry 1 of 3 in 0.0 s"]
    begin, *batches, end = logged(project, result, logging.INFO)
    assert begin == f"deploys: reading from {day.url}, key from SOURCES__ANALYTICS__API_KEY"
    assert batches
    assert all(line.startswith("deploys: pages ") for line in batches)
    assert end.startswith("deploys: loaded ")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, "users: HTTP 401, request req-17. Check account_api_key: the service did not accept it."),
        (404, "users: HTTP 404, request req-17. Check base_url and paths.users."),
        (503, "users: HTTP 503, request req-17 after 4 attempts. Check base_url, and whether the service is up."),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_a_run_that_failed_says_of_what_and_why_and_what_to_do(
    status: int, sentence: str, logged_project: Project
) -> None:
    project = logged_project
    with replying(b"<html>", status, {"X-Request-Id": "req-17"}) as url:
        project.set(base_url=url, api_key="any")
        result = project.materialize("users")

    assert logged(project, result, logging.ERROR) == [sentence]
    assert failure(result) == f"1 of 1 did not load: {sentence}"
    assert len(logged(project, result, logging.WARNING)) == (3 if status == 503 else 0)
