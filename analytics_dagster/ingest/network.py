"""Hosts of a URL: which of them is this machine.

is_loopback("http://127.0.0.1:8000")
"""

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Whether the host of a URL is this machine: no request to it leaves the machine."""
    host = (urlsplit(url).hostname or "").removesuffix(".")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
