"""Results as text and as JSON."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from analytics_dagster_tests.benchmark.measurements import FLOOR, Measurement, Results, as_dicts
from analytics_dagster_tests.benchmark.thresholds import cost_of_the_limit, judged

_COLUMNS = ("scenario", "case", "contender", "seconds", "of", "rows/s", "peak MB", "requests", "/ floor", "")


def table(results: Results) -> str:
    """Return the measurements as an aligned table; `of` is the span of the rounds."""
    lines = [_COLUMNS, *(_cells(one, results.find(one.scenario, FLOOR, one.case)) for one in results.all)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(_COLUMNS))]
    left = {0, 2, len(_COLUMNS) - 1}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(one: Measurement, floor: Measurement | None) -> tuple[str, ...]:
    return (
        one.scenario,
        f"{one.case:,}" if one.case or one.scenario == "merge" else "",
        one.contender,
        f"{one.seconds:.2f}",
        f"{min(one.all_seconds):.2f}..{max(one.all_seconds):.2f}",
        f"{one.rows_per_second:,.0f}" if one.rows else "",
        f"{one.peak_mb:.0f}" if one.peak_mb else "",
        f"{one.requests:,.0f}" if one.requests else "",
        f"{one.seconds / floor.seconds:.2f}" if floor and floor is not one else "",
        ", ".join(f"{name} {value:g}" for name, value in one.figures.items()),
    )


def verdicts(results: Results, *, quick: bool) -> str:
    """Return the bars, each with its figure and whether it is met; small sizes are not judged."""
    lines = []
    for bar in judged(results):
        verdict = "not judged" if quick else "met" if bar["met"] else "NOT MET"
        lines.append(f"{verdict:>10}  {bar['name']}: {bar['figure']:g} {bar['unit']}, at most {bar['limit']:g}")
    if said := cost_of_the_limit(results):
        lines.append(f"{'':>10}  {said}")
    return "\n".join(lines)


def write(results: Results, file: Path) -> None:
    """Write the results as JSON, with what they were measured on."""
    libraries = ("dlt", "duckdb", "pyarrow", "orjson", "urllib3", "dagster")
    document = {
        "machine": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            **{name: version(name) for name in libraries},
        },
        "bars": judged(results),
        "measurements": as_dicts(results),
    }
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")
