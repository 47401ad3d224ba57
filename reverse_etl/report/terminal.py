"""What a terminal shows better than a file: colours, and lines that fit its width.

Colours follow https://no-color.org and https://force-color.org: none if NO_COLOR is set, TERM is `dumb`, or it is no
terminal; FORCE_COLOR has them elsewhere, too.
"""

import os
import re
from collections.abc import Mapping
from functools import partial
from itertools import takewhile
from typing import IO, TextIO

from reverse_etl.report.tables import folded

_GREEN, _YELLOW, _RED, _CYAN = "32", "33", "31", "36"
_OF_STATUS = {
    "success": _GREEN, "already_run": _GREEN, "running": _CYAN, "skipped": _YELLOW, "incomplete": _YELLOW,
    "interrupted": _YELLOW, "blocked": _RED, "failed": _RED, "damaged": _RED, "unreachable": _RED, "moved": _RED,
}  # fmt: skip
_OF_CHECK = {"ok": _GREEN, "pass": _GREEN, "warn": _YELLOW, "FAIL": _RED, "ERROR": _RED}
_HINT = "  hint:"
_STATUS = "|".join(_OF_STATUS)

# What is painted in a line, and how: by the text that is found, or for all of it.
_PAINT: tuple[tuple[re.Pattern[str], str | Mapping[str, str]], ...] = (
    (re.compile(r"^  \+ (?![\d,]+ added).*$|\+ [1-9][\d,]* added"), _GREEN),
    (re.compile(r"^  ~ .*$|~ [1-9][\d,]* changed"), _YELLOW),
    (re.compile(r"^  - .*$|- [1-9][\d,]* removed"), _RED),
    (re.compile(rf"(?<=: )(?:{_STATUS})(?=,|$)|(?<=  )(?:{_STATUS})(?=  |$)"), _OF_STATUS),
    (re.compile(rf"^(?:{'|'.join(_OF_CHECK)})(?= )"), _OF_CHECK),
    (re.compile(r"^warning:"), _YELLOW),
    (re.compile(f"^{_HINT}"), _CYAN),
)


def width(stream: IO[str]) -> int | None:
    """How many characters a line of this terminal has; None if it is none, or does not say so."""
    if not is_terminal(stream):
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except OSError:
        return None


def has_colours(stream: TextIO) -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (is_terminal(stream) and os.environ.get("TERM") != "dumb")


def is_terminal(stream: IO[str]) -> bool:
    """Whether it is a terminal, whatever FORCE_COLOR says: what moves there would fill a file with its steps."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def fitted(text: str, stream: TextIO, is_error: bool = False) -> str:
    """A text for this stream: on a terminal, its lines are broken where that ends, and painted."""
    columns = width(stream)
    return painted(folded(text, columns) if columns else text, stream, is_error)


def painted(text: str, stream: TextIO, is_error: bool = False) -> str:
    """A text for this stream, with what it says of changes and statuses in colours, if it can have them.

    Of an error, what is above its hint is red.
    """
    if not has_colours(stream):
        return text
    lines = text.split("\n")
    red = len(list(takewhile(lambda line: not line.startswith(_HINT), lines))) if is_error else 0
    return "\n".join([*(_in(_RED, line) for line in lines[:red]), *map(_painted, lines[red:])])


def _painted(line: str) -> str:
    for pattern, colours in _PAINT:
        line = pattern.sub(partial(_recoloured, colours), line)
    return line


def _recoloured(colours: str | Mapping[str, str], found: re.Match[str]) -> str:
    return _in(colours if isinstance(colours, str) else colours[found[0]], found[0])


def _in(colour: str, text: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m"
