"""What a study found: a cell for each scenario, process and rate, as rows of JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The verdicts on simulated deploys of one scenario, process and rate. Figures are shares of the deploys.

    Attributes:
        scenario: Name of the scenario.
        process: Name of the process.
        variance: Variance of the counts of ten minutes, per mean.
        rate: Occurrences an hour, on average.
        limited: Whether the false alarms must stay below the limit.
        worse: False alarms: harmless deploys that are `worse` at either look.
        better: Harmless deploys that are `better` at either look.
        too_few: Harmless deploys that are `too few` after 60 minutes.
        found_early: By ratio, deploys that raise the rate so and are `worse` after 20 minutes.
        found: By ratio, those that are `worse` after 60 minutes.
        found_at_either: By ratio, those that are `worse` at either look, as false alarms are counted.
        found_falls: By ratio, deploys that lower the rate so and are `better` after 60 minutes.
        found_new_item: By share of the earlier rate, deploys that add a new item so frequent and are `worse`.
        smallest_ratio: Median of the smallest ratio that the verdicts state after 60 minutes.
    """

    scenario: str
    process: str
    variance: int
    rate: int
    limited: bool
    worse: float
    better: float
    too_few: float
    found_early: dict[str, float] = field(default_factory=dict)
    found: dict[str, float] = field(default_factory=dict)
    found_at_either: dict[str, float] = field(default_factory=dict)
    found_falls: dict[str, float] = field(default_factory=dict)
    found_new_item: dict[str, float] = field(default_factory=dict)
    smallest_ratio: float | None = None


@dataclass(frozen=True, kw_only=True)
class Results:
    """The cells of a study, and how many deploys each has."""

    deploys: int
    seed: int
    cells: Sequence[Cell]

    def in_scenario(self, name: str) -> list[Cell]:
        """Return the cells of a scenario, in their order."""
        return [cell for cell in self.cells if cell.scenario == name]

    def write(self, file: Path, **more: object) -> None:
        """Write the results as JSON, a line for each cell, without the figures that a cell lacks."""
        head = json.dumps({"deploys": self.deploys, "seed": self.seed, **more}, indent=1)
        cells = [
            {name: figure for name, figure in asdict(cell).items() if figure not in ({}, None)} for cell in self.cells
        ]
        rows = ",\n".join(f"  {json.dumps(cell)}" for cell in cells)
        file.write_text(f'{head[:-2]},\n "cells": [\n{rows}\n ]\n}}\n')


def read_results(file: Path) -> Results:
    """Read results from JSON."""
    document = json.loads(file.read_text())
    return Results(
        deploys=document["deploys"], seed=document["seed"], cells=[Cell(**cell) for cell in document["cells"]]
    )
