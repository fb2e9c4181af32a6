"""A run that fails gives the warehouse back at once, in a process that lives on and keeps the exception."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from filelock import FileLock

from analytics_dagster.definitions import build_definitions, definition_settings
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, load, run_checks
from analytics_dagster_tests.support.service import truth


def assert_free(warehouse: Path) -> None:
    """Take the lock without waiting, and open the file for writing, as another process would."""
    with FileLock(warehouse.with_suffix(".lock"), timeout=0):
        duckdb.connect(str(warehouse)).close()


@pytest.fixture
def project(project: Project, service: Sandbox) -> Project:
    """A project that does not wait for a lock."""
    project.use(service, lock_timeout=0)
    return project


@pytest.fixture
def fail_to_store(project: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[dg.DagsterEventType], None]:
    """Returns a function that makes Dagster's storage fail on events of a kind, as with a full disk."""
    store = project.instance.event_log_storage.store_event

    def fail_on(kind: dg.DagsterEventType) -> None:
        def store_event(event: Any) -> None:
            if event.dagster_event_type is kind:
                raise OSError("No space left on device")
            store(event)

        monkeypatch.setattr(project.instance.event_log_storage, "store_event", store_event)

    return fail_on


def test_an_op_whose_results_dagster_cannot_record_gives_the_lock_to_the_next_op(
    project: Project, service: Sandbox, fail_to_store: Callable[[dg.DagsterEventType], None]
) -> None:
    load("users")
    load("deploys")
    service.add_deploy()
    service.update("users", service.rows("users")[0]["id"], username="renamed")
    fail_to_store(dg.DagsterEventType.ASSET_MATERIALIZATION)

    result = project.materialize("deploys", "users")

    errors = {
        event.step_key: str(event.step_failure_data.error) for event in result.all_events if event.is_step_failure
    }
    assert errors.keys() == {"incremental", "reference"}
    assert all("No space left on device" in error for error in errors.values())
    assert {key for (key,) in project.rows("deploys", "id")} == truth(service, "deploys")
    assert_free(project.warehouse)


def test_a_run_that_raises_gives_the_lock_back_while_a_notebook_keeps_the_exception(
    project: Project, fail_to_store: Callable[[dg.DagsterEventType], None]
) -> None:
    definitions = build_definitions(definition_settings())
    fail_to_store(dg.DagsterEventType.ASSET_MATERIALIZATION)

    with pytest.raises(OSError, match="No space left on device") as kept:
        dg.materialize(
            list(definitions.assets or []),
            selection=[dg.AssetKey(["analytics", "users"])],
            resources=definitions.resources,
            instance=project.instance,
        )
    assert_free(project.warehouse)
    load("users")
    assert kept.value


def test_checks_whose_results_dagster_cannot_record_give_the_lock_back(
    project: Project, fail_to_store: Callable[[dg.DagsterEventType], None]
) -> None:
    load("users")
    fail_to_store(dg.DagsterEventType.ASSET_CHECK_EVALUATION)

    result = run_checks(project)

    assert not result.success
    assert_free(project.warehouse)
