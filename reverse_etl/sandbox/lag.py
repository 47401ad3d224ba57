"""What is read is some seconds old: the file as it was before the requests that came since.

Braze shows what it has taken about half a minute later (clients).
"""

import sqlite3
from collections import deque

from reverse_etl.sandbox.store import Store, Transaction


class Lag:
    """Copies of the file from before each of the latest requests that may have changed it. For small files."""

    def __init__(self, store: Store, seconds: float) -> None:
        self._store, self._seconds = store, seconds
        self._copies: deque[tuple[float, sqlite3.Connection]] = deque()

    def keep(self, now: float) -> None:
        """Called before a request that may change the file."""
        if self._seconds > 0:
            copy = sqlite3.connect(":memory:", check_same_thread=False)
            self._store.copy_to(copy)
            self._copies.append((now, copy))

    def seen(self, work: Transaction) -> Transaction:
        """What a request that reads sees."""
        while self._copies and self._copies[0][0] <= work.now - self._seconds:
            self._copies.popleft()[1].close()
        if not self._copies:
            return work
        return Transaction(self._copies[0][1], work.now, work.seed, work.number, 0, 0)

    def close(self) -> None:
        while self._copies:
            self._copies.popleft()[1].close()
