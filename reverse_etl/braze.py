"""One request to Braze: bytes out, and what can be said of them afterwards.

Connection.send()   bytes -> Answer | NotSent | NoAnswer, classified by how far the request got, never by exception
judge()             that -> Verdict: what became of each record. Pure

The sender talks through urllib3, one connection for each thread, and connects apart from sending: only so is it certain
that nothing was sent.
"""

import json
import socket
import ssl
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import certifi
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.connection import is_connection_dropped

from reverse_etl.limits import exhausted_wait_s, throttled_wait_s

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Destination:
    """A workspace of Braze, or the stand-in: where to send, and with which key."""

    url: str
    api_key: str = field(repr=False)
    timeout_s: float = 30.0
    ca_bundle: str | None = None


@dataclass(frozen=True)
class Answer:
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class NotSent:
    """No byte of the request left this machine."""

    why: str


@dataclass(frozen=True)
class NoAnswer:
    """The request went out, wholly or in part, and no whole answer came back."""

    why: str


class Connection:
    """A keep-alive connection, to be used by one thread. It connects when it has to."""

    def __init__(self, destination: Destination, deadlines: "Deadlines") -> None:
        self._destination = destination
        self._deadlines = deadlines
        self._headers = {
            "Authorization": f"Bearer {destination.api_key}",
            "Content-Type": "application/json",
            "User-Agent": "retl",
        }
        self._connection: HTTPConnection | None = None

    def send(self, path: str, body: bytes) -> Answer | NotSent | NoAnswer:
        """POST `body`. Never raises for what a network or a server can do."""
        try:
            connection = self._connected()
        except (OSError, urllib3.exceptions.HTTPError) as error:
            self.close()
            return NotSent(f"{self._destination.url} cannot be reached: {_reason(error)}")
        with self._deadlines.watch(connection, self._destination.timeout_s):
            try:
                connection.request("POST", path, body=body, headers=self._headers)
                response = connection.getresponse()
                content = response.data
            except (OSError, HTTPException, urllib3.exceptions.HTTPError, ValueError) as error:
                self.close()
                return NoAnswer(f"no whole answer came within {self._destination.timeout_s:g} s: {_reason(error)}")
        headers = {name.lower(): value for name, value in response.headers.items()}
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(response.status, headers, content)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> HTTPConnection:
        if self._connection is not None and is_connection_dropped(self._connection):
            self.close()
        if self._connection is None:
            connection = _new_connection(self._destination)
            connection.connect()
            connection.timeout = self._destination.timeout_s  # for each read from here on
            self._connection = connection
        return self._connection


def _new_connection(destination: Destination) -> HTTPConnection:
    url = urlsplit(destination.url)
    host = url.hostname or ""
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=destination.ca_bundle or certifi.where())
        return HTTPSConnection(host, url.port, timeout=CONNECT_TIMEOUT_S, ssl_context=context)
    return HTTPConnection(host, url.port, timeout=CONNECT_TIMEOUT_S)


def _reason(error: BaseException) -> str:
    """What the system said, without what libraries wrapped round it."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.splitlines()[0] if said else type(error).__name__


class Deadlines:
    """Cuts a connection whose answer has not come whole in time.

    A socket's timeout is for each read, so a server that trickles its answer would hold a thread for ever.
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


# --- what an answer means --------------------------------------------------------------------------------------------


class Outcome(Enum):
    """What became of a request as a whole."""

    ACCEPTED = "taken, save the records that it names"
    REFUSED = "nothing was taken: a record in it is wrong"
    TOO_LARGE = "nothing was taken: the request is too large"
    THROTTLED = "nothing was taken: over the rate limit"
    NOT_SENT = "nothing was sent"
    UNKNOWN = "nobody knows"
    UNPLACED = "taken, save records that it does not name"
    FORBIDDEN = "nothing was taken, and nothing ever will be: wrong key, permission or address"


@dataclass(frozen=True)
class Verdict:
    """`rejected`: records by their place in the request, and why. `pause_s`: let nobody send for so long."""

    outcome: Outcome
    why: str = ""
    status: int = 0
    rejected: Mapping[int, str] = field(default_factory=dict)
    pause_s: float = 0.0


def way_out(status: int, permission: str) -> str | None:
    """What to do about an answer that no other request would get round (errors page)."""
    return {
        401: "the key is unknown at this address: look at api_key, and whether endpoint is that of the workspace",
        403: f"permissions of a key cannot be changed: make a new key with {permission}",
        404: "there is no such call at this address: look at endpoint",
    }.get(status, "look at endpoint: a redirect is not followed" if 300 <= status < 400 else None)


_BY_STATUS: Mapping[int, Outcome] = {
    400: Outcome.REFUSED,
    408: Outcome.UNKNOWN,
    413: Outcome.TOO_LARGE,
    429: Outcome.THROTTLED,
}


def judge(
    result: Answer | NotSent | NoAnswer, records: int, arrays: Collection[str], counters: Collection[str] = ()
) -> Verdict:
    """What became of a request of `records` records (errors page).

    `arrays` are the names that its array may have in an answer, `counters` the numbers that an answer may give. Success
    is 201, or 202 during maintenance, and whole JSON, and a message that says so, and counts that leave no record out.
    """
    if isinstance(result, NotSent):
        return Verdict(Outcome.NOT_SENT, result.why)
    if isinstance(result, NoAnswer):
        return Verdict(Outcome.UNKNOWN, result.why)
    body, status = _json_object(result.body), result.status
    message = str(body.get("message", "")) if body else ""
    why = f"Braze answered {status}: {message}"[:300] if message else f"Braze answered {status}"
    if status in (200, 201, 202):
        if body is None or message not in ("success", "queued"):
            return Verdict(Outcome.UNKNOWN, f"{why}, and not that it succeeded")
        rejected, is_whole = _placed(body.get("errors"), records, arrays)
        pause_s = exhausted_wait_s(result.headers)
        taken = _counted(body, counters)
        if not is_whole:
            why += ", with an error that names no record"
        elif taken is not None and taken != records - len(rejected):
            why += f", and that it took {taken:,} of {records - len(rejected):,} records"
            is_whole = False
        outcome = Outcome.ACCEPTED if is_whole else Outcome.UNPLACED
        return Verdict(outcome, why, status, rejected, pause_s)
    outcome = _BY_STATUS.get(status, Outcome.FORBIDDEN if status < 500 else Outcome.UNKNOWN)
    if outcome is Outcome.THROTTLED:
        return Verdict(outcome, why, status, pause_s=throttled_wait_s(result.headers))
    if outcome is Outcome.REFUSED:
        rejected, _ = _placed(body.get("errors") if body else None, records, arrays)
        return Verdict(outcome, why, status, {0: message or why} if records == 1 and not rejected else rejected)
    if outcome is Outcome.TOO_LARGE and records == 1:
        return Verdict(Outcome.REFUSED, why, status, {0: "is larger than Braze takes in one request"})
    return Verdict(outcome, why, status)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _counted(body: Mapping[str, Any], counters: Collection[str]) -> int | None:
    """How many records the answer says it took; None if it does not say."""
    said = [body[name] for name in counters if isinstance(body.get(name), int)]
    return sum(said) if said else None


def _placed(errors: Any, records: int, arrays: Collection[str]) -> tuple[dict[int, str], bool]:
    """The records that `errors` name, and whether every error names one."""
    rejected, is_whole = dict[int, str](), True
    for error in errors or () if isinstance(errors, list | None) else (errors,):
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < records and error.get("input_array") in arrays:
            rejected[index] = str(error.get("type", "no reason given"))[:300]
        else:
            is_whole = False
    return rejected, is_whole
