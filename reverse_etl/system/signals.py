"""Signals while DuckDB is running: Ctrl-C interrupts a statement at once.

DuckDB itself checks for signals between tasks only, and one task of a join may take minutes. When it then ends the
statement, it swallows what the signal handler raised.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import duckdb
from duckdb import DuckDBPyConnection

# SIGHUP is that of a terminal that was closed; Windows has none, and `nohup` has it ignored.
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_NOBODY = -1  # what `signal.set_wakeup_fd` calls it


def is_swallowed(error: Exception) -> bool:
    """Whether DuckDB raised this instead of what a signal handler raised."""
    return isinstance(error, duckdb.InterruptException) or (
        isinstance(error, RuntimeError) and str(error) == "Query interrupted"
    )


@contextmanager
def interruptible(connection: DuckDBPyConnection, cancel: Callable[[], None] | None = None) -> Iterator[None]:
    """Inside the block, a signal interrupts the running statement, and calls `cancel`, which ends one elsewhere.

    Only the main thread receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    written, read = socket.socketpair()
    written.setblocking(False)
    before = signal.set_wakeup_fd(written.fileno())

    def watch() -> None:
        while number := read.recv(1):
            if number[0] in SIGNALS:
                connection.interrupt()
                if cancel:
                    cancel()
            if before != _NOBODY:
                os.write(before, number)

    watcher = threading.Thread(target=watch, daemon=True)
    try:
        watcher.start()
        yield
    finally:
        signal.set_wakeup_fd(before)
        written.close()
        if watcher.ident:
            watcher.join()
        read.close()
