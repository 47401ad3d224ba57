"""The state of a sync, in a folder of its own.

    .retl/<target>/<sync>/          (or <state.path>/<target>/<sync>/)
      state.duckdb     state (acknowledged rows), rejects, in_doubt, runs, meta
      ledger/          what runs have changed: see the package
      outbox.duckdb    changes and outbox of this run; with the journal, it is all that a killed run leaves behind
      journal.jsonl    requests and responses
      lock             which process is running the sync
      has-run          says that there is a state, and which run it knows, should that be lost or an older one

A run begins with an empty outbox, fills it, sends it, and ends when its journal is committed (`commit.py`). A run that
was killed is committed when the state is opened again (`recovery.py`); committing a run twice changes nothing. If the
state is in an object store, these files are a copy of it, and `shared_state/` uploads and downloads them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from reverse_etl.braze.modes import ENDING_MODES
from reverse_etl.delivery.destination import Destination
from reverse_etl.delivery.journal import Journal
from reverse_etl.engines.duckdb.diff import first_changes_sql
from reverse_etl.engines.engine import First, Suspicion
from reverse_etl.ledger.files import Ledger
from reverse_etl.ledger.lines import LINES
from reverse_etl.masking import NO_KEY, Keys, digests_in
from reverse_etl.plan.actions import Intent, action_sql, reduced_action_sql
from reverse_etl.plan.elsewhere import Asked, Pointer
from reverse_etl.plan.outbox import OPTS_IN
from reverse_etl.plan.quarantine import WAITS_UNTIL, has_quarantine, with_waits
from reverse_etl.plan.tables import ACKNOWLEDGED, CHANGES, IN_DOUBT, OUTBOX, REJECTS, SLICE, STATE
from reverse_etl.plan.workbench import connect, store_packed
from reverse_etl.project.spec import Sync
from reverse_etl.records.blank import blank_outbox
from reverse_etl.records.computed import computed, types_read
from reverse_etl.records.consent import (
    CARRIED,
    CARRIED_REDUCED,
    Consent,
    consent_columns,
    reduced,
    reduced_layout,
    weighed,
    withheld_reasons,
)
from reverse_etl.records.expressions import respelled_keys, was
from reverse_etl.records.identity import HASH_DIGITS, TAG_DIGITS, WHO, tag_sql
from reverse_etl.records.layout import Layout
from reverse_etl.records.left_out import with_old
from reverse_etl.records.mapping import order_sql, outbox_sql
from reverse_etl.records.merging import KEPT_IS_GONE
from reverse_etl.records.renaming import IN_A_CHAIN, fields_of
from reverse_etl.records.rules import number_of, rules
from reverse_etl.shared_state.copies import LocalOnly, SharedCopy
from reverse_etl.shared_state.object_store import StoreError
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql.database import detach_whole
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state.acknowledged import AcknowledgedRows
from reverse_etl.state.backups import NEXT, drop_next
from reverse_etl.state.commit import Ending, commit_run
from reverse_etl.state.contents import columns_of, meta_of, set_meta, set_version
from reverse_etl.state.deleted import ENDING, HAS_DELETED, NONE, PEOPLE, refuse_merges, skip_deleted
from reverse_etl.state.elsewhere import Elsewhere, elsewhere_of, has_slice
from reverse_etl.state.erasing import (
    SEEN,
    drop_erased,
    drop_erased_rows,
    erased_rows,
    hash_deleted,
    people_in,
    suppress,
)
from reverse_etl.state.erasures import HASHES, NEAR, erasures_of, is_erased
from reverse_etl.state.file import attach, rename_words
from reverse_etl.state.keys import SALT, key_meant, keys_of
from reverse_etl.state.open_run import OpenRun
from reverse_etl.state.outcomes import WITH_OUTCOMES, DeliveryCounts
from reverse_etl.state.recovery import recover
from reverse_etl.state.renamed import Renamed, move_keys, refuse_chains, refuse_old_ids, to_move
from reverse_etl.state.renamed import load as load_renamed
from reverse_etl.state.rows_table import FILE_FORMAT
from reverse_etl.state.workspace import next_workspace, of_meta
from reverse_etl.system.clock import Clock, when_free

LOOKERS_ARE_GONE_S = 2.0
_NOT_RENDERED = "CAST(NULL AS VARCHAR) AS envelope, CAST(NULL AS VARCHAR) AS body, 0 AS attributes, 0 AS data_points"


class State:
    """An open state: the acknowledged `rows`, the open `run`, and the `copy` that other machines see.

    `connection` is the workbench, to which both are attached. `recovered` is what was recovered of a killed run, if
    there was one; `moved`, how many of its rows have another external id now; `dead_owner` is the process that held the
    lock and ended without releasing it.
    """

    def __init__(
        self,
        place: StatePlace,
        copy: LocalOnly | SharedCopy,
        clock: Clock,
        memory_limit: str | None = None,
        renamed: Sequence[Renamed] = (),
    ) -> None:
        self.place, self.copy, self.clock = place, copy, clock
        self.dead_owner = copy.dead_owner
        self.connection = connect(place.folder, memory_limit)
        self.rows = AcknowledgedRows(self.connection, place.sync)
        self.run = OpenRun(self.connection, place.folder)
        self.ledger = Ledger(self.connection, place)
        self.erasures = erasures_of(place)
        self.elsewhere: Elsewhere | None = None
        self.destination: Destination | None = None  # that it is compared with, as it was when that began
        self.dropped: Mapping[str, int] = {}  # rows about users who were erased, by table
        self.erased_lines = 0  # of the ledger, about these
        self._next: Path | None = None  # the file that takes the place of the state
        self._salt: str | None = None  # of the digests of keys, once it is known
        self._suppressed: str | None = None  # the version of the erasures that the open run was compared with
        try:
            copy.prepare(self.connection)
            self._attach()
            self.elsewhere = elsewhere_of(self.connection, place)
            self.recovered = recover(self.connection, self.run, copy, place, self.ledger, clock.utc(), self.elsewhere)
            if copy.catch_up(self.connection):
                rename_words(self.connection)
            self.ledger.take_up(clock.utc())
            self.moved = self._move_renamed(renamed)
            self._drop_erased()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.copy.close(self.connection)
        self.connection.close()
        if self._next:
            drop_next(self.place.folder)
        if self.elsewhere:
            self.elsewhere.close()

    @property
    def acknowledged(self) -> str:
        """The table that has the acknowledged rows which the open run may change."""
        return SLICE if self.elsewhere and has_slice(self.connection) else ACKNOWLEDGED

    def write_outbox(self, layout: Layout, changes: str, intent: Intent, consent: Consent) -> None:
        """Store the records of `changes`, a SELECT, in the open run, with what is to be done with each. A second call
        takes the place of the first."""
        there = columns_of(self.connection, CHANGES)
        if not self._holds(CHANGES):
            columns = self._columns(layout, there)
            self.run.write_blank(columns)
            known = [(f"new.{name}", of) for name, of in self.rows.columns().items()]
            self.run.keeps_columns = known == [one for one in columns.items() if one[0].startswith("new.")]
            self.run.describe(layout, (), ())
            return
        if intent is not Intent.BASELINE:
            store_packed(self.connection, self._rows(CHANGES))
        changes = with_old(layout, changes, there)
        has_consent = bool(consent_columns(layout))
        carried = CARRIED if has_consent else ()
        weighed_changes = weighed(layout, changes, consent) if has_consent else changes
        self.run.write_outbox(layout, self._records(layout, weighed_changes, intent, carried))
        if has_consent:
            again = reduced_action_sql(intent, self._rejected_by())
            alone = outbox_sql(reduced_layout(layout), reduced(layout, changes, consent), CARRIED_REDUCED)
            key = f"coalesce(key, {literal(NO_KEY)}) AS key"
            selected = f"SELECT * REPLACE ({key}), {again} AS action FROM (\n{alone}\n) WHERE problems IS NULL"
            blocks = [] if layout.sync.skip_on_invalid_records else ["action = 'invalid'"]
            self.run.add_opt_outs(selected, intent, [*blocks, *([OPTS_IN] if consent.is_unknown else [])])
        self.run.describe(layout, rules(layout), withheld_reasons(layout))

    def write_first(
        self, layout: Layout, changes: str, there: Collection[str], intent: Intent, write: Callable[[First], int | None]
    ) -> int | None:
        """Store the records of a first run. `changes`, of whose columns `there` are the names, is a SELECT that has the
        model in it: `write` runs the statement with it, and returns how many rows there are.

        None if it returns None, as the rows have to be written as changes first.
        """
        follow = computed(layout, is_rendered=intent is not Intent.BASELINE)
        self.run.create_outbox(self._columns(layout, types_read(layout)), follow)
        records = self._records(layout, with_old(layout, changes, there), intent, computed=follow)
        statement = f"INSERT INTO {OUTBOX} BY NAME\n{records}"
        rows = write(First(statement, OUTBOX, first_changes_sql(layout)))
        if rows is not None:
            self.run.streamed = True
            self.run.written(layout, is_blank=not rows)
            self.run.describe(layout, rules(layout), ())
        return rows

    def write_judged(self, layout: Layout, changes: str, some: bool) -> None:
        """Store the records of a baseline of which something is to be said, if there are `some`."""
        self.run.streamed = True
        if some:
            self.run.write_outbox(layout, self._records(layout, changes, Intent.BASELINE))
        else:
            there = columns_of(self.connection, CHANGES)
            there |= {was(name): there[f"new.{name}"] for name in respelled_keys(layout)}
            self.run.write_blank(blank_outbox(layout, there))
        self.run.describe(layout, rules(layout) if some else (), ())

    def _columns(self, layout: Layout, changes: Mapping[str, str]) -> dict[str, str]:
        """The columns of the outbox, and their types, given those of the changes."""
        columns = blank_outbox(layout, changes)
        return columns | {WAITS_UNTIL: "TIMESTAMPTZ"} if has_quarantine(layout) else columns

    def _records(
        self,
        layout: Layout,
        changes: str,
        intent: Intent,
        carried: Sequence[str] = (),
        computed: Collection[str] = (),
    ) -> str:
        """A SELECT of the records of changes, in the order in which they are sent, with the action of each; without
        columns that are computed from the others."""
        action = action_sql(layout, intent, self._holds(IN_DOUBT), self._rejected_by())
        records = outbox_sql(layout, changes, carried)
        if intent is Intent.BASELINE:  # of which nothing is sent
            records = f"SELECT * REPLACE ({_NOT_RENDERED}) FROM (\n{records}\n)"
        actions = with_waits(layout, f"SELECT *, {action} AS action FROM (\n{records}\n) AS o")
        if computed:
            actions = f"SELECT * EXCLUDE ({', '.join(map(identifier, computed))}) FROM (\n{actions}\n)"
        return f"{actions}\n{order_sql(layout)}"

    def _rejected_by(self) -> set[str]:
        found = self.connection.execute(f"SELECT DISTINCT rejected_by FROM {REJECTS}").fetchall()
        return {one for (one,) in found}

    def heed_erasures(self, layout: Layout, everything: bool = False) -> None:
        """Keep records about users who were erased from being sent, and from being deleted again, unless `everything`
        is."""
        if not layout.mode.ends:
            self.suppress()
        elif not everything:
            self.run.is_reduced |= skip_deleted(self.connection, self.erasures)
        if fields_of(layout) and not self.run.is_blank:
            refuse_chains(self.connection, layout, number_of(rules(layout), IN_A_CHAIN))
        if layout.mode.keeps and not self.run.is_blank:
            refuse_merges(self.connection, self.erasures, number_of(rules(layout), KEPT_IS_GONE))

    def suppress(self) -> bool:
        """Keep records about users who were erased from being sent; whether the open run may have changed by that."""
        version = self.erasures.version
        if version in ("", self._suppressed):
            return False
        if self.run.facts()["mode"] in ENDING_MODES:
            return False  # whoever was erased elsewhere is to be deleted, too
        suppress(self.connection, self.erasures)
        self._suppressed = version
        return True

    def reserve(self, layout: Layout) -> Pointer | None:
        """Where a baseline may write all rows of its model in the warehouse; None if they have to come here: those of a
        state that has rows, or has to compare them with what it knows of others, and of modes of which it keeps more
        than rows."""
        comes_here = layout.cursor or layout.whole_row or consent_columns(layout) or fields_of(layout)
        knows_more = self.rows.types() or self.has_renamed or self._holds(IN_DOUBT) or self._holds(REJECTS)
        if self.elsewhere is None or comes_here or layout.mode.ends or layout.mode.keeps or knows_more:
            return None
        with self.changing():
            return self.elsewhere.reserve()

    def name_tables(self) -> None:
        """Record how the tables of a new state will be called in the warehouse, before there are any."""
        if self.elsewhere and not self.elsewhere.is_named:
            with self.changing():
                self.elsewhere.reserve()

    def suspicion(self) -> Suspicion:
        """Which records may be about somebody who was erased."""
        if not self.erasures.version:
            return Suspicion()
        self.erasures.load(self.connection)
        tags = f"SELECT left(line, {TAG_DIGITS}) FROM {HASHES}"
        return Suspicion(
            f"coalesce({tag_sql(identifier(WHO))} IN ({tags}), false)", {"tags": self.erasures.parameters["tags"]}
        )

    def keys(self, columns: Sequence[str] = (), in_full: bool = False) -> Keys:
        """How keys are shown: those of these columns, or without them those of the last run."""
        if not columns or self._salt is None:
            known = dict(self.rows.meta()) | ({SALT: self._salt} if self._salt else {})
            keys = keys_of(self.connection, columns, in_full, known)
            self._salt = keys.salt
            return keys
        return Keys(tuple(columns), self._salt, in_full)

    def note_workspace(self, destination: Destination) -> None:
        """Record in the open run where it is sent; it becomes that of the state when the run is committed."""
        self.run.note_workspace(next_workspace(of_meta(self.rows.meta()), destination))

    def journal(self) -> Journal:
        """The journal of the open run. From here on its records may be sent."""
        self.run.release()
        return self.copy.journal(self.run.journal_path, self.run.run_id(), self.run.outbox_path)

    def while_held(self, stop: Callable[[str, str], None]) -> AbstractContextManager[None]:
        """Inside the block, `stop` is called, with a reason and a hint, as soon as another machine may take over."""
        return self.copy.stopping(stop)

    def finish(self, ending: Ending, moves_state: bool = True) -> DeliveryCounts:
        """Commit the open run and drop it. See `commit_run`.

        Raises StateError if the state is shared and cannot be uploaded: then the run is recorded on this machine only.
        """
        self.copy.will_change()
        of_deletes = f"{OUTBOX} WHERE call IN ({ENDING}) AND action = 'send'"
        deletes = moves_state and not self.run.is_blank and self._holds(of_deletes)
        try:
            delivery = commit_run(
                self.connection, self.run, ending, self.erasures, self.ledger, moves_state, self.elsewhere
            )
        except StoreError as error:  # of its ledger
            counted = f"SELECT count(*) FROM {WITH_OUTCOMES} WHERE outcome = 'accepted'"
            raise self.copy.not_moved(error, *self.connection.execute(counted).fetchall()[0]) from error
        self._take_next()
        if deletes:
            self._drop_deleted()
        self.copy.ended(self.connection, delivery.accepted)
        if self.elsewhere:
            self.elsewhere.tidy()
        self.ledger.settle()
        self.run.drop()
        return delivery

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Change the state inside the block, outside a run; machines that share it see that when the block ends."""
        self.copy.will_change()
        yield
        self.copy.changed(self.connection)
        self.ledger.settle()

    @contextmanager
    def shown(self, keys: Collection[str], *asked: Asked) -> Iterator[None]:
        """Inside the block, the state has the acknowledged rows with these keys, as people see them, and those that may
        be among those asked for, wherever they are. Nothing is changed there."""
        if self.elsewhere is None:
            yield
            return
        self.keys()  # whose salt would go with what is shown
        with self.elsewhere.shown(keys, *asked):
            if self._is_copied and people_in(self.connection).get(ACKNOWLEDGED):
                drop_erased_rows(self.connection, self.erasures, ACKNOWLEDGED)
            yield

    def key_meant(self, key: str) -> str:
        """See `key_meant` of `keys.py`."""
        salt, digests = self.keys().salt or "", digests_in(key)
        with self.shown((), Asked(digests, "digest", salt)) if digests else nullcontext():
            return key_meant(self.connection, self.place.sync, key)

    @property
    def _is_copied(self) -> bool:
        return bool(self.place.rows and self.place.rows.is_copied)

    def begin_next(self) -> None:
        """Go on in a copy of the state, which takes its place when the open run is committed."""
        self._next = self._copied()
        detach_whole(self.connection, STATE)
        (self.place.folder / "state.duckdb.wal").unlink(missing_ok=True)  # which belongs to no other file
        self.connection.execute(f"ATTACH {literal(str(self._next))} AS {STATE}")

    def _take_next(self) -> None:
        if self._next:
            detach_whole(self.connection, STATE)
            self._next.replace(self.place.state)
            self._next = None
            self._attach()

    def _copied(self) -> Path:
        """A copy of the state file, without the bytes of deleted rows."""
        fresh = self.place.folder / NEXT
        fresh.unlink(missing_ok=True)
        self.connection.execute(f"ATTACH {literal(str(fresh))} AS retl_next ({FILE_FORMAT})")
        self.connection.execute(f"COPY FROM DATABASE {STATE} TO retl_next")
        detach_whole(self.connection, "retl_next")
        return fresh

    def rewrite(self) -> None:
        """Rewrite the state file, so that its bytes no longer contain deleted rows."""
        fresh = self._copied()
        self.connection.execute(f"DETACH {STATE}")
        fresh.replace(self.place.state)
        (self.place.folder / "state.duckdb.wal").unlink(missing_ok=True)
        self._attach()

    def _move_renamed(self, renamed: Sequence[Renamed]) -> int:
        """Move the rows of users who have another id by now; before whoever has none any more is dropped."""
        self.has_renamed = bool(renamed) and load_renamed(self.connection, renamed)
        runs = to_move(self.connection) if self.has_renamed else []
        if not runs or self._is_copied:
            return 0
        self.copy.will_change()
        moved = move_keys(self.connection, runs, self.elsewhere)
        self.copy.changed(self.connection)
        if self.elsewhere:
            self.elsewhere.tidy()
        return moved

    def refuse_old_ids(self, sync: Sync) -> None:
        """Raises StateError if the open run would send rows under ids that were renamed."""
        if self.has_renamed and not self.run.is_blank:
            refuse_old_ids(self.connection, sync)

    def _drop_deleted(self) -> None:
        """Let whom the run has deleted be in no byte of the file, nor of the ledger. A file that never had more than
        hashes stays."""
        self.ledger.erase(f"SELECT {identifier(WHO)} FROM {WITH_OUTCOMES} WHERE {HAS_DELETED}")
        meta, has_people = meta_of(self.connection), bool(people_in(self.connection))
        if not has_people and meta.get(PEOPLE) == NONE:
            return
        self.rewrite()
        if meta.get("mode") in ENDING_MODES and not has_people:
            set_meta(self.connection, {PEOPLE: NONE})

    def _drop_erased(self) -> None:
        """Drop who was erased since the state was last open, from its file and from where other machines see it."""
        meta = meta_of(self.connection)
        is_unseen = meta.get(SEEN, "") != self.erasures.version
        elsewhere = self._erase_elsewhere(meta.get("mode")) if is_unseen else 0
        self.erased_lines = self._erase_from_ledger() if is_unseen else 0
        deleted = hash_deleted(self.connection, self.erasures, self.clock.utc(), self.place.suppresses, meta)
        self.dropped = drop_erased(self.connection, self.erasures, meta)
        if elsewhere:
            self.dropped = {**self.dropped, ACKNOWLEDGED: elsewhere}
        is_new = meta.get(SEEN, "") != self.erasures.version
        has_deleted = self.recovered is not None and is_new
        if self.dropped or deleted or self.erased_lines or has_deleted:
            self.copy.will_change()
            self.rewrite()
            self.copy.changed(self.connection)
        self.ledger.settle()

    def _erase_elsewhere(self, mode: str | None) -> int:
        """Let no table of the warehouse name who was erased; returns how many acknowledged rows these were. What this
        state has seen of the erasures is recorded after it."""
        if self.elsewhere is None or self._is_copied or mode in ENDING_MODES:
            return 0
        connection, erasures = self.connection, self.erasures
        erasures.load(connection, pending=False)
        self.copy.will_change()
        connection.execute("BEGIN")
        try:
            rows = self.elsewhere.erase(self._erased(), partial(erased_rows, connection, erasures), "erased")
            if rows:
                set_version(connection, f"erased-{erasures.version}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        self.copy.changed(connection)
        self.elsewhere.drop_replaced()
        return rows

    def count_erased(self, hashes: Collection[str]) -> int:
        """How many rows in the warehouse are about somebody with one of these hashes, who was erased; also rows that
        were replaced, or are gone."""
        if self.elsewhere is None:
            return 0
        self.erasures.load(self.connection)
        theirs = f"right(line, {HASH_DIGITS}) NOT IN (SELECT unnest($hashes::VARCHAR[]))"
        self.connection.execute(f"DELETE FROM {HASHES} WHERE {theirs}", {"hashes": list(hashes)})
        return self.elsewhere.count(self._erased(), partial(erased_rows, self.connection, self.erasures))

    def _erased(self) -> Asked:
        """Who is in HASHES."""
        found = self.connection.execute(f"SELECT DISTINCT left(line, {TAG_DIGITS}) FROM {HASHES}").fetchall()
        return Asked([tag for (tag,) in found], "tag", str(self.erasures.parameters["tags"]))

    def _erase_from_ledger(self) -> int:
        """Drop the lines about whoever was erased; returns how many these were."""
        if not self.ledger.names():
            return 0
        self.erasures.load(self.connection, pending=False)
        with self.ledger.opened():
            is_erased(self.connection, self.erasures, f"SELECT DISTINCT who AS row, who FROM {LINES}")
        self.copy.will_change()
        return self.ledger.erase(f"SELECT row FROM {NEAR}")

    def _attach(self) -> None:
        """This process holds the lock, so another one only reads the file (`retl run-due`), and soon closes it."""
        attempt = partial(attach, self.connection, self.place)
        when_free(attempt, LOOKERS_ARE_GONE_S, Clock(), lambda _: None)

    def _rows(self, table: str) -> int:
        return int(self.connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])

    def _holds(self, rows: str) -> bool:
        return bool(self.connection.execute(f"SELECT 1 FROM {rows} LIMIT 1").fetchall())
