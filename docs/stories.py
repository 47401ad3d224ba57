"""Runs the projects of pages: files that code blocks name, and commands in console blocks, one after the other.

A block is a file if its first line names one, in a comment: `# syncs.yml`, `-- models/tiers.sql`, `# seeds/users.csv`.
A later block of that name takes its place. Lines of a console block that begin with `$ ` are run in the folder of these
files; the rest of the block is what they print. Comments between blocks say where a project begins, and what a reader
need not see:

    <!-- new project -->       an empty folder for what follows
    <!-- demo shop -->         a folder with the demo shop
    <!-- run: COMMAND -->      a command that is not shown

Blocks before the first project are examples, which are not run. A sandbox that a page starts with
`--ready-file sandbox.json` ends with the page.
"""

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

Console = Callable[[Sequence[str], Path], str]  # commands, and the folder to run them in: the block that shows them

_STEPS = re.compile(
    r"^```(?P<language>\w*)\n(?P<block>.*?)^```$"
    r"|^<!-- (?P<start>new project|demo shop) -->$|^<!-- run: (?P<run>[^\n]*) -->$",
    re.MULTILINE | re.DOTALL,
)
STARTS = ("<!-- new project -->", "<!-- demo shop -->")
_NAME = re.compile(r"(?:#|--) (?P<name>[\w./-]+\.\w+)(?::.*)?")


def file_in(block: str) -> tuple[str, str] | None:
    """The name and the text of the file that a block is; None if it is none."""
    first, _, rest = block.partition("\n")
    name = _NAME.fullmatch(first)
    return (name["name"], rest) if name else None


def commands_in(block: str) -> list[str]:
    """The commands of a console block."""
    return re.findall(r"^\$ (.*)$", block, re.MULTILINE)


def told(page: str, console: Console, shop: Path) -> str:
    """The text of a page whose console blocks show what their commands print now."""
    with tempfile.TemporaryDirectory() as name:
        folders = list[Path]()

        def step(match: re.Match[str]) -> str:
            if match["start"]:
                folders.append(Path(name) / str(len(folders)))
                folders[-1].mkdir()
                if match["start"] == "demo shop":
                    copy_shop(shop, folders[-1])
            elif not folders:
                return match[0]
            elif match["run"]:
                console([match["run"]], folders[-1])
            elif match["language"] == "console":
                return console(commands_in(match["block"]), folders[-1])
            elif file := file_in(match["block"]):
                path = folders[-1] / file[0]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(file[1], encoding="utf-8")
            return match[0]

        try:
            return _STEPS.sub(step, page)
        finally:
            for ready in Path(name).glob("*/sandbox.json"):
                os.kill(json.loads(ready.read_text(encoding="utf-8"))["pid"], signal.SIGTERM)


def copy_shop(shop: Path, folder: Path) -> None:
    """Copy the demo shop into a folder."""
    for part in ("syncs.yml", "models", "seeds"):
        copy = shutil.copytree if (shop / part).is_dir() else shutil.copy
        copy(shop / part, folder / part)
