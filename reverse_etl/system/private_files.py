"""Files with personal data that only their owner can read, whoever writes them: DuckDB sets no file mode itself."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_mask_before = 0


@contextmanager
def private_files() -> Iterator[None]:
    """Files created inside the block are readable by their owner only.

    The umask belongs to the process: of several threads, the first to enter sets it, and the last to leave restores it.
    """
    global _inside, _mask_before
    with _lock:
        if _inside == 0:
            _mask_before = os.umask(0o077)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                os.umask(_mask_before)
