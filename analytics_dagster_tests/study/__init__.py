"""How often the verdicts on deploys are right, on simulated counts: `python -m analytics_dagster_tests.study`.

- `processes` draws counts: how occurrences arrive, how their rate moves, and what a deploy adds.
- `simulation` judges simulated deploys with the rule that production runs, and counts verdicts.
- `results` holds the counts; `thresholds` judges them; `report` prints them, `plots` draws them.

docs/deploy-impact.md explains the results. The sandbox is not used: its rows are made apart from these processes.
pytest collects nothing here.
"""
