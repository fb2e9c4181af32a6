"""Pure dlt: from the catalog's rows to tables in the warehouse. Runs without Dagster; see `load.py` for how.

`settings` → `connection` → `client` fetches pages, `walk` says which, `transport` shows both to dlt's REST client,
`rows` types what comes, `source` puts it together for dlt, `warehouse` is where it goes, `load` does it all.
"""
