"""What a sync writes to profiles, as Braze keeps it: names, types, and of which users. Pure.

An attribute has one type in a workspace, whoever writes it: Braze keeps the first, and silently drops or converts
values of another one (user_guide: custom attributes, managing custom data).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from reverse_etl.braze.data_types import DataType
from reverse_etl.braze.modes import ADDED_TO, Extra
from reverse_etl.records.expressions import canonical
from reverse_etl.records.layout import Column, Layout, Role
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import CLOCK_TIMES, LISTS, MOMENTS, NUMBERS, TEXTS, SqlType

_FAMILIES: Mapping[DataType, Collection[str]] = {
    DataType.BOOLEAN: {"boolean"},
    DataType.NUMBER: NUMBERS,
    DataType.STRING: TEXTS | CLOCK_TIMES,
    DataType.TIME: MOMENTS,
    DataType.OBJECT: {"struct", "map"},
}


def data_type(of: SqlType, is_json: bool) -> DataType:
    """The type that the values of a column have in Braze. `is_json`: a VARCHAR of it is JSON text."""
    if of.family in LISTS:
        inner = data_type(of.children[0][1], is_json=False)
        return {DataType.OBJECT: DataType.OBJECTS, DataType.ANY: DataType.ANY}.get(inner, DataType.ARRAY)
    if of.family == "varchar" and is_json:
        return DataType.ANY
    return next((type_ for type_, families in _FAMILIES.items() if of.family in families), DataType.ANY)


@dataclass(frozen=True)
class Attribute:
    """A column that is written to profiles. `type` is None of a standard field, whose type Braze has fixed."""

    name: str
    type: DataType | None
    sql_type: str


def attributes_of(layout: Layout) -> dict[str, Attribute]:
    """What a sync writes to profiles, by name. Identifiers are no attributes; an email beside an id is one."""
    if layout.mode.extra is not Extra.CUSTOM_ATTRIBUTE:
        return {}
    alone = layout.identifiers[:1]  # email without an id before it identifies the user
    return {column.name: _attribute(column) for column in layout.sent if _is_attribute(column, alone)}


def _attribute(column: Column) -> Attribute:
    kept = None if column.field else data_type(column.type, column.is_json)
    return Attribute(column.name, kept, column.type.text)


def _is_attribute(column: Column, identifiers: Collection[str]) -> bool:
    if column.role is Role.IDENTIFIER or column.name in ADDED_TO or (column.field and column.field.switch):
        return False
    return column.name not in identifiers


def properties_of(layout: Layout) -> dict[str, DataType]:
    """The properties of the events or purchases of a sync, with the fields of a STRUCT `properties` among them."""
    if layout.mode.extra is not Extra.PROPERTY:
        return {}
    found = {column.name: data_type(column.type, column.is_json) for column in layout.extras}
    inside = layout.column("properties").type if layout.has("properties") else None
    if inside and inside.family == "struct":
        found |= {name: data_type(of, is_json=False) for name, of in inside.children}
    return found


def fields_of(layout: Layout) -> dict[str, DataType]:
    """The fields of a catalog that a sync writes, beside `id`."""
    return {column.name: data_type(column.type, column.is_json) for column in layout.extras}


def common_identifiers(one: Layout, other: Layout) -> list[str]:
    """The kinds of identifiers by which both of them may identify a user."""
    return [name for name in one.identifiers if name in other.identifiers and _identifies(name, one, other)]


def _identifies(name: str, *layouts: Layout) -> bool:
    """Whether an identifier that all have is one, and not a field of profiles that are identified by something else."""
    return all(name in layout.mode.exclusive or name in layout.identifiers[:1] for layout in layouts)


def user_sql(layout: Layout, shared: Collection[str]) -> str:
    """SQL for the user of a row, equal for equal users whatever the model; NULL if it is not identified by one of the
    identifiers in `shared`."""
    cases = []
    for name in layout.identifiers:
        parts = _alias(layout) if name == "user_alias" else [identifier(name)]
        texts = [f"CAST({part} AS VARCHAR)" for part in parts]
        spelled = f"lower({texts[0]})" if name == "email" else f"concat_ws(chr(0), {', '.join(texts)})"
        value = f"{literal(name)} || chr(0) || {spelled}" if name in shared else "NULL"
        cases.append(f"WHEN {parts[0]} IS NOT NULL THEN {value}")
    return f"CASE {' '.join(cases)} END"


def _alias(layout: Layout) -> list[str]:
    """SQL for name and label of a row's alias."""
    names = ("alias_name", "alias_label")
    if layout.flat_alias:
        return [identifier(name) for name in names]
    if layout.column("user_alias").type.family == "struct":
        return [f"struct_extract(user_alias, {literal(name)})" for name in names]
    return [f"json_extract_string(CAST(to_json(user_alias) AS VARCHAR), {literal('$.' + name)})" for name in names]


def compared_values(one: Layout, other: Layout, name: str) -> tuple[str, str]:
    """SQL for the values of a column of two models, which are equal only if they are to Braze."""
    columns = [(layout, layout.column(name)) for layout in (one, other)]
    families = {column.type.family for _, column in columns}
    value = identifier(name)
    if any(column.is_json for _, column in columns):
        first, second = (canonical(layout, name, value) for layout, _ in columns)
        return first, second
    shared: Sequence[tuple[Collection[str], str]] = ((NUMBERS, "DOUBLE"), (MOMENTS, "TIMESTAMP"))
    cast = next((to for of, to in shared if families <= set(of)), "VARCHAR")
    return f"CAST({value} AS {cast})", f"CAST({value} AS {cast})"
