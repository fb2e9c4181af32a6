"""The picture of the last two days: occurrences per ten minutes, and deploys as vertical marks.

    image = draw([Panel(title="production", counts=counts, marks=marks)], start=start, end=end)

Needs the extra `insights`. The background is transparent and every colour is of middle lightness, so that the picture
can be read on a light and on a dark page. https://matplotlib.org/stable/users/explain/figure/backends.html
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from analytics_dagster.ingest.windows import midnight
from analytics_dagster.insights.counts import TEN_MINUTES
from analytics_dagster.insights.verdicts import Verdict

_GREY, _BLUE, _RED, _GREEN = "#7c7c7c", "#3f83d6", "#e0413d", "#2f9e5b"
_COLOURS = {Verdict.WORSE: _RED, Verdict.BETTER: _GREEN}
_WIDTH, _HEIGHT, _DOTS = 9.0, 1.9, 100
"""Width, and height of a panel, in inches; dots per inch."""

_TICKS = timedelta(hours=6)

_PALETTE = 16
"""Colours of the file: the picture has few, and their number decides its size."""

LARGEST = 15_000
"""Bytes of the file, which are 20 KB as text: Dagster keeps one in each event."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A deploy in the picture.

    Attributes:
        at: The time of its finish.
        verdict: Its verdict.
        lines: Text beside it: the revision and the items that it is suspected of.
    """

    at: datetime
    verdict: Verdict
    lines: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The plot of one environment.

    Attributes:
        title: Name of the environment.
        counts: Occurrences in each ten minutes from the start on; None where they are not loaded.
        marks: The deploys.
    """

    title: str
    counts: Sequence[int | None]
    marks: Sequence[Mark]


def draw(panels: Sequence[Panel], *, start: datetime, end: datetime) -> bytes:
    """Return the picture as a PNG file, of the first panels that fit into it.

    Args:
        panels: The environments, from the top down; at least one.
        start: The time at which the counts begin, UTC.
        end: The time at which they end, UTC.
    """
    for count in range(len(panels), 1, -1):
        if len(image := _draw_file(panels[:count], start, end)) <= LARGEST:
            return image
    return _draw_file(panels[:1], start, end)


def _draw_file(panels: Sequence[Panel], start: datetime, end: datetime) -> bytes:
    figure = Figure(figsize=(_WIDTH, _HEIGHT * len(panels) + 0.3), dpi=_DOTS, layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, panel, start, end)
    rendered = io.BytesIO()
    with warnings.catch_warnings():
        # A title may have letters that the font lacks: they show as boxes.
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(rendered, format="png", transparent=True)
    rendered.seek(0)
    with Image.open(rendered) as image:
        reduced = image.convert("RGBA").quantize(_PALETTE, method=Image.Quantize.FASTOCTREE)
    compressed = io.BytesIO()
    reduced.save(compressed, "PNG", optimize=True)
    return compressed.getvalue()


def _draw_panel(axis: Axes, panel: Panel, start: datetime, end: datetime) -> None:
    times = [_position(start + TEN_MINUTES * number) for number in range(len(panel.counts))]
    counts = [float("nan") if count is None else count for count in panel.counts]
    # Without smooth edges, whose shades would be half of the file.
    axis.fill_between(times, counts, step="post", color=_BLUE, linewidth=0, antialiased=False)
    top = max((count for count in panel.counts if count), default=1)
    axis.set_ylim(0, top * 1.25)
    axis.set_xlim(_position(start), _position(end))
    for mark in panel.marks:
        colour = _COLOURS.get(mark.verdict, _GREY)
        worse = mark.verdict is Verdict.WORSE
        axis.axvline(_position(mark.at), color=colour, linewidth=2.0 if worse else 1.0, linestyle="-" if worse else ":")
        if mark.lines:
            late = mark.at > start + (end - start) * 0.6
            axis.annotate(
                "\n".join(mark.lines),
                (_position(mark.at), top * 1.2),
                xytext=(-5 if late else 5, 0),
                textcoords="offset points",
                ha="right" if late else "left",
                va="top",
                fontsize=8,
                fontweight="bold",
                color=colour,
                parse_math=False,
            )
    axis.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=_GREY, parse_math=False)
    axis.tick_params(colors=_GREY, labelsize=8)
    ticks = [midnight(start.date()) + _TICKS * number for number in range((end - start) // _TICKS + 5)]
    ticks = [tick for tick in ticks if start <= tick <= end]
    axis.set_xticks([_position(tick) for tick in ticks], [f"{tick:%H:%M\n%b %d}" for tick in ticks])
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(_GREY)


def _position(moment: datetime) -> float:
    """Return a time in hours, as a coordinate."""
    return moment.timestamp() / 3600
