"""Line plots as SVG, with two logarithmic axes. The standard library is enough for two plots.

(folder / "plot.svg").write_text(plot("Title", "rows", {"seconds": [(10, 0.2), (100, 1.9)]}))
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from analytics_dagster_tests.benchmark.measurements import BY_PAGE, FLOOR, IN_PIECES, OURS, UNLIMITED, Results

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 596, 40, 344
FONT = 'font-family="sans-serif" font-size="12"'
COLOURS = ("#0b6e99", "#d9730d", "#6b6b6b", "#0f7b6c")

Series = Mapping[str, Sequence[tuple[float, float]]]


def draw_plots(results: Results, folder: Path) -> list[Path]:
    """Draw each plot for which the results have at least two points of every series; return the files written."""
    rows = {
        f"{loader}, {unit}": [(each.case, getattr(each, field)) for each in results.by_case("scale", loader)]
        for field, unit, loaders in (("seconds", "s", (OURS, UNLIMITED, FLOOR)), ("peak_mb", "MB", (OURS,)))
        for loader in loaders
    }
    depths = {
        f"{field}, {reader}": [(each.case, getattr(each, field)) for each in results.by_case("depth", loader)]
        for field in ("requests", "seconds")
        for reader, loader in (("by key", OURS), ("by page", BY_PAGE))
    }
    year = results.find("year", IN_PIECES)
    rates = [(number, rate) for number, rate in enumerate(year.figures.values(), start=2)] if year else []
    written = []
    for name, title, x_label, series in (
        ("performance-rows.svg", "Cost against rows, 1000 a page", "rows", rows),
        ("performance-year.svg", "A year into 10,000,000 rows", "piece of 200,000 rows", {"rows a second": rates}),
        ("performance-depth.svg", "One hour's window below the newest page", "pages below the newest", depths),
    ):
        if all(len(points) > 1 for points in series.values()):
            (folder / name).write_text(plot(title, x_label, series))
            written.append(folder / name)
    return written


def plot(title: str, x_label: str, series: Series) -> str:
    """Return an SVG document with a line for each series."""
    points = [point for line in series.values() for point in line]
    x_axis, y_axis = _Axis(LEFT, RIGHT, [x for x, _ in points]), _Axis(BOTTOM, TOP, [y for _, y in points])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="{RIGHT}" y="{BOTTOM + 34}" text-anchor="end" fill="#555">{escape(x_label)}</text>',
    ]
    for value in x_axis.powers():
        x = x_axis.position(value)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{BOTTOM}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{BOTTOM + 18}" text-anchor="middle" fill="#555">{value:,.12g}</text>')
    for value in y_axis.powers():
        y = y_axis.position(value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{value:,.12g}</text>')
    for number, (name, line) in enumerate(series.items()):
        parts += _line(name, [(x_axis.position(x), y_axis.position(y)) for x, y in line], number)
    return "\n".join([*parts, "</svg>", ""])


def _line(name: str, points: Sequence[tuple[float, float]], number: int) -> Iterator[str]:
    colour = COLOURS[number % len(COLOURS)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    x = LEFT + 12 + number * 140
    yield f'<rect x="{x}" y="{HEIGHT - 18}" width="10" height="10" fill="{colour}"/>'
    yield f'<text x="{x + 15}" y="{HEIGHT - 9}">{escape(name)}</text>'


class _Axis:
    """A logarithmic axis whose ends are powers of ten, and whose range contains all values."""

    def __init__(self, start: float, end: float, values: Sequence[float]) -> None:
        positive = [value for value in values if value > 0]
        self._start, self._end = start, end
        self._low = math.floor(math.log10(min(positive)))
        self._high = max(math.ceil(math.log10(max(positive))), self._low + 1)

    def position(self, value: float) -> float:
        """Return the coordinate of a value."""
        share = (math.log10(max(value, 10**self._low)) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)

    def powers(self) -> list[float]:
        """Return the powers of ten on the axis."""
        return [10.0**power for power in range(self._low, self._high + 1)]
