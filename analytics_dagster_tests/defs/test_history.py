"""The history of one source is not another's: the sandbox, a service, another service, another project's key."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from analytics_dagster.definitions import build_definitions, definition_settings
from analytics_dagster.sandbox import Sandbox
from analytics_dagster_tests.support.project import Project, checked, daily_partition
from analytics_dagster_tests.support.service import OTHER_PROJECT, a_service

DEPLOYS, PROJECTS = (dg.AssetKey(["analytics", name]) for name in ("deploys", "projects"))


def last_days() -> list[str]:
    return [daily_partition(days) for days in (2, 1, 0)]


def horizon() -> tuple[str, str]:
    return daily_partition(2), daily_partition(0)


@pytest.fixture
def live(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose instance is on disk, whose only resources are deploys and projects."""
    project.set(disabled="items,occurrences,rql_jobs,items_metrics,environments,top_active_items,teams,users")
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("instance"))) as instance:
        project.instance = instance
        yield project


@contextmanager
def changed(project: Project, how: str) -> Iterator[Sandbox]:
    """Load three days and the projects, then change the source, and yield the service that is configured then."""
    with a_service() as before:
        if how != "the sandbox to a service":
            project.use(before)
        assert project.materialize("deploys", span=horizon()).success
        assert project.materialize("projects").success
        assert "rows" in checked(project)["deploys", "row_count"].metadata
        port = int(before.url.rpartition(":")[2])
        if how == "a project to another":
            before.stop()
            with a_service(projects=[OTHER_PROJECT], port=port) as after:
                yield after
        else:
            with a_service(seed=8) as after:
                project.use(after)
                yield after


SERVICES = ["the sandbox to a service", "a service to another"]
CHANGES = pytest.mark.parametrize("how", [*SERVICES, "a project to another"])
CHANGES_OF_SERVICE = pytest.mark.parametrize("how", SERVICES)


def requested(project: Project) -> tuple[str, str]:
    """Return the first and last partition that a tick requests."""
    schedule = build_definitions(definition_settings()).get_repository_def().get_schedule_def("incremental_schedule")
    with dg.build_schedule_context(project.instance, datetime.now(UTC)) as context:
        (request,) = schedule.evaluate_tick(context).run_requests or []
    tags: Any = request.tags
    return tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"]


@CHANGES_OF_SERVICE
def test_days_that_were_loaded_from_another_source_are_requested_again(how: str, live: Project):
    with changed(live, how):
        assert requested(live) == horizon()


@CHANGES
def test_the_first_load_from_another_source_wipes_what_was_loaded_before(how: str, live: Project):
    with changed(live, how):
        assert live.instance.get_materialized_partitions(DEPLOYS) == set(last_days())
        assert live.materialize("deploys", partition=last_days()[-1]).success
        assert live.instance.get_materialized_partitions(DEPLOYS) == {last_days()[-1]}
        # The next tick finds the gap; the next load of the same source wipes nothing.
        assert requested(live) == horizon()
        assert live.materialize("deploys", partition=last_days()[-2]).success
        assert live.instance.get_materialized_partitions(DEPLOYS) == set(last_days()[-2:])


@CHANGES
def test_a_load_of_another_source_that_fails_wipes_nothing(how: str, live: Project):
    with changed(live, how) as service:
        service.fail_next("err", resource="deploys", status=403)
        assert not live.materialize("deploys", partition=last_days()[-1]).success
        assert live.instance.get_materialized_partitions(DEPLOYS) == set(last_days())


@CHANGES_OF_SERVICE
def test_freshness_history_and_row_counts_count_from_the_source_that_is_configured(how: str, live: Project):
    with changed(live, how):
        before = checked(live)
        live.materialize("deploys", partition=last_days()[-1])
        results = checked(live)
    assert before["deploys", "freshness"].description == "Never loaded. Materialize the asset."
    assert results["projects", "freshness"].description == "Never loaded. Materialize the asset."
    assert results["deploys", "complete_history"].metadata["days_missing"] > 0
    assert "rows_before" not in before["deploys", "row_count"].metadata


def test_the_word_names_what_was_wiped_and_why(live: Project, capfd: pytest.CaptureFixture[str]):
    with changed(live, "the sandbox to a service"):
        capfd.readouterr()
        assert live.materialize("deploys", partition=last_days()[-1]).success
    said = capfd.readouterr().err
    assert "Dagster's history of deploys, with the results of its checks, was wiped: it was of sandbox (pro" in said
    assert "ject 1001), and rows are now loaded from http://" in said


def test_partitions_that_a_person_reported_are_no_other_source(live: Project, service: Sandbox):
    live.use(service)
    assert live.materialize("deploys", partition=last_days()[-1]).success
    live.instance.report_runless_asset_event(dg.AssetMaterialization(DEPLOYS, partition=last_days()[0]))
    assert live.materialize("deploys", partition=last_days()[-1]).success
    assert live.instance.get_materialized_partitions(DEPLOYS) == {last_days()[0], last_days()[-1]}
