"""Redaction of secrets.

A text that may hold a secret is redacted before it is logged, raised or posted:

    text = redact(text, settings.secrets)
"""

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

REDACTED = "[redacted]"


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return the text with every spelling of every secret replaced by `[redacted]`.

    Args:
        text: A message, a URL, a JSON document or the like.
        secrets: Values of keys and webhooks; empty ones are ignored.
    """
    spellings = {spelling for secret in secrets if secret for spelling in _spellings(secret)}
    if not spellings:
        return text
    # Longest first: one secret can be the beginning of another.
    pattern = "|".join(re.escape(spelling) for spelling in sorted(spellings, key=len, reverse=True))
    return re.sub(pattern, REDACTED, text)


def _spellings(secret: str) -> Iterator[str]:
    """Yield the secret as it is, percent-encoded, and escaped as in JSON."""
    yield from (secret, quote(secret, safe=""), quote(secret), quote_plus(secret))
    yield from (json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
