"""Answers that need more than one table, above the tables that `ingest` loads. Runs without Dagster.

docs/deploy-impact.md explains the verdicts on deploys.
"""
