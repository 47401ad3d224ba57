"""Erases what the sandbox has logged about somebody: bodies of requests and responses. Profiles are not touched."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from reverse_etl.sandbox.schema import connect, write


def erase_logged(path: Path, is_about: Callable[[bytes], bool]) -> int:
    """Delete the logged bodies, and empty the responses, for which `is_about` holds; returns of how many requests.

    Also while a server writes to the file; its bytes no longer have them. Raises FileRefusedError if it is not a file
    of the sandbox.
    """
    if not path.exists():
        return 0
    with closing(connect(path)) as db:
        db.execute("PRAGMA secure_delete = ON")
        with write(db):
            bodies = db.execute("SELECT number, body FROM bodies").fetchall()
            answers = db.execute("SELECT number, answer FROM requests WHERE answer <> '{}'").fetchall()
            of_bodies = [number for number, body in bodies if is_about(bytes(body))]
            of_answers = [number for number, answer in answers if is_about(answer.encode())]
            db.executemany("DELETE FROM bodies WHERE number = ?", [(number,) for number in of_bodies])
            db.executemany("UPDATE requests SET answer = '{}' WHERE number = ?", [(number,) for number in of_answers])
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return len({*of_bodies, *of_answers})
