"""The request to read one resource, which both readers take: `fast_reader.py` and `rest_api_reader.py`.

`source.py` chooses the reader by the setting `reader`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dlt.sources.rest_api.typing import RESTAPIConfig

from analytics_dagster.catalog import Resource
from analytics_dagster.ingest.client import Traffic
from analytics_dagster.ingest.rest_config import rest_api_config
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.ingest.windows import Window


@dataclass(frozen=True, kw_only=True)
class ReadRequest:
    """A request to read one resource.

    Attributes:
        resource: The resource.
        settings: How to reach the service.
        window: Rows wanted, by cursor, lookback included; None for all.
        now: When the load began, UTC.
        lookup_values: Values that the request's body asks for, where the resource has a `lookup`.
        known_key: The largest key of rows that earlier loads covered; None if keys do not grow, or none was covered.
        traffic: Counts requests, retries and waits while pages are read.
    """

    resource: Resource
    settings: Settings
    window: Window | None
    now: datetime
    lookup_values: Sequence[int] = ()
    known_key: int | None = None
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def label(self) -> str:
        """The resource, and the project if there are several, as sentences name them."""
        return self.settings.label(self.resource)

    def configs(self, base_url: str) -> list[RESTAPIConfig]:
        """Return a configuration for each list to read: one, or one for each batch of lookup values."""
        lookup, values = self.resource.lookup, self.lookup_values
        size = lookup.batch_size if lookup else 1
        batches = [values[first : first + size] for first in range(0, len(values), size)] if lookup else [()]
        return [
            rest_api_config(self.settings, [self.resource], base_url=base_url, lookup_values=batch) for batch in batches
        ]
