"""Batches of rows that a thread reads ahead, while nobody waits for them yet."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

MOST_BYTES = 64_000_000  # read ahead, and a batch more
_AGAIN_S = 0.5


class Ahead:
    """What a generator of pyarrow.RecordBatch yields, read by a thread from now on, up to `MOST_BYTES` ahead.

    `cancel` ends a read that the thread is waiting in. The generator is closed by the thread, too.
    """

    def __init__(self, batches: Generator[Any], cancel: Callable[[], None]) -> None:
        self._batches, self._cancel = batches, cancel
        self._read, self._bytes = deque[Any](), 0
        self._error: BaseException | None = None
        self._is_dropped, self._has_ended = False, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read_all, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Any]:
        """Raises what the generator has raised, after what it had yielded before."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._read or self._has_ended)
                if not self._read:
                    break
                batch = self._read.popleft()
                self._bytes -= batch.nbytes
                self._changed.notify_all()
            yield batch
        if self._error is not None:
            raise self._error

    def drop(self) -> None:
        """Read nothing more. When this returns, the thread has ended. May be called several times."""
        with self._changed:
            self._is_dropped = True
            self._changed.notify_all()
            while not self._has_ended:
                self._cancel()
                self._changed.wait(_AGAIN_S)  # it may have been about to begin: then there was nothing to cancel
        self._thread.join()

    def _read_all(self) -> None:
        try:
            for batch in self._batches:
                with self._changed:
                    self._read.append(batch)
                    self._bytes += batch.nbytes
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._bytes < MOST_BYTES or self._is_dropped)
                    if self._is_dropped:
                        break
        except BaseException as error:  # noqa: BLE001  (who reads the rows gets it)
            self._error = error
        finally:
            self._batches.close()
            with self._changed:
                self._has_ended = True
                self._changed.notify_all()
