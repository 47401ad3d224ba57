"""Rows without a key, and rows that share one: set aside if invalid rows are skipped, while all others are sent."""

import hmac
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from reverse_etl import Project
from reverse_etl.sandbox import Sandbox
from tests.shop import Retl, Shop, examples, some

NO_KEY = "(no key)"
NULL = "is NULL in the primary key"
SKIPS = {"skip_on_invalid_records": True}
ALL_MAY_GO = {"guards": {"max_removed": "100%", "empty_model": False}}

# --- what must come of any rows, in plain Python ---------------------------------------------------------------------

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """A sync over the columns of a table: which of them are the key, and the user, and what else it says."""

    options: Mapping[str, Any]
    key: Sequence[int] = (0,)
    user: int | None = None
    removes: bool = False
    columns: str = "external_id, b, n"
    looks_at_all: bool = True  # and not only if a row has changed: an event that was sent is not compared
    is_sent_once: bool = False
    needs_keys: bool = False  # a row without one stops the run

    @property
    def deletes(self) -> bool:
        return self.options["mode"] == "users_delete"


ATTRIBUTES = {"mode": "users_track", "track_record_type": "attributes", "primary_key": "external_id"}
CASES = {
    "removed rows are ignored": Case(ATTRIBUTES),
    "they are cleared": Case({**ATTRIBUTES, "on_removed": "clear"}, removes=True),
    "they are deleted": Case(
        {**ATTRIBUTES, "on_removed": "delete", "allow_destructive": True, "suppresses": False},
        removes=True,
        needs_keys=True,
    ),
    "a key of two columns": Case({**ATTRIBUTES, "primary_key": ["external_id", "b"]}, key=(0, 1), user=0),
    "users to delete": Case(
        {"mode": "users_delete", "allow_destructive": True, "suppresses": False},
        removes=True,
        columns="external_id",
        is_sent_once=True,
    ),
    "incremental": Case({**ATTRIBUTES, "incremental": {"cursor": "n"}}, looks_at_all=False),
    "the user is not the key": Case({**ATTRIBUTES, "primary_key": "b", "exclude_columns": ["b"]}, key=(1,), user=0),
    "events": Case(
        {**ATTRIBUTES, "track_record_type": "events", "primary_key": "b"},
        key=(1,),
        columns="external_id, b, n, 'seen' AS name, TIMESTAMP '2026-11-23' AS time",
        looks_at_all=False,
        is_sent_once=True,
    ),
}


@dataclass
class Expected:
    """What a run does, and what the state has after it, according to Python."""

    counts: dict[str, int]
    sent: Counter[str]
    invalid: Counter[tuple[str, str]] = field(default_factory=Counter)


def expected(case: Case, rows: Sequence[Row], state: dict[Row, Row]) -> Expected:
    """Changes `state`, which has the rows by their keys."""

    def key(row: Row) -> Row:
        return tuple(row[column] for column in case.key)

    def value(row: Row) -> Row:
        return () if case.is_sent_once else row

    def is_new(row: Row) -> bool:
        before = state.get(key(row))
        if case.deletes:  # a hash has no row that could have changed
            return True
        return before is None or (case.user is not None and before[case.user] != row[case.user])

    moved = [row for row in rows if key(row) not in state or value(state[key(row)]) != value(row)]
    has_changed = any(key(row) in state and not is_new(row) for row in moved)
    finds = has_changed or case.looks_at_all
    times = Counter(key(row) for row in (rows if finds else moved))
    of_user = Counter(row[case.user] for row in (rows if moved else ()) if case.user is not None)

    def reasons(row: Row) -> list[str]:
        found = [NULL] * key(row).count(None)
        if not found and times[key(row)] > 1:
            return [f"is not unique: occurs {times[key(row)]} times"]
        if case.user is not None and row[case.user] is not None and of_user[row[case.user]] > 1:
            found.append(f"is not unique: occurs {of_user[row[case.user]]} times")
        return found

    bad, good = (
        [row for row in these if bool(reasons(row)) is is_bad] for these, is_bad in ((rows, True), (moved, False))
    )
    gone = {one for one in state if case.removes and one not in map(key, rows)}
    looked_at = [*bad, *good]
    result = Expected(
        counts={
            "rows": len(rows),
            "added": sum(is_new(row) for row in looked_at),
            "changed": sum(not is_new(row) for row in looked_at),
            "removed": len(gone),
            "invalid": len(bad),
        },
        sent=Counter(f"{'-' * case.deletes}{row[0]}" for row in good),
    )
    if not case.deletes:
        result.sent.update(f"-{state[one][0]}" for one in gone)
    for row in bad:
        parts = key(row)
        shown = NO_KEY if set(parts) == {None} else parts[0] if len(parts) == 1 else json.dumps(parts)
        result.invalid.update((shown.replace(", ", ","), reason) for reason in reasons(row))
    for one in gone:
        del state[one]
    state.update({key(row): row for row in good})
    return result


TEXTS = st.sampled_from(["a", "A", "b", "c", None])
ROWS = st.lists(st.tuples(TEXTS, TEXTS, st.integers(0, 2)), max_size=6)
COLUMNS = ("external_id", "b", "n")


def sent_since(shop: Shop, before: int) -> Counter[str]:
    """Of whom rows were sent, once for each row; `-` are those who are cleared or deleted."""
    found = Counter[str]()
    for body in shop.sent()[before:]:
        for array, records in json.loads(body).items():
            for one in records:
                is_gone = array == "external_ids" or "_update_existing_only" in one
                found[f"{'-' * is_gone}{one if isinstance(one, str) else one['external_id']}"] += 1
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", some(CASES))
@settings(max_examples=examples(2, 60), phases=[Phase.generate])
@given(models=st.lists(ROWS, min_size=2, max_size=4))
def test_rows_are_sent_kept_set_aside_and_removed_as_python_says(name: str, models: list[list[Row]]):
    case, state = CASES[name], dict[Row, Row]()
    with TemporaryDirectory() as folder, Sandbox() as braze:
        shop = Shop(Path(folder) / "shop", braze)
        shop.warehouse("CREATE TABLE t (external_id VARCHAR COLLATE nocase, b VARCHAR, n INTEGER)")
        shop.sync("it", f"SELECT {case.columns} FROM t", **{**case.options, **SKIPS, **ALL_MAY_GO})
        for model in models:
            needs_id = case.needs_keys or 0 not in case.key
            rows = [(row[0] or "d", *row[1:]) if needs_id else row for row in model]
            fill = f"INSERT INTO t VALUES {', '.join(['(?, ?, ?)'] * len(rows))}" if rows else ""
            shop.warehouse(f"DELETE FROM t; {fill}", *(value for row in rows for value in row))
            before, wanted = len(shop.sent()), expected(case, rows, state)
            planned = Project(shop.folder, target="test").plan("it").plan if model is models[-1] else None
            result = shop.run()
            plan = result.plan
            if case.is_sent_once:  # its state knows whom it has deleted, and not who of them has left the list
                wanted.counts["removed"] = 0
            assert {name: getattr(plan, name) for name in wanted.counts} == wanted.counts
            assert plan.unchanged == plan.rows - plan.added - plan.changed
            assert sent_since(shop, before) == wanted.sent
            assert plan.to_send == wanted.sent.total()
            assert planned is None or (planned.to_send, planned.invalid) == (plan.to_send, plan.invalid)
            assert Counter(shop.rows_of("rejects", "key", "reason")) == wanted.invalid
            assert result.exit_code == (1 if wanted.invalid else 0)
            if case.deletes and shop.sent():  # whom a sync has deleted, its state knows as hashes
                key = bytes.fromhex((shop.folder / ".retl/test/.erased/key").read_text())
                hashed = [
                    (hmac.new(key, f"external_id:{user}".encode(), "sha256").hexdigest()[:32],) for (user,) in state
                ]
                assert shop.rows_of("deleted", "hash") == sorted(hashed)
                assert shop.rows_of("state") == []
                continue
            acknowledged = shop.rows_of("state", *(COLUMNS[column] for column in case.key)) if shop.sent() else []
            assert sorted(acknowledged, key=str) == sorted(state, key=str)


# --- what is said of them --------------------------------------------------------------------------------------------

DELETES = {**ATTRIBUTES, **SKIPS, "on_removed": "delete", "allow_destructive": True, "guards": {"max_removed": "100%"}}
PEOPLE = "SELECT * FROM (VALUES {}) t(external_id, email, n)"
TWICE = "('u1', NULL, 1), ('u2', NULL, 2), ('u2', NULL, 3), ('u2', NULL, 2)"
KEYLESS = "(NULL, 'ann@x.de', 4), (NULL, NULL, 5)"
TABLE = """\
  rows  column       reason                         hint                                                          keys
  3     external_id  is not unique: occurs 3 times  return one row per key (GROUP BY, QUALIFY row_number() ...), or add columns to primary_key  u2
  2     external_id  is NULL in the primary key     set a value, or exclude these rows: WHERE external_id IS NOT NULL  (no key) (email:DIGEST), (no key)
"""


def steady(text: str) -> str:
    return re.sub("email:[0-9a-f]{12}", "email:DIGEST", text)


def test_rows_without_a_key_and_rows_that_share_one_are_listed(shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE.format(f"{TWICE}, {KEYLESS}"), **ATTRIBUTES, **SKIPS)
    planned = retl("plan", "it", folder=shop.folder)
    assert f"  5 rows invalid\n{TABLE}" in steady(planned.out)
    done = retl("sync", "it", folder=shop.folder)
    assert (done.code, steady(done.err)) == (
        1,
        f"it: 6 rows in the model: 1 added, 0 changed, 0 removed, 5 not sent, 0 unchanged\n{TABLE}",
    )
    assert shop.sent() == ['{"attributes":[{"external_id":"u1","n":1}]}']


def test_row_without_a_key_stops_a_run_that_would_delete_its_user_as_removed(shop: Shop):
    shop.sync("it", PEOPLE.format("('u1', NULL, 1), ('u2', NULL, 2)"), **DELETES).run()
    shop.model("it", PEOPLE.format("('u1', NULL, 1), (NULL, NULL, 2)"))
    (error,) = shop.run().errors
    assert str(error).endswith(
        'it: primary_key "external_id" is NULL in 1 row of the model\n'
        "  hint: set a value in models/it.sql: a row without a key would be deleted as removed"
    )
    assert len(shop.sent()) == 1


def test_hint_keeps_the_opt_out_of_rows_that_share_a_key(shop: Shop):
    rows = "(VALUES ('a@x.de', 'subscribed'), ('a@x.de', 'unsubscribed')) t(email, subscription_state)"
    model = f"SELECT *, '5a5e9a9a-0f2a-4a5e-9a9a-0f2a4a5e9a9a' AS subscription_group_id FROM {rows}"
    result = shop.sync("it", model, mode="subscription_status_set", **SKIPS).run()
    assert {row.hint for row in result.invalid} == {
        'return one row per key: GROUP BY, with max(subscription_state), which keeps "unsubscribed"'
    }


def test_no_hint_makes_a_row_leave_a_model_whose_removed_rows_are_deleted(shop: Shop):
    model = "SELECT 1 AS id, '{}' AS external_id, 5 AS n"
    options = {**ATTRIBUTES, "primary_key": "id", "exclude_columns": ["id"]}
    shop.sync("it", model.format("u1"), **options).run()
    shop.model("it", model.format(" "))
    for on_removed, hint in (
        ({}, "exclude these rows: WHERE trim(external_id) IS DISTINCT FROM ''"),
        (
            {"on_removed": "delete", "allow_destructive": True},
            "correct these rows: the user of a row that leaves the model would be deleted as removed",
        ),
    ):
        shop.sync("it", model.format(" "), **options, **on_removed)
        assert [(row.column, row.hint) for row in shop.run().invalid] == [("external_id", hint)]


@pytest.mark.long
def test_acknowledged_row_whose_key_stands_twice_is_neither_sent_nor_deleted_until_it_stands_once(
    shop: Shop, retl: Retl
):
    shop.sync("it", PEOPLE.format("('u1', NULL, 1), ('u2', NULL, 2), ('u3', NULL, 3)"), **DELETES).run()
    shop.model("it", PEOPLE.format(TWICE))
    planned = retl("plan", "it", folder=shop.folder)
    assert "  ~ 0 changed   - 1 removed   3 not sent   1 unchanged\n" in planned.out
    assert "  3 rows invalid\n" in planned.out
    assert "  1 record, 4 bytes: 1 request to /users/delete\n" in planned.out
    done = retl("sync", "it", folder=shop.folder)
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        "it: 4 rows in the model: 0 added, 0 changed, 1 removed, 3 not sent, 1 unchanged",
    )
    assert shop.sent()[1:] == ['{"external_ids":["u3"]}']
    assert shop.rows_of("state", "external_id", "n") == [("u1", 1), ("u2", 2)]
    (status,) = json.loads(retl("status", "it", "--output", "json", folder=shop.folder).out)
    assert (status["last_run"], status["rows"], status["rejected"]) == ("incomplete", 2, 3)
    shop.model("it", PEOPLE.format("('u1', NULL, 1), ('u2', NULL, 7), ('u4', 'ann@x.de', 4)"))
    assert shop.run().status == "success"
    assert shop.sent()[2:] == [
        '{"attributes":[{"external_id":"u2","n":7},{"external_id":"u4","email":"ann@x.de","n":4}]}'
    ]


def test_rows_without_a_key_are_counted_as_rows_where_not_all_are_listed(shop: Shop, retl: Retl):
    rows = "SELECT if(i < 30, NULL, 'u' || (i // 2)) AS external_id, i AS n FROM range(50) r(i)"
    shop.sync("it", rows, **ATTRIBUTES, **SKIPS)
    told = retl("plan", "it", folder=shop.folder).out.splitlines()
    assert [(line.split()[0], line.rpartition("  ")[2]) for line in told[-4:-2]] == [
        ("30", "(no key)"),
        ("20", "u15, u16, u17 and 7 more"),
    ]


@pytest.mark.long
def test_row_without_a_key_is_listed_with_all_that_identifies_it(shop: Shop):
    event = "SELECT NULL AS id, {}, 'seen' AS name, TIMESTAMP '2026-11-23' AS time"
    of_events = {"mode": "users_track", "track_record_type": "events", "primary_key": "id", **SKIPS}
    alias = "'ann' AS alias_name, 'shop' AS alias_label, 'e1' AS email"
    shop.sync("events", event.format("'u1' AS external_id"), **of_events)
    shop.sync("aliases", event.format(alias), **of_events)
    shop.sync("nested", event.format("{'alias_name': 'ann', 'alias_label': 'shop'} AS user_alias"), **of_events)
    group = "SELECT NULL::VARCHAR AS email, 'g1' AS subscription_group_id, 'subscribed' AS subscription_state"
    shop.sync("groups", group, mode="subscription_status_set", **SKIPS)
    found = {
        result.sync: [(row.key, row.identifier, row.column) for row in result.invalid]
        for result in shop.run_all("events", "aliases", "nested", "groups")
    }
    digest = found["aliases"][0][1].rpartition(":")[2]
    assert found == {
        "events": [(NO_KEY, "external_id:u1", "id")],
        "aliases": [(NO_KEY, f"alias_name:ann alias_label:shop email:{digest}", "id")],
        "nested": [(NO_KEY, "alias_name:ann alias_label:shop", "id")],
        "groups": [('[null,"g1"]', None, "email")],
    }


def test_key_is_the_same_key_however_it_is_spelled(shop: Shop):
    alias = """SELECT '{{"alias_name": "ann", "alias_label": "shop"}}' AS user_alias, {} AS n"""
    other = """UNION ALL SELECT '{"alias_label": "shop", "alias_name": "ann"}', 1"""
    shop.sync("it", alias.format(1), pre_formatted_fields=["user_alias"], primary_key="user_alias", **SKIPS).run()
    shop.model("it", f"{alias.format(2)} {other}")
    result = shop.run()
    assert (result.plan.changed, result.plan.invalid, len(shop.sent())) == (2, 2, 1)
    assert {row.reason for row in result.invalid} == {"is not unique: occurs 2 times"}


@pytest.mark.long
def test_rows_set_aside_are_not_in_a_baseline_and_a_saved_plan_leaves_them_out(shop: Shop, retl: Retl):
    shop.sync("it", PEOPLE.format(TWICE), **ATTRIBUTES, **SKIPS)
    assert retl("plan", "it", "--out", "it.plan", folder=shop.folder).code == 0
    assert retl("apply", "it.plan", folder=shop.folder).code == 1
    assert shop.sent() == ['{"attributes":[{"external_id":"u1","n":1}]}']
    assert retl("state", "reset", "it", "--yes", folder=shop.folder).code == 0
    assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 0
    assert shop.rows_of("state", "external_id") == [("u1",)]


@pytest.mark.long
def test_rows_that_share_an_incremental_key_are_read_again_until_one_is_left(shop: Shop):
    model = "SELECT * FROM (VALUES {}) t(external_id, n) {{% if is_incremental() %}}WHERE n > {{{{ cursor() }}}}{{% endif %}}"
    shop.sync("it", model.format("('a', 1), ('a', 2), ('b', 3)"), incremental={"cursor": "n"}, **SKIPS)
    assert (shop.run().plan.invalid, shop.run().plan.invalid) == (2, 2)
    shop.model("it", model.format("('a', 2), ('b', 3)"))
    assert shop.run().status == "success"
    assert [json.loads(body)["attributes"] for body in shop.sent()] == [
        [{"external_id": "b", "n": 3}],
        [{"external_id": "a", "n": 2}],
    ]


NULL_KEY, TWO_OF_ONE = "(NULL, 1), ('u2', 2)", "('u1', 1), ('u1', 2), ('u3', 2)"
FEW = "SELECT * FROM (VALUES {}) t(external_id, n)"
OF_CONSENT = "SELECT *, 'unsubscribed' AS email_subscribe FROM ({})"
OF_EVENTS = "SELECT *, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM ({})"
BY_ID = {**ATTRIBUTES, "primary_key": "external_id"}
EVENTS_BY_ID = {**BY_ID, "track_record_type": "events"}
DELETED = {"mode": "users_delete", "allow_destructive": True}


@pytest.mark.parametrize(
    ("model", "options", "null_keys", "twins"),
    [
        pytest.param("{}", BY_ID, True, True, id="attributes"),
        pytest.param("{}", {**BY_ID, "on_removed": "clear"}, False, True, id="removed rows are cleared"),
        pytest.param("{}", {**BY_ID, "on_removed": "delete", "allow_destructive": True}, False, True, id="are deleted"),
        pytest.param(OF_CONSENT, BY_ID, False, False, id="an opt-out may be among the rows"),
        pytest.param(OF_CONSENT, {**BY_ID, "exclude_columns": ["email_subscribe"]}, True, True, id="it is not sent"),
        pytest.param(OF_EVENTS, EVENTS_BY_ID, True, False, id="events"),
        pytest.param("SELECT external_id FROM ({})", DELETED, False, False, id="users to delete"),
    ],
)
def test_hint_names_skipping_only_where_it_is_harmless(
    shop: Shop, model: str, options: dict[str, Any], null_keys: bool, twins: bool
):
    named = "; to send the others, set skip_on_invalid_records: true"
    for rows, is_named, code in ((NULL_KEY, null_keys, "D001"), (TWO_OF_ONE, twins, "D003")):
        shop.sync("it", model.format(FEW.format(rows)), **options)
        (error,) = shop.run().errors
        assert (error.code, (error.hint or "").endswith(named)) == (code, is_named)
        if is_named:
            done = shop.sync("it", model.format(FEW.format(rows)), **options, **SKIPS).run()
            assert (done.status, done.delivery.accepted) == ("incomplete", 1)


def test_hint_about_several_rows_for_one_user_names_skipping(shop: Shop):
    rows = "SELECT * FROM (VALUES ('u1', 1), ('u1', 2), ('u2', 3)) t(external_id, id)"
    options = {**ATTRIBUTES, "primary_key": "id", "exclude_columns": ["id"]}
    (error,) = shop.sync("it", f"SELECT *, id AS n FROM ({rows})", **options).run().errors
    assert error.code == "D004"
    assert (error.hint or "").endswith("; to send the others, set skip_on_invalid_records: true")
    assert shop.sync("it", f"SELECT *, id AS n FROM ({rows})", **options, **SKIPS).run().delivery.accepted == 1
