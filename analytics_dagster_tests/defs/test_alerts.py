"""Alerts that are due, the causes of failed runs, wording and the outbox, as tables; then posts to a real webhook."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from analytics_dagster.definitions import definition_settings
from analytics_dagster.defs.alerts.causes import fingerprint
from analytics_dagster.defs.alerts.due import CAUSES_KEPT, WORKS_KEPT, Announced, alerts_due
from analytics_dagster.defs.alerts.events import Event, FailedRun, Failures, Level, Reading, SucceededRun
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


def failed(
    run_id: str, minute: int = 0, causes: tuple[str, ...] = ("down",), work: str = "incremental_sync"
) -> FailedRun:
    return FailedRun(
        run_id=run_id,
        job="incremental_sync",
        work=work,
        sentence="1 of 4 did not load.",
        causes=causes,
        page=f"/runs/{run_id}",
        time=NOON + timedelta(minutes=minute),
    )


def succeeded(run_id: str, minute: int = 0, work: str = "incremental_sync") -> SucceededRun:
    return SucceededRun(
        run_id=run_id, job="incremental_sync", work=work, page=f"/runs/{run_id}", time=NOON + timedelta(minutes=minute)
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


QUARTER, DAY = 15, 24 * 60


@pytest.mark.parametrize(
    ("runs", "announced"),
    [
        pytest.param([(QUARTER, "a"), (QUARTER, "a"), (QUARTER, "a")], "F..", id="fails for the same cause"),
        pytest.param([(QUARTER, "a"), (QUARTER, "b"), (QUARTER, "b")], "FF.", id="fails for another cause"),
        pytest.param([(QUARTER, "a"), (QUARTER, "b"), (QUARTER, "a")], "FF.", id="fails for two causes in turn"),
        pytest.param([(QUARTER, "ab"), (QUARTER, "a"), (QUARTER, "ab")], "F..", id="fails for some of its causes"),
        pytest.param([(QUARTER, "a"), (QUARTER, "ab"), (QUARTER, "ab")], "FF.", id="fails for one cause more"),
        pytest.param([(QUARTER, "a"), (QUARTER, "a"), (QUARTER, "")], "F.R", id="succeeds again"),
        pytest.param([(QUARTER, "a"), (QUARTER, ""), (QUARTER, "")], "FR.", id="goes on succeeding"),
        pytest.param([(QUARTER, ""), (QUARTER, "")], "..", id="never failed"),
        pytest.param([(QUARTER, "a"), (QUARTER, ""), (QUARTER, "a")], "FRF", id="fails after it succeeded"),
        pytest.param([(DAY + 5, "a"), (DAY + 5, "a"), (DAY - 5, "a")], "F..", id="fails every night"),
        pytest.param([(0, "ab"), (QUARTER, "a"), (DAY, "a"), (DAY, "a"), (0, "ab")], "F...F", id="a cause comes back"),
        pytest.param([(0, "a"), (9 * DAY, "a"), (9 * DAY, "")], "FFR", id="is launched by hand, days apart"),
    ],
)
def test_a_job_is_announced_when_it_fails_for_a_new_cause_and_when_it_succeeds_again(
    runs: list[tuple[int, str]], announced: str
):
    """Each run is the minutes since the one before it, and its causes, a letter each; none if it succeeded."""
    state, minute, found = Announced(), 0, ""
    for number, (minutes, causes) in enumerate(runs):
        minute += minutes
        run = failed(str(number), minute, tuple(causes)) if causes else succeeded(str(number), minute)
        due, state = alerts_due([run], state)
        assert alerts_due([run], state) == ([], state)
        found += "".join("R" if isinstance(event, SucceededRun) else "F" for event in due) or "."
    assert found == announced


def test_a_job_that_succeeds_again_tells_how_often_and_since_when_it_failed():
    _, state = alerts_due([failed("1"), failed("2", minute=15), failed("3", minute=30)], Announced())
    (run,), state = alerts_due([succeeded("4", minute=45)], state)
    assert isinstance(run, SucceededRun)
    assert run.ended == Failures(runs=3, since=NOON.timestamp(), causes={"down": NOON.timestamp() + 30 * 60})
    assert state.failures == {}


def test_a_success_that_is_older_than_the_failure_ends_nothing():
    due, state = alerts_due([succeeded("1", minute=1), failed("2", minute=2)], Announced())
    assert due == [failed("2", minute=2)]
    assert alerts_due([succeeded("1", minute=1)], state) == ([], state)


def test_the_success_of_other_work_of_the_same_job_ends_nothing():
    _, state = alerts_due([failed("1", work="nightly_refresh a")], Announced())
    assert alerts_due([succeeded("2", minute=1, work="nightly_refresh b")], state) == ([], state)
    assert len(alerts_due([succeeded("2", minute=1, work="nightly_refresh a")], state)[0]) == 1


def test_what_is_remembered_of_failures_is_bounded_and_the_oldest_is_forgotten():
    state = Announced()
    for number in range(WORKS_KEPT + 5):
        _, state = alerts_due([failed(f"{number}", number, work=f"{number}")], state)
    assert list(state.failures) == [f"{number}" for number in range(5, WORKS_KEPT + 5)]
    causes = tuple(f"{number}" for number in range(CAUSES_KEPT + 5))
    _, state = alerts_due([failed("run", 99, causes)], state)
    assert tuple(state.failures["incremental_sync"].causes) == causes[5:]


# -- the causes of failed runs ---


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("deploys: no reply after 4 attempts.", "deploys: no reply after 12 attempts."),
        ("Try again in 59 s, or raise max_rate_wait (600 s).", "Try again in 7 s, or raise max_rate_wait (600 s)."),
        ("HTTP 503: request 5f0c1a2b9d failed", "HTTP 503: request deadbeefca failed"),
        (
            "run 0a1b2c3d-aaaa-bbbb-cccc-0123456789ab was killed",
            "run ffffffff-1111-2222-3333-bbbbbbbbbbbb was killed",
        ),
        ("at 2026-11-26T03:45:11.123Z", "at 2026-11-27T11:05:00Z"),
        ("since 2026-11-26 03:45 UTC", "since 2026-12-01 23:10 UTC"),
        ('{"request_id": "YXZkbGtq"}', '{"request_id": "qtBKBwdn"}'),
        ("<Connection object at 0x7f3a5c>", "<Connection object at 0x55d1fe09>"),
        ("/tmp/tmpabcdefgh/file: no room", "/tmp/tmpq_7xh2kl/file: no room"),
        ("keys 7, 9 are duplicated", "keys 1,204, 7, 12, 80 are duplicated"),
        ("two\n lines", "two lines"),
    ],
)
def test_the_figures_and_ids_of_a_message_make_no_other_cause(text: str, other: str):
    assert fingerprint("deploys", text) == fingerprint("deploys", other)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("deploys: HTTP 403: the key is refused", "deploys: HTTP 503: the key is refused"),
        ("no reply (ConnectionError)", "no reply (ReadTimeout)"),
        ("Column a has no value.", "Column b has no value."),
        ("psycopg2.errors.UndefinedTable", "psycopg2.errors.DiskFull"),
    ],
)
def test_another_status_error_or_name_is_another_cause(text: str, other: str):
    assert fingerprint("deploys", text) != fingerprint("deploys", other)


def test_the_same_message_about_another_resource_or_project_is_another_cause():
    names = ("deploys", "items", "deploys of web-1", "deploys of web-2")
    assert len({fingerprint(name, "HTTP 403") for name in names}) == len(names)


# -- an asset that is late ---


@pytest.mark.parametrize(
    ("looks", "announced"),
    [
        pytest.param([(PASS, 0, PASS, 9), (WARN, 60, PASS, 9)], ["", "policy WARN"], id="the policy is first"),
        pytest.param([(WARN, 60, PASS, 9), (WARN, 60, WARN, 70)], ["policy WARN", ""], id="the check follows"),
        pytest.param([(WARN, 60, WARN, 70)], ["check WARN"], id="both at once"),
        pytest.param([(PASS, 0, WARN, 9), (WARN, 60, WARN, 9)], ["check WARN", ""], id="the policy follows"),
        pytest.param(
            [(WARN, 60, PASS, 9), (WARN, 60, WARN, 70), (ERROR, 240, WARN, 190), (ERROR, 240, ERROR, 250)],
            ["policy WARN", "", "policy ERROR", ""],
            id="both get worse",
        ),
        pytest.param(
            [(WARN, 60, WARN, 70), (ERROR, 240, ERROR, 250)], ["check WARN", "check ERROR"], id="both get worse at once"
        ),
        pytest.param(
            [(WARN, 60, PASS, 9), (WARN, 60, WARN, 70), (PASS, 80, WARN, 70), (PASS, 80, PASS, 130)],
            ["policy WARN", "", "", "policy PASS"],
            id="both recover after the policy was announced",
        ),
        pytest.param(
            [(WARN, 60, WARN, 70), (PASS, 80, WARN, 70), (PASS, 80, PASS, 130)],
            ["check WARN", "", "check PASS"],
            id="both recover after the check was announced",
        ),
        pytest.param(
            [(WARN, 60, WARN, 70), (ERROR, 240, WARN, 190), (PASS, 245, WARN, 190), (PASS, 245, PASS, 250)],
            ["check WARN", "policy ERROR", "", "check PASS"],
            id="both recover after both were announced",
        ),
        pytest.param(
            [(WARN, 60, PASS, 9), (PASS, 65, PASS, 9)], ["policy WARN", "policy PASS"], id="the check saw nothing of it"
        ),
        pytest.param(
            [(WARN, 60, PASS, 9), (PASS, 65, PASS, 9), (PASS, 65, WARN, 70), (PASS, 65, WARN, 130)],
            ["policy WARN", "policy PASS", "check WARN", ""],
            id="another day was loaded, and the check tells",
        ),
        pytest.param(
            [(WARN, 60, PASS, 9), (WARN, 60, WARN, 70), (PASS, 80, WARN, 70), (PASS, 80, WARN, 130)],
            ["policy WARN", "", "", "check WARN"],
            id="the policy recovers alone, and the check takes over",
        ),
        pytest.param([(WARN, 60, PASS, 70)], [""], id="a load outside Dagster, which the check saw"),
        pytest.param([(None, 0, WARN, 70), (None, 0, PASS, 130)], ["check WARN", "check PASS"], id="no policy"),
        pytest.param([(WARN, 60, None, 0), (PASS, 80, None, 0)], ["policy WARN", "policy PASS"], id="no check"),
        pytest.param(
            [(PASS, 0, WARN, 70), (WARN, 72, None, 0), (PASS, 80, None, 0), (PASS, 80, PASS, 130)],
            ["check WARN", "", "", "check PASS"],
            id="the check is being evaluated",
        ),
    ],
)
def test_an_asset_that_is_late_is_one_alert(
    looks: list[tuple[Level | None, int, Level | None, int]], announced: list[str]
):
    """Each look has the level of the policy, the minute of its change, the level of the check, and its minute."""
    state, found = Announced(), list[str]()
    for policy_level, changed, check_level, evaluated in looks:
        readings = list[Reading]()
        if policy_level is not None:
            readings.append(replace(reading(policy_level, "policy", changed), told_by="check"))
        if check_level is not None:
            readings.append(reading(check_level, "check", evaluated))
        due, state = alerts_due(readings, state)
        assert alerts_due(readings, state) == ([], state)
        found.append(", ".join(f"{event.subject} {event.level.name}" for event in due if isinstance(event, Reading)))
    assert found == announced
    if looks[-1][0] in {PASS, None} and looks[-1][2] in {PASS, None}:
        assert state.levels == {}


def test_a_project_that_stays_late_after_the_policy_recovered_is_announced():
    policy = replace(reading(WARN, "policy", 60), told_by="check")
    web, mobile = (reading(WARN, "check", 70, project) for project in ("web", "mobile"))
    due, state = alerts_due([policy], Announced())
    assert due == [policy]
    assert alerts_due([policy, web, mobile], state) == ([], state)
    loaded = replace(policy, level=PASS, time=NOON + timedelta(minutes=80))
    web, mobile = reading(PASS, "check", 130, "web"), reading(WARN, "check", 130, "mobile")
    due, state = alerts_due([loaded, web, mobile], state)
    assert due == [mobile]
    assert state.levels == {"check": {"mobile": WARN}}


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
        (
            replace(succeeded("abc", 45), ended=Failures(runs=3, since=NOON.timestamp(), causes={})),
            (
                "RECOVERED incremental_sync, run abc: incremental_sync succeeds again, after 3 failed runs since "
                "2026-11-26 12:00 UTC. (2026-11-26 12:45 UTC)"
            ),
        ),
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
