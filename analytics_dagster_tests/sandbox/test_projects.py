"""Projects of one service: each has a key, rows, ids, faults and a rate limit of its own."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import analytics_dagster.sandbox
from analytics_dagster.sandbox import ACCOUNT_KEY, SECRET_MARKER, Sandbox, SandboxProject
from analytics_dagster_tests.sandbox.client import DAY, HOUR, INTERFACE, NOW, Answer, Clock, ask

BUSY = SandboxProject(name="busy", id=1001, activity=3)
EMPTY = SandboxProject(name="empty", id=1002, activity=0)
REFUSED = SandboxProject(name="refused", id=2002)
SLOW = SandboxProject(name="slow", id=2003, activity=0.1, delay=0.05)
RENAMED = SandboxProject(name="renamed", id=9999, environments=("live", "preprod", "demo"))
PROJECTS = (BUSY, EMPTY, REFUSED, SLOW, RENAMED)
OF_A_PROJECT = [name for name in INTERFACE if name not in {"projects", "teams", "users"}]
LISTED = ["items", "occurrences", "deploys", "environments", "rql_jobs"]

each_project = pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)


@pytest.fixture(scope="module")
def history() -> Iterator[Sandbox]:
    """The five projects, for tests that only read."""
    with Sandbox(projects=PROJECTS, clock=Clock(), history_days=2, rate_limit=1_000_000) as sandbox:
        yield sandbox


@pytest.fixture
def five(clock: Clock) -> Iterator[Sandbox]:
    """The present day of the five projects, for tests that change something."""
    with Sandbox(projects=PROJECTS, clock=clock, history_days=0) as sandbox:
        yield sandbox


def ask_for(sandbox: Sandbox, resource: str, project: SandboxProject, **query: object) -> Answer:
    """Send one request for a resource with the key of a project."""
    method, path, _, _ = INTERFACE[resource]
    body = {"item_counters": list(range(1, 101))} if method == "POST" else None
    return ask(sandbox, path, key=project.key, method=method, body=body, **query)


def served(sandbox: Sandbox, resource: str, project: SandboxProject) -> list[Any]:
    """Return the rows of the first page of a resource."""
    rows_at, result = INTERFACE[resource][2], ask_for(sandbox, resource, project, limit=100).result
    rows: list[Any] = result if rows_at is None else result[rows_at]
    return rows


def statuses(sandbox: Sandbox, resource: str = "deploys") -> dict[str, int]:
    """Return the status of one request for each project, by name."""
    return {project.name: ask_for(sandbox, resource, project).status for project in PROJECTS}


def others(project: SandboxProject, status: int) -> dict[str, int]:
    """Return the statuses that are expected if only `project` differs from 200."""
    return {each.name: 200 for each in PROJECTS} | {project.name: status}


# Rows


@each_project
@pytest.mark.parametrize("resource", OF_A_PROJECT)
def test_a_key_gets_the_rows_of_its_project(history: Sandbox, resource: str, project: SandboxProject) -> None:
    rows = served(history, resource, project)
    expected = history.project(project.name).rows(resource)

    assert bool(rows) == (project is not EMPTY)
    assert rows == [row for row in expected if row.get("item_counter", 0) <= 100][:100]
    named = [row.get("item", row) for row in rows if resource != "items_metrics"]
    assert {row["project_id"] for row in named} - {None} <= {project.id}


@each_project
def test_metrics_name_the_project_of_the_key(history: Sandbox, project: SandboxProject) -> None:
    result = ask_for(history, "items_metrics", project).result

    assert (result["project_id"], result["project_slug"]) == (project.id, project.name)


def test_ids_are_unique_across_projects_and_counters_are_not(history: Sandbox) -> None:
    for resource in LISTED:
        ids = [row["id"] for project in PROJECTS for row in history.project(project.name).rows(resource)]
        assert len(ids) == len(set(ids)), resource
        assert max(ids) < 2**53
    counters = [{row["counter"] for row in history.project(name).rows("items")} for name in ("busy", "renamed")]
    assert len(counters[0] & counters[1]) > 30


@pytest.mark.parametrize("project", [BUSY, REFUSED, SLOW, RENAMED], ids=lambda project: project.name)
@pytest.mark.parametrize(
    ("resource", "time_field", "disorder"),
    [("occurrences", "timestamp", 5), ("deploys", "start_time", 0), ("rql_jobs", "date_created", 0)],
)
def test_ids_grow_with_time_in_every_project(
    history: Sandbox, project: SandboxProject, resource: str, time_field: str, disorder: int
) -> None:
    rows = history.project(project.name).rows(resource)
    times = [row[time_field] for row in sorted(rows, key=lambda row: row["id"])]

    assert all(later >= earlier - disorder for earlier, later in pairwise(times))


def test_projects_differ_in_their_events_and_in_how_many_there_are(history: Sandbox) -> None:
    count = {project.name: len(history.project(project.name).rows("occurrences")) for project in PROJECTS}
    revisions = [
        {row["revision"] for row in history.project(project.name).rows("deploys")} for project in (BUSY, REFUSED)
    ]

    assert count["busy"] > 2 * count["refused"] > 10 * count["slow"] > 10 * count["empty"] == 0
    assert not revisions[0] & revisions[1]


def test_a_project_has_its_own_environments(history: Sandbox) -> None:
    rows = history.project("renamed").rows

    assert {row["environment"] for row in rows("environments")} == {"live", "preprod", "demo"}
    assert {row["environment"] for row in rows("items")} == {"live", "preprod", "demo"}
    assert {row["data"]["environment"] for row in rows("occurrences")} == {"live", "preprod", "demo"}
    assert {row["environment"] for row in rows("deploys")} == {"live", "preprod", "demo"}


def test_a_project_can_have_two_environments() -> None:
    two = SandboxProject(name="two", id=1003, environments=("live", "preprod"))
    rows = Sandbox(projects=[two], clock=Clock(), history_days=1).rows

    for resource in ("environments", "items", "deploys"):
        assert {row["environment"] for row in rows(resource)} == {"live", "preprod"}


def test_the_rows_of_a_project_do_not_depend_on_its_neighbours(history: Sandbox) -> None:
    with Sandbox(projects=[RENAMED], clock=Clock(), history_days=2) as alone:
        for resource in OF_A_PROJECT:
            assert alone.texts(resource) == history.project("renamed").texts(resource)


def test_the_account_lists_every_project_and_shares_teams_and_users(five: Sandbox) -> None:
    five.project("busy").update("teams", 2001, name="Renamed")
    five.project("slow").remove("users", 301)

    listed = {row["id"]: row["name"] for row in ask(five, "/v1/projects", key=ACCOUNT_KEY).result}
    assert listed.items() >= {(project.id, project.name) for project in PROJECTS}
    assert None in listed.values()
    assert ask(five, "/v1/teams", key=ACCOUNT_KEY).result[0]["name"] == "Renamed"
    assert len(ask(five, "/v1/users", key=ACCOUNT_KEY).result["users"]) == 11


def test_changes_to_one_project_leave_the_others_alone(five: Sandbox, clock: Clock) -> None:
    before = {project.name: [five.project(project.name).texts(name) for name in LISTED] for project in PROJECTS}
    slow = five.project("slow")
    slow.add_deploy(environment="staging")
    slow.add_occurrences(2)
    slow.plant("rql_jobs", {"id": 5})
    slow.update("environments", slow.rows("environments")[0]["id"], visible=0)
    slow.remove("items", slow.rows("items")[-1]["id"])

    after = {project.name: [five.project(project.name).texts(name) for name in LISTED] for project in PROJECTS}
    assert [name for name in before if before[name] != after[name]] == ["slow"]
    assert all(one != other for one, other in zip(before["slow"], after["slow"], strict=True))
    clock.now += DAY
    assert 5 in [row["id"] for row in slow.rows("rql_jobs")]


def test_the_sandbox_itself_is_its_first_project(five: Sandbox) -> None:
    (row,) = five.add_occurrences(1)

    assert row["id"] == five.project("busy").rows("occurrences")[0]["id"]
    assert five.texts("items") == five.project("busy").texts("items")


def test_an_empty_project_fills_with_what_is_added(five: Sandbox) -> None:
    empty = five.project("empty")
    deploy = empty.add_deploy(revision="first")
    occurrences = empty.add_occurrences(3)

    assert served(five, "deploys", EMPTY) == [deploy]
    assert served(five, "occurrences", EMPTY) == occurrences[::-1]
    assert {row["id"] for row in served(five, "items", EMPTY)} == {row["item_id"] for row in occurrences}
    assert {row["project_id"] for row in [deploy, *occurrences]} - {None} == {EMPTY.id}


def test_added_occurrences_of_every_project_have_ids_of_their_own(five: Sandbox) -> None:
    ids = [row["id"] for project in PROJECTS for row in five.project(project.name).add_occurrences(60, at=NOW - HOUR)]

    assert len(set(ids)) == 300
    for project in PROJECTS:
        listed = [row["id"] for row in five.project(project.name).rows("occurrences")]
        assert listed == sorted(listed, reverse=True)
        assert len(set(ids) & set(listed)) == 60


def test_added_deploys_of_one_minute_have_ids_of_their_own(five: Sandbox) -> None:
    rows = [five.project(project.name).add_deploy() for project in PROJECTS for _ in range(12)]

    assert len({row["id"] for row in rows}) == 60


# Keys


def test_the_key_of_one_project_can_be_refused_and_admitted_again(five: Sandbox) -> None:
    five.refuse("refused")
    assert statuses(five) == others(REFUSED, 403)
    assert ask_for(five, "items", REFUSED).json["message"] == "access token is disabled"
    assert ask(five, "/v1/projects", key=ACCOUNT_KEY).status == 200

    five.admit("refused")
    assert set(statuses(five).values()) == {200}


def test_a_project_key_is_no_account_key_and_the_account_key_is_no_project_key(five: Sandbox) -> None:
    assert ask_for(five, "teams", RENAMED).status == 403
    assert ask(five, "/v1/items", key=ACCOUNT_KEY).status == 403


def test_requests_tell_the_project_of_their_key(five: Sandbox) -> None:
    for key in (SLOW.key, RENAMED.key, ACCOUNT_KEY, "nonsense", None):
        ask(five, "/v1/deploys", key=key)

    assert [(request.key, request.project) for request in five.requests] == [
        ("project", "slow"),
        ("project", "renamed"),
        ("account", None),
        ("wrong", None),
        (None, None),
    ]


def test_keys_are_marked_as_secrets() -> None:
    assert all(SECRET_MARKER in project.key for project in PROJECTS)
    assert len({project.key for project in PROJECTS}) == len(PROJECTS)


def test_the_rate_limit_counts_by_key(clock: Clock) -> None:
    with Sandbox(projects=[BUSY, EMPTY], clock=clock, history_days=0, rate_limit=2) as sandbox:
        of_busy = [ask_for(sandbox, "deploys", BUSY).status for _ in range(3)]
        of_empty = [ask_for(sandbox, "deploys", EMPTY) for _ in range(3)]

    assert of_busy == [reply.status for reply in of_empty] == [200, 200, 429]
    assert [reply.headers["X-Rate-Limit-Remaining"] for reply in of_empty] == ["1", "0", "0"]


# Outages


FAULTS: list[tuple[str, dict[str, object], int]] = [
    ("status", {"status": 503}, 503),
    ("err", {"status": 422}, 422),
    ("redirect", {}, 302),
]


@pytest.mark.parametrize(("kind", "options", "status"), FAULTS)
def test_a_fault_can_strike_one_project_alone(five: Sandbox, kind: str, options: dict[str, Any], status: int) -> None:
    five.fail_next(kind, project="renamed", times=2, **options)

    assert statuses(five) == others(RENAMED, status)
    assert statuses(five, "items") == others(RENAMED, status)
    assert set(statuses(five).values()) == {200}
    assert ask(five, "/v1/teams", key=ACCOUNT_KEY).status == 200


def test_a_fault_that_empties_metrics_names_the_project_of_the_key(five: Sandbox) -> None:
    five.fail_next("empty", resource="items_metrics", project="renamed")

    result = ask_for(five, "items_metrics", RENAMED).result
    assert (result["metrics"], result["project_id"]) == ([], RENAMED.id)


def test_the_connections_of_one_project_can_be_reset(five: Sandbox) -> None:
    five.fail_next("reset", project="renamed")

    assert ask_for(five, "items", BUSY).status == 200
    with pytest.raises(ConnectionResetError):
        ask_for(five, "items", RENAMED)


def test_one_project_can_go_empty_alone(five: Sandbox) -> None:
    five.go_empty(60, project="renamed")

    assert served(five, "items", RENAMED) == []
    assert served(five, "items", BUSY)


def test_the_cached_head_of_one_project_is_not_served_to_another(five: Sandbox) -> None:
    five.quirks.cached_head = 60

    assert served(five, "items", BUSY) != served(five, "items", RENAMED)
    assert served(five, "items", RENAMED) == five.project("renamed").rows("items")[:100]


def test_a_slow_project_delays_its_own_replies_and_no_others(clock: Clock) -> None:
    slower = replace(SLOW, delay=1.5)
    with Sandbox(projects=[BUSY, slower], clock=clock, history_days=0) as sandbox, ThreadPoolExecutor(4) as pool:

        def timed(project: SandboxProject) -> float:
            start = time.monotonic()
            assert ask_for(sandbox, "deploys", project).status == 200
            return time.monotonic() - start

        slow = [pool.submit(timed, slower) for _ in range(3)]
        assert max(timed(BUSY) for _ in range(3)) < slower.delay
        durations = [future.result() for future in slow]
    assert slower.delay <= min(durations) <= max(durations) < 2 * slower.delay


# Settings


def test_projects_that_cannot_be_are_refused_at_once() -> None:
    twin = SandboxProject(name="twin", id=BUSY.id)
    for projects in ([BUSY, twin], [BUSY, SandboxProject(name="busy", id=1009, key="k")]):
        with pytest.raises(ValueError, match="names and ids of their own"):
            Sandbox(projects=projects)
    with pytest.raises(ValueError, match="keys of their own"):
        Sandbox(projects=[BUSY, SandboxProject(name="thief", id=1009, key=BUSY.key)])
    for wrong in ({"id": 7}, {"activity": -1}, {"activity": 1_000}, {"delay": -1}, {"environments": ("live",)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SandboxProject(**{"name": "wrong", "id": 1009, **wrong})  # type: ignore[arg-type]


def test_unknown_projects_are_refused(five: Sandbox) -> None:
    for call in (
        lambda: five.project("none"),
        lambda: five.refuse("none"),
        lambda: five.admit("none"),
        lambda: five.go_empty(1, project="none"),
        lambda: five.fail_next("html", project="none"),
    ):
        with pytest.raises(ValueError, match="no project 'none'; there are: busy, empty"):
            call()


def test_the_command_line_serves_several_projects_and_prints_their_keys() -> None:
    command = [sys.executable, "-m", "analytics_dagster.sandbox", "--history-days", "0"]
    command += ["--project", "web=1010", "--project", "mobile=1011"]
    root = Path(analytics_dagster.sandbox.__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip().removeprefix("http://")
        keys = dict(process.stdout.readline().strip().split(": ") for _ in range(2))
        found = {}
        for name, key in keys.items():
            connection = http.client.HTTPConnection(address, timeout=5)
            connection.request("GET", "/v1/environments", headers={"api_key": key})
            found[name] = json.load(connection.getresponse())["result"]["environments"][0]["project_id"]
            connection.close()
        process.terminate()
        assert process.wait(5) == 0
    assert found == {"web": 1010, "mobile": 1011}


@pytest.mark.parametrize("text", ["web", "web=", "=1010", "web=seven", "web=7"])
def test_the_command_line_refuses_a_project_that_cannot_be(text: str) -> None:
    command = [sys.executable, "-m", "analytics_dagster.sandbox", "--project", text]
    root = Path(analytics_dagster.sandbox.__file__).parents[2]

    run = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=30, check=False)

    assert run.returncode == 2
    assert "argument --project: " in run.stderr
