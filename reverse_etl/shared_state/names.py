"""How retl names the objects of a shared state, how long they stay if no head names them, and what a lost head has left
behind. Pure."""

import json
import re
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

_TOKEN = "[0-9a-f]{16}"
_MOVED_HERE = rf"state-0-{_TOKEN}\.duckdb(\.gz)?"  # which another name may be about to take over
_CHECK = rf"check-{_TOKEN}"
_KEPT = r"before-reset-\d{8}T\d{6}\.json"
_LOST = r"before-lost-\d{8}T\d{6}\.json"
# What retl has named, and no other file that somebody keeps there; and how long it stays if nothing names it.
NAMES: Mapping[str, timedelta] = {
    rf"(state|log)-\d+-{_TOKEN}-[0-9a-f]{{4}}(\.duckdb)?(\.gz)?": timedelta(),
    rf"run-{_TOKEN}/(outbox\.duckdb(\.gz)?|journal-\d{{6}}\.jsonl)": timedelta(),
    _MOVED_HERE: timedelta(days=1),
    _CHECK: timedelta(days=1),
    _KEPT: timedelta(days=30),
    _LOST: timedelta(days=30),
}
_OF_LEDGER = r"ledger/[^/]+\.zip"
_BEFORE_A_HEAD = (_MOVED_HERE, _OF_LEDGER)  # what a state that is moved here brings along, before it has a head here


def kept_head(now: datetime) -> str:
    """The name of the head of a state that is reset now."""
    return f"before-reset-{now:%Y%m%dT%H%M%S}.json"


def kept_list(now: datetime) -> str:
    """The name of the list of what is left of a state that is reset now, as its head is lost."""
    return f"before-lost-{now:%Y%m%dT%H%M%S}.json"


def is_kept_head(name: str) -> bool:
    return bool(re.fullmatch(_KEPT, name))


def is_kept_list(name: str) -> bool:
    return bool(re.fullmatch(_LOST, name))


def as_list(names: Collection[str]) -> bytes:
    return json.dumps(sorted(names), indent=1).encode()


def listed_in(data: bytes) -> set[str]:
    """The names in such a list. Raises ValueError if it is none."""
    found = json.loads(data)
    if not isinstance(found, list):
        raise ValueError("not a list of names")
    return {str(name) for name in found}


def left_of_a_state(names: Collection[str], but_moved: bool = False) -> list[str]:
    """Those of the objects of which a head was there before. `but_moved`: and not those that a state which is being
    moved here brings along, before its head is."""
    not_these = (_CHECK, *(_BEFORE_A_HEAD if but_moved else ()))
    ours = (name for name in sorted(names) if _is_one(name, (*NAMES, _OF_LEDGER)))
    return [name for name in ours if not _is_one(name, not_these)]


def is_moved_here(name: str) -> bool:
    """Whether an object is that of a state that was moved here from another name, and has not changed since."""
    return _is_one(name, [_MOVED_HERE])


def _is_one(name: str, patterns: Collection[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)
