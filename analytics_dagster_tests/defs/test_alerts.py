"""Alerts that are due, their wording and the outbox, as tables; then posts to a real webhook."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from analytics_dagster.definitions import definition_settings
from analytics_dagster.defs.alerts.due import Announced, Event, FailedRun, Level, Reading, alerts_due
from analytics_dagster.defs.alerts.outbox import OUTBOX_LENGTH, POST_LENGTH, Outbox
from analytics_dagster.defs.alerts.webhook import post_to_webhook
from analytics_dagster.defs.alerts.wording import describe_event
from analytics_dagster.ingest.settings import Settings
from analytics_dagster.sandbox import ACCOUNT_KEY
from analytics_dagster_tests.support.project import Project
from analytics_dagster_tests.support.webhook import Webhook, a_webhook

PASS, WARN, ERROR = Level
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
KEYS = "analytics/items:primary_key"


def reading(level: Level, subject: str = KEYS, minute: int = 0, project: str | None = None) -> Reading:
    return Reading(
        subject=subject,
        project=project,
        name="items.primary_key",
        level=level,
        sentence="id is not unique." if level else "id is unique.",
        page="/assets/analytics/items",
        time=NOON + timedelta(minutes=minute),
    )


def failed(run_id: str, minute: int = 0) -> FailedRun:
    return FailedRun(
        run_id=run_id,
        job="incremental_sync",
        sentence="1 of 4 did not load.",
        page=f"/runs/{run_id}",
        time=NOON + timedelta(minutes=minute),
    )


# -- what is due ---


@pytest.mark.parametrize(
    ("levels", "announced"),
    [
        pytest.param([PASS], [], id="passes from the start"),
        pytest.param([WARN], [WARN], id="fails at the first look"),
        pytest.param([PASS, WARN], [WARN], id="begins to fail"),
        pytest.param([WARN, WARN, WARN], [WARN], id="stays failed"),
        pytest.param([ERROR, PASS], [ERROR, PASS], id="passes again"),
        pytest.param([ERROR, PASS, PASS], [ERROR, PASS], id="goes on passing"),
        pytest.param([WARN, ERROR], [WARN, ERROR], id="gets worse"),
        pytest.param([ERROR, WARN], [ERROR], id="gets better, but fails"),
        pytest.param([ERROR, WARN, ERROR], [ERROR, ERROR], id="gets worse again"),
        pytest.param([ERROR, WARN, PASS], [ERROR, PASS], id="gets better, then passes"),
        pytest.param([ERROR, None, ERROR], [ERROR], id="its history is wiped, and it still fails"),
        pytest.param([ERROR, None, None, PASS], [ERROR, PASS], id="its history is wiped, and it passes"),
        pytest.param([None, PASS], [], id="was never evaluated"),
        pytest.param([WARN, PASS, WARN, PASS], [WARN, PASS, WARN, PASS], id="comes and goes"),
    ],
)
def test_a_check_is_announced_when_it_gets_worse_and_when_it_passes_again(
    levels: list[Level | None], announced: list[Level]
):
    state, found = Announced(), list[Event]()
    for minute, level in enumerate(levels):
        due, state = alerts_due([] if level is None else [reading(level, minute=minute)], state)
        found += due
    assert [event.level for event in found if isinstance(event, Reading)] == announced


def test_alerts_are_in_the_order_of_time_and_each_subject_counts_for_itself():
    events = [reading(WARN, "b", minute=3), failed("1", minute=2), reading(ERROR, "a", minute=1), reading(PASS, "c")]
    due, state = alerts_due(events, Announced(levels={"c": {"": WARN}}))
    assert due == [events[3], events[2], events[1], events[0]]
    assert state.levels == {"a": {"": ERROR}, "b": {"": WARN}}
    assert alerts_due(events, state)[0] == []


def test_a_project_fails_and_recovers_beside_another_that_fails():
    found, state = list[Event](), Announced()
    for web, mobile in [(ERROR, PASS), (ERROR, WARN), (PASS, WARN), (PASS, PASS)]:
        due, state = alerts_due([reading(web, project="web"), reading(mobile, project="mobile")], state)
        found += due
    announced = [(event.project, event.level) for event in found if isinstance(event, Reading)]
    assert announced == [("web", ERROR), ("mobile", WARN), ("web", PASS), ("mobile", PASS)]
    assert state.levels == {}


def test_a_project_that_is_not_loaded_any_more_is_forgotten():
    _, state = alerts_due([reading(ERROR, project="web"), reading(WARN, project="mobile")], Announced())
    assert alerts_due([reading(PASS)], state) == ([], Announced())


def test_a_failed_run_is_announced_once_and_the_run_that_repeats_it_by_itself():
    due, state = alerts_due([failed("1")], Announced())
    assert due == [failed("1")]
    assert alerts_due([failed("1"), failed("2")], state)[0] == [failed("2")]


def test_runs_are_forgotten_once_their_time_is_known():
    _, state = alerts_due([failed("1"), failed("2", minute=5)], Announced())
    state = state.known_until(NOON.timestamp())
    assert set(state.runs) == {"2"}
    assert state.since == NOON.timestamp()


def test_a_check_that_is_not_defined_any_more_is_forgotten():
    _, state = alerts_due([reading(ERROR, "kept"), reading(ERROR, "gone")], Announced())
    assert state.only({"kept"}).levels == {"kept": {"": ERROR}}


# -- wording ---


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (reading(ERROR), "ERROR items.primary_key: id is not unique. (2026-11-26 12:00 UTC)"),
        (reading(PASS), "RECOVERED items.primary_key: id is unique. (2026-11-26 12:00 UTC)"),
        (
            replace(reading(WARN), project="web"),
            "WARN items.primary_key (project web): id is not unique. (2026-11-26 12:00 UTC)",
        ),
        (failed("abc"), "FAILED incremental_sync, run abc: 1 of 4 did not load. (2026-11-26 12:00 UTC)"),
    ],
)
def test_a_message_names_the_subject_the_sentence_and_the_time(event: Event, text: str):
    assert describe_event(event, secrets=[], ui_url="") == text


def test_a_message_ends_with_the_page_of_the_run_or_asset_where_the_address_of_the_ui_is_known():
    ui_url = "https://dagster.example.com"
    assert describe_event(failed("abc"), secrets=[], ui_url=ui_url).endswith(f" {ui_url}/runs/abc")
    assert describe_event(reading(WARN), secrets=[], ui_url=ui_url).endswith(f" {ui_url}/assets/analytics/items")


def test_no_key_is_in_a_message_even_where_one_begins_like_another():
    settings = Settings(
        base_url="https://api.example.com", api_key="abc", account_api_key="abcdef", failure_webhook="https://x.y/z"
    )
    event = replace(failed("1"), sentence="abc and\n abcdef  at https://x.y/z")
    text = describe_event(event, secrets=settings.secrets, ui_url="")
    assert text.startswith("FAILED incremental_sync, run 1: [redacted] and [redacted] at [redacted] (")


def test_a_key_at_the_place_where_a_long_sentence_is_cut_is_redacted():
    for length in range(950, 1000):
        event = replace(failed("1"), sentence=f"{'x' * length}planted-key and more{'x' * 50}")
        text = describe_event(event, secrets=["planted-key"], ui_url="")
        assert "plant" not in text
        assert len(text) < 1_050


def test_a_value_in_a_sentence_calls_nobody_and_makes_no_link():
    event = replace(reading(WARN), sentence="unknown field: <!channel> <https://x.y|here> @all")
    text = describe_event(event, secrets=[], ui_url="")
    assert not set("<>@") & set(text)


# -- outbox ---


def test_messages_are_posted_in_order_as_many_at_a_time_as_fit():
    texts = [f"{number:03} {'x' * 300}" for number in range(40)]
    outbox = Outbox().add(texts[:30]).add(texts[30:])
    posts = []
    while outbox:
        posts.append(outbox.next_post())
        outbox = outbox.without_next_post()
    assert "\n".join(posts).splitlines() == texts
    assert len(posts) == 4
    assert max(map(len, posts)) <= POST_LENGTH


def test_a_post_that_was_not_taken_is_the_beginning_of_the_next():
    outbox = Outbox().add(["a", "b"])
    assert outbox.next_post() == outbox.next_post() == "a\nb"
    assert outbox.add(["c"]).next_post() == "a\nb\nc"


def test_the_oldest_messages_are_dropped_and_the_next_post_says_so():
    outbox = Outbox()
    for number in range(500):
        outbox = outbox.add([f"{number:03} {'x' * 196}"])
    assert sum(len(text) + 1 for text in outbox.waiting) <= OUTBOX_LENGTH
    kept = len(outbox)
    first, second = outbox.next_post().splitlines()[:2]
    assert first == (
        f"{500 - kept} older messages were dropped, because alerts could not be posted. See the runs and checks in the "
        "UI."
    )
    assert second.startswith(f"{500 - kept:03} ")
    assert outbox.waiting[-1].startswith("499 ")
    assert "dropped" not in outbox.without_next_post().next_post()


# -- webhook ---


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with a_webhook() as webhook:
        yield webhook


def test_a_text_is_posted_in_the_shape_that_chat_services_take(webhook: Webhook):
    assert post_to_webhook(webhook.url, "Größe\n2") is None
    assert webhook.taken == ["Größe\n2"]


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_a_post_that_is_not_taken_is_a_sentence_without_the_address(status: int, webhook: Webhook):
    webhook.answers = [status]
    assert post_to_webhook(webhook.url, "text") == f"failure_webhook answered HTTP {status}."


def test_a_webhook_that_cannot_be_reached_is_a_sentence_without_the_address():
    problem = post_to_webhook("http://127.0.0.1:9/hook?token=secret-token", "text")
    assert problem == "failure_webhook could not be reached (ConnectionError)."


def test_a_redirect_of_the_webhook_is_not_followed(webhook: Webhook):
    webhook.answers = [307]
    problem = post_to_webhook(webhook.url, "text")
    assert (webhook.refused, webhook.taken) == (["text"], [])
    assert problem == (
        "failure_webhook answered with a redirect, which is not followed. Set failure_webhook to the URL that it leads "
        "to."
    )


def test_a_webhook_on_this_machine_is_not_posted_to_through_a_proxy(webhook: Webhook, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert post_to_webhook(webhook.url, "text") is None
    assert webhook.taken == ["text"]


def test_certificates_that_cannot_be_read_are_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    problem = post_to_webhook("https://127.0.0.1:9/hook?token=secret-token", "text")
    assert problem == "failure_webhook could not be reached (OSError)."


def test_the_webhook_is_in_no_representation_of_the_settings(project: Project):
    project.set(failure_webhook="https://chat.example.com/secret-token")
    settings = definition_settings()
    assert settings.failure_webhook.get_secret_value() == "https://chat.example.com/secret-token"
    assert "secret-token" not in repr(settings)
    assert ACCOUNT_KEY not in repr(settings)
