"""Formats results as text, and writes them as JSON."""

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

from analytics_dagster_tests.benchmark.measurements import FLOOR, Measurement, Results, as_dicts
from analytics_dagster_tests.benchmark.thresholds import describe_memory_limit, judge

_COLUMNS = ("scenario", "case", "loader", "seconds", "of", "rows/s", "peak MB", "requests", "/ floor", "")


def format_table(results: Results) -> str:
    """Return the measurements as an aligned table; the column `of` is the span of the rounds."""
    lines = [_COLUMNS, *(_cells(each, results.find(each.scenario, FLOOR, each.case)) for each in results.all)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    left_aligned = {0, 2, len(_COLUMNS) - 1}
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in left_aligned else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(measurement: Measurement, floor: Measurement | None) -> tuple[str, ...]:
    return (
        measurement.scenario,
        f"{measurement.case:,}" if measurement.case or measurement.scenario == "merge" else "",
        measurement.loader,
        f"{measurement.seconds:.2f}",
        f"{min(measurement.all_seconds):.2f}..{max(measurement.all_seconds):.2f}",
        f"{measurement.rows_per_second:,.0f}" if measurement.rows else "",
        f"{measurement.peak_mb:.0f}" if measurement.peak_mb else "",
        f"{measurement.requests:,.0f}" if measurement.requests else "",
        f"{measurement.slowness(floor):.2f}" if floor and floor is not measurement else "",
        ", ".join(f"{name} {value:g}" for name, value in measurement.figures.items()),
    )


def format_verdicts(results: Results, *, quick: bool) -> str:
    """Return a line for each threshold: its figure, and whether it is met. Figures of a quick run are not judged."""
    lines = []
    for verdict in judge(results):
        outcome = "not judged" if quick else "met" if verdict["met"] else "NOT MET"
        lines.append(
            f"{outcome:>10}  {verdict['name']}: {verdict['figure']:g} {verdict['unit']}, at most {verdict['limit']:g}"
        )
    if sentence := describe_memory_limit(results):
        lines.append(f"{'':>10}  {sentence}")
    return "\n".join(lines)


def write_results(results: Results, file: Path) -> None:
    """Write the results as JSON, with their verdicts, the machine and the versions of the libraries."""
    libraries = ("dlt", "duckdb", "pyarrow", "orjson", "urllib3", "dagster")
    document = {
        "machine": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            **{name: version(name) for name in libraries},
        },
        "thresholds": judge(results),
        "measurements": as_dicts(results),
    }
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n")
