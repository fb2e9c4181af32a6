"""The sandbox behaves like the service, over real sockets."""

import ast
import gzip
import http.client
import json
import math
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import analytics_dagster.sandbox
from analytics_dagster.sandbox import ACCOUNT_KEY, PERSONAL_MARKERS, PROJECT_KEY, SECRET_MARKER, Sandbox
from analytics_dagster_tests.sandbox.client import (
    DAY,
    HOUR,
    INTERFACE,
    NOW,
    Answer,
    Clock,
    ask,
    fetch,
    pages,
)

HISTORY_DAYS = 7


def _of(names: str, *types: str) -> dict[str, set[str]]:
    return {name: set(types) for name in names.split()}


# resource: field: JSON types, all of which occur somewhere in the history
COLUMNS = {
    "items": (
        _of("id counter project_id title_lock level_lock total_occurrences controlling_id group_status", "int")
        | _of("first_occurrence_id first_occurrence_timestamp", "int")
        | _of("last_occurrence_id last_occurrence_timestamp", "int")
        | _of("environment title level status platform framework hash", "str")
        | _of("activating_occurrence_id last_activated_timestamp last_resolved_timestamp", "int", "null")
        | _of("unique_occurrences assigned_user_id assigned_team_id last_modified_by", "int", "null")
        | _of("public_item_id group_item_id", "int", "null")
        | _of("resolved_in_version", "str", "null")
        | _of("integrations_data", "str", "object", "null")
    ),
    "occurrences": (
        _of("id timestamp", "int") | _of("item_id project_id version billable", "int", "null") | _of("data", "object")
    ),
    "items_metrics": _of("item_counter", "int") | _of("first_ttr last_ttr", "int", "null"),
    "deploys": (
        _of("id project_id start_time", "int")
        | _of("environment revision status", "str")
        | _of("finish_time user_id", "int", "null")
        | _of("local_username comment", "str", "null")
    ),
    "environments": _of("id project_id", "int") | _of("environment", "str") | _of("visible", "int", "bool"),
    "rql_jobs": (
        _of("id project_id date_created date_modified", "int")
        | _of("project_group_id", "int", "null")
        | _of("query_string status job_hash", "str")
    ),
    "projects": (
        _of("id account_id date_created date_modified", "int")
        | _of("name status", "str", "null")
        | _of("settings_data", "object")
    ),
    "teams": _of("id account_id", "int") | _of("name access_level", "str"),
    "users": _of("id", "int") | _of("username email", "str"),
}
_JSON_TYPES = {
    int: "int",
    str: "str",
    bool: "bool",
    dict: "object",
    list: "array",
    float: "float",
    type(None): "null",
}


class Event(NamedTuple):
    """The fields of an occurrence that tests evaluate: a week of whole rows would keep the garbage collector busy."""

    id: int
    item_id: int | None
    timestamp: int
    environment: str
    title: str
    revision: str

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Event":
        """Return the event of a row."""
        data = row["data"]
        return cls(
            row["id"],
            row["item_id"],
            row["timestamp"],
            data["environment"],
            data["title"],
            data["code_version"],
        )


@pytest.fixture(scope="module")
def history() -> Iterator[Sandbox]:
    """A week and the present one, for tests that only read."""
    with Sandbox(seed=7, clock=Clock(), history_days=HISTORY_DAYS, rate_limit=1_000_000) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def recent(history: Sandbox) -> list[Any]:
    """The newest occurrences of `history`, newest first."""
    return fetch(history, "occurrences", limit=2_000)


@pytest.fixture(scope="module")
def events(history: Sandbox) -> list[Event]:
    """All occurrences of `history`, newest first."""
    return [Event.of(json.loads(text)) for text in history.texts("occurrences")]


@pytest.fixture(scope="module")
def long_history() -> Iterator[Sandbox]:
    """The default three weeks: every paged list has several pages."""
    with Sandbox(seed=7, clock=Clock()) as sandbox:
        yield sandbox


# The data


@pytest.mark.parametrize("resource", COLUMNS)
def test_rows_have_the_documented_fields_with_every_documented_type(
    history: Sandbox, recent: list[Any], resource: str
) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    rows = recent if resource == "occurrences" else history.rows(resource)
    for row in rows:
        for name, value in row.items():
            found[name].add(_JSON_TYPES[type(value)])

    assert found == COLUMNS[resource]
    absent = {name for name in COLUMNS[resource] if any(name not in row for row in rows)}
    assert absent == ({"assigned_team_id"} if resource == "items" else set())


def test_every_resource_is_served_as_documented(history: Sandbox) -> None:
    for resource in INTERFACE:
        assert fetch(history, resource), resource


def test_two_processes_see_the_same_rows_at_the_same_second(history: Sandbox, recent: list[Any]) -> None:
    with Sandbox(seed=7, clock=lambda: NOW - 30 * DAY, history_days=HISTORY_DAYS) as other:
        other.clock_offset = 30 * DAY
        for resource in INTERFACE:
            if resource != "occurrences":
                assert other.texts(resource) == history.texts(resource)
        assert fetch(other, "occurrences", limit=2_000) == recent
    with Sandbox(seed=8, clock=Clock(), history_days=0) as another_world:
        assert fetch(another_world, "occurrences") != recent[:20]


def test_rows_do_not_depend_on_where_the_history_starts(sandbox: Sandbox, events: list[Event]) -> None:
    short = [Event.of(json.loads(text)) for text in sandbox.texts("occurrences")]

    assert len(short) < len(events) / 4
    assert short == events[: len(short)]
    assert events[-1].id // 100 // DAY == NOW // DAY - HISTORY_DAYS


def test_occurrences_are_ordered_by_id_and_only_roughly_by_timestamp(events: list[Event]) -> None:
    ids = [event.id for event in events]
    steps = [older.timestamp - newer.timestamp for newer, older in pairwise(events)]

    assert ids == sorted(set(ids), reverse=True)
    assert all(len(str(number)) == 12 for number in ids)
    assert 0 in steps
    assert 0 < max(steps) <= 5


def test_a_day_has_its_rhythm(events: list[Event]) -> None:
    per_hour = [0] * 24
    for event in events:
        per_hour[event.timestamp % DAY // HOUR] += 1

    assert 2_500 < len(events) / (HISTORY_DAYS + NOW % DAY / DAY) < 3_500
    assert sum(per_hour[13:18]) > 2 * sum(per_hour[1:6])


def test_items_agree_with_their_occurrences(history: Sandbox, events: list[Event]) -> None:
    by_item: dict[int | None, list[Event]] = defaultdict(list)
    for event in events:
        by_item[event.item_id].append(event)
    items = history.rows("items")

    assert {item["id"] for item in items} == set(by_item) - {None}
    assert len({item["counter"] for item in items}) == len(items) > 90
    for item in items:
        newest = by_item[item["id"]][0]
        resolved = item["last_resolved_timestamp"] or 0
        since = [event for event in by_item[item["id"]] if event.id // 100 > resolved]
        assert item["last_occurrence_id"] == newest.id > 2**32
        assert item["last_occurrence_timestamp"] == newest.timestamp
        assert newest.timestamp == max(event.timestamp for event in by_item[item["id"]])
        assert item["title"] == newest.title
        if item["status"] == "active":
            assert item["total_occurrences"] == len(since)
        if item["status"] == "resolved":
            assert not since
    assert {item["status"] for item in items} == {"active", "resolved", "muted", "archived"}


def test_items_are_newest_first(history: Sandbox) -> None:
    times = [item["last_occurrence_timestamp"] for item in history.rows("items")]

    assert times == sorted(times, reverse=True)


def test_occurrences_carry_the_revision_that_runs_in_their_environment(history: Sandbox, events: list[Event]) -> None:
    deploys = history.rows("deploys")
    for event in events[:2_000:7]:
        second = event.id // 100
        done = [
            deploy
            for deploy in deploys
            if deploy["environment"] == event.environment
            and deploy["status"] == "succeeded"
            and deploy["finish_time"] <= second
        ]
        running = max(done, key=lambda deploy: deploy["finish_time"])
        recent = {d["revision"] for d in done if d["finish_time"] > second - 3 * HOUR}
        assert event.revision in {running["revision"], *recent}


def test_deploys_come_several_a_day_and_end_in_every_way(history: Sandbox) -> None:
    deploys = history.rows("deploys")
    ids = [deploy["id"] for deploy in deploys]

    assert ids == sorted(set(ids), reverse=True)
    assert 7 <= len(deploys) / (HISTORY_DAYS + NOW % DAY / DAY) <= 11
    assert {d["status"] for d in deploys} >= {"succeeded", "failed", "timed_out"}
    assert {d["environment"] for d in deploys} == {"production", "staging", "development"}
    assert all(60 <= d["finish_time"] - d["start_time"] <= HOUR for d in deploys if d["finish_time"])


def test_secrets_and_personal_data_stand_where_the_service_has_them_and_are_marked(
    recent: list[Any],
) -> None:
    full = [row["data"] for row in recent[:500] if {"person", "request", "client"} <= set(row["data"])]
    assert full
    for data in full:
        options = data["notifier"]["configured_options"]
        assert data["metadata"]["access_token"].startswith(SECRET_MARKER)
        assert all(option["accessToken"].startswith(SECRET_MARKER) for option in options.values())
        assert SECRET_MARKER in json.dumps(data["request"]["headers"])
        for value in (data["person"]["email"], data["person"]["username"]):
            assert PERSONAL_MARKERS[0] in value
        for value in (data["request"]["user_ip"], data["client"]["user_ip"]):
            assert value.startswith(PERSONAL_MARKERS[1])
        useful = (
            data["person"]["id"],
            data["server"]["host"],
            data["request"]["url"],
            data["title"],
            data["uuid"],
        )
        assert not any(marker in value for value in useful for marker in (SECRET_MARKER, *PERSONAL_MARKERS))


def test_data_objects_are_rich(recent: list[Any]) -> None:
    texts = [json.dumps(row["data"], separators=(",", ":")) for row in recent[:500]]

    assert 1_000 < sum(map(len, texts)) / len(texts) < 1_700
    assert any("message" in row["data"]["body"] for row in recent[:500])
    assert any("trace" in row["data"]["body"] for row in recent[:500])


def test_projects_hold_marked_integration_keys_and_one_is_deleted(history: Sandbox) -> None:
    projects = history.rows("projects")

    assert [project["name"] for project in projects].count(None) == 1
    assert all(SECRET_MARKER in json.dumps(project["settings_data"]) for project in projects)


# Time


def test_rows_keep_appearing_and_deploys_settle(sandbox: Sandbox, clock: Clock) -> None:
    before = {resource: sandbox.rows(resource) for resource in ("occurrences", "deploys", "items")}
    clock.now += 6 * HOUR
    after = {resource: sandbox.rows(resource) for resource in before}

    assert after["occurrences"][-len(before["occurrences"]) :] == before["occurrences"]
    assert len(after["occurrences"]) > len(before["occurrences"]) + 50
    assert len(after["deploys"]) > len(before["deploys"])
    assert after["items"][0]["last_occurrence_timestamp"] > NOW
    started = after["deploys"][0]
    clock.now = started["start_time"] + 30
    assert (sandbox.rows("deploys")[0]["status"], sandbox.rows("deploys")[0]["finish_time"]) == (
        "started",
        None,
    )


def test_at_midnight_the_oldest_day_goes(sandbox: Sandbox, clock: Clock) -> None:
    first = sandbox.rows("occurrences")[-1]
    sandbox.add_deploy(revision="kept")
    clock.now += DAY

    assert sandbox.rows("occurrences")[-1]["timestamp"] > first["timestamp"] + DAY - HOUR
    assert "kept" in [deploy["revision"] for deploy in sandbox.rows("deploys")]


def test_a_query_job_goes_through_its_states_and_is_deleted_after_a_week(clock: Clock) -> None:
    with Sandbox(clock=clock, history_days=9) as sandbox:
        job = next(row for row in sandbox.rows("rql_jobs") if row["status"] == "success")
        states = []
        for age in (0, 5, DAY, 7 * DAY):
            clock.now = job["date_created"] + age
            states.append(next(row for row in sandbox.rows("rql_jobs") if row["id"] == job["id"]))

        assert [row["status"] for row in states] == ["new", "running", "success", "Deleted"]
        assert [row["date_modified"] - job["date_created"] for row in states[::3]] == [0, 7 * DAY]
        assert states[1]["date_modified"] < states[2]["date_modified"]
        listed = sandbox.rows("rql_jobs")
        assert [row["id"] for row in listed] == sorted((row["id"] for row in listed), reverse=True)


# Pages


@pytest.mark.parametrize(
    ("resource", "size"),
    [
        ("items", 100),
        ("occurrences", 20),
        ("deploys", 20),
        ("environments", 20),
        ("rql_jobs", 20),
        ("teams", 20),
    ],
)
def test_pages_have_their_default_size_and_end_with_an_empty_one(
    long_history: Sandbox, resource: str, size: int
) -> None:
    first, second = fetch(long_history, resource), fetch(long_history, resource, page=2)

    assert len(first) == size
    assert second
    assert len({row["id"] for row in [*first, *second]}) == len(first) + len(second)
    assert fetch(long_history, resource, page=100_000) == []


@pytest.mark.parametrize("resource", ["projects", "users"])
def test_unpaged_lists_ignore_page(history: Sandbox, resource: str) -> None:
    assert fetch(history, resource, page=2) == history.rows(resource)


def test_limit_is_cut_silently_and_teams_ignore_it(long_history: Sandbox, recent: list[Any]) -> None:
    deploys = pages(long_history, "deploys", limit=9_999)

    assert [len(page) for page in deploys] == [100, len(long_history.rows("deploys")) - 100]
    assert [len(page) for page in pages(long_history, "teams", limit=100)] == [20, 7]
    assert len(fetch(long_history, "occurrences", limit=9_999)) == 5_000
    assert fetch(long_history, "occurrences", limit=3, page=2) == recent[3:6]


def test_last_id_gives_the_rows_with_smaller_ids(history: Sandbox, recent: list[Any]) -> None:
    assert fetch(history, "occurrences", lastId=recent[49]["id"]) == recent[50:70]
    assert fetch(history, "occurrences", lastId=recent[49]["id"], page=2) == recent[70:90]
    assert fetch(history, "occurrences", lastId=1) == []


def test_items_tell_their_total(history: Sandbox) -> None:
    result = ask(history, "/v1/items", page=2).result

    assert (result["page"], result["total_count"]) == (2, len(history.rows("items")))


def test_jobs_may_come_as_a_bare_list() -> None:
    with Sandbox(clock=Clock(), jobs_as_list=True) as sandbox:
        assert ask(sandbox, "/v1/rql/jobs").result == sandbox.rows("rql_jobs")[:20]


# Reports


def test_metrics_answer_for_known_counters_only(history: Sandbox) -> None:
    known = [row["item_counter"] for row in history.rows("items_metrics")][:5]
    body = {"item_counters": [*known, 999_999_999]}
    result = ask(history, "/v1/metrics/items", method="POST", body=body).result

    assert sorted(row["item_counter"] for row in result["metrics"]) == sorted(known)
    assert (result["project_id"], result["project_slug"]) == (1001, "storefront")


def test_never_resolved_items_have_no_time_to_resolve(history: Sandbox) -> None:
    resolved = {item["counter"]: item["last_resolved_timestamp"] for item in history.rows("items")}
    for row in history.rows("items_metrics"):
        never = resolved[row["item_counter"]] is None
        assert (row["first_ttr"] is None) == (row["last_ttr"] is None) == never


@pytest.mark.parametrize("hours", [1, 24, 168])
def test_top_active_items_count_the_occurrences_of_each_hour(history: Sandbox, events: list[Event], hours: int) -> None:
    entries = fetch(history, "top_active_items", hours=hours)
    start = NOW - NOW % HOUR - (hours - 1) * HOUR
    seen = [event.id // 100 for event in events if event.item_id == entries[0]["item"]["id"]]

    assert len(entries) == 10
    assert entries[0]["counts"] == [
        sum(start + hour * HOUR <= second < start + (hour + 1) * HOUR for second in seen) for hour in range(hours)
    ]
    totals = [entry["item"]["occurrences"] for entry in entries]
    assert totals == sorted(totals, reverse=True)
    assert all(sum(entry["counts"]) == entry["item"]["occurrences"] for entry in entries)
    assert {type(entry["item"]["level"]) for entry in entries} == {int}


def test_top_active_items_can_be_of_one_environment(history: Sandbox) -> None:
    entries = fetch(history, "top_active_items", environments="staging", sort="unique_occurrences")

    assert {entry["item"]["environment"] for entry in entries} == {"staging"}


# Refusals


@pytest.mark.parametrize("resource", INTERFACE)
def test_each_resource_wants_its_own_kind_of_key(sandbox: Sandbox, resource: str) -> None:
    method, path, _, right = INTERFACE[resource]
    wrong = ACCOUNT_KEY if right == PROJECT_KEY else PROJECT_KEY
    body = {"item_counters": [1]} if method == "POST" else None
    replies = [ask(sandbox, path, key=key, method=method, body=body) for key in (right, wrong, "nonsense", None)]

    assert [reply.status for reply in replies] == [200, 403, 403, 401]
    assert all(reply.json["err"] == 1 and reply.json["message"] for reply in replies[1:])
    assert [request.key for request in sandbox.requests][2:] == ["wrong", None]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/items", "page=0"),
        ("/v1/items", "page=two"),
        ("/v1/deploys", "page=-1"),
        ("/v1/occurrences", "page=1.5"),
        ("/v1/occurrences", "limit=many"),
        ("/v1/occurrences", "lastId=x"),
        ("/v1/reports/top_active_items", "hours=0"),
        ("/v1/reports/top_active_items", "hours=169"),
        ("/v1/reports/top_active_items", "sort=title"),
    ],
)
def test_ill_formed_parameters_are_unprocessable(history: Sandbox, path: str, query: str) -> None:
    reply = ask(history, f"{path}?{query}")

    assert (reply.status, reply.json["err"]) == (422, 1)


@pytest.mark.parametrize(
    "body", [None, {}, [], b"{", {"item_counters": 5}, {"item_counters": ["1"]}, {"item_counters": [True]}]
)
def test_metrics_want_a_list_of_integers(history: Sandbox, body: object) -> None:
    assert ask(history, "/v1/metrics/items", method="POST", body=body).status == 422


def test_unknown_paths_and_methods_are_refused(history: Sandbox) -> None:
    assert ask(history, "/v1/nothing").status == 404
    assert ask(history, "/v1/items/").status == 404
    assert ask(history, "/v1/items", method="POST").status == 405
    assert ask(history, "/v1/metrics/items").status == 405
    assert ask(history, "/v1/items", method="DELETE").status == 405


def test_the_rate_limit_is_told_on_every_reply_and_enforced_until_the_window_ends(clock: Clock) -> None:
    with Sandbox(clock=clock, history_days=0, rate_limit=2) as sandbox:
        replies = [ask(sandbox, "/v1/items", page=page) for page in (1, "x", 1)]

        assert [reply.status for reply in replies] == [200, 422, 429]
        assert [reply.headers["X-Rate-Limit-Remaining"] for reply in replies] == ["1", "0", "0"]
        last = replies[-1].headers
        assert last["X-Rate-Limit-Limit"] == "2"
        assert int(last["X-Rate-Limit-Reset"]) == NOW + int(last["X-Rate-Limit-Remaining-Seconds"])
        assert "Retry-After" not in last
        assert ask(sandbox, "/v1/teams", key=ACCOUNT_KEY).status == 200
        clock.now += int(last["X-Rate-Limit-Remaining-Seconds"])
        assert ask(sandbox, "/v1/items").status == 200


# Settings


def test_paths_keys_and_header_are_settings() -> None:
    with Sandbox(
        clock=Clock(),
        history_days=0,
        header="X-Key",
        project_key="p",
        account_key="a",
        paths={"occurrences": "/api/1/instances"},
    ) as sandbox:
        connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"))
        for path, key, status in (
            ("/api/1/instances", "p", 200),
            ("/v1/occurrences", "p", 404),
            ("/v1/users", "a", 200),
        ):
            connection.request("GET", path, headers={"x-key": key})
            response = connection.getresponse()
            response.read()
            assert response.status == status
        connection.close()
    with pytest.raises(ValueError, match="issues"):
        Sandbox(paths={"issues": "/v1/issues"})


def test_a_stopped_sandbox_leaves_no_thread_and_can_start_again(clock: Clock) -> None:
    before = set(threading.enumerate())
    sandbox = Sandbox(clock=clock, history_days=0).start()
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"))
    connection.request("GET", "/v1/items", headers={"api_key": PROJECT_KEY})
    connection.getresponse().read()
    sandbox.stop()
    sandbox.stop()

    assert set(threading.enumerate()) == before
    with pytest.raises(RuntimeError, match="not running"):
        _ = sandbox.url
    with sandbox:
        assert ask(sandbox, "/v1/items").status == 200
    connection.close()


# Steering


def test_added_deploys_settle_and_survive(sandbox: Sandbox, clock: Clock) -> None:
    row = sandbox.add_deploy(comment="ours")
    failed = sandbox.add_deploy(status="failed", environment="staging")

    assert (row["status"], row["start_time"], row["finish_time"]) == ("started", NOW, None)
    assert (failed["status"], failed["finish_time"]) == ("failed", NOW)
    assert [deploy["id"] for deploy in fetch(sandbox, "deploys")[:2]] == [failed["id"], row["id"]]
    clock.now += 300
    settled = next(deploy for deploy in sandbox.rows("deploys") if deploy["id"] == row["id"])
    assert settled == {**row, "status": "succeeded", "finish_time": NOW + 300}


def test_added_occurrences_come_first_and_move_their_item(sandbox: Sandbox) -> None:
    item = sandbox.rows("items")[-1]
    rows = sandbox.add_occurrences(120, item_id=item["id"])

    assert fetch(sandbox, "occurrences", limit=120) == rows[::-1]
    moved = fetch(sandbox, "items")[0]
    assert (moved["id"], moved["status"]) == (item["id"], item["status"])
    assert (moved["last_occurrence_id"], moved["last_occurrence_timestamp"]) == (rows[-1]["id"], NOW)
    assert {row["data"]["title"] for row in rows} == {item["title"]}
    assert len({row["id"] for row in [*rows, *sandbox.add_occurrences(30)]}) == 150
    with pytest.raises(KeyError, match="no item 5"):
        sandbox.add_occurrences(1, item_id=5)


def test_late_occurrences_are_served_in_their_place(sandbox: Sandbox, clock: Clock) -> None:
    (late,) = sandbox.add_occurrences(1, at=NOW - 5 * HOUR)
    ids = [row["id"] for row in sandbox.rows("occurrences")]

    assert late["id"] in ids[100:]
    assert ids == sorted(ids, reverse=True)
    clock.now += DAY
    assert late["id"] in [row["id"] for row in sandbox.rows("occurrences")]


def test_added_occurrences_run_the_added_deploy(sandbox: Sandbox) -> None:
    sandbox.add_deploy(revision="abc", status="succeeded")
    item = next(item for item in sandbox.rows("items") if item["environment"] == "production")

    assert sandbox.add_occurrences(1, item_id=item["id"])[0]["data"]["code_version"] == "abc"


def test_planted_rows_are_served_letter_by_letter(sandbox: Sandbox) -> None:
    raw = '{"id": 7, "last_occurrence_timestamp": NaN, "title": "\\ud800", "big": 12345678901234567890123}'
    sandbox.plant("items", raw)
    sandbox.plant("occurrences", {"no": "id"})
    sandbox.plant("occurrences", "[1]")
    old = {"id": 5, "timestamp": 1}
    sandbox.plant("occurrences", old)

    assert raw.encode() in ask(sandbox, "/v1/items").content
    assert math.isnan(sandbox.rows("items")[0]["last_occurrence_timestamp"])
    assert fetch(sandbox, "occurrences")[:2] == [[1], {"no": "id"}]
    assert sandbox.rows("occurrences")[-1] == old


def test_rows_change_and_vanish(sandbox: Sandbox, clock: Clock) -> None:
    for resource in (
        "items",
        "occurrences",
        "deploys",
        "rql_jobs",
        "environments",
        "teams",
        "users",
        "projects",
    ):
        first, second = sandbox.rows(resource)[:2]
        sandbox.update(resource, first["id"], note="changed")
        sandbox.remove(resource, second["id"])
        clock.now += 1
        rows = {row["id"]: row for row in sandbox.rows(resource)}
        assert rows[first["id"]]["note"] == "changed"
        assert second["id"] not in rows
        with pytest.raises(KeyError, match="no row"):
            sandbox.remove(resource, second["id"])


def test_an_update_leaves_the_cursor_alone(sandbox: Sandbox) -> None:
    item = sandbox.rows("items")[3]
    sandbox.update("items", item["id"], status="muted")

    assert fetch(sandbox, "items")[3] == {**item, "status": "muted"}


def test_before_reply_lets_rows_arrive_between_pages(sandbox: Sandbox) -> None:
    seen = []

    def arrive(resource: str, page: int | None) -> None:
        seen.append((resource, page))
        if page == 2:
            sandbox.add_occurrences(3)

    sandbox.before_reply = arrive
    first, second = fetch(sandbox, "occurrences"), fetch(sandbox, "occurrences", page=2)

    assert seen == [("occurrences", 1), ("occurrences", 2)]
    assert second[:3] == first[-3:]


def test_requests_are_recorded(sandbox: Sandbox) -> None:
    ask(sandbox, "/v1/metrics/items", method="POST", body={"item_counters": [1]})
    ask(sandbox, "/v1/deploys", page=3, limit=50)
    ask(sandbox, "/v1/nothing")
    recorded = [(r.resource, r.method, r.path, r.query, r.body, r.key, r.status) for r in sandbox.requests]

    assert recorded == [
        ("items_metrics", "POST", "/v1/metrics/items", {}, {"item_counters": [1]}, "project", 200),
        ("deploys", "GET", "/v1/deploys", {"page": "3", "limit": "50"}, None, "project", 200),
        (None, "GET", "/v1/nothing", {}, None, "project", 404),
    ]


# Faults


def test_faults_strike_their_resource_as_often_as_told(sandbox: Sandbox) -> None:
    sandbox.fail_next("status", resource="items", times=2, after=1)

    assert [ask(sandbox, "/v1/deploys").status for _ in range(3)] == [200] * 3
    assert [ask(sandbox, "/v1/items").status for _ in range(4)] == [200, 503, 503, 200]
    sandbox.fail_next("html", times=9)
    sandbox.clear_faults()
    assert fetch(sandbox, "items")


def test_faults_with_a_reply(sandbox: Sandbox) -> None:
    def spoiled(kind: str, **options: object) -> Answer:
        sandbox.fail_next(kind, **options)  # type: ignore[arg-type]
        return ask(sandbox, "/v1/items")

    server_error = spoiled("status", status=502)
    assert (server_error.status, server_error.content[:9]) == (502, b"<!DOCTYPE")
    limited = spoiled("status", status=429, remaining_seconds=3)
    assert (limited.status, limited.headers["X-Rate-Limit-Remaining-Seconds"]) == (429, "3")
    assert "X-Rate-Limit-Limit" not in spoiled("status", status=429, headers=False).headers
    assert spoiled("err", message="no plan").json == {"err": 1, "message": "no plan"}
    echoing = spoiled("err", status=403, echo_key=True)
    assert (echoing.status, PROJECT_KEY in echoing.json["message"]) == (403, True)
    assert spoiled("html").content.startswith(b"<!DOCTYPE")
    with pytest.raises(json.JSONDecodeError):
        _ = spoiled("broken_json").json
    assert spoiled("null_result").json == {"err": 0, "result": None}
    assert spoiled("empty").result["items"] == []
    redirect = spoiled("redirect", location="http://elsewhere.invalid/")
    assert (redirect.status, redirect.headers["Location"]) == (302, "http://elsewhere.invalid/")
    zipped = spoiled("gzip")
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert json.loads(gzip.decompress(zipped.content))["result"]["items"] == sandbox.rows("items")[:100]


def test_faults_of_the_connection(sandbox: Sandbox) -> None:
    sandbox.fail_next("reset")
    with pytest.raises(ConnectionResetError):
        ask(sandbox, "/v1/items")
    sandbox.fail_next("truncate")
    with pytest.raises(http.client.IncompleteRead):
        ask(sandbox, "/v1/items")
    sandbox.fail_next("slow", seconds=9)
    connection = http.client.HTTPConnection(sandbox.url.removeprefix("http://"), timeout=0.05)
    connection.request("GET", "/v1/items", headers={"api_key": PROJECT_KEY})
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("explode", {}), ("slow", {"minutes": 1}), ("html", {"resource": "issues"}), ("html", {"times": 0})],
)
def test_faults_that_cannot_be_are_refused_at_once(sandbox: Sandbox, kind: str, options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        sandbox.fail_next(kind, **options)


# Another process


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_serves_until_it_is_told_to_stop(stop: signal.Signals) -> None:
    command = [sys.executable, "-m", "analytics_dagster.sandbox", "--history-days", "0", "--project-key", "k"]
    command += ["--path", "items=/api/1/items"]
    root = Path(analytics_dagster.sandbox.__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
        connection.request("GET", "/api/1/items", headers={"api_key": "k"})
        assert connection.getresponse().status == 200
        process.send_signal(stop)
        assert process.wait(5) == 0
        connection.close()


def test_the_sandbox_imports_only_itself_and_the_standard_library() -> None:
    package = Path(analytics_dagster.sandbox.__file__).parent
    for path in package.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                own = name.startswith("analytics_dagster.sandbox")
                assert own or name.partition(".")[0] in sys.stdlib_module_names, f"{path.name} imports {name}"
