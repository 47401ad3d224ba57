"""Changes -> records: the SQL that renders each change to its JSON, or to the numbers of the rules it breaks. Pure.

outbox_sql(layout, changes)

    changes    kind, known, "new.<column>", "changed.<column>", "lost.<column>"       what a diff yields
               "old.<column>" of columns of consent, and what `consent.py` adds to rows that have such columns
      │        + "json.<column>", "time.<column>"                                     costly values, computed once
      │        + "plain.<column>"                                                     of documents: see documents.py
      │        + "fault.<column>", property_keys, properties; "ecommerce.<what>", of events
      │        + problem                                                              0, or the first rule it breaks
      │        + left_out, and the columns in it as they were                         see left_out.py
      │        + "text.<column>"                                                      of a valid row: what is sent of it
      ▼
    outbox     key, kind, known, call, envelope, body, idempotent, phase, attributes, data_points, about, problems,
               "new.<stored column>", "changed.<tracked column>"; cursor, of incremental models;
               kept, of merges: who remains;  needs, where a record may need a user that exists: see `existing.py`;
               left_out, "left_out.alone", see left_out.py;
               twins, whose, where rows without a key, or with that of another row, are invalid;
               "was.<column>", of keys that may be spelled otherwise in the state
               "warning.<number>", of values that are in no other column: see `warnings.py`

A change of the kind `unchanged` is a row that is equal to Braze, and spelled otherwise in the state.

A request body is an envelope, the bodies of its records separated by commas, and `closing()`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

from reverse_etl.braze.modes import Cost, Extra, Mode, Shape
from reverse_etl.masking import NO_KEY
from reverse_etl.records import ecommerce, merging
from reverse_etl.records.consent import AFTER_OPT_OUTS, INS, OPT_OUTS_FIRST, OUTS
from reverse_etl.records.documents import (
    fault,
    is_operator,
    keys_of_plain,
    may_be_operator,
    opaque,
    plain,
    unless_plain,
)
from reverse_etl.records.existing import NEEDS, needed_user
from reverse_etl.records.expressions import (
    TWINS,
    TWINS_OF_KEY,
    TWINS_OF_USER,
    Rule,
    changed,
    compared_user,
    has_key,
    is_fallback,
    is_sent,
    is_update,
    json_of,
    key_is_sent,
    moment_of,
    new,
    present,
    respelled_keys,
    time_of,
    updates,
    value_text,
    was,
)
from reverse_etl.records.identity import KEPT_WHO, STRONG_KINDS, WHO, kept_of_outbox, text_of, who_of_outbox
from reverse_etl.records.json_text import ISO_TIME, keys_within, timestamp
from reverse_etl.records.layout import CURSOR, ROW_NUMBER, Column, Layout, Role, shape_of
from reverse_etl.records.left_out import ALONE, ANY, LEFT_OUT, any_left_out, left_out
from reverse_etl.records.rules import left_out_columns, rules
from reverse_etl.records.warnings import flags
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import SqlType

WHOSE = "whose"  # of a record without a key: what else identifies its row, as JSON
_UNCHECKED = "kind IN ('removed', 'unchanged')"


def closing(mode: Mode) -> str:
    """What ends a request body."""
    return "]}]}" if mode.group else "]}"


def outbox_sql(layout: Layout, changes: str, carried: Sequence[str] = ()) -> str:
    """A SELECT of one record per row of `changes`; `problems` are the numbers of the rules that an invalid row breaks,
    from 1, and NULL for a valid one. Columns that are `carried` are taken over from the changes."""
    rendered = _select(left_out(layout, judged_sql(layout, changes)), _texts(layout))
    columns = {
        "key": key_of_record(layout),
        "kind": "kind",
        "known": "known",
        "call": _call(layout),
        "envelope": f"CASE WHEN problem = 0 THEN {_envelope(layout)} END",
        "body": f"CASE WHEN problem = 0 AND kind <> 'unchanged' THEN {_body(layout)} END",
        "idempotent": idempotent(layout),
        "phase": f"CAST({_phase(carried)} AS TINYINT)",
        "attributes": _attributes(layout),
        "data_points": _data_points(layout),
        WHO: who_of_outbox(layout),
        **({KEPT_WHO: kept_of_outbox(layout)} if layout.mode.keeps else {}),
        **({NEEDS: needed} if (needed := needed_user(layout)) else {}),
        **({TWINS: _twins(layout), WHOSE: _whose(layout)} if layout.sets_aside else {}),
        "problems": f"CASE WHEN problem > 0 THEN {_problems(layout)} END",
        LEFT_OUT: f"CASE WHEN problem = 0 THEN {LEFT_OUT} END",
        ALONE: identifier(ALONE),
        **({CURSOR: new(layout.cursor)} if layout.cursor else {}),
        **{f"new.{name}": new(name) for name in layout.stored},
        **{was(name): identifier(was(name)) for name in respelled_keys(layout)},
        **flags(layout),
        **{f"changed.{name}": changed(name) for name in layout.tracked},
        **{name: identifier(name) for name in carried},
    }
    select = ",\n    ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())
    return f"SELECT\n    {select}\nFROM (\n{rendered}\n)"


def keys_sql(layout: Layout, changes: str) -> str:
    """A SELECT of the key of valid `changes`, and of who they are about, of which the kind of the identifier is enough
    if the key is the rest, as in files of the ledger."""
    who, (name, *others) = who_of_outbox(layout), layout.key
    if name in STRONG_KINDS and not others and who.startswith(f"coalesce({text_of(name, new(name))}"):
        who = literal(f"{name}:")
    return f"SELECT {key_of_record(layout)} AS key, {who} AS {WHO} FROM ({changes})"


def judged_sql(layout: Layout, changes: str) -> str:
    """A SELECT of `changes` with `problem`, 0 or the first rule that the row breaks, and ANY: a column is left out."""
    prepared = _select(changes, {**_times(layout), **_json_texts(layout), **updates(layout)})
    if documents := opaque(layout):
        prepared = _select(prepared, {f"plain.{column.name}": plain(json_of(column.name)) for column in documents})
    examined = _select(prepared, {**_faults(layout), **_properties(layout)})
    if of_ecommerce := ecommerce.prepared(layout):
        examined = _select(examined, of_ecommerce)
    conditions = " ".join(_when(number, rule) for number, rule in enumerate(rules(layout), 1) if not rule.leaves_out)
    problem = f"CASE WHEN {_UNCHECKED} THEN 0 {conditions} ELSE 0 END"
    return _select(examined, {"problem": problem, ANY: any_left_out(layout, _UNCHECKED)})


def _phase(carried: Sequence[str]) -> str:
    """SQL for when a record is sent: opt-outs go first."""
    if OUTS not in carried:
        return str(AFTER_OPT_OUTS)
    only_out = f"len({identifier(OUTS)}) > 0 AND len({identifier(INS)}) = 0"
    return f"CASE WHEN {only_out} THEN {OPT_OUTS_FIRST} ELSE {AFTER_OPT_OUTS} END"


def _when(number: int, rule: Rule) -> str:
    return f"WHEN {rule.condition} THEN {number}"


def _problems(layout: Layout) -> str:
    """The first rule that each column of an invalid row breaks. DuckDB evaluates it for invalid rows only."""
    by_column: dict[str, list[str]] = {}
    for number, rule in enumerate(rules(layout), 1):
        if not rule.leaves_out:
            by_column.setdefault(rule.column, []).append(_when(number, rule))
    first = ", ".join(f"CASE {' '.join(cases)} END" for cases in by_column.values())
    found = f"list_filter([{first}], lambda number: number IS NOT NULL)" if first else "CAST([] AS INTEGER[])"
    left = f"list_transform(coalesce({LEFT_OUT}, []), lambda one: one.number)"
    return f"list_sort({found} || {left})" if left_out_columns(layout) else found


def order_sql(layout: Layout) -> str:
    """The ORDER BY that groups records of one envelope; empty where there is only one."""
    has_several = len(layout.mode.slots) > 1 or layout.mode.group or layout.deletion or layout.sync.update
    if layout.mode.group:
        return f"ORDER BY {_turn(layout.mode)}, envelope"
    return f"ORDER BY call <> {literal(layout.mode.call.label)}, call, envelope" if has_several else ""


def _turn(mode: Mode) -> str:
    """SQL for when the records of a group take their turn, so that those of several are neighbors, which may share a
    request: by the kind of their identifier, as many of each group as go into its array, then the next ones."""
    of_group = "row_number() OVER (PARTITION BY envelope, phase, action = 'send')"
    return f"regexp_extract(envelope, '\"(\\w+)\":\\[$', 1), ({of_group} - 1) // {mode.call.rows_per_request}"


def _select(source: str, extra: dict[str, str]) -> str:
    columns = "".join(f",\n    {sql} AS {identifier(name)}" for name, sql in extra.items())
    return f"SELECT *{columns}\nFROM (\n{source}\n)"


def _label(name: str) -> str:
    return f"CAST(to_json({literal(name)}) AS VARCHAR) || ':'"


def _text(value: str) -> str:
    return f"CAST(to_json(CAST({value} AS VARCHAR)) AS VARCHAR)"


# --- values ----------------------------------------------------------------------------------------------------------


def _times(layout: Layout) -> dict[str, str]:
    return {f"time.{column.name}": moment_of(column) for column in layout.sent if shape_of(column) is Shape.TIME}


def _json_texts(layout: Layout) -> dict[str, str]:
    texts = {}
    for column in layout.json_columns:
        text = value_text(layout, column.name, new(column.name))
        if column.name in layout.tracked and layout.mode.extra is Extra.CUSTOM_ATTRIBUTE:
            text = f"CASE WHEN {changed(column.name)} THEN {text} END"
        texts[f"json.{column.name}"] = text
    return texts


def _faults(layout: Layout) -> dict[str, str]:
    return {f"fault.{column.name}": fault(layout, column) for column in layout.json_columns}


def _properties(layout: Layout) -> dict[str, str]:
    """`properties`: the members of the properties object, without its braces; NULL where there is none."""
    if layout.mode.extra is not Extra.PROPERTY:
        return {}
    members = [f"{_label(column.name)} || {_value(layout, column)}" for column in layout.extras]
    if not layout.has("properties"):
        return {"properties": f"nullif(concat_ws(',', {', '.join(members)}), '')" if members else "NULL"}
    inner = f"regexp_replace({json_of('properties')}, '^\\s*\\{{\\s*|\\s*\\}}\\s*$', '', 'g')"
    joined = ", ".join([f"nullif({inner}, '')", *members])
    return {
        "property_keys": f"json_keys(TRY_CAST({json_of('properties')} AS JSON))",
        "properties": f"nullif(concat_ws(',', {joined}), '')",
    }


def _value(layout: Layout, column: Column) -> str:
    """The JSON text that is sent for a column; NULL for NULL."""
    shape, value = shape_of(column), new(column.name)
    if column in layout.json_columns:
        return json_of(column.name)
    if shape in (Shape.ID, Shape.TEXT):
        return _text(value)
    if shape is Shape.TIME:
        return f"strftime({time_of(column.name)}, {ISO_TIME})"
    if shape is Shape.BOOLEAN:
        return f"CAST(TRY_CAST({value} AS BOOLEAN) AS VARCHAR)"
    if layout.mode.extra is Extra.CATALOG_FIELD and column.type.family == "date":
        return f"strftime({timestamp(value)}, {ISO_TIME})"
    if shape is Shape.DATE:
        return _text(value if column.type.family == "varchar" else f"strftime({value}, '%Y-%m-%d')")
    return value_text(layout, column.name, value)


# --- where a record goes ---------------------------------------------------------------------------------------------


def _call(layout: Layout) -> str:
    call, deletion, update = literal(layout.mode.call.label), layout.deletion, layout.sync.update
    cases = [f"WHEN kind = 'removed' THEN {literal(deletion.call.label)}"] if deletion else []
    cases += [f"WHEN {is_update(layout)} THEN {literal(update.label)}"] if update else []
    return f"CASE {' '.join(cases)} ELSE {call} END" if cases else call


def _envelope(layout: Layout) -> str:
    group, opening = layout.mode.group, "'{"
    if group:
        shared = [layout.column(name) for name in group.fields if layout.has(name)]
        members = ", ".join(f"{_label(column.name)} || {_value(layout, column)}" for column in shared)
        opening = f"""'{{"{group.array}":[{{' || concat_ws(',', {members}) || ',"""
    slots = layout.mode.slots
    envelope = _by_identifier(layout, [(slot.identifier, f"""{opening}"{slot.array}":['""") for slot in slots])
    if not layout.deletion:
        return envelope
    choices = [(slot.identifier, f"""'{{"{slot.array}":['""") for slot in layout.deletion.slots]
    delete = _by_identifier(layout, choices)
    return f"CASE WHEN kind = 'removed' THEN {delete} ELSE {envelope} END"


def envelope_of_all(layout: Layout) -> str | None:
    """SQL for the envelope of all records that add or change something, if it is the same one."""
    (slot, *others) = layout.mode.slots
    return None if others or layout.mode.group else literal(f'{{"{slot.array}":[')


def _by_identifier(layout: Layout, choices: Sequence[tuple[str | None, str]]) -> str:
    """The choice that belongs to the identifier which the row has; the only choice where none is named."""
    cases = [f"WHEN {present(layout, name)} THEN {sql}" for name, sql in choices if name in layout.identifiers and name]
    return f"CASE {' '.join(cases)} END" if cases else choices[0][1]


def _body(layout: Layout) -> str:
    objects = {slot.identifier for slot in layout.mode.slots if not slot.bare}
    if objects.isdisjoint(layout.identifiers) and None not in objects:
        return _bare_body(layout)
    body = _object(layout)
    if any(slot.bare for slot in layout.mode.slots):
        bodies = {name: body if name in objects else _identifier_value(layout, name) for name in layout.identifiers}
        return _by_identifier(layout, list(bodies.items()))
    return f"CASE WHEN kind = 'removed' THEN {_deleted(layout)} ELSE {body} END" if layout.deletion else body


def _deleted(layout: Layout) -> str:
    if layout.deletion and all(slot.bare for slot in layout.deletion.slots):
        return _bare_body(layout)
    members = " || ',' || ".join(f"{_label(name)} || {_text(new(name))}" for name in layout.mode.key_fields)
    return f"'{{' || {members} || '}}'"


def _nested_object(layout: Layout) -> str:
    """A record whose members are in objects of it."""
    members: dict[str, list[str]] = {layout.mode.inside: list(_identifier_members(layout))}
    for column in _fields(layout):
        field, text = column.field, _text_of(column.name)
        if field:
            members.setdefault(field.inside, []).append(f"{_label(field.member)} || {text}")
    objects = [f"{_label(name)} || '{{' || concat_ws(',', {', '.join(of)}) || '}}'" for name, of in members.items()]
    return f"concat('{{', concat_ws(',', {', '.join(objects)}), '}}')"


def _object(layout: Layout) -> str:
    """A record with its members, each after a comma: `concat` copies their parts once. Where an identifier is there for
    sure, no comma has to go: to cut the first one off takes as long as a third of all that."""
    if layout.mode.inside:
        return _nested_object(layout)
    identifiers = list(_identifier_members(layout))
    first = identifiers[0] if len(identifiers) == 1 else f"nullif(concat_ws(',', {', '.join(identifiers)}), '')"
    parts = ", ".join(part for one in _members(layout) for part in one) or "''"
    whole, alone = f"concat('{{', {first}, {parts}, '}}')", f"concat('{{', substr(concat({parts}), 2), '}}')"
    if identifiers and not any(layout.mode.field(name) for name in layout.identifiers):
        return whole
    return f"CASE WHEN {first} IS NULL THEN {alone} ELSE {whole} END" if identifiers else alone


def _bare_body(layout: Layout) -> str:
    return _by_identifier(layout, [(name, _identifier_value(layout, name)) for name in layout.identifiers])


def _identifier_value(layout: Layout, name: str) -> str:
    """The JSON text of an identifier; NULL where the row does not have it."""
    if name != "user_alias":
        return _text(new(name))
    if not layout.flat_alias:
        return json_of(name)
    parts = " || ',' || ".join(f"{_label(part)} || {_text(new(part))}" for part in layout.columns_of(name))
    return f"'{{' || {parts} || '}}'"


def _identifier_members(layout: Layout) -> Iterator[str]:
    for name in layout.identifiers:
        if layout.mode.field(name):
            continue  # an email or phone of a profile is a field as well: see _members
        member = f"{_label(name)} || {_identifier_value(layout, name)}"
        yield member if name in layout.mode.exclusive else f"CASE WHEN {is_fallback(layout, name)} THEN {member} END"
    if layout.sync.on_removed == "clear":
        # Clearing must not recreate a user who no longer exists in Braze.
        yield """CASE WHEN kind = 'removed' THEN '"_update_existing_only":true' END"""


def _members(layout: Layout) -> Iterator[tuple[str, ...]]:
    """The parts of the `,"name":value` members of a record, all NULL where one is omitted."""
    for column in _fields(layout):
        text = _text_of(column.name)
        yield f"CASE WHEN {text} IS NOT NULL THEN ',' || {_label(column.name)} END", text
    if layout.mode.extra is Extra.PROPERTY:
        opening, closing_ = (f"CASE WHEN properties IS NOT NULL THEN {it} END" for it in ("',\"properties\":{'", "'}'"))
        yield opening, "properties", closing_


def _fields(layout: Layout) -> Iterator[Column]:
    """The columns that are members of a record themselves."""
    as_property = layout.extras if layout.mode.extra is Extra.PROPERTY else ()
    for column in layout.sent:
        if not (column.role is Role.IDENTIFIER or column.name == "properties" or column in as_property):
            yield column


def _text_of(name: str) -> str:
    """The JSON text that is sent of a column; NULL if it is omitted."""
    return identifier(f"text.{name}")


def _texts(layout: Layout) -> dict[str, str]:
    texts = {}
    for column in _fields(layout):
        text = _value(layout, column)
        if column.name in layout.tracked:
            text = f"CASE WHEN kind = 'removed' OR {new(column.name)} IS NULL THEN 'null' ELSE {text} END"
        texts[f"text.{column.name}"] = f"CASE WHEN problem = 0 AND ({is_sent(layout, column)}) THEN {text} END"
    return texts


# --- what is known of a record ---------------------------------------------------------------------------------------


def idempotent(layout: Layout) -> str:
    """SQL for: sending the record twice leaves Braze as sending it once does."""
    if not layout.mode.is_idempotent:
        return "false"
    if layout.mode.keeps:
        return merging.is_idempotent(layout)
    if layout.mode.extra is not Extra.CUSTOM_ATTRIBUTE:
        return "true"
    documents = [column for column in layout.json_columns if may_be_operator(column.type)]
    found = (unless_plain(layout, column, is_operator(json_of(column.name))) for column in documents)
    operators = " OR ".join(found)
    return f"NOT ({operators})" if operators else "true"


def works_on_stored(json_texts: Mapping[str, str], layout: Layout) -> str:
    """SQL for: one of these values, by column, is an operation on what Braze has, such as `inc`."""
    if layout.mode.extra is not Extra.CUSTOM_ATTRIBUTE:
        return "false"
    return " OR ".join(map(is_operator, json_texts.values())) or "false"


def _attributes(layout: Layout) -> str:
    """SQL for the number of attributes that a record writes."""
    if layout.mode.extra is not Extra.CUSTOM_ATTRIBUTE:
        return "0"
    return " + ".join(f"CAST({flag} AS INTEGER)" for _, flag in _written(layout)) or "0"


def _written(layout: Layout) -> Iterator[tuple[Column, str]]:
    """The columns that a record may write to a profile, each with SQL for: this one does."""
    for column in layout.sent:
        name = column.name
        if column.role is Role.IDENTIFIER and not column.field:
            continue
        if name in layout.identifiers:  # an email or phone that identifies the user writes nothing
            if name in layout.tracked:
                yield column, f"{changed(name)} AND NOT ({is_fallback(layout, name)})"
        elif name in layout.tracked:
            yield column, changed(name)
        elif name in layout.key:
            yield column, f"{key_is_sent(layout)} AND {new(name)} IS NOT NULL"


def _data_points(layout: Layout) -> str:
    """SQL for the cost of a record on contracts billed by data points."""
    cost = layout.mode.cost
    if cost is Cost.ATTRIBUTES:
        billed = [(column, flag) for column, flag in _written(layout) if not (column.field and column.field.free)]
        costs = [f"CASE WHEN {flag} THEN {_points(layout, column)} ELSE 0 END" for column, flag in billed]
        return " + ".join(costs) or "0"
    if cost is Cost.QUANTITY and layout.has("quantity"):
        return f"coalesce(CAST({new('quantity')} AS BIGINT), 1)"
    if layout.mode.ecommerce:
        return f"CASE WHEN {ecommerce.EVENT} IS NULL THEN 1 ELSE 0 END"
    return "0" if cost is Cost.NOTHING else "1"


def _points(layout: Layout, column: Column) -> str:
    if column.field or not column.is_json:
        return "1"
    counted = keys_within(new(column.name), column.type)
    if counted is None:
        document = json_of(column.name)
        counted = unless_plain(layout, column, f"retl_data_points({document})", keys_of_plain(document))
    return f"CASE WHEN kind = 'removed' OR {new(column.name)} IS NULL THEN 1 ELSE {counted} END"


def key_text(key: Sequence[str], value: Callable[[str], str], has_number: bool = True) -> str:
    """SQL for a row's key as users see it: its value, a JSON array of several, or a digest of a whole row.

    `value` returns the SQL of a column's value, given its name. A whole row, among whose columns ROW_NUMBER is, has its
    number among equals behind the digest; where nobody has numbered the rows, `has_number` is false.
    """
    if ROW_NUMBER in key:
        row = ", ".join(f"{identifier(name)} := {value(name)}" for name in key if name != ROW_NUMBER)
        number = f" || '#' || {value(ROW_NUMBER)}" if has_number else ""
        return f"md5(CAST(to_json(struct_pack({row})) AS VARCHAR)){number}"
    if len(key) == 1:
        return f"CAST({value(key[0])} AS VARCHAR)"
    return f"CAST(to_json([{', '.join(f'CAST({value(name)} AS VARCHAR)' for name in key)}]) AS VARCHAR)"


def typed_keys(types: Mapping[str, SqlType], texts: str) -> str:
    """A SELECT of the values of a key, of which `types` are those of its columns, from one of their `text`, as users
    see them; texts that are none of such a key are left out, and so are digests of whole rows."""
    one = "text" if len(types) == 1 else "json_extract_string(TRY_CAST(text AS JSON), '$[{}]')"
    parts = {identifier(name): (one.format(place), of) for place, (name, of) in enumerate(types.items())}
    values = ", ".join(f"TRY_CAST({part} AS {of.text}) AS {name}" for name, (part, of) in parts.items())
    are_whole = " AND ".join(f"({part} IS NULL) = ({name} IS NULL)" for name, (part, _) in parts.items())
    some = " OR ".join(f"{name} IS NOT NULL" for name in parts)
    found = f"SELECT {values}, text FROM ({texts})"
    return f"SELECT {', '.join(parts)} FROM ({found}) WHERE {are_whole} AND ({some})"


def key_of_record(layout: Layout) -> str:
    """SQL for the key of a record; never NULL, as the key of a row that is neither invalid nor a whole row never is."""
    key = key_text(layout.key, new)
    if not layout.sets_aside:
        return key
    is_there = " OR ".join(f"{new(name)} IS NOT NULL" for name in layout.key)
    return f"CASE WHEN {is_there} THEN {key} ELSE {literal(NO_KEY)} END"


def _twins(layout: Layout) -> str:
    names = [TWINS_OF_KEY, TWINS_OF_USER] if compared_user(layout, "model") else [TWINS_OF_KEY]
    return f"coalesce({', '.join(map(identifier, names))})"


def _whose(layout: Layout) -> str:
    """SQL for all that identifies the row of a record whose key has a NULL, as a JSON object; NULL for other records,
    and if there is nothing."""
    values = {name: _identifier_value(layout, name) for name in layout.identifiers if not layout.columns_of(name)[1:]}
    parts = [*(part for name in layout.identifiers for part in layout.columns_of(name)), *layout.mode.key_fields]
    values = {name: _text(new(name)) for name in parts} | values
    members = ", ".join(f"{_label(name)} || {value}" for name, value in values.items() if name not in layout.key)
    if not members:
        return "CAST(NULL AS VARCHAR)"
    return f"CASE WHEN NOT ({has_key(layout, new)}) THEN '{{' || nullif(concat_ws(',', {members}), '') || '}}' END"


def user_text(identifiers: Sequence[Sequence[str]], value: Callable[[str], str]) -> str:
    """SQL for what identifies the user of a row, as a JSON object: the columns of the first of these identifiers that
    it has; NULL if it has none."""
    cases = []
    for columns in identifiers:
        parts = ", ".join(f"{literal(name)}, {value(name)}" for name in columns)
        cases.append(f"WHEN {value(columns[0])} IS NOT NULL THEN CAST(json_object({parts}) AS VARCHAR)")
    return f"CASE {' '.join(cases)} END" if cases else "CAST(NULL AS VARCHAR)"
