"""The mark `has-run` beside a state that no other machine shares: that there is one, and which run it has to know.

It names a run before that sends anything, and any other run that has changed the state right after it is committed. So
the state knows the run that is named, unless its outbox is still there: then it knows the one before.
"""

import re
from dataclasses import dataclass

from reverse_etl.shared_state.place import StatePlace
from reverse_etl.system.platforms import flush_folder
from reverse_etl.system.private_files import write_whole

_BEGUN = "What was sent is recorded in state.duckdb, next to this file. Should that be missing, no run begins anew.\n"


@dataclass(frozen=True)
class Mark:
    """The last `run`, and the one `before` it; None if that is not known, as in marks of an older retl."""

    run: str | None = None
    before: str | None = None


def read_mark(place: StatePlace) -> Mark:
    """What the mark of a state names; nothing, if there is none."""
    try:
        text = place.begun.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return Mark()
    named = dict(re.findall(r"^(run|before): (\S+)$", text, re.MULTILINE))
    return Mark(named.get("run"), named.get("before"))


def leave_mark(place: StatePlace) -> None:
    """Say beside a state that there is one, unless that is said already; both are on disk when this returns."""
    if not place.begun.exists():
        _write(place, Mark())


def name_run(place: StatePlace, run_id: str | None) -> None:
    """Name a run in the mark; it is on disk when this returns."""
    known = read_mark(place)
    if known.run != run_id or not place.begun.exists():
        _write(place, Mark(run_id, known.run))


def _write(place: StatePlace, mark: Mark) -> None:
    named = "".join(f"{name}: {run}\n" for name, run in (("run", mark.run), ("before", mark.before)) if run)
    write_whole(place.begun, _BEGUN + named, is_flushed=True)
    flush_folder(place.folder)
