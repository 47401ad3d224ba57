"""The rules of fields whose values have a meaning to Braze: addresses, numbers, groups, tokens, locations. Pure.

Each is here once, for every mode that has the field. A value that is not sent with a record breaks none of them.
"""

from collections.abc import Callable, Iterator, Mapping

from reverse_etl.braze.modes import MAX_EXTERNAL_ID_BYTES, SUBSCRIPTION_GROUP_STATES
from reverse_etl.records.expressions import Rule, changed, chosen, is_sent, json_of, new, present
from reverse_etl.records.layout import Column, Layout
from reverse_etl.sql.quoting import literal, plain
from reverse_etl.sql.types import INTEGERS

_IMPORT = "push_token_import"


def value_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    """The rules of a column that depend on its name."""
    if column.name in _RULES:
        yield from _RULES[column.name](layout, column)


def _external_id_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    if column.type.family not in INTEGERS:
        condition = f"strlen(CAST({new(column.name)} AS VARCHAR)) > {MAX_EXTERNAL_ID_BYTES}"
        hint = "correct it where it comes from: a part of it may be another user"
        yield Rule(condition, column.name, f"is longer than {MAX_EXTERNAL_ID_BYTES} bytes", hint)


def _email_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    name = column.name
    sent = is_sent(layout, column) if column.field else chosen(layout, name)
    condition = f"({sent}) AND NOT retl_is_email(CAST({new(name)} AS VARCHAR))"
    hint = f"correct it where it comes from; trim({plain(name)}) removes blanks around it"
    yield Rule(condition, name, "is not a valid email address", hint)


def _phone_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    """Only of a number that identifies the user: beside an id, Braze keeps any."""
    name, text = column.name, f"CAST({new(column.name)} AS VARCHAR)"
    valid = f"retl_is_full_phone({text})" if layout.mode.e164 else f"retl_is_phone({text})"
    hint = "write it with a + and the code of its country: +14155552671"
    yield Rule(f"{chosen(layout, name)} AND NOT {valid}", name, "is not a valid phone number", hint)


def _group_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    name, document = column.name, json_of(column.name)
    kinds = {"subscription_group_id": "id", "subscription_state": "state"}
    missing = " AND ".join(f"json_type(item, '$.{key}') = 'VARCHAR'" for key in kinds)
    yield Rule(
        _any(document, f"NOT coalesce({missing}, false)"),
        name,
        "has an item that is not an object with subscription_group_id and subscription_state",
        "write each item as {'subscription_group_id': '...', 'subscription_state': 'subscribed'}",
    )
    no_id = "NOT coalesce(retl_is_group(json_extract_string(item, '$.subscription_group_id')), false)"
    hint = "use the id of the group as the dashboard shows it, such as b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10"
    yield Rule(_any(document, no_id), name, "has a subscription_group_id that is not a UUID", hint)
    states = ", ".join(map(literal, SUBSCRIPTION_GROUP_STATES))
    no_state = f"coalesce(json_extract_string(item, '$.subscription_state') NOT IN ({states}), false)"
    reason = f"has a subscription_state that is not one of {', '.join(SUBSCRIPTION_GROUP_STATES)}"
    # To drop the item would lose an opt-out under another name.
    yield Rule(_any(document, no_state), name, reason, "map it to one of these: CASE state WHEN ... THEN ... END")


def _location_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    document = f"retl_json_or_null({json_of(column.name)})"
    numbers = " AND ".join(
        f"coalesce(json_type({document}, '$.{key}') IN ('BIGINT', 'UBIGINT', 'HUGEINT', 'DOUBLE'), false)"
        for key in ("longitude", "latitude")
    )
    hint = "return {'longitude': 13.4, 'latitude': 52.5} with numbers, or NULL"
    condition = f"{json_of(column.name)} IS NOT NULL AND NOT ({numbers})"
    yield Rule(condition, column.name, "is not an object with a number as longitude and latitude", hint)


def _token_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    name, document = column.name, json_of(column.name)
    texts = " AND ".join(f"json_type(item, '$.{key}') = 'VARCHAR'" for key in ("app_id", "token"))
    yield Rule(
        _any(document, f"NOT coalesce({texts}, false)"),
        name,
        "has an item that is not an object with app_id and token as strings",
        "write each item as {'app_id': '...', 'token': '...'}",
    )
    given = "json_type(item, '$.device_id')"
    length = "strlen(json_extract_string(item, '$.device_id')) BETWEEN 8 AND 255"
    no_device = f"{given} IS NOT NULL AND NOT coalesce({given} = 'VARCHAR' AND {length}, false)"
    hint = "omit device_id, and Braze chooses one; or use that of the app"
    yield Rule(_any(document, no_device), name, "has a device_id that is not a string of 8 to 255 bytes", hint)


def _import_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    imports, tokens = f"coalesce(TRY_CAST({new(_IMPORT)} AS BOOLEAN), false)", "push_tokens"
    known = [present(layout, name) for name in ("external_id", "braze_id") if name in layout.identifiers]
    if known:
        reason = "is set for a user with external_id or braze_id; a token import has neither"
        hint = f"set {_IMPORT} to false for these users: their tokens are added all the same"
        yield Rule(f"{imports} AND ({' OR '.join(known)})", _IMPORT, reason, hint)
    has_tokens = "false"
    if layout.has(tokens):
        sent = changed(tokens) if tokens in layout.tracked else "true"
        has_tokens = f"{sent} AND coalesce(json_array_length(retl_json_or_null({json_of(tokens)})), 0) > 0"
    hint = f"set {_IMPORT} to true only in rows with push_tokens, and send: all_columns, so that these are sent along"
    yield Rule(f"{imports} AND NOT ({has_tokens})", _IMPORT, "is set for a record without push_tokens", hint)


def _any(document: str, condition: str) -> str:
    """SQL for: an `item` of the array fulfills a condition."""
    return f"len(list_filter(retl_json_items({document}), lambda item: {condition})) > 0"


_RULES: Mapping[str, Callable[[Layout, Column], Iterator[Rule]]] = {
    "external_id": _external_id_rules,
    "email": _email_rules,
    "phone": _phone_rules,
    "subscription_groups": _group_rules,
    "current_location": _location_rules,
    "push_tokens": _token_rules,
    _IMPORT: _import_rules,
}
