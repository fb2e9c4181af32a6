"""The catalog equals the specification, spelled out here once more, and refuses impossible resources."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from analytics_dagster.catalog import (
    GROUPS,
    RESOURCES,
    Column,
    ColumnType,
    Freshness,
    Origin,
    Reference,
    Resource,
    get_resource,
    table_columns,
)
from analytics_dagster.catalog.loader_columns import BOOKKEEPING_COLUMNS, LISTING_COLUMNS
from analytics_dagster.catalog.model import WatermarkColumns, validate_catalog
from analytics_dagster.ingest.settings import Settings

# Resource, request, rows at, pages of how many rows (None: not in pages), primary key, cursor.
SPECIFICATION = [
    ("items", "GET /v1/items", "result.items", 100, "id", "last_occurrence_timestamp"),
    ("occurrences", "GET /v1/occurrences", "result.instances", 20, "id", "timestamp"),
    # Its rows carry no id.
    ("items_metrics", "POST /v1/metrics/items", "result.metrics", None, "project_id item_counter", None),
    ("deploys", "GET /v1/deploys", "result.deploys", 20, "id", "start_time"),
    ("environments", "GET /v1/environments", "result.environments", 20, "id", None),
    ("rql_jobs", "GET /v1/rql/jobs", "result.jobs", 20, "id", "date_modified"),
    # "result.*.item": `result` is the list, and each entry wraps a row. A reply is a snapshot of a rolling top ten,
    # so that the id names a row only within its snapshot.
    ("top_active_items", "GET /v1/reports/top_active_items", "result item", None, "snapshot_at id", None),
    ("projects", "GET /v1/projects", "result", None, "id", "date_modified"),
    # In pages, as seen, though the specification knows none; their size is the service's own matter.
    ("teams", "GET /v1/teams", "result", "as served", "id", None),
    ("users", "GET /v1/users", "result.users", None, "id", None),
]
NAMES = [name for name, *_ in SPECIFICATION]

# Fields of the service's rows as they are documented: "?" may be null or absent, "s" is an epoch second,
# and "@" is no field of the row itself, but of the envelope around the rows.
ROWS = {
    "items": """
        id int; counter int; project_id int; environment str; title str; title_lock int; level str; level_lock int
        status str; platform str; framework str; hash str; first_occurrence_id int; first_occurrence_timestamp s
        last_occurrence_id int; last_occurrence_timestamp s; activating_occurrence_id int?
        last_activated_timestamp s?; last_resolved_timestamp s?; total_occurrences int; unique_occurrences int?
        assigned_user_id int?; assigned_team_id int?; last_modified_by int?; resolved_in_version str?
        public_item_id int?; integrations_data any?; controlling_id int; group_item_id int?; group_status int
    """,
    "occurrences": """
        id int; item_id int?; project_id int?; timestamp s; version int?; billable int?; data any
    """,
    "items_metrics": "item_counter int; first_ttr int?; last_ttr int?; @project_id int; @project_slug str?",
    "deploys": """
        id int; project_id int; environment str; revision str; status str; start_time s; finish_time s?
        local_username str?; user_id int?; comment str?
    """,
    "environments": "id int; project_id int; environment str; visible bool",
    "rql_jobs": """
        id int; project_id int; project_group_id int?; query_string str; status str; job_hash str; date_created s
        date_modified s
    """,
    "top_active_items": """
        id int; counter int; project_id int; environment str; title str; level int; framework int; occurrences int
        unique_occurrences int?; group_status int; last_occurrence_timestamp s; counts any
    """,
    "projects": "id int; account_id int; name str?; status str?; date_created s; date_modified s; settings_data any",
    "teams": "id int; account_id int; name str; access_level str",
    "users": "id int; username str; email str",
}
TYPES = {"int": "bigint", "s": "timestamp", "str": "text", "bool": "bool", "any": "json"}

# Values inside `data` of an occurrence that are useful enough for a column of their own.
LIFTED = {
    "environment": "data.environment",
    "level": "data.level",
    "platform": "data.platform",
    "language": "data.language",
    "framework": "data.framework",
    "title": "data.title",
    "uuid": "data.uuid",
    "context": "data.context",
    "code_version": "data.code_version",
    "client_timestamp": "data.timestamp",
    "exception_class": "data.body.trace.exception.class",
    "exception_message": "data.body.trace.exception.message",
    "message": "data.body.message.body",
    "person_id": "data.person.id",
    "server_host": "data.server.host",
    "request_url": "data.request.url",
}


def test_the_catalog_holds_the_ten_resources_in_the_order_of_the_specification() -> None:
    assert [resource.name for resource in RESOURCES] == NAMES
    assert len(NAMES) == 10


@pytest.mark.parametrize(
    ("name", "request_line", "rows_at", "page_size", "primary_key", "cursor"), SPECIFICATION, ids=NAMES
)
def test_a_resource_is_asked_for_as_specified(
    name: str, request_line: str, rows_at: str, page_size: int | str | None, primary_key: str, cursor: str | None
) -> None:
    resource = get_resource(name)

    assert f"{resource.method} {resource.path}" == request_line
    assert " ".join(filter(None, [".".join(resource.rows_at), resource.unwrap])) == rows_at
    assert (resource.page_size or "as served" if resource.paged else None) == page_size
    assert " ".join(resource.primary_key) == primary_key
    assert resource.cursor == cursor


@pytest.mark.parametrize("name", NAMES)
def test_a_resource_has_the_documented_fields_with_their_types(name: str) -> None:
    documented = {}
    for entry in ROWS[name].replace("\n", ";").split(";"):
        if entry.strip():
            field, kind = entry.split()
            documented[field] = (TYPES[kind.removesuffix("?")], kind.endswith("?"))

    declared = {}
    for column in get_resource(name).columns:
        if column.origin in {Origin.ROW, Origin.ENVELOPE}:
            assert column.origin is Origin.ROW or column.path == (column.name,)
            field = column.name if column.origin is Origin.ROW else f"@{column.name}"
            declared[field] = (str(column.type), column.nullable)

    assert declared == documented


def test_columns_that_are_no_fields_are_these() -> None:
    derived = {
        f"{resource.name}.{column.name}": (column.origin, ".".join(column.path))
        for resource in RESOURCES
        for column in resource.columns
        if column.origin not in {Origin.ROW, Origin.ENVELOPE}
    }

    assert derived == {
        **{f"occurrences.{name}": (Origin.INSIDE, path) for name, path in LIFTED.items()},
        "top_active_items.snapshot_at": (Origin.SNAPSHOT_HOUR, ""),
        "top_active_items.rank": (Origin.RANK, ""),
        "projects.deleted": (Origin.IS_NULL, "name"),
    }


def test_what_is_secret_or_personal_is_marked() -> None:
    secret = {
        f"{resource.name}.{column.name}" for resource in RESOURCES for column in resource.columns if column.secret
    }
    personal = {
        f"{resource.name}.{column.name}" for resource in RESOURCES for column in resource.columns if column.personal
    }
    data = get_resource("occurrences").column("data")

    assert secret == {"projects.settings_data"}
    assert personal == {"users.username", "users.email", "deploys.local_username"}
    assert {resource.name for resource in RESOURCES if resource.unknown_fields_personal} == {"users"}
    headers = {"Authorization", "Cookie", "Proxy-Authorization", "Set-Cookie", "X-Api-Key", "X-Auth-Token"}
    assert {".".join(path) for path in data.secret_paths} == {
        "metadata.**.access_token",
        "notifier.**.access_token",
        *(f"request.headers.{name}" for name in headers),
    }
    assert {".".join(path) for path in data.personal_paths} == {
        "person.email",
        "person.username",
        "request.headers",
        "request.user_ip",
        "client.user_ip",
    }


def test_the_account_key_is_for_projects_teams_and_users() -> None:
    assert {resource.name for resource in RESOURCES if resource.account_key} == {"projects", "teams", "users"}


def test_groups_part_the_resources_by_how_they_are_refreshed() -> None:
    assert {group: [resource.name for resource in Settings().enabled_resources(group)] for group in GROUPS} == {
        "incremental": ["items", "occurrences", "deploys", "rql_jobs"],
        "reference": ["environments", "projects", "teams", "users"],
        "metrics": ["items_metrics", "top_active_items"],
    }


def test_lookbacks_outlast_what_changes_after_the_fact() -> None:
    assert {resource.name: resource.lookback for resource in RESOURCES if resource.lookback} == {
        "items": timedelta(minutes=10),
        "occurrences": timedelta(minutes=10),
        "deploys": timedelta(minutes=90),  # one that runs settles within 60
        "rql_jobs": timedelta(days=8),  # one becomes `Deleted` after 7
    }


def test_jobs_are_ordered_by_another_time_than_their_cursor() -> None:
    ordered_by = {resource.name: resource.ordered_by for resource in RESOURCES if resource.incremental}

    assert ordered_by == {
        "items": "last_occurrence_timestamp",
        "occurrences": "timestamp",
        "deploys": "start_time",
        "rql_jobs": "date_created",
    }


def test_items_metrics_ask_for_counters_of_items_in_safe_batches() -> None:
    lookup = get_resource("items_metrics").lookup

    assert lookup is not None
    assert (lookup.body_field, lookup.resource, lookup.column) == ("item_counters", "items", "counter")
    assert lookup.batch_size <= 100
    assert {get_resource("items").column(name).type for name in lookup.active_by} == {ColumnType.TIMESTAMP}


def test_references_between_resources_lead_somewhere() -> None:
    assert {resource.refresh_after for resource in RESOURCES} - {None} <= set(NAMES)
    assert {resource.name for resource in RESOURCES if resource.refresh_after} == {"items_metrics", "top_active_items"}


def test_everything_is_described() -> None:
    columns = {f"{resource.name}.{column.name}": column for resource in RESOURCES for column in table_columns(resource)}
    texts = {name: column.description for name, column in columns.items()} | {
        resource.name: resource.description for resource in RESOURCES
    }

    assert [name for name, text in texts.items() if len(text) < 5 or not text.endswith(".")] == []


def test_a_table_has_the_stored_columns_and_the_bookkeeping() -> None:
    names = {resource.name: [column.name for column in table_columns(resource)] for resource in RESOURCES}

    assert names["deploys"][-4:] == ["comment", "extra", "read_at", "read_seq"]
    assert names["users"] == ["id", "username", "email", "extra", "read_at", "read_seq", "removed_at", "load_id"]
    assert "settings_data" not in names["projects"]
    assert {name for name, columns in names.items() if "removed_at" in columns} == {
        "environments",
        "projects",
        "teams",
        "users",
    }
    assert all(len(set(columns)) == len(columns) for columns in names.values())


def test_no_field_of_the_service_has_the_name_of_a_bookkeeping_column() -> None:
    reserved = {column.name for column in (*BOOKKEEPING_COLUMNS, *LISTING_COLUMNS)}

    assert [resource.name for resource in RESOURCES if reserved & {column.name for column in resource.columns}] == []


def test_an_unknown_resource_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="gadgets"):
        get_resource("gadgets")


# -- impossible resources ---------------------------------------------------------------------------------------

column = partial(Column, description="A value.")
ID = column(name="id", type=ColumnType.BIGINT)
AT = column(name="at", type=ColumnType.TIMESTAMP)
NOTE = column(name="note", type=ColumnType.TEXT, nullable=True)
EMAIL = column(name="email", type=ColumnType.TEXT, personal=True)
WIDGET_ID = column(name="widget_id", type=ColumnType.BIGINT)
WIDGET = Reference(column="widget_id", resource="widgets", tolerated=timedelta(hours=1))
DAYS = Freshness(warn_after=timedelta(days=1), fail_after=timedelta(days=2))
ORDERED: dict[str, Any] = {"paged": True, "cursor": "at", "ordered_by": "at"}


def gadgets(**facts: Any) -> Resource:
    return Resource(
        **{
            "name": "gadgets",
            "description": "A gadget.",
            "path": "/v1/gadgets",
            "rows_at": ("result",),
            "freshness": DAYS,
            "columns": (ID, AT, NOTE, EMAIL),
            **facts,
        }
    )


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"columns": (ID, ID)}, "names of columns must be unique"),
        ({"primary_key": ("uuid",)}, "primary_key must name declared columns; unknown: uuid"),
        ({"cursor": "later"}, "cursor must name declared columns; unknown: later"),
        ({**ORDERED, "ordered_by": "later"}, "ordered_by must name declared columns; unknown: later"),
        ({"replace_by": ("batch",)}, "replace_by must name declared columns; unknown: batch"),
        (
            {"complete_listing": True, "listed_within": ("account",)},
            "listed_within must name declared columns; unknown: account",
        ),
        ({"primary_key": ("id", "note")}, "primary_key must not be nullable"),
        ({"primary_key": ("email",)}, "primary_key must not be nullable"),
        ({"cursor": "id"}, "cursor and ordered_by must be timestamps"),
        ({**ORDERED, "ordered_by": "id"}, "cursor and ordered_by must be timestamps"),
        ({"page_size": 20}, "page_size must be left out unless paged"),
        ({"cursor": "at", "ordered_by": "at"}, "paged and cursor must be set for ordered_by"),
        ({"paged": True, "ordered_by": "at"}, "paged and cursor must be set for ordered_by"),
        ({"lookback": timedelta(minutes=1)}, "ordered_by must be set for lookback and changes_silently"),
        ({"changes_silently": True}, "ordered_by must be set for lookback and changes_silently"),
        ({"listed_within": ("id",)}, "complete_listing must be set for listed_within"),
        (
            {"watermark": WatermarkColumns(settled_by="done", labels=())},
            "watermark must name declared columns; unknown: done",
        ),
        (
            {"watermark": WatermarkColumns(settled_by="at", labels=("title",))},
            "watermark must name declared columns; unknown: title",
        ),
        (
            {"watermark": WatermarkColumns(settled_by="at", labels=()), "primary_key": ("id", "at")},
            "primary_key must be one column for watermark",
        ),
        ({"cursor": "at", "references": WIDGET}, "references must name declared columns; unknown: widget_id"),
        (
            {"columns": (ID, WIDGET_ID), "references": WIDGET},
            "cursor must be set for references",
        ),
        ({**ORDERED, "complete_listing": True}, "refresh_after and complete_listing must be left out with ordered_by"),
        (
            {**ORDERED, "refresh_after": "deploys"},
            "refresh_after and complete_listing must be left out with ordered_by",
        ),
    ],
)
def test_an_impossible_resource_is_refused_with_a_sentence(facts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^Resource 'gadgets'.+\.$") as refusal:
        gadgets(**facts)

    assert sentence in str(refusal.value)


def test_a_resource_refers_only_to_one_whose_rows_have_a_key_of_one_column() -> None:
    referring = gadgets(cursor="at", columns=(ID, AT, WIDGET_ID), references=WIDGET)
    widgets = replace(gadgets(), name="widgets")

    assert validate_catalog(referring, widgets) == (referring, widgets)
    assert WIDGET.noun == "widget"
    with pytest.raises(
        ValueError, match=r"^Resource 'gadgets': references must name a resource whose primary key is one column\.$"
    ):
        validate_catalog(referring, replace(widgets, primary_key=("id", "at")))
    with pytest.raises(ValueError, match=r"^Resource 'gadgets': references must name a resource; unknown: widgets\.$"):
        validate_catalog(referring)


def test_a_resource_waits_only_for_one_that_announces_its_new_rows() -> None:
    waiting, silent = gadgets(refresh_after="widgets"), replace(gadgets(), name="widgets")
    announcing = replace(silent, watermark=WatermarkColumns(settled_by="at", labels=("note",)))

    assert validate_catalog(waiting, announcing) == (waiting, announcing)
    with pytest.raises(
        ValueError, match=r"^Resource 'gadgets': refresh_after must name a resource with a watermark\.$"
    ):
        validate_catalog(waiting, silent)
    with pytest.raises(
        ValueError, match=r"^Resource 'gadgets': refresh_after must name a resource; unknown: widgets\.$"
    ):
        validate_catalog(waiting)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"secret_paths": (("key",),)}, "type must be JSON for secret_paths and personal_paths"),
        ({"personal_paths": (("email",),)}, "type must be JSON for secret_paths and personal_paths"),
        (
            {"type": ColumnType.JSON, "secret_paths": (("a", "**"),)},
            "ANY_DEPTH must stand before the last key of a path",
        ),
        (
            {"type": ColumnType.JSON, "personal_paths": (("**", "a", "b"),)},
            "ANY_DEPTH must stand before the last key of a path",
        ),
        (
            {"origin": Origin.INSIDE, "path": ("data", "x"), "nullable": True, "personal": True},
            "origin must be row for personal and secret",
        ),
        ({"origin": Origin.INSIDE, "nullable": True}, "path must not be empty for origin inside"),
        ({"origin": Origin.ENVELOPE}, "path must not be empty for origin envelope"),
        ({"origin": Origin.IS_NULL}, "path must not be empty for origin is_null"),
        ({"path": ("data",)}, "path must be empty for origin row"),
        ({"origin": Origin.RANK, "path": ("rank",)}, "path must be empty for origin rank"),
        ({"origin": Origin.INSIDE, "path": ("data", "x")}, "nullable must be true for origin inside"),
    ],
)
def test_an_impossible_column_is_refused_with_a_sentence(facts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=r"^Column 'gadget': .+\.$") as refusal:
        column(name="gadget", **{"type": ColumnType.TEXT, **facts})

    assert sentence in str(refusal.value)


@pytest.mark.parametrize(("warn", "fail"), [(2, 1), (1, 1), (0, 1), (-1, 1)])
def test_freshness_that_fails_before_it_warns_is_refused(warn: int, fail: int) -> None:
    with pytest.raises(ValueError, match=r"^Freshness: warn_after must be between 0 and fail_after\.$"):
        Freshness(warn_after=timedelta(hours=warn), fail_after=timedelta(hours=fail))


def test_an_eleventh_resource_is_one_more_row() -> None:
    resource = gadgets(**ORDERED, page_size=20, lookback=timedelta(minutes=5), changes_silently=True)

    assert (resource.incremental, resource.group) == (True, "incremental")
    assert gadgets(complete_listing=True, listed_within=("id",)).group == "reference"
    assert gadgets(refresh_after="deploys").group == "metrics"
