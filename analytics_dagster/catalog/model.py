"""The vocabulary of the catalog: what a resource of the analytics API is, in types.

Here belong the kinds of facts the project knows of a resource and the rules that make a row impossible.
The rows themselves are in `resources.py`. How a fact is put to use (dlt configuration, asset specs, checks)
belongs to the layers that read the catalog. Standard library only.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal, get_args

Path = tuple[str, ...]
"""Keys from an object down to a value inside it; `"*"` stands for every key of one level."""


class ColumnType(StrEnum):
    """Type of a column, by its dlt name."""

    BIGINT = "bigint"
    TEXT = "text"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    JSON = "json"


class Origin(StrEnum):
    """Where the value of a column comes from."""

    ROW = "row"
    """A field of the row itself."""
    INSIDE = "inside"
    """A value inside an object of the row, lifted out; what does not fit the type becomes null."""
    ENVELOPE = "envelope"
    """A field of the reply's `result`, the same for every row of the reply."""
    RANK = "rank"
    """The row's place in the reply, from 1."""
    SNAPSHOT_HOUR = "snapshot_hour"
    """The hour in which the reply was read."""
    IS_NULL = "is_null"
    """Whether another field of the row is null."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        name: Column name in the warehouse and, for `Origin.ROW`, the field's name in the row.
        type: Timestamps are epoch seconds in a row and `TIMESTAMP WITH TIME ZONE` in the warehouse;
            `JSON` takes any value.
        nullable: Whether the service may send null or leave the field out.
        description: What the value means, and its unit.
        origin: Where the value comes from.
        path: Keys to the value where `origin` is not the field of the same name.
        personal: Stored only with the setting `keep_personal_data`; null otherwise.
        secret: Never stored: the field is known, and dropped.
        secret_paths: Paths inside a JSON value that are removed before it is stored.
        personal_paths: Likewise, unless the setting `keep_personal_data` is on.
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
        if (self.secret_paths or self.personal_paths) and self.type is not ColumnType.JSON:
            raise ValueError(f"Column {self.name!r}: only a JSON column has paths inside it to remove.")
        needs_path = self.origin in {Origin.INSIDE, Origin.ENVELOPE, Origin.IS_NULL}
        if needs_path != bool(self.path):
            raise ValueError(f"Column {self.name!r}: origin {self.origin} and path {self.path!r} do not agree.")
        if self.origin is Origin.INSIDE and not self.nullable:
            raise ValueError(f"Column {self.name!r}: a value inside an unbounded object can always be missing.")

    @property
    def field(self) -> str | None:
        """The top-level field of the row that this column reads, or None where it reads none."""
        match self.origin:
            case Origin.ROW:
                return self.name
            case Origin.INSIDE | Origin.IS_NULL:
                return self.path[0]
            case _:
                return None

    @property
    def stored_nullable(self) -> bool:
        """Whether the warehouse's column takes null: a personal value is null when it is not kept."""
        return self.nullable or self.personal


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """Values from a table of the warehouse that a request's JSON body asks for, in batches.

    Attributes:
        body_field: Field of the JSON body that takes the list.
        resource: Resource whose table holds the values.
        column: Column of that table to send.
        active_by: Timestamp columns; a row counts if the latest of them lies within the setting
            `metrics_active_days`.
        batch_size: Values in one request.
    """

    body_field: str
    resource: str
    column: str
    active_by: tuple[str, ...]
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """How old the data may be before its freshness check warns, and before it fails."""

    warn_after: timedelta
    fail_after: timedelta

    def __post_init__(self) -> None:
        if not timedelta(0) < self.warn_after < self.fail_after:
            raise ValueError(f"Freshness warns ({self.warn_after}) before it fails ({self.fail_after}).")


@dataclass(frozen=True, kw_only=True)
class WatermarkColumns:
    """What each load tells of a table, so that what is read again after its new rows knows of them.

    Attributes:
        settled_by: Column that is null while a row is still to change, and filled once it has settled.
        shown: Columns that say of the newest row, the one with the highest key, what it is.
    """

    settled_by: str
    shown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A column whose values are keys of another resource's rows.

    Attributes:
        column: Column that holds the key.
        resource: Resource whose rows are meant.
        tolerated: Age, by the cursor, up to which a row may be there before the one that it names.
    """

    column: str
    resource: str
    tolerated: timedelta

    @property
    def noun(self) -> str:
        """What the column names: `item` for `item_id`."""
        return self.column.removesuffix("_id")


Group = Literal["incremental", "reference", "metrics"]
GROUPS: tuple[Group, ...] = get_args(Group)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource of the analytics API, one asset, one table.

    Attributes:
        name: Asset key's last part, and the table's name.
        description: What a row is.
        path: Path under the base URL; a setting overrides it.
        method: HTTP method.
        rows_at: Keys from the reply to the list of rows. A reply whose `result` is the list itself is
            taken as well.
        unwrap: Field of each entry that holds the row; the entry's other fields join it.
        primary_key: Columns that name a row.
        columns: Columns that come from the service or are derived from its rows.
        paged: Whether the list is asked for in pages, numbered from 1.
        page_size: Rows a page unless a setting says otherwise; None where the service has no such parameter.
        cursor: Timestamp column that tells when a row last changed, as far as the service says.
        ordered_by: Timestamp column by which the list is ordered, newest first. With a cursor it makes the
            resource incremental: pages can be walked to a window and no further.
        lookback: How far before a window its rows are read again, because they can change after the fact.
        changes_silently: Rows change without moving the cursor, so that the nightly refresh reads them all.
        freshness: Age limits of the data.
        refresh_after: Resource whose new rows make this one worth reading again; it announces them.
        watermark: What its loads tell of it; None where no other resource waits for its rows.
        account_key: Needs the account's key rather than the project's.
        lookup: What the request's body asks for.
        references: A column whose values are keys of another resource's rows, for a check of them.
        replace_by: Columns whose values in a load replace all rows of the table with the same values.
        complete_listing: Each load lists every row that there is: one that it lacks gets `removed_at`.
        listed_within: Columns whose values bound what a complete listing speaks of.
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
    cursor: str | None = None
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

    def __post_init__(self) -> None:
        self._refuse_unknown_columns()
        if any(self.column(name).stored_nullable for name in self.primary_key):
            raise ValueError(f"Resource {self.name!r}: a column of its primary key is nullable.")
        for name in (self.cursor, self.ordered_by):
            if name and self.column(name).type is not ColumnType.TIMESTAMP:
                raise ValueError(f"Resource {self.name!r}: {name} orders or cuts rows by time, but is no timestamp.")
        if self.page_size is not None and not self.paged:
            raise ValueError(f"Resource {self.name!r} has a page size but no pages.")
        if self.ordered_by and not (self.paged and self.cursor):
            raise ValueError(f"Resource {self.name!r} is ordered, but lacks pages or a cursor to make use of it.")
        if (self.lookback or self.changes_silently) and not self.incremental:
            raise ValueError(f"Resource {self.name!r}: only windows have a lookback or a nightly refresh.")
        if self.listed_within and not self.complete_listing:
            raise ValueError(f"Resource {self.name!r}: only a complete listing is bounded by columns.")
        if self.watermark and len(self.primary_key) > 1:
            raise ValueError(f"Resource {self.name!r} announces its newest row, which only a key of one column tells.")
        if self.references and not self.cursor:
            raise ValueError(f"Resource {self.name!r} has references, but no cursor that tells which are young.")
        if self.incremental and (self.refresh_after or self.complete_listing):
            raise ValueError(f"Resource {self.name!r} is incremental: it has a schedule, and no complete listing.")

    def _refuse_unknown_columns(self) -> None:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError(f"Resource {self.name!r} declares a column twice.")
        for use, columns in (
            ("primary_key", self.primary_key),
            ("replace_by", self.replace_by),
            ("listed_within", self.listed_within),
            ("cursor", (self.cursor,) if self.cursor else ()),
            ("ordered_by", (self.ordered_by,) if self.ordered_by else ()),
            ("references", (self.references.column,) if self.references else ()),
            ("watermark", (self.watermark.settled_by, *self.watermark.shown) if self.watermark else ()),
        ):
            if unknown := sorted(set(columns) - set(names)):
                raise ValueError(f"Resource {self.name!r}: {use} names {unknown}, which it does not declare.")

    @property
    def incremental(self) -> bool:
        """Whether it is read in windows of its cursor."""
        return self.ordered_by is not None

    @property
    def group(self) -> Group:
        """Asset group: what is scheduled together."""
        if self.incremental:
            return "incremental"
        return "metrics" if self.refresh_after else "reference"

    @property
    def stored_columns(self) -> tuple[Column, ...]:
        """Columns of the table that the service's rows fill."""
        return tuple(column for column in self.columns if not column.secret)

    def column(self, name: str) -> Column:
        """Return the column called `name`."""
        return next(column for column in self.columns if column.name == name)


def validate_catalog(*rows: Resource) -> tuple[Resource, ...]:
    """Return the rows of a catalog, having checked that what they say of each other is so.

    Raises:
        ValueError: One names a resource that is not there, waits for one that announces nothing, or refers to one
            whose rows no single column names.
    """
    by_name = {row.name: row for row in rows}
    for row in rows:
        for use, name in (
            ("refresh_after", row.refresh_after),
            ("lookup", row.lookup and row.lookup.resource),
            ("references", row.references and row.references.resource),
        ):
            if name and name not in by_name:
                raise ValueError(f"Resource {row.name!r}: {use} names {name!r}, which the catalog lacks.")
        if row.refresh_after and not by_name[row.refresh_after].watermark:
            raise ValueError(f"Resource {row.name!r} waits for {row.refresh_after!r}, which announces no new rows.")
        if row.references and len(by_name[row.references.resource].primary_key) > 1:
            raise ValueError(
                f"Resource {row.name!r} refers to a row of {row.references.resource!r} by one column, "
                "which is not its whole key."
            )
    return tuple(rows)
