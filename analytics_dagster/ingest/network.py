"""The network that the environment describes, as every HTTP client of the package takes it.

Proxies and certificates are chosen as `requests` does, with two differences: this machine is never asked through a
proxy, and `SSL_CERT_FILE` counts where neither `REQUESTS_CA_BUNDLE` nor `CURL_CA_BUNDLE` is set.
https://requests.readthedocs.io/en/latest/user/advanced/#proxies

    with requests.Session() as session:
        use_environment(session, url)
"""

import os
from ipaddress import ip_address
from urllib.parse import urlsplit

import certifi
import requests
from requests.utils import select_proxy

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is this machine: no request to it leaves the machine."""
    host = (urlsplit(url).hostname or "").removesuffix(".")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_plain_http(url: str) -> bool:
    """Whether a request to a URL can be read on its way: it leaves the machine unencrypted."""
    return urlsplit(url).scheme == "http" and not is_loopback(url)


def find_proxy(url: str) -> str | None:
    """Return the proxy for a URL, as the environment has it; None for none."""
    if is_loopback(url):
        return None
    environment = requests.Session().merge_environment_settings(url, {}, None, None, None)
    return select_proxy(url, environment["proxies"])


def find_certificates() -> tuple[str, str]:
    """Return the path of the certificates to trust, a file or a folder, and the variable that names it."""
    named = ((path, name) for name in _BUNDLES if (path := os.environ.get(name)))
    return next(named, (certifi.where(), "the package certifi"))


def use_environment(session: requests.Session, url: str) -> None:
    """Let a session that sends requests to a URL use the environment's certificates, and no proxy to this machine."""
    session.verify, _ = find_certificates()
    session.trust_env = not is_loopback(url)
