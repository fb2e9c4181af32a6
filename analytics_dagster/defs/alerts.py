"""Posts run failures to a webhook. Secrets are redacted again, because the text leaves the deployment.

https://docs.dagster.io/guides/automate/sensors/run-status-sensors
"""

import logging
from collections.abc import Iterable

import dagster as dg
import requests

from analytics_dagster.ingest.network import use_environment
from analytics_dagster.ingest.redaction import redact
from analytics_dagster.ingest.settings import Settings

_TIMEOUT = 10.0
"""Seconds to wait for the webhook."""

_LONGEST = 1000
"""Characters of a failure's description that are sent."""


def build_failure_sensor(settings: Settings, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """Define the sensor that posts each failed run to the setting `failure_webhook`."""

    @dg.run_failure_sensor(
        name="run_failure_sensor",
        description="Posts every run that fails to the setting `failure_webhook`.",
        default_status=status,
    )
    def sensor(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        errors = describe_failures(context.get_step_failure_events())
        errors = errors or [context.failure_event.message or "no reason is known"]
        text = failure_text(run.job_name, run.run_id, errors, settings.secrets)
        context.log.info(text)
        post_to_webhook(settings.failure_webhook.get_secret_value(), text, context.log)

    return sensor


def failure_text(job: str, run_id: str, descriptions: Iterable[str], secrets: Iterable[str]) -> str:
    """Return the text about a failed run, on one line and without secrets."""
    text = " ".join(redact(" ".join(descriptions), secrets).split())
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return f"{job} failed (run {run_id}): {text}"


def post_to_webhook(url: str, text: str, log: logging.Logger) -> None:
    """Post a text to a webhook. An error of the webhook is logged, so that the sensor itself succeeds."""
    try:
        with requests.Session() as session:
            use_environment(session, url)
            # A redirect can lead to another host, which is not to know of the failure.
            reply = session.post(url, json={"text": text}, timeout=_TIMEOUT, allow_redirects=False)
    except OSError as error:  # those of requests, and certificates that cannot be read
        # The error's message would name the URL, which is a secret.
        log.warning("The failure could not be posted to failure_webhook: %s.", type(error).__name__)
        return
    if reply.is_redirect:
        log.warning(
            "The failure could not be posted to failure_webhook: it answered with a redirect, which is not followed. "
            "Set failure_webhook to the URL that it leads to."
        )
    elif not reply.ok:
        log.warning("The failure could not be posted to failure_webhook: it answered HTTP %d.", reply.status_code)


def describe_failures(events: Iterable[dg.DagsterEvent]) -> list[str]:
    """Return the error of each event of a failed step."""
    errors = []
    for data in (event.step_failure_data for event in events):
        if data.user_failure_data and data.user_failure_data.description:
            errors.append(data.user_failure_data.description)
        elif data.error:
            errors.append((data.error.cause or data.error).message.strip())
    return errors
