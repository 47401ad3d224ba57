"""The state file: created, recognized, migrated to the current format, or refused with a hint.

format 1    as first released
format 2    runs.scheduled_time: the scheduled time of a run
            state._retl_unsure: columns that were sent without a response
format 3    other names in runs and in_doubt: of statuses, keys of counts, and resolutions
format 4    in_doubt.reason: why a row is in doubt
format 5    rejects.identifier, in_doubt.identifier: the user of a row whose key is a digest of the whole row
format 6    opt_outs: who has opted out, of what, and since when
            deleted: hashes of the users that a users_delete sync has deleted, instead of their acknowledged rows
format 7    opt_outs.is_unclear: whether Braze may have an opt-out otherwise
format 8    rejects.cursor: of a row that is given up
            state._retl_absent_since: since when a row is not in the model
format 9    runs: where each came from, and the files of its ledger
            sqls: compiled SQL of models
format 10   meta.rows_elsewhere: which tables of the warehouse have the acknowledged rows, if the state has none
"""

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.errors import WRITING, in_words, lacks_room, locked
from reverse_etl.errors import StateError
from reverse_etl.plan.tables import ACKNOWLEDGED, META, RUNS, STATE
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql import database
from reverse_etl.sql.quoting import literal, statement
from reverse_etl.state import opt_outs
from reverse_etl.state.rows_table import FILE_FORMAT
from reverse_etl.system.clock import Clock
from reverse_etl.system.memory import HINT, is_out_of_memory

FORMAT = 10
STATE_FILES = ("state.duckdb", "state.duckdb.wal", "outbox.duckdb", "outbox.duckdb.wal", "journal.jsonl")
COPY = ".copy-"  # how the name of a folder begins that has a copy of a state for somebody who reads it
COPIES_FOR = timedelta(minutes=10)  # it takes a moment
_META = f"{META}"
WENT_WELL = "('success', 'incomplete')"  # everything that could be sent was sent
_OF_DAMAGE = (duckdb.IOException, duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
_KEPT = "then run again: responses received so far are recorded in the folder, and the next run applies them"
_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


def attach(connection: DuckDBPyConnection, place: StatePlace) -> None:
    """Attach the state of a sync; create it if it does not exist.

    A file that was moved here from a former name gets the present one. One in an older format is migrated to the
    current one, and the old file is kept next to it. Raises StateError, and changes nothing, if the file is damaged,
    has a newer format, or belongs to something else.
    """
    path, sync, target = place.state, place.sync, place.target
    if not path.exists():
        _make(connection, path, sync, target)
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS {STATE}")
        meta = _meta(connection)
    except duckdb.Error as error:
        if lacks_room(error):
            raise
        what = f"cannot use {path}: {str(error).splitlines()[0]}"
        hint = f"{place.restore}; or {place.start_over}"
        if "ermission denied" in what or "ead-only" in what:
            hint = "make it writable for the current user"
        raise locked(error, path) or StateError(what, hint=hint, code="S006") from error
    if "format" not in meta:
        raise StateError(
            f"{path} is not a retl state file", hint=f"restore the right file, or {place.start_over}", code="S006"
        )
    if int(meta["format"]) > FORMAT:
        what = f"{path} was written by a newer version of retl (format {meta['format']}; this version reads {FORMAT})"
        raise StateError(what, hint="upgrade retl: nothing is lost", code="S007")
    if (meta["sync"], meta["target"]) in place.formers:  # a crash came between its move and its name
        connection.execute(f"INSERT OR REPLACE INTO {_META} {_names(place)}")
    elif (meta["sync"], meta["target"]) != (sync, target):
        what = f'{path} belongs to sync "{meta["sync"]}" on target "{meta["target"]}"'
        raise StateError(
            what, hint="restore the right file: the state of one sync says nothing about another", code="S008"
        )
    for old in range(int(meta["format"]), FORMAT):
        _migrate(connection, path, old)


def is_blank(path: Path) -> bool:
    """Whether no run has left anything in a state file; false if that cannot be told."""
    if path.with_name("outbox.duckdb").exists():
        return False
    try:
        with database.connect(path, read_only=True) as connection:
            known = connection.execute("SELECT count(*) FROM meta WHERE key IN ('version', 'primary_key')").fetchall()
            return known == [(0,)]
    except duckdb.Error:
        return False


def drop_copies(folder: Path, older_than: timedelta = COPIES_FOR) -> None:
    """Delete copies of the state that a process which was killed has left in its folder."""
    for copy in folder.glob(f"{COPY}*"):
        with suppress(OSError):  # its process is done with it
            if Clock().utc().timestamp() - copy.stat().st_mtime >= older_than.total_seconds():
                shutil.rmtree(copy)


def copy_file(path: Path, to: Path) -> None:
    """Copy a DuckDB file, with its log."""
    for copied, end in ((path, ""), (path.with_name(f"{path.name}.wal"), ".wal")):
        if copied.exists():
            shutil.copyfile(copied, to.with_name(f"{to.name}{end}"))


def take_name(path: Path, place: StatePlace) -> None:
    """Give a state file that nobody has open the names of sync and target of a place."""
    with database.connect(path) as connection:
        connection.execute(f"INSERT OR REPLACE INTO meta {_names(place)}")


def _names(place: StatePlace) -> str:
    return f"VALUES ('sync', {literal(place.sync)}), ('target', {literal(place.target)})"


def _meta(connection: DuckDBPyConnection) -> Mapping[str, str]:
    """The metadata of the file; empty if it is none of retl, or has lost the table of acknowledged rows."""
    try:
        meta = dict(connection.execute(f"SELECT key, value FROM {_META}").fetchall())
        if "primary_key" in meta:
            connection.sql(f"FROM {ACKNOWLEDGED}")
    except duckdb.CatalogException:  # one of them is not there; a look at the list of tables takes longer
        return {}
    return meta


def _make(connection: DuckDBPyConnection, path: Path, sync: str, target: str) -> None:
    """Create it under another name first, so that an existing state file is always complete."""
    unfinished = path.with_name("state.next.duckdb")
    for file in (unfinished, path.with_name("state.next.duckdb.wal")):
        file.unlink(missing_ok=True)
    connection.execute(f"ATTACH {literal(str(unfinished))} AS {STATE} ({FILE_FORMAT})")
    connection.execute(statement(__name__, "state_tables"))
    rows = [("format", str(FORMAT)), ("sync", sync), ("target", target)]
    connection.executemany(f"INSERT INTO {_META} VALUES (?, ?)", rows)
    database.detach_whole(connection, STATE)
    unfinished.rename(path)


def _migrate(connection: DuckDBPyConnection, path: Path, old: int) -> None:
    connection.execute(f"CHECKPOINT {STATE}")
    kept = path.with_name(f"before-format-{old + 1}.duckdb")
    unfinished = kept.with_suffix(".part")
    shutil.copyfile(path, unfinished)
    unfinished.replace(kept)
    connection.execute("BEGIN")
    connection.execute(statement(__name__, f"migrate_{old}_to_{old + 1}"))
    if old == 5:
        opt_outs.know(connection)
    connection.execute(f"UPDATE {_META} SET value = ? WHERE key = 'format'", [str(old + 1)])
    connection.execute("COMMIT")
    connection.execute(f"CHECKPOINT {STATE}")


def rename_words(connection: DuckDBPyConnection) -> None:
    """Give runs that were added to the attached state from elsewhere the names of format 3, if they have older ones."""
    connection.execute(statement(__name__, "migrate_2_to_3"))


def done_until(connection: DuckDBPyConnection, delay: timedelta = timedelta()) -> datetime | None:
    """The latest scheduled time for which a run of the attached state succeeded; None if there is none.

    Of a schedule with a `delay`, a run that began before it was over is one for the time before.
    """
    latest = f"SELECT epoch_us(max({{}})) FROM {RUNS} WHERE status IN {WENT_WELL}"
    began = f"started_at - INTERVAL {int(delay.total_seconds())} SECOND"
    try:
        scheduled = "coalesce(scheduled_time, started_at)"
        found = connection.execute(latest.format(f"least({scheduled}, {began})" if delay else scheduled)).fetchone()
    except duckdb.BinderException:  # format 1
        found = connection.execute(latest.format(began)).fetchone()
    return datetime.fromtimestamp(found[0] / 1e6, UTC) if found and found[0] is not None else None


def look_up_done_until(connection: DuckDBPyConnection, path: Path, delay: timedelta) -> datetime | None:
    """The same for the state at `path`, read-only: changes and recovers nothing, acquires no lock but that of DuckDB.

    Raises BusyError if another process has it open for writing. Also None if there is no state, or if it cannot be
    read: the run that follows reports what is wrong with it.
    """
    if not path.exists():
        return None
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS {STATE} (READ_ONLY)")
    except duckdb.Error as error:
        busy = locked(error, path)
        if busy:
            raise busy from error
        return None
    try:
        return done_until(connection, delay)
    except duckdb.Error:
        return None
    finally:
        connection.execute(f"DETACH {STATE}")


@contextmanager
def explain_disk_errors(place: StatePlace) -> Iterator[None]:
    """Turns errors of disk and memory, and of damaged files, into a StateError that says what is kept and what to do.

    DuckDB notices damage when it reads a block, which may be long after it opened the file.
    """
    try:
        yield
    except (duckdb.Error, MemoryError, RuntimeError) as error:
        found = _explained(error, place)
        if found is None:
            raise
        hint, code = found
        text = " ".join(in_words(error).split()) or "out of memory"
        raise StateError(f"cannot use {place.folder}: {text}", hint=hint, code=code) from error
    except OSError as error:
        if error.errno not in _OF_DISKS:
            raise
        first = "mount it writable" if error.errno == errno.EROFS else "free disk space or repair the disk"
        raise StateError(f"{place.folder}: {error.strerror}", hint=f"{first}, {_KEPT}", code="S009") from error


def _explained(error: Exception, place: StatePlace) -> tuple[str, str] | None:
    """What to do about an error of DuckDB or of memory, and its code; None if it is one of retl."""
    if is_out_of_memory(error):
        return f"{HINT}; {_KEPT}", "S009"
    if isinstance(error, duckdb.OutOfMemoryException):
        return f"raise the limit (`retl sync --memory-limit 4GB`), {_KEPT}", "S009"
    if WRITING.search(str(error)):
        return f"free disk space or repair the disk, {_KEPT}", "S009"
    if isinstance(error, _OF_DAMAGE) or type(error) is duckdb.Error:  # that one has no class of its own
        return f"repair the disk; or {place.restore}; or {place.start_over}", "S006"
    return None
