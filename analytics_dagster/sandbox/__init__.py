"""A stand-in for the analytics API: an embedded HTTP server on loopback, with data that lives.

It spells the service's interface out by itself, on the standard library alone, and imports nothing else of
this project: tests against it would be circular otherwise. `python -m analytics_dagster.sandbox` serves it to
other processes.
"""

from analytics_dagster.sandbox.embedded import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster.sandbox.payload import PERSONAL_MARKERS, SECRET_MARKER
from analytics_dagster.sandbox.service import RecordedRequest

__all__ = ["ACCOUNT_KEY", "PERSONAL_MARKERS", "PROJECT_KEY", "SECRET_MARKER", "RecordedRequest", "Sandbox"]
