"""What a state that is only read cannot say: that a run is under way, or that one was killed and is not recovered."""

from datetime import datetime

from reverse_etl.shared_state.head import in_the_way
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.reading import look
from reverse_etl.state.look import KILLED, RUNNING
from reverse_etl.system.file_lock import at_work


def under_way(place: StatePlace, now: datetime) -> tuple[str, str] | None:
    """`running` or `killed`, and what there is to say of that; None if all that was sent is in the state.

    Raises StateError or StoreError if the store of the state cannot be read.
    """
    busy = at_work(place.lock, place.sync, place.target)
    if busy:
        return RUNNING, busy.problems[0].message
    found = look(place.objects) if place.objects else None
    holder = in_the_way(found[0], now, None) if found else None
    if holder:
        return RUNNING, f'sync "{place.sync}" on target "{place.target}" is already running: {holder}'
    is_left = found[0].sending is not None if found else _is_left_behind(place)
    if is_left:
        return KILLED, "its last run was killed, and what that has sent is not recorded yet: `retl status` does that"
    return None


def _is_left_behind(place: StatePlace) -> bool:
    """Whether a process was killed that may have sent something: a journal is there before the first request."""
    outbox, journal = place.folder / "outbox.duckdb", place.folder / "journal.jsonl"
    try:
        return outbox.exists() and journal.stat().st_size > 0
    except FileNotFoundError:  # its run has just ended
        return False
