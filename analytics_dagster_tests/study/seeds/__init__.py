"""How often the verdicts are right on the sandbox's deploys: `python -m analytics_dagster_tests.study.seeds`.

- `truth` says from the sandbox what each deploy did to the errors, and what else happened around it.
- `loading` loads seeds of the sandbox with the assets, and computes the verdicts with the assets of the insights.
- `results` counts verdicts by what is true; `report` makes the tables of docs/deploy-impact.md.

The rule was made on simulated counts (the package above), and nothing of it is adapted to what is found here.
"""
