"""A baseline leaves what a run would leave of which Braze has accepted all, wherever it is killed."""

import linecache
import os
import re
import signal
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from reverse_etl.ledger.lines import LINES
from reverse_etl.state.opening import state_of
from tests.ledger.replay import check, lines_of
from tests.processes import Forked, command
from tests.shop import Outcome, Retl, Shop, some

WORD = "repeat('x', 256)"  # a text too long for Braze
MODELS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "of which nothing is to be said": (
        """SELECT 'u' || i AS external_id, i AS n, i / 4 AS share, DATE '2026-11-23' + CAST(i AS INTEGER) AS day,
            CASE WHEN i % 3 > 0 THEN ['a', 'b'] END AS tags, {'x': i, 'y': 'z'} AS place, i % 2 = 0 AS is_even,
            CAST(i AS DECIMAL(9, 2)) AS amount FROM range(300) r(i)""",
        {},
    ),
    "with columns that are left out": (
        f"SELECT 'u' || i AS external_id, CASE WHEN i % 50 = 0 THEN {WORD} ELSE 'ok' END AS note, i FROM range(300) r(i)",
        {},
    ),
    "with rows that are invalid": (
        """SELECT CASE WHEN i % 50 = 7 THEN '' ELSE 'u' || i END AS external_id, i AS n FROM range(300) r(i)
        WHERE i % 50 <> 7 OR i = 7""",
        {"skip_on_invalid_records": True},
    ),
    "with columns that are not stored": (
        f"""SELECT 'u' || i AS external_id, true AS _update_existing_only, i AS n,
            CASE WHEN i = 9 THEN {WORD} ELSE 'ok' END AS note FROM range(20) r(i)""",
        {},
    ),
    "all of whose rows are strict": (
        f"SELECT 'u' || i AS external_id, CASE WHEN i = 9 THEN {WORD} ELSE 'ok' END AS note FROM range(20) r(i)",
        {"strict": True, "skip_on_invalid_records": True},
    ),
    "of two identifiers": (
        """SELECT CASE WHEN i % 2 = 0 THEN 'u' || i END AS external_id, CASE WHEN i % 2 = 1 THEN '5f' || i END AS braze_id,
            i AS n FROM range(20) r(i)""",
        {},
    ),
    "with documents": (
        """SELECT 'u' || i AS external_id, CAST('{"b": 1, "a": ' || i || '}' AS JSON) AS doc,
            '{"x": null}' AS text FROM range(20) r(i)""",
        {"pre_formatted_fields": ["text"]},
    ),
    "of events": (
        """SELECT 'u' || i % 5 AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, i % 2 AS n,
            CASE WHEN i = 3 THEN 'Infinity'::DOUBLE END AS x FROM range(20) r(i)""",
        {"mode": "users_track", "track_record_type": "events", "skip_on_invalid_records": True},
    ),
    "of events with a key": (
        """SELECT 'e' || i AS id, 'u' || i % 5 AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time
            FROM range(20) r(i)""",
        {"mode": "users_track", "track_record_type": "events", "primary_key": "id"},
    ),
    "of aliases": (
        "SELECT 'u' || i AS external_id, 'a' || i AS alias_name, 'shop' AS alias_label FROM range(20) r(i)",
        {"mode": "users_alias_new"},
    ),
    "with consent": (
        "SELECT 'u' || i AS external_id, 'unsubscribed' AS email_subscribe, i AS n FROM range(20) r(i)",
        {},
    ),
    "without rows": ("SELECT 'u' || i AS external_id, i AS n FROM range(0) r(i)", {}),
}
OF_A_RUN = ("_retl_sent_at", "_retl_run_id", "_retl_unsure")  # what is unsure is what Braze has done


def baseline(shop: Shop, retl: Retl) -> Outcome:
    said = retl("state", "baseline", "it", "--yes", folder=shop.folder)
    assert said.code == 0, said.err
    return said


def left(shop: Shop) -> dict[str, Any]:
    """What a state has, without what differs from run to run."""
    found: dict[str, Any] = {}
    with state_of(shop.project(), shop.project().sync("it")) as state:
        assert state.recovered is None
        for table in ("state", "rejects", "opt_outs", "deleted", "in_doubt"):
            listed = state.connection.sql("FROM duckdb_tables() WHERE database_name = 'retl_state'").fetchall()
            if table not in {row[4] for row in listed}:
                continue
            rows = state.connection.sql(f"FROM retl_state.main.{table}")
            of_row = [name for name in rows.columns if name not in (*OF_A_RUN, "run_id", "rejected_at", "opted_out_at")]
            shown = ", ".join(f'CAST("{name}" AS VARCHAR)' for name in of_row)
            types = [str(of) for name, of in zip(rows.columns, rows.types, strict=True) if name in of_row]
            selected = f"SELECT {shown} FROM retl_state.main.{table} ORDER BY ALL"
            found[table] = (of_row, types, state.connection.execute(selected).fetchall())
        check(state)
        with state.ledger.opened():
            lines = f"SELECT key, who, kind, column_name, old, new FROM {LINES} ORDER BY ALL"
            found["ledger"] = state.connection.execute(lines).fetchall()
        meta = dict(state.connection.execute("SELECT key, value FROM retl_state.main.meta").fetchall())
        found["meta"] = {
            name: value
            for name, value in meta.items()
            if name not in ("version", "last_run", "salt", "workspace", "to_send")
        }
    return found


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.sampled(4)
def test_baseline_leaves_the_state_that_a_run_leaves(shop: Shop, retl: Retl, case: str):
    sql, options = MODELS[case]
    shop.sync("it", sql, **options)
    plan = shop.run(read_first=False).plan
    by_run = left(shop)
    assert retl("state", "reset", "it", "--yes", folder=shop.folder).code == 0
    said = baseline(shop, retl)
    by_baseline = left(shop)
    assert by_baseline == by_run
    rows = plan.added - plan.invalid
    assert said.out.startswith(f"it: {rows} row{'' if rows == 1 else 's'} recorded as already in Braze, 0 requests")
    again = shop.run()
    assert (again.plan.added, again.plan.changed, again.delivery.requests) == (plan.invalid, plan.left_out, 0)


def test_whoever_was_erased_is_in_no_baseline(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(20) r(i)")
    assert retl("forget", "u3", "--yes", folder=shop.folder).code == 0
    baseline(shop, retl)
    assert len(shop.rows_of("state")) == 19
    assert b"u3" not in (shop.folder / ".retl/test/it/state.duckdb").read_bytes()


@pytest.mark.parametrize("case", ["NULL", "'u1'"])
def test_baseline_of_rows_without_a_key_of_their_own_changes_nothing(shop: Shop, retl: Retl, case: str):
    shop.sync("it", f"SELECT 'u1' AS external_id UNION ALL SELECT {case}")
    said = retl("state", "baseline", "it", "--yes", folder=shop.folder)
    assert said.code == 1
    assert 'primary_key "external_id" is ' in said.err
    assert sorted(path.name for path in (shop.folder / ".retl/test/it").iterdir()) == ["lock", "state.duckdb"]
    shop.sync("it", "SELECT 'u1' AS external_id")
    baseline(shop, retl)
    assert shop.rows_of("state", "external_id") == [("u1",)]


# --- killed ----------------------------------------------------------------------------------------------------------

_ACTS = re.compile(r"execute\(|detach_whole\(|\.replace\(|unlink\(|rename\(|rmtree\(")


def killed_before(step: int, folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
    """`retl`, which is killed before it does the `step`th thing to a database or a file of its own."""
    steps = count()

    def traced(frame: FrameType, event: str, _: object) -> Any:
        name = frame.f_code.co_filename
        if not any(f"reverse_etl/{room}/" in name for room in ("state", "ledger", "runs", "engines", "plan")):
            return None
        if event == "line" and _ACTS.search(linecache.getline(name, frame.f_lineno)) and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return traced

    sys.settrace(traced)
    command(folder, environ, *arguments)


@pytest.mark.long
def test_baseline_that_is_killed_anywhere_has_acknowledged_all_or_nothing(shop: Shop):
    shop.sync("it", MODELS["with columns that are left out"][0])
    folder, found = shop.folder / ".retl/test/it", set[int]()
    for step in some(range(10_000), 3):
        environ = {**os.environ, **shop.environ}
        with Forked(killed_before, step, shop.folder, environ, "state", "baseline", "it", "--yes") as process:
            ended = process.wait()
        with state_of(shop.project(), shop.project().sync("it")) as state:
            rows, runs = state.rows.count(), state.connection.execute("FROM retl_state.main.runs").fetchall()
            lines = len(lines_of(state))
            assert (rows, len(runs), lines) in ((0, 0, 0), (300, 1, 300))
        there = {path.name for path in folder.iterdir()}
        assert there - {"ledger", "has-run", "begun.json"} == {"lock", "state.duckdb"}
        found.add(rows)
        if ended == 0:
            break
        (folder / "has-run").unlink(missing_ok=True)
        for path in (folder / "state.duckdb", *(folder / "ledger").glob("*")):
            path.unlink()
    assert found == {0, 300}
