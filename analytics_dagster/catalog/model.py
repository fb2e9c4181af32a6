"""Types of the catalog: a resource of the analytics API, its columns, and the rules that both must keep.

The resources themselves are in `resources.py`. The packages that read the catalog put its facts to use: dlt
configuration, asset specs, checks. Standard library only.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal, get_args

Path = tuple[str, ...]
"""Keys from an object down to a value inside it."""

ANY_DEPTH = "**"
"""Key that stands for any number of keys, none included, in the paths of values to remove; one key follows it."""


class ColumnType(StrEnum):
    """Type of a column, by its dlt name."""

    BIGINT = "bigint"
    DOUBLE = "double"
    TEXT = "text"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    JSON = "json"


class Origin(StrEnum):
    """Source of a column's value."""

    ROW = "row"
    """A field of the row itself."""
    INSIDE = "inside"
    """A value inside an object of the row; null where it does not fit the column's type."""
    ENVELOPE = "envelope"
    """A field of the reply's `result`, the same for every row of the reply."""
    RANK = "rank"
    """The row's position in the reply, from 1."""
    SNAPSHOT_HOUR = "snapshot_hour"
    """The hour in which the request was sent."""
    IS_NULL = "is_null"
    """Whether another field of the row is null."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: Column name in the warehouse and, for `Origin.ROW`, the field's name in the row.
        type: A timestamp is epoch seconds in a row and `TIMESTAMP WITH TIME ZONE` in the table; JSON is any value.
        nullable: Whether the service may send null or leave the field out.
        description: Meaning of the value, and its unit; shown in the UI.
        origin: Source of the value.
        path: Keys to the value, for the origins `INSIDE`, `ENVELOPE` and `IS_NULL`.
        personal: Stored only with the setting `keep_personal_data`, whatever the field's case and separators; null
            otherwise.
        secret: Dropped from each row, however it is spelt, so that it is never stored.
        secret_paths: Paths inside a JSON value that are removed before it is stored. Case and separators of their keys
            (`-`, `_`, space) do not matter; `ANY_DEPTH` may stand before the last key.
        personal_paths: Paths that are removed likewise, unless the setting `keep_personal_data` is on.
    """

    name: str
    type: ColumnType
    description: str
    nullable: bool = False
    origin: Origin = Origin.ROW
    path: Path = ()
    personal: bool = False
    secret: bool = False
    secret_paths: tuple[Path, ...] = ()
    personal_paths: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        needs_path = self.origin in {Origin.INSIDE, Origin.ENVELOPE, Origin.IS_NULL}
        rules = {
            "type must be JSON for secret_paths and personal_paths": self.type is ColumnType.JSON
            or not (self.secret_paths or self.personal_paths),
            "origin must be row for personal and secret": self.origin is Origin.ROW
            or not (self.personal or self.secret),
            "ANY_DEPTH must stand before the last key of a path": not any(
                ANY_DEPTH in (*path[:-2], path[-1]) for path in (*self.secret_paths, *self.personal_paths)
            ),
            f"path must {'not ' if needs_path else ''}be empty for origin {self.origin}": needs_path == bool(self.path),
            "nullable must be true for origin inside": self.nullable or self.origin is not Origin.INSIDE,
        }
        _require(f"Column {self.name!r}", rules)

    @property
    def field(self) -> str | None:
        """Top-level field of the row that the column reads; None where it reads none."""
        match self.origin:
            case Origin.ROW:
                return self.name
            case Origin.INSIDE | Origin.IS_NULL:
                return self.path[0]
            case _:
                return None

    @property
    def stored_nullable(self) -> bool:
        """Whether the warehouse's column takes null: personal values are null unless they are kept."""
        return self.nullable or self.personal


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """Values of a table in the warehouse that are sent in the JSON body of requests, in batches.

    Attributes:
        body_field: Field of the JSON body that takes the list.
        resource: Resource whose table holds the values.
        column: Column of that table to send.
        active_by: Timestamp columns; the latest of them must lie within the setting `metrics_active_days`.
        batch_size: Values in one request.
    """

    body_field: str
    resource: str
    column: str
    active_by: tuple[str, ...]
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """Age limits of the data: the freshness check warns after one and fails after the other."""

    warn_after: timedelta
    fail_after: timedelta

    def __post_init__(self) -> None:
        in_order = timedelta(0) < self.warn_after < self.fail_after
        _require("Freshness", {"warn_after must be between 0 and fail_after": in_order})


@dataclass(frozen=True, kw_only=True)
class WatermarkColumns:
    """Watermark columns recorded with each materialization, for sensors downstream.

    Attributes:
        settled_by: Column that is null until the row has settled.
        labels: Columns that describe the newest row, the one with the highest key.
    """

    settled_by: str
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A column whose values are keys of another resource's rows.

    Attributes:
        column: Column that holds the key.
        resource: Resource that the key belongs to.
        tolerated: Age, by the cursor, up to which a row may be loaded before the row that it refers to.
    """

    column: str
    resource: str
    tolerated: timedelta

    @property
    def noun(self) -> str:
        """Noun for the referenced row: `item` for `item_id`."""
        return self.column.removesuffix("_id")


@dataclass(frozen=True, kw_only=True)
class Keyset:
    """Keyset pagination: a request names a key and returns the rows with the largest smaller keys.

    Attributes:
        parameter: Query parameter that takes the key.
        column: Column of the key; an integer that grows with time, approximately.
    """

    parameter: str
    column: str


Group = Literal["incremental", "reference", "metrics"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of the analytics API, one asset, one table.

    Attributes:
        name: Last part of the asset key, and name of the table.
        description: Description of a row; shown in the UI.
        path: Path under the base URL; a setting overrides it.
        method: HTTP method.
        rows_at: Keys from the reply to the list of rows. A reply whose `result` is the list itself is accepted too.
        unwrap: Field of each entry that holds the row; the entry's other fields join it.
        primary_key: Columns that identify a row.
        columns: Columns that come from the service or are derived from its rows.
        paged: Whether the list is served in pages, numbered from 1.
        page_size: Rows a page unless a setting overrides it; None where the service has no such parameter.
        keyset: Keyset pagination, beside the numbered pages; None if the service has none.
        key_grows: Whether new rows have larger primary keys than old ones, approximately.
        cursor: Timestamp column that tells when a row last changed, as far as the service records it.
        cursor_moves: Whether the cursor of a row changes, so that the row leaves the window that it was loaded in.
        ordered_by: Timestamp column that orders the list, newest first; it makes the resource incremental.
        lookback: Time before a window in which rows are read again, because they can change after the fact.
        changes_silently: Rows change without moving the cursor, so the nightly refresh reads all of them.
        freshness: Age limits of the data.
        refresh_after: Resource whose new rows start a refresh of this one; it needs a watermark.
        watermark: Columns recorded with each load; None where no other resource is refreshed after this one.
        account_key: Needs the account's key instead of the project's.
        lookup: Values that the request's body asks for.
        references: Column that refers to another resource's rows, for the check that they exist.
        replace_by: Columns whose values in a load replace all rows of the table with the same values.
        complete_listing: Each load lists every row: rows that it lacks get `removed_at`.
        listed_within: Columns whose values limit a complete listing, such as the account.
        unknown_fields_personal: Fields that the catalog does not know are stored only with the setting
            `keep_personal_data`.
    """

    name: str
    description: str
    path: str
    rows_at: Path
    columns: tuple[Column, ...]
    freshness: Freshness
    primary_key: tuple[str, ...] = ("id",)
    method: Literal["GET", "POST"] = "GET"
    unwrap: str | None = None
    paged: bool = False
    page_size: int | None = None
    keyset: Keyset | None = None
    key_grows: bool = False
    cursor: str | None = None
    cursor_moves: bool = False
    ordered_by: str | None = None
    lookback: timedelta = timedelta(0)
    changes_silently: bool = False
    refresh_after: str | None = None
    watermark: WatermarkColumns | None = None
    account_key: bool = False
    lookup: Lookup | None = None
    references: Reference | None = None
    replace_by: tuple[str, ...] = ()
    complete_listing: bool = False
    listed_within: tuple[str, ...] = ()
    unknown_fields_personal: bool = False

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        _require(f"Resource {self.name!r}", {"names of columns must be unique": len(set(names)) == len(names)})
        for use, columns in (
            ("primary_key", self.primary_key),
            ("replace_by", self.replace_by),
            ("keyset", (self.keyset.column,) if self.keyset else ()),
            ("listed_within", self.listed_within),
            ("cursor", (self.cursor,)),
            ("ordered_by", (self.ordered_by,)),
            ("references", (self.references and self.references.column,)),
            ("watermark", (self.watermark.settled_by, *self.watermark.labels) if self.watermark else ()),
        ):
            unknown = ", ".join(sorted(name for name in columns if name and name not in names))
            _require(f"Resource {self.name!r}", {f"{use} must name declared columns; unknown: {unknown}": not unknown})
        times = {self.column(name).type for name in (self.cursor, self.ordered_by) if name}
        rules = {
            "primary_key must not be nullable": not any(self.column(key).stored_nullable for key in self.primary_key),
            "cursor and ordered_by must be timestamps": times <= {ColumnType.TIMESTAMP},
            "page_size must be left out unless paged": self.paged or self.page_size is None,
            "paged and cursor must be set for ordered_by": not self.incremental or (self.paged and self.cursor),
            "ordered_by must be set for lookback and changes_silently": self.incremental
            or not (self.lookback or self.changes_silently),
            "complete_listing must be set for listed_within": self.complete_listing or not self.listed_within,
            "primary_key must be one column for watermark": len(self.primary_key) == 1 or not self.watermark,
            "cursor must be set for cursor_moves": self.cursor or not self.cursor_moves,
            "cursor must be set for references": self.cursor or not self.references,
            "refresh_after and complete_listing must be left out with ordered_by": not self.incremental
            or not (self.refresh_after or self.complete_listing),
        }
        _require(f"Resource {self.name!r}", rules)

    @property
    def incremental(self) -> bool:
        """Whether it is loaded in windows of its cursor."""
        return self.ordered_by is not None

    @property
    def names_project(self) -> bool:
        """Whether its rows name the project that they belong to, in the column `project_id`."""
        return any(column.name == "project_id" for column in self.columns)

    @property
    def owner_column(self) -> str | None:
        """Column of the account or project that a row belongs to; None if rows name neither."""
        if self.listed_within:
            return self.listed_within[0]
        return "project_id" if self.names_project else None

    @property
    def group(self) -> Group:
        """Asset group; a group is scheduled together."""
        if self.incremental:
            return "incremental"
        return "metrics" if self.refresh_after else "reference"

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """Columns of the table that are filled from the service's rows."""
        return tuple(column for column in self.columns if not column.secret)

    def column(self, name: str) -> Column:
        """Return the column called `name`."""
        return next(column for column in self.columns if column.name == name)


def validate_catalog(*resources: Resource) -> tuple[Resource, ...]:
    """Check the references between resources, and return the resources.

    Raises:
        ValueError: A reference leads nowhere, or to a resource without the watermark or the key that it needs.
    """
    by_name = {resource.name: resource for resource in resources}
    for resource in resources:
        upstream = resource.refresh_after
        target = resource.references and resource.references.resource
        source = resource.lookup and resource.lookup.resource
        for use, name in (("refresh_after", upstream), ("lookup", source), ("references", target)):
            known = name is None or name in by_name
            _require(f"Resource {resource.name!r}", {f"{use} must name a resource; unknown: {name}": known})
        rules = {
            "refresh_after must name a resource with a watermark": not upstream or by_name[upstream].watermark,
            "references must name a resource whose primary key is one column": not target
            or len(by_name[target].primary_key) == 1,
        }
        _require(f"Resource {resource.name!r}", rules)
    return resources


def _require(subject: str, rules: Mapping[str, object]) -> None:
    """Raise a ValueError with the first rule that does not hold."""
    for rule, holds in rules.items():
        if not holds:
            raise ValueError(f"{subject}: {rule}.")
