"""An error-tracking analytics API in your warehouse, as Dagster assets loaded by dlt."""
