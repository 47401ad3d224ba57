"""One collector from its start to its end. Whoever is killed anywhere in between has lost nothing that was answered."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from reverse_etl.collect.contract import Source
from reverse_etl.collect.keep import Keeper, KeepOf
from reverse_etl.collect.log import Log
from reverse_etl.collect.server import Collector, Done, serve
from reverse_etl.errors import BusyError, ProjectError
from reverse_etl.project.collected import LOCK
from reverse_etl.system.clock import Clock
from reverse_etl.system.disk import remedy
from reverse_etl.system.file_lock import locked
from reverse_etl.system.private_files import create_ignored, make_private
from reverse_etl.words import count, moment

K = TypeVar("K", str, int)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have the folder of a collector during the block, alone; it is created if need be.

    Raises BusyError if another process has it, and ProjectError if it cannot be written.
    """
    try:
        create_ignored(folder)
        make_private(folder)
    except OSError as error:
        hint = remedy(error, "make it writable for the current user, or change `path` of `collect`")
        raise ProjectError(f"cannot write {folder}: {error.strerror}", hint=hint, code="P120") from error
    with locked(folder / LOCK, lambda holder: _busy(folder, holder)):
        yield


def collect(
    folder: Path,
    sources: Mapping[str, Source],
    keep_of: KeepOf,
    listener: socket.socket,
    tls: tuple[Path, Path] | None,
    ready: Callable[[], None],
    say: Callable[[str], None],
    clock: Clock | None = None,
) -> None:
    """Answer requests until SIGINT or SIGTERM, then write what is left of the log to Parquet files.

    In the main thread, and within `held`. A second signal ends it at once: the next start does the rest. Raises
    ProjectError if the folder cannot be used.
    """
    clock = clock or Clock()
    app = Collector(sources, clock, say)
    try:
        log = Log[Done](folder, app.told, clock)
    except OSError as error:
        hint = remedy(error, "make it writable for the current user")
        raise ProjectError(f"cannot read {folder}: {error.strerror}", hint=hint, code="P120") from error
    minutes = _Minutes(app, clock, say)
    keeper = Keeper(folder, log.rotate, keep_of, clock, say, [minutes])
    with log:
        app.log = log
        with keeper:
            is_all_answered = serve(app, listener, tls, ready)
    minutes()
    if is_all_answered:
        keeper.keep()


def _busy(folder: Path, holder: str | None) -> BusyError:
    what = f"{folder} is in use by another process"
    hint = "one collector at a time writes to a folder: end that process, or wait for `retl forget`"
    return BusyError(f"{folder} is in use: {holder}" if holder else what, hint=hint, code="B003")


class _Minutes:
    """Says what has come since it was called last, if anything has."""

    def __init__(self, app: Collector, clock: Clock, say: Callable[[str], None]) -> None:
        self._app, self._clock, self._say = app, clock, say
        self._records, self._responses = dict[str, int](), dict[int, int]()

    def __call__(self) -> None:
        records, responses = dict(self._app.traffic.records), dict(self._app.traffic.responses)
        came = [
            *(f"{count(n, 'record')} for {name}" for name, n in _more(records, self._records)),
            *(f"{n:,} x {status}" for status, n in _more(responses, self._responses) if status != 200),
        ]
        if came:
            self._say(f"{moment(self._clock.utc())}: {', '.join(came)}")
        self._records, self._responses = records, responses


def _more(now: Mapping[K, int], before: Mapping[K, int]) -> list[tuple[K, int]]:
    return [(key, n - before.get(key, 0)) for key, n in sorted(now.items()) if n > before.get(key, 0)]
