"""Processes that are forked from one which has imported all of retl: a second less for each than a new interpreter."""

import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import chdir
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Self

import reverse_etl

HANG_S = 300.0  # nothing takes so long, on the slowest machine: what does, hangs
_FORKS = multiprocessing.get_context("forkserver")
_MODULES = [module.name for module in pkgutil.walk_packages(reverse_etl.__path__, "reverse_etl.")]
_FORKS.set_forkserver_preload(["tests.torture", *(name for name in _MODULES if not name.endswith("__main__"))])
_RUNNING: list["Forked"] = []


class Forked:
    """A function of a module as a process, with what `subprocess.Popen` has."""

    def __init__(self, function: Callable[..., None], *arguments: Any) -> None:
        with chdir(Path(__file__).parents[1]):  # the fork server finds the modules there
            forkserver.ensure_running()
        self.folder = tempfile.TemporaryDirectory()
        files = [Path(self.folder.name) / name for name in ("out", "err")]
        for file in files:
            file.touch()
        self._out, self._err = files
        self._process = _FORKS.Process(target=_call, args=(files, function, *arguments), daemon=True)
        self._process.start()
        self.pid = int(self._process.pid or 0)
        _RUNNING.append(self)

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = HANG_S) -> int:
        self._process.join(timeout)
        assert self.returncode is not None, f"it hangs: {self.out}{self.err}"
        return self.returncode

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what it is to do. Fails at once if it ends without."""
        give_up_s = time.monotonic() + HANG_S
        while not is_so():
            assert self.returncode is None, f"it ended: {self.returncode}, {self.out}{self.err}"
            assert time.monotonic() < give_up_s, f"it hangs: {self.out}{self.err}"
            time.sleep(0.005)

    def wait_for(self, event: threading.Event, timeout: float | None = None) -> None:
        """Wait for an event, or for its end; after `timeout`, no longer."""
        give_up_s = time.monotonic() + (timeout or HANG_S)
        while self.returncode is None and not event.wait(0.01):
            if time.monotonic() > give_up_s:
                assert timeout, f"it hangs: {self.out}{self.err}"
                return

    def communicate(self, timeout: float = HANG_S) -> tuple[str, str]:
        self.wait(timeout)
        return self.out, self.err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()


def end_all() -> None:
    """End what a test has left running."""
    while _RUNNING:
        with _RUNNING.pop() as process:
            pass
        process.folder.cleanup()


def command(folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
    """`retl`, in a folder."""
    from reverse_etl.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["retl", *arguments]
    main()


def _call(files: list[Path], function: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    for number, path in enumerate(files, start=1):
        with path.open("a") as file:
            os.dup2(file.fileno(), number)
    function(*arguments)
