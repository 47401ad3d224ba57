"""Errors that say that the process may not have more memory, whoever raises them: Python, DuckDB, the system."""

import errno
import re

# Of threads: each needs room for its stack, and Python does not say why it did not get one.
_TEXTS = re.compile(
    "can't start new thread|[Cc]annot allocate memory|failed to map segment|bad allocation|Allocation failure"
)
HINT = "allow the process more memory (a container's limit, `ulimit -v`), or use less: --threads 8 --memory-limit 500MB"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory is used up, or that as much as the process may have is."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or _TEXTS.search(str(error)) is not None
