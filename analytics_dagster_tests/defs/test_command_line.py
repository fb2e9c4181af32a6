"""The ways a person starts a load: Dagster's command line, the UI's GraphQL endpoint, the demo."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from dagster import AssetKey, DagsterInstance

from analytics_dagster.catalog import RESOURCES
from analytics_dagster.defs.partitions import build_partitions
from analytics_dagster.defs.translator import asset_key
from analytics_dagster.ingest.settings import Settings
from analytics_dagster_tests.support.dagster_dev import DAGSTER, DG, Dev, a_clone, environment, running_dev

pytestmark = pytest.mark.slow

NAMES = [resource.name for resource in RESOURCES]


def today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def yesterday() -> str:
    return (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")


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
        assert re.search(r"^  \d+ checks: \d+ passed, 0 with a warning, 0 with an error\.$", done.stdout, re.MULTILINE)
        counts.append(shown)
    first, second = counts
    assert all(first[name] <= second[name] <= first[name] + 50 for name in NAMES)
    assert (folder / ".dagster").is_dir()


def test_the_demo_leaves_no_partition_missing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)  # the storage's path in dagster.yaml is relative
    partitions = set(build_partitions(Settings()).get_partition_keys())
    with DagsterInstance.from_config(str(folder)) as instance:
        for resource in Settings().enabled_resources("incremental"):
            assert instance.get_materialized_partitions(asset_key(resource)) >= partitions


def test_an_asset_materialises_from_the_command_line_in_another_directory(folder: Path, tmp_path: Path):
    done = subprocess.run(
        [*DAGSTER, "asset", "materialize", "-m", "analytics_dagster.definitions",
         "--select", "key:analytics/deploys", "--partition", today()],
        cwd=tmp_path, env=environment() | {"DLT_PROJECT_DIR": str(folder)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "deploys: loaded" in done.stderr or count(folder, "deploys") > 0


def run_dg(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `dg` in a folder, as in a clone."""
    done = subprocess.run(
        [DG, *arguments], cwd=folder, env=environment(COLUMNS="200"),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "uperse" not in done.stdout + done.stderr
    return done


def test_dg_checks_and_lists_the_definitions(folder: Path):
    assert "All definitions loaded successfully." in run_dg(folder, "check", "defs").stdout
    listed = run_dg(folder, "list", "defs", "--json").stdout
    assert {asset["asset_key"] for asset in json.loads(listed)["assets"]} >= {f"analytics/{name}" for name in NAMES}


def test_dg_launches_a_range_of_partitions_on_the_projects_instance(folder: Path, monkeypatch: pytest.MonkeyPatch):
    days = f"{yesterday()}...{today()}"
    run_dg(folder, "launch", "--assets", 'key:"analytics/rql_jobs"', "--partition-range", days)
    monkeypatch.chdir(folder)  # the storage's path in dagster.yaml is relative
    with DagsterInstance.from_config(str(folder)) as instance:
        loaded = instance.get_materialized_partitions(AssetKey(["analytics", "rql_jobs"]))
    assert loaded >= {yesterday(), today()}
    assert count(folder, "rql_jobs") > 0


def run_checks(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "analytics_dagster.checks"],
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_checks_print_their_sentences_and_fail_with_an_error_alone(folder: Path):
    done = run_checks(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS   users.primary_key: id is unique in 12 rows." in done.stdout
    with duckdb.connect(str(folder / "sandbox.duckdb")) as connection:
        connection.execute("INSERT INTO analytics.users SELECT * FROM analytics.users LIMIT 1")
    done = run_checks(folder)
    assert done.returncode == 1
    assert "ERROR  users.primary_key: id is not unique: 1 value is duplicated" in done.stdout
    assert re.search(r"^\d+ checks: \d+ passed, \d+ with a warning, 1 with an error\.$", done.stdout, re.MULTILINE)


def test_checks_that_cannot_run_fail_with_the_sentence(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "analytics_dagster.checks"],
        cwd=a_clone(tmp_path), env=environment(SOURCES__ANALYTICS__HORIZON="0"),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "failed: The setting sources.analytics.horizon must be a whole number, at least 1" in done.stdout


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
