"""Formats what was found on the seeds, as the tables of docs/deploy-impact.md."""

from collections.abc import Iterable, Sequence

from analytics_dagster.insights.verdicts import Verdict
from analytics_dagster_tests.study.report import format_markdown, replace_tables
from analytics_dagster_tests.study.seeds.results import DRIFTS, Cell, Results, count
from analytics_dagster_tests.study.seeds.truth import Situation

_VERDICTS = (Verdict.WORSE, Verdict.BETTER, Verdict.UNCHANGED, Verdict.TOO_FEW, Verdict.NOT_LOADED)
_MINUTES_BEFORE = 120


def current(document: str, results: Results) -> str:
    """Return the text of docs/deploy-impact.md with the tables of the seeds as they should be."""
    tables = {
        "seeds": situations(results),
        "seeds alarms": _alarms(results),
        "seeds found": _found(results),
    }
    return replace_tables(document, tables)


def situations(results: Results) -> str:
    """Return the number of deploys by situation and verdict, and how many are told to be rollbacks."""
    rows = []
    for situation in Situation:
        if cells := results.select(situation):
            late = [count(cells, lambda cell: cell.late, verdict) for verdict in _VERDICTS]
            early = [count(cells, lambda cell: cell.early, verdict) for verdict in (Verdict.WORSE, Verdict.BETTER)]
            told = sum(cell.rollbacks for cell in cells)
            rows.append([situation.value, *map(str, (_total(cells), *late, *early, told))])
    head = ("deploys", "number", *_VERDICTS, "worse at 20", "better at 20", "named rollback")
    return format_markdown(head, rows)


def _alarms(results: Results) -> str:
    """Return the false alarms by environment and by the rhythm of the day."""
    harmless = results.select(Situation.HARMLESS)
    groups = [("all", harmless)]
    groups += [(each, results.select(Situation.HARMLESS, environment=each)) for each in _environments(harmless)]
    groups += [(f"rate {each} by itself", results.select(Situation.HARMLESS, drift=each)) for each in DRIFTS]
    return format_markdown(
        (
            "harmless deploys",
            "number",
            "worse, 60 minutes",
            "worse, either look",
            "better, 60 minutes",
            "better, either",
        ),
        [
            [
                name,
                str(_total(cells)),
                *(
                    _share(count(cells, numbers, verdict), cells)
                    for verdict in (Verdict.WORSE, Verdict.BETTER)
                    for numbers in (lambda cell: cell.late, lambda cell: cell.either)
                ),
            ]
            for name, cells in groups
            if cells
        ],
    )


def _found(results: Results) -> str:
    """Return the share of bad deploys that are found, by environment and by whether they brought new items."""
    bad = results.select(Situation.TWICE, Situation.FOUR_TIMES)
    rows = []
    for situation in (Situation.TWICE, Situation.FOUR_TIMES):
        for environment in _environments(bad):
            for new_items in (False, True):
                cells = results.select(situation, environment=environment, new_items=new_items)
                if not cells:
                    continue
                early, late = (
                    _share(count(cells, numbers, Verdict.WORSE), cells)
                    for numbers in (lambda cell: cell.early, lambda cell: cell.late)
                )
                kind = "with new items" if new_items else "of known items"
                name = f"{situation.value}, {kind}"
                rows.append([name, environment, _per_hour(cells), str(_total(cells)), early, late])
    head = ("deploys", "environment", "an hour before", "number", "worse, 20 minutes", "worse, 60 minutes")
    return format_markdown(head, rows)


def _environments(cells: Iterable[Cell]) -> list[str]:
    """Return the environments of some cells, the busiest first."""
    per_deploy: dict[str, list[int]] = {}
    for cell in cells:
        numbers = per_deploy.setdefault(cell.environment, [0, 0])
        numbers[0] += cell.occurrences_before
        numbers[1] += cell.deploys
    return sorted(per_deploy, key=lambda name: -per_deploy[name][0] / per_deploy[name][1])


def _total(cells: Iterable[Cell]) -> int:
    return sum(cell.deploys for cell in cells)


def _per_hour(cells: Sequence[Cell]) -> str:
    return f"{60 / _MINUTES_BEFORE * sum(cell.occurrences_before for cell in cells) / _total(cells):.0f}"


def _share(number: int, cells: Sequence[Cell]) -> str:
    return f"{number / _total(cells):.1%}"
