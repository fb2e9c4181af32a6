"""Occurrences come and go, also at high rates in a long list."""

import time
from typing import Any

from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.sandbox.client import HOUR, INTERFACE, NOW, Clock


def _ids(rows: list[Any]) -> list[int]:
    return [row["id"] for row in rows]


def test_ids_of_removed_occurrences_are_not_given_again(sandbox: Sandbox) -> None:
    (first,) = sandbox.add_occurrences(1)
    sandbox.remove("occurrences", first["id"])

    assert sandbox.add_occurrences(1)[0]["id"] > first["id"]


def test_the_other_rows_follow_the_occurrences_that_come_and_go(sandbox: Sandbox, clock: Clock) -> None:
    rows = sandbox.rows("occurrences")
    alone = next(item for item in sandbox.rows("items") if item["status"] == "muted")
    added = sandbox.add_occurrences(40) + sandbox.add_occurrences(5, at=NOW - 2 * HOUR)
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
