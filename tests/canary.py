"""Two secrets that all tests use, unless they choose others, and the search for them where they do not belong.

After each test, every file that it leaves, and whatever a command printed, is searched: see conftest.py. So is what
commands print, and leave in target/, for people: any e-mail address, unless values were asked for. The forms are written
down here once more: what takes secrets and people out, and what looks for them, share nothing.
"""

import base64
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

KEY = "c4na7y00-9e1f-4b6d-8a2c-5d3e7f90b1a4"  # of Braze, as long as Braze's are
STORE_SECRET = "wJ4lrXUtn5EMI/K7MD3NG/bPx9fiCY2xAMPLEK3Y"  # of an object store
_WRITTEN_BY_TESTS = (".env", "syncs.yml", "canary.py", "warehouse.duckdb")
_PIECE = 12  # a part that is this long, from the start or near the end, is a leak too
_ZEROS = bytes(4096)


def _forms(secret: str) -> Iterator[bytes]:
    yield from (secret.encode(), quote(secret, safe="").encode(), secret.encode().hex().encode())
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + secret.encode())
        yield from (encoded[4:-4], base64.urlsafe_b64encode(b"x" * before + secret.encode())[4:-4])


_PIECES = {
    form[at : at + _PIECE]
    for secret in (KEY, STORE_SECRET)
    for form in _forms(secret)
    for at in (0, len(form) // 2 - _PIECE // 2, len(form) - _PIECE)
}


def is_leaked(data: str | bytes) -> bool:
    """Whether a text contains a secret, or a piece of one, in any form."""
    found = data.encode(errors="replace") if isinstance(data, str) else data
    if len(found) > 2 * len(_ZEROS):  # most of a file of DuckDB's is zeros: to search them takes seven times as long
        parts = (found[at : at + len(_ZEROS)] for at in range(0, len(found), len(_ZEROS)))
        found = b"".join(part for part in parts if part != _ZEROS)
    return any(piece in found for piece in _PIECES)


def leaks(folder: Path) -> list[str]:
    """The files in a folder that contain a secret, except those in which tests write it themselves."""
    paths = (Path(parent) / name for parent, _, names in os.walk(folder) for name in names)
    files = (path for path in paths if path.name not in _WRITTEN_BY_TESTS and path.is_file() and not path.is_symlink())
    return [str(path.relative_to(folder)) for path in files if is_leaked(path.read_bytes())]


_PERSON = re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}")
# They are there to print rows (of a model, a state, a unit test, or what the sandbox received), or what users wrote.
_MAY_SHOW = {"show", "test", "sandbox", "--show-values", "compile", "exposures"}


def shows_people(arguments: Sequence[str], printed: str) -> list[str]:
    """The people that a command has named without being asked to."""
    return [] if _MAY_SHOW & set(arguments) else _PERSON.findall(printed)
