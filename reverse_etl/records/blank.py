"""The outbox of a run of which nothing differs: its columns alone. Pure.

Nothing is rendered in it, so DuckDB need not look at the SQL that renders: that takes most of the time of such a run.
"""

from collections.abc import Mapping

from reverse_etl.records.consent import CARRIED, FRESH, INS, LEFT, OUTS, PERSON, ROW, WITHHELD_FOR, consent_columns
from reverse_etl.records.existing import NEEDS, needed_user
from reverse_etl.records.expressions import TWINS, respelled_keys, was
from reverse_etl.records.identity import KEPT_WHO, WHO
from reverse_etl.records.layout import CURSOR, Layout
from reverse_etl.records.left_out import ALONE, LEFT_OUT, TYPE
from reverse_etl.records.mapping import WHOSE
from reverse_etl.records.warnings import flags

_OF_RECORDS = {
    "key": "VARCHAR",
    "kind": "VARCHAR",
    "known": "BOOLEAN",
    "call": "VARCHAR",
    "envelope": "VARCHAR",
    "body": "VARCHAR",
    "idempotent": "BOOLEAN",
    "phase": "TINYINT",
    "attributes": "INTEGER",
    "data_points": "BIGINT",
    WHO: "VARCHAR",
    "problems": "INTEGER[]",
    LEFT_OUT: TYPE,
    ALONE: "BOOLEAN",
}
_OF_CONSENT = {
    PERSON: "VARCHAR",
    OUTS: "VARCHAR[]",
    INS: "VARCHAR[]",
    FRESH: "BIGINT",
    WITHHELD_FOR: "INTEGER[]",
    LEFT: "BOOLEAN",
    ROW: "BIGINT",
}


def blank_outbox(layout: Layout, changes: Mapping[str, str]) -> dict[str, str]:
    """The columns of the outbox, and their types. `changes` are those of the changes, of which there are none."""
    columns = dict(_OF_RECORDS)
    if layout.mode.keeps:
        columns[KEPT_WHO] = "VARCHAR"
    if needed_user(layout):
        columns[NEEDS] = "VARCHAR"
    if layout.sets_aside:
        columns |= {TWINS: "BIGINT", WHOSE: "VARCHAR"}
    if layout.cursor:
        columns[CURSOR] = changes[f"new.{layout.cursor}"]
    columns |= {name: changes[name] for name in (f"new.{stored}" for stored in layout.stored)}
    columns |= {name: changes[name] for name in map(was, respelled_keys(layout))}
    columns |= dict.fromkeys(flags(layout), "BOOLEAN")
    columns |= {f"changed.{name}": "BOOLEAN" for name in layout.tracked}
    if consent_columns(layout):
        columns |= {name: _OF_CONSENT[name] for name in CARRIED}
    return columns | {"action": "VARCHAR"}
