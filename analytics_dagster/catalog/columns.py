"""Columns that the loader adds to what the service sends, and the columns of a whole table.

A column that comes from the service's rows belongs to its resource, in `resources.py`.
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
        description="When the reply that held this version of the row was asked for.",
    ),
    Column(
        name="read_seq",
        type=ColumnType.BIGINT,
        description="Order of reading within a load: of two versions of a row the later one is kept.",
    ),
)
"""Columns of every table."""

REMOVED_AT = Column(
    name="removed_at",
    type=ColumnType.TIMESTAMP,
    nullable=True,
    description="When a complete listing first lacked the row; null while the service lists it.",
)
"""Column of the tables whose listings are complete."""


def table_columns(resource: Resource) -> tuple[Column, ...]:
    """Return all columns of a resource's table, in order."""
    removed = (REMOVED_AT,) if resource.complete_listing else ()
    return (*resource.stored_columns, *BOOKKEEPING_COLUMNS, *removed)
