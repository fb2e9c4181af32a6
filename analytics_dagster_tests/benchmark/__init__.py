"""The cost of a load, compared with the fastest loader we could write: `python -m analytics_dagster_tests.benchmark`.

- `rows` and `server` prepare lists and serve them; `server_process` starts and controls the server's process.
- `loaders` are the loaders compared; `fastest_loader` is the one that the others are measured against, the floor.
- `project_loads` are the loads of several projects, which `sandbox_process` serves from a process of its own.
- `runs` runs a loader in a fresh process and reads the rows that landed.
- `scenarios` are the measurements, built on `bench`; `measurements` holds their results.
- `thresholds` judges the results, `report` prints and writes them, `plots` draws them.

docs/performance.md explains the results. pytest collects nothing here.
"""
