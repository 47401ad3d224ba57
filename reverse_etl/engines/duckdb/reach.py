"""What SQL asks for and does not get, in retl's words: a file, an extension, a statement that writes."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import duckdb

from reverse_etl.project.spec import SPEC_FILE
from reverse_etl.project.spec_targets import is_url
from reverse_etl.system.private_files import NEVER_READ, is_private

_FILE = re.compile(r'Cannot access (?:file|directory) "(.*?)" - file system operations are disabled')
_EXTENSION = re.compile(r"required extension '(\w+)|exists in the (\w+) extension|Loading external extensions")
_WRITES = re.compile(r"WITH clause containing a (.*?) must be at the top level")
_PATTERN = re.compile(r"[*?[{]")


class Refused(NamedTuple):
    what: str
    hint: str | None = None
    code: str = ""


def out_of_reach(error: duckdb.Error) -> Refused | None:
    """What an error refuses to SQL, and how to get it; None if it is another error."""
    text = str(error)
    extension, file, writes = _EXTENSION.search(text), _FILE.search(text), _WRITES.search(text)
    if extension:
        name = f" {extension[1] or extension[2]}" if extension[1] or extension[2] else "s"
        hint = "build a table of it in the warehouse, which retl then reads"
        return Refused(f"models cannot load DuckDB's extension{name}", hint, code="P055")
    if writes:
        return Refused(f"a model must be a single SELECT; this one contains a {writes[1]}", code="P052")
    return _file(file[1]) if file else None


def _file(asked: str) -> Refused:
    if is_url(asked) and not asked.startswith("file:"):
        return Refused(f"models cannot read {asked}", _to_allow(asked), code="P053")
    path = asked.removeprefix("file:").replace("///", "/", 1)
    pattern = _PATTERN.search(path)
    start = os.path.abspath(os.path.expanduser(os.path.dirname(path[: pattern.start()]) if pattern else path))
    real = Path(os.path.realpath(start))
    what = f"models cannot read {asked}" + (f", a link to {real}" if str(real) != start else "")
    never = next((place for place in NEVER_READ if real.is_relative_to(place)), None)
    if never:
        return Refused(f"{what}: nothing in {never} is readable", code="P053")
    if any(is_private(part) for part in real.parts):
        return Refused(
            f"{what}: it may contain secrets", "keep the data in a file or folder of another name", code="P053"
        )
    if not real.exists():
        hint = None if os.path.isabs(path) else "relative paths start at the project"
        return Refused(f"{asked} does not exist", hint, code="P054")
    if not os.path.isabs(path) and not Path(SPEC_FILE).exists():
        what = f"{asked} is in {Path.cwd()}, where retl runs, and relative paths start at the project"
        return Refused(what, "run retl in the project's folder", code="P053")
    if pattern and any((real / name).exists() for name in (SPEC_FILE, ".git", ".env", ".retl")):
        return Refused(
            f"{what}: {real} has private files", "move the files to a folder in it, such as data/*.csv", code="P053"
        )
    return Refused(what, _to_allow(str(real)), code="P053")


def _to_allow(place: str) -> str:
    quoted = f'"{place}"' if re.search(r"[^\w./-]", place) else place
    return f"if they may, add it to the target's warehouse in {SPEC_FILE}: `files: [{quoted}]`"
