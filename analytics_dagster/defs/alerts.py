"""The word that a run failed, as one sentence to a webhook. A sensor of its own kind: it waits for no rows.

The sentence leaves the house: the keys of the settings are taken out of it once more, wherever it comes from.
"""

import logging

import dagster as dg
import requests

from analytics_dagster.ingest.settings import Settings

_TIMEOUT = 10.0
"""Seconds to wait for the webhook."""

_LONGEST = 1000
"""Characters of a failure's description that are sent."""


def build_failure_sensor(settings: Settings, status: dg.DefaultSensorStatus) -> dg.SensorDefinition:
    """Define the sensor that posts each failed run to the setting `failure_webhook`."""

    @dg.run_failure_sensor(
        name="run_failure_sensor",
        description="Posts a sentence to the setting `failure_webhook` for every run that fails.",
        default_status=status,
    )
    def sensor(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        said = sentence(run.job_name, run.run_id, _descriptions(context), settings)
        context.log.info(said)
        post(settings.failure_webhook, said, context.log)

    return sensor


def sentence(job: str, run_id: str, descriptions: list[str], settings: Settings) -> str:
    """Return what is said of a failed run, without the keys of the settings."""
    text = " ".join(" ".join(descriptions).split())
    secrets = {settings.api_key, settings.account_api_key, settings.failure_webhook} - {""}
    # The longest first: one can be the beginning of another.
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return f"{job} failed (run {run_id}): {text}"


def post(url: str, text: str, log: logging.Logger) -> None:
    """Post a text to a webhook. One that cannot be reached is a line in the log: the run failed, not the sensor."""
    try:
        reply = requests.post(url, json={"text": text}, timeout=_TIMEOUT)
    except requests.RequestException as error:
        # Its message would name the address, which is a secret.
        log.warning("The failure could not be posted to failure_webhook: %s.", type(error).__name__)
        return
    if not reply.ok:
        log.warning("The failure could not be posted to failure_webhook: it answered HTTP %d.", reply.status_code)


def _descriptions(context: dg.RunFailureSensorContext) -> list[str]:
    """Return why each failed step did, or why the run did if none was to blame."""
    found = []
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        if data.user_failure_data and data.user_failure_data.description:
            found.append(data.user_failure_data.description)
        elif data.error:
            found.append((data.error.cause or data.error).message)
    return found or [context.failure_event.message or "no reason is known"]
