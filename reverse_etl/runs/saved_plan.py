"""A plan in a file: all records of one or more runs, to be sent later exactly as they were reviewed.

The file is a DuckDB database, or an age file (https://age-encryption.org) that contains one:

    about           one row: what the file is, its target, when it was created
    syncs           one row per sync, in the order in which they run: what the plan was created from, and its counts
    sync_<name>     one schema per sync: outbox (the records), run and rules (what is needed to commit the run)

Behind the database is its seal (`seal.py`): a file is not believed for what it says of itself. A file of format 1 has
other names for some actions, counts and columns, and no seal; it is applied with its digest.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from reverse_etl.engines.duckdb.errors import WRITING
from reverse_etl.errors import ProjectError, StateError
from reverse_etl.plan.outbox import upgrade_outbox
from reverse_etl.plan.plan import Plan, plan_from_json, read_plan
from reverse_etl.plan.tables import RUN, STATE
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.runs.job import Job
from reverse_etl.runs.seal import Trust, digest_of, made_key, refuse_unknown, seal
from reverse_etl.sql.database import connect, detach_whole
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state.state import State
from reverse_etl.system.beside import folder_beside
from reverse_etl.system.disk import reason, remedy
from reverse_etl.system.private_files import private_files
from reverse_etl.words import moment

FORMAT = 2
KEY_VARIABLE = "RETL_PLAN_KEY"
NOTE = "retl saved plan; contains personal data; send it with `retl apply FILE`"
UNFINISHED = ".retl-plan-"  # how the name of a folder begins that has an unfinished file, or the copy of one
_FILE = "retl_saved"
_TABLES = ("outbox", "rules", "run")
_OPTIONAL = ("absences", "pins", "ended_pins", "slice", "left_model")  # see `state/`, `deleted.py`, `elsewhere.py`
_COUNTS_OF_FORMAT_1 = {"remembered": "previously_rejected", "adopted": "marked_accepted"}
_HOW_TO_CREATE_ONE = "create one with `retl plan --out FILE`"
_DUCKDB = b"DUCK"  # from the eighth byte on
_AGE = b"age-encryption.org/"


@dataclass(frozen=True)
class Origin:
    """What a plan was created from. If any of it has changed, the plan is stale.

    `state` is the version of the sync's state, `project` a fingerprint of the sync, its models and their vars, `reads`
    the relations that their ref() and source() resolve to, `destination` the endpoint and the records per request.
    """

    state: str
    project: str
    reads: Sequence[str]
    destination: Mapping[str, Any]


@dataclass(frozen=True)
class SavedPlan:
    """The plan of one sync in a file. A retl that did not know all counts yet has written only those of `counted`."""

    file: Path
    sync: str
    target: str
    made_at: datetime
    origin: Origin
    plan: Plan
    counted: frozenset[str]
    digest: str


def origin(project: LoadedProject, sync: Sync, state: State) -> Origin:
    """What a plan that is created now is created from."""
    destination = project.spec.target.destination
    place = {"endpoint": destination.endpoint, "max_objects_per_request": destination.max_objects_per_request}
    reads = sorted(relation.sql for relation in project.reads(sync))
    return Origin(state.rows.version(), project.fingerprint(sync), reads, place)


def why_stale(saved: SavedPlan, now: Origin, at: datetime, max_age: timedelta) -> str | None:
    """Why a plan must not be sent any more, or None if it may. Pure."""
    made = moment(saved.made_at)
    if at - saved.made_at > max_age:
        return f"it was created at {made}, and is older than --max-age allows"
    if saved.origin.project != now.project:
        return f"the sync, its models or their vars have changed since it was created ({made})"
    if list(saved.origin.reads) != list(now.reads):
        return f"a ref() or source() of its models resolves to another relation than when it was created ({made})"
    for key, value in now.destination.items():
        if saved.origin.destination.get(key) != value:
            before = saved.origin.destination.get(key)
            return f'"{key}" of target "{saved.target}" was {before} when it was created, and is now {value}'
    if saved.origin.state != now.state:
        return f"the state has changed since it was created ({made}): rows were sent, or resolved or forgotten manually"
    return None


# --- writing ---------------------------------------------------------------------------------------------------------


class PlanFile:
    """A plan file that is being written; `add` is called while the run of a sync is open."""

    def __init__(self, path: Path, target: str, made_at: datetime, becomes: Path) -> None:
        self.path, self._target, self._becomes = path, target, becomes
        with connect(path) as connection:
            connection.execute("CREATE TABLE about (format INTEGER, note VARCHAR, target VARCHAR, made_at TIMESTAMPTZ)")
            connection.execute("INSERT INTO about VALUES (?, ?, ?, ?)", [FORMAT, NOTE, target, made_at])
            connection.execute("CREATE TABLE syncs (sync VARCHAR, origin JSON, plan JSON)")

    def add(self, state: State, made_of: Origin, plan: Plan) -> None:
        """Copy the open run of a state into the file."""
        connection, schema = state.connection, _schema(state.place.sync)
        with _written(self._becomes):
            connection.execute(f"ATTACH {literal(str(self.path))} AS {_FILE}; CREATE SCHEMA {schema}")
            for table in (*_TABLES, *_there(connection, RUN, "main")):
                connection.execute(f"CREATE TABLE {schema}.{table} AS FROM {RUN}.main.{table}")
            values = [state.place.sync, json.dumps(asdict(made_of)), json.dumps(asdict(plan))]
            connection.execute(f"INSERT INTO {_FILE}.main.syncs VALUES (?, ?, ?)", values)
            detach_whole(connection, _FILE)


@dataclass(frozen=True)
class Saving:
    """Adds previews of one project to a plan file. See `Save`."""

    file: PlanFile

    @property
    def folder(self) -> Path:
        return self.file.path.parent

    def __call__(self, job: Job, state: State, plan: Plan) -> None:
        self.file.add(state, origin(job.project, job.sync, state), plan)


@contextmanager
def plan_file(project: LoadedProject, path: Path, encrypt_for: str | None) -> Iterator[PlanFile]:
    """A plan file, complete and sealed if the block succeeds; otherwise nothing is left of it. Its owner's only.

    `encrypt_for` is an age recipient or identity. Raises ProjectError if the file or the key cannot be used.
    """
    recipient = _recipient(encrypt_for) if encrypt_for is not None else None
    with private_files(), _beside(path) as folder:
        with _written(path):
            unfinished = PlanFile(folder / "plan.duckdb", project.target_name, project.started_at, path)
        yield unfinished
        finished = unfinished.path
        with _written(path):
            seal(finished, made_key(project))
            if recipient is not None:
                import pyrage

                finished = folder / "plan.age"
                pyrage.encrypt_file(str(unfinished.path), str(finished), [recipient])
            finished.replace(path)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Turns what the disk refuses into ProjectError, which names the file that the plan was to become."""
    try:
        yield
    except (OSError, duckdb.Error) as error:
        if isinstance(error, duckdb.Error) and not WRITING.search(str(error)):
            raise
        hint = remedy(error, "make its folder writable for the current user, or use another one")
        raise ProjectError(f"cannot write {path}: {reason(error)}", hint=hint, code="P079") from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A folder for an unfinished file, on the same disk."""
    with ExitStack() as stack:
        with _written(path):
            folder = stack.enter_context(folder_beside(path, UNFINISHED))
        yield folder


# --- reading ---------------------------------------------------------------------------------------------------------


def is_plan_file(path: Path) -> bool:
    """Whether a file is a saved plan that is not encrypted. Never raises."""
    try:
        with path.open("rb") as file:
            return file.read(12)[8:] == _DUCKDB and NOTE.encode() in file.read()
    except OSError:
        return False


@contextmanager
def opened_plan(path: Path, key: str | None, trust: Trust) -> Iterator[list[SavedPlan]]:
    """The plans in a file, in the order in which they run. `key` is the age identity for an encrypted file.

    What is read is a copy that nobody else can change. Raises ProjectError if the file is not a saved plan, cannot be
    read, or is not to be believed.
    """
    try:
        with path.open("rb") as file:
            is_encrypted = file.read(len(_AGE)) == _AGE
    except OSError as error:
        raise ProjectError(f"cannot read {path}: {error.strerror}", hint=_HOW_TO_CREATE_ONE, code="P086") from error
    with private_files(), _beside(path) as folder:
        given = plain = folder / "plan"
        shutil.copyfile(path, given)
        if is_encrypted:
            plain = folder / "plan.duckdb"
            _decrypt(path, given, plain, key)
        with plain.open("rb") as file:
            if _DUCKDB not in file.read(16):
                raise ProjectError(f"{path} is not a saved retl plan", hint=_HOW_TO_CREATE_ONE, code="P086")
        refuse_unknown(path, given, plain, trust)
        yield _read(path, plain, digest_of(given))


def take_over(saved: SavedPlan, state: State, started_at: datetime, sizes: Mapping[str, int]) -> Plan:
    """Make the saved plan the open run of a state, as if the run had just been planned; returns its plan.

    What it would send is counted again. Raises StateError if that is not what the file says of it: then somebody has
    changed the file.
    """
    try:
        _copy_run(saved, state, started_at)
        counted = read_plan(state.connection, saved.plan.run_id, saved.plan.rows, state.rows.count(), sizes)
    except duckdb.Error as error:
        raise stale(saved, f"the file is damaged: {str(error).splitlines()[0]}") from error
    plan = replace(counted, since=saved.plan.since, dropped=saved.plan.dropped, data_tests=saved.plan.data_tests)
    new = {field.name for field in fields(Plan)} - saved.counted
    if plan != replace(saved.plan, **{name: getattr(plan, name) for name in new}):
        raise stale(saved, "the file was changed after it was created: it does not contain what it says")
    return plan


def _copy_run(saved: SavedPlan, state: State, started_at: datetime) -> None:
    connection, schema = state.connection, _schema(saved.sync)
    state.run.create()
    connection.execute(f"ATTACH {literal(str(saved.file))} AS {_FILE} (READ_ONLY)")
    for table in (*_TABLES, *_there(connection, _FILE, f"sync_{saved.sync}")):
        connection.execute(f"CREATE TABLE {RUN}.main.{table} AS FROM {schema}.{table}")
    connection.execute(f"DETACH {_FILE}")
    upgrade_outbox(connection)
    run_id = f"{saved.plan.run_id}-{started_at:%Y%m%dT%H%M%S%f}"
    connection.execute(f"UPDATE {RUN}.main.run SET run_id = ?, started_at = ?, released = false", [run_id, started_at])
    state.run.seal()


def _there(connection: duckdb.DuckDBPyConnection, database: str, schema: str) -> list[str]:
    """Which of the tables that not every run has are there."""
    found = connection.execute(
        """SELECT table_name FROM duckdb_tables() WHERE (database_name, schema_name) = ($database, $schema)
        AND list_contains($names, table_name) ORDER BY table_name""",
        {"database": database, "schema": schema, "names": list(_OPTIONAL)},
    ).fetchall()
    return [name for (name,) in found]


def when_applied(saved: SavedPlan, state: State) -> datetime | None:
    """When the plan was sent, on this or another machine that shares the state; None if it was not."""
    found = state.connection.execute(
        f"""SELECT strftime(max(finished_at), '%Y-%m-%dT%H:%M:%S') FROM {STATE}.main.runs
        WHERE run_id LIKE $run || '-%' AND status <> 'blocked'""",
        {"run": saved.plan.run_id},
    ).fetchall()[0][0]
    return datetime.fromisoformat(found).replace(tzinfo=UTC) if found else None


def _schema(sync: str) -> str:
    return f"{_FILE}.{identifier(f'sync_{sync}')}"


def _read(path: Path, database: Path, digest: str) -> list[SavedPlan]:
    try:
        with connect(database, read_only=True) as connection:
            if connection.execute(
                "SELECT 1 FROM information_schema.tables WHERE table_type <> 'BASE TABLE'"
            ).fetchall():
                raise ProjectError(
                    f"{path} is not a saved retl plan: it contains a view", hint=_HOW_TO_CREATE_ONE, code="P086"
                )
            about = connection.execute("SELECT format, target, epoch_us(made_at) FROM about").fetchall()[0]
            rows = connection.execute("SELECT sync, origin, plan FROM syncs ORDER BY rowid").fetchall()
    except (duckdb.Error, IndexError) as error:
        raise ProjectError(f"{path} is not a saved retl plan", hint=_HOW_TO_CREATE_ONE, code="P086") from error
    version, target, made_us = about
    if version not in (1, FORMAT):
        what = f"{path} has format {version}; this version of retl reads {FORMAT}"
        raise ProjectError(what, hint="create and apply the plan with the same version of retl", code="P086")
    try:
        made_at = datetime.fromtimestamp(made_us / 1e6, UTC)
        return [
            SavedPlan(
                *(database, sync, target, made_at),
                *(Origin(**json.loads(made_of)), plan_from_json(plan), frozenset(plan)),
                digest=digest,
            )
            for sync, made_of, plan in ((sync, made_of, _counts(plan)) for sync, made_of, plan in rows)
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise ProjectError(f"{path} is damaged", hint=_HOW_TO_CREATE_ONE, code="P086") from error


def _counts(text: str) -> dict[str, Any]:
    return {_COUNTS_OF_FORMAT_1.get(name, name): value for name, value in json.loads(text).items()}


# --- encryption ------------------------------------------------------------------------------------------------------


def _recipient(key: str) -> Any:
    pyrage = _pyrage()
    try:
        if key.startswith("age1"):
            return pyrage.x25519.Recipient.from_str(key)
        return pyrage.x25519.Identity.from_str(key).to_public()
    except pyrage.RecipientError as error:
        raise _bad_key() from error
    except pyrage.IdentityError as error:
        raise _bad_key() from error


def _decrypt(path: Path, copy: Path, to: Path, key: str | None) -> None:
    pyrage = _pyrage()
    if not key:
        hint = f"set {KEY_VARIABLE} to the matching age identity (AGE-SECRET-KEY-1...)"
        raise ProjectError(f"{path} is encrypted", hint=hint, code="P087")
    try:
        identity = pyrage.x25519.Identity.from_str(key)
    except pyrage.IdentityError as error:
        raise _bad_key() from error
    try:
        pyrage.decrypt_file(str(copy), str(to), [identity])
    except pyrage.DecryptError as error:
        raise ProjectError(f"cannot decrypt {path} with {KEY_VARIABLE}: {error}", code="P087") from error


def _pyrage() -> Any:
    try:
        import pyrage
        import pyrage.x25519
    except ImportError as error:
        hint = 'install it: `pip install "reverse-etl[encrypt]"`'
        raise ProjectError("encrypted plans need the package pyrage", hint=hint, code="P087") from error
    return pyrage


def _bad_key() -> ProjectError:
    hint = "generate a key pair with age-keygen: age1... encrypts, AGE-SECRET-KEY-1... also decrypts"
    return ProjectError(f"{KEY_VARIABLE} is not a valid age key", hint=hint, code="P087")


def stale(saved: SavedPlan, why: str) -> StateError:
    hint = f"create a new plan: `retl plan {saved.sync} --out FILE`"
    return StateError(f"{saved.sync}: plan refused: {why}", hint=hint, code="S016")
