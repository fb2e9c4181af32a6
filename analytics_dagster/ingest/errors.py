"""Errors for users: each message is a sentence that ends with the remedy.

Any other exception that leaves the package `ingest` is a defect.
"""


class AnalyticsError(Exception):
    """Base class of the errors below."""


class SettingsError(AnalyticsError):
    """A setting is missing, unknown or impossible. The message names it."""


class AnalyticsApiError(AnalyticsError):
    """The service refused a request, or still failed after the retries.

    Attributes:
        resource: Name of the resource that was being read.
        status: HTTP status of the last reply, or None if there was no reply.
    """

    def __init__(self, message: str, *, resource: str, status: int | None = None) -> None:
        super().__init__(message)
        self.resource = resource
        self.status = status


class EmptyListError(AnalyticsError):
    """The service lists no rows of a resource whose table has some. The load covered nothing."""


class WarehouseError(AnalyticsError):
    """The warehouse cannot be opened or must not be written. The message names it."""


class InvalidValueError(ValueError):
    """A value does not fit its column. The message names the column and the problem; the row is rejected."""


def find_analytics_error(error: BaseException | None) -> AnalyticsError | None:
    """Return the first `AnalyticsError` in an exception's chain of causes, where dlt or Dagster wrapped it; or None."""
    while error is not None and not isinstance(error, AnalyticsError):
        error = error.__cause__ or error.__context__
    return error
