"""The items that a deploy is suspected of, in a real warehouse."""

import pytest

from analytics_dagster_tests.support.insights import DAY, HOUR, MINUTE, LoadedHistory, at

pytestmark = pytest.mark.every_warehouse


def test_an_item_that_is_first_seen_after_a_deploy_began_is_its_suspect_until_the_next_one(history: LoadedHistory):
    history.deploy(1, start=0, finish=10 * MINUTE)
    history.deploy(2, start=HOUR, finish=70 * MINUTE, status="failed")
    history.item(10, first_seen=-1)
    history.item(11, first_seen=0)
    history.item(12, first_seen=HOUR - 1, title="A title", level="critical")
    history.item(13, first_seen=HOUR)
    history.load()

    history.refresh()

    assert set(history.items()) == {(1, 11), (1, 12), (2, 13)}
    row = history.items()[1, 12]
    assert (row["reason"], row["since"], row["title"]) == ("first seen", at(HOUR - 1), "A title")
    assert (row["counter"], row["level"], row["project_id"]) == (12, "critical", 1001)


def test_an_item_that_is_active_again_after_it_was_resolved_is_a_suspect(history: LoadedHistory):
    history.deploy(1, finish=0)
    long_ago = -30 * DAY
    history.item(10, long_ago, last_activated_timestamp=HOUR, last_resolved_timestamp=-DAY)
    history.item(11, long_ago, last_activated_timestamp=long_ago, last_resolved_timestamp=HOUR)
    history.item(12, long_ago, last_activated_timestamp=None)
    history.item(13, 1, last_activated_timestamp=HOUR, last_resolved_timestamp=30 * MINUTE)
    history.load()

    history.refresh()

    found = {key: (row["reason"], row["since"]) for key, row in history.items().items()}
    assert found == {(1, 10): ("active again", at(HOUR)), (1, 13): ("first seen", at(1))}


def test_an_item_has_another_suspect_for_each_time(history: LoadedHistory):
    history.deploy(1, finish=0)
    history.deploy(2, finish=HOUR)
    history.item(10, 1, last_activated_timestamp=2 * HOUR, last_resolved_timestamp=HOUR)
    history.load()

    history.refresh()

    assert {key: row["reason"] for key, row in history.items().items()} == {
        (1, 10): "first seen",
        (2, 10): "active again",
    }


def test_items_of_another_project_or_environment_are_not_suspected_and_case_does_not_matter(history: LoadedHistory):
    history.deploy(1, finish=0)
    history.item(10, 1, environment="Production")
    history.item(11, 1, environment="staging")
    history.item(12, 1, project_id=2002)
    history.load()

    history.refresh()

    assert set(history.items()) == {(1, 10)}


def test_occurrences_are_counted_since_then_in_the_environment_and_for_a_week(history: LoadedHistory):
    history.deploy(1, finish=-9 * DAY)
    since = -8 * DAY
    history.item(10, since)
    history.errors(since=since - 5, until=since + 5, every=1, item=10)
    history.errors(since=since, until=since + 3, every=1, item=10, environment="staging")
    history.errors(since=since, until=since + 3, every=1, item=11)
    history.errors(since=since + 7 * DAY - 2, until=since + 7 * DAY + 2, every=1, item=10)
    history.load()

    history.refresh()

    assert history.items()[1, 10]["occurrences"] == 5 + 2


def test_occurrences_that_come_later_are_added_and_an_earlier_backfill_too(history: LoadedHistory):
    history.deploy(1, finish=0)
    history.item(10, 1)
    history.errors(since=1, until=6, every=1, item=10)
    history.load()
    history.refresh(after=2 * MINUTE)
    assert history.items()[1, 10]["occurrences"] == 5

    history.errors(since=HOUR, until=HOUR + 3, every=1, item=10)
    history.load(covering=[(0, DAY)])
    history.refresh(after=20 * DAY)
    assert history.items()[1, 10]["occurrences"] == 8

    history.refresh(after=20 * DAY)
    assert history.report.items.changed == 0


def test_a_deploy_that_comes_late_takes_over_the_items_after_it_and_its_verdict_hears_of_them(history: LoadedHistory):
    history.errors(since=-2 * DAY, until=3 * HOUR, every=MINUTE)
    history.deploy(1, finish=-2 * HOUR)
    history.item(10, first_seen=1)
    history.load()
    history.refresh(after=2 * MINUTE)
    assert set(history.items()) == {(1, 10)}

    history.deploy(2, finish=0)
    history.load(covering=())
    history.refresh(after=HOUR)

    assert set(history.items()) == {(2, 10)}


def test_an_item_that_is_loaded_after_its_occurrences_makes_the_deploy_worse(history: LoadedHistory):
    history.errors(since=-2 * DAY, until=3 * HOUR, every=MINUTE)
    history.errors(since=5, until=HOUR, every=150, item=10)
    history.deploy(1, finish=0)
    history.load()
    before = history.refresh(after=2 * MINUTE)[1]
    assert before["verdict"] != "worse"

    history.item(10, first_seen=5)
    history.load(covering=())

    assert history.refresh(after=HOUR)[1]["verdict"] == "worse"
    assert history.items()[1, 10]["occurrences"] == 24


def test_an_item_whose_title_changes_is_written_again(history: LoadedHistory):
    history.deploy(1, finish=0)
    history.item(10, 1)
    history.load()
    history.refresh(after=2 * MINUTE)

    history.item(10, 1, title="Renamed $x_1$ | by 'someone'; --")
    history.load(covering=())
    history.refresh(after=HOUR)

    assert history.items()[1, 10]["title"] == "Renamed $x_1$ | by 'someone'; --"
    assert history.report.items.changed == 1
