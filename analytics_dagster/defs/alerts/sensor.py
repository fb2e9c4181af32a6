"""The sensor of alerts: gathers events, asks what is due, and posts it.

Its cursor has three parts: the newest event it has seen, what it announced, and the messages that wait. It never opens
the warehouse, which loads keep locked.
https://docs.dagster.io/guides/automate/sensors
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

import dagster as dg

from analytics_dagster.defs.alerts.due import Announced, alerts_due
from analytics_dagster.defs.alerts.event_log import newest_event, read_events, subjects
from analytics_dagster.defs.alerts.events import Event, Failures, Level, Reading
from analytics_dagster.defs.alerts.outbox import Outbox
from analytics_dagster.defs.alerts.webhook import post_to_webhook
from analytics_dagster.defs.alerts.wording import describe_event
from analytics_dagster.defs.asset_checks.wording import format_count
from analytics_dagster.defs.pause import pause_sensor
from analytics_dagster.ingest.network import is_plain_http
from analytics_dagster.ingest.settings import Settings

_SETTINGS = "settings"
"""The subject of a wrong setting."""


@dataclass(frozen=True, kw_only=True)
class AlertsCursor:
    """The cursor of the sensor.

    Attributes:
        newest: Id of the newest event at the last look; None before the first look, and while the log is empty.
        announced: What was announced, or waits to be.
        outbox: The messages that wait.
    """

    newest: int | None
    announced: Announced
    outbox: Outbox

    @classmethod
    def parse(cls, text: str | None, *, now: datetime) -> Self:
        """Return the cursor in a text; that of a first tick if there is none or it cannot be parsed."""
        try:
            values: dict[str, Any] = json.loads(text or "")
            announced = values["announced"]
            return cls(
                newest=values["newest"],
                announced=Announced(
                    levels={
                        subject: {project: Level(level) for project, level in levels.items()}
                        for subject, levels in announced["levels"].items()
                    },
                    runs=dict(announced["runs"]),
                    # A cursor that was stored before repeated failures were folded has none.
                    failures={work: Failures(**found) for work, found in announced.get("failures", {}).items()},
                    since=float(announced["since"]),
                ),
                outbox=Outbox(tuple(values["outbox"]["waiting"]), int(values["outbox"]["dropped"])),
            )
        except (TypeError, KeyError, AttributeError, ValueError):
            return cls(newest=None, announced=Announced(since=now.timestamp()), outbox=Outbox())

    def __str__(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))


def build_alerts_sensor(settings: Settings, status: dg.DefaultSensorStatus, problem: str = "") -> dg.SensorDefinition:
    """Define the sensor that posts alerts to the setting `failure_webhook`.

    Args:
        settings: The valid settings.
        status: Whether the sensor runs unless a person stops it.
        problem: The sentence about a wrong setting, which is an alert itself: nothing is loaded until it is right.
    """

    @dg.sensor(
        name="alerts_sensor",
        description="Posts to the setting `failure_webhook`: checks and freshness policies that get worse or pass "
        "again, and jobs that fail or succeed again.",
        default_status=status,
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def
        now = datetime.now(UTC)
        cursor = AlertsCursor.parse(context.cursor, now=now)
        announced, outbox = cursor.announced, cursor.outbox
        newest = newest_event(context.instance)  # before the events are read, so that the next look sees later ones
        events: list[Event] = [_read_settings(problem, now)]
        since = announced.since
        if newest != cursor.newest:
            origin = context.code_location_origin
            found, since = read_events(
                context.instance,
                context.repository_def,
                announced,
                location=origin.location_name if origin else None,
                now=now,
            )
            events += found
        due, announced = alerts_due(events, announced.only({_SETTINGS, *subjects(context.repository_def)}))
        announced = announced.known_until(since)
        outbox = outbox.add(describe_event(event, secrets=settings.secrets, ui_url=settings.ui_url) for event in due)
        reason = "Nothing changed for the worse, and nothing recovered."
        if waiting := len(outbox):
            failure = post_to_webhook(settings.failure_webhook.get_secret_value(), outbox.next_post())
            outbox = outbox if failure else outbox.without_next_post()
            done = "" if failure else f"Posted {format_count(waiting - len(outbox), 'message')}."
            left = f"Not posted yet: {format_count(len(outbox), 'message')}." if outbox else ""
            reason = " ".join(filter(None, (failure, done, left)))
            if failure:
                context.log.warning(reason)
        latest = AlertsCursor(newest=newest, announced=announced, outbox=outbox)
        return dg.SensorResult(skip_reason=reason, cursor=str(latest))

    webhook_exposed = is_plain_http(settings.failure_webhook.get_secret_value()) and not settings.allow_http
    return pause_sensor(sensor, problem) if webhook_exposed else sensor


def _read_settings(problem: str, now: datetime) -> Reading:
    """Return the state of the settings: ERROR while one is wrong."""
    return Reading(
        subject=_SETTINGS,
        name="settings",
        level=Level.ERROR if problem else Level.PASS,
        sentence=f"{problem} Until then every load fails, and schedules request none." if problem else "All are right.",
        page="/deployment",
        time=now,
    )
