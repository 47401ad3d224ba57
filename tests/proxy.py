"""What lies between retl and Braze, on loopback: certificates of an authority of its own, TLS, and a real CONNECT proxy."""

import base64
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, Self
from urllib.parse import urlsplit

import trustme

HOST = "rest.test-01.example.com"  # what the authority vouches for, and only the proxy knows where it is
Address = tuple[str, int]


@cache
def authority(name: str = "retl") -> trustme.CA:
    return trustme.CA(organization_name=name)


def write_authority(path: Path, name: str = "retl") -> str:
    authority(name).cert_pem.write_to_path(str(path))
    return str(path)


def server_context(*names: str, expired: bool = False, of: str = "retl") -> ssl.SSLContext:
    """TLS with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    until = datetime(2020, 1, 1, tzinfo=UTC) if expired else None
    since = datetime(2019, 1, 1, tzinfo=UTC) if expired else None
    authority(of).issue_cert(*names, not_before=since, not_after=until).configure_cert(context)
    return context


class Server(ThreadingTCPServer):
    """A server on a free port of the loopback, from the beginning of a block to its end."""

    daemon_threads = True

    def __init__(self, handler: type[BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no news."""

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class Secure(Server):
    """Speaks TLS, and passes what it hears on to a server that does not."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self.behind = (str(urlsplit(url).hostname), int(urlsplit(url).port or 80))
        self.context = context
        super().__init__(_Unwrapping)


class _Unwrapping(BaseRequestHandler):
    server: Secure

    def handle(self) -> None:
        with self.server.context.wrap_socket(self.request, server_side=True) as client:
            relay(client, self.server.behind)


class Proxy(Server):
    """An HTTP proxy that lets clients CONNECT to the hosts that it knows, if they know its user and password.

    `heads` are the requests that it got; `answers`, if it is set, is what it says instead of doing its work.
    """

    def __init__(
        self, hosts: dict[str, Address], login: str | None = None, context: ssl.SSLContext | None = None
    ) -> None:
        self.hosts, self.login, self.context = hosts, login, context
        self.heads: list[str] = []
        self.answers: bytes | None = None
        super().__init__(_Proxying)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


class _Proxying(BaseRequestHandler):
    server: Proxy

    def handle(self) -> None:
        client = self.request
        if self.server.context:
            client = self.server.context.wrap_socket(client, server_side=True)
        with client:
            head = read_head(client)
            self.server.heads.append(head)
            if self.server.answers is not None:
                client.sendall(self.server.answers)
            elif self.server.login and f"\nproxy-authorization: {basic(self.server.login)}\r" not in _lower_names(head):
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
            elif (place := self.server.hosts.get(head.split()[1])) is None:
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            else:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                relay(client, place)


def _lower_names(head: str) -> str:
    return re.sub(r"^[\w-]+:", lambda name: name[0].lower(), head, flags=re.MULTILINE)


def basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def read_head(client: socket.socket) -> str:
    """The head of a request; one byte of what is no HTTP."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (byte := client.recv(1)):
        head += byte
        if not head[:1].isalpha():
            break
    return head.decode("latin-1")


def relay(client: socket.socket, place: Address) -> None:
    """Pass all bytes on, both ways, until both sides have ended."""
    with socket.create_connection(place) as server:
        back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
        back.start()
        _pass_on(client, server)
        back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while said := source.recv(65536):
            sink.sendall(said)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class Raw(Server):
    """Answers every request with the bytes that `answer` makes of its head, and closes the connection."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        super().__init__(_Answering)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Answering(BaseRequestHandler):
    server: Raw

    def handle(self) -> None:
        head = read_head(self.request)
        length = next((int(line[15:]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0)
        while length > 0 and (said := self.request.recv(min(length, 65536))):
            length -= len(said)
        for part in self.server.answer(head):
            self.request.sendall(part)


@contextmanager
def closed_port() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        yield mute.getsockname()[1]
