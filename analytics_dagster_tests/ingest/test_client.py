"""The client over real sockets: what it retries, how long it waits, what it says when it gives up."""

import gzip
import logging
import math
import socket
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from analytics_dagster.ingest import client as client_module
from analytics_dagster.ingest import replies
from analytics_dagster.ingest.client import ApiClient, Reply
from analytics_dagster.ingest.errors import AnalyticsApiError
from analytics_dagster.ingest.replies import Endpoint
from analytics_dagster.sandbox import ACCOUNT_KEY, PROJECT_KEY, Sandbox
from analytics_dagster_tests.support.http_replies import FINAL, PASSING, PATIENCE, Clock, answering, limits, replying
from analytics_dagster_tests.support.service import serving

ONE_SECOND_TO_THE_MINUTE = 1_760_021_099


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox(clock=lambda: ONE_SECOND_TO_THE_MINUTE, history_days=1, rate_limit=1_000_000) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Iterator[Sandbox]:
    """The service, its clock standing still."""
    shared_sandbox.requests.clear()
    yield shared_sandbox
    shared_sandbox.clear_faults()
    shared_sandbox.before_reply = None


def endpoint_with(url: str, key: str, *, header: str = "api_key", **request: Any) -> Endpoint:
    return Endpoint(
        resource="occurrences",
        url=url,
        headers={header: key},
        key_name="api_key",
        kind_of_key="a project's key",
        secrets=(key,),
        **request,
    )


@contextmanager
def connected(url: str, key: str = PROJECT_KEY, **options: Any) -> Iterator[ApiClient]:
    """A client of the occurrences that does not dawdle."""
    endpoint = endpoint_with(f"{url}/v1/occurrences", key)
    bounds = limits(
        **{name: options.pop(name) for name in ("timeout", "reply_timeout", "reply_bytes") if name in options}
    )
    waits = {"max_rate_wait": 600.0, "backoff_factor": 0.001, **options}
    with closing(ApiClient(endpoint, limits=bounds, **waits)) as client:
        yield client


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[ApiClient]:
    with connected(sandbox.url) as client:
        yield client


@pytest.fixture
def no_rate_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 429 that names no time is retried at once."""
    monkeypatch.setattr(replies, "UNANNOUNCED_RATE_WAIT", 0.001)


def ids(reply: Reply) -> list[int]:
    return [row["id"] for row in reply.body["result"]["instances"]]


def send(client: ApiClient, **query: object) -> Reply:
    """The reply to one request."""
    (reply,) = client.receive(client.send([query]))
    return reply


def fetch(client: ApiClient, queries: list[dict[str, object]]) -> list[Reply]:
    """The replies to several queries that are asked together."""
    return client.receive(client.send(queries))


def failure(client: ApiClient, **query: object) -> AnalyticsApiError:
    """The error that a request ends with."""
    with pytest.raises(AnalyticsApiError) as error:
        send(client, **query)
    assert error.value.resource == "occurrences"
    assert str(error.value).startswith("occurrences: ")
    assert str(error.value).endswith(".")
    return error.value


# -- what succeeds --------------------------------------------------------------------------------------------


def test_a_reply_is_its_parsed_body(client: ApiClient, sandbox: Sandbox) -> None:
    reply = send(client, page=2, limit=10)

    assert ids(reply) == [row["id"] for row in sandbox.rows("occurrences")[10:20]]
    assert [(request.key, request.query) for request in sandbox.requests] == [("project", {"page": "2", "limit": "10"})]
    assert (client.traffic.requests, client.traffic.retries, client.traffic.seconds_waited) == (1, 0, 0.0)


def test_a_body_is_sent_as_json(sandbox: Sandbox) -> None:
    body = {"item_counters": [1, 2]}
    endpoint = endpoint_with(f"{sandbox.url}/v1/metrics/items", PROJECT_KEY, method="POST", body=body)
    with closing(ApiClient(endpoint, limits=limits(), max_rate_wait=1, backoff_factor=0.001)) as client:
        reply = send(client)

    assert [row["item_counter"] for row in reply.body["result"]["metrics"]] == [1, 2]
    assert sandbox.requests[0].body == {"item_counters": [1, 2]}


def test_the_key_is_sent_in_the_configured_header() -> None:
    with Sandbox(header="X-Access-Token", history_days=1) as sandbox:
        endpoint = endpoint_with(f"{sandbox.url}/v1/deploys", PROJECT_KEY, header="X-Access-Token")
        with closing(ApiClient(endpoint, limits=limits(), max_rate_wait=1, backoff_factor=0.001)) as client:
            send(client)

        assert [request.key for request in sandbox.requests] == ["project"]


def test_a_compressed_reply_is_read(client: ApiClient, sandbox: Sandbox) -> None:
    sandbox.fail_next("gzip")

    assert len(ids(send(client))) == 20
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1180591620717411303424", 2**70),
        ("-1180591620717411303424", -(2**70)),
        ("[9223372036854775807, 9223372036854775808]", [2**63 - 1, 2**63]),
        ("[18446744073709551615,18446744073709551616]", [2**64 - 1, 2**64]),
        ('"1180591620717411303424"', "1180591620717411303424"),
        ("0.1", 0.1),
        (r'"half \ud83d"', "half \ud83d"),
        (r'"whole \ud83d\ude00"', "whole \U0001f600"),
        ("Infinity", math.inf),
    ],
)
def test_values_that_fast_parsers_refuse_or_round_arrive_exactly(text: str, value: Any) -> None:
    with replying(f'{{"err":0,"result":{{"value":{text}}}}}'.encode()) as url, connected(url) as client:
        received = send(client).body["result"]["value"]

    assert received == value
    assert type(received) is type(value)


def test_a_reply_with_nan_is_read() -> None:
    with replying(b'{"err":0,"result":[NaN, 5]}') as url, connected(url) as client:
        nan, five = send(client).body["result"]

    assert math.isnan(nan)
    assert five == 5


# -- what is retried ------------------------------------------------------------------------------------------

# A fault of the sandbox, its options, and the status that the error names in the end.


@pytest.mark.parametrize(("kind", "options"), [fault[:2] for fault in PASSING.values()], ids=PASSING)
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.usefixtures("no_rate_wait")
def test_what_may_pass_is_retried_up_to_three_times(
    sandbox: Sandbox, kind: str, options: dict[str, Any], times: int
) -> None:
    sandbox.fail_next(kind, times=times, **options)

    with connected(sandbox.url, timeout=0.2 if kind == "slow" else 5.0) as client:
        reply = send(client, page=3)

    assert ids(reply) == [row["id"] for row in sandbox.rows("occurrences")[40:60]]
    assert (client.traffic.requests, client.traffic.retries) == (times + 1, times)
    assert [request.query for request in sandbox.requests] == [{"page": "3"}] * (times + 1)


@pytest.mark.parametrize(("kind", "options", "status"), PASSING.values(), ids=PASSING)
@pytest.mark.usefixtures("no_rate_wait")
def test_what_does_not_pass_fails_after_the_third_retry(
    sandbox: Sandbox, kind: str, options: dict[str, Any], status: int | None
) -> None:
    sandbox.fail_next(kind, times=5, **options)

    with connected(sandbox.url, timeout=0.2 if kind == "slow" else 5.0) as client:
        error = failure(client)

    assert error.status == status
    assert "after 4 attempts" in str(error)
    assert "Check base_url" in str(error) or status == 429
    assert len(sandbox.requests) == 4
    assert (client.traffic.requests, client.traffic.retries) == (4, 3)


def test_waits_double_from_the_backoff_factor(sandbox: Sandbox) -> None:
    sandbox.fail_next("status", status=503, times=3)

    with connected(sandbox.url, backoff_factor=0.02) as client:
        send(client)

    assert client.traffic.seconds_waited == pytest.approx(0.02 + 0.04 + 0.08)


def test_every_retry_is_told_with_its_reason(
    client: ApiClient, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.fail_next("status", status=502)
    sandbox.fail_next("reset")

    send(client)

    assert [record.getMessage() for record in caplog.records if record.name == client_module.__name__] == [
        "occurrences: HTTP 502; retry 1 of 3 in 0.0 s",
        "occurrences: no reply (ConnectionResetError); retry 2 of 3 in 0.0 s",
    ]


def test_a_service_that_is_down_is_named_by_its_setting() -> None:
    with replying(b"") as url:
        pass  # nobody listens there any more
    with connected(url) as client:
        error = failure(client)

    assert (error.status, client.traffic.requests) == (None, 4)
    assert str(error).endswith("Check base_url, and whether the service is up.")


def test_json_nested_without_end_is_an_error_with_a_sentence() -> None:
    with replying(b"[" * 100_000) as url, connected(url) as client:
        error = failure(client)

    assert "not JSON, with HTTP 200 after 4 attempts" in str(error)


# -- bounds ---------------------------------------------------------------------------------------------------

RESULT = b'{"err":0,"result":[]}'


@contextmanager
def dripping(parts: Sequence[bytes], rest: bytes = b"") -> Iterator[tuple[str, list[int]]]:
    """A server that sends a part at a time until the client gives up, and the parts sent by each connection."""
    sent: list[int] = []

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65_536)
            sent.append(0)
            with suppress(OSError):
                for part in parts:
                    self.request.sendall(part)
                    sent[-1] += 1
                    # No timing: each part comes well within the timeout, all of them well after the deadline.
                    time.sleep(0.05)
                self.request.sendall(rest)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", sent
        finally:
            server.shutdown()
            thread.join()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"


@pytest.mark.parametrize("head", [HEAD + b"\r\n", HEAD, b"HTTP/1.1"], ids=["body", "headers", "status"])
def test_a_reply_that_drips_ends_at_its_deadline_and_counts_as_none(head: bytes) -> None:
    parts = [head, *[b"x"] * 400]
    with dripping(parts) as (url, sent), connected(url, timeout=5.0, reply_timeout=0.2) as client:
        error = failure(client)

        assert str(error) == (
            "occurrences: no reply (not complete after 0.2 s, the reply_timeout) after 4 attempts. "
            "Check base_url, and whether the service is up."
        )
        assert len(sent) == 4
        assert max(sent) < len(parts), "the client ended it"


def test_a_reply_that_inflates_beyond_its_bound_fails_at_once_and_takes_little_memory() -> None:
    bomb = gzip.compress(b'{"err":0,"result":["' + b" " * 100_000_000 + b'"]}')
    with (
        replying(bomb, headers={"Content-Encoding": "gzip"}) as url,
        connected(url, reply_bytes=5_000_000) as client,
    ):
        tracemalloc.start()
        try:
            error = failure(client)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert str(error) == (
        "occurrences: the reply is larger than max_reply_megabytes. Lower page_size.occurrences, or raise "
        "max_reply_megabytes."
    )
    assert client.traffic.requests == 1
    assert peak < 30_000_000


@pytest.mark.parametrize("extra", [0, 1])
def test_a_reply_may_have_as_many_bytes_as_its_bound(extra: int) -> None:
    with replying(RESULT) as url, connected(url, reply_bytes=len(RESULT) - extra) as client:
        if extra:
            assert "larger than max_reply_megabytes" in str(failure(client))
        else:
            assert send(client).body["result"] == []


@pytest.mark.parametrize(
    "interim", [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"]
)
@pytest.mark.parametrize("times", [1, 3])
def test_an_interim_reply_is_no_failure(interim: bytes, times: int) -> None:
    final = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(RESULT), RESULT)
    with dripping([], interim * times + final) as (url, _), connected(url) as client:
        assert send(client).body == {"err": 0, "result": []}
        assert client.traffic.retries == 0


def test_a_chunked_reply_is_read_and_its_connection_kept() -> None:
    connections = set()

    class Chunked(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            connections.add(self.client_address)
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (RESULT[:7], RESULT[7:], b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

        def log_message(self, *_: object) -> None:
            pass

    with serving(Chunked) as address, connected(f"http://{address}") as client:
        assert [send(client).body["result"] for _ in range(3)] == [[], [], []]

    assert len(connections) == 1


# -- what is not retried --------------------------------------------------------------------------------------

# Fault, its options, status of the error, and what its message must hold.


@pytest.mark.parametrize(("kind", "options", "status", "texts"), FINAL.values(), ids=FINAL)
def test_what_will_not_pass_fails_at_once_and_says_what_to_check(
    client: ApiClient, sandbox: Sandbox, kind: str, options: dict[str, Any], status: int, texts: list[str]
) -> None:
    sandbox.fail_next(kind, times=2, **options)

    error = failure(client)

    assert error.status == status
    assert [text for text in texts if text not in str(error)] == []
    assert len(sandbox.requests) == 1
    assert client.traffic.retries == 0


@pytest.mark.parametrize(
    ("key", "said"),
    [(ACCOUNT_KEY, "(insufficient privileges: project access token required)"), ("typo", "(invalid access token)")],
    ids=["key of the other kind", "wrong key"],
)
def test_a_key_that_does_not_serve_is_refused_at_once(sandbox: Sandbox, key: str, said: str) -> None:
    with connected(sandbox.url, key=key) as client:
        error = failure(client)

    assert error.status == 403
    assert said in str(error)
    assert "needs a project's key" in str(error)
    assert len(sandbox.requests) == 1


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "5", "{}", '{"result": null}', '{"err": 0}'])
def test_json_that_is_no_reply_of_the_service_is_refused(body: str) -> None:
    with replying(body.encode()) as url, connected(url) as client:
        error = failure(client)

    assert (error.status, client.traffic.requests) == (200, 1)
    assert "(no result)" in str(error)


def test_a_reply_that_says_it_failed_is_refused_whatever_result_stands_beside() -> None:
    body = b'{"err": 1, "message": "partial", "result": {"instances": []}}'
    with replying(body) as url, connected(url) as client:
        error = failure(client)

    assert (error.status, client.traffic.requests) == (200, 1)
    assert "(partial)" in str(error)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (403, "occurrences: HTTP 403, request req-17. Check api_key"),
        (200, "occurrences: the reply is not JSON, with HTTP 200, request req-17 after 4 attempts. Check base_url"),
        (503, "occurrences: HTTP 503, request req-17 after 4 attempts. Check base_url"),
    ],
)
def test_every_error_and_retry_names_the_request_for_the_service_s_support(
    status: int, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    with replying(b"<html>", status, {"X-Request-Id": "req-17"}) as url, connected(url) as client:
        assert str(failure(client)).startswith(sentence)

    retries = [record.getMessage() for record in caplog.records if record.name == client_module.__name__]
    assert len(retries) == (0 if status == 403 else 3)
    assert all("request req-17; retry" in line for line in retries)


def test_a_key_in_the_name_of_a_request_is_redacted(caplog: pytest.LogCaptureFixture) -> None:
    with replying(b"", 503, {"X-Request-Id": f"of-{PROJECT_KEY}"}) as url, connected(url) as client:
        error = failure(client)

    assert "request of-[redacted] after 4 attempts" in str(error)
    assert PROJECT_KEY not in caplog.text


def test_a_long_message_of_the_service_does_not_push_the_advice_out(client: ApiClient, sandbox: Sandbox) -> None:
    sandbox.fail_next("err", status=403, message="no access " * 200)

    error = str(failure(client))

    assert "Check api_key" in error
    assert len(error) < 1_000


# -- the key stays secret -------------------------------------------------------------------------------------

ODD_KEY = "k/e+y=1&a b%\"z'"


SPELLINGS = {"plain": str, "quoted": quote, "all quoted": partial(quote, safe=""), "quoted as in a form": quote_plus}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("key", ["0123456789abcdef", ODD_KEY], ids=["plain key", "odd key"])
@pytest.mark.parametrize("status", [200, 403, 503])
def test_a_key_that_the_service_echoes_is_redacted(
    sandbox: Sandbox, status: int, key: str, spell: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sandbox.fail_next("err", status=status, message=f"bad key {spell(key)}, bad!", times=4)

    with connected(sandbox.url, key=key) as client:
        error = failure(client)

    assert "[redacted]" in str(error)
    told = [str(error), repr(error), repr(vars(error)), *traceback.format_exception(error), caplog.text]
    assert [text for text in told if spell(key) in text or key in text] == []


def test_a_key_in_a_redirect_is_redacted(sandbox: Sandbox) -> None:
    sandbox.fail_next("redirect", location=f"/login?token={PROJECT_KEY}")

    with connected(sandbox.url) as client:
        error = failure(client)

    assert "redirect to /login?token=[redacted]" in str(error)


def test_no_object_shows_the_key(client: ApiClient, sandbox: Sandbox) -> None:
    reply = send(client)
    endpoint = endpoint_with(sandbox.url, PROJECT_KEY)

    assert PROJECT_KEY not in "".join(
        f"{thing!r} {thing!s}" for thing in (endpoint, client, client.traffic, reply.read_at)
    )


def test_without_a_key_the_refusal_is_readable(sandbox: Sandbox) -> None:
    with connected(sandbox.url, key="") as client:
        error = failure(client)

    assert str(error) == "occurrences: HTTP 401 (missing access token). Check api_key: the service did not accept it."


# -- the rate limit -------------------------------------------------------------------------------------------


def test_a_429_waits_for_the_announced_end_of_the_window_and_counts_as_a_retry(
    client: ApiClient, sandbox: Sandbox
) -> None:
    sandbox.fail_next("status", status=429, remaining_seconds=1)
    began = time.monotonic()

    assert len(ids(send(client))) == 20

    assert 1 <= time.monotonic() - began < PATIENCE
    assert (client.traffic.requests, client.traffic.retries) == (2, 1)
    assert client.traffic.seconds_waited == pytest.approx(1, abs=0.1)


def test_a_429_whose_window_ends_too_late_fails_at_once_and_says_when_to_try_again(
    client: ApiClient, sandbox: Sandbox
) -> None:
    sandbox.fail_next("status", status=429, remaining_seconds=700)

    error = failure(client)

    assert error.status == 429
    assert str(error).endswith("Try again in 700 s, or raise max_rate_wait (600 s).")
    assert (client.traffic.requests, client.traffic.retries) == (1, 0)


def test_a_429_that_does_not_end_names_what_to_do(sandbox: Sandbox) -> None:
    sandbox.fail_next("status", status=429, remaining_seconds=0, times=4)

    with connected(sandbox.url) as client:
        error = failure(client)

    assert error.status == 429
    assert str(error).endswith("after 4 attempts. Try again later, or lower read_ahead.")


def test_a_retry_after_is_heeded_where_there_is_nothing_better() -> None:
    with replying(b"{}", 429, {"Retry-After": "700"}) as url, connected(url) as client:
        assert "Try again in 700 s" in str(failure(client))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(client_module, "time", clock)
    return clock


@contextmanager
def used_up(clock: Clock, *, until: float, headers: Mapping[str, str]) -> Iterator[str]:
    """The URL of a service that refuses requests with 429 until a moment of the clock."""
    with answering(lambda: (429, headers, b"{}") if clock.now < until else (200, {}, b'{"err":0,"result":[]}')) as url:
        yield url


@pytest.mark.parametrize(
    ("headers", "window", "requests"),
    [
        ({"X-Rate-Limit-Remaining-Seconds": "60"}, 60.0, 2),
        ({"Retry-After": "60"}, 60.0, 2),
        ({}, 60.0, 4),
        ({"X-Rate-Limit-Remaining-Seconds": "0"}, 0.9, 2),
    ],
    ids=["announced", "announced otherwise", "unannounced", "announced as less than a second"],
)
def test_a_429_does_not_use_up_its_retries_before_the_window_ends(
    headers: dict[str, str], window: float, requests: int, clock: Clock
) -> None:
    with used_up(clock, until=window, headers=headers) as url, connected(url, backoff_factor=2) as client:
        send(client)

    assert (client.traffic.requests, client.traffic.retries) == (requests, requests - 1)
    assert clock.now == client.traffic.seconds_waited >= window


def test_when_the_window_is_used_up_the_next_request_waits_for_the_next_one() -> None:
    with (
        Sandbox(clock=lambda: ONE_SECOND_TO_THE_MINUTE, history_days=1, rate_limit=2) as sandbox,
        connected(sandbox.url) as client,
    ):
        send(client)
        assert client.traffic.seconds_waited == 0
        send(client)
        sandbox.clock_offset = 1
        began = time.monotonic()
        send(client)

        assert 0.9 <= time.monotonic() - began < PATIENCE
        assert [request.status for request in sandbox.requests] == [200, 200, 200]
        assert client.traffic.retries == 0
        assert client.traffic.seconds_waited == pytest.approx(1, abs=0.1)


def test_when_the_next_window_is_too_far_nothing_more_is_asked() -> None:
    a_minute_to_go = ONE_SECOND_TO_THE_MINUTE + 1
    with (
        Sandbox(clock=lambda: a_minute_to_go, history_days=1, rate_limit=1) as sandbox,
        connected(sandbox.url, max_rate_wait=5) as client,
    ):
        send(client)
        error = failure(client)

        assert error.status == 429
        assert "the rate limit is used up. Try again in 60 s, or raise max_rate_wait (5 s)." in str(error)
        assert len(sandbox.requests) == 1


# -- several at a time ----------------------------------------------------------------------------------------


def test_replies_keep_the_order_of_the_queries_whichever_comes_first(client: ApiClient, sandbox: Sandbox) -> None:
    all_there = threading.Barrier(4)
    second_passed = threading.Event()

    def hold(_: str, page: int | None) -> None:
        all_there.wait(PATIENCE)  # none is answered before all are asked
        if page == 2:
            second_passed.set()
        else:
            second_passed.wait(PATIENCE)

    sandbox.before_reply = hold

    replies = fetch(client, [{"page": page} for page in (4, 1, 2, 3)])

    truth = [row["id"] for row in sandbox.rows("occurrences")]
    assert [ids(reply) for reply in replies] == [truth[(page - 1) * 20 : page * 20] for page in (4, 1, 2, 3)]


def test_requests_are_on_their_way_before_anyone_waits_for_their_replies(client: ApiClient, sandbox: Sandbox) -> None:
    all_there = threading.Barrier(3)
    sandbox.before_reply = lambda *_: all_there.wait(PATIENCE) and None

    asked = client.send([{"page": page} for page in (1, 2)])
    all_there.wait(PATIENCE)  # the service has both

    assert [len(ids(reply)) for reply in client.receive(asked)] == [20, 20]


def test_nothing_is_sent_early_while_the_rate_limit_is_used_up() -> None:
    with (
        Sandbox(clock=lambda: ONE_SECOND_TO_THE_MINUTE, history_days=1, rate_limit=1) as sandbox,
        connected(sandbox.url) as client,
    ):
        send(client)
        asked = client.send([{"page": 2}])
        assert client.traffic.requests == 1
        sandbox.clock_offset = 1

        assert [len(ids(reply)) for reply in client.receive(asked)] == [20]
        assert [request.status for request in sandbox.requests] == [200, 200]


def test_of_several_failures_the_first_of_the_queries_is_raised(client: ApiClient, sandbox: Sandbox) -> None:
    later_one_failed = threading.Event()

    def hold(_: str, page: int | None) -> None:
        if page is None:  # the malformed page
            later_one_failed.wait(PATIENCE)
        elif page == 1:
            later_one_failed.set()

    sandbox.before_reply = hold

    with pytest.raises(AnalyticsApiError, match="page must be a positive integer"):
        fetch(client, [{"page": 2}, {"page": "x"}, {"limit": "x"}])


def test_one_of_several_requests_is_retried_alone(client: ApiClient, sandbox: Sandbox) -> None:
    sandbox.fail_next("status", status=503, times=2)

    replies = fetch(client, [{"page": page} for page in (1, 2, 3)])

    truth = [row["id"] for row in sandbox.rows("occurrences")]
    assert [number for reply in replies for number in ids(reply)] == truth[:60]
    assert (client.traffic.requests, client.traffic.retries) == (5, 2)


def test_several_that_fail_are_retried_together_after_the_longest_wait(sandbox: Sandbox) -> None:
    sandbox.fail_next("status", status=503, times=2)
    sandbox.fail_next("status", status=429, remaining_seconds=1)

    with connected(sandbox.url, backoff_factor=0.01) as client:
        replies = fetch(client, [{"page": page} for page in (1, 2, 3)])

    assert [len(ids(reply)) for reply in replies] == [20, 20, 20]
    assert (client.traffic.requests, client.traffic.retries) == (6, 3)
    assert client.traffic.seconds_waited == pytest.approx(1, abs=0.01)


def test_a_connection_that_the_service_ended_is_opened_anew() -> None:
    ended = threading.Semaphore(0)

    class HangingUp(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # which promises to keep the connection

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "12")
            self.end_headers()
            self.wfile.write(b'{"result":1}')
            self.close_connection = True

        def finish(self) -> None:
            super().finish()
            self.connection.shutdown(socket.SHUT_RDWR)
            ended.release()

        def log_message(self, *_: object) -> None:
            pass

    with serving(HangingUp) as address, connected(f"http://{address}") as client:
        for _ in range(3):
            send(client)
            assert ended.acquire(timeout=PATIENCE)

    assert (client.traffic.requests, client.traffic.retries, client.traffic.seconds_waited) == (3, 0, 0.0)


def test_nothing_is_on_its_way_after_a_failure_and_the_close(sandbox: Sandbox) -> None:
    closed = threading.Event()
    sandbox.before_reply = lambda _, page: closed.wait(PATIENCE) and None if page else None

    with connected(sandbox.url) as client, pytest.raises(AnalyticsApiError, match="positive integer"):
        fetch(client, [{"page": "x"}, {"page": 2}])
    closed.set()

    assert client.traffic.requests == 2
