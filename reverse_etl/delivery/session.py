"""The connection to the destination: opened when a run first needs it, shared by all runs of one command."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from reverse_etl.braze.modes import RATE_LIMITS, Window
from reverse_etl.braze.workspace import Workspace
from reverse_etl.delivery.destination import Destination, destination_of
from reverse_etl.delivery.pacing import Pacer
from reverse_etl.errors import ProjectError
from reverse_etl.project.project import LoadedProject
from reverse_etl.system.private_files import create_ignored, private_files

T = TypeVar("T")
SANDBOX_KEY = "sandbox"  # has every permission in the sandbox that a run starts for itself


def windows(project: LoadedProject, family: str) -> list[Window]:
    """The rate limit of a family of endpoints: from `rate_limits`, or else Braze's documented default."""
    limits = project.spec.target.destination.rate_limits
    agreed = next((limits for name, limits in limits.items() if name == family), ())
    return [Window(limit.requests, limit.per_seconds) for limit in agreed] or [RATE_LIMITS[family]]


def used_share(project: LoadedProject, rate_limit_share: float = 1.0) -> float:
    """The fraction of every rate limit that a run uses: that of the command, of what `keep_free` leaves."""
    return rate_limit_share * (1 - project.spec.target.destination.free_fraction)


class Session:
    """A destination, and the rate limits shared by all that send to it. Safe to use from many threads.

    A pacer is not: the syncs that send to one family of endpoints do so one after the other.
    """

    def __init__(self, project: LoadedProject, stack: ExitStack, rate_limit_share: float) -> None:
        self.rate_limit_share = rate_limit_share
        self._project, self._stack = project, stack
        self._workspace: Workspace | None = None
        self._pacers: dict[str, Pacer] = {}
        self._known: dict[str, Any] = {}
        self._lock, self._reading = threading.Lock(), threading.RLock()
        self._api_key = SANDBOX_KEY if project.uses_sandbox else project.api_key()
        if not project.uses_sandbox:
            project.network.check(project.spec.target.destination.endpoint)

    def workspace(self) -> Workspace:
        """Where to send. `endpoint: sandbox` starts the sandbox now; it stops with the session."""
        with self._lock:
            if self._workspace is None:
                settings = self._project.spec.target.destination
                url = self._start_sandbox() if self._project.uses_sandbox else settings.endpoint
                self._workspace = Workspace(url, self._api_key, settings.timeout_s, self._project.network)
            return self._workspace

    def destination(self) -> Destination:
        """Where to send, as a state knows it. Starts the sandbox, like `workspace`."""
        self.workspace()
        return destination_of(self._project)

    def pacer(self, family: str) -> Pacer:
        """The pacer of a family of endpoints, shared within the session."""
        with self._lock:
            if family not in self._pacers:
                kept = self._project.spec.target.destination.free_fraction
                share = used_share(self._project, self.rate_limit_share)
                self._pacers[family] = Pacer(windows(self._project, family), share, kept)
            return self._pacers[family]

    def windows(self, family: str) -> list[Window]:
        """The rate limit of a family of endpoints."""
        return windows(self._project, family)

    def once(self, what: str, read: Callable[[], T]) -> T:
        """What `read` returns; in a session, it is called once for the same thing, unless it is forgotten."""
        with self._reading:
            if what not in self._known:
                self._known[what] = read()
            found: T = self._known[what]
            return found

    def forget(self, what: str) -> None:
        """Let a thing be read again: it has changed."""
        with self._reading:
            self._known.pop(what, None)

    def _start_sandbox(self) -> str:
        from reverse_etl.sandbox import FileRefusedError, Sandbox

        with private_files():
            create_ignored(self._project.target_folder.parent)
            self._project.target_folder.mkdir(exist_ok=True)
        sandbox = Sandbox(self._project.sandbox_file, keys={SANDBOX_KEY: {"*"}})
        try:
            return self._stack.enter_context(sandbox).url
        except FileRefusedError as error:
            hint = "move the file away; the sandbox then creates a new, empty one"
            raise ProjectError(str(error), hint=hint, code="P083") from error


@contextmanager
def open_session(project: LoadedProject, rate_limit_share: float = 1.0) -> Iterator[Session]:
    """The session of a project's target; it uses that fraction of every rate limit, of what `keep_free` leaves.

    Raises ProjectError, before anything else is tried, if there is no API key, or a variable names no proxy or file of
    certificates.
    """
    with ExitStack() as stack:
        yield Session(project, stack, rate_limit_share)
