"""What the states of syncs say on the page of a project. They are read from copies, several at a time."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import Extra
from reverse_etl.errors import BusyError, RetlError, StateError
from reverse_etl.ledger.flapping import FLAP_RUNS, FLAPS
from reverse_etl.masking import all_masked, of_response, of_warehouse
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.plan.given_up import GIVEN_UP
from reverse_etl.plan.quarantine import WITHHELD
from reverse_etl.plan.tables import ACKNOWLEDGED, IN_DOUBT, REJECTS, RUNS, SENT_AT
from reverse_etl.plan.workbench import limit_memory, part_of
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.attributes import attributes_of, fields_of, properties_of
from reverse_etl.records.layout import Layout, Role
from reverse_etl.runs.flaps import HowToLook, changes_of
from reverse_etl.runs.site_did import did
from reverse_etl.runs.site_facts import SiteReject, SiteRun, SiteTry
from reverse_etl.runs.site_past import past_columns
from reverse_etl.runs.site_tries import last_try, tries_listed
from reverse_etl.runs.site_values import values_of
from reverse_etl.sql.quoting import identifier
from reverse_etl.state.contents import OWN_COLUMNS
from reverse_etl.state.copied import Seen, seen
from reverse_etl.state.failed_tries import tried
from reverse_etl.state.glance import Glances
from reverse_etl.state.look import KILLED, NEVER, RUNNING, SyncStatus, is_there, status_in, status_unread, with_killed
from reverse_etl.state.opening import claimed_place
from reverse_etl.state.tries import Tries, tries_of
from reverse_etl.state.under_way import under_way
from reverse_etl.words import one_line

MOST_RUNS = 30  # of a sync that the page lists, the last ones
MOST_EARLIER = 70  # of those before that did not succeed
MOST_REASONS = 20  # of rows that are not in Braze
_MOST_COLUMNS = 100_000
_AT_ONCE = 4  # states that are read side by side
# Errors that name keys: what is before them says what is wrong.
_BEFORE_KEYS = re.compile(r"(is not unique|several rows for the same user \([^)]*\)|NULL[^:]*): .*", re.DOTALL)


@dataclass(frozen=True)
class Known:
    """What a state knows of a sync. `tried_at` is when its last try was, if that is not on record; `past` are columns
    that it does not have any more: see `site_past.py`. `sent_at` is when it has sent each event last, by name, if its
    key has these. Numbers are None if they are not known: then `message` says why. It has a line for each thing that
    there is to say."""

    status: str = NEVER
    message: str = ""
    tried_at: datetime | None = None
    rows: int | None = 0
    rejected: int | None = 0
    in_doubt: int | None = 0
    to_send: int | None = None
    written: int | None = 0
    types: Mapping[str, str] = field(default_factory=dict)
    past: Mapping[str, str] = field(default_factory=dict)
    filled: Mapping[str, int] = field(default_factory=dict)
    changes: Mapping[str, tuple[int, int, str]] = field(default_factory=dict)
    changed_at: Mapping[str, datetime] = field(default_factory=dict)
    values: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    runs: Sequence[SiteRun] = ()
    rejects: Sequence[SiteReject] = ()
    notes: Sequence[str] = ()
    tries: Sequence[SiteTry] = ()
    sent_at: Mapping[str, datetime] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    lost: Sequence[tuple[str, int]] = ()


_COUNTS: Mapping[str, Any] = dict.fromkeys(("rows", "rejected", "in_doubt", "to_send", "written"))
_UNKNOWN = {**_COUNTS, "filled": {}, "values": {}, "lost": ()}
_NOTHING = Known("unknown", **_UNKNOWN)


@contextmanager
def all_known(project: LoadedProject, how: HowToLook) -> Iterator[Iterator[Known]]:
    """What is known of all syncs, in their order. Threads find it out while the block goes on, each in a DuckDB of its
    own, which works outside of Python's lock."""
    tries, all_tried, free = tries_of(project), tried(project), SimpleQueue[Glances]()

    def one(sync: Sync) -> Known:
        glances = free.get()
        try:
            known = _known(project, sync, how, tries, glances)
            return replace(known, tries=tries_listed(sync, all_tried, known.tried_at, known.status, known.message))
        finally:
            free.put(glances)

    with ExitStack() as opened, ThreadPoolExecutor(_AT_ONCE, "retl-look") as pool:
        for _ in range(_AT_ONCE):
            glances = opened.enter_context(Glances())
            limit_memory(glances.connection, part_of(None, 1 / _AT_ONCE))
            free.put(glances)
        try:
            yield pool.map(one, project.spec.syncs)
        except BaseException:  # such as Ctrl-C: those that are begun are waited for
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _known(project: LoadedProject, sync: Sync, how: HowToLook, tries: Tries, glances: Glances) -> Known:
    """What is known of a sync; it has failed if its last try did, of which its state may know nothing."""
    known = _stored(project, sync, how, glances)
    on_record = known.runs[0].started_at if known.runs else None
    if known.status == KILLED:  # it is not on record, and later than what is
        on_record = project.started_at
    status = SyncStatus(sync.name, known.status, on_record, message=known.message)
    last = last_try(project, sync, tries, known.runs[0] if known.runs else None, status)
    if last is not None:
        message = "\n".join(_safe(sync, line) for line in last.lines)
        left = None if last.at else known.to_send
        known = replace(known, status=last.status, message=message, tried_at=last.at, to_send=left)
    killed = with_killed(project, sync, replace(status, last_run=known.status, message=known.message))
    if killed.last_run == KILLED != known.status:
        message = _safe(sync, killed.message or "")
        return replace(known, status=KILLED, message=message, tried_at=killed.finished_at, to_send=None)
    return known


def _stored(project: LoadedProject, sync: Sync, how: HowToLook, glances: Glances) -> Known:
    try:
        if not is_there(project, sync):
            return Known()
        with seen(project, sync, glances) as state:
            known = _of_state(project, sync, state, how)
        return _of_present(sync, known, under_way(claimed_place(project, sync), how.now))
    except (BusyError, StateError) as error:
        found = status_unread(sync, error)
        lines = (_safe(sync, line) for line in (found.message or "").splitlines())
        return replace(_NOTHING, status=found.last_run, message="\n".join(lines))
    except (RetlError, duckdb.Error) as error:
        return replace(_NOTHING, message=f"its state cannot be read: {_safe(sync, str(error).splitlines()[0])}")


def _of_present(sync: Sync, known: Known, present: tuple[str, str] | None) -> Known:
    """What is known, where a run is under way, or one was killed: its numbers are those of before, if there are any."""
    if present is None:
        return known
    status, why = present
    if status == RUNNING and known.runs:
        before = "the numbers are those of before this run"
        return replace(known, status=status, message=f"{_safe(sync, why)}\n{before}")
    return replace(replace(known, **_UNKNOWN), status=status, message=_safe(sync, why))


def _of_state(project: LoadedProject, sync: Sync, state: Seen, how: HowToLook) -> Known:
    connection, layout = state.connection, state.layout(sync)
    changes, notes = changes_of(state, project, sync, replace(how, limit=_MOST_COLUMNS), layout)
    types, sent = state.types, sent_types(layout) if layout else {}
    now = status_in(connection, sync, state.meta)
    past = past_columns(connection, project, sync, [one.column for one in changes], types)
    return Known(
        status=now.last_run,
        message=_safe(sync, now.message or ""),
        rows=now.rows,
        rejected=now.rejected,
        in_doubt=now.in_doubt,
        to_send=now.to_send,
        written=_written(connection, how.since),
        types=sent,
        fields=sent_fields(layout) if layout else {},
        past=past,
        filled=_filled(state, sent),
        values=values_of(sync, state, [name for name in sent if name in types]),
        changes={one.column: (one.changes, one.data_points, one.what or "") for one in changes},
        changed_at=_changed_at(connection),
        runs=_runs(connection, sync, how.since),
        sent_at=_sent_at(state, sync),
        rejects=list(_rejects(connection, sync)),
        lost=_lost(connection),
        notes=[note.removeprefix(f"{sync.name}: ") for note in notes],
    )


def _filled(state: Seen, sent: Collection[str]) -> dict[str, int]:
    """In how many acknowledged rows each column has a value; nothing if the rows are in the warehouse."""
    types = state.types
    if not sent or not types or pointer_of(state.meta):
        return {}
    # One text for all columns: to read one of many takes as long as to count in a few rows.
    columns = f"COLUMNS(* EXCLUDE ({', '.join(map(identifier, OWN_COLUMNS))}))"
    counts = f"SELECT count({columns}) FROM {ACKNOWLEDGED} WHERE {SENT_AT} IS NOT NULL"
    found = zip(types, state.connection.execute(counts).fetchall()[0], strict=True)
    return {name: rows for name, rows in found if name in sent}


def _sent_at(state: Seen, sync: Sync) -> dict[str, datetime]:
    """When each event was sent last, by name; of events, a state has the keys only."""
    if sync.mode.record_type != "events" or "name" not in state.key or pointer_of(state.meta):
        return {}
    last = f"SELECT CAST(name AS VARCHAR), epoch(max({SENT_AT})) FROM {ACKNOWLEDGED}"
    sql = f"{last} WHERE {SENT_AT} IS NOT NULL GROUP BY 1"
    return {name: datetime.fromtimestamp(at, UTC) for name, at in state.connection.execute(sql).fetchall()}


def _written(connection: DuckDBPyConnection, since: datetime) -> int:
    """Attributes that Braze has accepted in the runs since then."""
    accepted = "TRY_CAST(json_extract_string(counts, '$.delivery.attributes') AS BIGINT)"
    sql = f"SELECT CAST(coalesce(sum({accepted}), 0) AS BIGINT) FROM {RUNS} WHERE finished_at >= $since"
    return int(connection.execute(sql, {"since": since}).fetchall()[0][0])


def _changed_at(connection: DuckDBPyConnection) -> dict[str, datetime]:
    sql = f"SELECT column_name, epoch(max(finished_at)) FROM {FLAPS} JOIN {FLAP_RUNS} USING (n) GROUP BY column_name"
    return {name: datetime.fromtimestamp(at, UTC) for name, at in connection.execute(sql).fetchall()}


def _runs(connection: DuckDBPyConnection, sync: Sync, since: datetime) -> list[SiteRun]:
    """The last runs, the latest first, then those before that did not succeed, since then."""
    changed = dict[str, dict[str, int]]()
    by_run = f"""SELECT run_id, column_name, count(*) AS cells FROM {FLAPS} JOIN {FLAP_RUNS} USING (n)
        GROUP BY ALL ORDER BY cells DESC, column_name"""
    for run_id, column, cells in connection.execute(by_run).fetchall():
        changed.setdefault(run_id, {})[column] = cells
    rows = connection.execute(
        f"""WITH numbered AS (
            SELECT *, row_number() OVER (ORDER BY started_at DESC, run_id DESC) AS place FROM {RUNS}
        ), listed AS (
            FROM numbered WHERE place <= {MOST_RUNS} OR status NOT IN ('success', 'baselined') AND started_at >= $since
            ORDER BY place LIMIT {MOST_RUNS + MOST_EARLIER}
        )
        SELECT run_id, epoch(started_at), epoch(finished_at), status, message, counts, git_commit, git_dirty, started_by
        FROM listed ORDER BY place""",
        {"since": since},
    ).fetchall()
    return [_run(sync, row, changed.get(row[0], {})) for row in rows]


def _run(sync: Sync, row: Sequence[Any], changed: Mapping[str, int]) -> SiteRun:
    run_id, started_s, finished_s, status, message, counts, commit, is_dirty, started_by = row
    planned: dict[str, Any] = json.loads(counts)
    delivery = planned.get("delivery", {})
    names = ("accepted", "rejected", "in_doubt", "unsent", "requests", "attributes")
    return SiteRun(
        run_id,
        datetime.fromtimestamp(started_s, UTC),
        round(finished_s - started_s, 1),
        status,
        rows=planned.get("rows", 0),
        planned=planned.get("to_send", 0),
        invalid=planned.get("invalid", 0),
        **{name: delivery.get(name, 0) for name in names},
        message=_safe(sync, message or ""),
        commit=commit or "",
        is_dirty=bool(is_dirty),
        started_by=all_masked((started_by or "").replace("@", " on ")),
        did=did(sync, planned),
        changed=changed,
    )


def _safe(sync: Sync, message: str) -> str:
    """A message without the keys that it names, and without what looks personal."""
    said = one_line(message).removeprefix(f"{sync.name}: ").replace(f"; {sync.name}: ", "; ")
    return of_warehouse(_BEFORE_KEYS.sub(r"\1", said))


_STATUSES = {
    **{"retl": "invalid", "braze": "rejected", "left_out": "left out", "given_up": "given up"},
    "consent": WITHHELD,  # as those in quarantine
}


def _lost(connection: DuckDBPyConnection) -> list[tuple[str, int]]:
    """How many rows are not in Braze, or not whole, by status, the most frequent first."""
    found = dict[str, int]()
    sql = f"SELECT rejected_by, count(DISTINCT key) FROM {REJECTS} WHERE rejected_by <> '{GIVEN_UP}' GROUP BY ALL"
    for by, rows in connection.execute(sql).fetchall():
        status = _STATUSES.get(by, by)
        found[status] = found.get(status, 0) + rows
    return sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))


def _rejects(connection: DuckDBPyConnection, sync: Sync) -> Iterator[SiteReject]:
    """Why rows are not in Braze, the most frequent reasons first; of what Braze says, without values that it quotes."""
    rows = connection.execute(
        f"""SELECT rejected_by, column_name, reason, hint, count(DISTINCT key), any_value(body) FROM {REJECTS}
        GROUP BY ALL
        UNION ALL SELECT 'in_doubt', NULL, 'sent, and it is not known whether it arrived', NULL, count(*), NULL
        FROM {IN_DOUBT} WHERE resolution IS NULL HAVING count(*) > 0
        ORDER BY 5 DESC, 1, 2, 3 LIMIT 1000"""
    ).fetchall()
    found = dict[tuple[str, str, str, str], int]()
    for by, column, reason, hint, count, body in rows:
        said = of_response(reason, [body] if body else []) if by in ("braze", GIVEN_UP) else all_masked(reason)
        status = _STATUSES.get(by, by.replace("_", " "))
        asked = f"`retl rejects {sync.name}` has the rows, and what Braze said of each"
        is_of_braze = by in ("braze", GIVEN_UP) and body
        said, hint = (f"Braze rejected it: {said}", asked) if is_of_braze else (said, all_masked(hint or ""))
        one = (status, column or "", said, hint)
        found[one] = found.get(one, 0) + count
    for one in sorted(found, key=lambda one: (-found[one], one))[:MOST_REASONS]:
        yield SiteReject(*one, found[one])


def sent_types(layout: Layout) -> dict[str, str]:
    """What a sync sends, and its types: those of Braze, or of the column where Braze fixes its own."""
    if layout.mode.extra is Extra.CUSTOM_ATTRIBUTE:
        of_braze = "standard field"
        return {name: str(one.type or f"{of_braze}, {one.sql_type}") for name, one in attributes_of(layout).items()}
    if layout.mode.extra in (Extra.PROPERTY, Extra.CATALOG_FIELD):
        found = properties_of(layout) if layout.mode.extra is Extra.PROPERTY else fields_of(layout)
        return {name: str(of) for name, of in found.items()}
    return {column.name: column.type.text for column in layout.sent}


def sent_fields(layout: Layout) -> dict[str, str]:
    """The columns that leave the warehouse beside `sent_types`, with what they are and their types."""
    beside = {*sent_types(layout)}
    return {
        column.name: f"{'identifier' if column.role is Role.IDENTIFIER else 'field of Braze'}, {column.type.text}"
        for column in layout.sent
        if column.name not in beside
    }
