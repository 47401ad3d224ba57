"""The rules of fields whose values have a meaning to Braze: addresses, numbers, groups, tokens, locations. Pure.

Each is here once, for every mode that has the field. A value that is not sent with a record breaks none of them.
"""

from collections.abc import Callable, Iterator, Mapping

from reverse_etl.braze.modes import MAX_EXTERNAL_ID_BYTES, SUBSCRIPTION_GROUP_STATES, Extra
from reverse_etl.records.documents import may_be_operator, unless_plain
from reverse_etl.records.expressions import Rule, changed, chosen, is_sent, json_of, new, present
from reverse_etl.records.layout import Column, Layout, Role
from reverse_etl.sql.quoting import literal, plain
from reverse_etl.sql.types import INTEGERS

_IMPORT = "push_token_import"


def value_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    """The rules of a column that depend on its name."""
    if column.name in _RULES and column.role is not Role.EXTRA:
        yield from _RULES[column.name](layout, column)
    if (
        column.role is Role.EXTRA
        and layout.mode.extra is Extra.CUSTOM_ATTRIBUTE
        and column in layout.json_columns
        and may_be_operator(column.type)
    ):
        is_bad = unless_plain(layout, column, f"retl_is_bad_operator({json_of(column.name)})")
        of_objects = f"regexp_matches({json_of(column.name)}, '^\\s*\\{{\\s*\"\\$')"
        reason = "has an operator that Braze ignores: inc needs an integer, add and remove need an array"
        hint = "write {'inc': 1}, {'add': ['x']} or {'remove': ['x']}"
        yield Rule(f"{is_bad} AND NOT {of_objects}", column.name, reason, hint)
        reason = "has an operator that Braze ignores: $add, $remove and $update need arrays of objects"
        hint = "write $add with the objects; $remove and $update with $identifier_key, $identifier_value, $new_object"
        yield Rule(is_bad, column.name, reason, hint)


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


def phone_rule(layout: Layout) -> Rule:
    """Of a number that identifies the user: beside an id, Braze keeps any."""
    name, text = "phone", f"CAST({new('phone')} AS VARCHAR)"
    valid = f"retl_is_full_phone({text})" if layout.mode.e164 else f"retl_is_phone({text})"
    hint = "write it with a + and the code of its country: +14155552671"
    return Rule(f"{chosen(layout, name)} AND NOT {valid}", name, "is not a valid phone number", hint)


def _country_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    reason = "is not a country that Braze knows: it would remove the one that the profile has"
    yield _listed(column, "country", reason, "return the code of two letters (ISO 3166-1)")


def _language_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    yield _listed(column, "language", "is not a language that Braze knows", "return the code, such as en (ISO 639-1)")


def _zone_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    reason = "is not a time zone that Braze knows: it would ignore it"
    yield _listed(column, "time_zone", reason, "return a name such as Europe/Berlin")


def _currency_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    hint = f"upper(trim({column.name})), or map it: CASE {column.name} WHEN ... THEN ... END"
    yield _listed(column, "currency", "is not a currency of ISO 4217", hint)


def _listed(column: Column, what: str, reason: str, hint: str) -> Rule:
    condition = f"NOT regexp_full_match(CAST({new(column.name)} AS VARCHAR), retl_{what}_pattern())"
    return Rule(condition, column.name, reason, hint)


def _shape_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    """Of an object whose keys have fixed types, where they are there."""
    document, types = f"retl_json_or_null({json_of(column.name)})", _SHAPES[column.name]
    of = {"string": "'VARCHAR'", "integer": "'BIGINT', 'UBIGINT'", "array": "'ARRAY'"}
    others = " OR ".join(
        f"coalesce(json_type({document}, '$.{key}') NOT IN ({of[kind]}), false)" for key, kind in types.items()
    )
    form = ", ".join(f"{key}: {kind}" for key, kind in types.items())
    reason, hint = f"does not have the form that Braze expects: {{{form}}}", "CAST its fields to these types"
    yield Rule(others, column.name, reason, hint)


_SHAPES: Mapping[str, Mapping[str, str]] = {  # user_attributes_object
    "facebook": {"id": "string", "likes": "array", "num_friends": "integer"},
    "twitter": {
        "id": "integer",
        "screen_name": "string",
        "followers_count": "integer",
        "friends_count": "integer",
        "statuses_count": "integer",
    },
}


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
    texts += " AND json_extract_string(item, '$.app_id') <> ''"
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
    "country": _country_rules,
    "language": _language_rules,
    "time_zone": _zone_rules,
    "currency": _currency_rules,
    "facebook": _shape_rules,
    "twitter": _shape_rules,
    "subscription_groups": _group_rules,
    "current_location": _location_rules,
    "push_tokens": _token_rules,
    _IMPORT: _import_rules,
}
