"""The expected result of a unit test, compared with the actual one. Pure: records in, differences out.

Records are compared completely and in any order. The identifier of a record decides whether it differs or is missing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from reverse_etl.plan.outbox import InvalidRow
from reverse_etl.project.spec_tests import ExpectedInvalid
from reverse_etl.testing.fixtures import text_of

# What identifies a record; two records with the same value of the first one they have are the same record.
_IDENTITY = (
    *("external_id", "user_alias", "braze_id", "email", "phone", "alias_name", "external_ids", "emails", "phones"),
    *("user_aliases", "braze_ids"),
)
_NOTHING = object()


@dataclass(frozen=True)
class Difference:
    """One difference between the expected and the actual result of a test.

    what: differs | missing | unexpected | invalid row missing | invalid row unexpected. `record` is JSON: the record,
    or the row, or the identifier of the record if it differs. Then `members` has (expected, actual) by path, in JSON,
    and None where a value is missing.
    """

    what: str
    record: str
    members: Mapping[str, Sequence[str | None]] | None = None


def differences(expected: Sequence[Any], actual: Sequence[Any]) -> list[Difference]:
    """The differences between the expected and the actual records; empty if there are none."""
    wanted, came = [plain(record) for record in expected], list(actual)
    for record in list(wanted):
        twin = next((other for other in came if _same(record, other)), None)
        if twin is not None:
            _remove(wanted, record)
            _remove(came, twin)
    found = []
    for record in list(wanted):
        about, alike = _identity(record), [other for other in came if _is_about(other, _identity(record))]
        if about and alike:
            closest = max(alike, key=lambda other: _likeness(record, other))
            _remove(came, closest)
            found.append(Difference("differs", json_of(about), dict(_members(record, closest))))
        else:
            found.append(Difference("missing", json_of(record)))
    return [*found, *(Difference("unexpected", json_of(record)) for record in came)]


def invalid_differences(expected: Sequence[ExpectedInvalid], actual: Sequence[InvalidRow]) -> list[Difference]:
    """The differences between the rows that must be invalid and those that are."""
    rest, found = list(actual), []
    for row in expected:
        wanted = row.model_dump(exclude_none=True)
        twin = next((other for other in rest if all(getattr(other, key) == wanted[key] for key in wanted)), None)
        if twin is None:
            found.append(Difference("invalid row missing", json_of(wanted)))
        else:
            rest.remove(twin)
    came = [{"key": row.key, "column": row.column, "reason": row.reason} for row in rest]
    return [*found, *(Difference("invalid row unexpected", json_of(row)) for row in came)]


def plain(value: Any) -> Any:
    """A value of YAML as it is in a record: dates and timestamps as strings, numbers with all their digits."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return Decimal(str(value))
    return text_of(value) if isinstance(value, date) else value


def json_of(value: Any) -> str:
    """The JSON text of a record, with all digits of its numbers."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json_of(key)}: {json_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(json_of, value))}]"
    return f"{value:f}" if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _same(one: Any, other: Any) -> bool:
    """Equal in JSON: 1 equals 1.0, and does not equal true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _remove(records: list[Any], record: Any) -> None:
    del records[next(number for number, other in enumerate(records) if other is record)]


def _identity(record: Any) -> dict[str, Any]:
    names = [name for name in _IDENTITY if isinstance(record, dict) and name in record][:1]
    return {name: record[name] for name in names}


def _is_about(record: Any, about: Mapping[str, Any]) -> bool:
    return isinstance(record, dict) and all(_same(record.get(name, _NOTHING), value) for name, value in about.items())


def _likeness(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    return sum(name in other and _same(value, other[name]) for name, value in one.items())


def _members(
    expected: Mapping[str, Any], actual: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, list[str | None]]]:
    for name in dict.fromkeys([*expected, *actual]):
        pair = [side.get(name, _NOTHING) for side in (expected, actual)]
        if all(isinstance(side, dict) for side in pair):
            yield from _members(pair[0], pair[1], f"{path}{name}.")
        elif not _same(*pair):
            yield f"{path}{name}", [None if side is _NOTHING else json_of(side) for side in pair]
