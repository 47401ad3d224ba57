"""A profile compared with what was sent to it: what Braze must have of a record, and where it has something else. Pure.

    a request of one record ── expected() ──> Expected: whom to ask for, and what the profile must have
                                                  │
    profiles as they are now ── differences() ────┴──> Difference: which column, what was sent, what Braze has

Values are compared as Braze stores them: numbers by value, times by moment, arrays without repeated elements and in any
order, e-mails without their case, phones by their digits, countries by their code. What it does not export cannot be
compared, and is in `not_compared`.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from reverse_etl.braze.lists import COUNTRY_NAMES
from reverse_etl.braze.modes import ALIAS_UPDATE, DELETE, MERGE, MODES, OPERATORS, REMOVE, RENAME, TO_MERGE
from reverse_etl.braze.subscriptions import GLOBAL, GROUPS, User
from reverse_etl.words import one_line

# The fields of post_users_identifier that records may set, by the name that they have in records.
_EXPORTED = {
    **{name: name for name in ("first_name", "last_name", "home_city", "country", "language", "time_zone")},
    **{name: name for name in ("email", "phone", "gender", "dob", "push_tokens", *GLOBAL)},
    "current_location": "last_coordinates",
}
_FIELDS = {field.name: field for mode in MODES.values() if mode.record_type == "attributes" for field in mode.fields}
_NOT_EXPORTED = frozenset(_FIELDS) - frozenset(_EXPORTED) - {GROUPS}
_IDENTIFIERS = ("external_id", "user_alias", "braze_id", "email", "phone")  # in the order in which a record has one
_STATE, _GROUP = "subscription_state", "subscription_group_id"
_IDS = {  # arrays of identifiers alone (post_user_delete, post_update_user_subscription_group_status_v2)
    **{"external_ids": "external_id", "braze_ids": "braze_id", "user_aliases": "user_alias"},
    **{"emails": "email", "phones": "phone", "email_addresses": "email", "phone_numbers": "phone"},
}
_TO_IDENTIFY = {  # post_user_identify
    **{"aliases_to_identify": "user_alias", "emails_to_identify": "email", "phone_numbers_to_identify": "phone"}
}
CUSTOM = "custom_attributes"
USER_IS_MISSING, USER_IS_THERE = "is not in Braze", "is still in Braze"


@dataclass(frozen=True)
class Expected:
    """What Braze must have of a record.

    `person` is whom to ask for, as in `subscriptions.py`; of an item, its id. `attributes` are what their profile, or
    it, must have, by column; `merges`: an object may have further keys. `is_gone`: there must be no such user; by an
    email or phone, one less. `former`: whom there must not be any more, beside the person.
    """

    person: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    merges: bool = False
    is_gone: bool = False
    former: str | None = None

    @property
    def people(self) -> tuple[str, ...]:
        """All whom to ask for."""
        return (self.person, self.former) if self.former else (self.person,)


@dataclass(frozen=True)
class Difference:
    """A column of which Braze has something else than what was sent; `column` is empty if it is about the user, and
    `what` says it without values."""

    column: str
    what: str
    sent: Any = None
    read: Any = None


def expected(path: str, request: Mapping[str, Any]) -> Expected | None:
    """What Braze must have of the one record of a request to `path`; None of an event or a purchase, which it does not
    export one by one, and of whom nobody can tell."""
    if path in (DELETE.path, REMOVE.path):
        name, (one,) = next((name, ids) for name, ids in request.items() if name in _IDS)
        return Expected(_person({_IDS[name]: one.get(_IDS[name], one) if isinstance(one, dict) else one}), is_gone=True)
    array, (record,) = next((name, items) for name, items in request.items() if isinstance(items, list))
    if path == MERGE.path:
        merged = record[TO_MERGE]
        # By an address, nobody can tell: the user who is kept may have taken it over.
        return Expected(_person(merged), is_gone=True) if merged.keys() & {"external_id", "user_alias"} else None
    if path == ALIAS_UPDATE.path:
        named = {"alias_label": record["alias_label"], "alias_name": record["new_alias_name"]}
        before = {"alias_label": record["alias_label"], "alias_name": record["old_alias_name"]}
        return Expected(_person({"user_alias": named}), former=_person({"user_alias": before}))
    if path == RENAME.path:
        return Expected(_person({"external_id": (new := record["new_external_id"])}), {"external_id": new})
    if array == "items":
        return Expected(str(record["id"]), {name: value for name, value in record.items() if name != "id"})
    if array == "attributes":
        return _of_attributes(record)
    if array in _TO_IDENTIFY:
        name = _TO_IDENTIFY[array]
        return Expected(_person({"external_id": record["external_id"]}), {name: record[name]})
    if array == "user_aliases":
        has_id = record.get("external_id") is not None
        return Expected(_person({"user_alias": record}), {"external_id": record["external_id"]} if has_id else {})
    if array == GROUPS:
        kind, (one,) = next((_IDS[name], ids) for name, ids in record.items() if name in _IDS)
        return Expected(_person({kind: one}), {_STATE: [{_GROUP: record[_GROUP], _STATE: record[_STATE]}]})
    return None


def _of_attributes(record: Mapping[str, Any]) -> Expected:
    kind = next(name for name in _IDENTIFIERS if record.get(name) is not None)
    left = {kind, *_IDENTIFIERS[:3], *(name for name, one in _FIELDS.items() if one.switch)}
    sent = {name: value for name, value in record.items() if name not in left}
    return Expected(_person(record), sent, merges=record.get("_merge_objects") is True)


def _person(record: Mapping[str, Any]) -> str:
    kind = next(name for name in _IDENTIFIERS if record.get(name) is not None)
    if kind == "user_alias":
        named = {part: str(record[kind][part]) for part in ("alias_name", "alias_label")}
    else:
        named = {kind: str(record[kind])}
    return json.dumps(named, ensure_ascii=False)


# --- what to read ----------------------------------------------------------------------------------------------------


def fields_to_read(columns: Iterable[str]) -> tuple[str, ...]:
    """The fields to export, so that these columns can be compared."""
    columns = list(columns)
    found = [_EXPORTED[name] for name in columns if name in _EXPORTED]
    custom = [CUSTOM] if any(name not in _FIELDS and name not in (*_IDENTIFIERS, _STATE) for name in columns) else []
    return tuple(dict.fromkeys(["braze_id", *custom, *found]))


def reads_groups(columns: Iterable[str]) -> bool:
    """Whether the states of groups must be read, which no export has."""
    return not {GROUPS, _STATE}.isdisjoint(columns)


def not_compared(columns: Iterable[str], of_groups: bool) -> list[str]:
    """The columns that cannot be compared: Braze does not export them, or, unless `of_groups`, does not tell the states
    of groups by the identifiers that the records have."""
    groups = () if of_groups else (GROUPS, _STATE)
    return sorted({name for name in columns if name in _NOT_EXPORTED or name in groups})


# --- what differs ----------------------------------------------------------------------------------------------------


def differences(of: Expected, users: Sequence[User], before: Sequence[User] = ()) -> list[Difference]:
    """Where Braze has something else than what is expected of a record.

    `users` are those whom Braze names for the person: by an email or phone several, of whom the one is compared that is
    closest to it. `before` are the same before it was sent: what an operator was applied to.
    """
    if of.is_gone:
        left = max(len(before) - 1, 0)
        return [Difference("", USER_IS_THERE)] if len(users) > left else []
    if not users:
        return [Difference("", USER_IS_MISSING)]
    return min((_of_user(of, user, before) for user in users), key=len)


def item_differences(of: Expected, items: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """The same of an item of a catalog: no column has a meaning to Braze, and arrays keep their order."""
    if not items:
        return [Difference("", USER_IS_MISSING)]
    read = {name: items[0].get(name) for name in of.attributes}
    return [
        Difference(name, _in_words("", sent, read[name]), sent, read[name])
        for name, sent in of.attributes.items()
        if not (sent == read[name] if isinstance(sent, list) else _same(sent, read[name]))
    ]


def _of_user(of: Expected, user: User, before: Sequence[User]) -> list[Difference]:
    earlier = next((one for one in before if one.get("braze_id", 0) == user.get("braze_id", 0)), {})
    if len(before) == 1:
        earlier = before[0]
    found = []
    for name, sent in of.attributes.items():
        if name in _NOT_EXPORTED:
            continue
        read = _read(name, user)
        operator = operator_of(sent) if name not in _FIELDS else None
        if operator:
            sent = applied(sent, _read(name, earlier))
        if operator and sent is _UNKNOWN:
            found.append(
                Difference(name, f"{operator}: it does not apply to what Braze has", of.attributes[name], read)
            )
        elif not _SAME.get(name, _same_custom(of.merges))(sent, read):
            what = f"{operator}: Braze has another result" if operator else _in_words(name, sent, read)
            found.append(Difference(name, what, of.attributes[name], read))
    return found


def _read(name: str, user: User) -> Any:
    """What a profile has as the value of a column."""
    if name in (GROUPS, _STATE):
        return user.get(GROUPS, {})
    if name == "user_alias":
        return user.get("user_aliases") or []
    if name in _EXPORTED or name in _IDENTIFIERS:
        return user.get(_EXPORTED.get(name, name))
    custom = user.get(CUSTOM) or {}
    return custom.get(name)


def _in_words(name: str, sent: Any, read: Any) -> str:
    """What is wrong, without values."""
    if name in (GROUPS, _STATE):
        return "Braze has another state"
    if name == "user_alias":
        return "the user does not have this alias"
    if _is_nothing(read):
        return f"sent {_KINDS[kind_of_value(sent)]}, and Braze has none"
    if _is_nothing(sent):
        return f"sent null, and Braze has {_KINDS[kind_of_value(read)]}"
    kinds = [kind_of_value(one) for one in (sent, read)]
    if name != "current_location" and kinds[0] != kinds[1]:
        return f"sent {_KINDS[kinds[0]]}, and Braze has {_KINDS[kinds[1]]}"
    if isinstance(sent, list) and isinstance(read, list) and len(sent) != len(read):
        return f"sent {len(sent):,} elements, and Braze has {len(read):,}"
    return f"sent {_KINDS[kinds[0]]}, and Braze has another"


_KINDS = {
    **{"null": "null", "boolean": "true or false", "number": "a number", "string": "a string"},
    **{"array": "an array", "object": "an object", "array of objects": "an array of objects"},
}


def kind_of_value(value: Any) -> str:
    """What a value is in JSON."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return "array of objects" if any(isinstance(one, dict) for one in value) else "array"
    return {bool: "boolean", int: "number", float: "number", str: "string", dict: "object"}[type(value)]


def shown(value: Any) -> str:
    """A value in a message, for those who may see it."""
    text = one_line(json.dumps(value, ensure_ascii=False))
    return text if len(text) <= 60 else f"{text[:60]}..."


# --- values that are the same ----------------------------------------------------------------------------------------


def _same_custom(merges: bool) -> Callable[[Any, Any], bool]:
    return lambda sent, read: _same(sent, read, merges)


def _is_nothing(value: Any) -> bool:
    """What an export leaves out, or may (post_users_identifier)."""
    return value is None or value in ("", [], {})


def _same(sent: Any, read: Any, merges: bool = False) -> bool:
    if _is_nothing(sent) and _is_nothing(read):
        return True
    if isinstance(sent, bool) or isinstance(read, bool):
        return sent is read
    if isinstance(sent, int | float) and isinstance(read, int | float):
        return sent == read
    if isinstance(sent, list) and isinstance(read, list):
        return _same_array(sent, read, merges)
    times = _time(sent), _time(read)
    if times[0] is not None and times[1] is not None:
        return times[0] == times[1]
    if isinstance(sent, dict) and isinstance(read, dict):
        names = sent.keys() if merges else sent.keys() | read.keys()
        return all(_same(sent.get(name), read.get(name), merges) for name in names)
    return type(sent) is type(read) and bool(sent == read)


def _same_array(sent: Sequence[Any], read: Sequence[Any], merges: bool) -> bool:
    """Objects in their order; of other elements, Braze keeps one of those that are equal (user_guide: data types)."""
    if any(isinstance(one, dict) for one in (*sent, *read)):
        return len(sent) == len(read) and all(_same(*pair, merges) for pair in zip(sent, read, strict=True))
    return _elements(sent) == _elements(read)


def _elements(array: Iterable[Any]) -> set[str]:
    return {json.dumps(_time(one) or one, default=str) for one in array}


_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)? ?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)


def _time(value: Any) -> datetime | None:
    """The moment that a value is, be it text or {"$time": text}; to the millisecond, as Braze has it."""
    text = value.get("$time") if isinstance(value, dict) and value.keys() == {"$time"} else value
    if not (isinstance(text, str) and _MOMENT.fullmatch(text)):
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "T", 1).replace(" ", ""))
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def _same_email(sent: Any, read: Any) -> bool:
    return _same(_folded(sent), _folded(read))


def _folded(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _same_phone(sent: Any, read: Any) -> bool:
    """Braze makes a number an E.164 one: ten digits are of the US (user_guide: user phone numbers)."""
    if not (isinstance(sent, str) and isinstance(read, str)):
        return _same(sent, read)
    digits, there = (re.sub("[^0-9]", "", text) for text in (sent, read))
    return there in (digits, f"1{digits}")


def _same_country(sent: Any, read: Any) -> bool:
    """A name becomes its code, if Braze can map it (user_attributes_object)."""
    named = COUNTRY_NAMES.get(sent.strip().lower(), sent.upper()) if isinstance(sent, str) else sent
    return _same(named, read)


def _same_day(sent: Any, read: Any) -> bool:
    return _same(sent, read[:10] if isinstance(read, str) else read)


def _same_place(sent: Any, read: Any) -> bool:
    if not isinstance(sent, dict) or not isinstance(read, list):
        return _is_nothing(sent) and _is_nothing(read)
    there = [sent.get("longitude"), sent.get("latitude")]
    return len(read) == len(there) and all(_same(*pair) for pair in zip(there, read, strict=True))


def _same_tokens(sent: Any, read: Any) -> bool:
    """Tokens are added to those that the user has; an export names their app otherwise than records do."""
    have = {one.get("token") for one in read or () if isinstance(one, dict)}
    return all(one.get("token") in have for one in sent or () if isinstance(one, dict))


def _same_groups(sent: Any, read: Any) -> bool:
    """States are added to those that the user has."""
    return all(read.get(one.get(_GROUP)) == one.get(_STATE) for one in sent or () if isinstance(one, dict))


def _has_alias(sent: Any, read: Any) -> bool:
    named = [[str(one.get("alias_label")), str(one.get("alias_name"))] for one in read if isinstance(one, dict)]
    return [str(sent.get("alias_label")), str(sent.get("alias_name"))] in named


_SAME: Mapping[str, Callable[[Any, Any], bool]] = {
    **{"email": _same_email, "phone": _same_phone, "country": _same_country, "dob": _same_day},
    **{"current_location": _same_place, "push_tokens": _same_tokens, "user_alias": _has_alias},
    **{GROUPS: _same_groups, _STATE: _same_groups},
}


# --- values that change what is there --------------------------------------------------------------------------------

_UNKNOWN = object()


def operator_of(value: Any) -> str | None:
    """The operator that a value is, if it is one: it changes what the profile has (user_attributes_object)."""
    if not (isinstance(value, dict) and value and value.keys() <= set(OPERATORS)):
        return None
    return ", ".join(name for name in OPERATORS if name in value)


def applied(value: Mapping[str, Any], before: Any) -> Any:
    """What an operator makes of the value that a profile had; `_UNKNOWN` if it does not apply to it."""
    if "inc" in value:
        is_number = before is None or (isinstance(before, int) and not isinstance(before, bool))
        return (before or 0) + value["inc"] if is_number else _UNKNOWN
    is_array = before is None or isinstance(before, list)
    has_objects = any(isinstance(one, dict) for one in before or ()) if is_array else False
    if not is_array or (before and has_objects == ("add" in value or "remove" in value)):
        return _UNKNOWN
    if "add" in value or "remove" in value:
        gone = value.get("remove", [])
        return [one for one in [*(before or ()), *value.get("add", ())] if one not in gone]
    return _changed_objects(value, list(before or ()))


def _changed_objects(value: Mapping[str, Any], objects: list[Any]) -> list[Any]:
    """In the order in which Braze does it (user_guide: array of objects)."""

    def is_meant(one: Any, item: Mapping[str, Any]) -> bool:
        return bool(one.get(item.get("$identifier_key")) == item.get("$identifier_value"))

    objects += value.get("$add", ())
    for item in value.get("$remove", ()):
        objects = [one for one in objects if not is_meant(one, item)]
    for item in value.get("$update", ()):
        objects = [item.get("$new_object") if is_meant(one, item) else one for one in objects]
    return objects
