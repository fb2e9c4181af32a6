"""Configured values of the settings, found by dlt's configuration providers.

https://dlthub.com/docs/general-usage/credentials/setup

The values are text from the environment and typed from TOML; `settings.py` validates them:

    values = find_values(names, by_resource=["paths"], secrets=["api_key"])
    secret = find_secret("sources.analytics.api_key")
"""

import difflib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import dlt
from dlt.common.configuration.container import Container
from dlt.common.configuration.providers import ConfigProvider, EnvironProvider
from dlt.common.configuration.providers.toml import TomlProviderReadException
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext
from dlt.common.runtime.run_context import RunContext, active, switch_context

from analytics_dagster.catalog import RESOURCES
from analytics_dagster.ingest.errors import SettingsError

SECTION = "sources.analytics"
ENVIRONMENT_PREFIX = "SOURCES__ANALYTICS__"
PROJECTS = "projects"
"""The section of the projects, each with a key of its own."""
PROJECT_KEY = "api_key"
"""The only setting of a project."""

_RESOURCE_NAMES = tuple(resource.name for resource in RESOURCES)


@dataclass(frozen=True)
class FoundSecret:
    """A secret and the name under which it was found.

    Attributes:
        value: The value as it is configured.
        name: Name of the environment variable, or dotted path in a file or vault.
    """

    value: Any = field(repr=False)
    name: str


def find_values(
    names: Collection[str], *, by_resource: Collection[str], secrets: Collection[str], tolerant: bool = False
) -> dict[str, Any]:
    """Return the configured values that are not secret, by name of the setting.

    Args:
        names: Every setting.
        by_resource: The settings that have a value for each resource: their values are dicts by name of the resource.
        secrets: The settings that are secret: `find_secret` finds their values.
        tolerant: Return the values that can be read instead of raising an error.

    Raises:
        SettingsError: A file cannot be read, a name is unknown, or a secret is set in a file that is not for secrets.
    """
    try:
        use_project_root()
        _refuse_unknown_names(names, by_resource)
        _refuse_exposed_secrets(secrets)
    except SettingsError:
        if not tolerant:
            raise
    values = {name: _find(name) for name in names if name not in by_resource and name not in secrets}
    for name in by_resource:
        found = {resource: _find(f"{name}.{resource}") for resource in _RESOURCE_NAMES}
        values[name] = {resource: value for resource, value in found.items() if value is not None}
    return {name: value for name, value in values.items() if value is not None}


def find_secret(path: str) -> FoundSecret | None:
    """Return a secret by its dotted path, where `dlt.secrets` finds it; None if it is not set.

    dlt writes each value that it looks up as a configuration into the trace of a load, and no secret.
    """
    *sections, key = path.split(".")
    for provider in dlt.secrets.config_providers:
        value, name = provider.get_value(key, cast("type[Any]", dlt.secrets.default_type), "", *sections)
        if value is not None:
            return FoundSecret(value, name)
    return None


def find_project_keys() -> dict[str, FoundSecret]:
    """Return the keys of the projects, by the name of the project: `[sources.analytics.projects.<name>]`.

    The names come from the environment and the files of `.dlt`: a vault cannot list them.
    """
    paths = [path.split(".") for path in _configured_names() if path.startswith(f"{PROJECTS}.")]
    names = sorted({path[1] for path in paths})
    found = {name: find_secret(f"{SECTION}.{PROJECTS}.{name}.{PROJECT_KEY}") for name in names}
    return {name: secret for name, secret in found.items() if secret}


def project_root() -> Path:
    """Return the folder whose `.dlt` holds the configuration: the working directory, or the project's own."""
    here = Path.cwd()
    above_package = Path(__file__).resolve().parents[2]
    return here if (here / ".dlt").is_dir() or not (above_package / ".dlt").is_dir() else above_package


def use_project_root() -> None:
    """Let dlt find the configuration from wherever the process was started.

    Raises:
        SettingsError: A file of the configuration cannot be read.
    """
    root = project_root()
    try:
        context = active()
        elsewhere = "DLT_PROJECT_DIR" not in os.environ and Path(context.run_dir).resolve() != root
        if elsewhere or isinstance(context, _EnvironmentAlone):
            switch_context(str(root))
    except TomlProviderReadException as error:
        # dlt would raise this wherever it is used next, and definitions must load all the same.
        Container()[PluggableRunContext] = PluggableRunContext(_EnvironmentAlone(str(root)))
        reason = str(error).splitlines()[-1].removesuffix(".")
        raise SettingsError(f"{Path('.dlt') / error.file_name} cannot be read: {reason}. Correct the file.") from None


class _EnvironmentAlone(RunContext):
    """The context of a project whose files cannot be read."""

    def initial_providers(self) -> list[ConfigProvider]:
        return [EnvironProvider()]


def _find(name: str) -> Any:
    config: Any = dlt.config
    return config.get(f"{SECTION}.{name}")


def _refuse_unknown_names(names: Collection[str], by_resource: Collection[str]) -> None:
    for path in _configured_names():
        name, _, resource = path.partition(".")
        if name == PROJECTS:
            _require_project_key(path)
            continue
        if name not in names:
            raise SettingsError(f"There is no setting {SECTION}.{path}.{suggest(name, {*names, PROJECTS})}")
        if name in by_resource and resource not in _RESOURCE_NAMES:
            raise SettingsError(
                f"The setting {SECTION}.{path} must name a resource.{suggest(resource, _RESOURCE_NAMES)}"
            )


def _require_project_key(path: str) -> None:
    """Raise an error unless a path is that of a project's key."""
    _, name, *setting = f"{path}..".split(".")[:3]
    if setting != [PROJECT_KEY]:
        raise SettingsError(
            f"The setting {SECTION}.{path} is not known. A project has one: {SECTION}.{PROJECTS}.{name or '<name>'}."
            f"{PROJECT_KEY}."
        )


def _refuse_exposed_secrets(secrets: Collection[str]) -> None:
    for provider in dlt.config.config_providers:
        if provider.supports_secrets:
            continue
        if exposed := [path for path in _paths(_section(provider)) if path in secrets or path.startswith(PROJECTS)]:
            raise SettingsError(
                f"The setting {SECTION}.{exposed[0]} is secret. Move it from {provider.name} to .dlt/secrets.toml, "
                f"or to {ENVIRONMENT_PREFIX}{exposed[0].upper().replace('.', '__')}."
            )


def _configured_names() -> Iterator[str]:
    for variable in os.environ:
        if variable.startswith(ENVIRONMENT_PREFIX):
            yield variable.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
    for provider in dlt.config.config_providers:
        if provider.name == "Environment Variables":
            continue
        yield from _paths(_section(provider))


def _paths(section: dict[str, Any]) -> Iterator[str]:
    """Yield the dotted paths of the values in a section."""
    for name, value in section.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in _paths(value))
        else:
            yield name


def _section(provider: ConfigProvider) -> dict[str, Any]:
    section, _ = provider.get_value("analytics", cast("type[Any]", dict), "", "sources")
    return section or {}


def suggest(name: str, known: Collection[str]) -> str:
    """Return a sentence with the known name that is closest to a wrong one, or with all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {close[0]}?" if close else f" Known: {', '.join(sorted(known))}."
