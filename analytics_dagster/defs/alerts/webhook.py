"""Posts messages to a webhook, in the shape that chat services take.

if problem := post_to_webhook(url, text):
    log.warning(problem)
"""

import requests

from analytics_dagster.ingest.network import use_environment

_TIMEOUT = 10.0
"""Seconds to wait for a connection, and for each part of the reply."""


def post_to_webhook(url: str, text: str) -> str | None:
    """Post a text to a webhook, and return a sentence about the problem if it was not taken, None if it was.

    The sentence does not name the URL, which is a secret.
    """
    try:
        with requests.Session() as session:
            use_environment(session, url)
            # A redirect can lead to another host, which is not to know of the failure. The reply's body is not read.
            reply = session.post(url, json={"text": text}, timeout=_TIMEOUT, allow_redirects=False, stream=True)
    except OSError as error:  # those of requests, and certificates that cannot be read
        # The error's message would name the URL.
        return f"failure_webhook could not be reached ({type(error).__name__})."
    if reply.is_redirect:
        return (
            "failure_webhook answered with a redirect, which is not followed. Set failure_webhook to the URL that it "
            "leads to."
        )
    return None if reply.ok else f"failure_webhook answered HTTP {reply.status_code}."
