"""Connections over real sockets: through proxies, and over TLS with certificates that are known or not.

`select_proxy` of `requests` is tested by its own project; here are the forms of a proxy that users set.
"""

import base64
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
import trustme

from analytics_dagster.ingest.errors import SettingsError
from analytics_dagster.ingest.keep_alive import Connections, NoReplyError
from analytics_dagster_tests.support.http_replies import limits
from analytics_dagster_tests.support.service import serving

PASSWORD = "s@crd"
LOGIN = "someone:s%40crd"
AUTHORIZATION = f"Basic {base64.b64encode(f'someone:{PASSWORD}'.encode()).decode()}"
FORWARDED = "http://service.invalid:8080/v1/items"


class Service(BaseHTTPRequestHandler):
    """Replies with the path and the key that it was asked with."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f"{self.path} {self.headers.get('api_key')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Proxy(Service):
    """A proxy that hands requests on, tunnels, and remembers what it was asked for, and as whom."""

    seen: list[tuple[str, str, str | None]]

    def do_GET(self) -> None:
        self.seen.append(("GET", self.path, self.headers.get("Proxy-Authorization")))
        super().do_GET()

    def do_CONNECT(self) -> None:
        self.seen.append(("CONNECT", self.path, self.headers.get("Proxy-Authorization")))
        _, port = self.path.split(":")
        # Every name is this machine to this proxy: what is on loopback by its own name is not asked through one.
        with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as service:
            self.send_response(200)
            self.end_headers()
            relay(self.connection, service, bytearray())
        self.close_connection = True


def relay(one: socket.socket, other: socket.socket, wire: bytearray) -> None:
    """Copy bytes both ways until one end closes or resets; keep them in `wire`."""
    ends = {one: other, other: one}
    with suppress(ConnectionError):
        while ready := select.select(list(ends), [], [], 10)[0]:
            for end in ready:
                if not (data := end.recv(65_536)):
                    return
                wire += data
                ends[end].sendall(data)


Seen = list[tuple[str, str, str | None]]


@pytest.fixture
def proxy() -> Iterator[tuple[str, Seen]]:
    """A proxy's address, and the requests it has seen."""
    handler = type("RecordingProxy", (Proxy,), {"seen": []})
    with serving(handler) as address:
        yield address, handler.seen  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure_service(authority: trustme.CA) -> Iterator[str]:
    """The address of a service with a certificate of the authority, by a name that a proxy knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "service.invalid").configure_cert(context)
    with serving(Service, context) as address:
        yield address.replace("127.0.0.1", "service.invalid")


def direct(address: str) -> str:
    """The address of a service by its own name."""
    return address.replace("service.invalid", "127.0.0.1")


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates of the authority are known."""
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))


@pytest.fixture
def secure_proxy(authority: trustme.CA) -> Iterator[tuple[str, Seen, bytearray]]:
    """A proxy behind TLS: its address, the requests it has seen, and the bytes on the wire to it and back."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    handler = type("RecordingProxy", (Proxy,), {"seen": []})
    wire = bytearray()
    with serving(handler, context) as proxy:

        class Wire(BaseRequestHandler):
            def handle(self) -> None:
                host, port = proxy.split(":")
                with socket.create_connection((host, int(port)), timeout=10) as end:
                    relay(self.request, end, wire)

        with ThreadingTCPServer(("127.0.0.1", 0), Wire) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield f"127.0.0.1:{server.server_address[1]}", handler.seen, wire  # type: ignore[attr-defined]
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", *certificates):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(url: str, query: str = "page=2") -> str:
    connections = Connections(url, {"api_key": "key"}, limits())
    try:
        return connections.receive(connections.send("GET", query)).data.decode()
    finally:
        connections.close()


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY", "all_proxy", "http://service.invalid_proxy"])
def test_a_proxy_of_the_environment_is_asked_for_the_whole_url(
    name: str, proxy: tuple[str, Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = proxy
    monkeypatch.setenv(name, f"http://{LOGIN}@{address}")

    assert ask(FORWARDED) == f"{FORWARDED}?page=2 key"
    assert seen == [("GET", f"{FORWARDED}?page=2", AUTHORIZATION)]


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_a_host_that_needs_no_proxy_is_asked_itself(
    name: str, proxy: tuple[str, Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = proxy
    monkeypatch.setenv(name, f"http://{address}")
    monkeypatch.setenv("NO_PROXY", "service.invalid")

    with pytest.raises(NoReplyError, match="NameResolutionError"):
        ask(FORWARDED)
    assert seen == []


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_never_asked_through_a_proxy(
    name: str, host: str, proxy: tuple[str, Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = proxy
    monkeypatch.setenv(name, f"http://{address}")

    with serving(Service) as service:
        assert ask(f"http://{service.replace('127.0.0.1', host)}/v1/items") == "/v1/items?page=2 key"
    assert seen == []


@pytest.mark.usefixtures("trusted")
def test_a_service_with_a_known_certificate_is_read(secure_service: str) -> None:
    assert ask(f"https://{direct(secure_service)}/v1/items") == "/v1/items?page=2 key"


def test_a_service_with_an_unknown_certificate_gets_no_key(secure_service: str) -> None:
    with pytest.raises(NoReplyError, match="SSL"):
        ask(f"https://{direct(secure_service)}/v1/items")


@pytest.mark.usefixtures("trusted")
def test_the_certificates_of_ssl_cert_file_are_known(secure_service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.environ["REQUESTS_CA_BUNDLE"])
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")

    assert ask(f"https://{direct(secure_service)}/v1/items") == "/v1/items?page=2 key"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), ("text", "it holds no certificates")]
)
def test_certificates_that_cannot_be_read_are_named(
    name: str, content: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content:
        bundle.write_text(content)
    monkeypatch.setenv(name, str(bundle))

    with pytest.raises(SettingsError) as refusal:
        ask("https://service.invalid/v1/items")

    assert str(refusal.value) == (
        f"The certificates that {name} names cannot be read: {bundle} ({reason}). Set {name} to a file of certificates "
        "in PEM format, or unset it."
    )


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("name", ["https_proxy", "ALL_PROXY"])
def test_tls_goes_through_a_tunnel_in_which_the_proxy_sees_no_key(
    name: str, proxy: tuple[str, Seen], secure_service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = proxy
    monkeypatch.setenv(name, address)

    assert ask(f"https://{secure_service}/v1/items") == "/v1/items?page=2 key"
    assert seen == [("CONNECT", secure_service, None)]


@pytest.mark.usefixtures("trusted")
def test_an_https_proxy_is_asked_over_tls(
    secure_proxy: tuple[str, Seen, bytearray], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen, wire = secure_proxy
    monkeypatch.setenv("http_proxy", f"https://{LOGIN}@{address}")

    assert ask(FORWARDED) == f"{FORWARDED}?page=2 key"
    assert seen == [("GET", f"{FORWARDED}?page=2", AUTHORIZATION)]
    assert is_unreadable(wire)


@pytest.mark.usefixtures("trusted")
def test_tls_goes_through_the_tunnel_of_an_https_proxy_inside_its_tls(
    secure_proxy: tuple[str, Seen, bytearray], secure_service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen, wire = secure_proxy
    monkeypatch.setenv("https_proxy", f"https://{LOGIN}@{address}")
    connections = Connections(f"https://{secure_service}/v1/items", {"api_key": "key"}, limits())

    try:
        for _ in range(2):
            together = [connections.send("GET", f"page={page}") for page in (1, 2)]
            replies = [connections.receive(sent).data.decode() for sent in together]
            assert replies == ["/v1/items?page=1 key", "/v1/items?page=2 key"]
    finally:
        connections.close()

    assert seen == [("CONNECT", secure_service, AUTHORIZATION)] * 2
    assert is_unreadable(wire)


@pytest.mark.parametrize("url", [FORWARDED, FORWARDED.replace("http:", "https:")])
def test_an_https_proxy_with_an_unknown_certificate_gets_no_password(
    url: str, secure_proxy: tuple[str, Seen, bytearray], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen, wire = secure_proxy
    monkeypatch.setenv("ALL_PROXY", f"https://{LOGIN}@{address}")

    with pytest.raises(NoReplyError, match="SSL"):
        ask(url)
    assert seen == []
    assert is_unreadable(wire)


@pytest.mark.parametrize(
    "address",
    [
        f"socks5://{LOGIN}@127.0.0.1:1080",
        f"socks5h://{LOGIN}@127.0.0.1:1080",
        f"ftp://{LOGIN}@127.0.0.1:3128",
        f"http://{LOGIN}@",
        f"http://{LOGIN}/#@127.0.0.1:3128",
        f"http://{LOGIN}\N{EURO SIGN}@127.0.0.1:3128",
    ],
    ids=["socks5", "socks5h", "ftp", "no host", "no port", "no Latin"],
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_password(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", address)

    with pytest.raises(SettingsError) as refusal:
        ask("https://service.invalid/v1/items")

    assert str(refusal.value) == (
        "The environment's proxy for service.invalid must have an http:// or https:// URL; SOCKS is not supported. "
        "Set https_proxy to such a URL, or add service.invalid to no_proxy."
    )
    assert refusal.value.__context__ is None


def is_unreadable(wire: bytes) -> bool:
    """Whether there are bytes, and none of them say a password or a key."""
    secrets = (PASSWORD, "s%40crd", AUTHORIZATION.split()[1], "Proxy-Authorization", "api_key")
    return bool(wire) and not any(secret.encode() in wire for secret in secrets)
