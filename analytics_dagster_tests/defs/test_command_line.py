"""The ways a person starts a load: Dagster's command line, the UI's GraphQL endpoint, the demo."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from analytics_dagster.catalog import RESOURCES
from analytics_dagster_tests.support.dagster_dev import DAGSTER, Dev, a_clone, environment, running_dev

pytestmark = pytest.mark.slow

NAMES = [resource.name for resource in RESOURCES]


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a clone has it."""
    return a_clone(tmp_path_factory.mktemp("clone"))


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
         "--select", "key:analytics/deploys", "--partition", today()],
        cwd=tmp_path, env=environment() | {"DLT_PROJECT_DIR": str(folder)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "deploys: loaded" in done.stderr or count(folder, "deploys") > 0


@pytest.fixture(scope="module")
def dev(folder: Path) -> Iterator[Dev]:
    with running_dev(folder, SOURCES__ANALYTICS__AUTOMATION="false") as dev:
        yield dev


def test_each_asset_materialises_alone_from_the_ui(dev: Dev, folder: Path):
    launched = {}
    for resource in RESOURCES:
        tags = {"dagster/partition": today()} if resource.incremental else {}
        launched[resource.name] = dev.launch(resource.name, tags)
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        statuses = dev.statuses()
        if all(statuses[run] in {"SUCCESS", "FAILURE", "CANCELED"} for run in launched.values()):
            break
        time.sleep(1)
    assert {name: statuses[run] for name, run in launched.items()} == dict.fromkeys(NAMES, "SUCCESS")
    assert all(count(folder, name) > 0 for name in NAMES)
