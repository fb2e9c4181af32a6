"""What a load costs, beside the fastest loop one can write: `python -m analytics_dagster_tests.benchmark`.

`rows` are the rows, `server` serves them from a process of its own, `server_process` starts and steers that process.
`loaders` are the loads compared, each run in a fresh process by `runs`, which also compares what landed with what was
served. `scenarios` puts them together, `thresholds` says what is good enough, `report` prints, `plots` draws.
How to read the results is in `docs/performance.md`. Nothing here is collected by pytest.
"""
