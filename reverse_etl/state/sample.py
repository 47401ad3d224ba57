"""A random sample of acknowledged rows, with the requests by which they would be sent; and what is unsure since.

draw()    every row with the same probability, the same rows for the same seed and state
doubt()   these columns of these rows are not known to be in Braze as the state has them: the next run sends them
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from duckdb import DuckDBPyConnection

from reverse_etl.delivery.destination import Destination
from reverse_etl.errors import DataError
from reverse_etl.masking import Keys
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.plan.tables import ABSENT_SINCE, ACKNOWLEDGED, SENT_AT, STATE, UNSURE
from reverse_etl.plan.workbench import execute
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.consent import consent_columns
from reverse_etl.records.expressions import mergeable, respelled_keys, was
from reverse_etl.records.layout import Layout, layout_of_rows
from reverse_etl.records.left_out import with_old
from reverse_etl.records.mapping import closing, key_text, outbox_sql
from reverse_etl.shared_state.reading import bring_for_reading
from reverse_etl.sql import database
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state.acknowledged import AcknowledgedRows
from reverse_etl.state.brought import Brought
from reverse_etl.state.contents import acknowledged_types, key_in, meta_of, set_version
from reverse_etl.state.elsewhere import refuse_rows_of_others
from reverse_etl.state.file import COPY
from reverse_etl.state.glance import Glances
from reverse_etl.state.opening import claimed_place, make_folder, state_of
from reverse_etl.state.places import refuse_lost
from reverse_etl.state.state import State

_SAMPLE = "retl_sample"  # of rows that are in the warehouse
_ARE_SENT = f"{SENT_AT} IS NOT NULL AND {ABSENT_SINCE} IS NULL"


@dataclass(frozen=True)
class Draw:
    """Which sample: so many rows `at_most`, by this `seed`. `in_full`: their keys are not masked."""

    at_most: int
    seed: int
    in_full: bool = False


@dataclass(frozen=True)
class Row:
    """An acknowledged row, and the request of this record alone, by which it would be sent to `path`."""

    key: str
    path: str
    request: str
    sent_at: datetime


@dataclass(frozen=True)
class Sample:
    """`rows` of the `of` rows that Braze has acknowledged, and that the model still returned in the last run. `tracked`
    are the columns that can be unsure; `not_rendered` rows break a rule by now, so nobody can say what was sent."""

    of: int
    rows: Sequence[Row]
    tracked: Sequence[str]
    keys: Keys
    not_rendered: int


@contextmanager
def attached(project: LoadedProject, sync: Sync) -> Iterator[DuckDBPyConnection]:
    """A connection to which the state is attached, to be read: without its lock, unless somebody left a run in it."""
    place = claimed_place(project, sync)
    if place.objects is not None:
        make_folder(place)
        with tempfile.TemporaryDirectory(prefix=COPY, dir=place.folder) as folder:
            path = bring_for_reading(place, place.objects, Path(folder) / "state.duckdb")
            if not path.exists():
                raise _has_nothing(sync)
            with database.connect() as connection:
                connection.execute(f"SET TimeZone = 'UTC'; ATTACH {literal(str(path))} AS {STATE} (READ_ONLY)")
                yield connection
        return
    refuse_lost(place)
    if not place.state.exists():
        raise _has_nothing(sync)
    with Glances() as glances, glances.at(place) as seen:
        if seen is not None:
            yield seen
            return
    with state_of(project, sync) as state:
        yield state.connection


def draw(connection: DuckDBPyConnection, project: LoadedProject, sync: Sync, to: Destination, which: Draw) -> Sample:
    """Raises StateError if the rows are of another workspace or mode, DataError if there are none."""
    rows = AcknowledgedRows(connection, sync.name)
    rows.refuse_other_workspace(to, project.spec.in_target("destination"))
    rows.refuse_other_mode(sync)
    meta, types, key = rows.meta(), rows.types(), rows.key()
    number, chosen = _chosen(connection, project, sync, which) if types else (0, "")
    if not number:
        raise _has_nothing(sync)
    layout = layout_of_rows(sync, list(types.items()), key)
    of_consent = [f"old.{column.name}" for column in consent_columns(layout)]
    changes = with_old(layout, _as_changes(layout, chosen), of_consent)
    records = f"SELECT key, call, envelope, body FROM ({outbox_sql(layout, changes)})"
    found = execute(connection, records).fetchall()
    sent = f"SELECT {key_text(key, identifier)}, epoch({SENT_AT}) FROM ({chosen})"
    at = dict(connection.execute(sent).fetchall())
    end = closing(sync.mode)
    whole = [
        Row(one, call.split()[-1], f"{envelope}{body}{end}", datetime.fromtimestamp(at[one], UTC))
        for one, call, envelope, body in found
        if body is not None
    ]
    return Sample(number, whole, layout.tracked, Keys(key, meta.get("salt"), which.in_full), len(found) - len(whole))


def _chosen(connection: DuckDBPyConnection, project: LoadedProject, sync: Sync, which: Draw) -> tuple[int, str]:
    """How many rows a sample is drawn from, and a SELECT of it."""
    place, pointer, key = claimed_place(project, sync), pointer_of(meta_of(connection)), key_in(connection)
    refuse_rows_of_others(connection, place)
    if pointer and pointer.base and place.rows:
        types, tables = acknowledged_types(connection), place.rows.open(pointer.schema)
        try:
            number, batches = tables.sample(pointer, types, key, str(which.seed), which.at_most)
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {_SAMPLE} AS FROM {ACKNOWLEDGED} LIMIT 0")
            Brought(connection, lambda: tables).insert(batches, _SAMPLE)
        finally:
            tables.close()
        return number, f"FROM {_SAMPLE}"
    number = connection.execute(f"SELECT count(*) FROM {ACKNOWLEDGED} WHERE {_ARE_SENT}").fetchall()[0][0]
    order = f"md5({literal(str(which.seed))} || {key_text(key, identifier)})"
    return number, f"SELECT * FROM {ACKNOWLEDGED} WHERE {_ARE_SENT} ORDER BY {order} LIMIT {which.at_most}"


def _as_changes(layout: Layout, rows: str) -> str:
    """A SELECT of acknowledged rows as if they were new: of those columns that have a value, and are not unsure."""
    columns = {"kind": "'added'", "known": "false"}
    columns |= {f"new.{column.name}": identifier(column.name) for column in layout.columns}
    for name in layout.tracked:
        unsure = f"coalesce(list_contains({UNSURE}, {literal(name)}), false)"
        columns[f"changed.{name}"] = f"{identifier(name)} IS NOT NULL AND NOT {unsure}"
    columns |= {f"lost.{name}": "false" for name in mergeable(layout)}
    columns |= {was(name): identifier(name) for name in respelled_keys(layout)}
    columns |= {f"old.{one.name}": f"CAST(NULL AS {one.type.text})" for one in consent_columns(layout)}
    listed = ", ".join(f"{sql} AS {identifier(name)}" for name, sql in columns.items())
    return f"SELECT {listed} FROM ({rows})"


def doubt(state: State, columns: Mapping[str, Sequence[str]]) -> None:
    """Let these columns be unsure, by the keys of their rows. What goes wrong in between changes nothing."""
    connection, key = state.connection, state.rows.key()
    same = f"{key_text(key, identifier)} = unsure.row"
    names = f"list_distinct(list_concat({UNSURE}, unsure.names))"
    with state.changing():
        connection.execute("CREATE OR REPLACE TEMP TABLE retl_unsure_rows (row VARCHAR, names VARCHAR[])")
        rows = [[row, list(of_row)] for row, of_row in columns.items()]
        connection.executemany("INSERT INTO retl_unsure_rows VALUES (?, ?)", rows)
        connection.execute("BEGIN")
        if state.elsewhere:
            state.elsewhere.bring(columns)
        connection.execute(f"UPDATE {ACKNOWLEDGED} SET {UNSURE} = {names} FROM retl_unsure_rows AS unsure WHERE {same}")
        name = f"verified-{state.clock.utc():%Y%m%dT%H%M%S%f}"
        set_version(connection, name)
        if state.elsewhere:
            state.elsewhere.take_out(name, key)
        connection.execute("COMMIT")
    if state.elsewhere:
        state.elsewhere.tidy()


def _has_nothing(sync: Sync) -> DataError:
    hint = f"send them first: `retl sync {sync.name}`"
    return DataError(f"{sync.name}: Braze has acknowledged no rows yet that could be compared", hint=hint, code="D006")
