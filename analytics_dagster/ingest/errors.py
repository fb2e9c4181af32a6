"""Errors a person is meant to read: each message is a sentence that ends with what to do.

Anything else that escapes this package is a defect.
"""


class AnalyticsError(Exception):
    """Base of the errors below."""


class SettingsError(AnalyticsError):
    """A setting is missing, unknown or impossible. The message names it."""


class AnalyticsApiError(AnalyticsError):
    """The service refused a request, or went on failing after the retries.

    Attributes:
        resource: Resource that was being read.
        status: HTTP status of the last reply, or None if there was no reply.
    """

    def __init__(self, message: str, *, resource: str, status: int | None = None) -> None:
        super().__init__(message)
        self.resource = resource
        self.status = status


class WarehouseError(AnalyticsError):
    """The warehouse cannot be opened or must not be written. The message names it."""


class InvalidValueError(ValueError):
    """A value does not fit its column. The message names the column and the problem; the row is rejected."""


def known_cause(error: BaseException | None) -> AnalyticsError | None:
    """Return the error of ours that dlt or Dagster wrapped in another; None if there is none."""
    while error is not None and not isinstance(error, AnalyticsError):
        error = error.__cause__ or error.__context__
    return error
