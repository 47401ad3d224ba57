"""HTTP/1.1 on a socket that is connected: a request out, its response in.

httptools reads responses (llhttp, the parser of Node.js), in C: http.client reads their headers as those of an e-mail,
which takes longer than all else that is done for a request.
"""

import re
from collections.abc import Mapping
from http.client import BadStatusLine, HTTPException, IncompleteRead, RemoteDisconnected
from typing import NamedTuple, Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_PIECE_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 64 * 1024
_NOT_IN_A_HEADER = re.compile(r"[\0\r\n]")


class Wire(Protocol):
    """What is used of a socket, or of TLS on one."""

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...


class Response(NamedTuple):
    """A complete response. `headers` by their names in lower case; `body` as it was sent, or None if it is too large.

    `is_last`: the connection cannot be used again.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes | None
    is_last: bool


def request_head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """The first lines of a request, but for Content-Length. Raises ValueError for what HTTP cannot carry."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    if any(map(_NOT_IN_A_HEADER.search, lines)):
        raise ValueError("a header has more than one line")
    return "\r\n".join([*lines, ""]).encode("latin-1")


def exchange(wire: Wire, head: bytes, body: bytes | None, most: int) -> Response:
    """Send a request whose head ends with a line end, and read the response, of at most `most` bytes.

    Raises OSError or HTTPException if there is no complete response.
    """
    wire.sendall(b"%b\r\n" % head if body is None else b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body))
    reader = _Reader(most)
    try:
        while not reader.is_complete:
            piece = wire.recv(_PIECE_BYTES)
            reader.feed(piece) if piece else reader.end()
        return reader.response()
    finally:
        del reader.parser  # each keeps the other: no work for the garbage collector


class _Reader:
    """Takes the bytes of one response; httptools calls its methods."""

    def __init__(self, most: int) -> None:
        self.is_complete = False
        self.parser = HttpResponseParser(self)
        self._most, self._room_for_head = most, _MAX_HEAD_BYTES
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._length = 0
        self._status = 0
        self._is_last = False

    def feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as error:
            raise HTTPException("it changes to another protocol, which nobody has asked for") from error
        except HttpParserError as error:
            self._is_last = True
            if not self.is_complete:  # else it is something after the response
                raise BadStatusLine("the response is not HTTP") from error
        if not self._status:
            self._room_for_head -= len(data)
            if self._room_for_head < 0:
                raise HTTPException("its headers do not end")
        elif self._length > self._most:
            self.is_complete = self._is_last = True

    def end(self) -> None:
        """The server has closed the connection: that may be the end of the response, or come in its middle."""
        if not self._status:
            raise RemoteDisconnected("the connection was closed without a response")
        if "content-length" in self._headers or "transfer-encoding" in self._headers:
            raise IncompleteRead(b"".join(self._body))
        self.is_complete = self._is_last = True

    def response(self) -> Response:
        body = b"".join(self._body) if self._length <= self._most else None
        return Response(self._status, self._headers, body, self._is_last)

    # --- called by httptools; what comes after the response is nobody's ---

    def on_message_begin(self) -> None:
        self._is_last = self.is_complete

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.is_complete:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        if not self.is_complete:
            self._status = self.parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        if not self.is_complete:
            self._length += len(data)
            if self._length <= self._most:
                self._body.append(data)

    def on_message_complete(self) -> None:
        if self.is_complete:
            return
        if self._status >= 200:
            self.is_complete = True
            self._is_last = not self.parser.should_keep_alive()
        else:  # an interim response, such as 100: the final one follows
            self._status, self._headers = 0, {}
