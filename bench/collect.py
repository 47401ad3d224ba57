"""A collector to be measured, one that writes nothing beside it, and clients that send as fast as they are answered.

    python -m bench.collect serve FOLDER --ready-file F [--nothing]
    python -m bench.collect load URL --seconds 10 [--clients 64] [--records 1]

Both collectors are the same code up to the log: HTTP, keys, JSON, the line. The clients print how many requests and
records were answered with 200, in JSON.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.sink import new_loop, write_ready
from reverse_etl.collect import keep, run
from reverse_etl.collect.contract import Source, digest
from reverse_etl.collect.server import Collector, listening, serve
from reverse_etl.system.clock import Clock

KEY = "bench-key-of-no-secret"
EVENT = (
    '{"id":"%s","event_type":"users.behaviors.subscription.GlobalStateChange","time":1764450000,'
    '"user":{"user_id":"5f1a3d9c2b7e4a0012ab34cd","external_user_id":"customer-%s","timezone":"Asia/Seoul"},'
    '"properties":{"subscription_status":"Unsubscribed","email_address":"%s@example.com","channel":"email"}}'
)


class Nothing:
    """In place of the log: all is on disk at once."""

    failure = writes_since_s = None

    def __init__(self, told: Callable[[Sequence[Any], OSError | None], None]) -> None:
        self._told = told

    def append(self, line: bytes, whose: Any) -> None:
        self._told([whose], None)


def quiet(text: str) -> None:
    pass


def collector(options: argparse.Namespace) -> None:
    sources = {"postback": Source("postback", frozenset({"currents"}), (digest(KEY),), rate_limit=1e9)}
    keep.EVERY_S = options.every
    with listening("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]

        def ready() -> None:
            write_ready(options.ready_file, {"port": port, "pid": os.getpid()})

        if options.nothing:
            app = Collector(sources, Clock(), quiet)
            app.log = Nothing(app.told)  # type: ignore[assignment]
            serve(app, listener, None, ready)
        else:
            with run.held(options.folder):
                run.collect(options.folder, sources, lambda source, table: None, listener, None, ready, quiet)


class Client(asyncio.Protocol):
    """Sends one request after another, each when the one before has been answered."""

    transport: asyncio.Transport

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._came = b""
        self.answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._came += data
        if self._came.endswith(b"\r\n\r\n{}"):
            assert self._came.startswith(b"HTTP/1.1 200 "), self._came
            self._came = b""
            self.answered += 1
            self.transport.write(next(self._requests))


def requests(who: int, records: int) -> Iterator[bytes]:
    """Requests of events that differ, all of one length."""
    path = "/postback/v3/event/postback/currents" + ("?unwrap=events" if records > 1 else "")
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {KEY}\r\nContent-Length: %d\r\n\r\n"
    number = 0
    while True:
        names = [f"{who:04d}-{number + n:010d}" for n in range(records)]
        events = ",".join(EVENT % (name, name, name) for name in names)
        body = f'{{"events":[{events}]}}' if records > 1 else events
        number += records
        yield (head % len(body) + body).encode()


async def load(options: argparse.Namespace) -> dict[str, float]:
    loop, port = asyncio.get_running_loop(), int(options.url.rpartition(":")[2])
    clients = [Client(requests(options.first + n, options.records)) for n in range(options.clients)]
    began = time.monotonic()
    for one in clients:
        await loop.create_connection(lambda one=one: one, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.sleep(options.seconds)
    answered, took_s = sum(one.answered for one in clients), time.monotonic() - began
    for one in clients:
        one.transport.abort()
    return {"requests": answered, "records": answered * options.records, "seconds": took_s}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.collect", description="Collectors, and clients for them.")
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve")
    server.add_argument("folder", type=Path)
    server.add_argument("--ready-file", type=Path, required=True)
    server.add_argument("--nothing", action="store_true", help="write nothing")
    server.add_argument("--every", type=float, default=5.0, help="seconds until the log becomes Parquet; retl: 60")
    sender = commands.add_parser("load")
    sender.add_argument("url")
    sender.add_argument("--seconds", type=float, default=10.0)
    sender.add_argument("--clients", type=int, default=64)
    sender.add_argument("--records", type=int, default=1, help="of a request")
    sender.add_argument("--first", type=int, default=0, help="number of the first client: ids are made of it")
    options = parser.parse_args()
    if options.command == "serve":
        collector(options)
    else:
        print(json.dumps(new_loop().run_until_complete(load(options))))


if __name__ == "__main__":
    main()
