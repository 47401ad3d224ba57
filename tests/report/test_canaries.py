"""Values of rows stand where they were asked for, in the state and in the warehouse, and nowhere else."""

import json
import re
import traceback
from pathlib import Path

import pytest

from reverse_etl.api import Project
from reverse_etl.errors import ProjectError
from reverse_etl.sandbox import Fault
from tests.shop import Retl, Shop, erased_from, one_duckdb

EMAILS = [f"canary-{n}@birds.example" for n in range(6)]
PHONES = [f"+4915155667{n:02}" for n in range(6)]
VALUE = "tweety-bird"
CANARIES = [*EMAILS, *PHONES, VALUE, "canary", "5155667"]
ATTRIBUTES = {"mode": "users_track", "track_record_type": "attributes", "skip_on_invalid_records": True}
EVENTS = {"mode": "users_track", "track_record_type": "events", "skip_on_invalid_records": True}
GROUPS = {"mode": "subscription_status_set", "skip_on_invalid_records": True}
ECHO = f"cannot parse email {EMAILS[1]} ({VALUE}), '{PHONES[1]}' or 015155667 01"

FAILING = ["twins", "twin_users", "twins_aside", "twin_users_aside", "thrown", "cast", "called"]
COMMANDS = [
    ["plan"],
    ["plan", "people", "visits", "twins", "cast", "--output", "json"],
    ["plan", "people", "visits", "twins", "cast", "--output", "markdown"],
    ["--log-format", "json", "sync", "--all", "--output", "json"],
    ["sync", "people", "chats", *FAILING],
    ["retry", "people"],
    ["rejects"],
    ["rejects", "--output", "json"],
    ["status"],
    ["status", "--output", "json"],
    ["history"],
    ["history", "--output", "json"],
    ["debug"],
    ["state", "show", "people"],
    ["test", "people", "--data"],
    ["test", "people", "--data", "--output", "json"],
    ["show", "thrown"],
    ["resolve", "visits", "--resend", "--yes", "--key", EMAILS[0]],
]


@pytest.fixture
def birds(shop: Shop) -> Shop:
    """Rows with personal data in every place where a message could take them from."""
    shop.warehouse(
        "CREATE TABLE birds (i INTEGER, id VARCHAR, email VARCHAR, phone VARCHAR, word VARCHAR, seen_at VARCHAR)"
    )
    rows = [
        (n, f"u{n}", email, phone, VALUE, "today" if n == 2 else "2026-11-23")
        for n, (email, phone) in enumerate(zip(EMAILS, PHONES, strict=True))
    ]
    shop.warehouse(f"INSERT INTO birds VALUES {', '.join(map(str, rows))}")
    of_people = "SELECT id AS external_id, email, phone, word, if(i = 2, repeat(word, 50), '') AS long FROM birds"
    shop.sync(
        "people",
        of_people,
        **ATTRIBUTES,
        strict=True,
        primary_key="email",
        data_tests=[{"accepted_values": {"column": "word", "values": ["other"], "severity": "warn"}}],
    )
    shop.sync(
        "groups",
        f"""SELECT email, '{"g" * 8}' AS subscription_group_id, 'no' AS subscription_state FROM birds""",
        **GROUPS,
    )
    shop.sync(
        "calls", """SELECT phone, 'g1' AS subscription_group_id, 'no' AS subscription_state FROM birds""", **GROUPS
    )
    shop.sync("visits", "SELECT email, word AS name, seen_at AS time FROM birds", **EVENTS)
    shop.sync("chats", "SELECT phone AS external_id, word AS name, '2026-11-23' AS time FROM birds", **EVENTS)
    for skips in (False, True):
        name, how = "_aside" if skips else "", {**ATTRIBUTES, "skip_on_invalid_records": skips}
        twins = "SELECT if(twin = 2, NULL, email) AS email, phone, word FROM birds, range(3) AS r(twin)"
        shop.sync(
            f"twins{name}",
            f"{twins} WHERE twin < {3 if skips else 2}",
            **how,
            primary_key="email",
            shares=["phone", "word"],
        )
        of_id = {**how, "primary_key": "id", "exclude_columns": ["id"]}
        shop.sync(f"twin_users{name}", "SELECT 10 * i + twin AS id, email FROM birds, range(2) AS r(twin)", **of_id)
    shop.sync("thrown", "SELECT id AS external_id, error('no such bird: ' || email) AS x FROM birds", **ATTRIBUTES)
    shop.sync("cast", "SELECT id AS external_id, CAST(email AS INTEGER) AS y FROM birds", **ATTRIBUTES)
    shop.sync(
        "called", "SELECT id AS external_id, error('call ' || phone || ', 0151 5566700') AS z FROM birds", **ATTRIBUTES
    )
    braze_says = json.dumps({"message": ECHO})
    shop.braze.add_fault(Fault("object_error", external_ids=["u1"], times=None, error=ECHO))
    shop.braze.add_fault(Fault("status", status=500, body=braze_says, external_ids=PHONES, times=None))
    return shop


def found_in(text: str) -> list[str]:
    text = text.replace('"canary":', "")  # what results have of `--canary`
    return [canary for canary in CANARIES if canary in text]


def files(folder: Path) -> dict[str, str]:
    """Every file of a project outside of .retl, and without the warehouse itself."""
    return {
        str(path.relative_to(folder)): path.read_bytes().decode(errors="replace")
        for path in folder.rglob("*")
        if path.is_file() and ".retl" not in path.relative_to(folder).parts and path.name != "warehouse.duckdb"
    }


@pytest.mark.long
def test_values_of_rows_are_in_no_output_and_no_file(birds: Shop, retl: Retl):
    said = ""
    for command in COMMANDS:
        outcome = retl(*command, folder=birds.folder)
        assert (command, found_in(outcome.out), found_in(outcome.err)) == (command, [], [])
        assert {name: found_in(text) for name, text in files(birds.folder).items() if found_in(text)} == {}
        said += outcome.out + outcome.err
    for message in (
        "chats: 6 rows without a clear response: Braze returned 500: cannot parse email *** (***), *** or ***",
        "data test accepted_values word: 6 rows fail (keys email:",
        'twins: primary_key "email" is not unique: 6 keys occur in 12 rows: email:',
        "twin_users: several rows for the same user (email): 6 keys occur in 12 rows: email:",
        "  (no key) (phone:",
        "  is NULL in the primary key  ",
        "  is not unique: occurs 2 times  return one row per key (GROUP BY, QUALIFY row_number() ...), or add columns to primary_key  email:",
        "  is not unique: occurs 2 times  return one row per user (GROUP BY, QUALIFY row_number() ...)  0, 1, 10 and 9 more\n",
        "models/thrown.sql: Invalid Input Error: no such bird: ***",
        "models/cast.sql:1: Conversion Error: Could not convert string *** to INT32",
        "models/called.sql: Invalid Input Error: call ***, ***",
        'visits: the row with the key "***" is not in doubt',
    ):
        assert message in said
    state = b"".join(path.read_bytes() for path in birds.folder.rglob(".retl/**/state.duckdb"))
    assert {canary for canary in [EMAILS[1], VALUE] if canary.encode() in state} == {EMAILS[1], VALUE}


@pytest.mark.long
def test_values_of_rows_are_shown_to_who_asks_for_them(birds: Shop, retl: Retl):
    planned = retl("plan", "people", "visits", "--show-values", folder=birds.folder).out
    assert f"  + {EMAILS[1]}\n      external_id: u1\n      phone: {PHONES[1]}\n" in planned
    assert f"#1 (email:{EMAILS[1]})\n" in planned
    assert f"data test accepted_values word: 6 rows fail (keys {EMAILS[0]}, " in planned
    twins = retl("plan", "twins", "--show-values", folder=birds.folder).err
    assert f"6 keys occur in 12 rows: {EMAILS[0]} (2 rows), " in twins
    retl("sync", "people", "visits", folder=birds.folder)
    listed = retl("rejects", "people", "--show-values", "--output", "json", folder=birds.folder)
    rejected, invalid = json.loads(listed.out)
    assert (rejected["key"], rejected["reason"], json.loads(rejected["record"])["word"]) == (EMAILS[1], ECHO, VALUE)
    assert (invalid["key"], invalid["column"]) == (EMAILS[2], "long")
    (visit,) = json.loads(retl("rejects", "visits", "--show-values", "--output", "json", folder=birds.folder).out)
    assert visit["identifier"] == f"email:{EMAILS[2]}"


def test_error_is_chained_to_none_that_has_the_value(birds: Shop):
    """Orchestrators print the traceback of what the Python API raises, with its causes."""
    for name in ("thrown", "cast", "called"):
        with pytest.raises(ProjectError) as caught:
            Project(birds.folder, environ=birds.environ).plan(name)
        assert found_in("".join(traceback.format_exception(caught.value))) == []


def test_traceback_of_a_bug_has_no_personal_data(retl: Retl, monkeypatch: pytest.MonkeyPatch):
    def bug(**_: object) -> None:
        one_duckdb().execute("SELECT error($value)", {"value": f"{EMAILS[0]} {PHONES[0]}"})

    monkeypatch.setattr("reverse_etl.cli._command", lambda _: bug)
    outcome = retl("status")
    assert (outcome.code, outcome.out, found_in(outcome.err)) == (1, "", [])
    assert outcome.err.startswith("Traceback (most recent call last):\n")
    assert outcome.err.splitlines()[-1] == "_duckdb.InvalidInputException: Invalid Input Error: *** ***"


# --- digests ---------------------------------------------------------------------------------------------------------


def key_of(shop: Shop, retl: Retl, row: int, name: str = "key") -> str:
    """The key of a row of the only sync, as `retl rejects` lists it."""
    return json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)[row][name]


def in_doubt(shop: Shop, sql: str, **options: object) -> None:
    shop.sync("it", sql, **EVENTS, **options)
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 2


TWO = "SELECT email, 'seen' AS name, '2026-11-23' AS time FROM (VALUES ('a@b.example'), ('c@d.example')) AS two(email)"


def test_digest_is_taken_for_the_key_of_a_row_in_doubt(shop: Shop, retl: Retl):
    in_doubt(shop, TWO, primary_key=["email", "name"])
    keys = [key_of(shop, retl, row) for row in range(2)]
    assert all(re.fullmatch(r'\["email:[0-9a-f]{12}","seen"]', key) for key in keys)
    resolved = retl("resolve", "it", "--resend", "--yes", "--key", keys[1], folder=shop.folder)
    assert resolved.out == "it: 1 row will be sent again by the next run, if valid\n"
    assert [resolution for _, resolution in shop.rows_of("in_doubt", "key", "resolution")].count("resend") == 1


@pytest.mark.long
def test_digest_is_the_same_in_every_command_and_is_taken_for_the_key_of_an_acknowledged_row(shop: Shop, retl: Retl):
    shop.sync("it", TWO, **EVENTS, primary_key="email")
    planned = re.findall(r"^  \+ (email:[0-9a-f]{12})$", retl("plan", "it", folder=shop.folder).out, flags=re.MULTILINE)
    shop.run()
    shown = retl("state", "show", "it", "--key", planned[0], "--output", "json", folder=shop.folder)
    assert json.loads(shown.out)["email"] == "a@b.example"
    erased = retl("forget", planned[1], "--yes", folder=shop.folder)
    assert erased_from(erased) == {"it": (1, 0, 0)}
    assert shop.rows_of("state", "email") == [("a@b.example",)]


def test_digest_of_an_identifier_is_taken_to_erase_a_person(shop: Shop, retl: Retl):
    in_doubt(shop, TWO)
    who = key_of(shop, retl, 0, "identifier")
    assert re.fullmatch("email:[0-9a-f]{12}", who)
    erased = retl("forget", who, "--yes", folder=shop.folder)
    assert erased_from(erased) == {"it": (0, 0, 1)}


def test_digests_of_two_states_are_not_the_same(shop: Shop):
    """Or else somebody who has an address could find it in the logs of anybody."""
    for name in ("one", "other"):
        shop.sync(
            name, "SELECT 'a@b.example' AS email, repeat('x', 300) AS long", **ATTRIBUTES, shares=["long"], strict=True
        )
    one, other = (result.invalid[0].key for result in shop.run_all("one", "other"))
    assert (one == other, one[:6], other[:6]) == (False, "email:", "email:")


def test_keys_of_a_first_run_that_was_blocked_are_masked(shop: Shop, retl: Retl):
    shop.sync(
        "it", "SELECT '0151' AS phone, repeat('x', 300) AS long", mode="users_track", track_record_type="attributes"
    )
    assert shop.run().status == "blocked"
    assert re.fullmatch("phone:[0-9a-f]{12}", key_of(shop, retl, 0))
