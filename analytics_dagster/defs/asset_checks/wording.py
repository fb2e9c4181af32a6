"""Wording of times, durations, counts and lists in the sentences of checks."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from analytics_dagster.ingest.warehouse.table_stats import KeySample

_NAMES_SHOWN = 5
_HOURS_IN_DAYS = 72
"""Hours from which on a duration is given in days."""


def format_time(time: datetime) -> str:
    """Return a UTC time to the minute."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def format_duration(duration: timedelta) -> str:
    """Return a duration in the unit that suits its length, from seconds to days."""
    hours = duration / timedelta(hours=1)
    if hours * 60 < 1:
        return f"{duration.seconds} s"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.3g} h" if hours < _HOURS_IN_DAYS else f"{hours / 24:.3g} days"


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun, in the plural unless it is one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_names(names: Sequence[str]) -> str:
    """Return the first names of a list, and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def format_examples(sample: KeySample) -> str:
    """Return the examples of a sample, with an ellipsis if there are more keys."""
    return ", ".join(sample.examples) + (", …" if sample.count > len(sample.examples) else "")
