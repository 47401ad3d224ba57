"""Rows about users that must exist, and that no other sync of the target has sent: nobody knows what they did.

find_resent()   before the comparison: acknowledged rows that were sent so, and whose user another sync has sent since
note()          when the outbox is written: which of its records are uncertain. The commit marks their rows

Both read the states of others, which nobody may have open then.
"""

from collections.abc import Callable

from duckdb import DuckDBPyConnection

from reverse_etl.plan.outbox import UNCERTAIN, may_need_users
from reverse_etl.plan.tables import ACKNOWLEDGED, OUTBOX, RESENT, UNSURE, USER
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.existing import NEEDS, needed_of_row
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.state.others import known_to_others, may_know_users
from reverse_etl.state.state import State

_IS_UNCERTAIN = f"coalesce(list_contains({UNSURE}, {literal(USER)}), false)"


def may_resend(project: LoadedProject, sync: Sync, state: State) -> bool:
    """Whether there are acknowledged rows that are to be sent again once their user is known.

    Rows of an incremental model are not read again, so they cannot be sent again either.
    """
    if sync.incremental or not may_know_users(project, sync) or _uncertain_rows(sync, state) is None:
        return False
    return bool(state.rows.contents().uncertain)


def _uncertain_rows(sync: Sync, state: State) -> str | None:
    """A SELECT of whom the uncertain rows of a table, whose place in it is `{}`, need; None if their columns do not
    say."""
    columns = {name: of.family for name, of in state.rows.types().items()}
    user = needed_of_row(sync.mode, columns, identifier)
    return f"SELECT {user} AS who FROM {{}} WHERE {_IS_UNCERTAIN}" if columns and user else None


def find_resent(project: LoadedProject, sync: Sync, state: State) -> int:
    """Write down the acknowledged rows that are to be sent again, as their user is known by now; how many they are."""
    rows = _uncertain_rows(sync, state)
    if rows is None or not may_resend(project, sync, state):
        return 0
    there = state.elsewhere.uncertain_rows(state.rows.key()) if state.elsewhere else None
    rows = rows.format(there or ACKNOWLEDGED)
    with known_to_others(project, sync, state, rows) as known:
        state.connection.execute(f"CREATE TABLE {RESENT} AS {known}")
    (found,) = state.connection.execute(f"SELECT count(*) FROM ({rows}) WHERE who IN (FROM {RESENT})").fetchall()[0]
    state.run.resends = bool(found)
    return int(found)


def note(project: LoadedProject, sync: Sync, state: State, await_others: Callable[[], None]) -> None:
    """Let the records of the outbox need nobody whose user another sync has sent; the others are uncertain.

    `await_others` is called before the states of others are read, if they are.
    """
    connection = state.connection
    if state.run.is_blank or not may_need_users(connection):
        return
    users = f"SELECT {NEEDS} AS who FROM {OUTBOX} WHERE {UNCERTAIN}"
    if not _has(connection, users):
        return
    await_others()
    with known_to_others(project, sync, state, users) as known:
        connection.execute(f"UPDATE {OUTBOX} SET {NEEDS} = NULL WHERE {NEEDS} IN ({known})")


def _has(connection: DuckDBPyConnection, rows: str) -> bool:
    return bool(connection.execute(f"SELECT 1 FROM ({rows}) LIMIT 1").fetchall())
