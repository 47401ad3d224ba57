"""A hint about a file that cannot be written is about what the system says, and not always about permissions."""

import ast
import errno
import os
from collections.abc import Iterator

import duckdb
import pytest

from reverse_etl.system.disk import remedy
from tests.shop import Retl, Shop
from tests.test_words import PACKAGE

MODE = "make its folder writable"
# There, hints are about what was sent and what is kept, too.
ELSEWHERE = {"delivery/sender.py", "runs/canary.py", "state/file.py"}


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free disk space there, then run this again"),
        (errno.EDQUOT, "free disk space there, or raise the quota of the current user, then run this again"),
        (errno.EROFS, "mount its disk writable, or use a folder on another one"),
        (errno.EIO, "check its disk: the system cannot use it"),
        (errno.ENOTDIR, "move the file away that is where a folder must be"),
        (errno.EACCES, MODE),
        (errno.EPERM, MODE),
        (errno.ENOENT, MODE),
    ],
    ids=lambda case: errno.errorcode[case] if isinstance(case, int) else "",
)
def test_hint_fits_what_the_system_says(number: int, hint: str):
    assert remedy(OSError(number, os.strerror(number)), MODE) == hint


def test_duckdb_that_quotes_the_system_is_understood():
    with pytest.raises(duckdb.Error) as failed:
        duckdb.connect().execute("COPY (SELECT range FROM range(100000)) TO '/dev/full' (FORMAT parquet)")
    assert remedy(failed.value, MODE) == "free disk space there, then run this again"


def handlers() -> Iterator[tuple[str, str]]:
    """What catches an OSError to say that something cannot be written: file, and source."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and node.type and "OSError" in ast.unparse(node.type):
                said = ast.unparse(node)
                if "cannot write" in said or "writable" in said:
                    yield path.relative_to(PACKAGE).as_posix(), said


def test_every_file_that_cannot_be_written_has_a_hint_by_what_the_system_says():
    found = list(handlers())
    assert len(found) > 10
    assert [where for where, said in found if where not in ELSEWHERE and "remedy(error" not in said] == []


@pytest.mark.parametrize("command", ["compile it", "docs generate"])
def test_file_in_the_place_of_a_folder_is_named_as_such(shop: Shop, retl: Retl, command: str):
    shop.sync("it", "SELECT 'u1' AS external_id, 1 AS n")
    (shop.folder / "target").write_text("")
    done = retl(*command.split(), folder=shop.folder)
    assert (done.code, done.err.splitlines()[-1]) == (
        2,
        "  hint: move the file away that is where a folder must be",
    )
