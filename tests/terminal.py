"""A terminal of a given width, for commands that ask what they are printed on."""

import fcntl
import os
import pty
import struct
import sys
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from reverse_etl.cli import main


def on_terminal(folder: Path, width: int, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
    """What a command shows on a terminal, with its colours."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    seen: list[bytes] = []
    reader = threading.Thread(target=_read, args=(ours, seen))
    reader.start()
    try:
        with open(theirs, "w", encoding="utf-8") as stream, pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
                patch.delenv(name, raising=False)
            for name, value in {"TERM": "xterm-256color", **(environ or {})}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["retl", *arguments])
            patch.setattr(sys, "stdout", stream)
            patch.setattr(sys, "stderr", stream)
            with pytest.raises(SystemExit):
                main()
    finally:
        reader.join()
        os.close(ours)
    return b"".join(seen).decode().replace("\r\n", "\n")


def _read(terminal: int, seen: list[bytes]) -> None:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # closed on the other side
            return
        if not part:
            return
        seen.append(part)
