"""The REST API configuration: the specification, the edits that dlt forces on it, and the result in plain dlt."""

import gc
import traceback
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import dlt
import duckdb
import pytest
from dlt.common.configuration.exceptions import ConfigFieldMissingException
from dlt.common.exceptions import DictValidationException
from dlt.extract.exceptions import ResourceExtractionError
from dlt.sources.helpers.requests import Client
from dlt.sources.rest_api import rest_api_source

from analytics_dagster.catalog import RESOURCES, get_resource
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.rest_config import ApiKeyHeader, endpoint_of, rest_api_config
from analytics_dagster.ingest.settings import Settings, load_settings
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.http_replies import answering, replying
from analytics_dagster_tests.support.project import Project
from analytics_dagster_tests.support.service import truth

KEY = object()
"""Stands for `dlt.secrets["api_key"]` in the text below."""


def pages(limit: int) -> dict[str, Any]:
    return {"type": "page_number", "page_param": "page", "limit": limit}


SPECIFICATION: dict[str, Any] = {
    "client": {
        "base_url": "https://api.example.com",
        "auth": {"type": "api_key", "name": "api_key", "api_key": KEY, "location": "header"},
    },
    "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
    "resources": [
        {
            "name": "items",
            "endpoint": {"path": "/v1/items", "data_selector": "result.items", "paginator": pages(100)},
        },
        {
            "name": "occurrences",
            "endpoint": {"path": "/v1/occurrences", "data_selector": "result.instances", "paginator": pages(20)},
        },
        {
            "name": "items_metrics",
            "endpoint": {"path": "/v1/metrics/items", "method": "POST", "data_selector": "result.metrics"},
        },
        {
            "name": "deploys",
            "endpoint": {"path": "/v1/deploys", "data_selector": "result.deploys", "paginator": pages(20)},
        },
        {
            "name": "environments",
            "endpoint": {"path": "/v1/environments", "data_selector": "result.environments", "paginator": pages(20)},
        },
        {
            "name": "rql_jobs",
            "endpoint": {"path": "/v1/rql/jobs", "data_selector": "result.jobs", "paginator": pages(20)},
        },
        {
            "name": "top_active_items",
            "endpoint": {"path": "/v1/reports/top_active_items", "data_selector": "result.*.item"},
        },
        {"name": "projects", "endpoint": {"path": "/v1/projects", "data_selector": "result"}},
        {"name": "teams", "endpoint": {"path": "/v1/teams", "data_selector": "result"}},
        {"name": "users", "endpoint": {"path": "/v1/users", "data_selector": "result.users"}},
    ],
}
"""The specification, as it was written."""


def read_the_key_at_the_first_request(config: dict[str, Any]) -> None:
    """`dlt.secrets["api_key"]` raises where there is no key yet: definitions are built without one."""
    config["client"]["auth"] = ApiKeyHeader("api_key", Settings(base_url="https://api.example.com"), account=False)


def send_the_limit_as_a_parameter(config: dict[str, Any]) -> None:
    """dlt's paginators have no `limit`."""
    for resource in config["resources"]:
        if "paginator" in resource["endpoint"]:
            resource["endpoint"]["params"] = {"limit": resource["endpoint"]["paginator"].pop("limit")}


def end_at_the_empty_page(config: dict[str, Any]) -> None:
    """dlt expects the number of pages at `total`; replies have none."""
    for resource in config["resources"]:
        if "paginator" in resource["endpoint"]:
            resource["endpoint"]["paginator"] |= {"total_path": None, "stop_after_empty_page": True}


def count_pages_from_one(config: dict[str, Any]) -> None:
    """dlt counts pages from 0, the service from 1."""
    for resource in config["resources"]:
        if "paginator" in resource["endpoint"]:
            resource["endpoint"]["paginator"]["base_page"] = 1


EDITS: list[Callable[[dict[str, Any]], None]] = [
    read_the_key_at_the_first_request,
    send_the_limit_as_a_parameter,
    end_at_the_empty_page,
    count_pages_from_one,
]
"""The smallest edits with which dlt takes the specification and reads what it says."""


def edited(*edits: Callable[[dict[str, Any]], None], key: object = "a key") -> Any:
    config = deepcopy({name: part for name, part in SPECIFICATION.items() if name != "client"})
    client = SPECIFICATION["client"]
    config["client"] = {**client, "auth": {**client["auth"], "api_key": key}}
    for edit in edits:
        edit(config)
    return config


def _endpoint(config: dict[str, Any], name: str) -> dict[str, Any]:
    (endpoint,) = (resource["endpoint"] for resource in config["resources"] if resource["name"] == name)
    return endpoint


def read(config: Any, service: Sandbox, name: str) -> list[Any]:
    """Return the rows that plain dlt reads of a resource."""
    config["client"]["base_url"] = service.url
    if isinstance(config["client"]["auth"], ApiKeyHeader):
        config["client"]["auth"] = ApiKeyHeader(
            "api_key", Settings(base_url=service.url, api_key=PROJECT_KEY), account=False
        )
    else:
        config["client"]["auth"]["api_key"] = PROJECT_KEY
    with Client(raise_for_status=False).session as config["client"]["session"]:
        return list(rest_api_source(config).resources[name])


# -- the specification ----------------------------------------------------------------------------------------


def test_with_all_edits_dlt_reads_what_the_specification_says(service: Sandbox) -> None:
    assert rest_api_source(edited(*EDITS)).resources.keys() == {resource.name for resource in RESOURCES}
    for name in ("items", "deploys", "environments", "rql_jobs", "top_active_items"):
        assert {row["id"] for row in read(edited(*EDITS), service, name)} == truth(service, name)


@pytest.mark.usefixtures("project")
def test_the_key_of_the_specification_fails_where_there_is_none() -> None:
    with pytest.raises(ConfigFieldMissingException):
        edited(key=dlt.secrets["api_key"])


def test_the_limit_of_the_specification_is_refused() -> None:
    with pytest.raises(DictValidationException, match="limit"):
        rest_api_source(edited(*(edit for edit in EDITS if edit is not send_the_limit_as_a_parameter)))


def test_without_an_end_the_first_page_fails(service: Sandbox) -> None:
    with pytest.raises(ResourceExtractionError, match="total"):
        read(edited(*(edit for edit in EDITS if edit is not end_at_the_empty_page)), service, "deploys")


def test_pages_counted_from_zero_are_refused(service: Sandbox) -> None:
    config = edited(*(edit for edit in EDITS if edit is not count_pages_from_one))
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        with pytest.raises(ResourceExtractionError, match="422"):
            read(config, service, "deploys")
        gc.collect()  # dlt's client leaves the connection of a refused request open


def test_the_configuration_is_the_specification_with_those_edits_and_what_was_learned_since() -> None:
    """Learned: rows of metrics have no id, counts stand beside the item, teams come in pages, accounts have a key."""
    specified: Any = edited(*EDITS)
    ours: Any = rest_api_config(Settings(base_url="https://api.example.com"))
    assert ours["client"]["base_url"] == specified["client"]["base_url"]
    assert (ours["client"]["auth"].header, ours["client"]["auth"].setting) == ("api_key", "api_key")
    assert ours["resource_defaults"] == {"primary_key": ["id"], "write_disposition": "merge"}

    learned = {
        ("items_metrics", "json"): {"item_counters": []},
        ("top_active_items", "data_selector"): "result",
        ("teams", "paginator"): {**_endpoint(specified, "deploys")["paginator"]},
        ("teams", "params"): {},
    }
    for resource in ours["resources"]:
        name, endpoint = resource["name"], dict(resource["endpoint"])
        auth = endpoint.pop("auth", None)
        assert (auth is not None) == (name in {"projects", "teams", "users"})
        assert auth is None or auth.setting == "account_api_key"
        expected = {"method": "GET", "paginator": "single_page"} | _endpoint(specified, name)
        expected |= {field: value for (of, field), value in learned.items() if of == name}
        assert endpoint == expected
    keys = {resource["name"]: resource["primary_key"] for resource in ours["resources"]}
    assert {name: key for name, key in keys.items() if key != ["id"]} == {
        "items_metrics": ["project_id", "item_counter"],
        "top_active_items": ["snapshot_at", "id"],
    }


# -- the configuration ----------------------------------------------------------------------------------------


def test_settings_change_the_configuration() -> None:
    settings = Settings(
        base_url="https://api.example.com",
        api_key_header="X-Access-Token",
        paths={"deploys": "/api/1/deploys"},
        page_size={"deploys": 500},
    )
    config = rest_api_config(settings, [get_resource("deploys")], base_url="http://127.0.0.1:1")
    endpoint: Any = endpoint_of(config, get_resource("deploys"))

    assert config["client"]["base_url"] == "http://127.0.0.1:1"
    assert (endpoint["path"], endpoint["params"]) == ("/api/1/deploys", {"limit": 500})
    assert endpoint["auth"].header == "X-Access-Token"


def test_counters_are_an_argument() -> None:
    items_metrics = get_resource("items_metrics")
    config = rest_api_config(Settings(), [items_metrics], lookup_values=[58, 61])
    assert endpoint_of(config, items_metrics)["json"] == {"item_counters": [58, 61]}


def test_the_key_is_read_at_the_first_request(project: Project, service: Sandbox) -> None:
    project.set(base_url=service.url)
    config = rest_api_config(load_settings(need_key=False))
    with config["client"]["session"]:
        with pytest.raises(ResourceExtractionError, match="No api_key is set"):
            list(rest_api_source(config).resources["deploys"])

        project.set(api_key=PROJECT_KEY, account_api_key=ACCOUNT_KEY)

        for name in ("deploys", "teams"):
            assert {row["id"] for row in rest_api_source(config).resources[name]} == truth(service, name)
    assert {request.key for request in service.requests} == {"project", "account"}


@pytest.mark.parametrize("key", ["“pasted-with-quotes”", "two\nlines"])
def test_a_key_that_no_header_can_hold_is_an_error_that_does_not_show_it(key: str) -> None:
    auth = ApiKeyHeader("api_key", Settings(base_url="https://api.example.com", api_key=key), account=False)
    with pytest.raises(SettingsError, match="api_key has characters") as caught:
        auth.key  # noqa: B018 - reading it raises

    assert key not in "".join(traceback.format_exception(caught.value))


def test_the_configuration_runs_in_plain_dlt(project: Project, service: Sandbox, tmp_path: Path) -> None:
    project.use(service)
    names = ("items", "deploys", "environments", "rql_jobs", "projects", "teams", "users")
    config = rest_api_config(load_settings())
    pipeline = dlt.pipeline(
        "plain",
        destination=dlt.destinations.duckdb(str(tmp_path / "plain.duckdb")),
        dataset_name="raw",
        pipelines_dir=str(tmp_path),
    )

    with config["client"]["session"]:
        pipeline.run(rest_api_source(config).with_resources(*names))

    with duckdb.connect(str(tmp_path / "plain.duckdb"), read_only=True) as connection:
        for name in names:
            ids = {row[0] for row in connection.execute(f"SELECT id FROM raw.{name}").fetchall()}
            assert ids == truth(service, name)


def test_in_plain_dlt_no_key_follows_a_redirect_to_another_host() -> None:
    settings = Settings(base_url="https://api.example.com", api_key="a key")
    asked: list[str] = []

    def elsewhere() -> tuple[int, dict[str, str], bytes]:
        asked.append("elsewhere")
        return 200, {}, b'{"err":0,"result":{"users":[]}}'

    with answering(elsewhere) as other, replying(b"", 302, {"Location": f"{other}/v1/users"}) as url:
        config = rest_api_config(settings, [get_resource("users")], base_url=url)
        with config["client"]["session"], pytest.raises(ResourceExtractionError, match="redirects"):
            list(rest_api_source(config).resources["users"])

    assert asked == []
