"""HTTP for `retl collect`: what may be asked of it at once, how long it waits, and what it answers.

A request is answered with 200 when its records are on disk, and not before. All else takes nothing of it.

| response | when                                                                                       |
|----------|--------------------------------------------------------------------------------------------|
| 200      | everything is on disk                                                                      |
| 400      | no JSON object; with ?unwrap, no array of them                                             |
| 403, 404 | no good key; no such source or table                                                       |
| 405, 415 | not POST; a compressed body                                                                |
| 408      | the body did not arrive in time                                                            |
| 413      | the body is too large                                                                      |
| 429      | more requests than the rate limit of the key                                               |
| 503      | the disk takes nothing more, or too much waits for it                                      |
"""

import asyncio
import json
import logging
import signal
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from reverse_etl.collect.contract import MAX_BODY_BYTES, Admitted, Refusal, Source, admitted, records_of
from reverse_etl.collect.log import Log, line_of
from reverse_etl.system.clock import Clock

MAX_WAITING_BYTES = 64 * 1024 * 1024  # of bodies that arrive, and of lines that wait for the disk
MAX_CONNECTIONS = 1000
HEAD_S = 10.0  # for a request's head
BODY_S = 30.0  # for its body
KEEP_ALIVE_S = 75
STOP_S = 5  # for requests that are being answered when the collector ends
STALLED_S = 10.0  # from which on a disk that does not answer is no healthy one
CLOSE_S = 0.3  # for idle connections, then
HEALTH = "/health"
Done = asyncio.Future[None]  # of one whose line waits for the disk
_OTHER_FILES = 64  # that are open beside connections
_JSON = (b"content-type", b"application/json")


@dataclass
class Traffic:
    """What has come since the start. No keys, no values."""

    records: Counter[str] = field(default_factory=Counter)  # by source.table
    responses: Counter[int] = field(default_factory=Counter)  # by status


class _GoneError(Exception):
    """Nobody waits for a response any more."""


class Bucket:
    """At most `rate` requests a second, and as many at once."""

    def __init__(self, rate: float, now_s: float) -> None:
        self._rate = self._left = rate
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        self._left = min(self._rate, self._left + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Collector:
    """The application. Runs in one event loop; the log tells it from another thread what is on disk."""

    def __init__(self, sources: Mapping[str, Source], clock: Clock, say: Callable[[str], None]) -> None:
        self._sources = sources
        self._clock = clock
        self._say = say
        self._buckets = {
            (source.name, key): Bucket(source.rate_limit, clock.now_s())
            for source in sources.values()
            for key in range(len(source.digests))
        }
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting_bytes = 0
        self.log: Log[Done] | None = None
        self.traffic = Traffic()

    def told(self, whose: Sequence[Done], error: OSError | None) -> None:
        """What the log calls, in its thread."""
        with suppress(RuntimeError):  # the loop has ended, and with it all who waited
            if self._loop is not None:
                self._loop.call_soon_threadsafe(_settle, whose, error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._loop = self._loop or asyncio.get_running_loop()
        status, body, headers = HTTPStatus.OK, b"{}", dict[str, str]()
        try:
            await self._answer(scope, receive)
        except Refusal as refusal:
            status, headers = refusal.status, refusal.headers
            body = json.dumps({"error": refusal.message}).encode()
        except _GoneError:
            return
        except Exception as error:  # noqa: BLE001  # its text may be personal data
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, b'{"error": "internal error"}'
            self._say(f"a request failed because of a bug: {type(error).__name__}")
        if scope["path"] != HEALTH:
            self.traffic.responses[status] += 1
        more = [(name.encode(), text.encode()) for name, text in headers.items()]
        length = (b"content-length", b"%d" % len(body))
        await send({"type": "http.response.start", "status": status, "headers": [_JSON, length, *more]})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, scope: Scope, receive: Receive) -> None:
        """Returns when what was sent is on disk. Raises Refusal.

        A body that is not read is discarded by uvicorn, so that its sender sees the response.
        """
        if scope["path"] == HEALTH:
            return await self._check_health()
        headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in reversed(scope["headers"])}
        query = scope["query_string"].decode("latin-1")
        sent = admitted(self._sources, scope["method"], scope["path"], query, headers)
        if not self._buckets[sent.source.name, sent.key].take(self._clock.now_s()):
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "too many requests with this key", {"retry-after": "1"})
        with self._room() as reserve:
            await self._take(sent, await _body(receive, reserve), reserve)

    async def _take(self, sent: Admitted, body: bytes, reserve: Callable[[int], None]) -> None:
        received_at = self._clock.utc()
        records = records_of(body, sent, received_at)
        if records:
            line = line_of(sent.source.name, sent.table, received_at, records)
            reserve(len(line))
            await self._write(line)
            self.traffic.records[f"{sent.source.name}.{sent.table}"] += len(records)

    @contextmanager
    def _room(self) -> Iterator[Callable[[int], None]]:
        """Yields what reserves memory, in bytes, until the end of the block. It raises Refusal if there is none."""
        mine = 0

        def reserve(size: int) -> None:
            nonlocal mine
            if self._waiting_bytes + size > MAX_WAITING_BYTES:
                what = "too much is waiting for the disk; nothing was kept"
                raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, what, {"retry-after": "1"})
            mine += size
            self._waiting_bytes += size

        try:
            yield reserve
        finally:
            self._waiting_bytes -= mine

    async def _check_health(self) -> None:
        """A disk that took nothing the last time is asked again. Raises Refusal, also if one does not answer."""
        assert self.log is not None
        since_s = self.log.writes_since_s
        if since_s is not None and self._clock.now_s() - since_s > STALLED_S:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"the disk has not answered for over {STALLED_S:g} s")
        if self.log.failure is not None:
            await self._write(b"\n")

    async def _write(self, line: bytes) -> None:
        """Returns when a line is on disk. Raises Refusal."""
        assert self.log is not None
        done: Done = asyncio.get_running_loop().create_future()
        self.log.append(line, done)
        try:
            await done
        except OSError as error:
            what = "the disk takes nothing at the moment; nothing was kept"
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, what, {"retry-after": "10"}) from error


def _settle(whose: Sequence[Done], error: OSError | None) -> None:
    for done in whose:
        if done.done():  # cancelled
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


async def _body(receive: Receive, reserve: Callable[[int], None]) -> bytes:
    """The body, if it is neither too large nor too slow. Raises Refusal."""
    parts, length = [], 0
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _GoneError
                length += len(message["body"])
                if length > MAX_BODY_BYTES:
                    what = f"the body is larger than {MAX_BODY_BYTES:,} bytes"
                    raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, what)
                reserve(len(message["body"]))
                parts.append(message["body"])
                if not message["more_body"]:
                    return b"".join(parts)
    except TimeoutError as error:
        what = f"the body did not arrive within {BODY_S:g} s"
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, what, {"connection": "close"}) from error


# --- connections -----------------------------------------------------------------------------------------------------

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 33\r\n"
    b'content-type: application/json\r\n\r\n{"error": "too many connections"}'
)


class _Protocol(H11Protocol):
    """uvicorn's protocol, with a limit for connections, and for the time that the head of a request may take."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > max_connections():
            transport.write(_FULL)
            transport.close()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Do not wait for a client that has nothing to say to take note of the end, as TLS would."""
        super().shutdown()
        if self.transport.is_closing():
            self.loop.call_later(CLOSE_S, self.transport.abort)

    def _watch(self) -> None:
        """Whoever begins a request has to end its head in time. While one is answered, others watch over the time."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._unwatch()
        elif self._late is None and not self.transport.is_closing():
            self._late = self.loop.call_later(HEAD_S, self.transport.abort)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


@cache
def max_connections() -> int:
    """As many as wanted, or as the process may have files."""
    if sys.platform == "win32":  # which has no such limit
        return MAX_CONNECTIONS
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, max(10, files - _OTHER_FILES))


class _Server(uvicorn.Server):
    """Ends at the first signal when all is answered, and at the second one at once; it passes neither on."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # may be about what was sent
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {one: signal.signal(one, self._end) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, number: int, frame: object) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(app: Collector, listener: socket.socket, tls: tuple[Path, Path] | None, ready: Callable[[], None]) -> bool:
    """Answer requests until a signal arrives; in the main thread. `ready` is called when they are answered.

    Whether all that had begun has been answered: not if a second signal came.
    """
    logging.getLogger("uvicorn").disabled = logging.getLogger("uvicorn.error").disabled = True  # it tells what was sent
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_S,
        ssl_certfile=tls and tls[0],
        ssl_keyfile=tls and tls[1],
    )
    server = _Server(config, ready)
    server.run([listener])
    return not server.force_exit


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections. Raises OSError."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    # asyncio switches Nagle's delay of 40 ms off only if the protocol is named TCP.
    listener = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener
