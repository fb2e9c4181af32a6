"""Draws the false alarms and the power as SVG, with matplotlib, which is part of the extra `insights`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from analytics_dagster_tests.study.processes import STEADY
from analytics_dagster_tests.study.results import Cell, Results
from analytics_dagster_tests.study.thresholds import FALSE_ALARMS

COLOURS = {1: "#0b6e99", 3: "#0f7b6c", 8: "#d9730d", 20: "#a83279"}
"""Colour by variance per mean."""

# Text stays text and ids are the same in each run, so that a file changes with its figures alone.
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "deploy-impact", "font.family": "sans-serif", "font.size": 9}


def draw_plots(results: Results, folder: Path) -> list[Path]:
    """Draw both plots into a folder; return the files written."""
    files = []
    for name, draw in (("deploy-impact-alarms.svg", _draw_alarms), ("deploy-impact-power.svg", _draw_power)):
        with mpl.rc_context(_STYLE):
            figure = Figure(figsize=(9, 3.6), layout="constrained", facecolor="white")
            draw(figure, results)
            figure.savefig(folder / name, metadata={"Date": None})
        files.append(folder / name)
    return files


def _draw_alarms(figure: Figure, results: Results) -> None:
    """Draw a dot for each process and rate, by scenario: harmless deploys that are worse, and that are better."""
    limited = [cell for cell in results.cells if cell.limited]
    scenarios = list(dict.fromkeys(cell.scenario for cell in limited))
    for axes, verdict in zip(figure.subplots(1, 2, sharey=True), ("worse", "better"), strict=True):
        for variance, colour in COLOURS.items():
            cells = [cell for cell in limited if cell.variance == variance]
            places = [scenarios.index(cell.scenario) + _shift(variance) for cell in cells]
            shares = [getattr(cell, verdict) for cell in cells]
            axes.plot(places, shares, "o", markersize=2.5, color=colour, label=_label(variance))
        axes.axhline(FALSE_ALARMS, color="#6b6b6b", linewidth=1, linestyle="--")
        axes.set_xticks(range(len(scenarios)), [scenario.replace(", ", ",\n") for scenario in scenarios])
        axes.set_title(f"harmless deploys called {verdict}, at either look")
        _finish(axes, top=0.06)
    _add_legend(figure)


def _shift(variance: int) -> float:
    return 0.16 * (list(COLOURS).index(variance) - 1.5)


def _label(variance: int) -> str:
    return "Poisson" if variance == 1 else f"variance {variance} times the mean"


def _draw_power(figure: Figure, results: Results) -> None:
    """Draw the share of bad deploys that are found, by rate for two ratios, and by ratio for one rate."""
    cells = results.in_scenario(STEADY.name)
    rates = sorted({cell.rate for cell in cells})
    ratios = list(cells[0].found)
    by_two, by_four, by_ratio = figure.subplots(1, 3, sharey=True)
    for axes, ratio, title in ((by_two, "2", "twice the rate"), (by_four, "4", "four times the rate")):
        for variance, colour in COLOURS.items():
            same = [cell for cell in cells if cell.variance == variance]
            late = [_mean(cell.found[ratio] for cell in same if cell.rate == rate) for rate in rates]
            early = [_mean(cell.found_early[ratio] for cell in same if cell.rate == rate) for rate in rates]
            axes.plot(rates, late, color=colour, marker="o", markersize=3, label=_label(variance))
            axes.plot(rates, early, color=colour, linewidth=0.8, linestyle="--")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(rates))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlabel("occurrences an hour before")
        axes.set_title(f"found: {title}")
        _finish(axes, top=1.02)
    _draw_ratios(by_ratio, cells, ratios)
    _add_legend(figure)


def _draw_ratios(axes: Axes, cells: Sequence[Cell], ratios: Sequence[str]) -> None:
    for variance, colour in COLOURS.items():
        same = [cell for cell in cells if cell.variance == variance and cell.rate == 60]
        found = [_mean(cell.found[ratio] for cell in same) for ratio in ratios]
        axes.plot([float(ratio) for ratio in ratios], found, color=colour, marker="o", markersize=3)
    axes.set_xlabel("rate after per rate before")
    axes.set_title("found: from 60 an hour")
    _finish(axes, top=1.02)


def _mean(shares: Iterable[float]) -> float:
    values = list(shares)
    return sum(values) / len(values)


def _add_legend(figure: Figure) -> None:
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, frameon=False, loc="outside lower center", ncols=len(labels))


def _finish(axes: Axes, *, top: float) -> None:
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
