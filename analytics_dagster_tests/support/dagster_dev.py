"""A running `dg dev`: the UI's server and the daemon as processes of their own, in a folder like a clone's.

with running_dev(a_clone(tmp_path), SOURCES__ANALYTICS__READ_AHEAD="2") as dev:
    run_id = dev.launch("users", tags={})
    status = dev.statuses()[run_id]
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from analytics_dagster_tests.support.project import CONFIG

ROOT = Path(__file__).resolve().parents[2]
DAGSTER = [sys.executable, "-m", "dagster"]
DG = str(Path(sys.executable).with_name("dg"))
REPOSITORY = {"repositoryLocationName": "analytics_dagster", "repositoryName": "__repository__"}


def a_clone(folder: Path) -> Path:
    """Make a folder of the project, without its tests and with a configuration of its own."""
    (folder / ".dlt").mkdir()
    (folder / ".dlt" / "config.toml").write_text(CONFIG)
    for name in ("dagster.yaml", "pyproject.toml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder / name)
    # A link, because a copy's own texts would be found among the traces of a run.
    (folder / "analytics_dagster").symlink_to(ROOT / "analytics_dagster")
    return folder


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment with these settings and without any other."""
    without = ("SOURCES__", "DESTINATION__", "DAGSTER_HOME", "API_KEY")
    return {name: value for name, value in os.environ.items() if not name.startswith(without)} | variables


class Dev:
    """A client of a running `dg dev`, which uses GraphQL as the UI does."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as reply:
            answer = json.load(reply)
        assert "errors" not in answer, answer
        return answer["data"]

    def launch(self, name: str, tags: dict[str, str]) -> str:
        """Launch a run that materialises an asset, and return its id."""
        selection = {"assetSelection": [{"path": ["analytics", name]}], "assetCheckSelection": []}
        return self._launch({"pipelineName": "__ASSET_JOB", **selection}, tags)

    def launch_job(self, name: str) -> str:
        """Launch a run of a job, and return its id."""
        return self._launch({"pipelineName": name}, tags={})

    def _launch(self, selection: dict[str, Any], tags: dict[str, str]) -> str:
        answer = self.ask(
            """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
                __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
            params={
                "mode": "default",
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
                "runConfigData": {},
                "selector": {**REPOSITORY, **selection},
            },
        )["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def runs(self, job: str | None = None) -> list[dict[str, Any]]:
        """Return the runs, of a job or all, newest first: runId, status, creationTime, endTime, tags by key."""
        answer = self.ask(
            """query($filter: RunsFilter) { runsOrError(filter: $filter) { ... on Runs {
                results { runId status creationTime endTime tags { key value } } } } }""",
            filter={"pipelineName": job} if job else {},
        )
        return [
            {**run, "tags": {tag["key"]: tag["value"] for tag in run["tags"]}}
            for run in answer["runsOrError"]["results"]
        ]

    def statuses(self) -> dict[str, str]:
        return {run["runId"]: run["status"] for run in self.runs()}

    def start_sensor(self, name: str) -> None:
        """Start a sensor, as a person does in the UI."""
        answer = self.ask(
            """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
                __typename ... on PythonError { message } } }""",
            selector={**REPOSITORY, "sensorName": name},
        )["startSensor"]
        assert answer["__typename"] == "Sensor", answer

    def sensor_ticks(self, name: str) -> list[dict[str, Any]]:
        """Return the ticks of a sensor, newest first: status, skipReason, timestamp."""
        answer = self.ask(
            """query($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
                sensorState { ticks(limit: 100) { status skipReason timestamp } } } } }""",
            selector={**REPOSITORY, "sensorName": name},
        )
        return answer["sensorOrError"]["sensorState"]["ticks"]


def within(seconds: float, event: str, happened: Callable[[], bool]) -> None:
    """Wait until an event has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s: {event}"
        time.sleep(1)


@contextmanager
def running_dev(folder: Path, **variables: str) -> Iterator[Dev]:
    """Run `dg dev` in a folder, with settings as environment variables. Its output goes to `dev.log` there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "dev.log").open("w") as log:
        process = subprocess.Popen(
            [DG, "dev", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder, env=environment(**variables), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                assert process.poll() is None, f"dg dev ended: {log.name}"
                assert time.monotonic() < deadline, f"dg dev did not answer: {log.name}"
                time.sleep(0.5)
        yield Dev(f"http://127.0.0.1:{port}/graphql")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
