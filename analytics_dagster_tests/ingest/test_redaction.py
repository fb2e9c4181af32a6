"""No spelling of a secret is left in a redacted text."""

import json
from urllib.parse import quote, quote_plus

import orjson
import pytest

from analytics_dagster.ingest.redaction import redact

KEY = 'k/3y "0+1 é\\'


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(KEY, id="as it is"),
        pytest.param(quote(KEY), id="in a path"),
        pytest.param(quote(KEY, safe=""), id="in a part of a path"),
        pytest.param(quote_plus(KEY), id="in a query"),
        pytest.param(json.dumps(KEY)[1:-1], id="in JSON of ASCII"),
        pytest.param(orjson.dumps(KEY).decode()[1:-1], id="in JSON of UTF-8"),
    ],
)
def test_every_spelling_of_a_secret_is_redacted(spelling: str):
    assert redact(f"<{spelling}> is not <{spelling}>", [KEY]) == "<[redacted]> is not <[redacted]>"


def test_every_secret_is_redacted():
    assert redact("one two three", ["one", "three"]) == "[redacted] two [redacted]"


@pytest.mark.parametrize("secrets", [["abc", "abcdef"], ["abcdef", "abc"]])
def test_of_a_secret_that_begins_like_another_nothing_is_left(secrets: list[str]):
    assert redact("abc and abcdef", secrets) == "[redacted] and [redacted]"


def test_a_secret_that_begins_like_the_spelling_of_another_leaves_nothing_of_it():
    assert redact("a%2Fbc", ["a/bc", "a"]) == "[redacted]"


@pytest.mark.parametrize("secrets", [[], [""], ["", ""], ["absent"]])
def test_a_text_without_a_secret_stays_as_it_is(secrets: list[str]):
    assert redact("a text", secrets) == "a text"
