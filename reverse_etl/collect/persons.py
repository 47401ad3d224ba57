"""Whom a collected record is about, by the identifiers in it. Pure.

    {"external_id": "u1", "email": "ann@x.example"}                        u1
    {"event_type": ..., "user": {"external_user_id": "u1"}, ...}           u1
    {"email": "ann@x.example", "reason": "spam"}                           whoever has this address
    {"external_id": "u2", "referred_by": "u1"}                             u2; u1 is mentioned
    {"users": [{"external_id": "u1"}, {"external_id": "u2"}]}              nobody alone; both are mentioned

The outermost identifiers decide: an id or an alias before a Braze id, an e-mail and a phone number, as in rows of
models. A record about another user stays, with all that it says: it may be an opt-out, which must not be lost.
Identifiers are texts, as in `records/identity.py`.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from reverse_etl.state.persons import SEPARATOR

# Keys that identify a user, and the kind of identifier.
KEYS = {
    "external_id": "external_id",
    "external_user_id": "external_id",
    "braze_id": "braze_id",
    "email": "email",
    "email_address": "email",
    "phone": "phone",
    "phone_number": "phone",
}
_USER_ID = "user_id"  # Currents' name of the Braze id, and in Liquid that of the external id
_OF_CURRENTS = {"event_type", "external_user_id"}  # keys beside it, where it is a Braze id
_ADDRESS = "channel_identifier"  # an e-mail, or a phone number
_PARTS = {"user", "properties", "user_alias"}  # objects of Currents and Braze that describe the same user
_PHONE = re.compile(r"\+?[0-9][0-9 ().\-/]{5,}")

Is = Callable[[str], bool]  # whether an identifier is one of those that are looked for


@dataclass
class Named:
    """The identifiers in a record, by kind, as far out as there are any; `deeper` are those further in. `strings` are
    all strings and numbers in it, with their keys."""

    by_kind: dict[str, set[str]] = field(default_factory=dict)
    deeper: set[str] = field(default_factory=set)
    strings: list[tuple[str, str]] = field(default_factory=list)

    @property
    def users(self) -> set[str]:
        """Ids, or else aliases: whoever has one is known by it."""
        return self.by_kind.get("external_id") or self.by_kind.get("user_alias") or set()

    @property
    def row(self) -> dict[str, str]:
        """What the record says belongs together: one identifier of each kind; nothing if it has several of one."""
        if any(len(texts) != 1 for texts in self.by_kind.values()):
            return {}
        return {kind: next(iter(texts)) for kind, texts in self.by_kind.items()}

    def is_about(self, is_theirs: Is) -> bool:
        """Whether the record is about one whose identifiers these are, and about nobody else."""
        if self.users:
            return all(map(is_theirs, self.users))
        found = set().union(*self.by_kind.values()) if self.by_kind else set()
        if not found and not self.deeper:
            found = {f"email:{text.strip().lower()}" for _, text in self.strings if "@" in text}
        return any(map(is_theirs, found))

    def mentions(self, is_theirs: Is) -> set[str]:
        """The keys under which the record mentions one whose identifiers these are."""
        return {key for key, text in self.strings if any(map(is_theirs, _meanings(text)))}


def named_in(text: str) -> Named | None:
    """The identifiers in the text of a record; None if it cannot be read."""
    try:
        record = json.loads(text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    found = Named(strings=list(_strings(record, "")))
    levels: dict[int, list[tuple[str, str]]] = {}
    for depth, kind, one in _identifiers(record, 0, ""):
        levels.setdefault(depth, []).append((kind, one))
    for number, depth in enumerate(sorted(levels)):
        for kind, one in levels[depth]:
            if number == 0:
                found.by_kind.setdefault(kind, set()).add(one)
            else:
                found.deeper.add(one)
    return found


class _Pairs(list[tuple[str, Any]]):
    """The members of an object, all of them if a key is there twice."""


def _identifiers(value: Any, depth: int, key: str) -> Iterator[tuple[int, str, str]]:
    """All identifiers in a value, each with its depth and its kind. `key` is that of the value."""
    if isinstance(value, _Pairs):
        texts = {name: _text(one) for name, one in value}
        alias = [texts.get("alias_label"), texts.get("alias_name")]
        if all(alias):
            yield depth, "user_alias", f"user_alias:{alias[0]}{SEPARATOR}{alias[1]}"
        for name, one in value:
            text = _text(one)
            if text is not None:
                kind = _kind(name, key, text, texts.keys())
                if kind and (normal := _normal(kind, text)):
                    yield depth, kind, normal
            else:
                yield from _identifiers(one, depth if name in _PARTS else depth + 1, name)
    elif isinstance(value, list):
        for one in value:
            yield from _identifiers(one, depth + 1, key)


def _kind(name: str, around: str, text: str, beside: Any) -> str | None:
    if name == _USER_ID:
        return "braze_id" if around == "user" or _OF_CURRENTS & set(beside) else "external_id"
    if name == _ADDRESS:
        return "email" if "@" in text else "phone"
    return KEYS.get(name)


def _normal(kind: str, text: str) -> str | None:
    """The text of an identifier, compared as in `records/identity.py`; None if there is nothing of it."""
    if kind == "email":
        text = text.strip().lower()
    if kind == "phone":
        text = "".join(filter(str.isdigit, text))
    return f"{kind}:{text}" if text else None


def _meanings(text: str) -> Iterator[str]:
    """The identifiers that a string could be."""
    yield f"external_id:{text}"
    yield f"braze_id:{text}"
    if "@" in text:
        yield f"email:{text.strip().lower()}"
    if _PHONE.fullmatch(text.strip()):
        yield f"phone:{''.join(filter(str.isdigit, text))}"


def _strings(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, _Pairs):
        for name, one in value:
            yield from _strings(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one, key)
    elif (text := _text(value)) is not None:
        yield key, text


def _text(value: Any) -> str | None:
    """A string, or a number as it was written."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
