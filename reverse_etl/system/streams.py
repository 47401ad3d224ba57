"""Standard output and error that take every text, whatever is behind them.

A terminal that is not UTF-8, a full disk, a reader that has ended: none of them stops a command, because what it has to
save or send matters more than what it prints. `Stream.is_replaced` and `Stream.failure` say afterwards what was lost.
"""

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

_PLAIN = str.maketrans({"\u2026": "...", "\u2192": "->", "\u2013": "-", "\u2014": "-", "\u2018": "'", "\u2019": "'",
                        "\u201c": '"', "\u201d": '"', "\u2022": "*", "\u2265": ">=", "\u2264": "<=", "\u00d7": "x",
                        "\u00a0": " "})  # fmt: skip
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


def open_closed_files() -> None:
    """Open /dev/null in place of standard files that are closed: the next file to be opened would take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one


def printable(text: str, encoding: str) -> str:
    """`text` in characters that an encoding has: some are spelled otherwise, the others become question marks."""
    if _can_write(text, encoding):
        return text
    plain = (char if _can_write(char, encoding) else char.translate(_PLAIN) for char in text)
    return "".join(plain).encode(encoding, "replace").decode(encoding)


def printable_json(text: str, encoding: str) -> str:
    """The same for JSON, which can spell every character: nothing is lost."""
    if _can_write(text, encoding):
        return text
    return _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _can_write(text: str, encoding: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


class Stream:
    """A stream of text that never raises. After a first error, what is written to it is dropped."""

    def __init__(self, stream: TextIO | None) -> None:
        """`stream` is None if Python was started without that file."""
        self._stream = stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # for the whole process
        self.encoding: str = getattr(self._stream, "encoding", None) or "utf-8"
        self.is_replaced = False
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        shown = printable(text, self.encoding)
        self.is_replaced = self.is_replaced or shown != text
        self._try(lambda: self._stream.write(shown))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Any) -> None:
        if self.failure:
            return
        try:
            action()
        except OSError as error:
            self.failure = error
            with suppress(OSError, ValueError):  # what is still buffered goes there when Python ends
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # nothing is written past this class, or past what takes secrets out
            raise AttributeError(name)
        return getattr(self._stream, name)
