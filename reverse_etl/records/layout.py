"""What each column of a model is to a sync: key, identifier, field, custom attribute, property. Pure.

lay_out()   mode + the model's columns -> Layout, or every error between the two with its location
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from reverse_etl.braze.modes import (
    CATALOG_NAME,
    KEPT,
    MAX_CATALOG_FIELDS,
    MAX_CATALOG_NAME,
    MAX_TEXT,
    NO_ATTRIBUTES,
    Deletion,
    Extra,
    Field,
    Kind,
    Mode,
    Shape,
)
from reverse_etl.errors import Location, Problem, ProjectError, closest, nearest
from reverse_etl.project.spec import Sync
from reverse_etl.sql.quoting import plain
from reverse_etl.sql.types import (
    BEYOND_64_BITS,
    CLOCK_TIMES,
    FLOATS,
    INTEGERS,
    LISTS,
    MOMENTS,
    NUMBERS,
    TEXTS,
    SqlType,
)
from reverse_etl.words import count

ALIAS_PARTS = ("alias_name", "alias_label")
OWN_PREFIX = "_retl_"  # of the columns that retl adds in its own tables
CURSOR = "cursor"  # of the outbox: the value of an incremental model's cursor column
ROW_NUMBER = "_retl_number"  # the number of a row among equal rows, where the whole row is the key


class Role(Enum):
    IDENTIFIER = "identifies the user of the record"
    FIELD = "a field that Braze defines"
    EXTRA = "a custom attribute or a property"
    UNSENT = "listed in exclude_columns, or evidence of consent"


@dataclass(frozen=True)
class Column:
    """A column of the model. `is_json`: its values are JSON text already, or become it (lists, structs, maps)."""

    name: str
    type: SqlType
    role: Role
    field: Field | None
    is_json: bool

    @cached_property
    def is_document(self) -> bool:
        """Whether equal values may be spelled in several ways: the keys of JSON, the entries of a map, in any order."""
        return (
            self.is_json
            and not self.type.unsendable()
            and (self.type.family == "varchar" or self.type.has("json", "map"))
        )


@dataclass(frozen=True)
class Layout:
    """The columns of a model in their roles for one sync.

    `key` identifies a row in the state; with `whole_row` it is the whole row, and its number among equal rows.
    `tracked` are the columns whose change is a change of the row. `is_part`: rows that the model does not return are
    not gone.
    """

    sync: Sync
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    whole_row: bool
    tracked: tuple[str, ...]
    is_part: bool = False

    @property
    def mode(self) -> Mode:
        return self.sync.mode

    @property
    def deletion(self) -> Deletion | None:
        return self.sync.deletion

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns that the state stores."""
        names = (*self.key, *self.tracked)
        lets_go = self.sync.incremental and self.sync.incremental.retention
        return (*names, self.cursor) if lets_go and self.cursor and self.cursor not in names else names

    @cached_property
    def key_parts(self) -> tuple[tuple[str, ...], ...]:
        """The key in parts, of each of which a row needs a value in one column: identifiers, if it has several of which
        a row has only one, are one part; every other column is a part of its own."""
        names = [name for name in self.identifiers if set(self.columns_of(name)) <= set(self.key)]
        names = [name for name in names if name in self.mode.exclusive] if not self.whole_row else []
        either = tuple(column for name in names for column in self.columns_of(name)) if len(names) > 1 else ()
        others = tuple((name,) for name in self.key if name not in either)
        return (either, *others) if either else others

    @property
    def sets_aside(self) -> bool:
        """Whether rows whose primary key is NULL, or not unique, are invalid rows; otherwise they stop the run, and so
        does a NULL key where removed rows are deleted."""
        return self.sync.skip_on_invalid_records and not self.whole_row

    @property
    def returns_all(self) -> bool:
        """Whether a row of the state that the model lacks has left it."""
        return self.cursor is None and not self.is_part

    @property
    def cursor(self) -> str | None:
        """The column that orders the rows of an incremental model from old to new."""
        return self.sync.incremental.cursor if self.sync.incremental else None

    @cached_property
    def _by_name(self) -> dict[str, Column]:
        return {column.name: column for column in reversed(self.columns)}

    def column(self, name: str) -> Column:
        return self._by_name[name]

    def has(self, name: str) -> bool:
        return name in self._by_name and self._by_name[name].role is not Role.UNSENT

    def is_document(self, name: str) -> bool:
        """Whether it is a column of which equal values may be spelled in several ways."""
        return name in self._by_name and self._by_name[name].is_document

    @cached_property
    def sent(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role is not Role.UNSENT)

    @cached_property
    def needed(self) -> tuple[Column, ...]:
        """The columns that are sent, and those that are not: they identify a row, or say how new it is, or that its
        user has agreed."""
        unsent = {*self.key, self.cursor, self.sync.consent.evidence}
        return tuple(column for column in self.columns if column.role is not Role.UNSENT or column.name in unsent)

    @cached_property
    def extras(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role is Role.EXTRA)

    @cached_property
    def json_columns(self) -> tuple[Column, ...]:
        """The columns that are sent as JSON text, except those with a BLOB or another unsendable type in them."""
        return tuple(column for column in self.sent if column.is_json and not column.type.unsendable())

    @cached_property
    def identifiers(self) -> tuple[str, ...]:
        """The mode's identifiers that the model has, in their order of precedence; flat alias columns count as one."""
        return tuple(
            name for name in self.mode.identifiers if self.has(name) or (name == "user_alias" and self.flat_alias)
        )

    @property
    def flat_alias(self) -> bool:
        """Whether the alias is in two columns, `alias_name` and `alias_label`."""
        return self.has("alias_name") and "user_alias" in self.mode.identifiers

    def columns_of(self, identifier: str) -> tuple[str, ...]:
        return ALIAS_PARTS if identifier == "user_alias" and self.flat_alias else (identifier,)


def lay_out(sync: Sync, model_file: str, columns: Sequence[tuple[str, SqlType]]) -> Layout:
    """The layout of a sync over its model's columns. Raises ProjectError with every column that does not fit."""
    mode, model = sync.mode, Location(model_file)
    names = [name for name, _ in columns]
    problems = [*_unknown_names(sync, names), *_bad_names(mode, sync, names, model)]
    placed = [_place(sync, name, of) for name, of in columns]
    layout = Layout(sync, tuple(placed), (), False, ())
    problems += [*_bad_columns(sync, layout, model), *_missing_columns(layout, model)]
    problems += [*_bad_key(sync), *_bad_catalog_fields(layout, model)]
    if not problems:
        return _with_key(layout)
    raise ProjectError(problems)


def layout_of_rows(sync: Sync, columns: Sequence[tuple[str, SqlType]], key: Sequence[str]) -> Layout:
    """The layout of acknowledged rows, whatever the model returns by now: to render again what was sent of them."""
    plain_sync = sync.model_copy(update={"incremental": None, "skip_on_invalid_records": False, "on_removed": "ignore"})
    placed = [_place(plain_sync, name, of) for name, of in columns if name != ROW_NUMBER]
    sent = [column for column in placed if column.role is not Role.UNSENT and column.name not in key]
    tracked = [column.name for column in sent if not (column.field and column.field.switch)]
    return Layout(plain_sync, tuple(placed), tuple(key), False, tuple(tracked))


def _place(sync: Sync, name: str, of: SqlType) -> Column:
    mode = sync.mode
    is_json = of.is_nested or name in sync.pre_formatted_fields
    field = mode.field(name)
    if name in sync.exclude_columns or name == sync.consent.evidence:
        return Column(name, of, Role.UNSENT, None, is_json)
    if field:
        return Column(name, of, Role.FIELD, field, is_json)
    if name in mode.identifiers or (name in ALIAS_PARTS and "user_alias" in mode.identifiers):
        return Column(name, of, Role.IDENTIFIER, None, is_json)
    return Column(name, of, Role.EXTRA, None, is_json)


def _unknown_names(sync: Sync, names: Collection[str]) -> Iterator[Problem]:
    for key in ("primary_key", "pre_formatted_fields", "exclude_columns", "shares"):
        for index, name in enumerate(getattr(sync, key) or ()):
            if name not in names:
                what = f'"{key}" in sync "{sync.name}": the model has no column "{name}"'
                is_typo = key == "primary_key" or closest(name, names)
                hint = nearest(name, names) if is_typo else "remove it from the list"
                yield Problem(what, sync.where(key, index), hint, code="P060")
    for number, test in enumerate(sync.data_tests):
        for index, name in enumerate(test.claim.column):
            if name not in names:
                what = f'data test {test.kind} in sync "{sync.name}": the model has no column "{name}"'
                where = sync.where("data_tests", number, test.kind, "column", index)
                yield Problem(what, where, nearest(name, names), code="P060")
    if sync.incremental and sync.incremental.cursor not in names:
        what = f'"incremental" in sync "{sync.name}": the model has no column "{sync.incremental.cursor}"'
        yield Problem(what, sync.where("incremental", "cursor"), nearest(sync.incremental.cursor, names), code="P060")


def _bad_evidence(sync: Sync, layout: Layout) -> Iterator[Problem]:
    name = sync.consent.evidence
    if name is None:
        return
    found = next((column for column in layout.columns if column.name == name), None)
    inside, where = f'"consent" in sync "{sync.name}"', sync.where("consent", "evidence")
    if found is None:
        what = f'{inside}: the model has no column "{name}"'
        yield Problem(what, where, nearest(name, (column.name for column in layout.columns)), code="P060")
    elif found.type.family not in MOMENTS:
        what = f'{inside}: "{name}" is {found.type.text}; evidence must be a timestamp or a date'
        yield Problem(what, where, "return when the user agreed", code="P063")


def _bad_names(mode: Mode, sync: Sync, names: Sequence[str], model: Location) -> Iterator[Problem]:
    known = {*mode.identifiers, *(field.name for field in mode.fields), *ALIAS_PARTS}
    by_fold = {name.casefold(): name for name in known}
    for fold, times in Counter(name.casefold() for name in names).items():
        if times > 1:
            twins = ", ".join(f'"{name}"' for name in names if name.casefold() == fold)
            what = f"the model returns {count(times, 'column')} with the same name: {twins}"
            yield Problem(what, model, "rename them with AS", code="P061")
    for name in names:
        if name in sync.exclude_columns or name == sync.consent.evidence:
            continue
        if name.casefold().startswith(OWN_PREFIX):
            what = f'column "{name}": the prefix {OWN_PREFIX} is reserved for retl'
            yield Problem(what, model, "rename it with AS", code="P061")
        if name not in known and name.casefold() in by_fold:
            right = by_fold[name.casefold()]
            what = f'column "{name}": Braze\'s field is "{right}", and names are case-sensitive'
            yield Problem(what, model, f'rename it with AS {right}, or list it in "exclude_columns"', code="P061")
        if len(name) > MAX_TEXT:
            what = f'column "{name[:30]}...": the name is longer than {MAX_TEXT} characters'
            yield Problem(what, model, "rename it with AS", code="P061")
        if mode.extra is Extra.CUSTOM_ATTRIBUTE and name in NO_ATTRIBUTES:
            what = f'column "{name}" cannot be an attribute: Braze rejects every record that has it'
            yield Problem(what, model, 'rename it with AS, or list it in "exclude_columns"', code="P061")
        is_reserved = name not in known and (name.startswith("$") or name in mode.reserved_properties)
        if mode.extra is Extra.PROPERTY and is_reserved:
            yield Problem(
                f'column "{name}" cannot be a property: Braze reserves the name',
                model,
                "rename it with AS",
                code="P061",
            )


_TAKEN: Mapping[Shape, tuple[frozenset[str], str]] = {
    Shape.ID: (TEXTS | INTEGERS, "CAST({0} AS VARCHAR)"),
    Shape.TEXT: (TEXTS, "CAST({0} AS VARCHAR)"),
    Shape.NUMBER: (NUMBERS, "CAST({0} AS DECIMAL(18, 2))"),
    Shape.WHOLE: (INTEGERS, "CAST({0} AS BIGINT)"),
    Shape.BOOLEAN: (frozenset({"boolean", "varchar"}), "CAST({0} AS BOOLEAN)"),
    Shape.DATE: (MOMENTS | {"varchar"}, "return a DATE instead"),
    Shape.TIME: (MOMENTS | {"varchar"} | (INTEGERS - BEYOND_64_BITS), "return a TIMESTAMP instead"),
    Shape.OBJECT: (frozenset({"struct", "map", "json"}), "return an object instead: {{'key': {0}}}"),
    Shape.ARRAY: (LISTS | {"json"}, "return a list instead: [{0}]"),
}
_JSON_TEXT = 'list the column in "pre_formatted_fields"'
# Where CAST would make another value of it: 12.0 is not the id 12, and a number is no text of a time.
_OTHER_HINTS: Mapping[Shape, tuple[frozenset[str], str]] = {
    Shape.ID: (FLOATS | {"decimal"}, "CAST({0} AS BIGINT)"),
    Shape.DATE: (NUMBERS, "strptime(CAST({0} AS VARCHAR), '%Y%m%d'), if it is of the form 20261123"),
    Shape.TIME: (NUMBERS, "to_timestamp({0}), if it is unix time in seconds"),
    Shape.OBJECT: (frozenset({"varchar"}), _JSON_TEXT),
    Shape.ARRAY: (frozenset({"varchar"}), _JSON_TEXT),
}
_IDENTIFIER_SHAPES = {"user_alias": Shape.OBJECT, "email": Shape.TEXT, "phone": Shape.TEXT}


def shape_of(column: Column) -> Shape | None:
    """What Braze accepts in the column; None for custom attributes and properties, which may have any type."""
    if column.field:
        return column.field.shape
    return _IDENTIFIER_SHAPES.get(column.name, Shape.ID) if column.role is Role.IDENTIFIER else None


def _bad_columns(sync: Sync, layout: Layout, model: Location) -> Iterator[Problem]:
    mode = layout.mode
    yield from _bad_cursor(sync, layout)
    yield from _bad_evidence(sync, layout)
    for column in layout.sent:
        shape = shape_of(column)
        if column.role is Role.EXTRA and mode.extra is Extra.REFUSED:
            taken = [*mode.identifiers, *(field.name for field in mode.fields)]
            hint = f'it accepts {", ".join(taken)}; remove the column, or list it in "exclude_columns"'
            yield Problem(f'mode {mode.label} does not accept column "{column.name}"', model, hint, code="P062")
        if column.name in sync.pre_formatted_fields and not (column.type.is_nested or column.type.family == "varchar"):
            what = f'"pre_formatted_fields" in sync "{sync.name}": "{column.name}" is {column.type.text}, not JSON text'
            yield Problem(what, sync.where("pre_formatted_fields"), "remove it from the list", code="P063")
        if shape is None:
            continue
        families, hint = _TAKEN[shape]
        json_shape = shape in (Shape.OBJECT, Shape.ARRAY)
        pre_formatted = json_shape and column.is_json and column.type.family == "varchar"
        if (column.type.family in families and not (json_shape and column.type.unsendable())) or pre_formatted:
            continue
        what = f'column "{column.name}" is {column.type.text}; Braze expects {shape.value}'
        others, other_hint = _OTHER_HINTS.get(shape, (frozenset[str](), ""))
        meant = other_hint if column.type.family in others else hint
        unsendable = column.type.unsendable() if column.is_json else None
        if unsendable:
            meant = f"CAST what is {unsendable.text} in it to VARCHAR"
        yield Problem(what, model, meant.format(plain(column.name)), code="P063")


def _bad_key(sync: Sync) -> Iterator[Problem]:
    mode, key = sync.mode, sync.primary_key
    if mode.own_key and key and {*key} != {*mode.key_fields}:
        own = ", ".join(mode.key_fields)
        what = f'"primary_key" in sync "{sync.name}": {mode.about}s are identified by {own}, and by nothing else'
        yield Problem(what, sync.where("primary_key"), f"remove it, or write primary_key: {own}", code="P145")


def _bad_catalog_fields(layout: Layout, model: Location) -> Iterator[Problem]:
    """Columns that no field of a catalog can take, whatever their values are."""
    if layout.mode.extra is not Extra.CATALOG_FIELD:
        return
    if len(layout.sent) > MAX_CATALOG_FIELDS:
        what = (
            f"the model returns {count(len(layout.sent), 'column')}; a catalog has at most {MAX_CATALOG_FIELDS} fields"
        )
        yield Problem(what, model, 'list those that are not to be sent in "exclude_columns"', code="P146")
    for column in layout.extras:
        name, shown = column.name, plain(column.name)
        if not re.fullmatch(CATALOG_NAME.regex, name) or len(name) > MAX_CATALOG_NAME:
            what = f'column "{name[:30]}" cannot be a field of a catalog: names have up to {MAX_CATALOG_NAME} '
            yield Problem(f"{what}{CATALOG_NAME.allows}", model, "rename it with AS", code="P146")
        if column.type.family in LISTS and column.type.children[0][1].family not in TEXTS | CLOCK_TIMES:
            what = f'column "{name}" is {column.type.text}; an array of a catalog has strings only'
            hint = f"list_transform({shown}, lambda x: CAST(x AS VARCHAR))"
            yield Problem(what, model, hint, code="P146")


def _bad_cursor(sync: Sync, layout: Layout) -> Iterator[Problem]:
    found = next((column for column in layout.columns if column.name == layout.cursor), None)
    if not sync.incremental or not found:
        return
    inside = f'"incremental" in sync "{sync.name}"'
    if found.type.family not in MOMENTS | INTEGERS:
        what = f'{inside}: "{found.name}" is {found.type.text}; the cursor must be a timestamp, a date or an integer'
        yield Problem(what, sync.where("incremental", "cursor"), "CAST it in the model", code="P064")
    elif sync.incremental.lookback.isdigit() != (found.type.family in INTEGERS) and sync.incremental.lookback != "0":
        lookback = f'"lookback: {sync.incremental.lookback}"'
        what = f'{inside}: {lookback} does not fit cursor "{found.name}" of type {found.type.text}'
        hint = "use a number for an integer cursor, and an interval such as 1 hour for a timestamp or date"
        yield Problem(what, sync.where("incremental", "lookback"), hint, code="P064")


def _missing_columns(layout: Layout, model: Location) -> Iterator[Problem]:
    mode = layout.mode
    needed = [*(name for name in mode.key_fields), *(field.name for field in mode.fields if field.required)]
    for name in dict.fromkeys(needed):
        if not layout.has(name):
            close = closest(name, (column.name for column in layout.extras))
            hint = f"add it to the model, AS {name}"
            if close:
                hint = f"did you mean {close}? Rename it with AS {name}"
            yield Problem(f'mode {mode.label} needs a column "{name}"', model, hint, code="P065")
    if "user_alias" in mode.identifiers:
        parts = [name for name in ALIAS_PARTS if layout.has(name)]
        if len(parts) == 1:
            other = next(name for name in ALIAS_PARTS if name not in parts)
            hint = "add it: an alias consists of a name and a label"
            yield Problem(f'column "{parts[0]}" requires column "{other}"', model, hint, code="P065")
        if parts and layout.has("user_alias"):
            hint = "remove user_alias, or both alias_name and alias_label"
            yield Problem('columns "user_alias" and "alias_name" both define the alias', model, hint, code="P066")
    if mode.identifiers and not layout.identifiers:
        in_parts = " (or alias_name with alias_label)" if "user_alias" in mode.identifiers else ""
        hint = f"add one of: {', '.join(mode.identifiers)}{in_parts}"
        yield Problem(f"mode {mode.label} needs a column that identifies the {mode.about}", model, hint, code="P065")
    if mode.keeps and not any(map(layout.has, mode.keeps)):
        hint = f"add one of: {', '.join(mode.keeps)}"
        yield Problem(f"mode {mode.label} needs a column that identifies the user to keep", model, hint, code="P065")
    for before in ("", KEPT) if mode.keeps else ("",) if mode.priorities else ():
        needed_too = f"{before}prioritization"
        for name in (f"{before}email", f"{before}phone"):
            if layout.has(name) and not layout.has(needed_too):
                what = f'column "{name}" requires column "{needed_too}" in mode {mode.label}'
                hint = f"add it, a list that says which profile is meant, of {', '.join(mode.priorities)}"
                yield Problem(what, model, hint, code="P065")
    deleted_by = {slot.identifier for slot in layout.deletion.slots} - {None} if layout.deletion else set()
    if deleted_by and deleted_by.isdisjoint(layout.identifiers):
        what = f'"on_removed: delete" in sync "{layout.sync.name}" needs a column external_id, user_alias or braze_id'
        yield Problem(
            what, layout.sync.where("on_removed"), "add one of them: Braze deletes users by one of these", code="P065"
        )


def _with_key(layout: Layout) -> Layout:
    sync, mode = layout.sync, layout.mode
    key, whole_row = sync.primary_key or (), False
    if not key and mode.whole_row_key:
        # The cursor too: equal rows are numbered among those that a run reads.
        of_row = (c.name for c in layout.columns if c.role is not Role.UNSENT or c.name == layout.cursor)
        key, whole_row = (*of_row, ROW_NUMBER), True
    elif not key:
        identifiers = [name for name in layout.identifiers if name in mode.exclusive] or layout.identifiers[:1]
        named = [part for name in identifiers for part in layout.columns_of(name)]
        key = (*named, *mode.key_fields)
    tracked = [
        column.name
        for column in layout.sent
        if Kind.CHANGED in mode.kinds and column.name not in key and not (column.field and column.field.switch)
    ]
    return Layout(sync, layout.columns, tuple(key), whole_row, tuple(tracked))
