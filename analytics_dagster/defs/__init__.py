"""Dagster definitions, one module for each concept of Dagster; the loads themselves are in `ingest`.

https://docs.dagster.io/getting-started/concepts
"""
