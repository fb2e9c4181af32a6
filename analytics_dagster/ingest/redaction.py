"""x."""

from collections.abc import Iterable
from urllib.parse import quote, quote_plus


def redact(text: str, secrets: Iterable[str]) -> str:
    """X."""
    for key in filter(None, secrets):
        for secret in {key, quote(key, safe=""), quote(key), quote_plus(key)}:
            text = text.replace(secret, "[redacted]")
    return text
