"""What the state of a sync contains, for people: its status, rows that are not in Braze, one row."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import USER
from reverse_etl.codes import IN_DOUBT as IN_DOUBT_CODE
from reverse_etl.codes import REJECTED, code_of_reason
from reverse_etl.delivery.destination import Destination
from reverse_etl.errors import BusyError, DataError, MovedError, StateError
from reverse_etl.masking import Keys, of_request, of_response
from reverse_etl.plan.elsewhere import pointer_of
from reverse_etl.plan.given_up import GIVEN_UP, WAS_IN_DOUBT
from reverse_etl.plan.outbox import identifier_of
from reverse_etl.plan.quarantine import WITHHELD
from reverse_etl.plan.tables import ACKNOWLEDGED, IN_DOUBT, PINS, REJECTS, RUN_ID, RUNS, SENT_AT
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.layout import ROW_NUMBER
from reverse_etl.records.mapping import key_text
from reverse_etl.shared_state.object_store import StoreError
from reverse_etl.shared_state.reading import left_of, look
from reverse_etl.sql.quoting import identifier
from reverse_etl.state import to_send, watermark
from reverse_etl.state.acknowledged import AcknowledgedRows
from reverse_etl.state.begun import KILLED_EARLY, killed_early
from reverse_etl.state.glance import Glances
from reverse_etl.state.opening import claimed_place, state_of
from reverse_etl.state.places import is_lost, place_of
from reverse_etl.state.state import State
from reverse_etl.state.tries import FAILED, SUCCEEDED, Tries, tries_of, waits
from reverse_etl.state.workspace import workspace_of
from reverse_etl.words import count, moment

DAMAGED, UNREACHABLE, MOVED, NEVER, RUNNING, KILLED = "damaged", "unreachable", "moved", "never", "running", "killed"
NOTED_WITHIN = timedelta(seconds=5)  # after the end of a run that is on record, its failure is noted
_CLOCKS_DIFFER = timedelta(minutes=5)  # by less, on machines that share a state; and a run may end meanwhile
WRONG = (DAMAGED, UNREACHABLE, MOVED)


@dataclass(frozen=True)
class SyncStatus:
    """The status of a sync.

    `last_run` is the status of its latest run, also of one that left no trace in the state, or `skipped` if it did not
    run since, as syncs that it runs after had not succeeded, or `running` or `never`;
    `damaged`, `unreachable` and `moved` describe its state. `failures` is how often it failed in a row; its schedule
    does not run it before `next_try`. `watermark_held_by` are rows that are not in Braze, and that every run reads
    again, with all that came after them; `given_up` rows are not in Braze either, and are not waited for. `pinned`
    values were reverted, and stay until the model returns others; the last such revert was of `pinned_run`.

    `to_send` are rows that the last run planned, and that are neither accepted nor rejected nor in doubt, with those
    that the user has decided to send again; None if no run has told, or the latest failed before it had a plan.
    `rows`, `rejected` and `in_doubt` are None if the state cannot be read now, as the sync is running or it is damaged.
    """

    sync: str
    last_run: str
    finished_at: datetime | None = None
    rows: int | None = None
    rejected: int | None = None
    in_doubt: int | None = None
    to_send: int | None = None
    message: str | None = None
    failures: int = 0
    next_try: datetime | None = None
    watermark_held_by: int = 0
    watermark_held_since: datetime | None = None
    hold: str | None = None
    given_up: int = 0
    pinned: int = 0
    pinned_run: str | None = None

    def notes(self) -> Iterator[str]:
        """What there is to say beside the table."""
        if self.message:
            yield self.message
        if self.hold:
            yield self.hold
        if self.in_doubt:
            look = f"`retl rejects {self.sync}` says which; look for them in Braze, then `retl resolve {self.sync}`"
            yield f"{count(self.in_doubt, 'row')} in doubt: {look}"
        if self.rejected:
            why = f"`retl rejects {self.sync}` says why, and what to do"
            yield f"{count(self.rejected, 'row')} not in Braze, or not whole: {why}"
        if self.given_up:
            yield f"{count(self.given_up, 'row')} given up, and not in Braze: `retl rejects {self.sync}`"
        if self.pinned:
            unpin = f"`retl revert {self.pinned_run} --unpin`"
            yield f"{count(self.pinned, 'value')} reverted and pinned: {unpin} lets the model decide again"

    def cells(self) -> tuple[object, ...]:
        finished = moment(self.finished_at) if self.finished_at else ""
        numbers = (self.rows, self.to_send, self.rejected, self.in_doubt)
        return self.sync, self.last_run, finished, *("" if one is None else f"{one:,}" for one in numbers)


def sync_status(project: LoadedProject, sync: Sync) -> SyncStatus:
    """The status of a sync. A killed run is recovered first; one that is running is left alone."""
    (status,) = statuses(project, [sync])
    return status


def statuses(project: LoadedProject, syncs: Iterable[Sync]) -> Iterator[SyncStatus]:
    """The statuses of syncs, in their order. See `sync_status`."""
    tries = tries_of(project)
    with Glances() as glances:
        for sync in syncs:
            status = with_tries(project, sync, tries, _of_state(project, sync, glances))
            status = with_killed(project, sync, status)
            at = status.finished_at
            if at and at - project.started_at > _CLOCKS_DIFFER:
                early = (
                    f"its last run, of {moment(at)}, is in the future: is the clock right? No schedule is due before"
                )
                status = replace(status, message=f"{early}; {status.message}" if status.message else early)
            yield replace(status, finished_at=at.replace(microsecond=0)) if at else status


def with_tries(project: LoadedProject, sync: Sync, tries: Tries, status: SyncStatus) -> SyncStatus:
    """The status of a sync, with how often it has failed since its last run on record, or that it was skipped."""
    found = tries.failing.get(sync.name)
    if found is None:
        return _with_skip(sync, tries, status)
    until = waits(project, tries.failing, sync, project.started_at)
    again = f"; {tries_again(project, sync, tries)}" if until else ""
    why = f": {', '.join(found.why)}" if found.why else ""
    said = f"{found.said()}{why}{again}"
    of_what = "the last run on record: " if status.finished_at else ""  # that run may be an earlier one
    what = (status.message or "").removeprefix(f"{sync.name}: ")
    message = f"{said}; {of_what}{what}" if what else said
    was_later = status.finished_at is not None and status.finished_at > found.at  # such as a killed run
    is_it = status.last_run in FAILED and status.finished_at and found.at - status.finished_at <= NOTED_WITHIN
    left = status.to_send if was_later or is_it else None  # the latest failed before it knew
    seen = replace(status, message=message, failures=found.times, next_try=until, to_send=left)
    if was_later and status.last_run in SUCCEEDED:  # on another machine, or under another name
        return status
    if was_later or status.last_run in (*FAILED, *WRONG, RUNNING):  # what fails in its model leaves no trace there
        return seen
    return replace(seen, last_run=FAILED[0], finished_at=found.at)


def with_killed(project: LoadedProject, sync: Sync, status: SyncStatus) -> SyncStatus:
    """The status of a sync, with a run since its last one that was killed before its state knew of it."""
    if status.last_run in (*WRONG, RUNNING):
        return status
    at = killed_early(place_of(project, sync))
    if at is None or (status.finished_at and status.finished_at > at):
        return status
    what = (status.message or "").removeprefix(f"{sync.name}: ")
    said = f"its last run, of {moment(at)}, was {KILLED_EARLY}"
    message = f"{said}; before that: {what}" if what else said
    return replace(status, last_run=KILLED, finished_at=at, message=message, to_send=None)


def tries_again(project: LoadedProject, sync: Sync, tries: Tries) -> str:
    """When the schedule of a failing sync runs it again, if it waits."""
    until = waits(project, tries.failing, sync, project.started_at)
    return f"its schedule tries again at {moment(until)}, or now: `retl sync {sync.name}`" if until else ""


def _with_skip(sync: Sync, tries: Tries, status: SyncStatus) -> SyncStatus:
    skipped = tries.skipped.get(sync.name)
    has_run_since = skipped and status.finished_at and status.finished_at > skipped.at
    if skipped is None or has_run_since or status.last_run in (*FAILED, *WRONG, RUNNING):
        return status
    what = (status.message or "").removeprefix(f"{sync.name}: ")
    message = f"{skipped.said()}; the last run on record: {what}" if what else skipped.said()
    return replace(status, last_run="skipped", finished_at=skipped.at, message=message, to_send=None)


def _of_state(project: LoadedProject, sync: Sync, glances: Glances) -> SyncStatus:
    try:
        if not is_there(project, sync):
            return SyncStatus(sync.name, NEVER, rows=0, rejected=0, in_doubt=0)
        with glances.at(claimed_place(project, sync)) as seen:
            if seen is not None:
                return status_in(seen, sync, glances.meta)
        with state_of(project, sync) as state:
            return status_in(state.connection, sync)
    except (BusyError, StateError) as error:
        return status_unread(sync, error)


def status_unread(sync: Sync, error: BusyError | StateError) -> SyncStatus:
    """The status of a sync whose state cannot be read, for this reason: its numbers are not known."""
    if isinstance(error, BusyError):
        return SyncStatus(sync.name, RUNNING, message=error.problems[0].message)
    if isinstance(error, StoreError):
        return SyncStatus(sync.name, UNREACHABLE, message=str(error))
    if isinstance(error, MovedError):
        return SyncStatus(sync.name, MOVED, message=str(error).removeprefix(f"{sync.name}: "))
    # S009: for want of disk or memory, nothing is known of it
    cannot_be_read = error.problems[0].code == "S009"
    return SyncStatus(sync.name, UNREACHABLE if cannot_be_read else DAMAGED, message=str(error))


def is_there(project: LoadedProject, sync: Sync) -> bool:
    """Whether a sync has a state, here or in its object store; or had one, which is missing."""
    place = place_of(project, sync)
    if place.state.exists() or place.mark.exists() or is_lost(place):
        return True
    return place.objects is not None and (look(place.objects) is not None or bool(left_of(place.objects)))


def status_in(connection: DuckDBPyConnection, sync: Sync, meta: Mapping[str, str] | None = None) -> SyncStatus:
    """The status of a sync, by its state, which is attached; `meta` is what is known of that, if it has been read."""
    some = ", ".join(f"EXISTS (FROM {table})" for table in (REJECTS, IN_DOUBT, PINS))  # of most states, none
    last_run = """{'status': status, 'at': strftime(finished_at, '%Y-%m-%dT%H:%M:%S.%f'), 'message': message}"""
    last_run = f"SELECT arg_max({last_run}, finished_at) FROM {RUNS}"
    has_rejects, has_doubts, has_pins, last = connection.execute(f"SELECT {some}, ({last_run})").fetchall()[0]
    which = f"rejected_by NOT IN ('{WITHHELD}', '{GIVEN_UP}')", f"rejected_by = '{GIVEN_UP}'"
    rejects, given_up = (_rows_listed(connection, one) if has_rejects else 0 for one in which)
    in_doubt = _number(connection, f"SELECT count(*) FROM {IN_DOUBT} WHERE resolution IS NULL") if has_doubts else 0
    rows = AcknowledgedRows(connection, sync.name).count_acknowledged(meta)
    status, finished, message = last.values() if last else (NEVER, None, None)
    at = datetime.fromisoformat(finished).replace(tzinfo=UTC) if finished else None
    pinned, pinned_run = 0, None
    if has_pins:
        pinned, pinned_run = connection.execute(f"SELECT count(*), max(run_id) FROM {PINS}").fetchall()[0]
    found = SyncStatus(
        *(sync.name, status, at, rows, rejects, in_doubt, to_send.to_send(connection, meta), message),
        given_up=given_up,
        pinned=pinned,
        pinned_run=pinned_run,
    )
    mark = watermark.read(connection) if sync.incremental else None
    hold = (
        watermark.holds(connection, mark, sync.incremental.lookback, sync.name) if mark and sync.incremental else None
    )
    if mark is None or hold is None or mark.held_since is None:
        return found
    since = datetime.fromisoformat(mark.held_since).replace(microsecond=0)
    return replace(found, watermark_held_by=mark.held, watermark_held_since=since, hold=hold)


def _rows_listed(connection: DuckDBPyConnection, which: str) -> int:
    """How many rows are listed as not in Braze; one has a line for each rule that it breaks."""
    lines = f"SELECT key, count(*) AS rows FROM {REJECTS} WHERE {which} GROUP BY key, rejected_by, column_name"
    by_key = f"SELECT max(rows) AS rows FROM ({lines}) GROUP BY key"
    return _number(connection, f"SELECT CAST(coalesce(sum(rows), 0) AS BIGINT) FROM ({by_key})")


def rows_not_in_braze(project: LoadedProject, sync: Sync, show_values: bool) -> list[dict[str, Any]]:
    """Rows that should be in Braze but are not, or may not be; with records, and with nothing masked, if `show_values`.
    An invalid row is listed once for each column that breaks a rule. `identifier` is that of the row's user, where the
    key is a digest of the row, or NULL; or where the key is not one, and the record that was sent says who it is.

    `status` is invalid, left_out (sent without the column), withheld, rejected (by Braze), in_doubt or given_up;
    `resolution` is what a user decided about a row in doubt.
    """
    resolve = f"`retl resolve {sync.name}`"
    with state_of(project, sync) as state:
        cursor = state.connection.execute(
            f"""SELECT key, identifier, kind,
                CASE rejected_by WHEN 'retl' THEN 'invalid' WHEN 'braze' THEN 'rejected'
                    WHEN 'left_out' THEN 'left_out' WHEN 'given_up' THEN 'given_up' ELSE 'withheld' END AS status,
                NULL AS resolution, column_name AS "column",
                CASE WHEN rejected_by IN ('braze', 'given_up') AND body IS NOT NULL
                    THEN CASE WHEN starts_with(reason, $was_in_doubt) THEN '{IN_DOUBT_CODE}' ELSE '{REJECTED}' END
                END AS code,
                reason,
                coalesce(hint, CASE WHEN rejected_by = 'given_up' THEN $given_up
                    WHEN rejected_by = 'braze' AND kind <> 'removed' THEN $rejected END) AS hint,
                run_id AS run,
                body AS record
            FROM {REJECTS}
            UNION ALL
            SELECT key, identifier, kind, 'in_doubt', resolution, NULL, '{IN_DOUBT_CODE}',
                coalesce(reason, 'sent, but no response received'),
                CASE WHEN resolution IS NULL THEN $in_doubt END, run_id, body
            FROM {IN_DOUBT}
            ORDER BY ALL""",
            {
                "was_in_doubt": WAS_IN_DOUBT,
                "in_doubt": f"check in Braze, then run {resolve} with --resend or --mark-accepted",
                "rejected": _of_rejected(sync, state.connection),
                "given_up": f"not sent until it changes; to send it as it is, run {resolve} with --resend --key KEY",
            },
        )
        names = [column[0] for column in cursor.description or ()]
        rows, keys = cursor.fetchall(), state.keys(in_full=show_values)
        return [_as_shown(dict(zip(names, row, strict=True)), keys, sync.mode.about == USER) for row in rows]


def _of_rejected(sync: Sync, connection: DuckDBPyConnection) -> str | None:
    """What to do about rows that Braze has rejected. To send them again as they are is named where that doubles, opts
    in and deletes nothing: it is done for all rejected rows of the sync, and for those in doubt that are not held."""
    if sync.mode.ends:
        return None
    changes = "correct it: it is sent again when it changes"
    consent = [field.name for field in sync.mode.fields if field.consent]
    members = "json_keys(CASE WHEN json_valid(body) AND json_type(body) = 'OBJECT' THEN body END)"
    others = f"(kind = 'removed' OR list_has_any({members}, $names))"
    found = f"SELECT 1 FROM {REJECTS} WHERE rejected_by = 'braze' AND {others} LIMIT 1"
    if sync.on_in_doubt != "hold" or connection.execute(found, {"names": consent}).fetchall():
        return changes
    return f"{changes}; to send it as it is, run `retl retry {sync.name}`"


def _as_shown(row: Mapping[str, Any], keys: Keys, of_user: bool) -> dict[str, Any]:
    """A row that is not in Braze, with its key, identifier, reason and record as they are shown."""
    is_named = not of_user or _IDENTIFIERS & {*keys.columns}
    who = row["identifier"] or (None if is_named else _who(row["record"]))
    shown = {**row, "key": keys.shown(row["key"]), "identifier": identifier_of(who, keys)}
    shown["code"] = row["code"] or code_of_reason(row["reason"])
    if keys.in_full:
        return shown
    if row["status"] == "rejected" or (row["status"] == "given_up" and row["record"] is not None):
        shown["reason"] = of_response(row["reason"], [row["record"]])
    elif row["status"] == "in_doubt":
        shown["reason"] = of_request(row["reason"], [row["record"]])
    del shown["record"]
    return shown


_IDENTIFIERS = {"external_id", "user_alias", "alias_name", "braze_id", "email", "phone"}


def _who(record: str | None) -> str | None:
    """The identifier of the user whom a record is about, as JSON; None if it is about none, or not an object."""
    try:
        sent = json.loads(record or "null")
    except (ValueError, RecursionError):
        return None
    named = ("external_id", "user_alias", "braze_id", "email", "phone")  # the first of them says who it is
    found = next((name for name in named if isinstance(sent, dict) and sent.get(name)), None)
    return json.dumps({found: sent[found]}) if found else None


def another_workspace(project: LoadedProject, sync: Sync, destination: Destination) -> str | None:
    """What tells the destination of a target from the workspace that a state is of; None if nothing does."""
    with state_of(project, sync) as state:
        try:
            state.rows.refuse_other_workspace(destination, project.spec.in_target("destination"))
        except StateError as error:
            return str(error)
    return None


def describe_state(project: LoadedProject, sync: Sync) -> dict[str, Any]:
    """What a state contains, without any row."""
    with state_of(project, sync) as state:
        runs = _number(state.connection, f"SELECT count(*) FROM {RUNS}")
        columns = ", ".join(f"{name} {of}" for name, of in state.rows.columns().items() if name != ROW_NUMBER)
        key = ["position among identical rows" if name == ROW_NUMBER else name for name in state.rows.key()]
        return {
            "sync": sync.name,
            "target": project.target_name,
            "workspace": ", ".join(workspace_of(state.connection).places),
            "rows_in_braze": state.rows.count_acknowledged(),
            "primary_key": ", ".join(key),
            "columns": columns,
            "runs": runs,
            **_watermark(state),
            **_tables(state),
            "folder": str(state.place.folder),
            **({"shared_state": objects.url} if (objects := state.place.objects) else {}),
        }


def _tables(state: State) -> dict[str, Any]:
    """The tables of the warehouse that have the acknowledged rows, if it has them."""
    pointer = pointer_of(state.rows.meta())
    return {"tables": ", ".join(f"{pointer.schema}.{table.name}" for table in pointer.tables)} if pointer else {}


def _watermark(state: State) -> dict[str, Any]:
    mark = watermark.read(state.connection)
    if mark is None:
        return {}
    open_from = f", except rows from {mark.open_from} on that are not in Braze" if mark.open_from else ""
    forgotten = f"; rows up to {mark.forgotten} were pruned" if mark.forgotten else ""
    return {"watermark": f"{mark.column} {mark.highest}{open_from}{forgotten}"}


def acknowledged_row(project: LoadedProject, sync: Sync, key: str) -> Mapping[str, Any]:
    """The acknowledged row with a key: values, when and by which run it was sent. Raises DataError if there is none."""
    with state_of(project, sync) as state:
        columns, key = [*state.rows.columns(), SENT_AT, RUN_ID], state.key_meant(key)
        text = key_text_of(state)
        shown = ", ".join(f"CAST({identifier(name)} AS VARCHAR)" for name in columns)
        row = None
        if text:
            with state.shown([key]):
                row = state.connection.execute(
                    f"SELECT {shown} FROM {ACKNOWLEDGED} WHERE {text} = ? AND {SENT_AT} IS NOT NULL", [key]
                ).fetchone()
    if row is None:
        hint = f"`retl state show {sync.name}` shows the primary key; write several columns as a JSON array"
        raise DataError(f'{sync.name}: no acknowledged row with the key "{key}"', hint=hint, code="D006")
    return dict(zip(columns, row, strict=True))


def key_text_of(state: State) -> str | None:
    """SQL for the primary key of an acknowledged row as shown to people; None before the first run."""
    key = state.rows.key()
    return key_text(key, identifier) if key else None


def _number(connection: DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0
