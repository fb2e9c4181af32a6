"""The overview of the last two days and the last deploys: what the asset's page shows, read from the warehouse.

    with open_insights(settings) as tables:
        overview = read_overview(tables, now=now)
    image = draw_overview(overview)

It is read while the warehouse is open and drawn afterwards, because loads wait meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain

from analytics_dagster.insights.counts import TEN_MINUTES, History
from analytics_dagster.insights.covered import Covered
from analytics_dagster.insights.deploy_impact import Row
from analytics_dagster.insights.deploys import Environment, place_of
from analytics_dagster.insights.inputs import read_inputs
from analytics_dagster.insights.verdicts import Verdict
from analytics_dagster.insights.warehouse import InsightTables
from analytics_dagster.insights.wording import format_verdict, short_revision, shorten

SPAN = timedelta(days=2)
"""Time that the picture shows."""

_DEPLOYS = 10
"""Deploys in the table."""

_ITEMS = 3
"""Items that are named of each deploy."""

_PANELS = 3
"""Environments in the picture, at most."""

_DESCRIBED = 2
"""Deploys of an environment that have a text in the picture: the latest ones that are worse."""

_TITLE_SHOWN = 44

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The last two days and the last deploys.

    Attributes:
        start: The time at which the picture begins, UTC.
        latest: Rows of `deploy_impact` of the last ten deploys, latest first.
        recent: Those of the deploys that finished since the start.
        items: The busiest items that each is suspected of, by the deploy's id.
        history: Occurrences by environment since the start.
        covered: Covered times of the occurrences, by project.
    """

    start: datetime
    latest: Sequence[Row]
    recent: Sequence[Row]
    items: Mapping[int, Sequence[Row]]
    history: History
    covered: Mapping[int | None, Covered]


def read_overview(tables: InsightTables, *, now: datetime) -> Overview:
    """Read what the overview shows.

    Args:
        tables: The tables of the insights.
        now: The time at which the overview ends, UTC.
    """
    inputs = read_inputs(tables)
    start = _EPOCH + ((now - SPAN - _EPOCH) // TEN_MINUTES + 1) * TEN_MINUTES
    latest, recent = tables.latest_impacts(_DEPLOYS), tables.impacts_since(start)
    return Overview(
        start=start,
        latest=latest,
        recent=recent,
        items=tables.busiest_items([row["id"] for row in chain(latest, recent)], each=_ITEMS),
        history=tables.history(since=start, only_project=inputs.only_project),
        covered=inputs.covered(tables, since=start, now=now),
    )


def draw_overview(overview: Overview) -> bytes:
    """Return the picture of an overview as a PNG file.

    Raises:
        ModuleNotFoundError: The extra `insights` is not installed.
    """
    from analytics_dagster.insights.picture import Mark, Panel, draw  # noqa: PLC0415  (the extra is slow to import)

    spans = [overview.start + TEN_MINUTES * number for number in range(SPAN // TEN_MINUTES)]
    first = (overview.start - _EPOCH) // TEN_MINUTES

    def count(place: Environment, number: int) -> int | None:
        covered = overview.covered.get(place[0], Covered(()))
        loaded = covered.contains(spans[number], spans[number] + TEN_MINUTES)
        return overview.history.count(place, first + number) if loaded else None

    def describe(row: Row) -> list[str]:
        items = [shorten(item["title"], _TITLE_SHOWN) for item in overview.items[row["id"]]]
        return [f"{short_revision(row)}: {format_verdict(row)}", *items]

    def mark_deploys(place: Environment) -> list[Mark]:
        deploys = [row for row in overview.recent if place_of(row["project_id"], row["environment"]) == place]
        worse = [row["id"] for row in deploys if row["verdict"] == Verdict.WORSE]
        return [
            Mark(
                at=row["finish_time"],
                verdict=Verdict(row["verdict"]),
                lines=describe(row) if row["id"] in worse[:_DESCRIBED] else (),
            )
            for row in deploys
        ]

    panels = [
        Panel(
            title=place[1] if len(overview.covered) == 1 else f"{place[1]}, project {place[0]}",
            counts=[count(place, number) for number in range(len(spans))],
            marks=mark_deploys(place),
        )
        for place in _choose_places(overview)
    ]
    return draw(panels, start=overview.start, end=overview.start + SPAN)


def _choose_places(overview: Overview) -> list[Environment]:
    """Return the environments of the picture: those with a deploy that is worse first, then the busiest ones."""
    deployed = [place_of(row["project_id"], row["environment"]) for row in (*overview.recent, *overview.latest)]
    worse = {
        place_of(row["project_id"], row["environment"]) for row in overview.recent if row["verdict"] == Verdict.WORSE
    }
    ranked = sorted(set(deployed), key=lambda place: (place not in worse, -overview.history.total(place), str(place)))
    return ranked[:_PANELS]
