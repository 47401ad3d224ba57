"""What is sent, and what Braze makes something else of, or no page says what: counted, column by column. Pure.

The conditions are over the outbox. It has the values of columns that the state stores; of the others, what an event has
beside its key, it has a flag for each warning. Of names, the layout alone tells.
"""

from collections.abc import Iterator
from dataclasses import replace

from reverse_etl.braze.modes import LAST_YEAR, MAX_TEXT, Extra, Shape
from reverse_etl.records.expressions import (
    Rule,
    changed,
    is_fallback,
    is_text,
    key_is_sent,
    looks_like_json,
    moment_of,
    new,
    time_of,
    value_text,
)
from reverse_etl.records.layout import Column, Layout, Role, shape_of
from reverse_etl.sql.quoting import identifier
from reverse_etl.sql.types import MOMENTS

MANY_PROPERTIES = 50_000  # bytes: the page of purchases names 50 KB, that of events 100 KB (purchase_object)


def warnings_of(layout: Layout) -> list[Rule]:
    """What may be said of rows that are sent: `condition` is for the rows that it is said of."""
    flagged = flags(layout)
    found = [replace(rule, condition=identifier(flag)) if flag in flagged else rule for flag, rule in _named(layout)]
    if layout.mode.record_type == "purchases":
        condition = f"strlen(body) > {MANY_PROPERTIES}"
        found.append(Rule(condition, "properties", "are larger than 50 KB, which is more than one page allows", ""))
    return [_where_sent(layout, rule) for rule in found]


def flags(layout: Layout) -> dict[str, str]:
    """SQL over what `mapping.py` prepares for what is said of values that the outbox has in bodies only, by the name of
    the column that it has for that."""
    return {flag: rule.condition for flag, rule in _named(layout) if rule.column not in layout.stored}


def _named(layout: Layout) -> Iterator[tuple[str, Rule]]:
    rules = (rule for column in layout.sent for rule in _of_column(layout, column))
    return ((f"warning.{number}", rule) for number, rule in enumerate(rules, 1))


IS_JSON = 'is sent as a string, and looks like JSON: list the column in "pre_formatted_fields"'


def names_cut_off(layout: Layout) -> Iterator[Rule]:
    """Of names of attributes: Braze cuts off the blanks at both ends (user_guide: custom attributes)."""
    if layout.mode.extra is not Extra.CUSTOM_ATTRIBUTE:
        return
    for column in layout.extras:
        if column.name != column.name.strip():
            yield Rule(
                "true", column.name, "has blanks at the ends of its name, which Braze cuts off", "rename it with AS"
            )


def _where_sent(layout: Layout, rule: Rule) -> Rule:
    name, sent = rule.column, "true"
    if name in layout.tracked:
        sent = changed(name)
    elif layout.mode.extra is Extra.CUSTOM_ATTRIBUTE and name not in layout.identifiers:
        sent = key_is_sent(layout)
    return Rule(f"action = 'send' AND {sent} AND ({rule.condition})", rule.column, rule.reason, rule.hint)


def _of_column(layout: Layout, column: Column) -> Iterator[Rule]:
    name, value, text = column.name, new(column.name), f"CAST({new(column.name)} AS VARCHAR)"
    if not column.field and name not in layout.identifiers:
        if column.type.family in MOMENTS and layout.mode.extra is Extra.CUSTOM_ATTRIBUTE:
            condition = f"year({value}) > {LAST_YEAR}"
            yield Rule(condition, name, f"is after the year {LAST_YEAR}: Braze keeps it as text", "")
        if column.role is Role.EXTRA and is_text(column):
            yield Rule(looks_like_json(value), name, IS_JSON, "")
        return
    if name == "country":
        reason = "is not a code of two letters: Braze maps a name if it can, Australia to AU"
        yield Rule(f"NOT regexp_full_match({text}, retl_country_code_pattern())", name, reason, "send codes")
    elif name == "phone":
        yield from _of_phone(layout, text)
    elif name == "currency":
        condition = f"NOT regexp_full_match({text}, retl_currency_in_use_pattern())"
        yield Rule(condition, name, "is a currency that is no longer in use", "")
    elif name == "current_location":
        document = value_text(layout, name, value)
        numbers = {key: f"TRY_CAST(json_extract_string({document}, '$.{key}') AS DOUBLE)" for key in _DEGREES}
        beyond = " OR ".join(f"coalesce(abs({numbers[key]}) > {most}, false)" for key, most in _DEGREES.items())
        yield Rule(beyond, name, "is not a place on earth: no page says what Braze does", "are both swapped?")
    elif name == "name" and layout.mode.record_type == "events":
        condition = f"length({text}) > {MAX_TEXT} OR starts_with({text}, '$')"
        reason = f"is longer than {MAX_TEXT} characters or begins with $: Braze's SDKs do not accept such an event"
        yield Rule(condition, name, reason, "rename it")
    elif name == "time" and shape_of(column) is Shape.TIME:
        moment = moment_of(column) if name in layout.stored else time_of(name)
        condition = f"coalesce({moment} > CAST(now() + INTERVAL 1 MINUTE AS TIMESTAMP), false)"
        yield Rule(condition, name, "is in the future: Braze takes the time at which it arrives", "")


_DEGREES = {"longitude": 180, "latitude": 90}


def _of_phone(layout: Layout, text: str) -> Iterator[Rule]:
    """Beside an id, Braze keeps whatever is sent; a number that identifies the user is valid."""
    digits = f"regexp_replace({text}, '[^0-9+]', '', 'g')"
    is_us = f"regexp_full_match({digits}, '[0-9]{{10}}')"
    hint = "add the code of its country: +14155552671"
    yield Rule(is_us, "phone", "has ten digits and no +: Braze reads it as a number of the US", hint)
    beside = f" AND NOT ({is_fallback(layout, 'phone')})" if "phone" in layout.identifiers else ""
    condition = f"NOT {is_us} AND NOT retl_is_full_phone({digits}){beside}"
    yield Rule(condition, "phone", "is not in E.164 form: Braze keeps it, and cannot send to it or merge by it", hint)
