"""Who is told, on loopback: a server of webhooks and heartbeats, and one that speaks SMTP."""

import json
import ssl
from base64 import b64decode
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from socketserver import BaseRequestHandler, StreamRequestHandler
from typing import Any

from tests.proxy import Server


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Hook(Server):
    """Takes what comes, with the status `answers`; while `hangs`, it takes and says nothing."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers = 200
        self.hangs = False
        super().__init__(_Hooked)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def texts(self) -> list[str]:
        return [request.json["text"] for request in self.requests if request.method == "POST"]


class _Hooked(StreamRequestHandler):
    server: Hook

    def handle(self) -> None:
        method, path, _ = self.rfile.readline().decode().split()
        headers = {}
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self.rfile.read(int(headers.get("content-length", 0)))
        if self.server.hangs:
            self.rfile.read(1)  # until the client goes away
            return
        self.server.requests.append(Request(method, path, headers, body))
        self.wfile.write(f"HTTP/1.1 {self.server.answers} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())


class Mails(Server):
    """An SMTP server: STARTTLS if it has a context (or TLS from the start), AUTH PLAIN if it has a login."""

    def __init__(self, context: ssl.SSLContext | None = None, login: str | None = None, implicit: bool = False) -> None:
        self.context, self.login, self.implicit = context, login, implicit
        self.mails: list[EmailMessage] = []
        self.said: list[str] = []
        self.refuses = ""  # an address
        super().__init__(_Mailing)


class _Mailing(BaseRequestHandler):
    server: Mails

    def handle(self) -> None:
        server, self.is_secure, self.is_known = self.server, False, server_takes_all(self.server)
        if server.implicit:
            assert server.context
            self._encrypt()
        self._say("220 mail.example.com")
        while line := self.lines.readline().decode().rstrip("\r\n"):
            server.said.append(line.split()[0].upper())
            if not self._answer(line):
                return

    def setup(self) -> None:
        self.lines = self.request.makefile("rb")

    def finish(self) -> None:
        self.lines.close()
        self.request.close()

    def _encrypt(self) -> None:
        assert self.server.context
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.lines, self.is_secure = self.request.makefile("rb"), True

    def _say(self, text: str) -> None:
        self.request.sendall(f"{text}\r\n".encode())

    def _answer(self, line: str) -> bool:
        server, (verb, *rest) = self.server, line.split()
        if verb.upper() in ("EHLO", "HELO"):
            offers = ["STARTTLS"] * bool(server.context and not self.is_secure) + ["AUTH PLAIN"] * bool(server.login)
            self._say("\r\n".join(["250-mail.example.com", *(f"250-{offer}" for offer in offers), "250 OK"]))
        elif verb.upper() == "STARTTLS":
            self._say("220 go on")
            self._encrypt()
        elif verb.upper() == "AUTH":
            _, user, password = b64decode(rest[1]).decode().split("\0")
            self.is_known = f"{user}:{password}" == server.login
            self._say("235 welcome" if self.is_known else "535 who are you")
        elif not self.is_known:
            self._say("530 log in first")
        elif verb.upper() == "RCPT" and server.refuses and server.refuses in line:
            self._say(f"550 no mailbox {server.refuses}")
        elif verb.upper() == "DATA":
            self._say("354 go on")
            content = b""
            while (part := self.lines.readline()) != b".\r\n":
                content += part
            parsed = message_from_bytes(content, policy=policy.default)
            assert isinstance(parsed, EmailMessage)
            server.mails.append(parsed)
            self._say("250 taken")
        elif verb.upper() == "QUIT":
            self._say("221 bye")
            return False
        else:
            self._say("250 OK")
        return True


def server_takes_all(server: Mails) -> bool:
    return server.login is None
