"""Formats results: as text, and as the tables of docs/deploy-impact.md."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from analytics_dagster_tests.study.processes import DAILY_RHYTHM, STEADY
from analytics_dagster_tests.study.results import Cell, Results
from analytics_dagster_tests.study.thresholds import Judged

_COLUMNS = ("scenario", "process", "an hour", "worse", "better", "too few", "x2 at 20", "x2", "x4 at 20", "x4", "sees")
_LEFT_ALIGNED = 2


def format_table(results: Results) -> str:
    """Return a line for each cell: shares in percent, and the median of the smallest ratio that the verdicts state."""
    lines = [_COLUMNS, *(_cells(cell) for cell in results.cells)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < _LEFT_ALIGNED else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cells(cell: Cell) -> tuple[str, ...]:
    return (
        cell.scenario,
        cell.process,
        str(cell.rate),
        *(
            "" if share is None else f"{100 * share:.1f}"
            for share in (
                cell.worse,
                cell.better,
                cell.too_few,
                cell.found_early.get("2"),
                cell.found.get("2"),
                cell.found_early.get("4"),
                cell.found.get("4"),
            )
        ),
        f"{cell.smallest_ratio:.2f}" if cell.smallest_ratio else "",
    )


def format_thresholds(judged: Iterable[Judged]) -> str:
    """Return a line for each threshold: its worst cell, and whether it is met."""
    return "\n".join(
        f"{'met' if each.met else 'NOT MET':>10}  {each.name}: {each.figure:.1%}, "
        f"at {'most' if each.at_most else 'least'} {each.limit:.0%} ({each.cell})"
        for each in judged
    )


def current(document: str, results: Results) -> str:
    """Return the text of docs/deploy-impact.md with its generated tables as they should be."""
    tables = {
        "alarms": _alarms(results),
        "power": _power(results, STEADY.name),
        "power by day and night": _power(results, DAILY_RHYTHM.name),
        "falls": _falls(results),
    }
    return replace_tables(document, tables)


def replace_tables(document: str, tables: Mapping[str, str]) -> str:
    """Return a document with the tables between its comments `<!-- name: … -->` and `<!-- /name -->` replaced."""
    for name, table in tables.items():
        pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        document, replaced = pattern.subn(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", document)
        assert replaced == 1, name
    return document


def _alarms(results: Results) -> str:
    """Return the mean and the worst cell of each scenario."""
    rows = []
    for scenario in dict.fromkeys(cell.scenario for cell in results.cells):
        cells = results.in_scenario(scenario)
        row = [scenario]
        for figure in (lambda cell: cell.worse, lambda cell: cell.better):
            worst = max(cells, key=figure)
            row += [f"{_mean(cells, figure):.1%}", f"{figure(worst):.1%}: {worst.process}, {worst.rate} an hour"]
        rows.append(row)
    return format_markdown(("scenario", "worse, mean", "worse, worst case", "better, mean", "better, worst case"), rows)


def _power(results: Results, scenario: str) -> str:
    """Return what is found after 20 and 60 minutes, by variance and ratio, for each rate; the mean of the processes."""

    def found(cells: Sequence[Cell], ratio: str) -> str:
        shares = (_mean(cells, lambda cell: cell.found_early[ratio]), _mean(cells, lambda cell: cell.found[ratio]))
        return ", ".join(f"{100 * share:.0f}" for share in shares)

    return _by_variance(
        results, scenario, [(f"{ratio} times", lambda cells, ratio=ratio: found(cells, ratio)) for ratio in ("2", "4")]
    )


def _falls(results: Results) -> str:
    """Return the share of falls that are found after 60 minutes."""

    def found(cells: Sequence[Cell], ratio: str) -> str:
        return f"{100 * _mean(cells, lambda cell: cell.found_falls[ratio]):.0f}"

    return _by_variance(
        results,
        STEADY.name,
        [("half", lambda cells: found(cells, "0.5")), ("a quarter", lambda cells: found(cells, "0.25"))],
    )


def _by_variance(
    results: Results, scenario: str, figures: Sequence[tuple[str, Callable[[Sequence[Cell]], str]]]
) -> str:
    cells = results.in_scenario(scenario)
    rates = list(dict.fromkeys(cell.rate for cell in cells))
    rows = [
        [
            name,
            "Poisson" if variance == 1 else f"{variance} times the mean",
            *(figure([cell for cell in cells if (cell.variance, cell.rate) == (variance, rate)]) for rate in rates),
        ]
        for name, figure in figures
        for variance in dict.fromkeys(cell.variance for cell in cells)
    ]
    return format_markdown(("rate after", "variance", *(f"{rate} an hour" for rate in rates)), rows)


def _mean(cells: Sequence[Cell], figure: Callable[[Cell], float]) -> float:
    return sum(figure(cell) for cell in cells) / len(cells)


def format_markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
