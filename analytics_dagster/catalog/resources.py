"""The ten resources. To add a resource, define it here and add it to `RESOURCES`.

Facts only: names, paths, keys, types, limits. `model.py` defines their meaning. Descriptions are shown in the UI.
"""

from datetime import timedelta
from functools import partial

from analytics_dagster.catalog.model import (
    ANY_DEPTH,
    Column,
    ColumnType,
    Freshness,
    Keyset,
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
    description="An error: a group of occurrences, as formed by the service.",
    path="/v1/items",
    rows_at=("result", "items"),
    paged=True,
    page_size=100,
    cursor="last_occurrence_timestamp",
    cursor_moves=True,
    ordered_by="last_occurrence_timestamp",
    lookback=timedelta(minutes=10),
    changes_silently=True,
    freshness=_EVERY_QUARTER_HOUR,
    columns=(
        _bigint(name="id", description="ID of the item, unique across projects."),
        _bigint(name="counter", description="The item's number within its project; items_metrics are requested by it."),
        _bigint(name="project_id", description="The item's project."),
        _text(name="environment", description="The environment in which the item was first seen."),
        _text(name="title", description="The title, usually the exception's class and message."),
        _bigint(name="title_lock", description="1 if a person has locked the title, otherwise 0."),
        _text(name="level", description="debug, info, warning, error or critical."),
        _bigint(name="level_lock", description="1 if a person has locked the level, otherwise 0."),
        _text(name="status", description="active, resolved, muted or archived; changes without moving the cursor."),
        _text(name="platform", description="The platform that reported the item."),
        _text(name="framework", description="The framework that reported the item."),
        _text(name="hash", description="The fingerprint by which occurrences are grouped."),
        _bigint(name="first_occurrence_id", description="The oldest occurrence."),
        _timestamp(name="first_occurrence_timestamp", description="The time when the oldest occurrence was received."),
        _bigint(name="last_occurrence_id", description="The newest occurrence."),
        _timestamp(name="last_occurrence_timestamp", description="The time when the newest occurrence was received."),
        _bigint(name="activating_occurrence_id", nullable=True, description="The occurrence that last activated it."),
        _timestamp(name="last_activated_timestamp", nullable=True, description="The time of the last activation."),
        _timestamp(name="last_resolved_timestamp", nullable=True, description="The time of the last resolution."),
        _bigint(name="total_occurrences", description="Occurrences since the last resolution; the number can fall."),
        _bigint(name="unique_occurrences", nullable=True, description="Number of distinct hosts or people affected."),
        _bigint(name="assigned_user_id", nullable=True, description="The user that the item is assigned to."),
        _bigint(name="assigned_team_id", nullable=True, description="The team that the item is assigned to."),
        _bigint(name="last_modified_by", nullable=True, description="The user who last changed the item."),
        _text(name="resolved_in_version", nullable=True, description="The revision in which the item was resolved."),
        _bigint(name="public_item_id", nullable=True, description="The public counterpart, if the item is shared."),
        _json(name="integrations_data", nullable=True, description="Data that integrations keep with the item."),
        _bigint(name="controlling_id", description="The item that represents the group; itself unless merged."),
        _bigint(name="group_item_id", nullable=True, description="The merged group that the item belongs to."),
        _bigint(name="group_status", description="1 for a plain item, 2 for a merged group."),
    ),
)

OCCURRENCES = Resource(
    name="occurrences",
    description="An event of an item: a single error, as received by the service.",
    path="/v1/occurrences",
    rows_at=("result", "instances"),
    paged=True,
    page_size=20,
    keyset=Keyset(parameter="lastId", column="id"),
    key_grows=True,
    cursor="timestamp",
    ordered_by="timestamp",
    lookback=timedelta(minutes=10),
    references=Reference(column="item_id", resource="items", tolerated=timedelta(hours=1)),
    freshness=_EVERY_QUARTER_HOUR,
    columns=(
        _bigint(name="id", description="ID of the occurrence; grows with time."),
        _bigint(name="item_id", nullable=True, description="The item that the occurrence belongs to."),
        _bigint(name="project_id", nullable=True, description="The project that the occurrence belongs to."),
        _timestamp(name="timestamp", description="The time when the service received the occurrence."),
        _bigint(name="version", nullable=True, description="The version of the payload's format."),
        _bigint(name="billable", nullable=True, description="1 if it counts towards the plan, otherwise 0."),
        _inside(name="environment", path=("data", "environment"), description="The environment that reported it."),
        _inside(name="level", path=("data", "level"), description="The severity given by the reporter."),
        _inside(name="platform", path=("data", "platform"), description="The platform of the reporter."),
        _inside(name="language", path=("data", "language"), description="The programming language."),
        _inside(name="framework", path=("data", "framework"), description="The framework of the reporter."),
        _inside(name="title", path=("data", "title"), description="The title given by the reporter."),
        _inside(name="uuid", path=("data", "uuid"), description="The identifier given by the reporter."),
        _inside(name="context", path=("data", "context"), description="The route or job that it happened in."),
        _inside(name="code_version", path=("data", "code_version"), description="The revision that was running."),
        _inside(
            name="client_timestamp",
            type=ColumnType.TIMESTAMP,
            path=("data", "timestamp"),
            description="The time of the error by the reporter's clock.",
        ),
        _inside(
            name="exception_class",
            path=("data", "body", "trace", "exception", "class"),
            description="The class of the exception.",
        ),
        _inside(
            name="exception_message",
            path=("data", "body", "trace", "exception", "message"),
            description="The message of the exception.",
        ),
        _inside(name="message", path=("data", "body", "message", "body"), description="The text of a plain message."),
        _inside(name="person_id", path=("data", "person", "id"), description="The affected person (reporter's ID)."),
        _inside(name="server_host", path=("data", "server", "host"), description="The host that it happened on."),
        _inside(name="request_url", path=("data", "request", "url"), description="The URL that was being served."),
        _json(
            name="data",
            description="The whole payload, without secrets and personal data.",
            secret_paths=(
                ("metadata", ANY_DEPTH, "access_token"),
                ("notifier", ANY_DEPTH, "access_token"),
                *(("request", "headers", name) for name in _CREDENTIAL_HEADERS),
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
    description="The time that it took to resolve an item.",
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
        _bigint(name="project_id", origin=Origin.ENVELOPE, path=("project_id",), description="The item's project."),
        _text(
            name="project_slug",
            nullable=True,
            origin=Origin.ENVELOPE,
            path=("project_slug",),
            description="The short name of the project.",
        ),
        _bigint(name="item_counter", description="The item's number within its project: items.counter."),
        _bigint(name="first_ttr", nullable=True, description="Seconds to the item's first resolution."),
        _bigint(name="last_ttr", nullable=True, description="Seconds to the item's latest resolution."),
    ),
)

DEPLOYS = Resource(
    name="deploys",
    description="A deployment of a revision to an environment.",
    path="/v1/deploys",
    rows_at=("result", "deploys"),
    paged=True,
    page_size=20,
    key_grows=True,
    cursor="start_time",
    ordered_by="start_time",
    lookback=timedelta(minutes=90),
    watermark=WatermarkColumns(settled_by="finish_time", labels=("revision", "environment")),
    freshness=_EVERY_QUARTER_HOUR,
    columns=(
        _bigint(name="id", description="ID of the deploy; grows with time."),
        _bigint(name="project_id", description="The project that was deployed."),
        _text(name="environment", description="The environment that was deployed to."),
        _text(name="revision", description="The revision that was deployed."),
        _text(name="status", description="started, succeeded, failed or timed_out; settles within an hour."),
        _timestamp(name="start_time", description="The time of its start."),
        _timestamp(name="finish_time", nullable=True, description="The time of its end; null while it runs."),
        _text(
            name="local_username",
            nullable=True,
            personal=True,
            description="The account that ran it on the deploying host.",
        ),
        _bigint(name="user_id", nullable=True, description="The user who deployed."),
        _text(name="comment", nullable=True, description="The comment on the deploy."),
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
        _bigint(name="id", description="ID of the environment."),
        _bigint(name="project_id", description="The project that the environment belongs to."),
        _text(name="environment", description="The name of the environment."),
        _bool(name="visible", description="Whether the service shows the environment."),
    ),
)

RQL_JOBS = Resource(
    name="rql_jobs",
    description="A query that a user ran in the service.",
    path="/v1/rql/jobs",
    rows_at=("result", "jobs"),
    paged=True,
    page_size=20,
    key_grows=True,
    cursor="date_modified",
    cursor_moves=True,
    ordered_by="date_created",
    lookback=timedelta(days=8),
    changes_silently=True,
    freshness=_EVERY_QUARTER_HOUR,
    columns=(
        _bigint(name="id", description="ID of the job; grows with time."),
        _bigint(name="project_id", description="The project that it was run in."),
        _bigint(name="project_group_id", nullable=True, description="The group of projects that it was run over."),
        _text(name="query_string", description="The text of the query."),
        _text(
            name="status", description="new, running, success, failed, cancelled, timed_out, or Deleted after 7 days."
        ),
        _text(name="job_hash", description="The fingerprint of the query."),
        _timestamp(name="date_created", description="The time when the query was submitted."),
        _timestamp(name="date_modified", description="The time when the status last changed."),
    ),
)

TOP_ACTIVE_ITEMS = Resource(
    name="top_active_items",
    description="One of the ten most active items in a snapshot; the newest snapshot_at is the current top ten.",
    path="/v1/reports/top_active_items",
    rows_at=("result",),
    unwrap="item",
    primary_key=("snapshot_at", "id"),
    replace_by=("snapshot_at", "project_id"),
    freshness=_DAILY,
    refresh_after="deploys",
    columns=(
        _timestamp(
            name="snapshot_at",
            origin=Origin.SNAPSHOT_HOUR,
            description="The hour of the snapshot; a later snapshot within the hour replaces it.",
        ),
        _bigint(name="rank", origin=Origin.RANK, description="The rank in the snapshot, from 1."),
        _bigint(name="id", description="ID of the item, unique across projects."),
        _bigint(name="counter", description="The item's number within its project."),
        _bigint(name="project_id", description="The item's project."),
        _text(name="environment", description="The environment in which the item was first seen."),
        _text(name="title", description="The title of the item."),
        _bigint(name="level", description="10 debug, 20 info, 30 warning, 40 error, 50 critical."),
        _bigint(name="framework", description="The framework, as the service numbers it."),
        _bigint(name="occurrences", description="The number of occurrences in the hours requested."),
        _bigint(name="unique_occurrences", nullable=True, description="Number of distinct hosts or people affected."),
        _bigint(name="group_status", description="1 for a plain item, 2 for a merged group."),
        _timestamp(name="last_occurrence_timestamp", description="The time when the newest occurrence was received."),
        _json(name="counts", description="The number of occurrences in each hour, oldest first."),
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
        _bigint(name="id", description="ID of the project."),
        _bigint(name="account_id", description="The account that the project belongs to."),
        _text(name="name", nullable=True, description="The name; null once the project is deleted."),
        _bool(
            name="deleted",
            origin=Origin.IS_NULL,
            path=("name",),
            description="Whether the project was deleted: the service goes on listing it, without its name.",
        ),
        _text(name="status", nullable=True, description="The status of the project."),
        _timestamp(name="date_created", description="The time when the project was created."),
        _timestamp(name="date_modified", description="The time when the project was last changed."),
        _json(name="settings_data", secret=True, description="Settings, including the keys of integrations."),
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
        _bigint(name="id", description="ID of the team."),
        _bigint(name="account_id", description="The account that the team belongs to."),
        _text(name="name", description="The name of the team."),
        _text(name="access_level", description="The permissions of the team's members."),
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
    unknown_fields_personal=True,
    columns=(
        _bigint(name="id", description="ID of the user."),
        _text(name="username", personal=True, description="The name that the user signs in with."),
        _text(name="email", personal=True, description="The e-mail address of the user."),
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
    return {resource.name: resource for resource in RESOURCES}[name]
