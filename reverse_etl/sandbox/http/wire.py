"""The HTTP server itself: a listening socket, an event loop in a thread, and responses that are broken on purpose.

uvicorn speaks HTTP; a broken response is written to the connection directly, since no framework would send it.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HOST = "127.0.0.1"
KEEP_ALIVE_S = 75  # longer than a client leaves a connection idle: nothing drops unless a fault says so
_STOP_S = 30.0  # only so that a mistake of ours hangs nobody: all that is awaited ends with its connection
_ASK_S = 0.005


class _Protocol(H11Protocol):
    """uvicorn's protocol, which lets the application reach its connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class Broken(Response):
    """A response of which only `sent` bytes reach the client before the connection closes."""

    def __init__(self, whole: bytes, sent: int) -> None:
        super().__init__()
        self._bytes = whole[:sent]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = scope["state"]["transport"]
        transport.write(self._bytes)
        transport.close()  # once all bytes are out
        await _disconnected(receive)


class Trickle(Response):
    """A response whose body arrives byte by byte, over `seconds` in total."""

    def __init__(self, body: bytes, seconds: float, pause: "Pause", **more: Any) -> None:
        super().__init__(body, **more)
        self._seconds = seconds
        self._pause = pause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        for n in range(len(body)):
            if not await self._pause(self._seconds / len(body)):
                return await _disconnected(receive)
            await send({"type": "http.response.body", "body": body[n : n + 1], "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def raw_answer(status: int, headers: Mapping[str, str], body: bytes) -> tuple[bytes, bytes]:
    """Head and body of a response, as they are on the wire."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode("latin-1"), body


class Pause:
    """A wait that ends early, and says so, when the server stops."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()

    async def __call__(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        return not self.stopping.is_set()

    async def until(self, is_over: Callable[[], bool]) -> bool:
        while not is_over():
            if not await self(_ASK_S):
                return False
        return True


class Server:
    """An application on a loopback port, served from a thread of this process."""

    def __init__(self, app: ASGIApp, pause: Pause, port: int) -> None:
        self._pause = pause
        self._config = uvicorn.Config(
            app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self._socket = _listen(port)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.SelectorEventLoop()  # of which `_settle` is made, on Windows too
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="braze-sandbox", daemon=True)

    def start(self) -> None:
        """Returns when requests are answered."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Close all connections; pending responses are abandoned."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._pause.stopping.set)
            self._thread.join()
        self._socket.close()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - `start` raises it in its own thread
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._config.load()
        state = ServerState()
        listener = await self._loop.create_server(lambda: _Protocol(self._config, state, {}), sock=self._socket)
        self._started.set()
        await self._pause.stopping.wait()
        await self._settle()
        listener.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                while state.connections or state.tasks:
                    for connection in list(state.connections):
                        connection.transport.abort()
                    await asyncio.sleep(0)

    async def _settle(self) -> None:
        """Accept no new connections, and let those just accepted appear among the others."""
        self._loop.remove_reader(self._socket.fileno())
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.accept()[0].close()
        for _ in range(10):  # asyncio needs a few turns to set a connection up, and loses it if its listener closes
            await asyncio.sleep(0)


def _listen(port: int) -> socket.socket:
    """A loopback socket. asyncio switches Nagle's delay of 40 ms off only if the protocol is named TCP."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener
