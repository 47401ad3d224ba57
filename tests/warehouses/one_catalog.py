"""Sail with one catalog for all sessions, as a deployment has it: by itself it keeps tables as long as a session lasts."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Lasting:
    """Such a server, which counts what it sends."""

    address: str
    process: "subprocess.Popen[str]"

    def bytes_sent(self) -> int:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("bytes?\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def one_catalog(address: str) -> Iterator[Lasting]:
    """A server whose sessions share the catalog of that at an address. A process of its own: tests fork theirs."""
    command = [sys.executable, "-m", "tests.warehouses.one_session", address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        yield Lasting(process.stdout.readline().strip(), process)
        process.stdin.close()
