"""Occurrences arrive out of their place and vanish, also at high rates from a long list."""

import time
from typing import Any

from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.sandbox.client import DAY, HOUR, INTERFACE, NOW, Clock, fetch


def _ids(rows: list[Any]) -> list[int]:
    return [row["id"] for row in rows]


# Occurrences out of their place


def test_old_occurrences_stand_at_the_head(sandbox: Sandbox) -> None:
    before = sandbox.rows("occurrences")
    late = sandbox.add_occurrences(45, at=NOW - HOUR // 2, id_at=NOW)

    assert fetch(sandbox, "occurrences", limit=50) == [*late[::-1], *before[:5]]
    assert {row["timestamp"] for row in late} == {NOW - HOUR // 2}
    assert late[0]["timestamp"] < before[0]["timestamp"]


def test_a_new_occurrence_stands_deep_in_the_list(sandbox: Sandbox, clock: Clock) -> None:
    (new,) = sandbox.add_occurrences(1, at=NOW, id_at=NOW - 3 * HOUR)
    rows = sandbox.rows("occurrences")
    place = _ids(rows).index(new["id"])

    assert place > 100
    assert _ids(rows) == sorted(_ids(rows), reverse=True)
    assert new["timestamp"] == NOW
    assert abs(rows[place + 1]["timestamp"] - (NOW - 3 * HOUR)) < HOUR / 4
    assert fetch(sandbox, "occurrences", lastId=rows[place - 1]["id"])[0] == new
    item = next(item for item in sandbox.rows("items") if item["id"] == new["item_id"])
    assert (item["last_occurrence_id"], item["last_occurrence_timestamp"]) == (new["id"], NOW)
    clock.now += DAY
    assert new["id"] in _ids(sandbox.rows("occurrences"))


# Rows that vanish


def test_ids_of_removed_occurrences_are_not_given_again(sandbox: Sandbox) -> None:
    (first,) = sandbox.add_occurrences(1)
    sandbox.remove("occurrences", first["id"])

    assert sandbox.add_occurrences(1)[0]["id"] > first["id"]


def test_the_other_rows_follow_the_occurrences_that_come_and_go(sandbox: Sandbox, clock: Clock) -> None:
    rows = sandbox.rows("occurrences")
    alone = next(item for item in sandbox.rows("items") if item["status"] == "muted")
    added = sandbox.add_occurrences(40) + sandbox.add_occurrences(5, at=NOW - HOUR, id_at=NOW - 2 * HOUR)
    gone = {row["id"] for row in [*rows, *added] if row["item_id"] == alone["id"]}
    gone |= {row["id"] for row in [*added[::3], *rows[3::50]]}
    for number in gone:
        sandbox.remove("occurrences", number)
    present = {resource: sorted(sandbox.texts(resource)) for resource in INTERFACE}

    assert set(_ids(sandbox.rows("occurrences"))) == set(_ids([*rows, *added])) - gone
    assert alone["id"] not in _ids(sandbox.rows("items"))
    # With the clock set back the store is built again from the world and the changes.
    clock.now -= 1
    sandbox.rows("items")
    clock.now += 1
    assert {resource: sorted(sandbox.texts(resource)) for resource in INTERFACE} == present


def test_rows_come_and_go_in_milliseconds_in_a_long_list() -> None:
    with Sandbox(seed=7, clock=Clock(), history_days=0) as sandbox:
        numbers = _ids(sandbox.add_occurrences(15_000, at=NOW - 2 * HOUR))[::75]
        start = time.thread_time()
        for number in numbers:
            sandbox.remove("occurrences", number)
            sandbox.add_occurrences(1)

        assert (time.thread_time() - start) / len(numbers) < 0.003
