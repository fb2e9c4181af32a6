"""Asset checks of every table.

`specs.py` lists the checks, `inputs.py` gathers their figures, `evaluations.py`, `freshness.py` and `row_count.py` turn
figures into results, `multi_asset_check.py` runs them in Dagster.
https://docs.dagster.io/guides/test/asset-checks
"""
