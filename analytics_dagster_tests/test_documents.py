"""Documents are tested where they can be: tables are current, commands and paths exist."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.documents import README, current
from analytics_dagster_tests.support.project import Project
from analytics_dagster_tests.support.service import truth

ROOT = README.parent
DOCUMENTS = [README, *sorted((ROOT / "docs").glob("*.md"))]


def test_the_generated_tables_of_the_readme_are_current():
    assert README.read_text() == current(README.read_text()), "run `make docs`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_make_target_that_is_named_exists(document: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?<!\w)make ([a-z][a-z-]*)", document.read_text())) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_linked_file_exists(document: Path):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_is_named_exists(document: Path):
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", document.read_text())
    tests = {file.name: file.read_text() for file in Path(__file__).parent.rglob("test_*.py")}
    assert [name for file, name in named if f"def {name}(" not in tests.get(file, "")] == []


def test_every_toml_example_of_the_readme_parses():
    examples = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    assert examples
    for example in examples:
        for part in re.split(r"(?=# \.dlt/)", example):
            tomllib.loads(part)


def test_the_examples_for_notebooks_load_and_read_the_rows(project: Project, service: Sandbox):
    project.use(service)
    load, read = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    notebook: dict[str, Any] = {}

    exec(load, notebook)
    exec(read, notebook)

    assert len(notebook["deploys"].fetchall()) == len(truth(service, "deploys"))
    assert {row[0] for row in project.rows("deploys", "id")} == truth(service, "deploys")
    assert project.rows("load_windows", "resource", "window_start") == [("deploys", None)]


def test_the_workspace_and_the_project_name_the_same_location():
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"][0]["python_module"]
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    dagster, dg = tools["dagster"], tools["dg"]["project"]
    assert workspace == {"module_name": dagster["module_name"], "location_name": dagster["code_location_name"]}
    assert dg["code_location_target_module"] == dagster["module_name"]
    assert dg["code_location_name"] == dagster["code_location_name"]


def test_nothing_names_a_path_of_a_machine_or_a_package_registry():
    pins = (ROOT / "constraints.txt").read_text()
    assert "://" not in pins
    assert all(re.fullmatch(r"(#.*|[\w.-]+==[\w.]+)", line) for line in pins.splitlines())
