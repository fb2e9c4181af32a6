"""The one op that runs the checks: it opens the warehouse once, read-only, and evaluates the selected checks.

`specs.py` lists the checks. https://docs.dagster.io/guides/test/running-a-subset-of-asset-checks
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from analytics_dagster.catalog import Resource
from analytics_dagster.defs.asset_checks.inputs import CheckInputs
from analytics_dagster.defs.asset_checks.specs import CHECKS, Check
from analytics_dagster.defs.instance import POOL
from analytics_dagster.defs.resources import WarehouseResource
from analytics_dagster.ingest.errors import AnalyticsError
from analytics_dagster.ingest.settings import Settings, load_settings
from analytics_dagster.ingest.warehouse.location import warehouse_location


def build_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Define the checks of every resource that is not disabled, in one op; none if all are disabled."""
    checks = {
        resource: {check.key(resource): check for check in CHECKS if check.applies_to(resource, settings)}
        for resource in settings.enabled_resources()
    }
    if not checks:
        return []

    @dg.multi_asset_check(
        name="checks",
        specs=[
            dg.AssetCheckSpec(key.name, asset=key.asset_key, description=check.description)
            for by_key in checks.values()
            for key, check in by_key.items()
        ],
        can_subset=True,
        pool=POOL,
    )
    def check_tables(
        context: dg.AssetCheckExecutionContext, warehouse: WarehouseResource
    ) -> Iterator[dg.AssetCheckResult]:
        try:
            settings = load_settings()
            location = warehouse_location(settings)
            now = datetime.now(UTC)
            with warehouse.tables(settings) as tables:
                for resource, by_key in checks.items():
                    selected = [check for key, check in by_key.items() if key in context.selected_asset_check_keys]
                    if not selected:
                        continue
                    profile = tables.profile(resource)
                    inputs = CheckInputs(
                        resource=resource,
                        profile=profile,
                        tables=tables,
                        location=location,
                        settings=settings,
                        instance=context.instance,
                        now=now,
                    ) if profile else None  # fmt: skip
                    for check in selected:
                        yield _run_check(check, resource, inputs)
        except AnalyticsError as error:
            raise dg.Failure(str(error), allow_retries=False) from None

    return [check_tables]


def _run_check(check: Check, resource: Resource, inputs: CheckInputs | None) -> dg.AssetCheckResult:
    """Evaluate a check, and add its key, its severity and the table's identity to the result."""
    result = check.evaluate(inputs) if inputs else check.evaluate_missing(resource)
    key = check.key(resource)
    return result._replace(
        asset_key=key.asset_key,
        check_name=key.name,
        severity=check.severity or result.severity,
        metadata={**result.metadata, **(inputs.identity if inputs else {})},
    )
