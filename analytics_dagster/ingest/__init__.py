"""Pure dlt: from the catalog's resources to tables in the warehouse. Runs without Dagster: see `load.py`.

docs/architecture.md walks through the modules in the order of the data.
"""
