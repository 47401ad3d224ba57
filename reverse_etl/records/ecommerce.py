"""The rules of Braze's e-commerce events, as SQL: whether the properties of one fit its schema. Pure.

prepared()   columns that examine the properties of each such event once; NULL for all other events
rules_of()   what makes one invalid: one rule for each property and kind of fault

Properties are columns, keys of `properties`, or both; they are examined in the JSON that is sent. A rule names a key of
`properties` as `properties.price`, and that of a product as `products[].price`.
"""

from collections.abc import Callable, Iterator

from reverse_etl.braze.ecommerce import EVENTS, MAX_PROPERTIES_BYTES, OWN, PREFIX, PROPERTIES, Property
from reverse_etl.braze.modes import Shape
from reverse_etl.records.expressions import Rule, new
from reverse_etl.records.layout import Layout
from reverse_etl.sql.quoting import identifier, literal, plain
from reverse_etl.sql.types import BEYOND_64_BITS, FLOATS, INTEGERS, LISTS, NUMBERS, TEXTS

EVENT = identifier("ecommerce.event")  # its name; NULL for an event that is none of EVENTS
_TYPES, _TEXTS, _KEYS = (identifier(f"ecommerce.{what}") for what in ("types", "texts", "keys"))
_NAMES = tuple(PROPERTIES)
_NESTED = tuple(one for one in PROPERTIES.values() if one.items)
# What JSON calls the values that fit, what is said of others, and how to make them fit.
SHAPES = {
    Shape.TEXT: (("VARCHAR",), "is not a string", "CAST({0} AS VARCHAR)"),
    Shape.NUMBER: (("BIGINT", "UBIGINT", "DOUBLE"), "is not a number", "CAST({0} AS DECIMAL(18, 2))"),
    Shape.WHOLE: (("BIGINT", "UBIGINT"), "is not an integer", "CAST({0} AS BIGINT)"),
    Shape.OBJECT: (("OBJECT",), "is not a JSON object", "return an object: {{'key': ...}} AS {0}"),
    Shape.ARRAY: (("ARRAY",), "is not a JSON array", "return a list: [...] AS {0}, or list() of a group"),
}
_FAMILIES = {
    Shape.TEXT: TEXTS,
    Shape.NUMBER: NUMBERS - FLOATS - BEYOND_64_BITS,
    Shape.WHOLE: INTEGERS - BEYOND_64_BITS,
    Shape.OBJECT: frozenset({"struct", "map"}),
    Shape.ARRAY: LISTS,
}


# --- what is examined of each event ----------------------------------------------------------------------------------


def prepared(layout: Layout) -> dict[str, str]:
    """Columns that the rules read, over `properties`, the members of the object that is sent."""
    if not layout.mode.ecommerce:
        return {}
    is_one = f"CAST({new('name')} AS VARCHAR) IN ({_listed(EVENTS)})"
    document = "TRY_CAST('{' || coalesce(properties, '') || '}' AS JSON)"
    found = {
        "ecommerce.event": f"CASE WHEN {is_one} THEN CAST({new('name')} AS VARCHAR) END",
        "ecommerce.types": f"json_type({document}, {_paths(_NAMES)})",
        "ecommerce.texts": f"json_extract_string({document}, {_paths(_NAMES)})",
        "ecommerce.keys": f"json_keys({document})",
    }
    for one in _NESTED:
        items = f"json_extract({document}, '$.{one.name}[*]')"
        found |= {
            f"ecommerce.{one.name}": f"list_transform({items}, lambda item: json_type(item))",
            f"ecommerce.{one.name}.types": (
                f"list_transform({items}, lambda item: json_type(item, {_paths([p.name for p in one.items])}))"
            ),
            f"ecommerce.{one.name}.keys": f"flatten(list_transform({items}, lambda item: json_keys(item)))",
        }
    return {
        name: sql if sql.startswith("CASE") else f"CASE WHEN {is_one} THEN {sql} END" for name, sql in found.items()
    }


def _paths(names: list[str] | tuple[str, ...]) -> str:
    return f"[{_listed([f'$.{name}' for name in names])}]"


def _listed(texts: list[str] | tuple[str, ...]) -> str:
    return ", ".join(map(literal, texts))


# --- rules -----------------------------------------------------------------------------------------------------------


def rules_of(layout: Layout) -> Iterator[Rule]:
    """The rules of e-commerce events, if records of the layout may be such events."""
    if not layout.mode.ecommerce:
        return
    event = f"CAST({new('name')} AS VARCHAR)"
    looks_like_one = f"starts_with(lower(trim({event})), {literal(PREFIX)})"
    hint = f"use one of {', '.join(EVENTS)}; or a name that does not begin with {PREFIX}"
    reason = "begins with ecommerce., but is none of Braze's e-commerce events"
    yield Rule(f"{looks_like_one} AND {EVENT} IS NULL", "name", reason, hint)
    for place, one in enumerate(PROPERTIES.values(), 1):
        yield from _rules_of_property(layout, one, f"{_TYPES}[{place}]", f"{_TEXTS}[{place}]")
        if one.items and _may_have(layout, one.name):
            yield from _rules_of_items(_named(layout, one.name), one)
    yield from _rules_of_others(layout)


def _named(layout: Layout, name: str) -> str:
    """How a property is named in a message: as the column that it is, or would be."""
    is_column = any(column.name == name for column in layout.extras)
    return name if is_column or not layout.has("properties") else f"properties.{name}"


def _may_have(layout: Layout, name: str) -> bool:
    return layout.has("properties") or any(column.name == name for column in layout.extras)


def _rules_of_property(layout: Layout, one: Property, type_: str, text: str) -> Iterator[Rule]:
    name = _named(layout, one.name)
    if one.required_by:
        needed = f"{EVENT} IN ({_listed(one.required_by)})"
        if one.unless:
            other, values = one.unless
            value = f"{_TEXTS}[{_NAMES.index(other) + 1}]"
            needed += f" AND NOT coalesce({value} IN ({_listed(values)}), false)"
        who = "every e-commerce event" if one.required_by == EVENTS else ", ".join(one.required_by)
        hint = f"set a value: Braze drops the event without it ({who})"
        yield Rule(f"{needed} AND coalesce({type_}, 'NULL') = 'NULL'", name, "is missing", hint)
    if not _may_have(layout, one.name):
        return
    is_there = f"{EVENT} IN ({_listed(one.events)}) AND {type_} IS NOT NULL"
    if not _always_fits(layout, one):
        yield _of_shape(one.shape, name, lambda fits: f"{is_there} AND {type_} NOT IN ({fits})")
    if one.is_amount:
        hint = "send amounts as positive numbers, that of a refund, too"
        yield Rule(f"{EVENT} IS NOT NULL AND TRY_CAST({text} AS DOUBLE) < 0", name, "is negative", hint)
    if one.is_currency:
        condition = f"{is_there} AND NOT regexp_full_match({text}, retl_currency_pattern())"
        hint = f"upper(trim({plain(one.name)})), or map it: CASE {plain(one.name)} WHEN ... THEN ... END"
        yield Rule(condition, name, "is not a currency of ISO 4217", hint)
    if one.choices:
        is_other = f"{text} NOT IN ({_listed(one.choices)})"
        if one.shape is Shape.ARRAY:
            is_other = f"NOT list_has_all([{_listed(one.choices)}], TRY_CAST(TRY_CAST({text} AS JSON) AS VARCHAR[]))"
        hint = f"map it to one of these, or leave it out: CASE {plain(one.name)} WHEN ... THEN ... END"
        yield Rule(f"{is_there} AND {is_other}", name, f"is not one of {', '.join(one.choices)}", hint)


def _of_shape(shape: Shape, name: str, condition: Callable[[str], str]) -> Rule:
    fitting, reason, hint = SHAPES[shape]
    return Rule(condition(_listed(fitting)), name, reason, hint.format(plain(name.rpartition(".")[2])))


def _always_fits(layout: Layout, one: Property) -> bool:
    """Whether the type of its column says that every value has the right type."""
    of = next((column.type for column in layout.extras if column.name == one.name), None)
    return of is not None and not layout.has("properties") and of.family in _FAMILIES[one.shape]


def _rules_of_items(name: str, one: Property) -> Iterator[Rule]:
    items, types, keys = (identifier(f"ecommerce.{one.name}{what}") for what in ("", ".types", ".keys"))
    hint = f"return a list of objects: list({{'{one.items[0].name}': ..., ...}}) AS {one.name}"
    yield Rule(_any(items, "type <> 'OBJECT'"), f"{name}[]", "is not a JSON object", hint)
    for place, item in enumerate(one.items, 1):
        type_, item_name = f"type[{place}]", f"{name}[].{item.name}"
        if one.is_closed and item.required_by:
            hint = f"set a value in each element of {one.name}: Braze drops the event without it"
            yield Rule(_any(types, f"coalesce({type_}, 'NULL') = 'NULL'"), item_name, "is missing", hint)

        def is_other(fits: str, type_: str = type_) -> str:
            return _any(types, f"coalesce({type_} NOT IN ({fits}), false)")

        yield _of_shape(item.shape, item_name, is_other)
    if one.is_closed:
        others = f"len(list_filter({keys}, lambda key: key NOT IN ({_listed([p.name for p in one.items])}))) > 0"
        reason = "contains a key that is not in Braze's schema of it"
        hint = f"put your own keys into its {OWN}"
        yield Rule(f"{EVENT} IS NOT NULL AND {others}", f"{name}[]", reason, hint)


def _any(types: str, condition: str) -> str:
    return f"{EVENT} IS NOT NULL AND len(list_filter({types}, lambda type: {condition})) > 0"


def _rules_of_others(layout: Layout) -> Iterator[Rule]:
    """Of properties that the schema of an event does not have."""
    for column in layout.extras:
        known = PROPERTIES.get(column.name)
        fitting = known.events if known else ()
        if set(fitting) == set(EVENTS):
            continue
        is_other = f"{EVENT} NOT IN ({_listed(fitting)})" if fitting else f"{EVENT} IS NOT NULL"
        hint = f"put it into {OWN}: {{'{column.name}': ...}} AS {OWN}; or set it to NULL for these events"
        reason = "is not in Braze's schema of this event"
        yield Rule(f"{is_other} AND {new(column.name)} IS NOT NULL", column.name, reason, hint)
    if layout.has("properties"):
        allowed = " ".join(
            f"WHEN {literal(event)} THEN [{_listed([p.name for p in PROPERTIES.values() if event in p.events])}]"
            for event in EVENTS
        )
        columns = f", [{_listed([column.name for column in layout.extras])}]" if layout.extras else ", []"
        known_keys = f"list_concat(CASE {EVENT} {allowed} END{columns})"  # of columns, the rules above tell
        reason = "contains a key that is not in Braze's schema of this event"
        condition = f"{EVENT} IS NOT NULL AND NOT list_has_all({known_keys}, {_KEYS})"
        hint = f"put your own keys into its {OWN}"
        yield Rule(condition, "properties", reason, hint)


def is_too_large(layout: Layout, most: int) -> str:
    """SQL for: the properties of an event are larger than `most` bytes, or an e-commerce event's than its own limit."""
    if not layout.mode.ecommerce:
        return f"strlen(properties) > {most}"
    return f"strlen(properties) > CASE WHEN {EVENT} IS NULL THEN {most} ELSE {MAX_PROPERTIES_BYTES - len('{}')} END"
