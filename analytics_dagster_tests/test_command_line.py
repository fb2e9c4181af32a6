"""The ways a person starts a load: Dagster's command line, the UI's GraphQL endpoint, the demo."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics_dagster.catalog import RESOURCES
from analytics_dagster_tests.conftest import CONFIG

ROOT = Path(__file__).resolve().parents[1]
NAMES = [row.name for row in RESOURCES]
TODAY = datetime.now(UTC).strftime("%Y-%m-%d")
DAGSTER = [sys.executable, "-m", "dagster"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's configuration, as a clone has it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / ".dlt").mkdir()
    (folder / ".dlt" / "config.toml").write_text(CONFIG)
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SOURCES__", "DESTINATION__", "DAGSTER_HOME", "API_KEY"))
    }


def count(folder: Path, table: str) -> int:
    with duckdb.connect(str(folder / "sandbox.duckdb"), read_only=True) as connection:
        return int(connection.execute(f"SELECT count(*) FROM analytics.{table}").fetchall()[0][0])


def test_the_demo_loads_ten_tables_and_shows_them_and_can_be_repeated(folder: Path):
    counts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "analytics_dagster.demo"],
            cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        table = dict(re.findall(r"^(\w+) +([\d,]+)  ", done.stdout, re.MULTILINE))
        shown = {name: int(rows.replace(",", "")) for name, rows in table.items()}
        assert shown == {name: count(folder, name) for name in NAMES}
        assert all(shown.values())
        assert "make dev" in done.stdout
        counts.append(shown)
    first, second = counts
    assert all(first[name] <= second[name] <= first[name] + 50 for name in NAMES)
    assert (folder / ".dagster").is_dir()


def test_an_asset_materialises_from_the_command_line_in_another_directory(folder: Path, tmp_path: Path):
    done = subprocess.run(
        [*DAGSTER, "asset", "materialize", "-m", "analytics_dagster.definitions",
         "--select", "key:analytics/deploys", "--partition", TODAY],
        cwd=tmp_path, env=environment() | {"DLT_PROJECT_DIR": str(folder)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "deploys: loaded" in done.stderr or count(folder, "deploys") > 0


class Dev:
    """A running `dagster dev`, spoken to as the UI does."""

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
        answer = self.ask(
            """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
                __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
            params={
                "mode": "default",
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
                "runConfigData": {},
                "selector": {
                    "repositoryLocationName": "analytics_dagster",
                    "repositoryName": "__repository__",
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": ["analytics", name]}],
                    "assetCheckSelection": [],
                },
            },
        )["launchPipelineExecution"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return answer["run"]["runId"]

    def statuses(self) -> dict[str, str]:
        runs = self.ask("{ runsOrError { ... on Runs { results { runId status } } } }")["runsOrError"]["results"]
        return {run["runId"]: run["status"] for run in runs}


@pytest.fixture(scope="module")
def dev(folder: Path) -> Iterator[Dev]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*DAGSTER, "dev", "--host", "127.0.0.1", "--port", str(port)],
        cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
            except OSError:
                assert time.monotonic() < deadline, "dagster dev did not answer"
                time.sleep(0.5)
        yield Dev(f"http://127.0.0.1:{port}/graphql")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_each_asset_materialises_alone_from_the_ui(dev: Dev, folder: Path):
    launched = {}
    for row in RESOURCES:
        tags = {"dagster/partition": TODAY} if row.incremental else {}
        launched[row.name] = dev.launch(row.name, tags)
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        statuses = dev.statuses()
        if all(statuses[run] in {"SUCCESS", "FAILURE", "CANCELED"} for run in launched.values()):
            break
        time.sleep(1)
    assert {name: statuses[run] for name, run in launched.items()} == dict.fromkeys(NAMES, "SUCCESS")
    assert all(count(folder, name) > 0 for name in NAMES)
