"""Connections over real sockets: through proxies, and over TLS with certificates that are known or not."""

import base64
import select
import socket
import ssl
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import trustme

from analytics_dagster.ingest.keep_alive import Connections, NoReplyError
from analytics_dagster_tests.support.service import serving


class Service(BaseHTTPRequestHandler):
    """Says what it was asked for."""

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
        host, port = self.path.split(":")
        with socket.create_connection((host, int(port)), timeout=10) as service:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: service, service: self.connection}
            while ready := select.select(list(ends), [], [], 10)[0]:
                for end in ready:
                    if not (data := end.recv(65_536)):
                        self.close_connection = True
                        return
                    ends[end].sendall(data)


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[Any]]]:
    """A proxy's address, and what it has seen."""
    handler = type("RecordingProxy", (Proxy,), {"seen": []})
    with serving(handler) as address:
        yield address, handler.seen  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure_service(authority: trustme.CA) -> Iterator[str]:
    """The address of a service with a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with serving(Service, context) as address:
        yield address


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ask(url: str, query: str = "page=2") -> str:
    connections = Connections(url, {"api_key": "key"}, timeout=5)
    try:
        return connections.receive(connections.send("GET", query)).data.decode()
    finally:
        connections.close()


def test_a_proxy_of_the_environment_is_asked_for_the_whole_url(
    proxy: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = proxy
    monkeypatch.setenv("http_proxy", f"http://someone:s%40crd@{address}")

    ask("http://service.invalid:8080/v1/items")

    said = base64.b64encode(b"someone:s@crd").decode()
    assert seen == [("GET", "http://service.invalid:8080/v1/items?page=2", f"Basic {said}")]


def test_a_host_that_needs_no_proxy_is_asked_itself(
    proxy: tuple[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, seen = proxy
    monkeypatch.setenv("http_proxy", f"http://{address}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    with serving(Service) as service:
        assert ask(f"http://{service}/v1/items") == "/v1/items?page=2 key"
    assert seen == []


def test_a_service_with_a_known_certificate_is_read(
    secure_service: str, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))

    assert ask(f"https://{secure_service}/v1/items") == "/v1/items?page=2 key"


def test_a_service_with_an_unknown_certificate_gets_no_key(secure_service: str) -> None:
    with pytest.raises(NoReplyError, match="SSL"):
        ask(f"https://{secure_service}/v1/items")


def test_tls_goes_through_a_tunnel_in_which_the_proxy_sees_no_key(
    proxy: tuple[str, list[Any]],
    secure_service: str,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, seen = proxy
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("https_proxy", address)

    assert ask(f"https://{secure_service}/v1/items") == "/v1/items?page=2 key"
    assert seen == [("CONNECT", secure_service, None)]
