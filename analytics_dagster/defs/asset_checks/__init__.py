"""Asset checks: specs.py lists them, evaluations.py judges figures, definitions.py runs them in Dagster."""
