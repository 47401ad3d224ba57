"""What a run did to whole rows, in words, from the counts of its plan and its delivery. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from reverse_etl.braze.modes import Kind
from reverse_etl.project.spec import Sync

_KEPT_BACK = ("invalid", "previously_rejected", "withheld", "quarantined", "held", "given_up")


def did(sync: Sync, counts: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Rows that were added, cleared, deleted: "up to" so many, where the counts do not tell how many of them Braze
    accepted; and those that were suppressed: not sent, as their users were erased."""
    suppressed = int(counts.get("suppressed", 0))
    return [*_sent(sync, counts), *([("suppressed", suppressed)] if suppressed else [])]


def _sent(sync: Sync, counts: Mapping[str, Any]) -> list[tuple[str, int]]:
    delivery = counts.get("delivery", {})
    if not delivery.get("accepted"):
        return []
    is_all = delivery["accepted"] == counts.get("to_send")
    is_whole = is_all and not any(counts.get(name) for name in _KEPT_BACK)
    found = [(verb, number, is_whole) for verb, number in _new(sync, counts)]
    found += [(verb, number, is_all) for verb, number in _gone(sync, counts)]
    return [(verb if is_exact else f"{verb} up to", number) for verb, number, is_exact in found if number]


def _new(sync: Sync, counts: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """A full refresh plans all rows as added, also those that were there. Of a user who was erased, the state has no
    row, so each row about one is planned as added, and then not sent."""
    mode, added = sync.mode, max(int(counts.get("added", 0)) - int(counts.get("suppressed", 0)), 0)
    if mode.ends:
        yield mode.ends.done, added
    elif Kind.CHANGED not in mode.kinds:
        yield "sent", added
    else:
        is_part = counts.get("since") is not None
        is_fresh = not (counts.get("unchanged") or counts.get("changed"))
        yield "sent whole" if is_fresh and counts.get("in_state") and not is_part else "added", added


def _gone(sync: Sync, counts: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    deletes = 0 if sync.mode.ends else int(counts.get("deletes", 0))
    yield "deleted", deletes
    if not deletes and sync.on_removed == "clear":
        yield "cleared", int(counts.get("removed", 0))
