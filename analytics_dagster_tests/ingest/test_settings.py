"""Settings come from the environment and from `.dlt/`, whatever the working directory; an error names its setting."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._utils.schedules import is_valid_cron_schedule
from dlt.common.runtime.run_context import active, switch_context
from pydantic import SecretStr, ValidationError

from analytics_dagster.ingest.config_providers import project_root
from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.settings import Settings, load_settings

URL = "https://api.example.com"
KEY = "k3y-0123456789abcdef"
ACCOUNT = "acc0unt-0123456789abcdef"
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project folder without a setting: the working directory, and dlt's."""
    (tmp_path / ".dlt").mkdir()
    before = active().run_dir
    for name in list(os.environ):
        if name.startswith(("SOURCES__", "API_KEY", "DLT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    switch_context(str(tmp_path))
    yield tmp_path
    switch_context(before)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets settings as environment variables; `paths__items` for a setting of a resource."""

    def set_all(**settings: object) -> None:
        for name, value in settings.items():
            monkeypatch.setenv(f"SOURCES__ANALYTICS__{name.upper()}", str(value))

    return set_all


@pytest.fixture
def toml(folder: Path) -> Callable[..., None]:
    """Writes lines of `[sources.analytics]` into `.dlt/`, those of a top level and of secrets apart."""

    def write(lines: str, *, secrets: str = "", top_secrets: str = "") -> None:
        (folder / ".dlt" / "config.toml").write_text(f"[sources.analytics]\n{lines}\n")
        (folder / ".dlt" / "secrets.toml").write_text(f"{top_secrets}\n[sources.analytics]\n{secrets}\n")
        switch_context(str(folder))  # dlt has read the files already

    return write


def refusal(**options: Any) -> str:
    """The sentence with which the settings are refused."""
    with pytest.raises(SettingsError) as error:
        load_settings(**options)
    sentence = str(error.value)
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence
    return sentence


# -- values ---------------------------------------------------------------------------------------------------

# Setting, as text of a variable, as TOML, as it is read.
VALUES = [
    ("base_url", "sandbox", '"sandbox"', "sandbox"),
    ("base_url", "https://api.example.com/", '"https://api.example.com/"', "https://api.example.com"),
    ("base_url", "https://[2001:db8::1]:8443", '"https://[2001:db8::1]:8443"', "https://[2001:db8::1]:8443"),
    ("base_url", "https://API-1.example.com.", '"https://API-1.example.com."', "https://API-1.example.com."),
    ("base_url", "http://127.0.0.1:8080/mirror", '"http://127.0.0.1:8080/mirror"', "http://127.0.0.1:8080/mirror"),
    ("allow_http", "true", "true", True),
    ("api_key_header", "X-Access-Token", '"X-Access-Token"', "X-Access-Token"),
    ("start_date", "2026-01-31", '"2026-01-31"', date(2026, 1, 31)),
    ("start_date", "2026-01-31", "2026-01-31", date(2026, 1, 31)),
    ("partition", "hourly", '"hourly"', "hourly"),
    ("partition", "daily", '"daily"', "daily"),
    ("reader", "rest_api", '"rest_api"', "rest_api"),
    ("reader", "fast", '"fast"', "fast"),
    ("disabled", "rql_jobs", '["rql_jobs"]', frozenset({"rql_jobs"})),
    ("disabled", "teams, users", '["teams", "users"]', frozenset({"teams", "users"})),
    ("disabled", '["teams", "users"]', '"teams,users"', frozenset({"teams", "users"})),
    ("disabled", "", "[]", frozenset()),
    ("read_ahead", "1", "1", 1),
    ("read_ahead", "20", '"20"', 20),
    ("request_timeout", "2.5", "2.5", 2.5),
    ("reply_timeout", "30", "30", 30.0),
    ("max_reply_megabytes", "512", "512", 512),
    ("max_rate_wait", "0", "0", 0.0),
    ("lock_timeout", "30", "30", 30.0),
    ("memory_limit", "1.5GB", '"1.5GB"', "1.5GB"),
    ("memory_limit", "512 MiB", '"512 MiB"', "512 MiB"),
    ("memory_limit", "", '""', ""),
    ("brand", "acme", '"acme"', "acme"),
    ("brand", "", '""', ""),
    ("keep_personal_data", "true", "true", True),
    ("keep_personal_data", "False", "false", False),
    ("metrics_active_days", "7", "7", 7),
    ("incremental_cron", "*/5 * * * *", '"*/5  * * * * "', "*/5 * * * *"),
    ("horizon", "12", "12", 12),
    ("automation", "false", "false", False),
    (
        "failure_webhook",
        "https://chat.example.com/a?b=c",
        '"https://chat.example.com/a?b=c"',
        "https://chat.example.com/a?b=c",
    ),
    ("failure_webhook", "", '""', ""),
    ("ui_url", "https://dagster.example.com/", '"https://dagster.example.com"', "https://dagster.example.com"),
    ("ui_url", "", '""', ""),
]


def value_of(name: str) -> Any:
    """The value of a setting as it is read, a secret in clear."""
    value = getattr(load_settings(need_key=False), name)
    return value.get_secret_value() if isinstance(value, SecretStr) else value


@pytest.mark.parametrize(("name", "text", "value"), [(name, text, value) for name, text, _, value in VALUES])
def test_a_setting_is_read_from_the_environment(env: Callable[..., None], name: str, text: str, value: Any) -> None:
    env(**{name: text})

    read = value_of(name)

    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(("name", "literal", "value"), [(name, literal, value) for name, _, literal, value in VALUES])
def test_a_setting_is_read_from_toml(toml: Callable[..., None], name: str, literal: str, value: Any) -> None:
    line = f"{name} = {literal}"
    toml("", secrets=line) if name == "failure_webhook" else toml(line)

    read = value_of(name)

    assert read == value
    assert type(read) is type(value)


def test_without_any_setting_everything_works_with_the_sandbox() -> None:
    settings = load_settings()

    assert settings == Settings()
    assert settings.sandbox
    assert settings.source_address == "sandbox"
    assert settings.start_date <= datetime.now(UTC).date()
    assert (settings.partition, settings.read_ahead, settings.keep_personal_data) == ("daily", 8, False)
    assert (settings.paths, settings.page_size, settings.disabled) == ({}, {}, frozenset())


def test_the_history_may_begin_today(env: Callable[..., None]) -> None:
    today = datetime.now(UTC).date()
    env(start_date=today)

    assert load_settings().start_date == today


def test_paths_and_page_sizes_are_tables_by_resource(toml: Callable[..., None]) -> None:
    toml(
        'paths.occurrences = "/api/1/instances"\npaths.rql_jobs = "/api/1/rql/jobs/"\n'
        "page_size.occurrences = 5000\npage_size.items = 50"
    )

    settings = load_settings()

    assert settings.paths == {"occurrences": "/api/1/instances", "rql_jobs": "/api/1/rql/jobs/"}
    assert settings.page_size == {"occurrences": 5_000, "items": 50}


def test_paths_and_page_sizes_are_read_from_the_environment(env: Callable[..., None]) -> None:
    env(paths__top_active_items="/api/1/top", page_size__occurrences=1_000)

    settings = load_settings()

    assert settings.paths == {"top_active_items": "/api/1/top"}
    assert settings.page_size == {"occurrences": 1_000}


def test_the_environment_beats_the_files(env: Callable[..., None], toml: Callable[..., None]) -> None:
    toml('read_ahead = 2\nbrand = "acme"\npaths.items = "/a"\npaths.users = "/b"')
    env(read_ahead=5, paths__items="/c")

    settings = load_settings()

    assert (settings.read_ahead, settings.brand) == (5, "acme")
    assert settings.paths == {"items": "/c", "users": "/b"}


def test_an_account_s_service_is_not_the_sandbox(env: Callable[..., None]) -> None:
    env(base_url=f"{URL}/", api_key=KEY)

    settings = load_settings()

    assert not settings.sandbox
    assert settings.source_address == URL


def test_the_first_day_is_three_days_ago_for_the_sandbox_alone(env: Callable[..., None]) -> None:
    assert load_settings().start_date == datetime.now(UTC).date() - timedelta(days=3)
    env(base_url=URL, api_key=KEY)
    assert load_settings().start_date == date(2026, 11, 1)
    env(start_date="2026-11-20")
    assert load_settings().start_date == date(2026, 11, 20)


# -- what is refused ------------------------------------------------------------------------------------------

REFUSED = [
    ("start_date", "31.01.2026", "must be a date such as 2026-01-31, not '31.01.2026'"),
    ("start_date", "2026-02-30", "must be a date such as 2026-01-31, not '2026-02-30'"),
    ("start_date", "yesterday", "must be a date such as 2026-01-31, not 'yesterday'"),
    ("partition", "weekly", "must be one of daily, hourly, not 'weekly'"),
    ("partition", "", "must be one of daily, hourly, not ''"),
    ("reader", "slow", "must be one of fast, rest_api, not 'slow'"),
    ("disabled", "deploys,gadgets", "must be a list of resource names; unknown: gadgets"),
    ("read_ahead", "0", "must be a whole number, at least 1, not"),
    ("read_ahead", "2.5", "must be a whole number, at least 1, not"),
    ("read_ahead", "-1", "must be a whole number, at least 1, not"),
    ("read_ahead", "many", "must be a whole number, at least 1, not"),
    ("read_ahead", "true", "must be a whole number, at least 1, not"),
    ("request_timeout", "0", "must be a number, at least 0.1, not"),
    ("request_timeout", "soon", "must be a number, at least 0.1, not 'soon'"),
    ("request_timeout", "nan", "must be a number, at least 0.1, not"),
    ("reply_timeout", "0", "must be a number, at least 0.1, not"),
    ("max_reply_megabytes", "0", "must be a whole number, at least 1, not"),
    ("max_rate_wait", "-1", "must be a number, at least 0, not"),
    ("max_rate_wait", "inf", "must be a number, at least 0, not"),
    ("lock_timeout", "-0.5", "must be a number, at least 0, not"),
    ("memory_limit", "lots", "must be a size such as 512MB, or empty for no limit, not 'lots'"),
    ("memory_limit", "512", "must be a size such as 512MB, or empty for no limit, not"),
    ("memory_limit", "80%", "must be a size such as 512MB, or empty for no limit, not '80%'"),
    ("brand", "two words", "must be one word, not 'two words'"),
    ("brand", "acme_", "must be one word, not 'acme_'"),
    ("keep_personal_data", "yes", "must be true or false, not 'yes'"),
    ("keep_personal_data", "1", "must be true or false, not"),
    ("metrics_active_days", "0", "must be a whole number, at least 1, not"),
    (
        "paths__items",
        "v1/items",
        "must be a path that starts with a slash and is percent-encoded, such as /v1/items, not 'v1/items'",
    ),
    ("paths__items", "/v1/items?page=1", "must be a path that starts with a slash"),
    ("paths__items", "https://x.invalid/v1/items", "must be a path that starts with a slash"),
    ("page_size__occurrences", "0", "must be a whole number, at least 1, not"),
    ("page_size__occurrences", "all", "must be a whole number, at least 1, not 'all'"),
    ("base_url", "api.example.com", 'must be "sandbox" or a URL such as https://api.example.com'),
    ("base_url", "ftp://api.example.com", 'must be "sandbox" or a URL such as https://api.example.com'),
    ("base_url", "https://", 'must be "sandbox" or a URL such as https://api.example.com'),
    ("base_url", "", 'must be "sandbox" or a URL such as https://api.example.com'),
    *(
        ("base_url", url, 'must be "sandbox" or a URL such as https://api.example.com, in ASCII and with a valid port.')
        for url in (
            f"{URL}:99999",
            f"{URL}:0",
            f"{URL}:http",
            f"{URL}/\N{LATIN SMALL LETTER U WITH DIAERESIS}",
            f"{URL}/a b",
            f"{URL}/a\nb",
            "https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example.com",
            "https://a b.example.com",
            "https://a\tb.example.com",
            "https://a%20b.example.com",
            "https://a\\b.example.com",
            "https://*.example.com",
            "https://a..example.com",
            f"https://{'a' * 64}.example.com",
            "https://-a.example.com",
            "https://[::zz]",
        )
    ),
    *(
        ("paths__items", path, "must be a path that starts with a slash and is percent-encoded, such as /v1/items")
        for path in ("/v1/\N{LATIN SMALL LETTER U WITH DIAERESIS}", "/v1/it\nems", "/v1/it ems", "/v1/items#top")
    ),
    *(
        ("api_key_header", name, "must be the name of an HTTP header, such as X-Access-Token, not ")
        for name in ("", "  ", "api key", "api:key", "api\nkey", "schl\N{LATIN SMALL LETTER U WITH DIAERESIS}ssel")
    ),
    ("api_key_header", "Host", "must be a header for the key alone, not Host."),
    ("api_key_header", "content-length", "must be a header for the key alone, not content-length."),
    ("base_url", f"{URL}/?key=1", "must be a URL without credentials, query or fragment"),
    ("base_url", f"{URL}/#top", "must be a URL without credentials, query or fragment"),
]


def test_a_start_date_in_the_future_is_refused(env: Callable[..., None]) -> None:
    day = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    env(start_date=day)

    sentence = f"The setting sources.analytics.start_date must be a date that is not in the future, not {day}."
    assert refusal(need_key=False) == sentence


@pytest.mark.parametrize(("name", "text", "sentence"), REFUSED)
def test_an_impossible_value_is_refused_in_one_sentence_that_names_the_setting(
    env: Callable[..., None], name: str, text: str, sentence: str
) -> None:
    env(**{name: text})

    assert refusal(need_key=False).startswith(f"The setting sources.analytics.{name.replace('__', '.')} {sentence}")


@pytest.mark.parametrize(
    ("name", "literal", "sentence"),
    [
        ("partition", "7", "must be one of daily, hourly, not 7"),
        ("base_url", "8080", 'must be "sandbox" or a URL such as https://api.example.com, in ASCII'),
        ("brand", "true", "must be one word, not True"),
        ("read_ahead", "true", "must be a whole number, at least 1, not True"),
        ("read_ahead", "2.0", "must be a whole number, at least 1, not 2.0"),
        ("keep_personal_data", "1", "must be true or false, not 1"),
        ("start_date", "2026-01-31T12:00:00Z", "must be a date such as 2026-01-31, not"),
        ("disabled", '["deploys", "gadgets"]', "must be a list of resource names; unknown: gadgets"),
        ("disabled", "[7]", "must be a list of resource names, not [7]"),
        ("request_timeout", "[1]", "must be a number, at least 0.1, not [1]"),
        ("request_timeout", '""', "must be a number, at least 0.1, not ''"),
        ("api_key_header", "[]", "must be the name of an HTTP header, such as X-Access-Token, not []"),
        (
            "paths.items",
            "7",
            "must be a path that starts with a slash and is percent-encoded, such as /v1/items, not 7",
        ),
        ("page_size.items", '"all"', "must be a whole number, at least 1, not 'all'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_in_one_sentence_that_names_the_setting(
    toml: Callable[..., None], name: str, literal: str, sentence: str
) -> None:
    toml(f"{name} = {literal}")

    assert refusal(need_key=False).startswith(f"The setting sources.analytics.{name} {sentence}")


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        ("disabled = 7", "disabled"),
        ("disabled = true", "disabled"),
        ('paths = "/v1"', "paths"),
        ("page_size = 100", "page_size"),
        ("keep_personal_data = [true]", "keep_personal_data"),
        ("api_key_header = { name = 'x' }", "api_key_header"),
        ("read_ahead = { items = 1 }", "read_ahead"),
    ],
)
def test_a_table_for_a_value_or_the_reverse_is_refused_by_name(
    toml: Callable[..., None], lines: str, name: str
) -> None:
    toml(lines)

    assert f"sources.analytics.{name}" in refusal()


TAKEN_CRONS = [
    "* * * * *",
    "*/15 * * * *",
    "0,30 6-20/2 1-15 1,7 1-5",
    "59 23 31 12 7",
    "5/20 * * * 0",
    "0 0 29 2 *",
    "0 0 30,1 2 *",
    "0 0 13 * 5",
    "0 6 * * mon",
    "0 6 * jan-mar MON-fri",
    "0 6 * * 1#2",
    "50-10 22-4 * * sat-mon",
    "0 0 l * *",
]
REFUSED_CRONS = [
    "",
    "* * * *",
    "* * * * * *",
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * * 13 *",
    "* * * * 8",
    "*/0 * * * *",
    "1,,2 * * * *",
    "0 0 30 2 *",
    "0 0 31 2 *",
    "0 0 31 2 1",
    "0 0 31 4,6 *",
    "0 0 31 apr *",
    "every minute",
    "a b c d e",
    "@hourly",
    "H * * * *",
    "R * * * *",
    "0 0 r 2 *",
]


@pytest.mark.parametrize("cron", TAKEN_CRONS)
def test_a_cron_expression_that_is_taken_is_one_for_dagster_too(env: Callable[..., None], cron: str) -> None:
    env(incremental_cron=cron)

    assert load_settings().incremental_cron == cron
    assert is_valid_cron_schedule(cron)
    assert dg.ScheduleDefinition(job_name="job", cron_schedule=cron).cron_schedule == cron


@pytest.mark.parametrize("cron", REFUSED_CRONS)
def test_a_cron_expression_that_is_none_or_never_occurs_is_refused(env: Callable[..., None], cron: str) -> None:
    env(incremental_cron=cron)

    assert refusal().startswith(
        "The setting sources.analytics.incremental_cron must be a cron expression of five fields with a next occurrence"
    )


@pytest.mark.parametrize("url", ["chat.example.com/s3cret", "ftp://chat.example.com/s3cret", "https:///s3cret"])
def test_a_webhook_that_is_no_url_is_refused_and_not_repeated(env: Callable[..., None], url: str) -> None:
    env(failure_webhook=url)

    sentence = refusal()

    assert sentence.startswith("The setting sources.analytics.failure_webhook must be a URL such as")
    assert "s3cret" not in sentence


@pytest.mark.parametrize(
    "url", ["dagster.example.com", "https://me:s3cret@dagster.example.com", "https://dagster.example.com/?key=s3cret"]
)
def test_an_address_of_the_ui_that_is_no_link_is_refused_and_not_repeated(env: Callable[..., None], url: str) -> None:
    env(ui_url=url)

    sentence = refusal()

    assert sentence.startswith("The setting sources.analytics.ui_url must be a URL such as https://dagster.example.com")
    assert "s3cret" not in sentence


@pytest.mark.parametrize("url", ["https://user:hunter2@api.example.com", "https://hunter2@api.example.com"])
def test_credentials_in_the_url_are_refused_and_not_repeated(env: Callable[..., None], url: str) -> None:
    env(base_url=url)

    sentence = refusal()

    assert "must be a URL without credentials, query or fragment; put the key in api_key" in sentence
    assert "hunter2" not in sentence


def test_a_url_that_cannot_be_parsed_is_refused_by_name(env: Callable[..., None]) -> None:
    env(base_url="https://[::1", api_key=KEY)

    assert "sources.analytics.base_url" in refusal()


@pytest.mark.parametrize("name", ["api_key", "account_api_key"])
def test_a_key_that_is_no_text_is_refused_and_not_repeated(toml: Callable[..., None], name: str) -> None:
    toml(f'base_url = "{URL}"', secrets=f"{name} = [123456]")

    sentence = refusal()

    assert sentence == f"The setting sources.analytics.{name} must be text."


def test_a_key_in_the_value_of_another_setting_is_not_repeated(toml: Callable[..., None]) -> None:
    toml(f'base_url = "{URL}"\npartition = "{KEY}"', secrets=f'api_key = "{KEY}"')

    assert refusal() == "The setting sources.analytics.partition must be one of daily, hourly, not '[redacted]'."


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("base_ulr", "There is no setting sources.analytics.base_ulr. Did you mean base_url?"),
        ("READAHEAD", "There is no setting sources.analytics.readahead. Did you mean read_ahead?"),
        ("apikey", "There is no setting sources.analytics.apikey. Did you mean api_key?"),
        ("zzz", "There is no setting sources.analytics.zzz. Known: account_api_key, "),
        (
            "paths__occurences",
            "The setting sources.analytics.paths.occurences must name a resource. Did you mean occurrences?",
        ),
        ("page_size__x", "The setting sources.analytics.page_size.x must name a resource. Known: deploys, "),
    ],
)
def test_a_misspelt_variable_is_refused_with_a_suggestion(env: Callable[..., None], name: str, sentence: str) -> None:
    env(**{name: "1"})

    assert refusal().startswith(sentence)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("keep_personal = true", "There is no setting sources.analytics.keep_personal. Did you mean"),
        (
            "page_size.item = 10",
            "The setting sources.analytics.page_size.item must name a resource. Did you mean items?",
        ),
    ],
)
def test_a_misspelt_line_of_a_file_is_refused_with_a_suggestion(
    toml: Callable[..., None], line: str, sentence: str
) -> None:
    toml(line)

    assert refusal().startswith(sentence)


def test_a_misspelt_key_is_refused_and_its_value_not_repeated(toml: Callable[..., None]) -> None:
    toml(f'base_url = "{URL}"', secrets=f'api_keyy = "{KEY}"')

    sentence = refusal()

    assert sentence == "There is no setting sources.analytics.api_keyy. Did you mean api_key?"


# -- keys -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["api_key", "account_api_key", "failure_webhook"])
def test_a_secret_in_the_file_that_is_not_for_secrets_is_refused_and_not_repeated(
    toml: Callable[..., None], name: str
) -> None:
    toml(f'base_url = "{URL}"\n{name} = "https://{KEY}.example.com"', secrets=f'api_key = "{KEY}"')

    sentence = refusal()

    assert sentence.startswith(f"The setting sources.analytics.{name} is secret. Move it from config.toml to")
    assert KEY not in sentence


@pytest.mark.parametrize("path", [f"/v1/items?key={KEY}", f"https://{KEY}@x.invalid/v1/items"])
def test_a_key_in_a_path_is_refused_and_not_repeated(env: Callable[..., None], path: str) -> None:
    env(paths__items=path)

    sentence = refusal()

    assert sentence.startswith("The setting sources.analytics.paths.items must be a path")
    assert KEY not in sentence


def test_keys_are_read_from_the_secrets(toml: Callable[..., None]) -> None:
    toml(f'base_url = "{URL}"', secrets=f'api_key = "{KEY}"\naccount_api_key = "{ACCOUNT}"')

    settings = load_settings()

    assert settings.secrets == (KEY, ACCOUNT)
    assert settings.api_key.get_secret_value() == KEY


def test_a_plain_api_key_is_read_from_the_secrets(toml: Callable[..., None]) -> None:
    toml(f'base_url = "{URL}"', top_secrets=f'api_key = "{KEY}"')

    assert load_settings().secrets == (KEY,)


def test_a_plain_api_key_is_read_from_the_environment(
    env: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    env(base_url=URL)
    monkeypatch.setenv("API_KEY", KEY)

    assert load_settings().secrets == (KEY,)


def test_the_section_s_key_beats_the_plain_one(env: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    env(base_url=URL, api_key=KEY)
    monkeypatch.setenv("API_KEY", "another")

    assert load_settings().secrets == (KEY,)


def test_space_around_a_key_is_no_part_of_it(env: Callable[..., None]) -> None:
    env(base_url=URL, api_key=f" {KEY}\n")

    assert load_settings().secrets == (KEY,)


@pytest.mark.parametrize("name", ["api_key", "account_api_key"])
def test_a_key_together_with_the_sandbox_is_refused_and_not_repeated(env: Callable[..., None], name: str) -> None:
    env(**{name: KEY})

    for need_key in (True, False):
        sentence = refusal(need_key=need_key)
        assert "A key is set while base_url is the sandbox" in sentence
        assert "sources.analytics.base_url" in sentence
        assert KEY not in sentence


def test_a_plain_key_is_another_program_s_while_the_sandbox_stands_in(
    toml: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    toml("", top_secrets=f'api_key = "{KEY}"')
    monkeypatch.setenv("API_KEY", KEY)

    settings = load_settings()

    assert settings.sandbox
    assert settings.secrets == ()
    assert settings.key_name(account=False) == settings.key_name(account=True) == "sandbox"


SECTION_S, PLAIN, VARIABLE_S = "sources.analytics.api_key", "api_key", "SOURCES__ANALYTICS__API_KEY"
ACCOUNT_S = "sources.analytics.account_api_key"


@pytest.mark.parametrize(
    ("found", "project_s", "account_s"),
    [
        ((SECTION_S, PLAIN, "API_KEY"), SECTION_S, SECTION_S),
        ((PLAIN,), PLAIN, PLAIN),
        (("API_KEY",), "API_KEY", "API_KEY"),
        ((PLAIN, "API_KEY"), "API_KEY", "API_KEY"),
        ((VARIABLE_S, SECTION_S, "API_KEY"), VARIABLE_S, VARIABLE_S),
        ((VARIABLE_S, ACCOUNT_S, PLAIN), VARIABLE_S, ACCOUNT_S),
    ],
    ids=str,
)
def test_the_settings_know_the_name_that_supplied_a_key(
    toml: Callable[..., None], monkeypatch: pytest.MonkeyPatch, found: tuple[str, ...], project_s: str, account_s: str
) -> None:
    section = [name for name in (SECTION_S, ACCOUNT_S) if name in found]
    toml(
        f'base_url = "{URL}"',
        secrets="\n".join(f'{name.rpartition(".")[2]} = "of {name}"' for name in section),
        top_secrets=f'{PLAIN} = "of {PLAIN}"' if PLAIN in found else "",
    )
    for name in {"API_KEY", VARIABLE_S}.intersection(found):
        monkeypatch.setenv(name, f"of {name}")

    settings = load_settings()

    assert (settings.key_name(account=False), settings.key_name(account=True)) == (project_s, account_s)
    assert settings.api_key.get_secret_value() == f"of {project_s}"


@pytest.mark.parametrize("name", ["base_url", "failure_webhook"])
@pytest.mark.parametrize("host", ["api.example.com", "127.0.0.1.example.com", "192.168.0.7:8080", "[2001:db8::1]"])
def test_a_key_is_not_sent_to_another_machine_unencrypted_unless_a_setting_allows_it(
    env: Callable[..., None], name: str, host: str
) -> None:
    env(**{"base_url": URL, "api_key": KEY, name: f"http://{host}/s3cret"})

    for need_key in (True, False):
        sentence = refusal(need_key=need_key)
        assert sentence.startswith(f"The setting sources.analytics.{name} must begin with https://")
        assert sentence.endswith("set sources.analytics.allow_http to true.")
        assert "s3cret" not in sentence

    env(allow_http="true")
    assert value_of(name) == f"http://{host}/s3cret"


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "127.1.2.3", "localhost", "LOCALHOST.", "api.localhost", "[::1]:80"]
)
def test_http_to_this_machine_needs_no_permission(env: Callable[..., None], host: str) -> None:
    env(base_url=f"http://{host}", api_key=KEY, failure_webhook=f"http://{host}/hook")

    assert load_settings().base_url == f"http://{host}"


@pytest.mark.parametrize("keys", [{}, {"api_key": ""}, {"api_key": "  "}, {"account_api_key": ACCOUNT}], ids=repr)
def test_a_service_without_a_key_is_refused_where_one_is_needed(env: Callable[..., None], keys: dict[str, str]) -> None:
    env(base_url=URL, **keys)

    sentence = refusal()

    assert sentence.startswith(f"No api_key is set for {URL}.")
    assert ".dlt/secrets.toml" in sentence
    assert "SOURCES__ANALYTICS__API_KEY" in sentence
    assert load_settings(need_key=False).base_url == URL


def test_no_text_of_the_settings_shows_a_key(env: Callable[..., None]) -> None:
    env(base_url=URL, api_key=KEY, account_api_key=ACCOUNT)

    settings = load_settings()

    for text in (repr(settings), str(settings), f"{settings}", repr([settings])):
        assert URL in text
        assert KEY not in text
        assert ACCOUNT not in text


def test_the_secrets_are_the_values_to_redact(env: Callable[..., None]) -> None:
    hook = "https://chat.example.com/a?b=c"
    env(base_url=URL, api_key=KEY, account_api_key=ACCOUNT, failure_webhook=hook)

    assert load_settings().secrets == (KEY, ACCOUNT, hook)
    assert Settings().secrets == ()


@pytest.mark.parametrize(
    "values", [{"api_key": [KEY]}, {"base_url": f"https://{KEY}@x.invalid"}, {"nothing": KEY}], ids=str
)
def test_a_model_of_invalid_values_is_refused_and_shows_no_key(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as error:
        Settings(**values)

    assert KEY not in str(error.value)


def test_the_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().read_ahead = 2


# -- from wherever --------------------------------------------------------------------------------------------


def test_a_folder_with_a_configuration_is_its_own_project(folder: Path) -> None:
    assert project_root() == folder


def test_moving_to_another_project_reads_its_configuration(
    toml: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml("read_ahead = 2")
    other = tmp_path / "other"
    (other / ".dlt").mkdir(parents=True)
    (other / ".dlt" / "config.toml").write_text("[sources.analytics]\nread_ahead = 3\n")
    before = load_settings().read_ahead

    monkeypatch.chdir(other)

    assert (before, load_settings().read_ahead) == (2, 3)


def test_a_folder_without_a_configuration_uses_the_one_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    load_settings(need_key=False)

    assert project_root() == REPOSITORY
    assert Path(active().run_dir) == REPOSITORY


def test_a_project_folder_given_to_dlt_is_respected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "given"
    (given / ".dlt").mkdir(parents=True)
    (given / ".dlt" / "config.toml").write_text("[sources.analytics]\nread_ahead = 4\n")
    monkeypatch.setenv("DLT_PROJECT_DIR", str(given))
    switch_context(str(given))

    assert load_settings().read_ahead == 4


# -- several projects -----------------------------------------------------------------------------------------

WEB_KEY, MOBILE_KEY = "w3b-0123456789abcdef", "m0bile-0123456789abcdef"


def test_projects_are_read_from_the_environment_and_the_secrets(
    env: Callable[..., None], toml: Callable[..., None]
) -> None:
    toml(f'base_url = "{URL}"', secrets=f'[sources.analytics.projects.mobile]\napi_key = "{MOBILE_KEY}"')
    env(projects__web__api_key=WEB_KEY)
    settings = load_settings()

    assert settings.project_names == ("mobile", "web")
    keys = {name: settings.for_project(name).api_key.get_secret_value() for name in settings.project_names}
    assert keys == {"mobile": MOBILE_KEY, "web": WEB_KEY}
    assert set(settings.secrets) == {MOBILE_KEY, WEB_KEY}
    assert settings.for_project("mobile").key_name(account=False) == "sources.analytics.projects.mobile.api_key"
    assert settings.for_project("web").key_name(account=False) == "SOURCES__ANALYTICS__PROJECTS__WEB__API_KEY"
    assert settings.account_key.get_secret_value() == MOBILE_KEY, "the first project's key, without the account's own"
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert MOBILE_KEY not in shown


def test_the_sections_key_stands_beside_projects_as_the_default_one(env: Callable[..., None]) -> None:
    env(base_url=URL, api_key=KEY, projects__web__api_key=WEB_KEY)
    settings = load_settings()

    assert settings.project_names == ("default", "web")
    assert settings.for_project("default").api_key.get_secret_value() == KEY
    assert settings.for_project("web").project_name == "web"
    assert settings.for_project("web").project_names == ("web",), "of a chosen project"


def test_a_plain_key_is_another_programs_while_projects_are_set(
    env: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", KEY)
    env(base_url=URL, projects__web__api_key=WEB_KEY)
    assert load_settings().project_names == ("web",)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"projects__web__key": WEB_KEY}, "projects.web.key is not known. A project has one: "),
        ({"projects__web__api_key": ""}, "must have a key for each project: web has none."),
        (
            {"projects__web__api_key": WEB_KEY, "projects__mobile__api_key": WEB_KEY},
            "must have a key of its own for each project: mobile and web have the same one.",
        ),
        ({"projects__web__api_key": KEY, "api_key": KEY}, "projects.web.api_key is the same key. Remove one of them."),
        ({"projects__default__api_key": WEB_KEY, "api_key": KEY}, "is another key of it. Remove one of them."),
        ({"projects__web shop__api_key": WEB_KEY}, "must have names of small letters, digits, - and _, such as web;"),
        ({"project__web__api_key": WEB_KEY}, "There is no setting sources.analytics.project.web.api_key. Did you mean"),
        ({"projects__web__api_key": WEB_KEY, "base_url": "sandbox"}, "A key is set while base_url is the sandbox"),
    ],
    ids=range(8),
)
def test_projects_that_cannot_be_are_refused_and_no_key_is_repeated(
    env: Callable[..., None], settings: dict[str, str], sentence: str
) -> None:
    env(**{"base_url": URL, **settings})
    refused = refusal()
    assert sentence in refused
    assert KEY not in refused
    assert WEB_KEY not in refused


def test_a_projects_key_in_the_file_that_is_not_for_secrets_is_refused(toml: Callable[..., None]) -> None:
    toml(f'base_url = "{URL}"\n[sources.analytics.projects.web]\napi_key = "{WEB_KEY}"')
    refused = refusal()
    assert "projects.web.api_key is secret. Move it from config.toml" in refused
    assert "SOURCES__ANALYTICS__PROJECTS__WEB__API_KEY" in refused
    assert WEB_KEY not in refused


def test_a_project_that_is_not_set_is_named_with_the_nearest_one(env: Callable[..., None]) -> None:
    env(base_url=URL, projects__web__api_key=WEB_KEY)
    with pytest.raises(SettingsError, match=r"There is no project 'wep' in the settings\. Did you mean web"):
        load_settings().for_project("wep")
