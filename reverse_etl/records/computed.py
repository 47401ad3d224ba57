"""The outbox of a first run, of which columns that follow from others are computed when they are read. Pure.

Every row is new, and sent to one place: what says so is the same in all rows. A key, whom it is about and which columns
are sent follow from the values. So none of this is written to the disk.
"""

from reverse_etl.records.expressions import TWINS, is_document, new, respelled_keys, was
from reverse_etl.records.identity import WHO, identifying_columns, who_of_outbox
from reverse_etl.records.layout import CURSOR, ROW_NUMBER, Layout
from reverse_etl.records.left_out import ALONE, LEFT_OUT, NONE
from reverse_etl.records.mapping import envelope_of_all, idempotent, key_of_record
from reverse_etl.records.renaming import fields_of
from reverse_etl.records.rules import left_out_columns
from reverse_etl.sql.quoting import literal


def types_read(layout: Layout) -> dict[str, str]:
    """The columns of the changes of a first run that have values of the model, and their types."""
    types = {column.name: column.type.text for column in layout.needed}
    types |= {ROW_NUMBER: "BIGINT"} if layout.whole_row else {}
    before = {was(name): types[name] for name in respelled_keys(layout)}
    return {f"new.{name}": of for name, of in types.items()} | before


def computed(layout: Layout, is_rendered: bool) -> dict[str, str]:
    """SQL over the outbox of a first run for its columns that follow from others. Without `is_rendered`, it has no
    bodies."""
    mode, stored = layout.mode, layout.stored
    found = {"kind": "'added'", "known": "false", "call": literal(mode.call.label), ALONE: "false"}
    envelope = envelope_of_all(layout) if is_rendered else "NULL"
    if envelope and not (mode.keeps or fields_of(layout)):  # of which a record may turn out to be invalid later
        found["envelope"] = f"CASE WHEN problems IS NULL THEN {envelope} END"
    if len(layout.key) == 1 and not is_document(layout, layout.key[0]):
        found["key"] = key_of_record(layout)
    who = identifying_columns(mode, [column.name for column in layout.sent])
    if set(who) <= set(stored) and not any(is_document(layout, name) for name in who):
        found[WHO] = who_of_outbox(layout)
    if (same := idempotent(layout)) in ("true", "false"):
        found["idempotent"] = same
    left_out = left_out_columns(layout)
    if not left_out:
        found[LEFT_OUT] = NONE
    if layout.sets_aside:
        found[TWINS] = "CAST(NULL AS BIGINT)"  # a run with such rows stores its changes first
    if layout.cursor and layout.cursor in stored:
        found[CURSOR] = new(layout.cursor)
    for name in layout.tracked:
        if layout.sync.nulls != "send":
            found[f"changed.{name}"] = f"{new(name)} IS NOT NULL"  # as that of a column that is left out is
        elif name not in left_out:
            found[f"changed.{name}"] = "true"
    return found
