"""Settings: names, defaults, meanings and valid values.

They are set under `[sources.analytics]` in `.dlt/config.toml` (secrets in `.dlt/secrets.toml`), or in environment
variables such as `SOURCES__ANALYTICS__BASE_URL`. `config_providers.py` finds the values, the model below validates
them:

    settings = load_settings()
    settings.base_url
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from croniter import croniter
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    WrapValidator,
)

from analytics_dagster.catalog import GROUPS, RESOURCES, Group, Resource
from analytics_dagster.ingest.config_providers import (
    ENVIRONMENT_PREFIX,
    PROJECT_KEY,
    PROJECTS,
    SECTION,
    FoundSecret,
    find_project_keys,
    find_secret,
    find_values,
    suggest,
)
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.network import is_plain_http
from analytics_dagster.ingest.redaction import redact
from analytics_dagster.ingest.windows import midnight

SANDBOX = "sandbox"
"""The `base_url` that stands for the embedded sandbox."""

DEFAULT_PROJECT = "default"
"""The name of the project that the setting `api_key` belongs to."""


# -- validation: values are text from the environment, typed from TOML ---


def _must_be(phrase: str, *, shown: bool = True) -> WrapValidator:
    """Word every error of a value as `must be …`, followed by the value unless it may hold a secret."""

    def validate(value: Any, handler: Callable[[Any], Any]) -> Any:
        try:
            return handler(value)
        except ValidationError:
            # The query of a URL and the part before its host can hold a key.
            hidden = not shown or any(sign in str(value) for sign in "?@")
            raise ValueError(f"must be {phrase}" if hidden else f"must be {phrase}, not {value!r}") from None

    return WrapValidator(validate)


def _from_text(parse: Callable[[str], Any]) -> BeforeValidator:
    """Parse a value that is text. Pydantic checks the type of others."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


def _parse_bool(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text.lower(), text)


def _parse_names(text: str) -> list[str]:
    names = (name.strip("\"' ") for name in text.strip("[] ").split(","))
    return [name for name in names if name]


_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")

_USED_HEADERS = frozenset({
    "accept", "accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding",
    "user-agent",
})  # fmt: skip
"""Headers that a request has anyway."""


def _parse_url(text: str) -> str:
    """Return a URL that every HTTP client takes: their own errors are no sentences, or come after three retries."""
    url = text.strip()
    parts = urlsplit(url)  # ValueError for a wrong IPv6 address; the port, below, for one above 65535
    if parts.scheme not in {"http", "https"} or parts.port == 0 or not re.fullmatch(r"[!-~]+", url):
        raise ValueError
    host = parts.hostname or ""
    if ":" in host:
        ip_address(host)
    elif not all(map(_LABEL.fullmatch, host.removesuffix(".").split("."))):
        raise ValueError
    return url


def _parse_base_url(text: str) -> str:
    return SANDBOX if text.strip() == SANDBOX else _parse_url(text).rstrip("/")


def _parse_webhook(text: str) -> str:
    return _parse_url(text) if text.strip() else ""


def _parse_ui_url(text: str) -> str:
    url = _parse_webhook(text).rstrip("/")
    _refuse_credentials(url)
    return url


def _parse_cron(text: str) -> str:
    fields = text.split()
    # R is a random number, which differs between processes.
    if len(fields) != 5 or any(field[0] in "Rr" for field in fields):  # noqa: PLR2004 - minute to weekday
        raise ValueError
    # get_next raises ValueError without a next occurrence. With day_or=False the day of the month has to exist beside
    # a weekday too: Dagster refuses 0 0 31 2 1, which croniter otherwise takes for the Mondays of February.
    croniter(text, day_or=False).get_next()
    return " ".join(fields)


def _refuse_credentials(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be a URL without credentials, query or fragment; put the key in api_key")
    return url


def _refuse_future(day: date) -> date:
    if day > datetime.now(UTC).date():
        raise ValueError(f"must be a date that is not in the future, not {day}")
    return day


def _refuse_used_header(name: str) -> str:
    if name.lower() in _USED_HEADERS:
        raise ValueError(f"must be a header for the key alone, not {name}")
    return name


def _refuse_unknown(names: frozenset[str]) -> frozenset[str]:
    if unknown := sorted(names - {resource.name for resource in RESOURCES}):
        raise ValueError(f"must be a list of resource names; unknown: {', '.join(unknown)}")
    return names


def _refuse_moving(days: Mapping[str, int]) -> Mapping[str, int]:
    kept = {resource.name for resource in RESOURCES if resource.incremental and not resource.cursor_moves}
    if moving := sorted(days.keys() - kept):
        raise ValueError(f"must name {' or '.join(sorted(kept))}, whose rows keep their time; not: {', '.join(moving)}")
    return days


_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


def _validate_projects(projects: Mapping[str, "ProjectSettings"]) -> Mapping[str, "ProjectSettings"]:
    by_key: dict[str, str] = {}
    for name, project in projects.items():
        if not _PROJECT_NAME.fullmatch(name):
            raise ValueError(f"must have names of small letters, digits, - and _, such as web; not {name!r}")
        key = project.api_key.get_secret_value()
        if not key:
            raise ValueError(f"must have a key for each project: {name} has none")
        if (other := by_key.setdefault(key, name)) != name:
            raise ValueError(f"must have a key of its own for each project: {other} and {name} have the same one")
    return projects


_Text = Annotated[str, _from_text(str.strip), _must_be("text")]
_Path = Annotated[
    _Text,
    Field(pattern=r"^/[!-~]*$"),
    Field(pattern=r"^[^?#]*$"),
    _must_be("a path that starts with a slash and is percent-encoded, such as /v1/items"),
]
_Header = Annotated[
    _Text,
    Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
    _must_be("the name of an HTTP header, such as X-Access-Token"),
    AfterValidator(_refuse_used_header),
]
_Word = Annotated[_Text, Field(pattern=r"^([A-Za-z][A-Za-z0-9-]*)?$"), _must_be("one word")]
_Size = Annotated[
    _Text, Field(pattern=r"^([0-9]+(\.[0-9]+)?\s?[KMGT]i?B)?$"), _must_be("a size such as 512MB, or empty for no limit")
]
_Secret = Annotated[SecretStr, _from_text(str.strip), _must_be("text", shown=False)]
_Webhook = Annotated[
    SecretStr,
    _from_text(_parse_webhook),
    _must_be("a URL such as https://chat.example.com/hook, in ASCII and with a valid port, or empty", shown=False),
]
_UiUrl = Annotated[
    str,
    _from_text(_parse_ui_url),
    _must_be("a URL such as https://dagster.example.com, without credentials or query, or empty", shown=False),
]
_BaseUrl = Annotated[
    str,
    _from_text(_parse_base_url),
    _must_be('"sandbox" or a URL such as https://api.example.com, in ASCII and with a valid port', shown=False),
    AfterValidator(_refuse_credentials),
]
_Flag = Annotated[bool, Field(strict=True), _from_text(_parse_bool), _must_be("true or false")]
_Count = Annotated[int, Field(strict=True, ge=1), _from_text(int), _must_be("a whole number, at least 1")]
_Seconds = Annotated[
    float, Field(strict=True, ge=0, allow_inf_nan=False), _from_text(float), _must_be("a number, at least 0")
]
_Timeout = Annotated[_Seconds, Field(ge=0.1), _must_be("a number, at least 0.1")]
_Day = Annotated[
    date,
    Field(strict=True),
    _from_text(date.fromisoformat),
    _must_be("a date such as 2026-01-31"),
    AfterValidator(_refuse_future),
]
START_DATE = date(2026, 11, 1)
"""Default of `start_date` for a service."""

SANDBOX_DAYS = 3
"""Days before today on which the sandbox's partitions start by default, since its history moves along with today. The
nightly refresh reads as many days again."""


def _default_start_date(validated: Mapping[str, Any]) -> date:
    return datetime.now(UTC).date() - timedelta(SANDBOX_DAYS) if validated.get("base_url") == SANDBOX else START_DATE


_Names = Annotated[
    frozenset[str], _from_text(_parse_names), _must_be("a list of resource names"), AfterValidator(_refuse_unknown)
]
_Cron = Annotated[
    str,
    _from_text(_parse_cron),
    _must_be("a cron expression of five fields with a next occurrence, such as */15 * * * *"),
]


class ProjectSettings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """The settings of one project among several."""

    api_key: _Secret = SecretStr("")


class Settings(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    """Everything that can be configured. Every default works with the sandbox."""

    base_url: _BaseUrl = Field(
        default=SANDBOX, description="URL of the service, or `sandbox` for the embedded stand-in."
    )
    api_key: _Secret = Field(
        default=SecretStr(""),
        description="The project's key. A plain `api_key` is read if this is not set. Put it in `secrets.toml`.",
    )
    account_api_key: _Secret = Field(
        default=SecretStr(""),
        description="The account's key, for projects, teams and users. Default: `api_key`. Put it in `secrets.toml`.",
    )
    projects: Annotated[Mapping[str, ProjectSettings], AfterValidator(_validate_projects)] = Field(
        default_factory=dict,
        description="Several projects, each with its key: `[sources.analytics.projects.web]` with `api_key`, in "
        "`secrets.toml`.",
    )
    projects_at_a_time: _Count = Field(default=4, description="Projects that are read side by side.")
    allow_http: _Flag = Field(
        default=False, description="Whether `base_url` and `failure_webhook` may send keys unencrypted, over `http://`."
    )
    api_key_header: _Header = Field(default="api_key", description="Name of the header that holds the key.")
    start_date: _Day = Field(
        default_factory=_default_start_date,
        description="First day of the partitions, UTC: the checks expect every day since then. For a real account, set "
        f"the first day that you want to load; default {START_DATE}. Default for the sandbox: {SANDBOX_DAYS} days ago.",
    )
    partition: Annotated[Literal["daily", "hourly"], _must_be("one of daily, hourly")] = Field(
        default="daily", description="Length of a partition: `daily` or `hourly`."
    )
    reader: Annotated[Literal["fast", "rest_api"], _must_be("one of fast, rest_api")] = Field(
        default="fast", description="How lists are read: `fast`, or `rest_api` for dlt's own REST API source."
    )
    paths: Mapping[str, _Path] = Field(
        default={},
        description='Paths that replace the catalog\'s, by resource: `paths.occurrences = "/api/1/instances"`.',
    )
    page_size: Mapping[str, _Count] = Field(
        default={}, description="Rows per page, sent as `limit`, by resource: `page_size.occurrences = 1000`."
    )
    paging: Mapping[str, Annotated[Literal["auto", "page", "keyset"], _must_be("one of auto, page, keyset")]] = Field(
        default={},
        description="How a list is paged, by resource: by `page` numbers, by `keyset`, or `auto`, the default.",
    )
    keep_days: Annotated[Mapping[str, _Count], AfterValidator(_refuse_moving)] = Field(
        default={},
        description="Days for which rows are kept, by resource: `keep_days.occurrences = 90`. Nights delete others.",
    )
    disabled: _Names = Field(default=frozenset(), description="Resources to leave out.")
    read_ahead: _Count = Field(
        default=8, description="Pages in flight; the page above is read beside them to prove that no row moved."
    )
    request_timeout: _Timeout = Field(
        default=60.0, description="Seconds to wait for a connection, and for each part of a reply."
    )
    reply_timeout: _Timeout = Field(default=300.0, description="Seconds to wait for the whole of a reply.")
    max_reply_megabytes: _Count = Field(default=128, description="Megabytes of a reply, decompressed.")
    max_rate_wait: _Seconds = Field(
        default=600.0, description="Seconds to wait for the rate limit's window to end before a resource fails."
    )
    lock_timeout: _Seconds = Field(
        default=600.0, description="Seconds to wait for another process to release the warehouse."
    )
    memory_limit: _Size = Field(default="128MB", description="DuckDB's memory limit; empty for DuckDB's own default.")
    brand: _Word = Field(
        default="", description="Prefix of fields to replace: `<brand>_id` is loaded as `analytics_id`."
    )
    keep_personal_data: _Flag = Field(
        default=False, description="Whether personal data is stored: see *Secrets and personal data*."
    )
    metrics_active_days: _Count = Field(
        default=30,
        description="Days for which an item's metrics are loaded after it occurred, was activated or resolved.",
    )
    incremental_cron: _Cron = Field(default="*/15 * * * *", description="Schedule of the incremental assets, UTC.")
    horizon: _Count = Field(
        default=48, description="Hours back to which the schedule fills gaps. Launch a backfill for older ones."
    )
    automation: _Flag = Field(default=True, description="Whether schedules and sensors run unless stopped in the UI.")
    failure_webhook: _Webhook = Field(
        default=SecretStr(""),
        description='URL to which alerts are posted, as `{"text": …}`: see *Alerts*. Put it in `secrets.toml`.',
    )
    ui_url: _UiUrl = Field(default="", description="Address of Dagster's UI, for the links in alerts.")

    _key_names: dict[str, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Mapping[str, str] | None) -> None:
        """Keep the names under which the keys were found, by setting, and that of a chosen project: the context."""
        self._key_names.update(context or {})

    # -- projects -----------------------------------------------------------------------------------------

    @property
    def project_names(self) -> tuple[str, ...]:
        """The names of the projects to read: `default` for the setting `api_key`, which may stand beside others."""
        plain = self.api_key and self.project_name == DEFAULT_PROJECT
        own = [DEFAULT_PROJECT] if plain or not self.projects else []
        return (*own, *(name for name in sorted(self.projects) if name not in own))

    @property
    def project_name(self) -> str:
        """The name of the project whose key is `api_key`."""
        return self._key_names.get(PROJECTS, DEFAULT_PROJECT)

    def for_project(self, name: str) -> "Settings":
        """Return the settings with the key of one project as `api_key`.

        Raises:
            SettingsError: There is no such project.
        """
        if name not in self.project_names:
            raise SettingsError(f"There is no project {name!r} in the settings.{suggest(name, self.project_names)}")
        if name not in self.projects:
            return self
        path = f"{PROJECTS}.{name}.{PROJECT_KEY}"
        names = {**self._key_names, "api_key": self._key_names.get(path, path), PROJECTS: name}
        values = {field: getattr(self, field) for field in self.model_fields_set}
        return Settings.model_validate({**values, "api_key": self.projects[name].api_key}, context=names)

    def label(self, resource: Resource) -> str:
        """Return the name of a resource, with that of the project if several are set and the resource is the project's.

        Sentences and log lines begin with it.
        """
        of_project = self.projects and not resource.account_key
        return f"{resource.name} of {self.project_name}" if of_project else resource.name

    @property
    def account_key(self) -> SecretStr:
        """The key for the account's resources: `account_api_key`, or else the key of the first project."""
        keys = (self.account_api_key, self.api_key, *(self.projects[name].api_key for name in sorted(self.projects)))
        return next(filter(None, keys), SecretStr(""))

    # -- values -------------------------------------------------------------------------------------------

    @property
    def sandbox(self) -> bool:
        """Whether the embedded sandbox stands in for the service."""
        return self.base_url == SANDBOX

    @property
    def source_address(self) -> str:
        """The origin that is stored with rows and coverage."""
        return self.base_url

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values to redact from texts; empty ones are left out."""
        own = [value for _, value in self if isinstance(value, SecretStr)]
        secrets = [*own, *(project.api_key for project in self.projects.values())]
        return tuple(secret.get_secret_value() for secret in secrets if secret)

    def keep_from(self, resource: Resource, now: datetime) -> datetime | None:
        """Return the time from which the rows of a resource are kept: a midnight, UTC; None if all are."""
        days = self.keep_days.get(resource.name)
        return None if days is None else midnight(now.date()) - timedelta(days=days)

    def key_name(self, *, account: bool) -> str:
        """Return the name that supplied a key, such as `sources.analytics.api_key`, `api_key` or a variable's name.

        Args:
            account: Whether the account's key is meant, which is the project's unless it is set.
        """
        if self.sandbox:
            return SANDBOX
        setting = "account_api_key" if account and self.account_api_key else "api_key"
        if account and not (self.account_api_key or self.api_key) and self.projects:
            setting = f"{PROJECTS}.{min(self.projects)}.{PROJECT_KEY}"
        return self._key_names.get(setting, setting)

    def enabled_resources(self, *groups: Group) -> tuple[Resource, ...]:
        """Return the resources of groups, all by default, that the setting `disabled` does not leave out."""
        return tuple(
            resource
            for resource in RESOURCES
            if resource.group in (groups or GROUPS) and resource.name not in self.disabled
        )


_SECRETS = tuple(name for name, field in Settings.model_fields.items() if field.annotation is SecretStr)
_BY_RESOURCE = tuple(name for name, field in Settings.model_fields.items() if field.default == {})


def load_settings(*, need_key: bool = True) -> Settings:
    """Read the settings from the environment, `.dlt/secrets.toml` and `.dlt/config.toml`.

    Args:
        need_key: Whether a real service without a key is an error.

    Raises:
        SettingsError: One is unknown, invalid or a secret in the wrong file, a key and the sandbox are set together, or
            the key would be sent unencrypted.
    """
    values, found = _find_values()
    settings = _validate(values, found)
    _refuse_plain_http(settings)
    if settings.sandbox and (settings.api_key or settings.account_api_key or settings.projects):
        raise SettingsError(
            f"A key is set while base_url is the sandbox, whose rows are made up. Set {SECTION}.base_url "
            "to your service's URL, or remove api_key."
        )
    if settings.sandbox:
        return settings
    # A plain api_key may be another program's, so it counts only where a service wants a key.
    if not settings.projects and "api_key" not in found and (plain := find_secret("api_key")):
        settings = _validate(values, {**found, "api_key": plain})
    _refuse_two_keys_of_a_project(settings)
    if need_key and not (settings.api_key or settings.projects):
        raise SettingsError(
            f"No api_key is set for {settings.base_url}. Put it in .dlt/secrets.toml under [{SECTION}], or in "
            f"{ENVIRONMENT_PREFIX}API_KEY."
        )
    return settings


def load_valid_settings() -> tuple[Settings, str]:
    """Read the settings as `load_settings` does, for what must go on with wrong ones, such as definitions.

    Returns:
        The valid settings, with defaults in the place of the others, and the message of the first error; `""` if there
        is none. A missing key is no error.
    """
    try:
        return load_settings(need_key=False), ""
    except SettingsError as error:
        values, found = _find_values(tolerant=True)
        values |= _nest(found)
        return Settings(**dict(filter(_is_valid, values.items()))), str(error)


def _find_values(*, tolerant: bool = False) -> tuple[dict[str, Any], dict[str, FoundSecret]]:
    """Return the values of the settings that are not secret, and those that are, by name or dotted path."""
    names = Settings.model_fields.keys() - {PROJECTS}
    values = find_values(names, by_resource=_BY_RESOURCE, secrets=_SECRETS, tolerant=tolerant)
    secrets = {name: secret for name in _SECRETS if (secret := find_secret(f"{SECTION}.{name}"))}
    projects = {f"{PROJECTS}.{name}.{PROJECT_KEY}": secret for name, secret in find_project_keys().items()}
    return values, {**secrets, **projects}


def _nest(secrets: Mapping[str, FoundSecret]) -> dict[str, Any]:
    """Return the values of secrets, those of projects nested by the project's name."""
    values: dict[str, Any] = {}
    for path, secret in secrets.items():
        name, *project = path.split(".")
        if project:
            values.setdefault(PROJECTS, {})[project[0]] = {PROJECT_KEY: secret.value}
        else:
            values[name] = secret.value
    return values


def _is_valid(item: tuple[str, Any]) -> bool:
    name, value = item
    try:
        Settings(**{name: value})
    except ValidationError:
        return False
    return True


def _validate(values: Mapping[str, Any], secrets: Mapping[str, FoundSecret]) -> Settings:
    """Return the settings of configured values."""
    names = {name: secret.name for name, secret in secrets.items()}
    try:
        return Settings.model_validate({**values, **_nest(secrets)}, context=names)
    except ValidationError as invalid:
        error = invalid.errors()[0]
        sentence = f"The setting {SECTION}.{'.'.join(map(str, error['loc']))} {error['ctx']['error']}."
        # A secret can be in the value of another setting.
        raise SettingsError(redact(sentence, [str(secret.value) for secret in secrets.values()])) from None


def _refuse_two_keys_of_a_project(settings: Settings) -> None:
    keys = {name: project.api_key for name, project in settings.projects.items()}
    same = next((name for name, key in keys.items() if key == settings.api_key), None)
    if settings.api_key and (same or DEFAULT_PROJECT in keys):
        name = same or DEFAULT_PROJECT
        raise SettingsError(
            f"The setting {SECTION}.api_key is the key of the project {DEFAULT_PROJECT}, and {SECTION}.{PROJECTS}."
            f"{name}.{PROJECT_KEY} is {'the same key' if same else 'another key of it'}. Remove one of them."
        )


def _refuse_plain_http(settings: Settings) -> None:
    if settings.allow_http:
        return
    urls = {"base_url": settings.base_url, "failure_webhook": settings.failure_webhook.get_secret_value()}
    for name, url in urls.items():
        if is_plain_http(url):
            raise SettingsError(
                f"The setting {SECTION}.{name} must begin with https://: over http:// a key can be read on its way. If "
                f"the network is safe, set {SECTION}.allow_http to true."
            )
