"""Signals, while DuckDB is at work: Ctrl-C ends a statement at once.

By itself DuckDB looks for signals between tasks, and one task of a join may take minutes. It ends the statement then,
and swallows what the handler has raised.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from duckdb import DuckDBPyConnection

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NOBODY = -1  # what `signal.set_wakeup_fd` calls it


def is_swallowed(error: RuntimeError) -> bool:
    """Whether DuckDB raised this in the place of what a signal handler has raised."""
    return str(error) == "Query interrupted"


@contextmanager
def interruptible(connection: DuckDBPyConnection) -> Iterator[None]:
    """Inside the block, a signal with a handler ends the statement that runs. Only the main thread takes signals."""
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
            if before != _NOBODY:
                os.write(before, number)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        written.close()
        watcher.join()
        read.close()
