"""Settings: names, defaults and meanings, and how they are read from dlt's configuration.

They stand under `[sources.analytics]` in `.dlt/config.toml` (the two keys in `.dlt/secrets.toml`), or in environment
variables such as `SOURCES__ANALYTICS__BASE_URL`. What a setting does is up to the module that uses it.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

from analytics_dagster.catalog import GROUPS, RESOURCES, Group, Resource
from analytics_dagster.ingest.configuration import ENVIRONMENT_PREFIX, SECTION, find_values
from analytics_dagster.ingest.errors import SettingsError

SANDBOX = "sandbox"
"""The `base_url` that stands for the embedded sandbox."""

_START_DATE = date(2026, 11, 1)
_RESOURCE_NAMES = tuple(resource.name for resource in RESOURCES)
_CRON_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SECRET = ("api_key", "account_api_key", "failure_webhook")
"""Whoever knows a webhook's address can post to it."""


def _setting(parse: Callable[[Any], Any], default: Any, doc: str) -> Any:
    by_resource = isinstance(default, dict)
    metadata = {"parse": parse, "doc": doc, "by_resource": by_resource}
    return field(default_factory=dict, metadata=metadata) if by_resource else field(default=default, metadata=metadata)


# -- parsing: each takes what dlt found (text from the environment, typed from TOML), or raises ValueError ---


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("is text")
    return value.strip()


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in {"true", "false"}:
        return str(value).lower() == "true"
    raise ValueError("is true or false")


def _number(least: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not least <= number < float("inf"):
            raise ValueError(f"is a number, at least {least:g}")
        return number

    return parse


def _whole(least: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)) or int(value) < least:
            raise ValueError(f"is a whole number, at least {least}")
        return int(value)

    return parse


def _day(value: Any) -> date:
    try:
        day = value if type(value) is date else date.fromisoformat(str(value))
    except ValueError:
        raise ValueError("is a date such as 2026-01-31") from None
    if day >= datetime.now(UTC).date() + timedelta(days=1):
        raise ValueError("is a date that is not in the future")
    return day


def _url(value: Any) -> str:
    url = _text(value).rstrip("/")
    if url == SANDBOX:
        return url
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f'is "{SANDBOX}" or a URL such as https://api.example.com')
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("is a URL without credentials, query or fragment: keys belong in api_key")
    return url


def _webhook(value: Any) -> str:
    url = _text(value)
    parts = urlsplit(url)
    if url and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise ValueError("is a URL such as https://chat.example.com/hook, or empty")
    return url


def _cron(value: Any) -> str:
    parts = _text(value).split()
    if len(parts) == len(_CRON_BOUNDS):
        _, _, days, months, _ = fields = [_cron_values(*pair) for pair in zip(parts, _CRON_BOUNDS, strict=True)]
        if all(fields) and any(day <= _DAYS_OF_MONTH[month - 1] for day in days for month in months):
            return " ".join(parts)
    raise ValueError(
        "is a cron expression in numbers, of minute, hour, day of the month, month and day of the week, such as "
        "*/15 * * * *"
    )


def _cron_values(part: str, bounds: tuple[int, int]) -> set[int]:
    """Return the values that a field of a cron expression stands for; none if it is no such field."""
    values: set[int] = set()
    for item in part.split(","):
        match = re.fullmatch(r"(?:\*|([0-9]{1,2})(?:-([0-9]{1,2}))?)(?:/([0-9]{1,2}))?", item)
        if not match:
            return set()
        first, last, step = (None if number is None else int(number) for number in match.groups())
        start = bounds[0] if first is None else first
        # Without a step a single number is itself; with one it starts there and goes on to the end.
        end = (bounds[1] if first is None or step else start) if last is None else last
        if not bounds[0] <= start <= end <= bounds[1] or step == 0:
            return set()
        values.update(range(start, end + 1, step or 1))
    return values


def _choice(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"is one of {', '.join(choices)}")
        return str(value)

    return parse


def _names(value: Any) -> frozenset[str]:
    if not isinstance(value, str | list):
        raise ValueError("is a list of resources")
    names = [name.strip() for name in value.strip("[] ").split(",")] if isinstance(value, str) else list(value)
    names = [str(name).strip("\"' ") for name in names if name]
    if unknown := sorted(set(names) - set(_RESOURCE_NAMES)):
        raise ValueError(f"is a list of resources, and {', '.join(unknown)} is none")
    return frozenset(names)


def _memory(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"\d+(\.\d+)?\s?([KMGT]i?B)|", text):
        raise ValueError("is a size such as 512MB, or empty for no limit")
    return text


def _word(value: Any) -> str:
    text = _text(value)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*|", text):
        raise ValueError("is one word")
    return text


def _api_path(value: Any) -> str:
    path = _text(value)
    if not path.startswith("/") or "?" in path:
        raise ValueError("is a path that starts with a slash, such as /v1/items")
    return path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be configured. Every default works with the sandbox."""

    base_url: str = _setting(_url, SANDBOX, 'URL of the service, or "sandbox" for the embedded stand-in.')
    api_key: str = _setting(
        _text, "", "The project's key. Also read from a plain `api_key`. It belongs into `secrets.toml`."
    )
    account_api_key: str = _setting(
        _text, "", "The account's key, for projects, teams and users; without it `api_key` serves for all."
    )
    api_key_header: str = _setting(_text, "api_key", "Name of the header that holds the key.")
    start_date: date = _setting(_day, _START_DATE, "First day of the partitions, UTC.")
    partition: Literal["daily", "hourly"] = _setting(
        _choice("daily", "hourly"), "daily", "Length of a partition: `daily` or `hourly`."
    )
    paths: Mapping[str, str] = _setting(
        _api_path, {}, 'Paths that differ from the catalog\'s, by resource: `paths.occurrences = "/api/1/instances"`.'
    )
    page_size: Mapping[str, int] = _setting(
        _whole(1), {}, "Rows a page (sent as `limit`), by resource: `page_size.occurrences = 1000`."
    )
    disabled: frozenset[str] = _setting(_names, frozenset(), "Resources to leave out.")
    read_ahead: int = _setting(
        _whole(1),
        8,
        "Pages in flight at a time, beside page 1 as a proof that the list did not grow; 1 reads them one by one.",
    )
    request_timeout: float = _setting(_number(0.1), 60.0, "Seconds to wait for a reply.")
    max_rate_wait: float = _setting(
        _number(0), 600.0, "Seconds to wait at most for the rate limit's window to end, before a resource fails."
    )
    lock_timeout: float = _setting(_number(0), 600.0, "Seconds to wait for another process to let go of the warehouse.")
    memory_limit: str = _setting(_memory, "128MB", "DuckDB's memory limit; empty for DuckDB's own default.")
    brand: str = _setting(_word, "", "Prefix of fields to replace: `<brand>_id` lands as `analytics_id`.")
    keep_personal_data: bool = _setting(_flag, False, "Whether e-mail addresses, IP addresses and the like are stored.")
    metrics_active_days: int = _setting(
        _whole(1), 30, "Items whose last occurrence, activation or resolution is younger are asked for metrics."
    )
    incremental_cron: str = _setting(_cron, "*/15 * * * *", "When the incremental assets are loaded, UTC.")
    horizon: int = _setting(
        _whole(1), 48, "Hours back to which the schedule fills gaps by itself; older ones are for a backfill."
    )
    automation: bool = _setting(_flag, True, "Whether schedules and sensors run unless stopped in the UI.")
    failure_webhook: str = _setting(
        _webhook, "", 'URL that is sent `{"text": …}` when a run fails. It belongs into `secrets.toml`.'
    )

    @property
    def sandbox(self) -> bool:
        """Whether the embedded sandbox stands in for the service."""
        return self.base_url == SANDBOX

    @property
    def source_address(self) -> str:
        """What rows and coverage name as their origin."""
        return self.base_url

    def enabled_resources(self, *groups: Group) -> tuple[Resource, ...]:
        """Return the resources of groups, all by default, that the setting `disabled` does not leave out."""
        return tuple(row for row in RESOURCES if row.group in (groups or GROUPS) and row.name not in self.disabled)

    def __repr__(self) -> str:
        shown = (f"{item.name}={getattr(self, item.name)!r}" for item in fields(self) if item.name not in _SECRET)
        return f"Settings({', '.join(shown)})"


def load_settings(*, need_key: bool = True) -> Settings:
    """Read the settings from the environment, `.dlt/secrets.toml` and `.dlt/config.toml`.

    Args:
        need_key: Whether a real service without a key is an error.

    Raises:
        SettingsError: One is unknown, impossible or a secret in the wrong file, or a key and the sandbox are set
            together.
    """
    settings = Settings(**dict(_configured()))
    if settings.sandbox and (settings.api_key or settings.account_api_key):
        raise SettingsError(
            f"A key is set while base_url is the sandbox, whose rows are made up. Set {SECTION}.base_url "
            "to your service's URL, or remove api_key."
        )
    if need_key and not settings.sandbox and not settings.api_key:
        raise SettingsError(
            f"No api_key is set for {settings.base_url}. Put it into .dlt/secrets.toml under [{SECTION}], or into "
            f"{ENVIRONMENT_PREFIX}API_KEY."
        )
    return settings


def _configured() -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each setting that is configured."""
    parsers = {item.name: item.metadata["parse"] for item in fields(Settings)}
    by_resource = [item.name for item in fields(Settings) if item.metadata["by_resource"]]
    for name, value in find_values(parsers, by_resource=by_resource, secrets=_SECRET).items():
        if name in by_resource:
            yield name, {key: _parsed(f"{name}.{key}", parsers[name], found) for key, found in value.items()}
        else:
            yield name, _parsed(name, parsers[name], value)


def _parsed(name: str, parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        # The query of a URL, or what stands before its host, may be a key.
        hidden = name in _SECRET or name == "base_url" or any(sign in str(value) for sign in "?@")
        shown = "" if hidden else f", not {value!r}"
        raise SettingsError(f"The setting {SECTION}.{name} {error}{shown}.") from None
