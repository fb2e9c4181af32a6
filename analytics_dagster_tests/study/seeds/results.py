"""What was found on the seeds: verdicts by what is true of the deploys, and every false alarm, as rows of JSON."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from analytics_dagster_tests.study.seeds.loading import Judged
from analytics_dagster_tests.study.seeds.truth import Situation
from analytics_dagster_tests.study.thresholds import FALSE_ALARMS
from analytics_dagster_tests.study.thresholds import Judged as Threshold

SAMPLE = (1, 2)
"""Seeds whose verdicts are written by themselves."""

DRIFTS = ("falling", "steady", "rising")
"""Whether the rhythm of the day alone lowers or raises the rate by a tenth or more from before a deploy to after it."""

_A_TENTH = 1.1
_CHANGES = ("worse", "better")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Numbers of deploys that have the same truth.

    Attributes:
        situation: What the deploys did, one of `Situation`.
        environment: Their environment.
        new_items: Whether they brought new items.
        drift: What the rhythm of the day did, one of `DRIFTS`.
        deploys: Deploys.
        occurrences_before: Occurrences in the two hours before, of all together.
        early: Deploys by verdict after 20 minutes.
        late: Deploys by verdict after 60 minutes.
        either: Deploys that are `worse`, and that are `better`, at either look.
        rollbacks: Deploys whose row says that they are rollbacks.
    """

    situation: str
    environment: str
    new_items: bool
    drift: str
    deploys: int
    occurrences_before: int
    early: dict[str, int]
    late: dict[str, int]
    either: dict[str, int]
    rollbacks: int


@dataclass(frozen=True, kw_only=True)
class FalseAlarm:
    """A harmless deploy, beside no bad one, that is `worse` or `better` at a look.

    Attributes:
        seed: The seed.
        environment: The environment.
        finish: Time of the finish, ISO 8601, UTC.
        early: The verdict after 20 minutes.
        verdict: The verdict after 60 minutes.
        before: Occurrences in the two hours before.
        after: Occurrences in the hour after.
        drift: Ratio of the rates after and before that the rhythm of the day alone makes.
        burst_before: The most occurrences of one item in one of the spells of ten minutes before.
        burst_after: The same after.
    """

    seed: int
    environment: str
    finish: str
    early: str
    verdict: str
    before: int
    after: int
    drift: float
    burst_before: int
    burst_after: int


@dataclass(frozen=True, kw_only=True)
class Results:
    """What was found on the seeds.

    Attributes:
        seeds: Number of seeds: those from 1 on.
        days: Days of history of each.
        cells: The verdicts.
        cells_of_sample: The verdicts of the seeds of `SAMPLE` alone, which a test finds again.
        false_alarms: The false alarms.
    """

    seeds: int
    days: int
    cells: Sequence[Cell]
    cells_of_sample: Sequence[Cell]
    false_alarms: Sequence[FalseAlarm]

    def select(self, *situations: str, **attributes: object) -> list[Cell]:
        """Return the cells of situations and of other attributes."""
        return [
            cell
            for cell in self.cells
            if cell.situation in situations and all(getattr(cell, name) == value for name, value in attributes.items())
        ]

    def write(self, file: Path, **more: object) -> None:
        """Write the results as JSON, a line for each row."""
        head = json.dumps({"seeds": self.seeds, "days": self.days, **more}, indent=1)[:-2]
        parts = [
            f' "{name}": [\n' + ",\n".join(f"  {json.dumps(asdict(row))}" for row in rows) + "\n ]"
            for name, rows in (
                ("cells", self.cells),
                ("cells_of_sample", self.cells_of_sample),
                ("false_alarms", self.false_alarms),
            )
        ]
        file.write_text(",\n".join((head, *parts)) + "\n}\n")


def read_results(file: Path) -> Results:
    """Read results from JSON."""
    document = json.loads(file.read_text())
    return Results(
        seeds=document["seeds"],
        days=document["days"],
        cells=[Cell(**cell) for cell in document["cells"]],
        cells_of_sample=[Cell(**cell) for cell in document["cells_of_sample"]],
        false_alarms=[FalseAlarm(**alarm) for alarm in document["false_alarms"]],
    )


def tabulate(judged: Sequence[Judged], *, seeds: int, days: int) -> Results:
    """Count verdicts by what is true of the deploys.

    Args:
        judged: The deploys of the seeds.
        seeds: Number of seeds.
        days: Days of history of each.
    """
    return Results(
        seeds=seeds,
        days=days,
        cells=count_verdicts(judged),
        cells_of_sample=count_verdicts([deploy for deploy in judged if deploy.seed in SAMPLE]),
        false_alarms=[_describe(deploy) for deploy in judged if _is_false_alarm(deploy)],
    )


def count_verdicts(judged: Sequence[Judged]) -> list[Cell]:
    """Return a cell for each combination of what is true of the deploys."""
    groups: dict[tuple[str, str, bool, str], list[Judged]] = {}
    for deploy in judged:
        key = (deploy.situation.value, deploy.environment, deploy.new_items, name_drift(deploy.drift))
        groups.setdefault(key, []).append(deploy)
    return [_count(group, *key) for key, group in sorted(groups.items())]


def name_drift(ratio: float) -> str:
    """Return which of `DRIFTS` a ratio of rates is."""
    if ratio >= _A_TENTH:
        return "rising"
    return "falling" if ratio <= 1 / _A_TENTH else "steady"


def count(cells: Sequence[Cell], numbers: Callable[[Cell], dict[str, int]], verdict: str) -> int:
    """Return the number of deploys of some cells that have a verdict."""
    return sum(numbers(cell).get(verdict, 0) for cell in cells)


def judge(results: Results) -> Iterator[Threshold]:
    """Return the thresholds: false alarms at either look, of all harmless deploys and by environment."""
    harmless = results.select(Situation.HARMLESS)
    places = {"all environments": harmless}
    for environment in sorted({cell.environment for cell in harmless}):
        places[environment] = results.select(Situation.HARMLESS, environment=environment)
    for verdict in _CHANGES:
        for place, cells in places.items():
            share = count(cells, lambda cell: cell.either, verdict) / sum(cell.deploys for cell in cells)
            yield Threshold(
                name=f"harmless deploys that are {verdict}",
                figure=round(share, 4),
                limit=FALSE_ALARMS,
                at_most=True,
                met=share <= FALSE_ALARMS,
                cell=place,
            )


def _count(group: Sequence[Judged], situation: str, environment: str, new_items: bool, drift: str) -> Cell:  # noqa: FBT001
    return Cell(
        situation=situation,
        environment=environment,
        new_items=new_items,
        drift=drift,
        deploys=len(group),
        occurrences_before=sum(deploy.before for deploy in group),
        early=dict(sorted(Counter(deploy.early for deploy in group).items())),
        late=dict(sorted(Counter(deploy.verdict for deploy in group).items())),
        either={verdict: sum(verdict in {deploy.early, deploy.verdict} for deploy in group) for verdict in _CHANGES},
        rollbacks=sum(deploy.is_rollback for deploy in group),
    )


def _is_false_alarm(deploy: Judged) -> bool:
    return deploy.situation is Situation.HARMLESS and not {deploy.early, deploy.verdict}.isdisjoint(_CHANGES)


def _describe(deploy: Judged) -> FalseAlarm:
    return FalseAlarm(
        seed=deploy.seed,
        environment=deploy.environment,
        finish=deploy.finish.isoformat(timespec="seconds"),
        early=deploy.early,
        verdict=deploy.verdict,
        before=deploy.before,
        after=deploy.after,
        drift=round(deploy.drift, 2),
        burst_before=deploy.burst_before,
        burst_after=deploy.burst_after,
    )
