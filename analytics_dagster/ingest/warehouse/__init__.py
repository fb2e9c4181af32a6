"""The warehouse: its location, lock, dlt pipeline, the state kept beside the rows, and the figures of its tables."""
