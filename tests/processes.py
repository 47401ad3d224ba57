"""Processes that are forked from one which has imported all of retl: a second less for each than a new interpreter."""

import itertools
import json
import multiprocessing
import os
import pkgutil
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Self

import reverse_etl
from tests.canary import is_leaked

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
        """To a process that runs; the fork server may know of its end before we do."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
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
        said = process.out + process.err
        process.folder.cleanup()
        assert not is_leaked(said)


def command(folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
    """`retl`, in a folder."""
    from reverse_etl.cli import main

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["retl", *arguments]
    main()


def dying(number: int, folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
    """The same, killed at the `number`th change that it makes to a file of its states."""
    changes = itertools.count(1)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        is_change = event in ("os.rename", "os.remove", "os.mkdir") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_CREAT | os.O_TRUNC)
        )
        if is_change and ".retl/" in str(arguments[0]) and next(changes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    command(folder, environ, *arguments)


def _call(files: list[Path], function: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background ignores it
    for number, path in enumerate(files, start=1):
        with path.open("a") as file:
            os.dup2(file.fileno(), number)
    function(*arguments)


# --- retl, as a command of a shell ----------------------------------------------------------------------------------

RETL = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
with server.makefile("rwb") as stream:
    request = {{"folder": os.getcwd(), "environ": dict(os.environ), "arguments": sys.argv[1:]}}
    socket.send_fds(server, [b"."], [0, 1, 2])
    stream.write(json.dumps(request).encode() + b"\\n")
    stream.flush()
    sys.exit(int(stream.readline() or 70))
"""


@contextmanager
def retl_in_a_folder() -> Iterator[Path]:
    """A folder for PATH with a `retl` that runs in a forked process: same arguments, environment, folder and files."""
    with tempfile.TemporaryDirectory() as name:
        address, retl = f"{name}/socket", Path(name) / "bin" / "retl"
        retl.parent.mkdir()
        retl.write_text(RETL.format(python=sys.executable, address=address))
        retl.chmod(retl.stat().st_mode | stat.S_IXUSR)
        with Forked(_serve, address) as server:
            server.wait_until(lambda: server.out == "ready")
            yield retl.parent


def _serve(address: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", end="", flush=True)
        while True:
            client, _ = listening.accept()
            with client:
                if os.fork() == 0:
                    _answer(client)


def _answer(client: socket.socket) -> None:
    """Never returns."""
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    with client.makefile("rwb") as stream:
        request = json.loads(stream.readline())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child = os.fork()
        if child == 0:
            for number, file in enumerate(files):
                os.dup2(file, number)
            command(Path(request["folder"]), request["environ"], *request["arguments"])
        _, status = os.waitpid(child, 0)
        stream.write(b"%d\n" % os.waitstatus_to_exitcode(status))
        stream.flush()
    os._exit(0)
