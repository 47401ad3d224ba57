"""One request to Braze: bytes out, and what is known about them afterwards.

`Connection.send` turns bytes into Answer | NotSent | NoAnswer, by how far the request got, never by exception;
`answers.py` decides what that means for the records.

The sender uses urllib3, one connection per thread, and connects in a step of its own: that is the only way to be
certain that nothing was sent.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPException
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import is_connection_dropped

from reverse_etl.braze.answers import Answer, NoAnswer, NotSent
from reverse_etl.redaction import MASK, keep_secret, redact, redact_bytes

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Workspace:
    """A workspace of Braze, or the sandbox: where to send, and with which API key."""

    url: str
    api_key: str = field(repr=False)
    timeout_s: float = 30.0
    ca_bundle: str | None = None

    def __post_init__(self) -> None:
        keep_secret(self.api_key)

    @property
    def headers(self) -> dict[str, str]:
        """What every request to it carries: the key, and who sends it."""
        return {"Authorization": f"Bearer {self.api_key}", "User-Agent": user_agent()}


@cache
def user_agent() -> str:
    """`retl/VERSION`, for the logs of whoever answers."""
    return f"retl/{version('reverse-etl')}"


class Connection:
    """A keep-alive connection, to be used by one thread. It connects when needed."""

    def __init__(self, workspace: Workspace, deadlines: "Deadlines") -> None:
        self._workspace = workspace
        self._deadlines = deadlines
        self._headers = {**workspace.headers, "Content-Type": "application/json"}
        self._connection: _Plain | _Secure | None = None

    def send(self, path: str, body: bytes) -> Answer | NotSent | NoAnswer:
        """POST `body`. Never raises for a failure of the network or the server.

        What it returns does not contain the API key: Braze's response to a wrong key does.
        """
        try:
            connection = self._connected()
        except (OSError, urllib3.exceptions.HTTPError) as error:
            self.close()
            return NotSent(self._redacted(f"cannot reach {self._workspace.url}: {_reason(error)}"))
        connection.has_sent = False
        with self._deadlines.watch(connection, self._workspace.timeout_s):
            try:
                connection.request("POST", path, body=body, headers=self._headers)
                response = connection.getresponse()
                content = response.data
            except (OSError, HTTPException, urllib3.exceptions.HTTPError, ValueError) as error:
                self.close()
                if not connection.has_sent:
                    reason = "HTTP cannot carry it" if isinstance(error, ValueError) else _reason(error)
                    return NotSent(self._redacted(f"cannot send a request: {reason}"))
                why = f"no complete response within {self._workspace.timeout_s:g} s: {_reason(error)}"
                return NoAnswer(self._redacted(why))
        headers = {name.lower(): value for name, value in response.headers.items()}
        if headers.get("connection", "").lower() == "close":
            self.close()
        content = redact_bytes(content)
        if response.status >= 300:  # a short key may be a part of any word of a success
            content = content.replace(self._workspace.api_key.encode(), MASK.encode())
        return Answer(response.status, headers, content)

    def _redacted(self, text: str) -> str:
        return redact(text).replace(self._workspace.api_key, MASK)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> "_Plain | _Secure":
        if self._connection is not None and is_connection_dropped(self._connection):
            self.close()
        if self._connection is None:
            connection = _new_connection(self._workspace)
            connection.connect()
            connection.timeout = self._workspace.timeout_s  # for each read from here on
            self._connection = connection
        return self._connection


class _Plain(HTTPConnection):
    """Knows whether anything of a request may have left this machine."""

    has_sent = False

    def send(self, data: Any) -> None:
        self.has_sent = True
        super().send(data)


class _Secure(HTTPSConnection):
    """The same, by TLS."""

    has_sent = False

    def send(self, data: Any) -> None:
        self.has_sent = True
        super().send(data)


def _new_connection(workspace: Workspace) -> _Plain | _Secure:
    url = urlsplit(workspace.url)
    host = url.hostname or ""
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=workspace.ca_bundle or certifi.where())
        return _Secure(host, url.port, timeout=CONNECT_TIMEOUT_S, ssl_context=context)
    return _Plain(host, url.port, timeout=CONNECT_TIMEOUT_S)


def _reason(error: BaseException) -> str:
    """The message of the system, without the exceptions that libraries wrapped around it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.splitlines()[0] if said else type(error).__name__


class Deadlines:
    """Shuts down a connection whose response is not complete in time.

    A socket's timeout applies to each read, so a server that trickles its response would block a thread forever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due_s: dict[HTTPConnection, float] = {}
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None

    @contextmanager
    def watch(self, connection: HTTPConnection, timeout_s: float) -> Iterator[None]:
        with self._lock:
            self._due_s[connection] = time.monotonic() + timeout_s
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._cut_overdue, args=(timeout_s / 10,), daemon=True)
                self._watcher.start()
        try:
            yield
        finally:
            with self._lock:
                self._due_s.pop(connection, None)

    def close(self) -> None:
        self._done.set()

    def _cut_overdue(self, every_s: float) -> None:
        while not self._done.wait(every_s):
            with self._lock:
                overdue = [connection for connection, due_s in self._due_s.items() if due_s < time.monotonic()]
            for connection in overdue:
                with suppress(OSError):
                    if connection.sock is not None:
                        connection.sock.shutdown(socket.SHUT_RDWR)
