"""One request to Braze: bytes out, and what is known about them afterwards.

`Connection.send` turns bytes into Answer | NotSent | NoAnswer, by how far the request got, never by exception;
`answers.py` decides what that means for the records.

One connection per thread. urllib3 connects, through proxies and with TLS, in a step of its own: that is the only way to
be certain that nothing was sent. `wire.py` sends and reads.
"""

import os
import socket
import threading
import time
from contextlib import suppress
from http.client import HTTPException, IncompleteRead
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
from urllib3.util import parse_url
from urllib3.util.connection import is_connection_dropped

from reverse_etl.braze.answers import Answer, NoAnswer, NotSent
from reverse_etl.braze.wire import Response, exchange, request_head
from reverse_etl.braze.workspace import Workspace, user_agent
from reverse_etl.network.faults import Place, fault_of, reason_of
from reverse_etl.network.proxies import PORTS, Proxy
from reverse_etl.redaction import MASK, redact, redact_bytes
from reverse_etl.words import count

CONNECT_TIMEOUT_S = 10.0
MAX_RESPONSE_BYTES = 4 * 1024 * 1024  # decompressed; Braze's have a few hundred bytes, and some more for each error
_PIECE_BYTES = 64 * 1024
_LOOK_EVERY_S = 0.1
# Whether a read ends when its connection is shut down. Then it needs no timeout, with which the system is asked before
# each read whether there is something. On Windows, a read may go on.
_CUT_ENDS_READS = os.name == "posix"


class Connection:
    """A keep-alive connection, to be used by one thread. It connects when needed."""

    def __init__(self, workspace: Workspace, deadlines: "Deadlines") -> None:
        self._workspace = workspace
        self._deadlines = deadlines
        self._connection: _Plain | None = None
        self._heads: dict[tuple[str, str], bytes] = {}

    def send(self, path: str, body: bytes, method: str = "POST") -> Answer | NotSent | NoAnswer:
        """Send `body`. Never raises for a failure of the network or the server.

        What it returns does not contain the API key: Braze's response to a wrong key does.
        """
        return self._exchange(method, path, body)

    def get(self, path: str) -> Answer | NotSent | NoAnswer:
        """GET what is there. Otherwise like `send`."""
        return self._exchange("GET", path, None)

    def _exchange(self, method: str, path: str, body: bytes | None) -> Answer | NotSent | NoAnswer:
        connected = self._connected()
        if isinstance(connected, NotSent):
            return connected
        try:
            head = self._head(method, path)
        except ValueError:
            return NotSent("cannot send a request: HTTP cannot carry it")
        none_in_time = f"no complete response within {self._workspace.timeout_s:g} s"
        self._deadlines.begin(connected, self._workspace.timeout_s)
        try:
            response = exchange(connected.wire, head, body, MAX_RESPONSE_BYTES)
            content = _decoded(response)
        except _FAILURES as error:
            self.close()
            is_late = connected.is_cut or isinstance(error, TimeoutError)
            return NoAnswer(none_in_time if is_late else self._redacted(f"no complete response: {_why(error)}"))
        finally:
            self._deadlines.end(connected)
        if connected.is_cut:  # what was read so far may look like a whole response
            self.close()
            return NoAnswer(none_in_time)
        if content is None or response.is_last:
            self.close()
        return Answer(response.status, response.headers, content and self._without_key(response.status, content))

    def _head(self, method: str, path: str) -> bytes:
        """The head of a request, made once. Raises ValueError for what HTTP cannot carry, as a key of two lines."""
        head = self._heads.get((method, path))
        if head is None:
            host = urlsplit(self._workspace.url).netloc.rpartition("@")[2]
            headers = {"Host": host, "Accept-Encoding": "identity", **self._workspace.headers}
            more = {"Content-Type": "application/json"} if method != "GET" else {}
            head = self._heads[method, path] = request_head(method, path, {**headers, **more})
        return head

    def _without_key(self, status: int, content: bytes) -> bytes:
        content, key = redact_bytes(content), self._workspace.api_key
        # A short key may be a part of any word of a success.
        return content.replace(key.encode(), MASK.encode()) if status >= 300 and key else content

    def _redacted(self, text: str) -> str:
        key = self._workspace.api_key
        return redact(text).replace(key, MASK) if key else redact(text)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> "_Plain | NotSent":
        if self._connection is not None and is_connection_dropped(self._connection):
            self.close()
        if self._connection is not None:
            return self._connection
        connection = _new_connection(self._workspace)
        self._deadlines.begin(connection, CONNECT_TIMEOUT_S)
        try:
            connection.connect()
        except _FAILURES as error:
            connection.close()
            return self._unreachable(error, connection)
        finally:
            self._deadlines.end(connection)
        self._workspace.was_reached.set()
        connection.wire = connection.sock
        connection.wire.settimeout(None if _CUT_ENDS_READS else self._workspace.timeout_s)  # of each read from here on
        self._connection = connection
        return connection

    def _unreachable(self, error: Exception, connection: "_Plain") -> NotSent:
        url = self._workspace.url
        proxy = None if connection.is_through else connection.by
        fault = fault_of(error, Place(url, urlsplit(url).hostname or "", "endpoint", proxy))
        is_final = fault.is_wrong and not self._workspace.was_reached.is_set()
        return NotSent(self._redacted(fault.why), fault.hint, is_final)


def _why(error: Exception) -> str:
    """Why a response is not complete."""
    if isinstance(error, IncompleteRead):
        return f"the connection was closed after {count(len(error.partial), 'byte')} of its body"
    return reason_of(error)


# What connecting, sending and reading may raise: by the system, http.client, urllib3, and for what is no HTTP.
_FAILURES = (OSError, HTTPException, urllib3.exceptions.HTTPError, ValueError)


class _Plain(HTTPConnection):
    """Knows whether its time was over, and how it came to its server."""

    is_cut = False
    wire: Any = None  # its socket, or TLS on it, once it is connected
    by: Proxy | None = None
    is_through = True


class _Secure(_Plain, HTTPSConnection):
    """The same, by TLS; and knows whether the proxy, if it goes by one, has connected it to the server."""

    def _tunnel(self) -> None:
        super()._tunnel()
        if self.is_cut:  # half a response of the proxy looks like a whole one
            raise TimeoutError("timed out")
        self.is_through = True


def _new_connection(workspace: Workspace) -> _Plain:
    url, network = urlsplit(workspace.url), workspace.network
    host, port = url.hostname or "", url.port or PORTS[url.scheme]
    if url.scheme == "http":  # to loopback only, and never by a proxy
        return _Plain(host, port, timeout=CONNECT_TIMEOUT_S)
    proxy = network.proxy_to(workspace.url)
    if proxy is None:
        return _Secure(host, port, timeout=CONNECT_TIMEOUT_S, ssl_context=network.tls)
    connection = _Secure(
        proxy.host,
        proxy.port,
        timeout=CONNECT_TIMEOUT_S,
        ssl_context=network.tls,
        proxy=parse_url(str(proxy)),
        proxy_config=ProxyConfig(network.tls, False, None, None),
    )
    connection.set_tunnel(host, port, {**proxy.headers, "User-Agent": user_agent()}, scheme=proxy.scheme)
    connection.by, connection.is_through = proxy, False
    return connection


def _decoded(response: Response) -> bytes | None:
    """The body of a response, decompressed; None if it is larger than MAX_RESPONSE_BYTES or cannot be decompressed."""
    if response.body is None or "content-encoding" not in response.headers:
        return response.body
    encoding = {"content-encoding": response.headers["content-encoding"]}
    reader = urllib3.HTTPResponse(BytesIO(response.body), encoding, preload_content=False)
    content = bytearray()
    try:
        while piece := reader.read(_PIECE_BYTES):
            content += piece
            if len(content) > MAX_RESPONSE_BYTES:
                return None
    except urllib3.exceptions.DecodeError:
        return None
    return bytes(content)


class Deadlines:
    """Shuts down a connection whose response is not complete in time.

    A socket's timeout applies to each read, so a server that trickles its response would block a thread forever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due_s: dict[_Plain, tuple[float, float]] = {}  # when its time is over, and how long it is
        self._done = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look after connections. Raises RuntimeError if there is no memory for a thread: before a request."""
        with self._lock:
            if self._watcher is None:
                watcher = threading.Thread(target=self._cut_overdue, daemon=True)
                watcher.start()
                self._watcher = watcher

    def begin(self, connection: _Plain, timeout_s: float) -> None:
        """From now on the connection has so long."""
        if self._watcher is None:
            self.start()
        with self._lock:
            self._due_s[connection] = time.monotonic() + timeout_s, timeout_s

    def end(self, connection: _Plain) -> None:
        """What was waited for is there, or will not come."""
        with self._lock:
            self._due_s.pop(connection, None)

    def unanswered(self, from_s: float) -> tuple[int, float, float]:
        """How many have waited for `from_s` seconds or longer, how long the first has, how long the next one may."""
        with self._lock:
            now_s, waits = time.monotonic(), list(self._due_s.values())
        late = [
            (now_s - due_s + whole_s, due_s - now_s) for due_s, whole_s in waits if now_s - due_s + whole_s >= from_s
        ]
        longest_s, left_s = max((s for s, _ in late), default=0.0), min((s for _, s in late), default=0.0)
        return len(late), longest_s, max(0.0, left_s)

    def close(self) -> None:
        self._done.set()

    def _cut_overdue(self) -> None:
        while not self._done.wait(_LOOK_EVERY_S):
            with self._lock:
                overdue = [connection for connection, (due_s, _) in self._due_s.items() if due_s < time.monotonic()]
            for connection in overdue:
                connection.is_cut = True
                wire = connection.wire or connection.sock
                with suppress(OSError):
                    if wire is not None:
                        getattr(wire, "socket", wire).shutdown(socket.SHUT_RDWR)  # of TLS to a proxy: what is below
