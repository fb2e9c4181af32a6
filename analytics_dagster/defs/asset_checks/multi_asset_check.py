"""The checks of all tables as one op of Dagster: the warehouse is opened once, to read, and asked about each.

`specs.py` lists the checks.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from analytics_dagster.defs.asset_checks.evaluations import Level, Verdict
from analytics_dagster.defs.asset_checks.specs import CHECKS, Subject
from analytics_dagster.defs.assets import POOL
from analytics_dagster.defs.resources import WarehouseResource
from analytics_dagster.ingest.errors import AnalyticsError
from analytics_dagster.ingest.settings import Settings, load_settings
from analytics_dagster.ingest.warehouse.location import warehouse_location


def build_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Define the checks of every resource that is not disabled, in one op; none if all are disabled."""
    checks = {
        row: {check.key(row): check for check in CHECKS if check.applies(row, settings)}
        for row in settings.enabled_resources()
    }
    if not checks:
        return []

    @dg.multi_asset_check(
        name="checks",
        specs=[
            dg.AssetCheckSpec(key.name, asset=key.asset_key, description=check.description)
            for of_row in checks.values()
            for key, check in of_row.items()
        ],
        can_subset=True,
        pool=POOL,
    )
    def check_tables(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.AssetCheckResult]:
        try:
            settings = load_settings()
            place = warehouse_location(settings)
            with warehouse.tables(settings) as tables:
                now = datetime.now(UTC)
                for row, of_row in checks.items():
                    selected = {key: of_row[key] for key in of_row if key in context.selected_asset_check_keys}
                    if not selected:
                        continue
                    profile = tables.profile(row)
                    if not profile:
                        yield from (_result(key, check.unloaded(row)) for key, check in selected.items())
                        continue
                    subject = Subject(
                        resource=row,
                        profile=profile,
                        tables=tables,
                        place=place,
                        settings=settings,
                        instance=context.instance,
                        now=now,
                    )
                    for key, check in selected.items():
                        yield _result(key, check.judge(subject), **subject.identity)
        except AnalyticsError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    return [check_tables]


def _result(key: dg.AssetCheckKey, verdict: Verdict, **identity: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=verdict.level is Level.PASS,
        severity=dg.AssetCheckSeverity.WARN if verdict.level is Level.WARN else dg.AssetCheckSeverity.ERROR,
        description=verdict.sentence,
        metadata={
            **{
                name: dg.MetadataValue.timestamp(figure) if isinstance(figure, datetime) else figure
                for name, figure in verdict.figures.items()
            },
            **identity,
        },
    )
