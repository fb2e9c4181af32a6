"""A complete listing marks the rows that it lacks; a listing that fails or is implausible marks none."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from dlt.pipeline.exceptions import PipelineStepFailed

from analytics_dagster.ingest.errors import EmptyListError
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, load

LISTINGS = ["environments", "projects", "teams", "users"]


@pytest.fixture
def listed(project: Project, service: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose retries come at once."""
    monkeypatch.setattr("analytics_dagster.ingest.rest_config.BACKOFF_FACTOR", 0.001)
    project.use(service)
    return project


def removed(project: Project, name: str) -> set[Any]:
    """Return the keys of the rows that are marked."""
    return {key for (key,) in project.sql(f"SELECT id FROM analytics.{name} WHERE removed_at IS NOT NULL")}


def drop(service: Sandbox, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Remove rows from the service."""
    for row in rows:
        service.remove(name, row["id"])


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.parametrize("name", LISTINGS)
def test_a_row_that_is_gone_is_marked_once_and_comes_back_clean(name: str, listed: Project, service: Sandbox) -> None:
    load(name)
    row = service.rows(name)[-1]
    service.remove(name, row["id"])

    assert [load(name).rows_removed for _ in range(2)] == [1, 0]
    assert removed(listed, name) == {row["id"]}
    service.plant(name, row)
    load(name)
    assert removed(listed, name) == set()


@pytest.mark.parametrize(
    ("name", "fault"), list(zip(LISTINGS, ["status", "html", "null_result", "truncate"], strict=True))
)
def test_a_listing_that_fails_marks_nothing(name: str, fault: str, listed: Project, service: Sandbox) -> None:
    load(name)
    drop(service, name, service.rows(name)[-1:])
    service.fail_next(fault, times=4, **({"status": 503} if fault == "status" else {}))

    with pytest.raises(PipelineStepFailed):
        load(name)
    assert removed(listed, name) == set()


@pytest.mark.parametrize("name", LISTINGS)
def test_an_empty_listing_marks_nothing(name: str, listed: Project, service: Sandbox) -> None:
    load(name)
    drop(service, name, service.rows(name))

    with pytest.raises(EmptyListError):
        load(name)
    assert removed(listed, name) == set()


def test_a_listing_whose_second_page_fails_marks_nothing(listed: Project, service: Sandbox) -> None:
    assert len(service.rows("teams")) > 20, "more than a page"
    load("teams")

    def fail_from_page_two(resource: str, page: int | None) -> None:
        if resource == "teams" and page == 2:
            service.fail_next("status", status=503, times=4)

    service.before_reply = fail_from_page_two
    drop(service, "teams", service.rows("teams")[:1])

    with pytest.raises(PipelineStepFailed):
        load("teams")
    assert removed(listed, "teams") == set()


@pytest.mark.every_warehouse
def test_a_listed_row_that_does_not_fit_is_not_taken_for_a_removed_one(listed: Project, service: Sandbox) -> None:
    load("users")
    row = service.rows("users")[0]
    service.remove("users", row["id"])
    service.plant("users", {**row, "id": str(row["id"])})

    assert load("users").rows_rejected == 1
    assert removed(listed, "users") == set()


@pytest.mark.every_warehouse
def test_the_users_of_another_account_leave_those_of_this_one_alone(
    listed: Project, service: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    load("users")
    rows = service.rows("users")
    everywhere, ours = rows[0], rows[1:]
    drop(service, "users", ours)
    for row in ours:
        service.plant("users", {**row, "id": row["id"] + 1_000_000})  # the other account's

    load("users")

    assert removed(listed, "users") == set()
    assert len(listed.rows("users", "id")) == 2 * len(rows) - 1
    assert f"users: the listing lacks {len(ours)} rows of the table and repeats 1, so none is marked" in caplog.text
    assert everywhere["id"] in {key for (key,) in listed.rows("users", "id")}


@pytest.mark.every_warehouse(sample=True)
@pytest.mark.parametrize("name", ["projects", "teams"])
def test_a_listing_of_another_account_leaves_the_rows_of_this_one_alone(
    name: str, listed: Project, service: Sandbox
) -> None:
    load(name)
    rows = service.rows(name)
    drop(service, name, rows)
    for row in rows:
        service.plant(name, {**row, "id": row["id"] + 1_000_000, "account_id": row["account_id"] + 1})

    load(name)

    assert removed(listed, name) == set()


@pytest.mark.every_warehouse
def test_the_environments_of_one_project_say_nothing_of_another_s(listed: Project, service: Sandbox) -> None:
    here, *_ = service.rows("environments")
    elsewhere = {**here, "id": here["id"] + 1_000_000, "project_id": here["project_id"] + 1}
    service.plant("environments", elsewhere)
    load("environments")
    drop(service, "environments", [here, elsewhere])  # as with the key of the first project

    load("environments")

    assert removed(listed, "environments") == {here["id"]}


def test_a_deleted_project_is_marked_and_keeps_its_row(listed: Project, service: Sandbox) -> None:
    project = service.rows("projects")[0]
    service.update("projects", project["id"], name=None)

    load("projects")

    assert listed.sql(f"SELECT deleted, removed_at FROM analytics.projects WHERE id = {project['id']}") == [
        (True, None)
    ]


def test_a_last_page_that_is_empty_during_one_listing_marks_nothing(listed: Project, service: Sandbox) -> None:
    load("teams")
    looks = 0

    def empty_the_first_looks(resource: str, page: int | None) -> None:
        nonlocal looks
        if resource == "teams" and page == 2:
            looks += 1
            if looks <= 2:
                service.fail_next("empty", resource="teams")

    service.before_reply = empty_the_first_looks

    assert load("teams").rows_removed == 0
    assert looks > 2, "a second listing was read"
    assert removed(listed, "teams") == set()


@pytest.mark.parametrize("name", ["teams", "environments"])
def test_a_clock_that_steps_back_between_two_pages_marks_nothing(name: str, listed: Project, service: Sandbox) -> None:
    listed.set(**{f"page_size__{name}": 2})
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        load(name)
        clock.shift(timedelta(minutes=1))

        def step_back(_: str, page: int | None) -> None:
            if page == 2:
                clock.shift(timedelta(seconds=-5))

        service.before_reply = step_back

        assert load(name).rows_removed == 0
    assert removed(listed, name) == set()


@pytest.mark.every_warehouse
def test_a_row_that_was_listed_before_the_marks_had_ids_is_marked_as_well(listed: Project, service: Sandbox) -> None:
    load("environments")
    listed.execute("ALTER TABLE analytics.environments DROP COLUMN load_id")
    gone = service.rows("environments")[0]
    drop(service, "environments", [gone])

    load("environments")

    assert removed(listed, "environments") == {gone["id"]}
