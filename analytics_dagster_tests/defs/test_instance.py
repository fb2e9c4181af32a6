"""The place that the project runs in: definitions need no folder to write to, loads the settings of the instance."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

from analytics_dagster.defs.instance import missing_instance_settings
from analytics_dagster_tests.support.dagster_dev import ROOT, environment
from analytics_dagster_tests.support.project import Project

RECORD_WRITES = """
import json, os, sys
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate", "sqlite3.connect"}
writes = []
def record(event, arguments):
    if event in CHANGES:
        writes.append([event, str(arguments[0])])
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR) and arguments[0] != os.devnull:
        writes.append([event, str(arguments[0])])
sys.addaudithook(record)
from analytics_dagster.definitions import defs
defs.get_repository_def().load_all_definitions()
print(json.dumps(writes))
"""


def test_the_definitions_load_without_writing_anything(tmp_path: Path):
    home = tmp_path / "no_folder"
    home.touch()
    done = subprocess.run(
        [sys.executable, "-B", "-c", RECORD_WRITES], cwd=tmp_path, env=environment(HOME=str(home / "home")),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == []


def instance_with(folder: Path, text: str) -> dg.DagsterInstance:
    """Open the instance of a folder whose `dagster.yaml` is a text."""
    (folder / "dagster.yaml").write_text(text)
    return dg.DagsterInstance.from_config(str(folder))


def test_an_instance_without_the_settings_is_told_the_lines_that_it_needs(tmp_path: Path):
    with instance_with(tmp_path, "") as instance:
        advice = missing_instance_settings(instance, "duckdb")
    assert advice
    sentence, *lines = advice.splitlines()
    assert sentence.endswith(f"Add these lines to {tmp_path / 'dagster.yaml'}, then restart Dagster:")
    own = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    told = yaml.safe_load("\n".join(lines))
    assert told["concurrency"] == own["concurrency"]
    assert told["run_monitoring"].items() <= own["run_monitoring"].items()
    with instance_with(tmp_path, "\n".join(lines)) as instance:
        assert missing_instance_settings(instance, "duckdb") is None


def test_the_projects_own_instance_needs_no_advice(tmp_path: Path):
    with instance_with(tmp_path, (ROOT / "dagster.yaml").read_text().replace(".dagster", str(tmp_path))) as instance:
        assert missing_instance_settings(instance, "duckdb") is None


def test_a_limit_of_the_pool_that_was_set_by_hand_counts(tmp_path: Path):
    with instance_with(tmp_path, "run_monitoring: {enabled: true}\n") as instance:
        assert "concurrency:" in (missing_instance_settings(instance, "duckdb") or "")
        instance.event_log_storage.set_concurrency_slots("warehouse", 1)
        assert missing_instance_settings(instance, "duckdb") is None
        instance.event_log_storage.set_concurrency_slots("warehouse", 4)
        assert "concurrency:" in (missing_instance_settings(instance, "duckdb") or "")


def test_a_server_needs_no_limit_of_the_pool(tmp_path: Path):
    with instance_with(tmp_path, "run_monitoring: {enabled: true}\n") as instance:
        assert missing_instance_settings(instance, "postgres") is None
        assert "concurrency:" in (missing_instance_settings(instance, "snowflake") or "")


def test_a_load_on_an_instance_without_the_settings_says_so(
    project: Project, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    home = tmp_path / "home"
    home.mkdir()
    with instance_with(home, "") as project.instance:
        assert project.materialize("projects").success
    said = capfd.readouterr().err
    assert f"Add these lines to {home / 'dagster.yaml'}" in said
