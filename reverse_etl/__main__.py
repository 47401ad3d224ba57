"""`retl`, and `python -m reverse_etl`, as a process: how it begins and ends, which takes longer than a small sync.

See docs/performance.md.
"""

import atexit
import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

_YOUNG = 200_000  # objects that are made before Python looks for garbage among them: more than a command imports


def program() -> NoReturn:
    """Run the command, flush what it printed, and end the process without taking all that it holds apart."""
    gc.set_threshold(_YOUNG)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it looks for some in all packages there are
    try:
        from reverse_etl.cli import main

        main()
    except KeyboardInterrupt:  # while Python loads the command, or while it is about to end
        with suppress(OSError):
            os.write(2, b"interrupted\n")
        os._exit(130)
    except SystemExit as ended:
        atexit._run_exitfuncs()  # those of connections that a command has left open, and of logging
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):  # which `main` has reported
                stream.flush()
        os._exit(int(ended.code or 0))


if __name__ == "__main__":
    program()
