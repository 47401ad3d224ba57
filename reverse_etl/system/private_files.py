"""Files that hold personal data are for their owner only, whoever writes them: DuckDB asks for no mode of its own."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_mask_before = 0


@contextmanager
def private_files() -> Iterator[None]:
    """Files made inside are readable by this user only.

    The mask belongs to the process: of several threads the first one in sets it, and the last one out puts it back.
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
