"""What makes a row invalid before it is sent: the rules of a layout, as SQL over its changes. Pure.

Braze responds "success" to several of these and drops the value, so retl finds them first, and reports the column and a
hint. A rule names columns, never values.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from reverse_etl.braze.modes import (
    CLASHING_PRIORITIES,
    KEPT,
    MAX_JSON_BYTES,
    MAX_PROPERTIES,
    Extra,
    Field,
    Shape,
)
from reverse_etl.records import ecommerce, merging, renaming
from reverse_etl.records.expressions import (
    MERGE,
    TWINS_OF_KEY,
    TWINS_OF_USER,
    Rule,
    changed,
    chosen,
    compared_user,
    fault_of,
    is_blank,
    is_fallback,
    is_null,
    json_of,
    lost,
    mergeable,
    new,
    present,
    time_of,
)
from reverse_etl.records.json_text import ITEM_FAULTS, JSON_FAULTS, TOO_LONG
from reverse_etl.records.layout import ALIAS_PARTS, Column, Layout, Role
from reverse_etl.records.values import phone_rule, value_rules
from reverse_etl.sql.quoting import identifier, literal, plain
from reverse_etl.sql.types import BEYOND_64_BITS, FLOATS, INTEGERS, MOMENTS


def rules(layout: Layout) -> list[Rule]:
    """All rules of a layout, in the order in which they are tried; of each column, the first that it breaks counts."""
    of_columns = [rule for column in layout.sent for rule in _of_column(layout, column)]
    of_identity = [
        *_key_rules(layout),
        *_identifier_rules(layout),
        *_priority_rules(layout),
        *merging.rules_of(layout),
        *renaming.rules_of(layout),
    ]
    found = [*of_identity, *of_columns, *_property_rules(layout), *ecommerce.rules_of(layout), *_merge_rules(layout)]
    if layout.sync.on_removed != "delete":
        return found
    return [replace(rule, hint=_CORRECT) if "exclude these rows" in rule.hint else rule for rule in found]


def number_of(listed: Sequence[Rule], reason: str) -> int:
    """The number of the rule that has this reason."""
    return next(number for number, rule in enumerate(listed, 1) if rule.reason == reason)


def left_out_columns(layout: Layout) -> tuple[str, ...]:
    """The columns without which a row may be sent."""
    may_be = (column for column in layout.sent if may_be_left_out(layout, column))
    return tuple(column.name for column in may_be if next(_column_rules(layout, column), None))


def _of_column(layout: Layout, column: Column) -> Iterator[Rule]:
    """The rules of a column. If Braze would drop its value, and not the record, the record is sent without it.

    Not without a property: an event that lacks one can never be corrected, as sending it again would count twice.
    """
    for rule in _column_rules(layout, column):
        if not may_be_left_out(layout, column):
            yield rule
            continue
        sent = changed(column.name)
        if column.name in layout.identifiers:
            sent += f" AND NOT ({is_fallback(layout, column.name)})"
        yield replace(rule, condition=f"{sent} AND ({rule.condition})", leaves_out=True)


def may_be_left_out(layout: Layout, column: Column) -> bool:
    """Whether a row may be sent without a column: one that is no key, and that a later run can still send."""
    if layout.sync.strict or layout.mode.extra is not Extra.CUSTOM_ATTRIBUTE or column.name not in layout.tracked:
        return False
    return column.role is not Role.IDENTIFIER and not (column.field and column.field.rejected)


_CORRECT = "correct these rows: the user of a row that leaves the model would be deleted as removed"


def one_row_per(what: str, layout: Layout) -> str:
    """The hint for rows that share a key, or a user: of an opt-out and its opposite, it keeps the opt-out, and events
    are told apart, as each of them counts."""
    if what == "key" and not layout.mode.is_idempotent:
        return "add columns to primary_key that tell these rows apart, or return one row per key"
    states = [c.name for c in layout.sent if c.field and "unsubscribed" in c.field.choices]
    if states:
        kept = " and ".join(f"max({plain(name)})" for name in states)
        return f'return one row per {what}: GROUP BY, with {kept}, which keeps "unsubscribed"'
    more = ", or add columns to primary_key" if what == "key" else ""
    return f"return one row per {what} (GROUP BY, QUALIFY row_number() ...){more}"


def or_skip(layout: Layout, null_keys: bool) -> str:
    """What the hint for rows without a key, or with that of others, has beside the correction of the model: that they
    can be skipped. Empty where that might hold back an opt-out, act on a user as removed, or lose an event.

    Of several events with one key, none is sent, and none would be known to be missing after a correction of the key.
    """
    sync = layout.sync
    may_opt_out = any(column.field and column.field.consent for column in layout.sent)
    if sync.skip_on_invalid_records or layout.whole_row or may_opt_out or layout.mode.ends:
        return ""
    is_harmless = sync.on_removed == "ignore" if null_keys else layout.mode.is_idempotent
    return "; to send the others, set skip_on_invalid_records: true" if is_harmless else ""


# --- keys ------------------------------------------------------------------------------------------------------------

NUMBER = "{number}"  # in a reason: how many rows of the model it is about


def _key_rules(layout: Layout) -> Iterator[Rule]:
    """Of rows that cannot be compared with the state, and must not be sent: nobody knows which of them is right."""
    if not layout.sets_aside:
        return
    for part in layout.key_parts:
        others = f", and so {'is' if len(part) == 2 else 'are'} {', '.join(part[1:])}" if part[1:] else ""
        hint = f"set a value, or exclude these rows: WHERE {' OR '.join(f'{plain(name)} IS NOT NULL' for name in part)}"
        yield Rule(is_null(part, new), part[0], f"is NULL in the primary key{others}", hint)
    key, reason = ", ".join(layout.key), f"is not unique: occurs {NUMBER} times"
    yield Rule(f"{identifier(TWINS_OF_KEY)} > 1", key, reason, one_row_per("key", layout))
    if compared_user(layout, "model"):
        user = ", ".join([*layout.identifiers, *layout.mode.key_fields])
        condition = f"{identifier(TWINS_OF_KEY)} IS NULL AND {identifier(TWINS_OF_USER)} > 1"
        yield Rule(condition, user, reason, one_row_per("user", layout))


# --- identifiers -----------------------------------------------------------------------------------------------------


def _identifier_rules(layout: Layout) -> Iterator[Rule]:
    names = layout.identifiers
    if not names:
        return
    anyone = " OR ".join(f"({present(layout, name)})" for name in names)
    others = f"{'is' if len(names) == 2 else 'are'} {', '.join(names[1:])}"
    reason = "is missing" if len(names) == 1 else f"is missing, and so {others}"
    known = " OR ".join(f"{plain(layout.columns_of(name)[0])} IS NOT NULL" for name in names)
    yield Rule(f"NOT ({anyone})", names[0], reason, f"exclude these rows: WHERE {known}")
    exclusive = [name for name in names if name in layout.mode.exclusive]
    if len(exclusive) > 1:
        count = " + ".join(f"CAST({present(layout, name)} AS INTEGER)" for name in exclusive)
        # The first of them may be NULL itself, where two others are set.
        reason = f"is ambiguous: more than one of {', '.join(exclusive)} is set"
        yield Rule(f"{count} > 1", exclusive[0], reason, "set all but one of them to NULL")
    for name in names:
        if name == "user_alias":
            yield from _alias_rules(layout)
        else:
            yield Rule(f"{chosen(layout, name)} AND {is_blank(new(name))}", name, "is empty", _without_blank(name))
    if "phone" in names:
        yield phone_rule(layout)


def _priority_rules(layout: Layout) -> Iterator[Rule]:
    """Of an email or phone that several profiles may have, where Braze has to be told which one is meant; without an
    error, it does nothing if that is still unclear."""
    words = layout.mode.priorities
    for before in ("", KEPT) if layout.mode.keeps else ("",):
        columns = [f"{before}{one}" for one in ("email", "phone")]
        chosen_by = [present(layout, one) for one in columns if layout.has(one)]
        if words and chosen_by and layout.has(f"{before}prioritization"):
            yield from _rules_of_priorities(words, f"{before}prioritization", chosen_by)


def _rules_of_priorities(words: Sequence[str], name: str, chosen_by: Sequence[str]) -> Iterator[Rule]:
    given = f"json_extract_string(TRY_CAST({json_of(name)} AS JSON), '$[*]')"
    needs, listed = f"({' OR '.join(chosen_by)})", ", ".join(words)
    is_empty = f"{json_of(name)} IS NULL OR regexp_full_match({json_of(name)}, '\\s*\\[\\s*\\]\\s*')"
    yield Rule(f"{needs} AND ({is_empty})", name, "is missing", f"say which profile is meant: a list of {listed}")
    known = f"list_has_all([{', '.join(map(literal, words))}], {given})"
    yield Rule(f"{needs} AND NOT {known}", name, f"is not one of {listed}", f"use only {listed}")
    hint = "keep the one that says which profile is meant"
    for one, other in CLASHING_PRIORITIES:
        if other in words:
            both = f"list_has_all({given}, [{literal(one)}, {literal(other)}])"
            yield Rule(f"{needs} AND {both}", name, f"is ambiguous: both {one} and {other} are set", hint)


def _alias_rules(layout: Layout) -> Iterator[Rule]:
    for part in ALIAS_PARTS:
        value, column, reason = new(part), part, "is missing or empty"
        if not layout.flat_alias:
            value = f"json_extract_string(TRY_CAST({json_of('user_alias')} AS JSON), '$.{part}')"
            column, reason = "user_alias", f"has no {part}"
        condition = f"{present(layout, 'user_alias')} AND ({value} IS NULL OR {is_blank(value)})"
        yield Rule(condition, column, reason, "set both alias_name and alias_label")


# --- columns ---------------------------------------------------------------------------------------------------------


def _column_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    name = column.name
    unsendable = column.type.unsendable()
    if unsendable:
        reason = f"is of type {unsendable.text}, which JSON cannot represent"
        yield Rule(f"{new(name)} IS NOT NULL", name, reason, 'CAST it to VARCHAR, or list it in "exclude_columns"')
    elif column.is_json:
        faults = ITEM_FAULTS if layout.mode.extra is Extra.CATALOG_FIELD else JSON_FAULTS
        for number, (reason, hint) in faults.items():
            yield Rule(f"{fault_of(name)} = {number}", name, reason, _of_document(column, number, hint))
    elif column.role is Role.EXTRA:
        yield from _plain_rules(layout, column)
    if column.field:
        yield from _field_rules(column, column.field)
    yield from value_rules(layout, column)


def _of_document(column: Column, number: int, hint: str) -> str:
    """The hint for one of JSON_FAULTS; a part of an alias would be another alias."""
    if column.role is Role.IDENTIFIER and number == TOO_LONG:
        return "correct it where it comes from: a part of it is another alias"
    return hint.format(column=plain(column.name))


def _plain_rules(layout: Layout, column: Column) -> Iterator[Rule]:
    """The rules of a custom attribute, a property or a catalog's field that is neither list nor object."""
    name, value, family = column.name, new(column.name), column.type.family
    if family == "varchar":
        yield _not_longer(name, layout.mode.max_text)
    elif family in FLOATS:
        yield _finite(name)
    elif family in BEYOND_64_BITS:
        in_range = f"TRY_CAST({value} AS HUGEINT) BETWEEN -9223372036854775808 AND 18446744073709551615"
        condition = f"{value} IS NOT NULL AND NOT coalesce({in_range}, false)"
        hint = f"send it as a string: CAST({plain(name)} AS VARCHAR)"
        yield Rule(condition, name, "is an integer that does not fit in 64 bits", hint)
    elif family in MOMENTS:
        yield _in_years(name)


# Of which a part is another one: another person's address, another product, another picture.
_WHOLE_ONLY: Mapping[str, str] = {
    "phone": "correct it where it comes from: a part of it is another number",
    "product_id": "give the product a shorter id: a part of it may be that of another one",
    "id": "give the item a shorter id: a part of it may be that of another one",
    **dict.fromkeys(("country", "language", "time_zone"), "correct it where it comes from"),
    "image_url": "use a shorter URL: a part of it leads elsewhere",
}


def _not_longer(name: str, most: int) -> Rule:
    condition = f"length(CAST({new(name)} AS VARCHAR)) > {most}"
    hint = _WHOLE_ONLY.get(name, f"truncate it: left({plain(name)}, {most})")
    return Rule(condition, name, f"is longer than {most} characters", hint)


def _without_blank(name: str) -> str:
    """Rows without a value stay: another column may identify them."""
    return f"exclude these rows: WHERE trim({plain(name)}) IS DISTINCT FROM ''"


def _finite(name: str, required: bool = False) -> Rule:
    shown = plain(name)
    hint = (
        f"exclude these rows: WHERE isfinite({shown})" if required else f"CASE WHEN isfinite({shown}) THEN {shown} END"
    )
    return Rule(f"NOT isfinite({new(name)})", name, "is NaN or infinite, which JSON cannot represent", hint)


def _in_years(name: str) -> Rule:
    condition = f"NOT isfinite({new(name)}) OR year({new(name)}) NOT BETWEEN 0 AND 9999"
    hint = f"CASE WHEN year({plain(name)}) BETWEEN 0 AND 9999 THEN {plain(name)} END"
    return Rule(condition, name, "is outside the years 0 to 9999", hint)


# --- fields ----------------------------------------------------------------------------------------------------------


def _field_rules(column: Column, field: Field) -> Iterator[Rule]:
    name, value, text = column.name, new(column.name), f"CAST({new(column.name)} AS VARCHAR)"
    if field.required:
        yield Rule(f"{value} IS NULL", name, "is missing", f"exclude these rows: WHERE {plain(name)} IS NOT NULL")
    if field.shape is Shape.ID:
        yield Rule(is_blank(value), name, "is empty", _without_blank(name))
    if field.choices:
        listed = ", ".join(map(literal, field.choices))
        reason = f"is not one of {', '.join(field.choices)}"
        # To drop other values would lose opt-outs under another name.
        yield Rule(
            f"{text} NOT IN ({listed})", name, reason, f"map it to one of these: CASE {name} WHEN ... THEN ... END"
        )
    if field.max_length:
        yield _not_longer(name, field.max_length)
    if field.pattern:
        condition = f"NOT regexp_full_match({text}, {literal(field.pattern.regex)})"
        hint = f"regexp_replace({plain(name)}, '[^A-Za-z0-9_-]', '-', 'g'), if no two of them become one"
        yield Rule(condition, name, f"has characters other than {field.pattern.allows}", hint)
    if field.low is not None and field.high is not None:
        condition = f"{value} NOT BETWEEN {field.low} AND {field.high}"
        hint = f"split what is more into several rows; exclude what is less: WHERE coalesce({name}, 1) >= {field.low}"
        yield Rule(condition, name, f"is not between {field.low} and {field.high}", hint)
    if field.shape in _SHAPE_RULES:
        yield from _SHAPE_RULES[field.shape](column)


def _number_rules(column: Column) -> Iterator[Rule]:
    if column.type.family in FLOATS:
        yield _finite(column.name, required=bool(column.field and column.field.required))


def _boolean_rules(column: Column) -> Iterator[Rule]:
    if column.type.family == "varchar":
        value, hint = new(column.name), f"map it to true or false: CASE {column.name} WHEN ... THEN ... END"
        condition = f"{value} IS NOT NULL AND TRY_CAST({value} AS BOOLEAN) IS NULL"
        yield Rule(condition, column.name, "is neither true nor false", hint)


def _time_rules(column: Column) -> Iterator[Rule]:
    name, moment = column.name, time_of(column.name)
    is_time = f"coalesce(isfinite({moment}) AND year({moment}) BETWEEN 0 AND 9999, false)"
    if column.type.family == "varchar":
        hint = f"parse it in the format that it has: strptime({name}, '%d.%m.%Y %H:%M')"
    elif column.type.family in INTEGERS:
        hint = f"use unix time in seconds: {name} // 1000, if it is in milliseconds"
    else:
        hint = f"exclude these rows: WHERE isfinite({name})"
    yield Rule(f"{new(name)} IS NOT NULL AND NOT {is_time}", name, "is not a valid time", hint)


def _date_rules(column: Column) -> Iterator[Rule]:
    name, value = column.name, new(column.name)
    if column.type.family == "varchar":
        looks_right = f"regexp_full_match({value}, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')"
        condition = f"{value} IS NOT NULL AND NOT ({looks_right} AND TRY_CAST({value} AS DATE) IS NOT NULL)"
        hint = f"strftime(strptime({name}, ['%Y-%m-%d', '%d.%m.%Y']), '%Y-%m-%d'), with the formats that it has"
        yield Rule(condition, name, "is not a valid date of the form 2026-11-23", hint)
    else:
        yield _in_years(name)


def _object_rules(column: Column) -> Iterator[Rule]:
    yield _begins_with(column, "{", "object")


def _array_rules(column: Column) -> Iterator[Rule]:
    yield _begins_with(column, "[", "array")


def _begins_with(column: Column, opening: str, what: str) -> Rule:
    condition = f"NOT regexp_matches({json_of(column.name)}, '^\\s*\\{opening}')"
    hint = f"find these rows: WHERE json_type({column.name}) <> '{what.upper()}'"
    return Rule(condition, column.name, f"is not a JSON {what}", hint)


_SHAPE_RULES: Mapping[Shape, Callable[[Column], Iterator[Rule]]] = {
    Shape.NUMBER: _number_rules,
    Shape.BOOLEAN: _boolean_rules,
    Shape.TIME: _time_rules,
    Shape.DATE: _date_rules,
    Shape.OBJECT: _object_rules,
    Shape.ARRAY: _array_rules,
}


# --- properties, merged objects --------------------------------------------------------------------------------------


def _property_rules(layout: Layout) -> Iterator[Rule]:
    if layout.mode.extra is not Extra.PROPERTY:
        return
    if layout.has("properties"):
        reserved = layout.mode.reserved_properties
        condition = f"list_has_any(property_keys, [{', '.join(map(literal, reserved))}])"
        reason = f"contains a key that is reserved by Braze: one of {', '.join(reserved)}"
        yield Rule(condition, "properties", reason, "rename the key")
        for column in layout.extras:
            condition = f"{new(column.name)} IS NOT NULL AND list_contains(property_keys, {literal(column.name)})"
            yield Rule(condition, column.name, 'is also a key in "properties"', "remove one of them")
        of_columns = "".join(f" + CAST({new(column.name)} IS NOT NULL AS INTEGER)" for column in layout.extras)
        reason = f"has more than {MAX_PROPERTIES} entries; Braze ignores the rest"
        yield Rule(f"len(property_keys){of_columns} > {MAX_PROPERTIES}", "properties", reason, "send fewer properties")
    reason = f"is larger than {MAX_JSON_BYTES // 1000} KB in total"
    condition = ecommerce.is_too_large(layout, MAX_JSON_BYTES)
    yield Rule(condition, "properties", reason, "send fewer or shorter properties")


def _merge_rules(layout: Layout) -> Iterator[Rule]:
    for name in mergeable(layout):
        condition = f"TRY_CAST({new(MERGE)} AS BOOLEAN) AND {lost(name)}"
        reason = "no longer has a key that is in Braze, and a merge cannot remove keys"
        yield Rule(condition, name, reason, f"set {MERGE} to false for this row, so that the whole object is replaced")
