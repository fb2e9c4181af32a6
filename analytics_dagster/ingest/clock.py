"""The service's clock, by the `Date` of a reply, beside the loader's. Pure functions: the times are arguments.

    clocks = compare_clocks(service_time, began_at=began_at, ended_at=ended_at)
    if clocks.warning:
        logger.warning("%s: %s", resource.name, clocks.warning)

https://www.rfc-editor.org/rfc/rfc9110#field.date
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from analytics_dagster.ingest.windows import CLOCK_TOLERANCE

_NOISE = timedelta(seconds=1.5)
"""A difference below this one may come from the whole seconds of a `Date`."""


@dataclass(frozen=True, kw_only=True)
class ClockComparison:
    """Both clocks at the moment of a reply.

    Attributes:
        service: Time by the service's clock, UTC.
        loader: Time by the loader's clock, UTC.
    """

    service: datetime
    loader: datetime

    @property
    def difference(self) -> timedelta:
        """Time by which the service's clock is ahead of the loader's; negative if it is behind."""
        difference = self.service - self.loader
        return difference if abs(difference) >= _NOISE else timedelta(0)

    @property
    def warning(self) -> str | None:
        """Sentence with both times and the next step, for a difference above the tolerance; None for a smaller one."""
        if abs(self.difference) <= CLOCK_TOLERANCE:
            return None
        direction = "ahead of" if self.difference > timedelta(0) else "behind"
        return (
            f"the service's clock is {abs(self.difference).total_seconds():,.0f} s {direction} this machine's: "
            f"{format_moment(self.service)} there, {format_moment(self.loader)} here. Coverage ends at the earlier of "
            "the two. Synchronize this machine's clock, for example by NTP."
        )


def compare_clocks(service_time: datetime, *, began_at: datetime, ended_at: datetime) -> ClockComparison:
    """Compare the `Date` of a load's first reply with the loader's clock.

    The reply came between the load's begin and its end. Of that span the time closest to the service's is taken, so
    that a late reply is no difference. A service that is ahead by less than the load's duration is not noticed; this
    does no harm, because coverage ends at the loader's time then.

    Args:
        service_time: The reply's `Date`, UTC.
        began_at: When the load began by the loader's clock, UTC.
        ended_at: When it ended, UTC.
    """
    return ClockComparison(service=service_time, loader=max(began_at, min(service_time, ended_at)))


def format_moment(moment: datetime) -> str:
    """Return a UTC time to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
