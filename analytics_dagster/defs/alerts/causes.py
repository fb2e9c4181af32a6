"""Fingerprints of the causes of failed runs: equal for two runs that failed for the same reason. Pure.

    fingerprint("deploys", "deploys: HTTP 503 after 4 attempts, request 5f0c2a.")

Everything that differs from run to run is left out of the text: counts, seconds, times, ids of runs and requests. The
status of an HTTP reply stays, because a key that is refused and a service that is down are two causes, and so does the
name of what failed, which can have digits of its own.
"""

import re
from hashlib import sha256

_LENGTH = 10
"""Hexadecimal digits of a digest: two of a thousand causes share one in one case of two million."""

_VARIABLE = re.compile(
    r"""
    (?P<kept> \bHTTP\ \d{3}\b )
    | (?<![^\W_]) id ["']?\s?[:=]\s?["']? [\w.-]+             # the value of an id, even if it is letters alone
    | \b [0-9a-f]{8} (?:-[0-9a-f]{4}){3} -[0-9a-f]{12} \b     # a UUID can have groups without a digit
    | \b [0-9a-f]{8,} \b                                      # so can a hash
    | \b tmp\w{8} \b                                          # a name of Python's `tempfile`
    | \w* \d \w*                                              # numbers, and words with one: ids, times, seconds
    """,
    re.VERBOSE | re.IGNORECASE,
)

_REPEATED = re.compile(r"#(?:[\s,.:;/+-]*#)+")
"""Several numbers: a date, a version, a list that can be longer the next time."""


def fingerprint(name: str, text: str) -> str:
    """Return the fingerprint of a cause.

    Args:
        name: What failed: a resource, with its project if there are several; `""` if only the text is known.
        text: The message.
    """
    constant = _REPEATED.sub("#", _VARIABLE.sub(lambda found: found["kept"] or "#", text))
    return digest(name, " ".join(constant.split()))


def digest(*texts: str) -> str:
    """Return a short digest of texts, which stands for them in a sensor's cursor."""
    return sha256("\n".join(texts).encode()).hexdigest()[:_LENGTH]
