"""A cheap stand-in for POST /users/track on this machine: it counts, waits and answers; it reads no JSON.

    python -m bench.sink --ready-file F [--latency 0.1] [--requests 3000 --per-seconds 3 --window fixed]
                         [--tls-cert CERT --tls-key KEY] [--stop-after SECONDS]

| call             | answer                                                                                   |
|------------------|------------------------------------------------------------------------------------------|
| POST anything    | 201 after the latency, or 429 at once when the window is full; rows are the "external_id"s |
| GET /stats       | what was taken and refused since the start or the last DELETE                            |
| DELETE /stats    | forget it, and the window                                                                |

It listens on 127.0.0.1 alone, and writes {"port", "pid"} to the ready file once it does. It stops on SIGTERM, or by
itself. Requests are read straight into one buffer per connection and counted there. A client that sends the next
request before it has the answer to the last (pipelining) is hung up on: nothing here needs it.
"""

import argparse
import asyncio
import json
import math
import os
import signal
import ssl
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from wsgiref.handlers import format_date_time

ROW = b'"external_id"'
HEAD_END = b"\r\n\r\n"
MAX_HEAD = 16 * 1024
MAX_BODY = 16 * 1024 * 1024


class Window:
    """At most `requests` in `seconds`: in windows that start at multiples of their length, or in any such span."""

    def __init__(self, requests: int, seconds: float, sliding: bool) -> None:
        self.requests, self.seconds, self.sliding = requests, seconds, sliding
        self.forget()

    def forget(self) -> None:
        self.number, self.taken = -1, 0
        self.times: deque[float] = deque()

    def take(self, now: float) -> tuple[bool, int, float]:
        """Whether a request at `now` (unix seconds) is let in, how many more would be, and when there is more room."""
        return self._take_sliding(now) if self.sliding else self._take_fixed(now)

    def _take_fixed(self, now: float) -> tuple[bool, int, float]:
        number = math.floor(now / self.seconds)
        if number != self.number:
            self.number, self.taken = number, 0
        allowed = self.taken < self.requests
        self.taken += allowed
        return allowed, self.requests - self.taken, (number + 1) * self.seconds

    def _take_sliding(self, now: float) -> tuple[bool, int, float]:
        times = self.times
        while times and times[0] <= now - self.seconds:
            times.popleft()
        allowed = len(times) < self.requests
        if allowed:
            times.append(now)
        return allowed, self.requests - len(times), (times[0] if times else now) + self.seconds


@dataclass
class Stats:
    requests: int = 0
    refused: int = 0
    rows: int = 0
    first: float | None = None
    last: float | None = None
    body_bytes: int = 0
    per_second: Counter[int] = field(default_factory=Counter)

    def as_json(self) -> bytes:
        cpu = os.times()
        histogram = {str(second): count for second, count in sorted(self.per_second.items())}
        return json.dumps({**vars(self), "per_second": histogram, "sink_cpu_s": cpu.user + cpu.system}).encode()


class Sink:
    """What all connections share."""

    def __init__(self, window: Window, latency_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self.window, self.latency_s, self.loop = window, latency_s, loop
        self.stats = Stats()
        self._date_second, self._date = 0, b""

    def date(self, now: float) -> bytes:
        """The Date header, written once a second."""
        if int(now) != self._date_second:
            self._date_second, self._date = int(now), format_date_time(now).encode()
        return self._date

    def track(self, body: bytearray, start: int, end: int) -> tuple[bool, bytes]:
        """Whether the request was taken, and its answer."""
        now = time.time()
        allowed, remaining, reset = self.window.take(now)
        limits = b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n" % (
            self.window.requests,
            remaining,
            math.ceil(reset),
        )
        stats = self.stats
        if not allowed:
            stats.refused += 1
            again = b"Retry-After: %d\r\n" % max(1, math.ceil(reset - now))
            return False, answer(
                b"429 Too Many Requests", b'{"message":"Rate limited"}', self.date(now), limits + again
            )
        rows = body.count(ROW, start, end)
        stats.requests += 1
        stats.rows += rows
        stats.body_bytes += end - start
        stats.per_second[int(now)] += 1
        stats.first = stats.first or (now if rows else None)  # before, retl asks whether this is the sandbox
        stats.last = now
        return True, answer(b"201 Created", b'{"message":"success"}', self.date(now), limits)

    def look(self) -> bytes:
        return answer(b"200 OK", self.stats.as_json(), self.date(time.time()))

    def forget(self) -> bytes:
        self.stats = Stats()
        self.window.forget()
        return answer(b"200 OK", b"{}", self.date(time.time()))


def answer(status: bytes, body: bytes, date: bytes, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nDate: %s\r\n%sContent-Length: %d\r\n\r\n%s" % (
        status,
        date,
        more,
        len(body),
        body,
    )


class Connection(asyncio.BufferedProtocol):
    """One request after another: head, body, answer."""

    transport: asyncio.Transport

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.buffer = bytearray(128 * 1024)
        self.filled = 0
        self.head_end = 0  # where the body begins; 0 while the head is not whole
        self.end = 0  # where the body ends
        self.waiting = False  # for its answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self.buffer)[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes
        if self.waiting or (not self.head_end and not self._read_head()):
            return
        if self.filled == self.end:
            self._take()
        elif self.filled > self.end:
            self.transport.abort()

    def _read_head(self) -> bool:
        """Whether the head is whole; the body's place is known then. Hangs up on what cannot be read."""
        found = self.buffer.find(HEAD_END, 0, self.filled)
        if found < 0:
            if self.filled > MAX_HEAD:
                self.transport.abort()
            return False
        head = bytes(self.buffer[:found]).lower()
        at = head.find(b"\r\ncontent-length:")
        length = 0
        if at >= 0:
            digits = head[at + 17 :].split(b"\r\n", 1)[0].strip()
            length = int(digits) if digits.isdigit() else MAX_BODY + 1
        if length > MAX_BODY or b"\r\ntransfer-encoding:" in head:
            self.transport.abort()
            return False
        self.head_end = found + len(HEAD_END)
        self.end = self.head_end + length
        if b"\r\nexpect: 100-continue" in head:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.end >= len(self.buffer):
            self.buffer = self.buffer + bytearray(self.end + 1 - len(self.buffer))
        return True

    def _take(self) -> None:
        self.waiting = True
        start = bytes(self.buffer[:16])
        if start.startswith(b"GET /stats"):
            self._answer(self.sink.look())
        elif start.startswith(b"DELETE /stats"):
            self._answer(self.sink.forget())
        else:
            taken, reply = self.sink.track(self.buffer, self.head_end, self.end)
            if taken and self.sink.latency_s:
                self.sink.loop.call_later(self.sink.latency_s, self._answer, reply)
            else:
                self._answer(reply)

    def _answer(self, reply: bytes) -> None:
        if self.filled > self.end:  # sent before its answer came
            self.transport.abort()
            return
        self.filled = self.head_end = self.end = 0
        self.waiting = False
        if not self.transport.is_closing():
            self.transport.write(reply)


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed: half the work."""
    try:
        import uvloop  # type: ignore[import-not-found, unused-ignore]  # in the bench's environment, not here
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def serve(options: argparse.Namespace) -> None:
    """Answer until SIGTERM, or until the time is over."""
    loop = asyncio.get_running_loop()
    window = Window(options.requests, options.per_seconds, options.window == "sliding")
    sink = Sink(window, options.latency, loop)
    context = tls(options.tls_cert, options.tls_key)
    server = await loop.create_server(lambda: Connection(sink), "127.0.0.1", 0, ssl=context, backlog=1024)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.call_later(options.stop_after, stop.set)
    write_ready(options.ready_file, {"port": server.sockets[0].getsockname()[1], "pid": os.getpid()})
    await stop.wait()
    server.close()


def write_ready(path: Path, ready: dict[str, int]) -> None:
    """The file is whole as soon as it is there."""
    half = path.with_name(f"{path.name}.{os.getpid()}")
    half.write_text(json.dumps(ready))
    half.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.sink", description="A cheap stand-in for POST /users/track.")
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--latency", type=float, default=0.1, help="seconds until an answer")
    parser.add_argument("--requests", type=int, default=3000, help="that a window lets in")
    parser.add_argument("--per-seconds", type=float, default=3.0, help="length of a window")
    parser.add_argument("--window", choices=["fixed", "sliding"], default="fixed")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--stop-after", type=float, default=900.0, help="seconds")
    options = parser.parse_args()
    loop = new_loop()
    loop.run_until_complete(serve(options))


if __name__ == "__main__":
    main()
