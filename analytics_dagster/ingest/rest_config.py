"""dlt's REST API configuration of the resources, made from the catalog and the settings.

Everything a request says is here: base URL, path, method, parameters, headers, authentication, selector, paginator.
Both readers take it from here. How pages are chosen and rows are typed does not belong here.
https://dlthub.com/docs/dlt-ecosystem/verified-sources/rest_api/basic

    source = rest_api_source(rest_api_config(load_settings()))
    dlt.pipeline("plain", destination="duckdb").run(source.with_resources("deploys"))
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import requests
from dlt.sources.helpers.requests import Client
from dlt.sources.helpers.rest_client.auth import AuthConfigBase
from dlt.sources.rest_api.typing import Endpoint, EndpointResource, RESTAPIConfig

from analytics_dagster.catalog import RESOURCES, Resource
from analytics_dagster.ingest.bounded_replies import BoundedAdapter, Limits
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.network import use_environment
from analytics_dagster.ingest.settings import Settings, load_settings
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY

HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate", "User-Agent": "analytics-dagster"}
"""Headers of every request, beside the key."""

RETRIED_STATUSES = (429, 500, 502, 503, 504)
RETRIES = 3
BACKOFF_FACTOR = 2.0
"""Seconds before the first retry; doubled for each further one. Specified, like the statuses and the retries."""


class ApiKeyHeader(AuthConfigBase):
    """Sends a key in a header. The key is read from `dlt.secrets` at the first request.

    dlt's own `api_key` authentication needs the key when the source is built, and definitions are built without one.

    Args:
        header: Name of the header.
        settings: Settings that hold the key, or are read again if they hold none.
        account: Whether to send the account's key rather than the project's.

    Attributes:
        header: Name of the header.
        setting: Name of the setting that supplies the key.
    """

    def __init__(self, header: str, settings: Settings, *, account: bool) -> None:
        super().__init__()
        self.header = header
        own = settings.projects.get(settings.project_name)
        self.setting = (
            "account_api_key" if account else f"projects.{settings.project_name}.api_key" if own else "api_key"
        )
        self._settings = settings
        self._account = account
        self.resolve()

    @property
    def key(self) -> str:
        """The key.

        Raises:
            SettingsError: There is no key, or it cannot stand in an HTTP header.
        """
        settings = self._settings
        if settings.sandbox:
            return ACCOUNT_KEY if self._account else PROJECT_KEY
        if not (settings.api_key or settings.projects):
            settings = load_settings()
        key = (settings.account_key if self._account else settings.api_key).get_secret_value()
        if not key:
            raise SettingsError(
                f"Several projects are set: choose one by settings.for_project(name). Known: "
                f"{', '.join(settings.project_names)}."
            )
        if not (key.isascii() and key.isprintable()):
            # The HTTP library would repeat the key in its own error.
            raise SettingsError(
                f"{self.setting} has characters that an HTTP header cannot hold. Check how it was pasted."
            )
        return key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header to a request."""
        request.headers[self.header] = self.key
        return request


def rest_api_config(
    settings: Settings,
    resources: Sequence[Resource] = RESOURCES,
    *,
    base_url: str | None = None,
    lookup_values: Sequence[int] = (),
) -> RESTAPIConfig:
    """Return the configuration of resources for dlt's `rest_api_source`. It holds no key and opens no connection.

    Args:
        settings: Paths, page sizes, the key's header, timeouts.
        resources: Resources to read; all by default.
        base_url: URL of the service, if it differs from the settings': the embedded sandbox's is known when it runs.
        lookup_values: Values that the body of a resource with a `lookup` asks for, such as counters of items.
    """
    retries = Client(
        request_timeout=settings.request_timeout,
        raise_for_status=False,
        status_codes=RETRIED_STATUSES,
        request_max_attempts=RETRIES + 1,
        request_backoff_factor=BACKOFF_FACTOR,
    )
    use_environment(retries.session, base_url or settings.base_url)
    for scheme in ("https://", "http://"):
        retries.session.mount(scheme, BoundedAdapter(reply_limits(settings)))
    # The key is in a header that requests would send along to another host.
    retries.session.max_redirects = 0
    return {
        "client": {
            "base_url": base_url or settings.base_url,
            "headers": HEADERS,
            "auth": cast("Any", ApiKeyHeader(settings.api_key_header, settings, account=False)),
            "session": retries.session,
        },
        "resource_defaults": {"primary_key": ["id"], "write_disposition": "merge"},
        "resources": [_resource(resource, settings, lookup_values) for resource in resources],
    }


def reply_limits(settings: Settings) -> Limits:
    """Return the bounds that the settings set to a reply."""
    return Limits(
        timeout=settings.request_timeout,
        reply_timeout=settings.reply_timeout,
        reply_bytes=settings.max_reply_megabytes * 1_000_000,
    )


def endpoint_of(config: RESTAPIConfig, resource: Resource) -> Endpoint:
    """Return the endpoint of a resource, with the client's headers and authentication where it has none of its own."""
    client = config["client"]
    configured = cast("Sequence[Mapping[str, Any]]", config["resources"])
    (own,) = (entry["endpoint"] for entry in configured if entry["name"] == resource.name)
    headers = {**(client.get("headers") or {}), **own.get("headers", {})}
    return cast("Endpoint", {"auth": client.get("auth"), **own, "headers": headers})


def _resource(resource: Resource, settings: Settings, lookup_values: Sequence[int]) -> EndpointResource:
    endpoint: Endpoint = {
        "path": settings.paths.get(resource.name, resource.path),
        "method": resource.method,
        "data_selector": ".".join(resource.rows_at),
        "paginator": "single_page",
    }
    if resource.paged:
        size = settings.page_size.get(resource.name, resource.page_size)
        endpoint["params"] = {"limit": size} if size else {}
        # The page after the last one is empty; replies hold no total.
        endpoint["paginator"] = {
            "type": "page_number",
            "base_page": 1,
            "page_param": "page",
            "total_path": None,
            "stop_after_empty_page": True,
        }
    if resource.lookup:
        endpoint["json"] = {resource.lookup.body_field: list(lookup_values)}
    if resource.account_key:
        endpoint["auth"] = cast("Any", ApiKeyHeader(settings.api_key_header, settings, account=True))
    return {"name": resource.name, "primary_key": list(resource.primary_key), "endpoint": endpoint}
