"""A sandbox on this machine: from a file and a port to a running server, and back."""

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from reverse_etl.sandbox.http.answers import MaxObjects, Settings
from reverse_etl.sandbox.http.faults import Fault, Faults
from reverse_etl.sandbox.http.limits import Contract, rates, table
from reverse_etl.sandbox.read import LoggedRequest, Reader, SilentDrop
from reverse_etl.sandbox.snapshots import Snapshots
from reverse_etl.sandbox.store import Store
from reverse_etl.system.platforms import is_running

if TYPE_CHECKING:
    from reverse_etl.sandbox.http.wire import Server
    from reverse_etl.sandbox.lag import Lag

_LOOK_S = 0.5
DEFAULT_KEYS: Mapping[str, Collection[str]] = {"sandbox": {"*"}}


class Sandbox:
    """A local Braze emulator: real HTTP on a loopback port, everything stored in one file.

    with Sandbox() as braze:
        requests.post(f"{braze.url}/users/track", json=..., headers={"Authorization": "Bearer sandbox"})
        assert braze.profile(external_id="u1")["custom_attributes"] == {"plan": "pro"}

    path             the file, readable by its owner only; None: a file in a temporary folder, removed on exit
    keys             API key -> its permissions, such as "users.track"; "*" is all of them
    limits           family -> [(requests, seconds), ...], instead of Braze's own; [] means no limit
    max_objects      objects per /users/track request; depends on the contract
    clock            current unix time, for windows, headers and timestamps
    seed             random seed for faults with a probability, and for generated ids
    log_bodies       number of latest request bodies to store
    keep_first_type  whether values whose type differs from the attribute's first type are converted, or dropped
    contract         "mau": /users/track is limited by monthly active users, an hour and a burst, with other headers
    others           family -> requests per second that other clients make, evenly, as long as the limit has room
    read_lag_s       exports and subscription states are this many seconds old: Braze's are about half a minute
    export_needs_fields  whether /users/export/ids requires `fields_to_export`, as with newer contracts

    Several sandboxes, also in several processes, can share a file: they then share users, requests and rate limits,
    but not faults. Decimals come back as `Decimal`, digit for digit.
    """

    def __init__(
        self,
        path: Path | None = None,
        port: int = 0,
        keys: Mapping[str, Collection[str]] | None = None,
        limits: Mapping[str, Sequence[tuple[int, float]]] | None = None,
        max_objects: MaxObjects = "75 together",
        clock: Callable[[], float] = time.time,
        seed: int = 0,
        log_bodies: int = 10_000,
        *,
        keep_first_type: bool = True,
        export_needs_fields: bool = True,
        contract: Contract = "data points",
        others: Mapping[str, float] | None = None,
        read_lag_s: float = 0.0,
    ) -> None:
        self._path = path
        self._port = port
        self._keys = DEFAULT_KEYS if keys is None else keys
        self._limits, self._others = table(limits, contract), rates(others or {})
        self._settings = Settings(max_objects, export_needs_fields, keep_first_type, contract)
        self._clock = clock
        self._seed = seed
        self._read_lag_s = read_lag_s
        self._log_bodies = log_bodies
        self._faults = Faults(seed)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._store: Store | None = None
        self._reader: Reader | None = None
        self._snapshots: Snapshots | None = None
        self._lag: Lag | None = None
        self._server: Server | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        from reverse_etl.sandbox.http.server import application
        from reverse_etl.sandbox.http.wire import Pause, Server
        from reverse_etl.sandbox.lag import Lag
        from reverse_etl.sandbox.workspace import Access, Workspace

        path = self._path
        if path is None:
            self._folder = tempfile.TemporaryDirectory(prefix="braze-sandbox-")
            path = Path(self._folder.name) / "braze.sqlite"
        self._store = Store(path, seed=self._seed, log_bodies=self._log_bodies)
        self._reader = Reader(path)
        self._snapshots = Snapshots(self._reader, self._faults)
        access = Access(self._keys, self._limits, self._others)
        self._lag = Lag(self._store, self._read_lag_s)
        workspace = Workspace(self._store, self._faults, access, self._settings, self._clock, self._lag)
        pause = Pause()
        app = application(workspace, self._reader, self._faults, self._snapshots, pause)
        self._server = Server(app, pause, self._port)
        self._server.start()

    def _stop(self) -> None:
        for part in (self._server, self._snapshots, self._lag, self._reader, self._store):
            if part is not None:
                part.close()
        self._server = self._snapshots = self._lag = self._reader = self._store = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def key(self) -> str:
        """The first API key."""
        return next(iter(self._keys))

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT"""
        if self._server is None:
            raise RuntimeError("the sandbox is not running: start it with a `with` statement")
        return f"http://127.0.0.1:{self._server.port}"

    def add_fault(self, *faults: Fault) -> None:
        """Inject faults, starting with the next request."""
        self._faults.add(faults)

    def clear_faults(self) -> None:
        self._faults.clear()

    def reset(self) -> None:
        """Clear everything, including faults."""
        self._faults.clear()
        self._read.empty()

    def snapshot(self, name: str | None = None) -> str:
        """Save a snapshot of everything, including faults; returns its name, for `restore`."""
        if self._snapshots is None:
            raise RuntimeError("the sandbox is not running: start it with a `with` statement")
        return self._snapshots.take(name)

    def restore(self, name: str) -> None:
        """Return to a snapshot, as often as you like."""
        if self._snapshots is None:
            raise RuntimeError("the sandbox is not running: start it with a `with` statement")
        self._snapshots.restore(name)

    def requests(self, after: int = 0) -> list[LoggedRequest]:
        """Requests and responses, in order, those after number `after`."""
        return self._read.requests(after)

    def profile(
        self, external_id: str | None = None, alias: tuple[str, str] | None = None, email: str | None = None
    ) -> dict[str, Any] | None:
        """One user by one identifier (alias: name, label): standard fields that are set, and always `braze_id`,
        `created_at`, `custom_attributes`, `user_aliases` and `subscription_groups` (group id -> state)."""
        found = self._read.user_ids(external_id=external_id, alias=alias, email=email)
        return self._read.profile(found[0]) if found else None

    def profiles(self) -> Iterator[dict[str, Any]]:
        """All users, in the order in which they were created."""
        return self._read.profiles()

    def events(
        self, external_id: str | None = None, alias: tuple[str, str] | None = None, email: str | None = None
    ) -> list[dict[str, Any]]:
        """Events of one user, or of all users: external_id (or None), name, time, and whatever else was sent."""
        return self._read.events(self._chosen(external_id, alias, email))

    def purchases(
        self, external_id: str | None = None, alias: tuple[str, str] | None = None, email: str | None = None
    ) -> list[dict[str, Any]]:
        """Purchases in the same way, one entry per accepted object, whatever its quantity."""
        return self._read.purchases(self._chosen(external_id, alias, email))

    def catalog(self, name: str) -> list[dict[str, Any]] | None:
        """The items of a catalog with their `id`, in the order of creation; None if the catalog does not exist."""
        return self._read.catalog(name)

    def counts(self) -> dict[str, int]:
        """users, events, purchases, requests, empty_requests (`{}`, such as those of `retl debug`; not in requests),
        attributes_written, data_points, silent_drops"""
        return self._read.counts()

    def silent_drops(self) -> list[SilentDrop]:
        """What was not stored, or not stored as sent, although the response was a success."""
        return self._read.silent_drops()

    def _chosen(self, external_id: str | None, alias: tuple[str, str] | None, email: str | None) -> list[int] | None:
        if external_id is None and alias is None and email is None:
            return None
        return self._read.user_ids(external_id=external_id, alias=alias, email=email)[:1]

    @property
    def _read(self) -> Reader:
        if self._reader is None:
            raise RuntimeError("the sandbox is not running: start it with a `with` statement")
        return self._reader


def serve(sandbox: Sandbox, ready: Callable[[str], None], parent: int | None = None) -> None:
    """Run a sandbox until SIGINT or SIGTERM, from the main thread. `ready` is called with the URL once it is up.

    With `parent`, a process id, it also exits within a second of that process.
    """
    stop = threading.Event()
    before = {one: signal.signal(one, lambda number, frame: stop.set()) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        with sandbox:
            ready(sandbox.url)
            while not stop.wait(_LOOK_S if parent else None):
                if parent and not is_running(parent):
                    return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
