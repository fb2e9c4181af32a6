"""Loads seeds of the sandbox with the assets, and returns the verdict on each deploy beside the truth about it.

    for judged in judge_seeds(range(1, 11), days=3):
        print(judged.situation, judged.verdict)

Each seed is a project of one service: the assets load several side by side into the same tables. Verdicts are those of
the table `deploy_impact` an hour and more after each finish. The provisional ones after 20 minutes, which later ones
have replaced there, are computed by the same functions, as if nothing later had been loaded.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import time_machine

from analytics_dagster.definitions import build_definitions, definition_settings
from analytics_dagster.ingest import keyset, pagination, project_load
from analytics_dagster.ingest.settings import load_settings
from analytics_dagster.ingest.windows import LoadedWindow
from analytics_dagster.insights.counts import BLOCK
from analytics_dagster.insights.covered import Covered
from analytics_dagster.insights.deploy_impact import Row, build_rows
from analytics_dagster.insights.deploys import HOUR_AFTER, relate
from analytics_dagster.insights.warehouse import InsightTables, open_insights
from analytics_dagster.sandbox import Sandbox, SandboxProject
from analytics_dagster_tests.study.seeds.truth import Situation, expected_drift, situation_of
from analytics_dagster_tests.support.project import Project, a_project, failure

MIDNIGHT = datetime(2026, 3, 13, tzinfo=UTC)
NOW = MIDNIGHT + timedelta(minutes=30)
"""The service's time, which stands still: half an hour after the last full day."""

EARLY = timedelta(minutes=20)
"""Time after the finish of the provisional verdict."""

DAY_BEFORE = timedelta(days=1) + BLOCK
"""Time before the finish that a verdict needs: the two hours before it, and a day of history."""

_SHORT_PAUSE = 0.02
"""Seconds between two looks at the end of a list. Nothing is late here, since the clock stands still."""

_FIRST_ID = 1000
_QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A deploy with the truth about it, and its verdicts.

    Attributes:
        seed: The seed.
        environment: The environment.
        finish: Time of the finish, UTC.
        situation: What the deploy did.
        new_items: Whether it brought new items.
        drift: Ratio of the rates after and before that the rhythm of the day alone makes.
        early: The verdict after 20 minutes.
        verdict: The verdict that stays, after 60 minutes.
        is_rollback: Whether the row says that it is a rollback.
        before: Occurrences in the two hours before.
        after: Occurrences in the hour after.
        burst_before: The most occurrences of one item in one of the spells of ten minutes before.
        burst_after: The same after.
    """

    seed: int
    environment: str
    finish: datetime
    situation: Situation
    new_items: bool
    drift: float
    early: str
    verdict: str
    is_rollback: bool
    before: int
    after: int
    burst_before: int
    burst_after: int


def judge_seeds(seeds: Sequence[int], *, days: int) -> list[Judged]:
    """Load seeds into a new DuckDB file with the assets, and return their deploys that have a day of history.

    Args:
        seeds: The seeds, from 1 on. The seed n is the project 1000 + n.
        days: Days of history.
    """
    projects = [SandboxProject(name=f"seed{seed}", id=_FIRST_ID + seed, seed=seed) for seed in seeds]
    with (
        TemporaryDirectory() as folder,
        a_project(Path(folder)) as project,
        time_machine.travel(NOW),
        Sandbox(projects=projects, clock=NOW.timestamp, history_days=days, rate_limit=1_000_000) as service,
    ):
        for reader in (keyset, pagination, project_load):
            project.monkeypatch.setattr(reader, "PAUSE", _SHORT_PAUSE)
        first = MIDNIGHT - timedelta(days=days)
        keys = {f"projects__{each.name}__api_key": each.key for each in projects}
        project.set(base_url=service.url, start_date=first.date(), **keys)
        _materialize(project, first.date())
        return list(_compare(project, service, projects, first))


def _materialize(project: Project, first: date) -> None:
    """Load every day with the assets, then compute the insights with theirs."""
    definitions = build_definitions(definition_settings())
    loaded = dg.materialize(
        list(definitions.assets or []),
        selection=[dg.AssetKey(["analytics", name]) for name in ("items", "occurrences", "deploys")],
        tags={
            "dagster/asset_partition_range_start": str(first),
            "dagster/asset_partition_range_end": str(NOW.date()),
        },
        run_config={"loggers": _QUIET},
        resources=definitions.resources,
        instance=project.instance,
        raise_on_error=False,
    )
    assert loaded.success, failure(loaded)
    computed = definitions.resolve_job_def("insights_refresh").execute_in_process(
        instance=project.instance, run_config={"loggers": _QUIET}, raise_on_error=False
    )
    assert computed.success, failure(computed)


def _compare(
    project: Project, service: Sandbox, projects: Sequence[SandboxProject], first: datetime
) -> Iterator[Judged]:
    """Yield each deploy that has a day of history before it and an hour after it."""
    with open_insights(load_settings()) as tables:
        stored = tables.impacts()
        early = _judge_early(tables, first)
    bursts = _largest_bursts(project)
    for each in projects:
        deploys = service.project(each.name).deploys()
        for deploy in deploys:
            assert deploy.finish
            if deploy.id not in early:
                continue
            row = stored[deploy.id]
            yield Judged(
                seed=each.id - _FIRST_ID,
                environment=deploy.environment,
                finish=row["finish_time"],
                situation=situation_of(deploy, deploys),
                new_items=bool(deploy.new_items),
                drift=expected_drift(deploy.finish),
                early=early[deploy.id],
                verdict=row["verdict"],
                is_rollback=row["is_rollback"],
                before=row["occurrences_before"] or 0,
                after=row["occurrences_after_60"] or 0,
                burst_before=bursts.get((deploy.id, False), 0),
                burst_after=bursts.get((deploy.id, True), 0),
            )


def _judge_early(tables: InsightTables, first: datetime) -> Mapping[int, str]:
    """Return the verdict after 20 minutes on each deploy with a day of history and an hour after it.

    The covered time ends 20 minutes after the finish.
    """
    deploys = tables.deploys()
    relations = relate(deploys)
    # No only project: the loader names one in each occurrence.
    around = tables.counts_around(finished_since=first, only_project=None)
    history = tables.history(since=first, only_project=None)
    verdicts: dict[int, str] = {}
    for deploy in deploys:
        if deploy.finish_time is None or not first + DAY_BEFORE <= deploy.finish_time <= NOW - HOUR_AFTER:
            continue
        covered = Covered([LoadedWindow(start=first, end=deploy.finish_time + EARLY, loaded_at=NOW)])
        rows: list[Row] = build_rows([deploy], relations, around, history, {deploy.project_id: covered}, now=NOW)
        verdicts[deploy.id] = rows[0]["verdict"]
    return verdicts


def _largest_bursts(project: Project) -> Mapping[tuple[int, bool], int]:
    """Return the most occurrences of one item in ten minutes, by deploy and by whether they came after it."""
    return {
        (deploy, is_after): occurrences
        for deploy, is_after, occurrences in project.sql(
            """
            SELECT deploy_id, spell >= 0, max(occurrences) FROM (
                SELECT
                    d.id AS deploy_id,
                    floor(epoch(o.timestamp - d.finish_time) / 600) AS spell,
                    o.item_id,
                    count(*) AS occurrences
                FROM analytics.deploys AS d
                JOIN analytics.occurrences AS o
                    ON o.project_id = d.project_id AND o.environment = d.environment
                    AND o.timestamp >= d.finish_time - INTERVAL '2 hours'
                    AND o.timestamp < d.finish_time + INTERVAL '1 hour'
                WHERE o.item_id IS NOT NULL
                GROUP BY ALL
            ) GROUP BY ALL
            """
        )
    }
