"""Wording of alerts: one line each, without secrets, in plain text that every chat service shows.

text = describe_event(event, secrets=settings.secrets, ui_url=settings.ui_url)
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from analytics_dagster.defs.alerts.events import Event, FailedRun, Level, SucceededRun
from analytics_dagster.defs.asset_checks.wording import format_count, format_time
from analytics_dagster.ingest.redaction import redact

_LONGEST = 1_000
"""Characters of a sentence."""

_HARMLESS = str.maketrans("<>@", "‹›＠")  # noqa: RUF001 - they look alike on purpose
"""Replacements of the signs by which chat services mark links and call people: values of the service's rows, such as
the name of an unknown field, can be in a sentence."""


def describe_event(event: Event, *, secrets: Iterable[str], ui_url: str) -> str:
    """Return the message about an event.

    Args:
        event: The event to announce.
        secrets: Values to redact. The sentences were redacted when they were recorded, and are again, because the
            message leaves the deployment.
        ui_url: Address of the UI, for a link to the run or the asset; `""` for none.
    """
    if isinstance(event, SucceededRun):
        assert event.ended
        heading = f"RECOVERED {event.job}, run {event.run_id}"
        since = format_time(datetime.fromtimestamp(event.ended.since, UTC))
        sentence = f"{event.job} succeeds again, after {format_count(event.ended.runs, 'failed run')} since {since}."
    elif isinstance(event, FailedRun):
        heading, sentence = f"FAILED {event.job}, run {event.run_id}", event.sentence
    else:
        sentence = event.sentence
        level = event.level.name if event.level is not Level.PASS else "RECOVERED"
        heading = f"{level} {event.name}" + (f" (project {event.project})" if event.project else "")
    text = " ".join(redact(f"{heading}: {sentence}", secrets).translate(_HARMLESS).split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return f"{text} ({format_time(event.time)})" + (f" {ui_url}{event.page}" if ui_url else "")
