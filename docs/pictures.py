"""Pictures of the terminal, as SVG: commands of the shop as they look on a terminal of 80 columns, or fewer.

No font or other file is fetched by them. Times, durations and names of runs are those of an example.
"""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from reverse_etl.report.tables import folded

WIDTH = 80
_STEADY = (
    (re.compile(r"\d+\.\d s\b"), "0.4 s"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d( UTC)?\b"), r"2026-11-25 08:00\1"),
    (re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}"), "20261125T080000-3fa9c1"),
)
# What rich would put around it, without its fonts from the network.
_FRAME = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="terminal">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def picture(commands: Sequence[str], folder: Path, environ: dict[str, str], width: int = WIDTH) -> str:
    """What commands show on a terminal, one after the other, as SVG. A command that ends otherwise than with 0 is shown
    all the same."""
    text = "".join(f"$ {command}\n{_on_terminal(command, folder, environ, width)}\n" for command in commands)
    for pattern, steady in _STEADY:
        text = pattern.sub(steady, text)
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text.rstrip()), no_wrap=True, crop=True)
    title = commands[0] if len(commands) == 1 else "retl"
    drawn = console.export_svg(title=title, theme=MONOKAI, code_format=_FRAME)
    return "\n".join(line.rstrip() for line in drawn.splitlines() if line.strip()) + "\n"


def _on_terminal(command: str, folder: Path, environ: dict[str, str], width: int) -> str:
    """What a command writes to stdout, on a terminal, and then what it wrote to stderr, with colours, too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    parts: list[bytes] = []
    reader = threading.Thread(target=_read, args=(ours, parts))
    reader.start()
    colours = {name: value for name, value in environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**colours, "TERM": "xterm-256color", "FORCE_COLOR": "1"},
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    reader.join()
    os.close(ours)
    return b"".join(parts).decode().replace("\r\n", "\n") + folded(done.stderr.decode(), width)


def _read(terminal: int, parts: list[bytes]) -> None:
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the command has ended
            return
        if not part:
            return
        parts.append(part)
