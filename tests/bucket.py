"""A local S3: moto's server over real HTTP on the loopback, with the faults that a store can have."""

import logging
import threading
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Any, Self

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from reverse_etl.network.network import Network
from reverse_etl.shared_state.head import Head, read_head
from reverse_etl.shared_state.object_store import ObjectStore
from tests.canary import STORE_SECRET as SECRET
from tests.processes import HANG_S

_NAMES = count(1)
logging.getLogger("werkzeug").setLevel(logging.ERROR)


class Bucket:
    """A server with one empty bucket.

    `is_down` answers 503 to all; `refuses` answers 403, `refuses_states` only to states; `ignores_conditions` takes what If-Match forbids. `log` has
    method and path of all requests; `bytes_up` and `writes` are what those that write have brought, and how many they are.
    """

    def __init__(self) -> None:
        self.is_down = self.refuses = self.refuses_states = self.ignores_conditions = False
        self.log: list[tuple[str, str]] = []
        self.bytes_up = self.writes = 0
        self._writes, self._at_write = count(1), (0, lambda: None)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._one_at_a_time = threading.Lock()  # moto looks, and then writes: S3 does both in one
        self._in_work, self._answered = 0, threading.Condition()
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.name = f"bucket-{next(_NAMES)}"
        request = urllib.request.Request(f"{self.endpoint}/{self.name}", method="PUT")
        urllib.request.urlopen(request).close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def at_write(self, number: int, call: Callable[[], None]) -> None:
        """Call this before the `number`th request from now on that would change something."""
        self._writes, self._at_write = count(1), (number, call)

    def settle(self) -> None:
        """Wait until every request is answered that was made before: that of a process which was killed may still write."""
        self.names()  # requests are taken up in the order in which they come
        with self._answered:
            assert self._answered.wait_for(lambda: self._in_work == 0, HANG_S)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def url(self) -> str:
        return f"s3://{self.name}/retl"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "eu-central-1",
        }

    def objects(self, sync: str = "it") -> ObjectStore:
        return ObjectStore(f"{self.url}/test/{sync}", Network(self.environ))

    def names(self) -> list[str]:
        """What lies there of the sync `it`, without its ledger."""
        return [name for name in self.objects().names() if not name.startswith("ledger/")]

    def named(self) -> list[str]:
        """What is to lie there: the head, and what it names."""
        return sorted(["head.json", *(stored.name for stored in self.head().objects())])

    def bytes_at_rest(self, ledger: bool = False) -> int:
        """Of all objects of the ledger, or of all others."""
        listed = ObjectStore(self.url, Network(self.environ))._store.list()
        sizes = ((int(found["size"]), "/ledger/" in str(found["path"])) for page in listed for found in page)
        return sum(size for size, is_ledger in sizes if is_ledger is ledger)

    def head(self) -> Head:
        found = self.objects().read("head.json")
        assert found
        return read_head(found[0])

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._answered:
            self._in_work += 1
        try:
            return self._answer(environ, start_response)
        finally:
            with self._answered:
                self._in_work -= 1
                self._answered.notify_all()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.log.append((method, path))
        if method in ("PUT", "POST"):
            self.bytes_up += int(environ.get("CONTENT_LENGTH") or 0)
            self.writes += 1
        number, call = self._at_write
        if method not in ("GET", "HEAD") and next(self._writes) == number:
            call()
        is_refused = self.refuses or (self.refuses_states and method in ("PUT", "POST") and "/state-" in path)
        if self.is_down or is_refused:
            status, code = ("503 Slow Down", "SlowDown") if self.is_down else ("403 Forbidden", "AccessDenied")
            start_response(status, [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode()]
        if self.ignores_conditions:
            for name in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH"):
                with suppress(KeyError):
                    del environ[name]
        with self._one_at_a_time:
            return list(self._app(environ, start_response))
