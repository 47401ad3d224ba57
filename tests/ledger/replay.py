"""The ledger of a state, replayed over nothing: it has to lead to the acknowledged rows, whatever happened."""

import json
from pathlib import Path
from typing import Any

from reverse_etl.ledger.lines import LINES, REQUESTS, json_of_value
from reverse_etl.plan.tables import ACKNOWLEDGED, RUNS, SENT_AT
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql.quoting import identifier
from reverse_etl.state.contents import acknowledged_types
from reverse_etl.state.look import key_text_of
from reverse_etl.state.opening import open_state
from reverse_etl.state.state import State

LET_GO = "only in one of them"  # said of a row that is in the ledger, or in the state, alone
Line = tuple[str, str, str, str | None, str | None, str | None, int | None]


def lines_of(state: State) -> list[Line]:
    """The lines of a state, in the order of its runs."""
    with state.ledger.opened():
        return state.connection.execute(
            f"""SELECT run_id, key, l.kind, column_name, old, new, request FROM {LINES} AS l JOIN {RUNS} USING (run_id)
            ORDER BY finished_at, run_id, key, column_name NULLS FIRST"""
        ).fetchall()


def requests_of(state: State) -> list[tuple[Any, ...]]:
    with state.ledger.opened():
        columns = "run_id, request, path, q.status, outcome, objects, rejected"
        sql = f"SELECT {columns} FROM {REQUESTS} AS q JOIN {RUNS} USING (run_id) ORDER BY finished_at, run_id, request"
        return state.connection.execute(sql).fetchall()


def ledger(folder: Path) -> list[Line]:
    """The lines of the state in a folder."""
    with open_state(StatePlace(folder, folder.name, folder.parent.name)) as state:
        return lines_of(state)


def acknowledged(state: State) -> dict[str, dict[str, Any]]:
    """The acknowledged rows, by key: the values of their columns as JSON."""
    types, text = acknowledged_types(state.connection), key_text_of(state)
    if text is None:
        return {}
    cells = ", ".join(f"{json_of_value(identifier(name), of)} AS {identifier(name)}" for name, of in types.items())
    rows = state.connection.execute(f"SELECT {text}, {cells} FROM {ACKNOWLEDGED} WHERE {SENT_AT} IS NOT NULL")
    return {key: dict(zip(types, map(value_of, cells), strict=True)) for key, *cells in rows.fetchall()}


def value_of(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def check(state: State) -> int:
    """Replay the ledger; returns how many cells were compared. The whole history must be in it."""
    wrong, compared = _replay(state)
    assert wrong == []
    return compared


def wrong_in(state: State) -> list[tuple[Any, ...]]:
    """Where replaying the ledger of a state does not lead to its acknowledged rows."""
    return _replay(state)[0]


def _replay(state: State) -> tuple[list[tuple[Any, ...]], int]:
    rows, compared, wrong = dict[str, dict[str, Any]](), 0, list[tuple[Any, ...]]()
    for run_id, key, kind, column, old, new, _ in lines_of(state):
        about = (run_id, key, kind, column)
        if kind == "opted_out":
            continue
        if column is None and kind == "added":
            rows.setdefault(key, {})  # known from what comes
        elif column is None and kind == "resent":
            if key not in rows:
                wrong.append(about)
        elif column is None:
            if rows.pop(key, None) is None:
                wrong.append(about)
        elif kind == "removed":  # the line of the row came first
            if key in rows or new is not None:
                wrong.append(about)
        elif key not in rows:
            wrong.append(about)
        else:
            known = rows[key]
            if column in known:
                compared += 1
                if known[column] != value_of(old):
                    wrong.append(about)
            known[column] = value_of(new)
    now = acknowledged(state)
    wrong += [("", key, LET_GO, None) for key in rows.keys() ^ now.keys()]
    for key in rows.keys() & now.keys():
        for column, value in rows[key].items():
            if column in now[key]:
                compared += 1
                if now[key][column] != value:
                    wrong.append(("", key, "differs", column))
    return wrong, compared
