"""What a run sends after another one: columns, NULLs, removed rows, keys, schema, rejected rows."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.sandbox import Fault, Sandbox
from tests.shop import Shop, examples, some

PEOPLE = "SELECT * FROM people"


@pytest.fixture
def people(shop: Shop) -> Shop:
    """A shop with three people: u1 Ada gold, u2 Ben (no tier), u3 Cleo silver."""
    shop.warehouse(
        """CREATE TABLE people AS SELECT * FROM (VALUES
            ('u1', 'Ada', 'gold'), ('u2', 'Ben', NULL), ('u3', 'Cleo', 'silver')
        ) AS t(external_id, first_name, tier)"""
    )
    return shop


def records(shop: Shop, request: int = -1) -> list[dict[str, Any]]:
    """The records of one request, in the order of their ids."""
    (array,) = json.loads(shop.sent()[request]).values()
    return sorted(array, key=lambda record: str(record.get("external_id")))


# --- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_unchanged_model_sends_nothing_and_a_changed_row_its_identifier_and_the_changed_column_only(people: Shop):
    people.sync("it", PEOPLE).run()
    result = people.run()
    assert (result.status, result.delivery.requests, result.plan.unchanged, len(people.sent())) == ("success", 0, 3, 1)
    people.warehouse("UPDATE people SET tier = 'platinum' WHERE external_id = 'u1'")
    result = people.run()
    assert people.sent()[1:] == ['{"attributes":[{"external_id":"u1","tier":"platinum"}]}']
    assert (result.plan.changed, result.delivery.accepted, result.delivery.attributes) == (1, 1, 1)


def test_send_all_columns_sends_the_whole_changed_row(people: Shop):
    people.sync("it", PEOPLE, send="all_columns").run()
    people.warehouse("UPDATE people SET tier = 'platinum' WHERE external_id = 'u1'")
    people.run()
    assert people.sent()[1:] == ['{"attributes":[{"external_id":"u1","first_name":"Ada","tier":"platinum"}]}']


def test_switches_go_out_with_each_record_and_are_no_change(people: Shop):
    people.sync("it", f"SELECT *, true AS `_merge_objects`, current_date AS day FROM ({PEOPLE})", exclude_columns="day")
    people.run()
    people.sync("it", f"SELECT *, false AS `_merge_objects` FROM ({PEOPLE})")
    assert people.run().delivery.requests == 0
    people.warehouse("UPDATE people SET tier = 'x' WHERE external_id = 'u1'")
    people.run()
    assert people.sent()[1:] == ['{"attributes":[{"external_id":"u1","tier":"x","_merge_objects":false}]}']


def test_full_refresh_sends_every_row_again(people: Shop):
    people.sync("it", PEOPLE).run()
    result = people.run(full_refresh=True)
    assert (result.plan.added, records(people, 1)) == (3, records(people, 0))
    assert people.run().delivery.requests == 0


def test_other_user_behind_a_key_gets_all_columns(people: Shop):
    people.warehouse("ALTER TABLE people ADD COLUMN customer INTEGER")
    people.warehouse("UPDATE people SET customer = 1 WHERE external_id = 'u1'")
    sql = "SELECT * FROM people WHERE customer = 1"
    people.sync("it", sql, primary_key="customer", exclude_columns="customer").run()
    people.warehouse("UPDATE people SET external_id = 'u9' WHERE customer = 1")
    people.run()
    assert people.sent()[1:] == ['{"attributes":[{"external_id":"u9","first_name":"Ada","tier":"gold"}]}']


# --- NULL ------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_null_that_was_never_sent_is_left_out_and_one_in_place_of_a_sent_value_clears_it(people: Shop):
    people.sync("it", PEOPLE).run()
    assert records(people)[1] == {"external_id": "u2", "first_name": "Ben"}
    people.warehouse("UPDATE people SET tier = NULL WHERE external_id = 'u1'")
    people.run()
    assert people.sent()[1:] == ['{"attributes":[{"external_id":"u1","tier":null}]}']
    assert "tier" not in people.braze.profile(external_id="u1")["custom_attributes"]
    assert people.run().delivery.requests == 0


@pytest.mark.long
def test_nulls_omit_never_clears_and_remembers_what_braze_has(people: Shop):
    people.sync("it", PEOPLE, nulls="omit").run()
    people.warehouse("UPDATE people SET tier = NULL WHERE external_id = 'u1'")
    assert people.run().delivery.requests == 0
    people.warehouse("UPDATE people SET first_name = 'Ida' WHERE external_id = 'u1'")
    people.run()
    people.warehouse("UPDATE people SET tier = 'gold' WHERE external_id = 'u1'")
    assert people.run().delivery.requests == 0  # Braze has it still
    people.warehouse("UPDATE people SET tier = 'basic' WHERE external_id = 'u1'")
    people.run()
    assert people.sent()[1:] == [
        '{"attributes":[{"external_id":"u1","first_name":"Ida"}]}',
        '{"attributes":[{"external_id":"u1","tier":"basic"}]}',
    ]


def test_nulls_send_sends_them_in_new_rows_too(people: Shop):
    people.sync("it", PEOPLE, nulls="send").run()
    assert records(people)[1] == {"external_id": "u2", "first_name": "Ben", "tier": None}


def test_json_null_is_a_null(people: Shop):
    people.sync("it", "SELECT 'u1' AS external_id, '{\"a\":1}' AS prefs", pre_formatted_fields="prefs").run()
    people.sync("it", "SELECT 'u1' AS external_id, ' null ' AS prefs", pre_formatted_fields="prefs").run()
    assert people.sent()[1:] == ['{"attributes":[{"external_id":"u1","prefs":null}]}']


# --- removed rows ----------------------------------------------------------------------------------------------------


def test_sync_of_another_mode_is_not_compared_with_what_the_old_one_sent(shop: Shop):
    sql = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time"
    shop.sync("it", sql, primary_key="external_id").run()
    shop.sync("it", sql, mode="users_track", track_record_type="events", primary_key="external_id")
    result = shop.run()
    assert (result.status, result.exit_code, shop.braze.events()) == ("failed", 1, [])
    assert [str(error) for error in result.errors] == [
        "syncs.yml:15:9: it: its rows were sent as users_track / attributes, and the sync is now users_track / events\n"
        "  hint: give the sync another name; or run `retl state reset it`, and every row is sent as users_track / events"
    ]
    shop.sync("it", sql, primary_key="external_id")
    assert shop.run().delivery.requests == 0


def test_sync_whose_rows_never_arrived_may_get_another_mode(shop: Shop):
    sql = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time"
    shop.braze.add_fault(Fault("status", status=401, times=None))
    assert shop.sync("it", sql, primary_key="external_id").run().status == "failed"
    shop.braze.clear_faults()
    shop.sync("it", sql, mode="users_track", track_record_type="events", primary_key="external_id")
    assert (shop.run().status, len(shop.braze.events())) == ("success", 1)


@pytest.mark.long
def test_removed_row_is_left_alone_unless_told_otherwise(people: Shop):
    people.sync("it", PEOPLE).run()
    people.warehouse("DELETE FROM people WHERE external_id = 'u1'")
    assert people.run().delivery.requests == 0
    people.warehouse("INSERT INTO people VALUES ('u1', 'Ada', 'gold')")
    assert people.run().delivery.requests == 0  # Braze has it still


@pytest.mark.long
def test_on_removed_clear_nulls_what_was_set_and_makes_no_user(people: Shop):
    people.sync("it", PEOPLE, on_removed="clear", guards={"max_removed": "50%"}).run()
    people.warehouse("DELETE FROM people WHERE external_id = 'u2'")
    people.run()
    assert people.sent()[1:] == ['{"attributes":[{"external_id":"u2","_update_existing_only":true,"first_name":null}]}']
    assert people.run().delivery.requests == 0
    people.warehouse("INSERT INTO people VALUES ('u2', 'Ben', 'gold')")
    people.run()
    assert people.sent()[2:] == ['{"attributes":[{"external_id":"u2","first_name":"Ben","tier":"gold"}]}']


@pytest.mark.long
def test_on_removed_delete_deletes_the_user(people: Shop):
    people.sync("it", PEOPLE, on_removed="delete", allow_destructive=True, guards={"max_removed": 1}).run()
    people.warehouse("DELETE FROM people WHERE external_id = 'u2'")
    people.warehouse("UPDATE people SET tier = 'x' WHERE external_id = 'u1'")
    result = people.run()
    assert {(r.path, r.body) for r in people.braze.requests()[1:]} == {
        ("/users/track", '{"attributes":[{"external_id":"u1","tier":"x"}]}'),
        ("/users/delete", '{"external_ids":["u2"]}'),
    }
    assert (result.status, people.braze.profile(external_id="u2")) == ("success", None)
    assert people.run().delivery.requests == 0


@pytest.mark.long
def test_user_who_is_listed_for_deletion_again_is_deleted_again(people: Shop):
    gone = {"mode": "users_delete", "allow_destructive": True}
    people.sync("it", "SELECT external_id FROM people WHERE tier = 'gold'", **gone).run()
    people.warehouse("UPDATE people SET tier = 'basic'")
    assert people.run().delivery.requests == 0
    people.warehouse("UPDATE people SET tier = 'gold' WHERE external_id = 'u1'")
    people.run()
    assert people.sent() == ['{"external_ids":["u1"]}', '{"external_ids":["u1"]}']


# --- guards ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_guards_stop_a_run_that_changes_or_removes_too_much_or_whose_model_is_empty(people: Shop):
    people.sync("it", PEOPLE, guards={"max_changes": "50%"})
    assert [problem.message for problem in people.run().errors] == [
        "it: guard max_changes: 3 rows would be sent; at most 1 is allowed (50% of 3)"
    ]
    assert people.sent() == []
    people.sync("it", PEOPLE, on_removed="clear").run()
    people.warehouse("DELETE FROM people WHERE external_id = 'u1'")
    result = people.run()
    assert [str(problem) for problem in result.errors] == [
        "syncs.yml:13:3: it: guard max_removed: on_removed: clear would affect 1 row; at most 0 are allowed (10% of 3)\n"
        "  hint: find out why: `retl plan it`; only if all of it is meant, run `retl sync it --skip-guard max_removed=1`"
    ]
    assert (result.status, result.exit_code, len(people.sent())) == ("blocked", 1, 1)
    assert people.run(skip_guards=["max_removed"]).status == "success"
    people.sync("it", PEOPLE, on_removed="clear", guards={"max_removed": "100%"})
    people.warehouse("DELETE FROM people")
    assert [(problem.message, problem.hint) for problem in people.run().errors] == [
        (
            "it: guard empty_model: the model returned no rows, but the state has 2",
            "find out why: `retl plan it`; only if all of it is meant, run `retl sync it --skip-guard empty_model`",
        )
    ]
    assert people.run(skip_guards=["empty_model"]).plan.removed == 2


def test_number_behind_a_skipped_guard_is_an_upper_bound(people: Shop):
    people.sync("it", PEOPLE, guards={"max_changes": 1})
    result = people.run(skip_guards=["max_changes=2"])
    assert [(problem.message, problem.hint) for problem in result.errors] == [
        (
            "it: guard max_changes: 3 rows would be sent; at most 1 is allowed, "
            "and --skip-guard max_changes=2 allows 2",
            "find out why: `retl plan it`; only if all of it is meant, run `retl sync it --skip-guard max_changes=3`",
        )
    ]
    assert people.sent() == []
    assert people.run(skip_guards={"max_changes": 3}).delivery.accepted == 3


# --- keys ------------------------------------------------------------------------------------------------------------


def test_null_and_duplicate_keys_stop_the_run_with_their_names_and_counts(people: Shop):
    people.warehouse("INSERT INTO people VALUES (NULL, 'Nobody', NULL), (NULL, 'Nobody', NULL)")
    result = people.sync("it", PEOPLE).run()
    assert [str(problem) for problem in result.errors] == [
        'syncs.yml:13:3: it: primary_key "external_id" is NULL in 2 rows of the model\n'
        "  hint: set a value, or exclude them in models/it.sql: WHERE external_id IS NOT NULL"
        "; to send the others, set skip_on_invalid_records: true"
    ]
    assert (result.exit_code, people.sent()) == (1, [])
    people.warehouse("DELETE FROM people WHERE external_id IS NULL")
    people.warehouse("INSERT INTO people SELECT * FROM people WHERE external_id <> 'u3'")
    people.warehouse("INSERT INTO people VALUES ('u1', 'Ada II', NULL)")
    result = people.sync("it", PEOPLE, primary_key="external_id").run()
    assert [str(problem) for problem in result.errors] == [
        'syncs.yml:17:16: it: primary_key "external_id" is not unique: 2 keys occur in 5 rows: u1 (3 rows), u2 (2 rows)\n'
        "  hint: return one row per key (GROUP BY, QUALIFY row_number() ...), or add columns to primary_key"
        "; to send the others, set skip_on_invalid_records: true"
    ]
    assert (result.status, result.exit_code, people.sent()) == ("failed", 1, [])


def test_two_rows_of_one_user_stop_the_run(people: Shop):
    people.sync(
        "it",
        f"SELECT row_number() OVER () AS id, * FROM ({PEOPLE} UNION ALL SELECT 'u1', 'Ada II', 'basic')",
        primary_key="id",
        exclude_columns="id",
    )
    result = people.run()
    assert [problem.message for problem in result.errors] == [
        "it: several rows for the same user (external_id): 1 key occurs in 2 rows: u1 (2 rows)"
    ]
    assert people.sent() == []


def test_other_primary_key_than_so_far_stops_the_run(people: Shop):
    people.sync("it", PEOPLE, primary_key="external_id").run()
    result = people.sync("it", PEOPLE, primary_key=["external_id", "first_name"]).run()
    assert [str(problem) for problem in result.errors] == [
        "syncs.yml:18:3: it: the primary key was (external_id) so far, and is now (external_id, first_name)\n"
        "  hint: run `retl state reset it`, and every row is sent again"
    ]


# --- events ----------------------------------------------------------------------------------------------------------

SEEN = "SELECT external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, page FROM views"
EVENTS = {"mode": "users_track", "track_record_type": "events"}


@pytest.mark.long
def test_two_equal_events_are_two_events_and_are_not_sent_again_when_they_return(shop: Shop):
    shop.warehouse("CREATE TABLE views AS SELECT 'u1' AS external_id, '/a' AS page FROM range(2)")
    shop.sync("it", SEEN, **EVENTS).run()
    assert len(shop.braze.events()) == 2
    assert shop.run().delivery.requests == 0
    shop.warehouse("INSERT INTO views VALUES ('u1', '/a'), ('u1', NULL)")
    result = shop.run()
    assert (result.plan.added, result.plan.unchanged, len(shop.braze.events())) == (2, 2, 4)
    shop.warehouse("DELETE FROM views WHERE page IS NULL")
    assert (shop.run().status, len(shop.braze.events())) == ("success", 4)
    shop.warehouse("INSERT INTO views VALUES ('u1', NULL)")
    assert shop.run().delivery.requests == 0


@pytest.mark.long
def test_event_with_a_key_is_sent_once_whatever_changes_in_it_and_the_state_holds_nothing_but_the_key(shop: Shop, retl):
    shop.warehouse("CREATE TABLE views AS SELECT 1 AS id, 'u1' AS external_id, '/a' AS page")
    shop.sync("it", SEEN.replace("page", "page, id"), primary_key="id", **EVENTS).run()
    state = json.loads(retl("state", "show", "it", "--output", "json", folder=shop.folder).out)
    assert (state["columns"], state["rows_in_braze"], state["runs"]) == ("id INTEGER", 1, 1)
    shop.warehouse("UPDATE views SET page = '/b'")
    assert shop.run().delivery.requests == 0


# --- schema ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_new_column_goes_out_alone_where_it_has_a_value_and_a_dropped_one_is_forgotten_and_not_cleared(people: Shop):
    people.sync("it", PEOPLE).run()
    people.warehouse("ALTER TABLE people ADD COLUMN city VARCHAR")
    people.warehouse("UPDATE people SET city = 'Seoul' WHERE external_id = 'u3'")
    people.run()
    assert people.sent()[1:] == ['{"attributes":[{"external_id":"u3","city":"Seoul"}]}']
    people.sync("it", "SELECT external_id, first_name, city FROM people")
    assert people.run().delivery.requests == 0
    assert people.braze.profile(external_id="u1")["custom_attributes"] == {"tier": "gold"}
    people.sync("it", PEOPLE).run()
    assert records(people) == [{"external_id": "u1", "tier": "gold"}, {"external_id": "u3", "tier": "silver"}]


@pytest.mark.long
def test_changed_type_stops_the_run_until_it_is_accepted(people: Shop):
    people.sync("it", "SELECT external_id, length(first_name) AS n FROM people").run()
    people.sync("it", "SELECT external_id, length(first_name)::VARCHAR AS n FROM people")
    result = people.run()
    assert [str(problem) for problem in result.errors] == [
        'syncs.yml:14:10: it: the model changed the type of "n" from BIGINT to VARCHAR\n'
        "  hint: CAST it back in the model, or run `retl sync it --accept-schema-change` to send its values again"
    ]
    assert (result.exit_code, len(people.sent())) == (1, 1)
    assert people.run(accept_schema_change=True).plan.changed == 3
    assert records(people)[0] == {"external_id": "u1", "n": "3"}
    assert people.run().delivery.requests == 0


@pytest.mark.long
def test_changed_type_of_the_key_is_the_same_user(people: Shop):
    people.sync("it", "SELECT 7 AS external_id, 'x' AS tier").run()
    people.sync("it", "SELECT '7' AS external_id, 'x' AS tier")
    assert people.run().exit_code == 1
    assert people.run(accept_schema_change=True).delivery.requests == 0
    assert people.run().plan.unchanged == 1


def test_enum_that_grew_is_no_change_of_type(people: Shop):
    people.sync("it", "SELECT 'u1' AS external_id, 'a'::ENUM('a') AS v").run()
    people.sync("it", "SELECT 'u1' AS external_id, 'a'::ENUM('a', 'b') AS v")
    assert people.run().status == "success"


# --- merged objects --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_key_that_left_a_merged_object_makes_the_row_invalid(shop: Shop):
    columns = "'u1' AS external_id, true AS `_merge_objects`"
    shop.sync("it", f"SELECT {columns}, {{'a': 1, 'b': {{'c': 2}}}} AS v").run()
    shop.sync("it", f"SELECT {columns}, {{'a': 1, 'b': {{'c': NULL::INTEGER}}}} AS v")
    (row,) = shop.run().invalid
    assert (row.column, row.reason, row.hint) == (
        "v",
        "no longer has a key that is in Braze, and a merge cannot remove keys",
        "set _merge_objects to false for this row, so that the whole object is replaced",
    )
    shop.sync("it", "SELECT 'u1' AS external_id, false AS _merge_objects, {'a': 1, 'b': {'c': NULL::INTEGER}} AS v")
    assert shop.run().status == "success"
    assert shop.braze.profile(external_id="u1")["custom_attributes"] == {"v": {"a": 1, "b": {}}}


# --- invalid and rejected rows ---------------------------------------------------------------------------------------

MIXED = "SELECT 'u' || i AS external_id, if(i % 10 = 3, repeat('x', 300), 'ok') AS bio FROM range(30) r(i)"


@pytest.mark.long
def test_one_invalid_row_keeps_everything_back_or_is_skipped_and_kept_and_goes_out_once_it_is_mended(shop: Shop):
    result = shop.sync("it", MIXED, strict=True).run()
    assert [str(problem) for problem in result.errors] == [
        "syncs.yml:13:3: it: 3 of 30 rows are invalid, so nothing was sent\n"
        "  hint: list them with `retl rejects it`; to send the others, set skip_on_invalid_records: true"
    ]
    assert [(row.key, row.column, row.hint) for row in result.invalid] == [
        ("u13", "bio", "truncate it: left(bio, 255)"),
        ("u23", "bio", "truncate it: left(bio, 255)"),
        ("u3", "bio", "truncate it: left(bio, 255)"),
    ]
    assert (result.status, result.exit_code, shop.sent()) == ("blocked", 1, [])
    result = shop.sync("it", MIXED, strict=True, skip_on_invalid_records=True).run()
    assert (result.status, result.exit_code, result.delivery.accepted, result.plan.invalid) == ("incomplete", 1, 27, 3)
    again = shop.run()
    assert (again.status, again.exit_code, again.delivery.requests, again.plan.invalid) == ("incomplete", 1, 0, 3)
    shop.sync("it", MIXED.replace("300", "200"), strict=True, skip_on_invalid_records=True)
    assert (shop.run().delivery.accepted, shop.run().status) == (3, "success")


@pytest.mark.long
def test_row_that_braze_rejected_is_not_sent_again_until_it_changes(people: Shop):
    people.braze.add_fault(Fault("object_error", external_ids=("u2",), times=None, error="is on the blocklist"))
    result = people.sync("it", PEOPLE).run()
    assert (result.status, result.exit_code, result.delivery.accepted, result.delivery.rejected) == (
        "incomplete",
        1,
        2,
        1,
    )
    again = people.run()
    assert (again.status, again.exit_code) == ("incomplete", 1)
    assert (again.delivery.requests, again.plan.previously_rejected) == (0, 1)
    people.warehouse("UPDATE people SET tier = 'gold' WHERE external_id = 'u2'")
    assert people.run().delivery.rejected == 1
    people.braze.clear_faults()
    people.warehouse("UPDATE people SET tier = 'silver' WHERE external_id = 'u2'")
    assert (people.run().status, people.run().status) == ("success", "success")
    assert records(people) == [{"external_id": "u2", "first_name": "Ben", "tier": "silver"}]


def test_state_belongs_to_one_target(people: Shop):
    people.sync("it", PEOPLE).run()
    text = (people.folder / "syncs.yml").read_text()
    (people.folder / "syncs.yml").write_text(text.replace("test:", "other:").replace("target: test", "target: other"))
    assert people.run().plan.added == 3


# --- keys that stand twice, seen against a state ---------------------------------------------------------------------

PAIRS = "SELECT * FROM (VALUES ('a', 1), ('b', 2), ('c', 3)) t(external_id, n)"


TWICE = {
    "one is unchanged, the other is not": "('a', 1), ('a', 9), ('b', 2), ('c', 3)",
    "both are unchanged": "('a', 1), ('a', 1), ('b', 2), ('c', 3)",
    "and another key is gone": "('a', 1), ('a', 1), ('b', 2)",
    "and most keys are gone": "('a', 1), ('a', 9)",
    "both have changed": "('a', 8), ('a', 9), ('b', 2), ('c', 3)",
    "both are new": "('d', 8), ('d', 9), ('b', 2), ('c', 3)",
    "and others are new": "('a', 1), ('a', 1), ('d', 9), ('e', 2), ('f', 3), ('g', 3)",
}


CASES = list(TWICE)


@pytest.mark.long
@pytest.mark.parametrize(
    ("on_removed", "cases"),
    [("ignore", some(CASES)), ("clear", some([*CASES[1:], CASES[0]]))],
    ids=["removed rows are ignored", "they are cleared"],
)
def test_key_that_stands_twice_is_found_whatever_the_state_knows_of_it(shop: Shop, on_removed: str, cases: list[str]):
    shop.sync("it", PAIRS, on_removed=on_removed, guards={"max_removed": "100%"}).run()
    for case in cases:
        shop.model("it", f"SELECT * FROM (VALUES {TWICE[case]}) t(external_id, n)")
        result = shop.run()
        assert (case, result.status, len(shop.sent())) == (case, "failed", 1)
        assert 'primary_key "external_id" is not unique: 1 key occurs in 2 rows:' in result.errors[0].message


@pytest.mark.parametrize("on_removed", ["ignore", "clear"])
def test_key_that_stands_twice_is_found_while_a_new_type_is_accepted(shop: Shop, on_removed: str):
    rows = "('a', NULL::{0}, 'x'), ('b', NULL, 'y')"
    model = f"SELECT * FROM (VALUES {rows}) t(external_id, n, s)"
    shop.sync("it", model.format("INTEGER"), on_removed=on_removed).run()
    shop.model("it", f"{model.format('VARCHAR')} UNION ALL SELECT 'a', NULL, 'x'")
    result = shop.run(accept_schema_change=True)
    assert (result.status, len(shop.sent())) == ("failed", 1)
    assert 'primary_key "external_id" is not unique: 1 key occurs in 2 rows:' in result.errors[0].message


def test_key_that_stands_twice_in_an_incremental_model_is_found_once_it_matters(shop: Shop):
    cursor = {"cursor": "n"}
    shop.sync("it", PAIRS, incremental=cursor).run()
    shop.model("it", "SELECT * FROM (VALUES ('c', 3), ('c', 4)) t(external_id, n)")
    assert 'primary_key "external_id" is not unique' in shop.run().errors[0].message


@pytest.mark.long
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 2)), max_size=12), st.sampled_from(["ignore", "clear"])
)
@settings(max_examples=examples(5, 100))
def test_counts_of_a_plan_are_those_of_the_model(rows, on_removed: str):
    with TemporaryDirectory() as folder, Sandbox() as braze:
        shop = Shop(Path(folder) / "shop", braze)
        shop.warehouse("CREATE TABLE t (external_id VARCHAR, n INTEGER)")
        options = {"on_removed": on_removed, "guards": {"max_removed": "100%", "empty_model": False}}
        shop.sync("it", "SELECT * FROM t", **options)
        before: dict[str, int] = {}
        for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
            shop.warehouse("DELETE FROM t")
            if half:
                given = ", ".join("(?, ?)" for _ in half)
                shop.warehouse(f"INSERT INTO t VALUES {given}", *(value for row in half for value in row))
            result = shop.run()
            after = dict(half)
            if len(after) < len(half):
                assert "is not unique" in result.errors[0].message
                continue
            plan, gone = result.plan, before.keys() - after.keys()
            changed = sum(before[key] != after[key] for key in before.keys() & after.keys())
            assert (plan.rows, plan.added, plan.changed) == (len(after), len(after.keys() - before.keys()), changed)
            assert plan.removed == (len(gone) if on_removed == "clear" else 0)
            before = after if on_removed == "clear" else {**before, **after}


def test_model_that_needs_more_memory_says_how_to_give_it(shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id, length(string_agg(repeat('x', 10000), '')) AS n FROM range(20000)")
    result = shop.run(memory_limit="100MB")
    assert (result.status, result.exit_code, result.errors[0].hint) == (
        "failed",
        1,
        "raise the limit (`retl sync --memory-limit 4GB`), or free disk space for DuckDB to spill to",
    )
    assert result.errors[0].message.startswith("models/it.sql: DuckDB ran out of memory: ")
    assert shop.sent() == []
