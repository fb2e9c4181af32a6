"""A stand-in for the analytics API: an embedded HTTP server on loopback, whose rows change with the clock.

The package states the service's interface by itself, on the standard library alone, and imports nothing else of this
project: tests of the loader against the loader's own facts would be circular.

    with Sandbox(history_days=2) as sandbox:
        sandbox.fail_next("status", status=503, resource="items")
        sandbox.quirks.largest_limit = 100
        requests.get(f"{sandbox.url}/v1/items", headers={"api_key": PROJECT_KEY})

It serves several projects, each with a key and rows of its own:

    busy, empty = SandboxProject(name="busy", id=1010), SandboxProject(name="empty", id=1011, activity=0)
    with Sandbox(projects=[busy, empty]) as sandbox:
        sandbox.fail_next("status", status=503, times=9, project="busy")
        sandbox.project("empty").add_occurrences(3)
        sandbox.refuse("busy")

`python -m analytics_dagster.sandbox` serves it to other processes.
"""

from analytics_dagster.sandbox.embedded import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster.sandbox.model import Deploy, Surge
from analytics_dagster.sandbox.payload import PERSONAL_MARKERS, SECRET_MARKER
from analytics_dagster.sandbox.project import SandboxProject
from analytics_dagster.sandbox.project_rows import ProjectRows
from analytics_dagster.sandbox.quirks import Quirks
from analytics_dagster.sandbox.service import RecordedRequest

__all__ = [
    "ACCOUNT_KEY",
    "PERSONAL_MARKERS",
    "PROJECT_KEY",
    "SECRET_MARKER",
    "Deploy",
    "ProjectRows",
    "Quirks",
    "RecordedRequest",
    "Sandbox",
    "SandboxProject",
    "Surge",
]
