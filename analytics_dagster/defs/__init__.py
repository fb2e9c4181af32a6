"""Dagster definitions, a module per concept. What a load does is in `ingest`; here is only when, and how it shows."""
