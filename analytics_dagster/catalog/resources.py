"""The ten resources, one row each. To add a resource, add a row to `RESOURCES`.

Facts only: names, paths, keys, types, limits. What the facts mean is said in `model.py`; nothing here knows
dlt or Dagster.
"""

from datetime import timedelta
from functools import partial

from analytics_dagster.catalog.model import (
    Column,
    ColumnType,
    Freshness,
    Group,
    Lookup,
    Origin,
    Reference,
    Resource,
    WatermarkColumns,
    validate_catalog,
)

_bigint = partial(Column, type=ColumnType.BIGINT)
_text = partial(Column, type=ColumnType.TEXT)
_bool = partial(Column, type=ColumnType.BOOL)
_timestamp = partial(Column, type=ColumnType.TIMESTAMP)
_json = partial(Column, type=ColumnType.JSON)
_inside = partial(Column, type=ColumnType.TEXT, nullable=True, origin=Origin.INSIDE)

_EVERY_QUARTER_HOUR = Freshness(warn_after=timedelta(hours=1), fail_after=timedelta(hours=4))
_DAILY = Freshness(warn_after=timedelta(hours=26), fail_after=timedelta(hours=50))

_CREDENTIAL_HEADERS = ("Authorization", "Cookie", "Proxy-Authorization", "Set-Cookie", "X-Api-Key", "X-Auth-Token")

ITEMS = Resource(
    name="items",
    description="An error, as the service groups its occurrences.",
    path="/v1/items",
    rows_at=("result", "items"),
    paged=True,
    page_size=100,
    cursor="last_occurrence_timestamp",
    ordered_by="last_occurrence_timestamp",
    lookback=timedelta(minutes=10),
    changes_silently=True,
    freshness=_EVERY_QUARTER_HOUR,
    columns=(
        _bigint(name="id", description="Item, across projects."),
        _bigint(name="counter", description="Item within its project; what items_metrics are asked by."),
        _bigint(name="project_id", description="Project of the item."),
        _text(name="environment", description="Environment in which the item was first seen."),
        _text(name="title", description="Title, usually the exception's class and message."),
        _bigint(name="title_lock", description="1 if a person fixed the title, else 0."),
        _text(name="level", description="debug, info, warning, error or critical."),
        _bigint(name="level_lock", description="1 if a person fixed the level, else 0."),
        _text(name="status", description="active, resolved, muted or archived; changes without moving the cursor."),
        _text(name="platform", description="Platform that reported it."),
        _text(name="framework", description="Framework that reported it."),
        _text(name="hash", description="Fingerprint by which occurrences are grouped."),
        _bigint(name="first_occurrence_id", description="Oldest occurrence."),
        _timestamp(name="first_occurrence_timestamp", description="When the oldest occurrence was received."),
        _bigint(name="last_occurrence_id", description="Newest occurrence."),
        _timestamp(name="last_occurrence_timestamp", description="When the newest occurrence was received."),
        _bigint(name="activating_occurrence_id", nullable=True, description="Occurrence that last activated it."),
        _timestamp(name="last_activated_timestamp", nullable=True, description="When it was last activated."),
        _timestamp(name="last_resolved_timestamp", nullable=True, description="When it was last resolved."),
        _bigint(name="total_occurrences", description="Occurrences since it was last resolved: can fall."),
        _bigint(name="unique_occurrences", nullable=True, description="Distinct hosts or people affected."),
        _bigint(name="assigned_user_id", nullable=True, description="User it is assigned to."),
        _bigint(name="assigned_team_id", nullable=True, description="Team it is assigned to."),
        _bigint(name="last_modified_by", nullable=True, description="User who last changed it."),
        _text(name="resolved_in_version", nullable=True, description="Revision in which it was resolved."),
        _bigint(name="public_item_id", nullable=True, description="Public counterpart, if it is shared."),
        _json(name="integrations_data", nullable=True, description="What integrations keep with the item."),
        _bigint(name="controlling_id", description="Item that stands for the group; itself unless merged."),
        _bigint(name="group_item_id", nullable=True, description="Merged group it belongs to."),
        _bigint(name="group_status", description="1 for a plain item, 2 for a merged group."),
    ),
)

OCCURRENCES = Resource(
    name="occurrences",
    description="One event of an item: a single error, as it was received.",
    path="/v1/occurrences",
    rows_at=("result", "instances"),
    paged=True,
    page_size=20,
    cursor="timestamp",
    ordered_by="timestamp",
    lookback=timedelta(minutes=10),
    references=Reference(column="item_id", resource="items", tolerated=timedelta(hours=1)),
    freshness=_EVERY_QUARTER_HOUR,
    columns=(
        _bigint(name="id", description="Occurrence; grows with time."),
        _bigint(name="item_id", nullable=True, description="Item it belongs to."),
        _bigint(name="project_id", nullable=True, description="Project it belongs to."),
        _timestamp(name="timestamp", description="When the service received it."),
        _bigint(name="version", nullable=True, description="Version of the payload's format."),
        _bigint(name="billable", nullable=True, description="1 if it counts towards the plan, else 0."),
        _inside(name="environment", path=("data", "environment"), description="Environment that reported it."),
        _inside(name="level", path=("data", "level"), description="Level the reporter gave it."),
        _inside(name="platform", path=("data", "platform"), description="Platform of the reporter."),
        _inside(name="language", path=("data", "language"), description="Programming language."),
        _inside(name="framework", path=("data", "framework"), description="Framework of the reporter."),
        _inside(name="title", path=("data", "title"), description="Title the reporter gave it."),
        _inside(name="uuid", path=("data", "uuid"), description="Identifier the reporter gave it."),
        _inside(name="context", path=("data", "context"), description="Route or job it happened in."),
        _inside(name="code_version", path=("data", "code_version"), description="Revision that was running."),
        _inside(
            name="client_timestamp",
            type=ColumnType.TIMESTAMP,
            path=("data", "timestamp"),
            description="When it happened by the reporter's clock.",
        ),
        _inside(
            name="exception_class",
            path=("data", "body", "trace", "exception", "class"),
            description="Class of the exception.",
        ),
        _inside(
            name="exception_message",
            path=("data", "body", "trace", "exception", "message"),
            description="Message of the exception.",
        ),
        _inside(name="message", path=("data", "body", "message", "body"), description="Text of a plain message."),
        _inside(name="person_id", path=("data", "person", "id"), description="Person affected, by the reporter's id."),
        _inside(name="server_host", path=("data", "server", "host"), description="Host it happened on."),
        _inside(name="request_url", path=("data", "request", "url"), description="URL that was being served."),
        _json(
            name="data",
            description="The whole payload, without secrets and personal data.",
            secret_paths=(
                ("metadata", "access_token"),
                ("notifier", "configured_options", "*", "accessToken"),
                *(("request", "headers", name) for name in _CREDENTIAL_HEADERS),
                *(("request", "headers", name.lower()) for name in _CREDENTIAL_HEADERS),
            ),
            personal_paths=(
                ("person", "email"),
                ("person", "username"),
                ("request", "headers"),
                ("request", "user_ip"),
                ("client", "user_ip"),
            ),
        ),
    ),
)

ITEMS_METRICS = Resource(
    name="items_metrics",
    description="How long it took to resolve an item.",
    method="POST",
    path="/v1/metrics/items",
    rows_at=("result", "metrics"),
    primary_key=("project_id", "item_counter"),
    freshness=_DAILY,
    refresh_after="deploys",
    lookup=Lookup(
        body_field="item_counters",
        resource="items",
        column="counter",
        active_by=("last_occurrence_timestamp", "last_activated_timestamp", "last_resolved_timestamp"),
        batch_size=100,
    ),
    columns=(
        _bigint(name="project_id", origin=Origin.ENVELOPE, path=("project_id",), description="Project of the item."),
        _text(
            name="project_slug",
            nullable=True,
            origin=Origin.ENVELOPE,
            path=("project_slug",),
            description="Short name of the project.",
        ),
        _bigint(name="item_counter", description="Item within its project: items.counter."),
        _bigint(name="first_ttr", nullable=True, description="Seconds to its first resolution."),
        _bigint(name="last_ttr", nullable=True, description="Seconds to its latest resolution."),
    ),
)

DEPLOYS = Resource(
    name="deploys",
    description="One deployment of a revision to an environment.",
    path="/v1/deploys",
    rows_at=("result", "deploys"),
    paged=True,
    page_size=20,
    cursor="start_time",
    ordered_by="start_time",
    lookback=timedelta(minutes=90),
    watermark=WatermarkColumns(settled_by="finish_time", shown=("revision", "environment")),
    freshness=_EVERY_QUARTER_HOUR,
    columns=(
        _bigint(name="id", description="Deploy; grows with time."),
        _bigint(name="project_id", description="Project that was deployed."),
        _text(name="environment", description="Environment it was deployed to."),
        _text(name="revision", description="Revision that was deployed."),
        _text(name="status", description="started, succeeded, failed or timed_out; settles within an hour."),
        _timestamp(name="start_time", description="When it started."),
        _timestamp(name="finish_time", nullable=True, description="When it finished; null while it runs."),
        _text(name="local_username", nullable=True, description="Account that ran it on the deploying host."),
        _bigint(name="user_id", nullable=True, description="User who deployed."),
        _text(name="comment", nullable=True, description="What was said of it."),
    ),
)

ENVIRONMENTS = Resource(
    name="environments",
    description="An environment of a project.",
    path="/v1/environments",
    rows_at=("result", "environments"),
    paged=True,
    page_size=20,
    freshness=_DAILY,
    complete_listing=True,
    listed_within=("project_id",),
    columns=(
        _bigint(name="id", description="Environment."),
        _bigint(name="project_id", description="Project it belongs to."),
        _text(name="environment", description="Name."),
        _bool(name="visible", description="Whether the service shows it."),
    ),
)

RQL_JOBS = Resource(
    name="rql_jobs",
    description="A query that someone ran at the service.",
    path="/v1/rql/jobs",
    rows_at=("result", "jobs"),
    paged=True,
    page_size=20,
    cursor="date_modified",
    ordered_by="date_created",
    lookback=timedelta(days=8),
    changes_silently=True,
    freshness=_EVERY_QUARTER_HOUR,
    columns=(
        _bigint(name="id", description="Job; grows with time."),
        _bigint(name="project_id", description="Project it was run in."),
        _bigint(name="project_group_id", nullable=True, description="Group of projects it was run over."),
        _text(name="query_string", description="The query."),
        _text(
            name="status", description="new, running, success, failed, cancelled, timed_out, or Deleted after 7 days."
        ),
        _text(name="job_hash", description="Fingerprint of the query."),
        _timestamp(name="date_created", description="When it was submitted."),
        _timestamp(name="date_modified", description="When its status last changed."),
    ),
)

TOP_ACTIVE_ITEMS = Resource(
    name="top_active_items",
    description="One of the ten busiest items in a snapshot; the newest snapshot_at is the current top ten.",
    path="/v1/reports/top_active_items",
    rows_at=("result",),
    unwrap="item",
    primary_key=("snapshot_at", "id"),
    replace_by=("snapshot_at",),
    freshness=_DAILY,
    refresh_after="deploys",
    columns=(
        _timestamp(
            name="snapshot_at",
            origin=Origin.SNAPSHOT_HOUR,
            description="Hour of the snapshot; a later one within the hour replaces it.",
        ),
        _bigint(name="rank", origin=Origin.RANK, description="Place in the snapshot, from 1."),
        _bigint(name="id", description="Item, across projects."),
        _bigint(name="counter", description="Item within its project."),
        _bigint(name="project_id", description="Project of the item."),
        _text(name="environment", description="Environment in which the item was first seen."),
        _text(name="title", description="Title of the item."),
        _bigint(name="level", description="10 debug, 20 info, 30 warning, 40 error, 50 critical."),
        _bigint(name="framework", description="Framework, by the service's number."),
        _bigint(name="occurrences", description="Occurrences in the hours asked for."),
        _bigint(name="unique_occurrences", nullable=True, description="Distinct hosts or people affected."),
        _bigint(name="group_status", description="1 for a plain item, 2 for a merged group."),
        _timestamp(name="last_occurrence_timestamp", description="When the newest occurrence was received."),
        _json(name="counts", description="Occurrences of each hour, oldest first."),
    ),
)

PROJECTS = Resource(
    name="projects",
    description="A project of the account.",
    path="/v1/projects",
    rows_at=("result",),
    cursor="date_modified",
    freshness=_DAILY,
    account_key=True,
    complete_listing=True,
    listed_within=("account_id",),
    columns=(
        _bigint(name="id", description="Project."),
        _bigint(name="account_id", description="Account it belongs to."),
        _text(name="name", nullable=True, description="Name; null once it is deleted."),
        _bool(
            name="deleted",
            origin=Origin.IS_NULL,
            path=("name",),
            description="Whether it was deleted: the service goes on listing it, without its name.",
        ),
        _text(name="status", nullable=True, description="Status."),
        _timestamp(name="date_created", description="When it was created."),
        _timestamp(name="date_modified", description="When it was last changed."),
        _json(name="settings_data", secret=True, description="Settings, with the keys of integrations."),
    ),
)

TEAMS = Resource(
    name="teams",
    description="A team of the account.",
    path="/v1/teams",
    rows_at=("result",),
    paged=True,
    freshness=_DAILY,
    account_key=True,
    complete_listing=True,
    listed_within=("account_id",),
    columns=(
        _bigint(name="id", description="Team."),
        _bigint(name="account_id", description="Account it belongs to."),
        _text(name="name", description="Name."),
        _text(name="access_level", description="What its members may do."),
    ),
)

USERS = Resource(
    name="users",
    description="A user of the account.",
    path="/v1/users",
    rows_at=("result", "users"),
    freshness=_DAILY,
    account_key=True,
    complete_listing=True,
    columns=(
        _bigint(name="id", description="User."),
        _text(name="username", personal=True, description="Name the user signs in with."),
        _text(name="email", personal=True, description="Address of the user."),
    ),
)

RESOURCES = validate_catalog(
    ITEMS,
    OCCURRENCES,
    ITEMS_METRICS,
    DEPLOYS,
    ENVIRONMENTS,
    RQL_JOBS,
    TOP_ACTIVE_ITEMS,
    PROJECTS,
    TEAMS,
    USERS,
)
"""Every resource, in the order of the specification."""


def get_resource(name: str) -> Resource:
    """Return the resource called `name`; KeyError if the catalog has none."""
    return {row.name: row for row in RESOURCES}[name]


def resources_in(group: Group) -> tuple[Resource, ...]:
    """Return the resources of a group, in the catalog's order."""
    return tuple(row for row in RESOURCES if row.group == group)
