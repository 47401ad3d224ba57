"""Sail with one catalog for all sessions, as a deployment has it: by itself it keeps tables as long as a session lasts."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Lasting:
    """Such a server, which counts what it sends, and what it does."""

    address: str
    process: "subprocess.Popen[str]"

    def bytes_sent(self) -> int:
        return self._counts()[0]

    def running(self, text: str) -> int:
        """How many statements with a text in them, which may return rows, go on, whether or not somebody waits."""
        return self._counts(text)[1]

    def _counts(self, text: str = "") -> tuple[int, int]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        sent, running = map(int, self.process.stdout.readline().split())
        return sent, running


@contextmanager
def one_catalog(address: str) -> Iterator[Lasting]:
    """A server whose sessions share the catalog of that at an address. A process of its own: tests fork theirs."""
    command = [sys.executable, "-m", "tests.warehouses.one_session", address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield Lasting(process.stdout.readline().strip(), process)
        process.stdin.close()
