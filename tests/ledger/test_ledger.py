"""What each run has changed is beside the state: nothing else, nothing twice, and nothing of who was erased."""

import json
import os
import signal
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reverse_etl.ledger import files
from reverse_etl.ledger.files import Ledger
from reverse_etl.sandbox import Fault
from reverse_etl.state.opening import state_of
from tests.ledger.replay import Line, check, lines_of, requests_of
from tests.processes import Forked
from tests.shop import EVENTS, KEY, MANY, Retl, Shop, all_erased_from, command, running

FOLDER = ".retl/test/it"
PEOPLE = {"u1": "gold", "u2": "basic"}


def model(rows: dict[str, str | None], column: str = "tier", of: str = "VARCHAR") -> str:
    listed = ", ".join(f"('{user}', {'NULL' if value is None else repr(value)})" for user, value in rows.items())
    return f"SELECT external_id, CAST(v AS {of}) AS {column} FROM (VALUES {listed}) t(external_id, v)"


def lines(shop: Shop, sync: str = "it") -> list[Line]:
    """All lines, without their runs, whose order is that of time."""
    with state_of(shop.project(), shop.project().sync(sync)) as state:
        check(state)
        return [line[1:] for line in lines_of(state)]


def names(shop: Shop) -> list[str]:
    return sorted(path.name for path in (shop.folder / FOLDER / "ledger").glob("*"))


# --- what is in it -----------------------------------------------------------------------------------------------------


def test_added_row_is_its_key_and_changed_cell_has_both_values_and_its_request(shop: Shop):
    shop.sync("it", model(PEOPLE)).run()
    shop.sync("it", model({"u1": "basic", "u2": None, "u3": "x"})).run()
    assert lines(shop) == [
        ("u1", "added", None, None, None, 1),
        ("u2", "added", None, None, None, 1),
        ("u1", "changed", "tier", '"gold"', '"basic"', 1),
        ("u2", "changed", "tier", '"basic"', None, 1),
        ("u3", "added", None, None, None, 1),
    ]
    with state_of(shop.project(), shop.project().sync("it")) as state:
        runs = [
            run
            for (run,) in state.connection.execute("SELECT run_id FROM retl_state.runs ORDER BY finished_at").fetchall()
        ]
        one = (1, "/users/track", 201, "accepted")
        assert requests_of(state) == [(runs[0], *one, 2, 0), (runs[1], *one, 3, 0)]
        with state.ledger.opened([runs[1]]):
            found = state.connection.execute("SELECT DISTINCT run_id, who FROM retl_ledger ORDER BY ALL").fetchall()
            assert found == [(runs[1], f"external_id:u{n}") for n in (1, 2, 3)]
            (lasted,) = state.connection.execute(
                "SELECT answered_at - sent_at >= INTERVAL 0 SECOND FROM retl_ledger_requests"
            ).fetchall()
    assert lasted == (True,)


def test_run_that_changes_nothing_writes_nothing(shop: Shop):
    shop.sync("it", model(PEOPLE)).run()
    before = names(shop)
    shop.run()
    assert (len(before), names(shop)) == (2, before)
    assert [name is None for (name,) in shop.rows_of("runs", "ledger")].count(True) == 1


def test_row_that_is_sent_again_has_lines_for_what_differs_only(shop: Shop):
    shop.sync("it", model(PEOPLE)).run()
    shop.sync("it", model(PEOPLE | {"u2": "x"})).run(full_refresh=True)
    assert lines(shop)[2:] == [
        ("u1", "resent", None, None, None, 1),
        ("u2", "resent", None, None, None, 1),
        ("u2", "added", "tier", '"basic"', '"x"', 1),
    ]


def test_removed_row_has_what_it_had(shop: Shop):
    shop.sync("it", model(PEOPLE), on_removed="clear", guards={"max_removed": "100%"}).run()
    shop.sync("it", model({"u1": "gold"}), on_removed="clear", guards={"max_removed": "100%"}).run()
    assert lines(shop)[2:] == [
        ("u2", "removed", None, None, None, 1),
        ("u2", "removed", "tier", '"basic"', None, 1),
    ]


@pytest.mark.long
def test_event_is_its_key_with_its_request(shop: Shop):
    events = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range({}) r(i)"
    shop.sync("it", events.format(2), **EVENTS).run()
    shop.sync("it", events.format(3), **EVENTS).run()
    assert lines(shop) == [(f"u{n}", "added", None, None, None, 1) for n in range(3)]


@pytest.mark.long
def test_rejected_rows_and_those_in_doubt_are_not_in_it_before_they_are_acknowledged(shop: Shop, retl: Retl):
    shop.braze.add_fault(Fault("object_error", external_ids=["u2"]))
    shop.sync("it", model(PEOPLE)).run()
    assert lines(shop) == [("u1", "added", None, None, None, 1)]
    events = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time"
    shop.braze.add_fault(Fault("drop_after"))
    shop.sync("seen", events, **EVENTS).run("seen")
    assert lines(shop, "seen") == []
    assert retl("resolve", "seen", "--mark-accepted", folder=shop.folder).code == 0
    shop.run("seen")
    assert lines(shop, "seen") == [("u1", "added", None, None, None, None)]  # no request is known to have brought it


def test_baseline_has_no_request(shop: Shop, retl: Retl):
    shop.sync("it", model(PEOPLE))
    assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 0
    assert lines(shop) == [(f"u{n}", "added", None, None, None, None) for n in (1, 2)]


@pytest.mark.long
def test_opt_out_that_is_sent_alone_is_told_from_the_row(shop: Shop):
    columns = "SELECT 'u1' AS external_id, '{}' AS email_subscribe, '{}' AS push_subscribe"
    shop.sync("it", columns.format("subscribed", "subscribed")).run(read_first=False)
    shop.sync("it", columns.format("unsubscribed", "opted_in")).run()
    assert sorted(lines(shop)[1:], key=lambda line: (line[5], line[2])) == [
        ("u1", "opted_out", "email_subscribe", '"subscribed"', '"unsubscribed"', 1),
        ("u1", "changed", "email_subscribe", '"subscribed"', '"unsubscribed"', 2),
        ("u1", "changed", "push_subscribe", '"subscribed"', '"opted_in"', 2),
    ]


@pytest.mark.parametrize(
    ("of", "before", "after", "old", "new"),
    [
        ("DOUBLE", "0.1", "1e20", "0.1", "1e+20"),
        ("DECIMAL(2, 2)", ".5", ".25", "0.50", "0.25"),
        ("TIMESTAMPTZ", "2026-11-23 08:15:00.123456+00", "2026-11-24", '"2026-11-23 08:15:00.123456+00"', None),
        ("VARCHAR[]", "[a]", "[a, b]", '["a"]', '["a","b"]'),
        ("STRUCT(a INT, b VARCHAR)", "{'a': 1}", "{'a': 2}", '{"a":1,"b":null}', '{"a":2,"b":null}'),
        ("JSON", '{"b":1}', '{"b":2}', '{"b":1}', '{"b":2}'),
        ("BOOLEAN", "true", "false", "true", "false"),
    ],
)
@pytest.mark.sampled(4)
def test_values_are_json_that_becomes_the_same_value_again(
    shop: Shop, of: str, before: str, after: str, old: str, new: str | None
):
    one = "SELECT 'u1' AS external_id, CAST('{}' AS {}) AS a"
    shop.sync("it", one.format(before.replace("'", "''"), of)).run()
    shop.sync("it", one.format(after.replace("'", "''"), of)).run()
    ((*_, found_old, found_new, _),) = lines(shop)[1:]
    assert found_old == old
    assert new in (found_new, None)
    from reverse_etl.ledger.lines import value_of_json
    from reverse_etl.state.contents import acknowledged_types

    with state_of(shop.project(), shop.project().sync("it")) as state:
        back = value_of_json("$new", acknowledged_types(state.connection)["a"])
        sql = f"SELECT a IS NOT DISTINCT FROM {back} FROM retl_state.state"
        assert state.connection.execute(sql, {"new": found_new}).fetchall() == [(True,)]


def test_value_of_a_column_whose_type_changed_is_as_it_was(shop: Shop):
    shop.sync("it", model({"u1": "1"}, of="BIGINT")).run()
    shop.sync("it", model({"u1": "x"})).run(accept_schema_change=True)
    assert lines(shop)[1:] == [("u1", "changed", "tier", "1", '"x"', 1)]


def test_row_that_is_about_another_user_now_has_nothing_of_the_one_before(shop: Shop):
    one = "SELECT 1 AS id, '{}' AS external_id, '{}' AS tier"
    keys: dict[str, Any] = {"primary_key": "id", "exclude_columns": ["id"]}
    shop.sync("it", one.format("u1", "gold"), **keys).run()
    shop.sync("it", one.format("u2", "basic"), **keys).run()
    with state_of(shop.project(), shop.project().sync("it")) as state, state.ledger.opened():
        found = state.connection.execute("SELECT key, who, kind, old, new FROM retl_ledger ORDER BY who").fetchall()
    assert found == [("1", f"external_id:u{n}", "added", None, None) for n in (1, 2)]


# --- kept, merged, dropped ---------------------------------------------------------------------------------------------


def test_files_are_their_owners_only(shop: Shop):
    shop.sync("it", model(PEOPLE)).run()
    folder = shop.folder / FOLDER / "ledger"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert (stat.S_IMODE(folder.stat().st_mode), modes) == (0o700, {0o600})


def test_without_a_ledger_nothing_is_written_and_what_there_was_goes(shop: Shop):
    shop.sync("it", model(PEOPLE)).run()
    shop.sync("it", model({"u1": "a", "u2": "b"}), ledger={"keep": 0}).run()
    assert (names(shop), {name for (name,) in shop.rows_of("runs", "ledger")}) == ([], {None})


def test_lines_go_when_they_are_old_even_if_nothing_changes_any_more(shop: Shop):
    shop.sync("it", model(PEOPLE), ledger={"keep": "30 days"}).run()
    shop.clock.ahead = timedelta(days=29)
    shop.run()
    assert len(names(shop)) == 2
    shop.clock.ahead = timedelta(days=31)
    shop.run()
    assert names(shop) == []


@pytest.mark.long
def test_files_of_a_day_that_is_over_become_one(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "_AT_ONCE", 3)
    found = []
    for n in range(5):
        shop.sync("it", model({"u1": str(n)})).run()
        found.append(len(names(shop)) // 2)
    assert found in ([1, 2, 1, 2, 3], [1, 2, 1, 2, 2])  # the third makes one of three; a day may end meanwhile
    before = lines(shop)
    shop.clock.ahead = timedelta(days=1)
    shop.sync("it", model({"u1": "x"})).run()
    assert len(names(shop)) == 4
    assert lines(shop) == [*before, ("u1", "changed", "tier", '"4"', '"x"', 1)]


# --- erased ------------------------------------------------------------------------------------------------------------


def holds(shop: Shop, *texts: str) -> set[str]:
    """Those of the texts that a file of the ledger still has."""
    found = set()
    for path in (shop.folder / FOLDER / "ledger").glob("*.parquet"):
        cells = duckdb.sql(f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM '{path}'").fetchall()
        found |= {text for text in texts for row in cells if any(text in (cell or "") for cell in row)}
    return found


@pytest.mark.long
def test_forgotten_person_is_in_no_file(shop: Shop, retl: Retl):
    one = "SELECT 'k-' || n AS id, 'u' || n AS external_id, 'u' || n || '{}@x.example' AS email FROM range(3) r(n)"
    keys: dict[str, Any] = {"primary_key": "id", "exclude_columns": ["id"]}
    shop.sync("it", one.format(""), **keys).run()
    shop.sync("it", one.format("a"), **keys).run()
    texts = ("u1@x.example", "u1a@x.example", "k-1", "u2@x.example", "k-2")
    assert holds(shop, *texts) == {"u1@x.example", "u1a@x.example", "k-1", "u2@x.example", "k-2"}
    said = retl("forget", "u1", "--yes", folder=shop.folder)
    assert all_erased_from(said) == {"it": (1, 0, 0, 2)}  # the line of the row, and of its e-mail
    assert holds(shop, *texts) == {"u2@x.example", "k-2"}
    receipt = next((shop.folder / ".retl/test").rglob("receipt*"))
    assert json.loads(receipt.read_text())["ledger"] == {"it": 2}
    assert retl("forget", "--check", str(receipt), folder=shop.folder).code == 0


@pytest.mark.long
def test_user_whom_a_sync_deletes_is_in_no_ledger_afterwards(shop: Shop):
    guards = {"max_removed": "100%", "max_deletes": 10}
    options: dict[str, Any] = {"on_removed": "delete", "allow_destructive": True, "guards": guards}
    shop.sync("it", model(PEOPLE), **options).sync("other", model(PEOPLE, "other")).run_all("it", "other")
    shop.sync("it", model({"u1": "x"}), **options).run("it")
    with state_of(shop.project(), shop.project().sync("it")) as state:
        assert [line[1:] for line in lines_of(state)] == [
            ("u1", "added", None, None, None, 1),
            ("u1", "changed", "tier", '"gold"', '"x"', 1),
        ]
    with state_of(shop.project(), shop.project().sync("other")) as state:
        assert [line[1:3] for line in lines_of(state)] == [("u1", "added")]
    assert holds(shop, "u2") == set()


# --- moved, reset, shared ----------------------------------------------------------------------------------------------


@pytest.mark.long
def test_reset_puts_it_aside_with_the_state(shop: Shop, retl: Retl):
    shop.sync("it", model(PEOPLE)).run()
    before = names(shop)
    assert retl("state", "reset", "it", "--yes", folder=shop.folder).code == 0
    (aside,) = (shop.folder / FOLDER).glob("before-reset-*/ledger")
    assert (sorted(path.name for path in aside.iterdir()), names(shop)) == (before, [])
    shop.run()
    assert lines(shop) == [(f"u{n}", "added", None, None, None, 1) for n in (1, 2)]


def test_ledger_moves_with_the_state_of_a_renamed_sync(shop: Shop):
    shop.sync("it", model(PEOPLE)).run()
    shop.syncs = []
    shop.sync("now", model(PEOPLE | {"u1": "x"}), renamed_from="it").run()
    assert lines(shop, "now") == [
        ("u1", "added", None, None, None, 1),
        ("u2", "added", None, None, None, 1),
        ("u1", "changed", "tier", '"gold"', '"x"', 1),
    ]
    assert names(shop) == []


# --- killed ------------------------------------------------------------------------------------------------------------


def die_in(folder: Path, method: str, time: int) -> None:
    """A sync that is killed as soon as a method of the ledger has done its work for so many times."""
    before, left = getattr(Ledger, method), iter(range(time - 1))

    def then_die(self: Ledger, *values: Any) -> Any:
        found = before(self, *values)
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(Ledger, method, then_die)
    command(folder, {**os.environ, "BRAZE_API_KEY": KEY}, "sync", "it", "--threads", "1")


@pytest.mark.long
@pytest.mark.parametrize(("method", "time"), [("stage", 1), ("keep", 1), ("tidy", 1), ("settle", 2)])
def test_killed_at_any_step_of_a_commit_it_loses_no_line_and_invents_none(shop: Shop, method: str, time: int):
    shop.sync("it", model(PEOPLE), ledger={"keep": "2 days"}).run()
    shop.sync("it", model({"u1": "a", "u2": "b"}), ledger={"keep": "2 days"})
    with Forked(die_in, shop.folder, method, time) as process:
        assert process.wait() == -signal.SIGKILL
    named = {f"{name}{end}" for (name,) in shop.rows_of("runs", "ledger") for end in (".parquet", ".requests.parquet")}
    assert named <= {*names(shop)}
    assert lines(shop) == [
        ("u1", "added", None, None, None, 1),
        ("u2", "added", None, None, None, 1),
        ("u1", "changed", "tier", '"gold"', '"a"', 1),
        ("u2", "changed", "tier", '"basic"', '"b"', 1),
    ]
    assert len(names(shop)) == 4
    assert not (shop.folder / FOLDER / "ledger.part").exists()


@pytest.mark.long
def test_of_a_killed_run_it_has_what_was_acknowledged(shop: Shop):
    shop.destination = {"max_objects_per_request": 10}
    shop.sync("it", MANY)
    with running(shop, "u500") as process:
        process.kill()
        process.wait()
    found = lines(shop)
    assert (len(found), {line[1] for line in found}, {line[5] for line in found}) == (500, {"added"}, {*range(1, 51)})
    shop.run()
    assert len(lines(shop)) == 1000
