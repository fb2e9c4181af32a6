"""The quirks deviate from the documented service as they say, and in nothing else."""

import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from analytics_dagster.sandbox import PROJECT_KEY, Quirks, Sandbox
from analytics_dagster_tests.sandbox.client import HOUR, INTERFACE, NOW, Clock, ask, fetch, pages

PAGED = ("items", "occurrences", "deploys", "environments", "rql_jobs", "teams")


def _ids(rows: list[Any]) -> list[int]:
    return [row["id"] for row in rows]


def _complete(sandbox: Sandbox, resource: str) -> list[list[Any]]:
    """Return the pages that a list has with `limit=1`, which teams ignore."""
    rows, size = sandbox.rows(resource), 20 if resource == "teams" else 1
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _everything(sandbox: Sandbox) -> dict[str, list[Any]]:
    return {resource: fetch(sandbox, resource) for resource in INTERFACE}


def test_the_default_quirks_are_the_documented_service(sandbox: Sandbox) -> None:
    assert sandbox.quirks == Quirks()


@pytest.mark.parametrize(("name", "value"), [("last_id", "ignore"), ("largest_page", 5)])
def test_a_misspelt_quirk_is_refused(sandbox: Sandbox, name: str, value: object) -> None:
    with pytest.raises((AttributeError, ValueError)):
        setattr(sandbox.quirks, name, value)


# Empty lists


def test_every_list_goes_empty_for_a_while(sandbox: Sandbox) -> None:
    before = _everything(sandbox)
    sandbox.go_empty(60)

    assert all(before.values())
    assert not any(_everything(sandbox).values())
    assert ask(sandbox, "/v1/items").result == {"page": 1, "total_count": 0, "items": []}
    assert ask(sandbox, "/v1/occurrences", lastId=sandbox.rows("occurrences")[5]["id"]).result["instances"] == []
    sandbox.go_empty(0.01)
    time.sleep(0.02)
    assert _everything(sandbox) == before


def test_keys_and_parameters_are_checked_while_lists_are_empty(sandbox: Sandbox) -> None:
    sandbox.go_empty(60)

    assert [ask(sandbox, "/v1/items", key=key).status for key in (PROJECT_KEY, None)] == [200, 401]
    assert ask(sandbox, "/v1/items", page=0).status == 422


def test_a_list_can_go_empty_between_two_pages(sandbox: Sandbox) -> None:
    sandbox.before_reply = lambda _, page: sandbox.go_empty(60) if page == 2 else None

    assert [len(page) for page in (fetch(sandbox, "occurrences"), fetch(sandbox, "occurrences", page=2))] == [20, 0]


# Numbered pages


@pytest.mark.parametrize("resource", PAGED)
def test_pages_end_at_the_deepest_one(sandbox: Sandbox, resource: str) -> None:
    complete = _complete(sandbox, resource)
    sandbox.quirks.deepest_page = 1

    assert len(complete) > 1
    assert pages(sandbox, resource, limit=1) == complete[:1]
    assert fetch(sandbox, resource, page=50) == []


def test_the_deepest_page_does_not_bound_reading_by_key(sandbox: Sandbox) -> None:
    rows = sandbox.rows("occurrences")
    sandbox.quirks.deepest_page = 2

    assert [len(page) for page in pages(sandbox, "occurrences")] == [20, 20]
    assert fetch(sandbox, "occurrences", lastId=rows[99]["id"], page=3) == rows[140:160]
    sandbox.quirks.last_id = "ignored"
    assert fetch(sandbox, "occurrences", lastId=rows[99]["id"], page=3) == []


@pytest.mark.parametrize("resource", PAGED)
def test_a_page_beyond_the_end_repeats_the_last_one(sandbox: Sandbox, resource: str) -> None:
    complete = _complete(sandbox, resource)
    sandbox.quirks.repeats_last_page = True

    last = len(complete)
    assert [fetch(sandbox, resource, page=last + more, limit=1) for more in (-1, 0, 1, 2, 100)] == [
        complete[-2],
        *[complete[-1]] * 4,
    ]


def test_the_repeated_page_is_the_deepest_one_and_never_of_an_empty_list(sandbox: Sandbox) -> None:
    second = fetch(sandbox, "occurrences", page=2)
    sandbox.quirks.repeats_last_page = True
    sandbox.quirks.deepest_page = 2
    assert fetch(sandbox, "occurrences", page=7) == second

    for row in sandbox.rows("teams"):
        sandbox.remove("teams", row["id"])
    assert fetch(sandbox, "teams", page=7) == []
    assert fetch(sandbox, "occurrences", lastId=1) == []


@pytest.mark.parametrize("resource", [resource for resource in PAGED if resource != "teams"])
def test_a_larger_limit_is_cut_silently(sandbox: Sandbox, resource: str) -> None:
    rows = sandbox.rows(resource)
    sandbox.quirks.largest_limit = 1

    assert len(rows) > 1
    assert fetch(sandbox, resource, limit=100) == fetch(sandbox, resource) == rows[:1]
    assert fetch(sandbox, resource, limit=100, page=2) == rows[1:2]


def test_a_limit_is_cut_when_reading_by_key(sandbox: Sandbox) -> None:
    rows = sandbox.rows("occurrences")
    sandbox.quirks.largest_limit = 100

    assert fetch(sandbox, "occurrences", lastId=rows[9]["id"], limit=1_000) == rows[10:110]
    assert fetch(sandbox, "occurrences", lastId=rows[9]["id"], limit=99) == rows[10:109]


def test_a_greater_largest_limit_leaves_the_documented_one(sandbox: Sandbox) -> None:
    for _ in range(101):
        sandbox.add_deploy()
    sandbox.quirks.largest_limit = 10_000

    assert len(fetch(sandbox, "deploys", limit=10_000)) == 100


# lastId


def test_last_id_is_ignored(sandbox: Sandbox) -> None:
    rows = sandbox.rows("occurrences")
    sandbox.quirks.last_id = "ignored"

    assert fetch(sandbox, "occurrences", lastId=rows[99]["id"]) == rows[:20]
    assert fetch(sandbox, "occurrences", lastId=rows[99]["id"], page=2) == rows[20:40]


def test_only_ids_of_rows_are_obeyed(sandbox: Sandbox) -> None:
    rows = sandbox.rows("occurrences")
    sandbox.quirks.last_id = "seen ids only"

    assert fetch(sandbox, "occurrences", lastId=rows[99]["id"]) == rows[100:120]
    assert fetch(sandbox, "occurrences", lastId=rows[99]["id"] + 99) == []
    sandbox.remove("occurrences", rows[99]["id"])
    assert fetch(sandbox, "occurrences", lastId=rows[99]["id"]) == []
    sandbox.quirks.last_id = "obeyed"
    assert fetch(sandbox, "occurrences", lastId=rows[99]["id"]) == rows[100:120]


def test_every_second_last_id_is_ignored(sandbox: Sandbox) -> None:
    rows = sandbox.rows("occurrences")
    sandbox.quirks.last_id = "sometimes"

    found = []
    for _ in range(4):
        found.append(fetch(sandbox, "occurrences", lastId=rows[99]["id"]))
        assert fetch(sandbox, "occurrences", page=3) == rows[40:60]
    assert found == [rows[100:120], rows[:20]] * 2


# The Date header


def _date(sandbox: Sandbox, path: str = "/v1/items", **options: Any) -> float | None:
    value = ask(sandbox, path, **options).headers["Date"]
    return None if value is None else parsedate_to_datetime(value).timestamp()


def test_date_is_the_clock_of_the_service(sandbox: Sandbox, clock: Clock) -> None:
    assert ask(sandbox, "/v1/items").headers.get_all("Date") == ["Mon, 06 Oct 2025 14:21:00 GMT"]
    clock.now += 90
    sandbox.clock_offset = 3_600
    assert _date(sandbox) == NOW + 90 + 3_600
    assert _date(sandbox, "/v1/nothing") == _date(sandbox, key=None) == NOW + 90 + 3_600


def test_date_can_be_wrong_or_absent(sandbox: Sandbox) -> None:
    sandbox.quirks.date_offset = -1_200.0
    assert _date(sandbox) == NOW - 1_200
    assert sandbox.now == NOW
    sandbox.fail_next("status", headers=False)
    assert _date(sandbox) == NOW - 1_200
    sandbox.quirks.sends_date = False
    assert _date(sandbox) is None


# Stale replies


def test_every_second_reply_lacks_the_latest_occurrences(sandbox: Sandbox) -> None:
    old = sandbox.rows("occurrences")
    sandbox.quirks.replica_lag = 60.0
    new = sandbox.add_occurrences(25)[::-1]
    deep = sandbox.add_occurrences(1, id_at=NOW - 2 * HOUR)[0]

    assert [fetch(sandbox, "occurrences") for _ in range(4)] == [new[:20], old[:20]] * 2
    assert [fetch(sandbox, "occurrences", page=2) for _ in range(2)] == [[*new[20:], *old[:15]], old[20:40]]
    listed = [_ids(fetch(sandbox, "occurrences", lastId=deep["id"] + 1, limit=3)) for _ in range(2)]
    assert [deep["id"] in ids for ids in listed] == [True, False]
    assert [len(ids) for ids in listed] == [3, 3]
    assert fetch(sandbox, "deploys") == fetch(sandbox, "deploys")  # no replica serves it


def test_a_replica_catches_up_and_follows_removals_at_once(sandbox: Sandbox) -> None:
    sandbox.quirks.replica_lag = 60.0
    new = sandbox.add_occurrences(3)[::-1]
    removed = sandbox.rows("occurrences")[5]["id"]
    sandbox.remove("occurrences", removed)

    assert [removed in _ids(fetch(sandbox, "occurrences")) for _ in range(2)] == [False, False]
    sandbox.quirks.replica_lag = 0.01
    time.sleep(0.02)
    assert [fetch(sandbox, "occurrences")[:3] for _ in range(2)] == [new, new]


def test_page_1_is_cached_by_query(sandbox: Sandbox) -> None:
    sandbox.quirks.cached_head = 60.0
    first = ask(sandbox, "/v1/occurrences")
    rows = sandbox.rows("occurrences")
    new = sandbox.add_occurrences(5)[::-1]

    assert ask(sandbox, "/v1/occurrences").content == first.content
    assert fetch(sandbox, "occurrences", limit=20, page=1) == [*new, *rows[:15]]
    assert fetch(sandbox, "occurrences", page=2) == rows[15:35]
    assert fetch(sandbox, "occurrences", lastId=new[0]["id"]) == [*new[1:], *rows[:16]]
    sandbox.add_deploy()
    cached = [fetch(sandbox, "deploys")]
    sandbox.add_deploy()
    assert [*cached, fetch(sandbox, "deploys")] == cached * 2
    sandbox.quirks.cached_head = 0.01
    time.sleep(0.02)
    assert fetch(sandbox, "occurrences") == [*new, *rows[:15]]


def test_empty_lists_and_the_cached_head_do_not_mix(sandbox: Sandbox) -> None:
    sandbox.quirks.cached_head = 60.0
    cached = fetch(sandbox, "occurrences")
    sandbox.go_empty(60)
    assert fetch(sandbox, "occurrences") == fetch(sandbox, "deploys") == []
    sandbox.go_empty(0)
    assert fetch(sandbox, "occurrences") == cached
    assert fetch(sandbox, "deploys") != []
