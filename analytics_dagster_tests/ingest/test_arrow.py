"""Raw rows become typed tables; what does not fit is set aside with a reason, and nothing else with it."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics_dagster.catalog import RESOURCES, get_resource
from analytics_dagster.ingest.arrow import TableBuilder
from analytics_dagster.ingest.schema import REJECTED_COLUMNS, arrow_schema
from analytics_dagster.ingest.windows import Window

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
READ_AT = datetime(2026, 11, 20, 12, 34, 56, 789, tzinfo=UTC)
SECONDS = 1_790_000_000
MOMENT = datetime.fromtimestamp(SECONDS, UTC)
SECRET = "sandbox-secret-0123"
ADDRESS = "person@example.invalid"


@dataclass
class Page:
    """A page as it is fetched."""

    rows: list[Any]
    envelope: Any = field(default_factory=dict)
    read_at: datetime = READ_AT


@dataclass
class Result:
    """What became of pages."""

    table: pa.Table
    rejected: list[dict[str, Any]]
    typed: TableBuilder

    @property
    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows

    @property
    def reason(self) -> str:
        """The reason of the one rejected row."""
        (row,) = self.rejected
        return str(row["reason"])


def type_pages(name: str, pages: Sequence[Page], window: Window | None = None, **options: Any) -> Result:
    typed = TableBuilder(get_resource(name), window=window, now=NOW, **options)
    for page in pages:
        typed.add(page)
    table, rejected = typed.take()
    return Result(table, rejected.to_pylist() if rejected else [], typed)


def type_rows(name: str, *rows: Any, envelope: Any = None, **options: Any) -> Result:
    return type_pages(name, [Page(deepcopy(list(rows)), envelope)], **options)


def deploy(**fields: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "project_id": 1001,
        "environment": "production",
        "revision": "abc123",
        "status": "succeeded",
        "start_time": SECONDS,
        "finish_time": SECONDS + 60,
        "local_username": None,
        "user_id": 301,
        "comment": "weekly release",
        **fields,
    }


def without_username(row: dict[str, Any]) -> dict[str, Any]:
    """A deploy as it is kept: the name of its user is personal."""
    return {name: value for name, value in row.items() if name != "local_username"}


def occurrence(data: Any = None, **fields: Any) -> dict[str, Any]:
    return {
        "id": 412345678901,
        "item_id": 9,
        "project_id": 1001,
        "timestamp": SECONDS,
        "version": 2,
        "billable": 1,
        "data": {} if data is None else data,
        **fields,
    }


def full_data() -> dict[str, Any]:
    """A payload with everything that is lifted, secret or personal, and keys of every spelling."""
    return {
        "environment": "production",
        "level": "error",
        "platform": "linux",
        "language": "python",
        "framework": "django",
        "title": "KeyError: 'cart'",
        "uuid": "00ff",
        "context": "cart#index",
        "code_version": "abc123",
        "timestamp": SECONDS - 5,
        "body": {
            "trace": {"exception": {"class": "KeyError", "message": "'cart'"}, "frames": [{"lineno": 3}]},
            "message": {"body": "it broke"},
        },
        "person": {"id": "42", "email": ADDRESS, "username": ADDRESS},
        "server": {"host": "web-1", "pid": 12},
        "request": {"url": "https://shop.example/", "headers": {"X-User": ADDRESS}, "user_ip": "203.0.113.9"},
        "client": {"user_ip": "203.0.113.9", "runtime_ms": 5},
        "metadata": {"access_token": SECRET, "api-host": "api-1"},
        "notifier": {
            "name": "python-notifier",
            "configured_options": {
                "server.side": {"accessToken": SECRET, "enabled": True},
                "browser-js": {"accessToken": SECRET},
                "version": 3,
            },
        },
        "custom": {"feature.flags": {"new-checkout": True}, "X Trace Id": "1f", "": 0, "Ünï": "©"},
    }


# -- values ---------------------------------------------------------------------------------------------------


def test_fields_become_columns_of_the_declared_types() -> None:
    result = type_rows("deploys", deploy())

    assert result.rows == [
        {
            "id": 7,
            "project_id": 1001,
            "environment": "production",
            "revision": "abc123",
            "status": "succeeded",
            "start_time": MOMENT,
            "finish_time": MOMENT + timedelta(seconds=60),
            "local_username": None,
            "user_id": 301,
            "comment": "weekly release",
            "extra": None,
            "read_at": READ_AT,
            "read_seq": 0,
        }
    ]
    assert result.table.schema.field("start_time").type == pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize("name", [row.name for row in RESOURCES])
def test_a_page_without_rows_is_a_table_without_rows(name: str) -> None:
    result = type_rows(name)

    assert result.table.num_rows == 0
    assert result.table.schema == result.typed.schema
    assert result.rejected == []
    assert result.typed.counts.newest is None


def test_rows_are_numbered_in_the_order_of_reading_across_pages() -> None:
    pages = [Page([deploy(id=number), "no row", deploy(id=None)]) for number in (1, 2, 3)]

    numbers = [row["read_seq"] for row in type_pages("deploys", pages).rows]

    assert numbers == sorted(set(numbers))
    assert len(numbers) == 3


def test_each_row_says_when_its_own_page_was_read() -> None:
    later = READ_AT + timedelta(seconds=9)
    pages = [Page([deploy(id=1)]), Page([deploy(id=2)], read_at=later)]

    assert [row["read_at"] for row in type_pages("deploys", pages).rows] == [READ_AT, later]


@pytest.mark.parametrize(("sent", "stored"), [(1, True), (0, False), (True, True), (False, False)])
def test_a_flag_may_be_sent_as_a_number(*, sent: Any, stored: bool) -> None:
    row = {"id": 1, "project_id": 2, "environment": "qa", "visible": sent}
    other = row | {"id": 2, "visible": True}

    assert [row["visible"] for row in type_rows("environments", row, other).rows] == [stored, True]


def test_objects_are_stored_as_json_text() -> None:
    items = type_rows("top_active_items", {"item": active_item(), "counts": [0, 3, 1]})

    assert items.rows[0]["counts"] == "[0,3,1]"


@pytest.mark.parametrize("value", [None, "", "text", {"tracker": {"key": "AB-1"}}, [1], 0])
def test_a_json_column_takes_any_value(value: Any) -> None:
    (row,) = type_rows("items", item(integrations_data=value)).rows

    assert (row["integrations_data"] and json.loads(row["integrations_data"])) == value


def test_absent_fields_that_may_be_null_are_null() -> None:
    row = item()
    del row["assigned_team_id"]

    assert type_rows("items", row).rows[0]["assigned_team_id"] is None


def test_the_largest_integers_are_exact() -> None:
    largest = 2**63 - 1

    assert type_rows("deploys", deploy(id=largest, user_id=-largest)).rows[0]["id"] == largest


# -- the payload of an occurrence -----------------------------------------------------------------------------


def test_useful_values_inside_the_payload_have_columns_of_their_own() -> None:
    (row,) = type_rows("occurrences", occurrence(full_data())).rows

    assert {name: value for name, value in row.items() if name not in {"data", "read_at"}} == {
        "id": 412345678901,
        "item_id": 9,
        "project_id": 1001,
        "timestamp": MOMENT,
        "version": 2,
        "billable": 1,
        "environment": "production",
        "level": "error",
        "platform": "linux",
        "language": "python",
        "framework": "django",
        "title": "KeyError: 'cart'",
        "uuid": "00ff",
        "context": "cart#index",
        "code_version": "abc123",
        "client_timestamp": MOMENT - timedelta(seconds=5),
        "exception_class": "KeyError",
        "exception_message": "'cart'",
        "message": "it broke",
        "person_id": "42",
        "server_host": "web-1",
        "request_url": "https://shop.example/",
        "extra": None,
        "read_seq": 0,
    }


def test_the_payload_is_kept_whole_but_for_secrets_and_personal_data() -> None:
    data = full_data()
    (row,) = type_rows("occurrences", occurrence(data)).rows

    expected = deepcopy(data)
    del expected["metadata"]["access_token"]
    del expected["notifier"]["configured_options"]["server.side"]["accessToken"]
    del expected["notifier"]["configured_options"]["browser-js"]["accessToken"]
    del expected["person"]["email"], expected["person"]["username"]
    del expected["request"]["headers"], expected["request"]["user_ip"]
    del expected["client"]["user_ip"]
    assert json.loads(row["data"]) == expected
    assert SECRET not in str(row)
    assert ADDRESS not in str(row)


def test_personal_data_is_kept_on_demand_and_secrets_never() -> None:
    (row,) = type_rows("occurrences", occurrence(full_data()), keep_personal_data=True).rows
    stored = json.loads(row["data"])

    assert stored["person"] == full_data()["person"]
    assert stored["request"] == full_data()["request"]
    assert stored["client"] == full_data()["client"]
    assert SECRET not in str(row)


@pytest.mark.parametrize(
    "name", ["Authorization", "authorization", "Cookie", "COOKIE", "x-api-key", "X-API-Key", "x_api_key", "Set Cookie"]
)
def test_headers_that_are_kept_on_demand_are_kept_without_credentials(name: str) -> None:
    data = {"request": {"headers": {name: f"Bearer {SECRET}", "X-User": ADDRESS}}}
    (row,) = type_rows("occurrences", occurrence(data), keep_personal_data=True).rows

    assert json.loads(row["data"])["request"]["headers"] == {"X-User": ADDRESS}


@pytest.mark.parametrize(
    "data",
    [
        {"environment": 5, "level": True, "title": 1.5, "timestamp": "yesterday"},
        {"environment": {"name": "qa"}, "level": ["error"], "title": None, "timestamp": {}},
        {"body": "text", "person": 3, "server": [], "request": None, "client": "x", "notifier": "y", "metadata": []},
        {"body": {"trace": [], "message": None}, "notifier": {"configured_options": [1]}},
        {"body": {"trace": {"exception": "KeyError"}, "message": {"body": {"nested": 1}}}},
        {"timestamp": SECONDS * 1_000},
        {"timestamp": 0},
        {"timestamp": 10**30},
        {"timestamp": -1.5},
        {"timestamp": float("inf")},
        {"timestamp": float("nan")},
        {"timestamp": True},
        {"title": "half a pair \ud83d"},
        {"title": 10**40},
        [],
        "text",
        5,
        True,
    ],
    ids=repr,
)
def test_nothing_inside_the_payload_gets_a_row_rejected(data: Any) -> None:
    result = type_rows("occurrences", occurrence(full_data(), id=1), occurrence(data, id=2), occurrence(id=3))

    assert [row["id"] for row in result.rows] == [1, 2, 3]
    assert result.rows[1]["client_timestamp"] is None
    assert result.rows[0]["environment"] == "production"
    assert json.loads(result.rows[1]["data"]) is not None


@pytest.mark.parametrize(
    ("sent", "stored"),
    [("qa", "qa"), (5, "5"), (1.5, "1.5"), (None, None), ({"name": "qa"}, None), (["qa"], None), ("\ud83d", "?")],
    ids=repr,
)
def test_values_inside_the_payload_become_text_where_they_can(sent: Any, stored: str | None) -> None:
    assert type_rows("occurrences", occurrence({"environment": sent})).rows[0]["environment"] == stored


def test_a_client_clock_may_have_fractions() -> None:
    assert type_rows("occurrences", occurrence({"timestamp": SECONDS + 0.7})).rows[0]["client_timestamp"] == MOMENT


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (float("nan"), None),
        ({"deep": [float("inf"), 1]}, {"deep": [None, 1]}),
        (10**30, 10**30),
        ({"big": 2**64, "nan": float("nan")}, {"big": 2**64, "nan": None}),
        ("half \ud83d", "half ?"),
        ({"half \ud83d": 1}, {"half ?": 1}),
        ("\x00", "\x00"),
        ({"a.b": 1, "c-d": 2, "e f": 3, "": 4, "$": 5, "ß": 6}, {"a.b": 1, "c-d": 2, "e f": 3, "": 4, "$": 5, "ß": 6}),
    ],
    ids=repr,
)
def test_the_payload_s_text_is_json_that_every_reader_takes(value: Any, stored: Any) -> None:
    (row,) = type_rows("occurrences", occurrence({"value": value})).rows

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert json.loads(row["data"].encode(), parse_constant=refuse) == {"value": stored}


@pytest.mark.parametrize("depth", [500, 900])
def test_a_payload_nested_deeply_holds_nothing_back(depth: int) -> None:
    nested: Any = 1
    for _ in range(depth):
        nested = [nested]

    page = Page([occurrence({"value": nested}, id=1), occurrence(id=2)], None)
    result = type_pages("occurrences", [page])

    assert result.typed.counts.read == result.typed.counts.typed + result.typed.counts.rejected == 2
    assert 2 in [row["id"] for row in result.rows]


# -- other origins --------------------------------------------------------------------------------------------


def item(**fields: Any) -> dict[str, Any]:
    numbers = (
        "id counter project_id title_lock level_lock first_occurrence_id last_occurrence_id activating_occurrence_id "
        "total_occurrences unique_occurrences assigned_user_id assigned_team_id last_modified_by public_item_id "
        "controlling_id group_item_id group_status"
    )
    times = "first_occurrence_timestamp last_occurrence_timestamp last_activated_timestamp last_resolved_timestamp"
    texts = "environment title level status platform framework hash resolved_in_version"
    return {
        **dict.fromkeys(numbers.split(), 1),
        **dict.fromkeys(times.split(), SECONDS),
        **dict.fromkeys(texts.split(), "text"),
        "integrations_data": None,
        **fields,
    }


def active_item(**fields: Any) -> dict[str, Any]:
    return {
        "id": 5,
        "counter": 6,
        "project_id": 1001,
        "environment": "production",
        "title": "KeyError",
        "level": 40,
        "framework": 3,
        "occurrences": 99,
        "unique_occurrences": None,
        "group_status": 1,
        "last_occurrence_timestamp": SECONDS,
        **fields,
    }


def test_entries_of_a_report_are_unwrapped_ranked_and_stamped_with_their_hour() -> None:
    entries = [{"item": active_item(id=number), "counts": [number]} for number in (30, 10, 20)]

    result = type_rows("top_active_items", *entries)

    assert [(row["id"], row["rank"], row["counts"]) for row in result.rows] == [
        (30, 1, "[30]"),
        (10, 2, "[10]"),
        (20, 3, "[20]"),
    ]
    assert {row["snapshot_at"] for row in result.rows} == {datetime(2026, 11, 20, 12, tzinfo=UTC)}


def test_an_entry_that_does_not_fit_keeps_its_place_in_the_ranks() -> None:
    entries = [{"item": active_item(id=number), "counts": []} for number in (1, None, 3, 4)]

    assert [(row["id"], row["rank"]) for row in type_rows("top_active_items", *entries).rows] == [
        (1, 1),
        (3, 3),
        (4, 4),
    ]


def test_an_entry_that_is_no_object_keeps_its_place_in_the_ranks() -> None:
    entries = ["no entry", *({"item": active_item(id=number), "counts": []} for number in (2, 3))]

    assert [(row["id"], row["rank"]) for row in type_rows("top_active_items", *entries).rows] == [(2, 2), (3, 3)]


def test_the_envelope_s_fields_join_every_row() -> None:
    metrics = [{"item_counter": counter, "first_ttr": None, "last_ttr": 60} for counter in (58, 61)]

    result = type_rows("items_metrics", *metrics, envelope={"project_id": 1001, "project_slug": "storefront"})

    assert [(row["project_id"], row["project_slug"], row["item_counter"]) for row in result.rows] == [
        (1001, "storefront", 58),
        (1001, "storefront", 61),
    ]


@pytest.mark.parametrize("envelope", [{}, {"project_id": None}, [], None], ids=repr)
def test_rows_without_the_envelope_that_keys_them_are_rejected(envelope: Any) -> None:
    metric = {"item_counter": 58, "first_ttr": None, "last_ttr": None}

    assert type_rows("items_metrics", metric, envelope=envelope).reason == "project_id is null or missing"


def project(**fields: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "account_id": 77,
        "name": "storefront",
        "status": "enabled",
        "date_created": SECONDS,
        "date_modified": SECONDS,
        "settings_data": {"integrations": {"pager": SECRET}},
        **fields,
    }


def test_a_project_without_a_name_was_deleted() -> None:
    unnamed = project(id=3)
    del unnamed["name"]

    result = type_rows("projects", project(), project(id=2, name=None), unnamed)

    assert [(row["name"], row["deleted"]) for row in result.rows] == [("storefront", False), (None, True), (None, True)]


def test_secret_fields_are_dropped_and_not_taken_for_unknown_ones() -> None:
    result = type_rows("projects", project(), keep_personal_data=True)

    assert "settings_data" not in result.table.column_names
    assert result.rows[0]["extra"] is None
    assert SECRET not in str(result.rows)


def test_personal_fields_are_null_unless_they_are_kept() -> None:
    user = {"id": 1, "username": ADDRESS, "email": ADDRESS}

    (hidden,) = type_rows("users", user).rows
    (kept,) = type_rows("users", user, keep_personal_data=True).rows

    assert (hidden["username"], hidden["email"], hidden["extra"]) == (None, None, None)
    assert (kept["username"], kept["email"], kept["extra"]) == (ADDRESS, ADDRESS, None)


# -- names ----------------------------------------------------------------------------------------------------


def test_unknown_fields_are_kept_as_one_object_and_named() -> None:
    known, unknown = deploy(id=1), deploy(id=2, **{"zone.name": "eu", "a-b c": [1], "half": "\ud83d"})

    result = type_rows("deploys", known, unknown)

    assert result.rows[0]["extra"] is None
    assert result.rows[1]["extra"].replace(" ", "") == '{"a-bc":[1],"half":"?","zone.name":"eu"}'
    assert result.typed.counts.unknown_fields == {"zone.name", "a-b c", "half"}
    assert result.typed.counts.as_dict()["unknown_fields"] == ["a-b c", "half", "zone.name"]


def test_a_field_named_like_a_bookkeeping_column_is_an_unknown_one() -> None:
    (row,) = type_rows("deploys", deploy(read_at="never", read_seq=-1, extra="more", row_hash="x")).rows

    assert (row["read_at"], row["read_seq"]) == (READ_AT, 0)
    assert json.loads(row["extra"]) == {"read_at": "never", "read_seq": -1, "extra": "more", "row_hash": "x"}


def test_the_brand_in_a_field_s_name_is_replaced() -> None:
    row = deploy(acme_username="ci", acme_id=3, acmeish=1, my_acme_id=2)

    (neutral,) = type_rows("deploys", row, brand="acme").rows
    (branded,) = type_rows("deploys", row).rows

    assert json.loads(neutral["extra"]) == {
        "analytics_username": "ci",
        "analytics_id": 3,
        "acmeish": 1,
        "my_acme_id": 2,
    }
    assert json.loads(branded["extra"]) == {"acme_username": "ci", "acme_id": 3, "acmeish": 1, "my_acme_id": 2}


# -- the window -----------------------------------------------------------------------------------------------


def test_only_rows_of_the_window_are_handed_on() -> None:
    window = Window(start=MOMENT, end=MOMENT + timedelta(seconds=10))
    rows = [deploy(id=number, start_time=SECONDS + number) for number in (-1, 0, 5, 9, 10, 11)]

    result = type_rows("deploys", *rows, window=window)

    assert [row["id"] for row in result.rows] == [0, 5, 9]
    assert (result.typed.counts.typed, result.typed.counts.loaded) == (6, 3)
    assert result.typed.counts.newest == MOMENT + timedelta(seconds=9)


def test_a_window_cuts_by_the_cursor_and_not_by_the_order() -> None:
    job = {
        "id": 1,
        "project_id": 1001,
        "project_group_id": None,
        "query_string": "select 1",
        "status": "Deleted",
        "job_hash": "ff",
        "date_created": SECONDS - 9 * 86_400,
        "date_modified": SECONDS,
    }
    window = Window(start=MOMENT - timedelta(hours=1), end=MOMENT + timedelta(hours=1))

    assert type_rows("rql_jobs", job, window=window).table.num_rows == 1
    assert type_rows("rql_jobs", job | {"date_modified": SECONDS - 9 * 86_400}, window=window).table.num_rows == 0


def test_a_misfit_is_rejected_wherever_its_cursor_lies() -> None:
    window = Window(start=MOMENT, end=MOMENT + timedelta(seconds=10))

    assert len(type_rows("deploys", deploy(id=None, start_time=SECONDS - 99), window=window).rejected) == 1


def test_taking_starts_anew_and_counts_go_on() -> None:
    typed = TableBuilder(get_resource("deploys"), window=None, now=NOW)
    typed.add(Page([deploy(id=1, start_time=SECONDS + 5), "no row"]))
    assert typed.pending == 2

    first, first_rejected = typed.take()
    assert typed.pending == 0
    typed.add(Page([deploy(id=2)]))
    second, second_rejected = typed.take()

    assert (first["id"].to_pylist(), second["id"].to_pylist()) == ([1], [2])
    assert (first_rejected.num_rows, second_rejected) == (1, None)
    assert typed.counts.as_dict() == {
        "read": 3,
        "typed": 2,
        "loaded": 2,
        "rejected": 1,
        "unknown_fields": [],
        "newest": (MOMENT + timedelta(seconds=5)).isoformat(),
        "projects": [1001],
    }


# -- rejected rows --------------------------------------------------------------------------------------------

TOO_LATE = int((NOW + timedelta(days=1, seconds=1)).timestamp())


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": None}, "id is null or missing"),
        ({"id": "7"}, "id is str where bigint belongs"),
        ({"id": True}, "id is bool where bigint belongs"),
        ({"id": 7.0}, "id is float where bigint belongs"),
        ({"id": [7]}, "id is list where bigint belongs"),
        ({"id": 2**63}, "id is an integer above 64 bits"),
        ({"id": -(2**63) - 1}, "id is an integer above 64 bits"),
        ({"user_id": "somebody"}, "user_id is str where bigint belongs"),
        ({"revision": 12}, "revision is int where text belongs"),
        ({"revision": None}, "revision is null or missing"),
        ({"comment": {"text": "hi"}}, "comment is dict where text belongs"),
        ({"comment": "half \ud83d"}, "comment holds half of a surrogate pair"),
        ({"start_time": None}, "start_time is null or missing"),
        ({"start_time": "2026-11-20"}, "start_time is str where timestamp belongs"),
        ({"start_time": SECONDS + 0.5}, "start_time is float where timestamp belongs"),
        ({"start_time": False}, "start_time is bool where timestamp belongs"),
        ({"start_time": SECONDS * 1_000}, "start_time is no plausible time in epoch seconds"),
        ({"start_time": 0}, "start_time is no plausible time in epoch seconds"),
        ({"start_time": -SECONDS}, "start_time is no plausible time in epoch seconds"),
        ({"start_time": 10**18}, "start_time is no plausible time in epoch seconds"),
        ({"start_time": 2**64}, "start_time is an integer above 64 bits"),
        ({"start_time": 946_684_799}, "start_time is no plausible time in epoch seconds"),
        ({"start_time": TOO_LATE}, "start_time is no plausible time in epoch seconds"),
        ({"finish_time": 0}, "finish_time is no plausible time in epoch seconds"),
    ],
    ids=repr,
)
def test_a_row_that_does_not_fit_is_rejected_with_its_reason(fields: dict[str, Any], reason: str) -> None:
    result = type_rows("deploys", deploy(id=1), deploy(**fields), deploy(id=2))

    assert result.reason == reason
    assert [row["id"] for row in result.rows] == [1, 2]
    (rejected,) = result.rejected
    assert (rejected["resource"], rejected["first_seen"], rejected["last_seen"]) == ("deploys", READ_AT, READ_AT)
    assert json.loads(rejected["raw"]) == without_username(deploy(**fields))


@pytest.mark.parametrize("seconds", [946_684_800, TOO_LATE - 1])
def test_the_outermost_plausible_times_are_accepted(seconds: int) -> None:
    assert type_rows("deploys", deploy(start_time=seconds)).rejected == []


def test_a_field_that_is_missing_is_as_good_as_null() -> None:
    row = deploy()
    del row["id"], row["comment"]

    assert type_rows("deploys", row).reason == "id is null or missing"


@pytest.mark.parametrize("entry", [None, "text", 5, 1.5, True, [], [deploy()]], ids=repr)
def test_an_entry_that_is_no_object_is_rejected(entry: Any) -> None:
    result = type_rows("deploys", deploy(), entry)

    assert result.reason == "row is not a JSON object"
    assert json.loads(result.rejected[0]["raw"]) == ([without_username(deploy())] if entry == [deploy()] else entry)
    assert len(result.rows) == 1


@pytest.mark.parametrize("visible", [2, -1, 10**30])
def test_a_number_that_is_no_flag_is_rejected(visible: int) -> None:
    row = {"id": 1, "project_id": 2, "environment": "qa", "visible": visible}

    assert type_rows("environments", row).reason == "visible is a number that is neither 0 nor 1"


@pytest.mark.parametrize("entry", [{"item": None}, {"item": "x", "counts": []}, {"counts": []}, {}], ids=repr)
def test_an_entry_without_its_row_is_rejected(entry: dict[str, Any]) -> None:
    assert type_rows("top_active_items", entry).reason.endswith("is null or missing")


@pytest.mark.parametrize("bad", [[0], [3], [0, 1, 2, 3], [1, 2, 5], range(7)], ids=str)
def test_misfits_are_found_wherever_they_stand_on_a_page(bad: Sequence[int]) -> None:
    rows = [deploy(id=None if number in bad else number) for number in range(7)]

    result = type_rows("deploys", *rows)

    assert [row["id"] for row in result.rows] == [number for number in range(7) if number not in bad]
    assert len(result.rejected) == len(bad)


def test_a_rejected_row_has_the_same_hash_whenever_and_however_it_is_read() -> None:
    fields = deploy(id=None)
    turned = dict(reversed(fields.items()))
    first = type_pages("deploys", [Page([fields])])
    again = type_pages("deploys", [Page([deploy(), turned], read_at=READ_AT + timedelta(days=1))])
    other = type_pages("deploys", [Page([fields | {"comment": "another"}])])

    (row,), (row_again,), (other_row,) = first.rejected, again.rejected, other.rejected
    assert row["row_hash"] == row_again["row_hash"] != other_row["row_hash"]
    assert len(row["row_hash"]) == 64


def test_the_same_row_of_two_resources_is_rejected_twice() -> None:
    hashes = {type_rows(name, {"id": None}).rejected[0]["row_hash"] for name in ("deploys", "items")}

    assert len(hashes) == 2


def test_a_rejected_row_keeps_the_moment_it_was_first_seen() -> None:
    long_ago = READ_AT - timedelta(days=30)
    row_hash = type_rows("deploys", deploy(id=None)).rejected[0]["row_hash"]

    again = type_rows("deploys", deploy(id=None), deploy(id=False), known_rejects={row_hash: long_ago})

    assert {row["reason"]: (row["first_seen"], row["last_seen"]) for row in again.rejected} == {
        "id is null or missing": (long_ago, READ_AT),
        "id is bool where bigint belongs": (READ_AT, READ_AT),
    }


def test_rejected_rows_have_the_declared_columns() -> None:
    typed = TableBuilder(get_resource("deploys"), window=None, now=NOW)
    typed.add(Page(["no row"]))
    _, rejected = typed.take()

    assert rejected is not None
    assert rejected.schema == arrow_schema(REJECTED_COLUMNS)


def test_the_raw_text_of_a_rejected_row_is_json_that_every_reader_takes() -> None:
    (rejected,) = type_rows("occurrences", occurrence({"value": float("nan")}, id=None)).rejected

    assert "NaN" not in rejected["raw"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_rejected_row_holds_no_secrets_and_personal_data_only_on_demand(*, keep: bool) -> None:
    type_kept = partial(type_rows, keep_personal_data=keep)
    rejected = [
        *type_kept("occurrences", occurrence(full_data(), id=None)).rejected,
        *type_kept("projects", project(id=None)).rejected,
        *type_kept("users", {"id": "x", "username": ADDRESS, "email": ADDRESS}).rejected,
    ]

    assert len(rejected) == 3
    assert SECRET not in str(rejected)
    assert (ADDRESS in str(rejected)) is keep
    assert ("203.0.113." in str(rejected)) is keep


@pytest.mark.parametrize("wrap", [lambda row: [row], lambda row: [[row]]], ids=["in a list", "in a list of lists"])
def test_a_row_wrapped_in_something_else_is_rejected_without_its_secrets(wrap: Callable[[Any], Any]) -> None:
    result = type_rows("occurrences", wrap(occurrence(full_data())))

    assert len(result.rejected) == 1
    assert SECRET not in result.rejected[0]["raw"]


TOKEN = {"accessToken": SECRET, "enabled": True}


@pytest.mark.parametrize(
    "data",
    [
        {"notifier": {"configured_options": TOKEN}},
        {"notifier": {"configured_options": {"server": {"client": TOKEN}}}},
        {"notifier": {"configured_options": {"server": {"access_token": SECRET}}}},
        {"notifier": {"configured_options": {"a": {"b": {"c": {"d": [[{"ACCESS-TOKEN": SECRET}]]}}}}}},
        {"notifier": {"configured_options": [TOKEN]}},
        {"notifier": {"configured_options": [[TOKEN], {"server": [TOKEN]}]}},
        {"notifier": {"Access Token": SECRET}},
        {"notifier": [TOKEN]},
        {"NOTIFIER": {"configuredOptions": TOKEN}},
        {"metadata": {"accessToken": SECRET}},
        {"metadata": {"debug": {"Access_Token": SECRET}}},
        {"Metadata": {"access_token": SECRET}, "metadata": {"access_token": SECRET}},
        {"request": {"headers": {"COOKIE": SECRET}}},
        {"request": {"headers": [{"COOKIE": SECRET}]}},
        {"Request": {"Headers": {"X-API-Key": SECRET, "x-api_key": SECRET}}},
    ],
    ids=str,
)
def test_secrets_are_removed_however_deep_they_are_and_however_they_are_spelt(data: dict[str, Any]) -> None:
    result = type_rows("occurrences", occurrence(deepcopy(data)), occurrence(full_data()), keep_personal_data=True)

    stored = [json.loads(row["data"]) for row in result.rows]
    assert len(stored) == 2
    assert SECRET not in str(stored)
    assert ("enabled" in str(stored[0])) == ("enabled" in str(data))


@pytest.mark.parametrize("wrap", [json.dumps, lambda value: json.dumps(json.dumps(value))], ids=["once", "twice"])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    "path", [(), ("metadata",), ("notifier",), ("notifier", "configured_options"), ("request",), ("request", "headers")]
)
def test_secrets_are_removed_from_objects_that_come_as_text(
    path: tuple[str, ...], wrap: Callable[[Any], str], *, keep: bool
) -> None:
    data = full_data()
    data["request"]["headers"]["Cookie"] = SECRET
    whole = {"data": data}
    *parents, name = ("data", *path)
    parent: Any = whole
    for key in parents:
        parent = parent[key]
    parent[name] = wrap(parent[name])

    (row,) = type_rows("occurrences", occurrence(whole["data"]), keep_personal_data=keep).rows

    assert SECRET not in row["data"]
    assert (ADDRESS in row["data"]) is keep
    assert "host" in row["data"], "what is not secret is kept"
    assert isinstance(json.loads(row["data"]), type(whole["data"])), "a text stays a text"


def test_a_name_with_escaped_letters_in_a_text_is_found() -> None:
    text = json.dumps({"access_token": SECRET, "version": 2}).replace("access", "\\u0061ccess")

    (row,) = type_rows("occurrences", occurrence({"metadata": text})).rows

    assert json.loads(json.loads(row["data"])["metadata"]) == {"version": 2}


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (f"access_token={SECRET}", "[redacted]"),
        (f'{{"notifier": {{"accessToken": "{SECRET}", "cut sh', "[redacted]"),
        (f"Cookie: {SECRET}\r\nAccept: */*", "[redacted]"),
        ("it broke", "it broke"),
        ("C:\\users\\me", "C:\\users\\me"),
        ('{"version": 2}', '{"version": 2}'),
    ],
)
def test_a_text_that_is_no_json_is_redacted_if_it_names_a_secret(text: str, stored: str) -> None:
    (row,) = type_rows("occurrences", occurrence(text), keep_personal_data=True).rows

    assert json.loads(row["data"]) == stored


def test_the_names_of_secrets_in_a_list_of_names_are_kept() -> None:
    data = {"notifier": {"configured_options": {"scrub_fields": ["access_token", "accessToken", "password"]}}}

    (row,) = type_rows("occurrences", occurrence(deepcopy(data))).rows

    assert json.loads(row["data"]) == data


@pytest.mark.parametrize("name", ["settings_data", "settingsData", "Settings-Data"])
def test_a_secret_field_that_is_spelt_otherwise_is_no_unknown_field(name: str) -> None:
    row = {key: value for key, value in project().items() if key != "settings_data"}

    result = type_rows("projects", row | {name: {"key": SECRET}}, json.dumps(row | {name: SECRET}))

    assert SECRET not in str(result.rows) + str(result.rejected)
    assert result.typed.counts.unknown_fields == set()


@pytest.mark.parametrize("keep", [False, True])
def test_fields_of_users_that_nobody_knew_of_are_personal_and_their_names_are_told(*, keep: bool) -> None:
    users = [
        {"id": 1, "username": ADDRESS, "E-Mail": ADDRESS, "email": ADDRESS, "phone": "+99 1"},
        {"id": "x", "phone": "+99 2"},
        [{"id": 3, "phone": "+99 3"}],
        json.dumps({"id": 4, "phone": "+99 4"}),
    ]

    result = type_rows("users", *users, keep_personal_data=keep)

    kept = str(result.rows) + str(result.rejected)
    assert ("+99" in kept) is keep
    assert (ADDRESS in kept) is keep
    assert "phone" in result.typed.counts.unknown_fields
    assert len(result.rows) + len(result.rejected) == 4


def test_the_name_of_a_deploy_s_user_is_personal() -> None:
    row = deploy(local_username="somebody")

    (hidden,) = type_rows("deploys", row).rows
    (kept,) = type_rows("deploys", row, keep_personal_data=True).rows

    assert (hidden["local_username"], hidden["extra"]) == (None, None)
    assert kept["local_username"] == "somebody"


@pytest.mark.parametrize("place", ["metadata", "notifier"])
def test_a_payload_nested_as_deep_as_json_goes_is_searched(place: str) -> None:
    deep: Any = {"access_token": SECRET}
    for level in range(400):
        deep = {"inner": deep} if level % 2 else [deep]

    (row,) = type_rows("occurrences", occurrence({place: deep})).rows

    assert SECRET not in row["data"]


# -- any page -------------------------------------------------------------------------------------------------

odd_values = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, SECONDS, SECONDS * 1_000, 2**63, -(2**80), 1.5, float("nan"), float("inf")])
    | st.sampled_from(["", "text", "half \ud83d", "\x00", "é", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a.b", "person", "\ud83d"]), inner),
    max_leaves=4,
)


@st.composite
def pages_of(draw: st.DrawFn, good: dict[str, Any]) -> list[Page]:
    """Pages of good rows with ids of their own, rows with odd values in some of their fields, and no rows at all."""
    fields = st.dictionaries(st.sampled_from([*good, "surprise"]), odd_values, min_size=1, max_size=3)
    entry = st.just(good) | fields.map(lambda odd: {**good, "id": -1, **odd}) | odd_values
    pages = draw(st.lists(st.lists(entry, max_size=6), max_size=3))
    numbers = iter(range(1, 99))
    return [
        Page([deepcopy(good) | {"id": next(numbers)} if entry is good else deepcopy(entry) for entry in page])
        for page in pages
    ]


@pytest.mark.parametrize(("name", "good"), [("deploys", deploy()), ("occurrences", occurrence(full_data()))])
@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_row_of_any_page_is_typed_or_rejected(name: str, good: dict[str, Any], data: st.DataObject) -> None:
    pages = data.draw(pages_of(good))
    entries = [entry for page in pages for entry in page.rows]
    ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    good_ids = {number for number in ids if type(number) is int and 0 < number < 99}

    result = type_pages(name, pages)

    counts = result.typed.counts
    assert counts.read == len(entries) == counts.typed + counts.rejected
    assert (counts.typed, counts.rejected) == (result.table.num_rows, len(result.rejected))
    assert good_ids <= set(result.table["id"].to_pylist())
    assert all(row["reason"] for row in result.rejected)
    assert SECRET not in str(result.rows) + str(result.rejected)
    result.table.validate(full=True)
