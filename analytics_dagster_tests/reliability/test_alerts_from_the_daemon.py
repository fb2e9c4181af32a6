"""The daemon in a process of its own posts alerts: what changes, once, and later if the receiver was down."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from analytics_dagster.catalog import RESOURCES
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.dagster_dev import Dev, a_clone, running_dev, within
from analytics_dagster_tests.support.service import a_service
from analytics_dagster_tests.support.webhook import Webhook, a_webhook

pytestmark = pytest.mark.slow

KEYS = (PROJECT_KEY, ACCOUNT_KEY, Webhook.SECRET)


@dataclass
class Deployment:
    """A running Dagster in which only the sensor of alerts is started, over one asset."""

    folder: Path
    dev: Dev
    webhook: Webhook
    service: Sandbox

    def run(self, run_id: str) -> str:
        """Wait for a run to end, and for a tick of the sensor that began later; return the run's status."""
        within(120, "the end of a run", lambda: self.dev.statuses()[run_id] in {"SUCCESS", "FAILURE"})
        self.wait_for_ticks(1)
        return self.dev.statuses()[run_id]

    def load(self) -> str:
        return self.run(self.dev.launch("teams", tags={}))

    def check(self) -> str:
        return self.run(self.dev.launch_job("data_checks"))

    def wait_for_ticks(self, number: int) -> None:
        """Wait until so many ticks have ended that begin from now on."""
        now = time.time()

        def ended() -> int:
            ticks = self.dev.sensor_ticks("alerts_sensor")
            return sum(tick["timestamp"] > now and tick["status"] == "SKIPPED" for tick in ticks)

        within(60 + 60 * number, "a tick", lambda: ended() >= number)

    def sql(self, statement: str) -> None:
        with duckdb.connect(str(self.folder / "warehouse.duckdb")) as connection:
            connection.execute(statement)

    def history(self) -> str:
        """Return the texts of all files in which Dagster keeps its history: events, ticks and cursors."""
        files = [path for path in (self.folder / ".dagster").rglob("*") if path.is_file()]
        return "".join(path.read_bytes().decode("latin-1") for path in files)


@contextmanager
def a_deployment(folder: Path) -> Iterator[Deployment]:
    settings = {
        "API_KEY": PROJECT_KEY,
        "ACCOUNT_API_KEY": ACCOUNT_KEY,
        "AUTOMATION": "false",
        "DISABLED": ",".join(resource.name for resource in RESOURCES if resource.name != "teams"),
        "UI_URL": "https://dagster.example.com",
    }
    with a_service(history_days=0) as service, a_webhook() as webhook:
        settings |= {"BASE_URL": service.url, "FAILURE_WEBHOOK": webhook.url}
        variables = {f"SOURCES__ANALYTICS__{name}": value for name, value in settings.items()}
        with running_dev(a_clone(folder), **variables) as dev:
            dev.start_sensor("alerts_sensor")
            deployment = Deployment(folder, dev, webhook, service)
            deployment.wait_for_ticks(1)
            yield deployment


def test_a_check_that_fails_stays_failed_and_recovers_is_exactly_two_messages(tmp_path: Path):
    with a_deployment(tmp_path) as deployment:
        webhook = deployment.webhook
        assert (deployment.load(), deployment.check()) == ("SUCCESS", "SUCCESS")
        assert webhook.taken == []
        deployment.sql("UPDATE analytics.teams SET account_id = NULL")
        assert deployment.check() == "SUCCESS"
        assert len(webhook.taken) == 1
        assert deployment.check() == "SUCCESS"
        assert len(webhook.taken) == 1
        deployment.sql("UPDATE analytics.teams SET account_id = 1")
        assert deployment.check() == "SUCCESS"
        deployment.wait_for_ticks(1)
        failed, recovered = webhook.taken
        assert failed.startswith(
            "ERROR teams.not_null: Required columns have nulls: account_id in 27 rows, of 27. Load"
        )
        assert failed.endswith(" https://dagster.example.com/assets/analytics/teams?view=checks&checkDetail=not_null")
        assert recovered.startswith("RECOVERED teams.not_null: Required columns have no nulls in 27 rows. (")
        assert webhook.refused == []


def test_a_receiver_that_is_down_for_three_ticks_gets_a_failed_run_later_once_and_without_keys(tmp_path: Path):
    with a_deployment(tmp_path) as deployment:
        webhook = deployment.webhook
        webhook.answers = [503, 503, 503]
        deployment.service.fail_next(
            "err", resource="teams", status=403, message=f"no such key: {ACCOUNT_KEY}", times=9
        )
        run_id = deployment.dev.launch("teams", tags={})
        within(240, "the message", lambda: bool(webhook.taken))
        deployment.wait_for_ticks(2)
        (message,) = webhook.taken
        assert webhook.refused == [message] * 3
        assert message.startswith(f"FAILED __ASSET_JOB, run {run_id}: 1 of 1 did not load: teams: ")
        assert "no such key: [redacted]" in message
        reasons = [tick["skipReason"] for tick in deployment.dev.sensor_ticks("alerts_sensor")]
        assert reasons.count("failure_webhook answered HTTP 503. Not posted yet: 1 message.") == 3
        assert reasons.count("Posted 1 message.") == 1
        history = deployment.history()
        assert "no such key: [redacted]" in history
        assert [key for key in KEYS if key in f"{message}{history}"] == []


def test_an_outage_is_a_message_when_it_begins_and_one_when_it_ends(tmp_path: Path):
    with a_deployment(tmp_path) as deployment:
        service, webhook = deployment.service, deployment.webhook
        for number in (1, 2, 3):
            service.fail_next("err", resource="teams", status=404, message=f"request {number}f0c failed", times=9)
            assert deployment.load() == "FAILURE"
            service.clear_faults()
        assert (deployment.load(), deployment.load()) == ("SUCCESS", "SUCCESS")
        deployment.wait_for_ticks(1)
        failed, recovered = webhook.taken
        assert "request 1f0c failed" in failed
        assert recovered.startswith("RECOVERED __ASSET_JOB, run ")
        assert ": __ASSET_JOB succeeds again, after 3 failed runs since 20" in recovered
        assert webhook.refused == []
