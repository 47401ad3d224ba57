"""The names and small expressions that the SQL of records and the SQL of rules share. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reverse_etl.braze.modes import Extra, Kind
from reverse_etl.records.json_text import json_text, timestamp
from reverse_etl.records.layout import ROW_NUMBER, Column, Layout
from reverse_etl.sql.quoting import identifier
from reverse_etl.sql.types import INTEGERS, MOMENTS

MERGE = "_merge_objects"
IS_UPDATE = "is_update"
# Of a row of the changes: how many rows of the model have its key, or its user, if several do.
TWINS_OF_KEY, TWINS_OF_USER = "twins.key", "twins.user"
TWINS = "twins"  # of a record: the same, whichever of them it is


@dataclass(frozen=True)
class Rule:
    """Makes a row invalid where `condition` is true (SQL over what `mapping.py` prepares); `hint` is how to fix it.

    `leaves_out`: the row is sent without the column, as Braze would drop its value only.
    """

    condition: str
    column: str
    reason: str
    hint: str
    leaves_out: bool = False


def new(name: str) -> str:
    """The value that the model returns."""
    return identifier(f"new.{name}")


def old(name: str) -> str:
    """The acknowledged value of a column of consent, in the type of the model; NULL if the state lacks the row."""
    return identifier(f"old.{name}")


def was(name: str) -> str:
    """The column with a row's key as the state spells it; NULL if the state does not have the row."""
    return f"was.{name}"


def is_document(layout: Layout, name: str) -> bool:
    """Whether equal values of the column may be spelled in several ways: `user_alias` in two columns may not."""
    return layout.is_document(name)


def respelled_keys(layout: Layout) -> tuple[str, ...]:
    """The columns of the key that may be spelled otherwise in the state than in the model."""
    documents = tuple(name for name in layout.key if is_document(layout, name))
    return (*documents, ROW_NUMBER) if documents and layout.whole_row else documents


def changed(name: str) -> str:
    """A flag: the column is sent with this record."""
    return identifier(f"changed.{name}")


def lost(name: str) -> str:
    """A flag: the value's object has lost a key that the acknowledged one has."""
    return identifier(f"lost.{name}")


def json_of(name: str) -> str:
    """The value as JSON text, for columns that are JSON or become it."""
    return identifier(f"json.{name}")


def fault_of(name: str) -> str:
    """0, or the number of the first of JSON_FAULTS in that text."""
    return identifier(f"fault.{name}")


def plain_of(name: str) -> str:
    """A flag: that text is a plain document; of columns whose type does not say enough. See `documents.py`."""
    return identifier(f"plain.{name}")


def is_text(column: Column) -> bool:
    """Whether a custom attribute or property is sent as a string, whatever its text is."""
    return column.type.family == "varchar" and not column.is_json


def looks_like_json(text: str) -> str:
    return f"CASE WHEN starts_with({text}, '{{') OR starts_with({text}, '[') THEN json_valid({text}) ELSE false END"


def time_of(name: str) -> str:
    """The value as a TIMESTAMP, for fields that are times; NULL where it cannot be read."""
    return identifier(f"time.{name}")


def moment_of(column: Column) -> str:
    """The timestamp in a column, or NULL where it is invalid: unix seconds, an ISO 8601 string, or a timestamp type."""
    value = new(column.name)
    if column.type.family in INTEGERS:
        moment = f"make_timestamp(CAST({value} AS BIGINT) * 1000000)"
        return f"CASE WHEN {value} BETWEEN -62167219200 AND 253402300799 THEN {moment} END"
    if column.type.family in MOMENTS:
        return timestamp(value)
    # Braze documents a form with a colon before the milliseconds too: yyyy-MM-ddTHH:mm:ss:SSSZ.
    iso = f"regexp_replace({value}, '^(.*:[0-9]{{2}}:[0-9]{{2}}):([0-9]{{3}})', '\\1.\\2')"
    return timestamp(f"TRY_CAST(CASE WHEN {value} SIMILAR TO '[0-9]{{4}}-.*' THEN {iso} END AS TIMESTAMPTZ)")


def value_text(layout: Layout, name: str, value: str) -> str:
    """The JSON text of `value`, which has the type of column `name`; a pre-formatted field is JSON text already."""
    column = layout.column(name)
    if column.is_json and column.type.family == "varchar":
        return value
    return json_text(value, column.type, layout.mode.nested_times)


def canonical(layout: Layout, name: str, value: str) -> str:
    """A text that two values of column `name`, a document, share only if they are equal to Braze."""
    return f"retl_json_canonical({value_text(layout, name, value)})"


def as_compared(layout: Layout, name: str, value: str) -> str:
    """What is equal only for values of column `name` that are equal to Braze."""
    return canonical(layout, name, value) if is_document(layout, name) else value


def is_blank(value: str) -> str:
    return f"trim(CAST({value} AS VARCHAR)) = ''"


def mergeable(layout: Layout) -> tuple[str, ...]:
    """The columns whose objects may be merged in Braze, where a key that is gone from the model would remain."""
    return tuple(name for name in layout.tracked if layout.has(MERGE) and layout.column(name).is_json)


def present(layout: Layout, name: str) -> str:
    """SQL for: the row has this identifier."""
    return f"{new(layout.columns_of(name)[0])} IS NOT NULL"


def is_fallback(layout: Layout, name: str) -> str:
    """SQL for: the row is identified by this email or phone, as no identifier before it has a value."""
    before = layout.identifiers[: layout.identifiers.index(name)]
    return " AND ".join([present(layout, name), *(f"NOT ({present(layout, other)})" for other in before)])


def chosen(layout: Layout, name: str) -> str:
    """SQL for: the row is identified by this identifier."""
    return present(layout, name) if name in layout.mode.exclusive else is_fallback(layout, name)


def is_sent(layout: Layout, column: Column) -> str:
    """SQL for: the column is part of this record."""
    name = column.name
    if layout.mode.extra is not Extra.CUSTOM_ATTRIBUTE:
        is_there = f"{new(name)} IS NOT NULL"
        return f"{is_there} AND ({changed(name)} OR NOT ({is_update(layout)}))" if name in layout.tracked else is_there
    if column.field and column.field.switch:
        return "kind <> 'removed'"
    goes = changed(name) if name in layout.tracked else key_is_sent(layout)
    return f"{goes} OR ({is_fallback(layout, name)})" if name in layout.identifiers else goes


def is_update(layout: Layout) -> str:
    """SQL for: only the changed columns of a record are sent, to the endpoint that is for them."""
    return identifier(IS_UPDATE) if updates(layout) else "false"


def updates(layout: Layout) -> dict[str, str]:
    """SQL for the same from changes alone, by its name: computed once for a row, as every column asks for it.

    Not where a column has become NULL, as no page says what a null does to an item, and to replace the whole item
    without it empties it. Nor where all have changed: what is whole is created if it is not there.
    """
    if layout.sync.update is None or not layout.tracked:
        return {}
    whole = " AND ".join(map(changed, layout.tracked))
    emptied = " OR ".join(f"{changed(name)} AND {new(name)} IS NULL" for name in layout.tracked)
    return {IS_UPDATE: f"kind = 'changed' AND NOT ({whole}) AND NOT ({emptied})"}


def key_is_sent(layout: Layout) -> str:
    """An attribute that is part of the primary key cannot change: it is sent with a new row."""
    return "kind <> 'removed'" if layout.sync.send == "all_columns" else "kind = 'added'"


def identity(layout: Layout, table: str) -> dict[str, str]:
    """What identifies the user of a row of `table`: strong identifiers, and email or phone where these are NULL; SQL by
    the name of the column."""
    parts, before = dict[str, str](), list[str]()
    for name in layout.identifiers:
        first = layout.columns_of(name)[0]
        value = column = f"{table}.{identifier(first)}"
        if name == "user_alias" and layout.flat_alias:
            parts["alias_label"] = f"{table}.{identifier('alias_label')}"
        elif name not in layout.mode.exclusive and before:
            value = f"CASE WHEN {' AND '.join(f'{other} IS NULL' for other in before)} THEN {column} END"
        parts[first] = value
        before.append(column)
    return parts | {name: f"{table}.{identifier(name)}" for name in layout.mode.key_fields}


def compared_key(layout: Layout, table: str) -> dict[str, str]:
    """What is equal for two rows of `table` only if they have the same key; SQL by the name of the column."""
    return {name: as_compared(layout, name, f"{table}.{identifier(name)}") for name in layout.key}


def has_key(layout: Layout, value: Callable[[str], str]) -> str:
    """SQL for: a row has a value for every part of its key. `value` returns the SQL of a column's value."""
    return " AND ".join(f"NOT ({is_null(part, value)})" for part in layout.key_parts)


def is_null(part: Sequence[str], value: Callable[[str], str]) -> str:
    """SQL for: a row has no value for a part of its key."""
    return " AND ".join(f"{value(name)} IS NULL" for name in part)


def compared_user(layout: Layout, table: str) -> dict[str, str]:
    """The same for rows of one user, as Braze could apply them in any order; empty where the key is that of the user,
    or where every row is sent once, as events are."""
    if not layout.sync.primary_key or Kind.CHANGED not in layout.mode.kinds:
        return {}
    user = {name: as_compared(layout, name, value) for name, value in identity(layout, table).items()}
    return {} if set(user.values()) == set(compared_key(layout, table).values()) else user
