"""`--read-first`: asks Braze who of the users that a run would opt in has opted out there, before anything is sent."""

from collections.abc import Iterator

from reverse_etl.braze.subscriptions import GLOBAL, Read, heard, kinds_not_read, questions
from reverse_etl.delivery.reading import HowToRead, Reader
from reverse_etl.delivery.session import Session
from reverse_etl.errors import Location, ProjectError
from reverse_etl.plan.tables import RUN
from reverse_etl.plan.workbench import execute
from reverse_etl.records.consent import consent_columns, opted_in
from reverse_etl.records.layout import Column, Layout
from reverse_etl.runs.job import Job
from reverse_etl.state.contents import set_version
from reverse_etl.state.erasing import without_erased
from reverse_etl.state.opt_outs import learn
from reverse_etl.state.state import State
from reverse_etl.words import count

_ASKED = f"{RUN}.main.asked"
_SAY_EVERY_S = 10.0
OptOuts = list[tuple[str, str]]  # user and channel


def read_opt_outs(job: Job, session: Session, state: State, layout: Layout, changes: str) -> None:
    """Let the state know who has opted out in Braze, of those whom `changes` would opt in.

    Raises StateError if Braze does not tell it of one of them, ProjectError if it cannot: then the state is as it was.
    """
    of_read = {Read.STATES: _columns(layout, True), Read.GROUPS: _columns(layout, False)}
    if not any(of_read.values()):
        job.notice("--read-first: nothing to read, as no column says who may be contacted")
        return
    found: OptOuts = []
    users = 0
    for read, columns in of_read.items():
        if columns and (asked := _asked(state, layout, changes, columns)):
            found += _read(job, session, state, read, asked)
            users = max(users, asked)
    with state.changing():
        if learn(state.connection, found, job.now()):  # a plan that was saved before might opt them in
            set_version(state.connection, f"read-{job.now():%Y%m%dT%H%M%S%f}")
    said = count(len({person for person, _ in found}), "has", "have")
    job.notice(f"read the subscription states of {count(users, 'user')} in Braze: {said} opted out")


def _columns(layout: Layout, is_global: bool) -> list[Column]:
    return [column for column in consent_columns(layout) if (column.name in GLOBAL) == is_global]


def _asked(state: State, layout: Layout, changes: str, columns: list[Column]) -> int:
    """Store who is to be asked for; returns how many."""
    connection = state.connection
    execute(connection, f"CREATE OR REPLACE TABLE {_ASKED} AS {opted_in(layout, changes, columns)}")
    without_erased(connection, state.erasures, _ASKED)
    (users,) = connection.execute(f"SELECT count(*) FROM {_ASKED}").fetchall()[0]
    return int(users)


def _read(job: Job, session: Session, state: State, read: Read, users: int) -> OptOuts:
    refused = kinds_not_read(
        read, (kind for (kind,) in state.connection.execute(f"SELECT DISTINCT kind FROM {_ASKED}").fetchall())
    )
    if refused:
        what = f"{job.sync.name}: {read.path} does not tell of users by {' or '.join(refused)}"
        hint = f"identify them by {', '.join(read.several)}; or return their opt-outs in the model: see docs/consent.md"
        raise ProjectError(what, Location(job.project.models[job.sync.model].file), hint, code="P114")
    options, done, found, said_s = job.options, 0, OptOuts(), job.options.clock.now_s()
    reader = Reader(session, read, heard, HowToRead(options.threads, options.clock, options.policy))
    for more, opt_outs in reader.answers(questions(read, _people(state))):
        done += more
        found += opt_outs
        if options.clock.now_s() - said_s >= _SAY_EVERY_S:
            said_s = options.clock.now_s()
            job.notice(f"read the subscription states of {done:,} of {count(users, 'user')}")
    return found


def _people(state: State) -> Iterator[str]:
    cursor = state.connection.cursor()
    cursor.execute(f"SELECT person FROM {_ASKED} ORDER BY kind")
    while rows := cursor.fetchmany(5000):
        yield from (person for (person,) in rows)
