"""Personal data in what retl says: masked, unless it was asked for with --show-values. Pure.

Keys           the keys of a sync: one that is, or contains, an e-mail address or a phone number becomes a digest
masked         what looks like an e-mail address, or like a phone number with its +, in any text: the last resort
of_response    ... and what a response of Braze quotes, or repeats of the record that it rejects
of_request     the same, in what retl says of a request
of_warehouse   ... and what looks like a phone number without a +, in an error of a model
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from reverse_etl.sql.quoting import literal
from reverse_etl.words import one_line

MASK = "***"
NO_KEY = "(no key)"  # the key of a row whose primary key is NULL
DIGITS = 12  # of a digest: among 50 million keys, one in six million has that of another
_ROLES = ("email", "phone")  # in the name of a column, whatever its values look like
_WORD = r"[^\s@\"'`<>()\[\]{},;:=|&?]"
_EMAIL = re.compile(rf"{_WORD}{{1,254}}(?:@|%40){_WORD}{{1,254}}")
_PHONE = r"\+[0-9][0-9 ().-]{5,}[0-9]"
_PHONE_IN_TEXT = re.compile(rf"(?<![\w+]){_PHONE}")
# Not the digits of a date, a path, a version or a longer word.
_DIGITS_IN_TEXT = re.compile(r"(?<![\w./:+-])(?!\d{4}-\d{2}-\d{2})\(?\d[\d ().-]{5,}\d(?![\w/:-])")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|\u2018[^\u2019]*\u2019|\u201c[^\u201d]*\u201d")
_FROM_BRAZE = "Braze returned "  # what comes before it is retl's own
_SHORTEST_ECHO = 3  # shorter values are parts of other words, and identify nobody


# --- keys ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keys:
    """How the keys of one sync are shown.

    A part of a key is personal if its column is called after an e-mail address or a phone number, if it contains an @,
    or if it is a phone number with a +. It is shown as its column and a digest, `email:3f2a9c41d07b`, which is the same
    as long as the state is; without the `salt` of a state, as `email:***`. A digest of a whole row is shown as it is.
    """

    columns: Sequence[str] = ()
    salt: str | None = None
    in_full: bool = False

    def shown(self, key: str) -> str:
        """A key, as `key_text` returns it."""
        if self.in_full or key == NO_KEY:
            return key
        if len(self.columns) == 1:
            return str(self.part(self.columns[0], key))
        try:
            parts = json.loads(key)
        except ValueError:
            parts = None  # the digest of a whole row
        if not isinstance(parts, list) or len(parts) != len(self.columns):
            return str(self.part("key", key))
        shown = [self.part(*pair) for pair in zip(self.columns, parts, strict=True)]
        return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))

    def part(self, column: str, value: Any) -> Any:
        """The value of one column of a key, or of an identifier."""
        if self.in_full or value is None or not _is_personal(column, str(value)):
            return value
        return f"{column}:{MASK if self.salt is None else _digest(self.salt, str(value))}"

    def identifier(self, user: Mapping[str, Any]) -> str:
        """The identifier of a user, by its columns: `external_id:u1`, `alias_name:ann alias_label:shop`."""
        return " ".join(self._named(user))

    def _named(self, user: Mapping[str, Any]) -> Iterator[str]:
        for name, value in user.items():
            if isinstance(value, dict):
                yield from self._named(value)
            else:
                shown = str(self.part(name, value))
                yield shown if shown.startswith(f"{name}:") else f"{name}:{shown}"

    def part_sql(self, column: str, value: str) -> str:
        """SQL for `part`, over SQL for a VARCHAR."""
        is_personal = f"({value} LIKE '%@%' OR regexp_full_match({value}, {literal(_PHONE)}))"
        digest = f"{literal(f'{column}:')} || left(sha256({literal(self.salt or '')} || {value}), {DIGITS})"
        return f"CASE WHEN {'true' if _is_role(column) else is_personal} THEN {digest} ELSE {value} END"


def _is_role(column: str) -> bool:
    return any(role in column.casefold() for role in _ROLES)


def _is_personal(column: str, value: str) -> bool:
    return _is_role(column) or "@" in value or re.fullmatch(_PHONE, value) is not None


def _digest(salt: str, value: str) -> str:
    return sha256(f"{salt}{value}".encode()).hexdigest()[:DIGITS]


def has_digest(key: str) -> bool:
    """Whether a key that a user typed may have been copied from where keys are masked."""
    return bool(digests_in(key))


def digests_in(key: str) -> list[str]:
    """The digests in it."""
    return re.findall(rf":([0-9a-f]{{{DIGITS}}})\b", key)


# --- text ------------------------------------------------------------------------------------------------------------


def masked(text: str) -> str:
    """A text without what looks like an e-mail address, or like a phone number with a +."""
    text = _EMAIL.sub(MASK, text) if "@" in text or "%40" in text else text
    return _PHONE_IN_TEXT.sub(MASK, text) if "+" in text else text


def all_masked(value: Any) -> Any:
    """The same for all texts in a value of JSON."""
    if isinstance(value, dict):
        return {all_masked(name): all_masked(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [all_masked(item) for item in value]
    return masked(value) if isinstance(value, str) else value


def of_warehouse(text: str) -> str:
    """An error of a model, whose text may have been made of a row: error(email), error('call ' || phone)."""
    return _DIGITS_IN_TEXT.sub(MASK, masked(text))


def of_response(reason: str, records: Iterable[str]) -> str:
    """Braze's reason, without what it quotes, and without values of the `records` (JSON) that it is about."""
    values = {form for record in records for value in _values_of(record) for form in (value, one_line(value))}
    repeated = {value for value in values if len(value) >= _SHORTEST_ECHO and value in reason}
    for value in sorted(repeated, key=len, reverse=True):
        reason = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, reason)
    return of_warehouse(_QUOTED.sub(MASK, reason))


def of_request(text: str, records: Iterable[str]) -> str:
    """What retl says of a request, with Braze's reason in it masked as in `of_response`."""
    before, is_said, reason = text.partition(_FROM_BRAZE)
    return before + is_said + of_response(reason, records) if is_said else text


def _values_of(record: str) -> list[str]:
    """The values in a record; none in one that is nested too deeply to be read."""
    try:
        return list(_values_in(json.loads(record)))
    except (ValueError, RecursionError):
        return []


def _values_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _values_in(item)
    elif value is not None and not isinstance(value, bool) and len(str(value)) >= _SHORTEST_ECHO:
        yield str(value)
