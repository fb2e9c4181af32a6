"""Columns that the loader adds to each table, and the list of all columns of a table.

Columns that come from the service's rows are in `resources.py`.
"""

from analytics_dagster.catalog.model import Column, ColumnType, Resource

BOOKKEEPING_COLUMNS = (
    Column(
        name="extra",
        type=ColumnType.JSON,
        nullable=True,
        description="Fields of the row that the catalog does not know, as one object; null if there are none.",
    ),
    Column(
        name="read_at",
        type=ColumnType.TIMESTAMP,
        description="The time when the request for this version of the row was sent.",
    ),
    Column(
        name="read_seq",
        type=ColumnType.BIGINT,
        description="The order of reading within a load: of two versions of a row, the later one is kept.",
    ),
)
"""Columns of every table."""

REMOVED_AT = Column(
    name="removed_at",
    type=ColumnType.TIMESTAMP,
    nullable=True,
    description="The time of the first complete listing that lacked the row; null while the service lists it.",
)
LOAD_ID = Column(
    name="load_id",
    type=ColumnType.TEXT,
    nullable=True,
    description="The listing that had the row last; null if a version before this column wrote it.",
)

LISTING_COLUMNS = (REMOVED_AT, LOAD_ID)
"""Columns of the tables whose listings are complete."""


def table_columns(resource: Resource) -> tuple[Column, ...]:
    """Return all columns of a resource's table, in order."""
    listing = LISTING_COLUMNS if resource.complete_listing else ()
    return (*resource.stored_columns, *BOOKKEEPING_COLUMNS, *listing)
