"""The warehouse: location, lock, dlt pipeline, merge, load state and table statistics.

Nothing here imports the modules that extract rows; the lint rules forbid it.
"""
