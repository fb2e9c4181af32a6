"""The code location: everything that `defs` defines, in one place."""

import dagster as dg
from dagster_dlt import DagsterDltResource

from analytics_dagster.defs.assets import ASSETS
from analytics_dagster.defs.jobs import JOBS
from analytics_dagster.defs.translator import SERVICE

defs = dg.Definitions(
    assets=[SERVICE, *ASSETS],
    jobs=JOBS,
    resources={"dlt": DagsterDltResource()},
    # Whatever loads takes its turn at the warehouse: a process for each step would only cost its start.
    executor=dg.in_process_executor,
)
