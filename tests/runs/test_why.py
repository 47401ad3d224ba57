"""`retl why` names the request that brought a value, and where it comes from."""

import json
import random
import subprocess
import urllib.request
from typing import Any
from urllib.error import HTTPError

import pytest

from reverse_etl.project.lineage import line_of
from reverse_etl.runs.why import summed, why
from reverse_etl.sandbox import Fault
from tests.processes import Forked
from tests.shop import Outcome, Retl, Shop, command, examples, running

MODEL = """
    WITH levels AS (
        SELECT id,
            CASE WHEN points > 10 THEN 'gold'
                ELSE '{}' END AS tier
        FROM (VALUES (1, 20), (2, 5)) t(id, points)
    )
    SELECT 'u' || id AS external_id, 'u' || id || '@x.example' AS email, tier FROM levels
"""


def asked(retl: Retl, shop: Shop, *arguments: str) -> Outcome:
    return retl("why", *arguments, folder=shop.folder)


def in_json(retl: Retl, shop: Shop, *arguments: str) -> dict[str, Any]:
    said = asked(retl, shop, *arguments, "--output", "json", "--show-values")
    assert said.code == 0, said.err
    return json.loads(said.out)


@pytest.fixture
def changed(shop: Shop) -> Shop:
    shop.sync("it", MODEL.format("basic")).run()
    shop.sync("it", MODEL.format("silver")).run()
    return shop


def test_value_has_its_request_run_line_and_what_was_before(changed: Shop, retl: Retl):
    *_, (_, run_id) = changed.rows_of("runs", "epoch_us(finished_at)", "run_id")
    said = asked(retl, changed, "u2", "tier", "--show-values")
    first, written, run, model, now = said.out.splitlines()
    assert first == 'it (syncs.yml:13:3), key u2: tier = "silver"'
    assert written.endswith('request 1 (/users/track, 201): "basic" -> "silver"')
    assert run.split()[:2] == ["run", f"{run_id},"]
    assert (model, now) == (
        "  model     models/it.sql:4, by names (best effort)",
        '  now       the model returns "silver", as in the state',
    )


def test_person_is_found_by_any_identifier_and_nothing_is_shown_that_was_not_asked_for(changed: Shop, retl: Retl):
    said = asked(retl, changed, "u2@x.example")
    assert [row.split()[:5] for row in said.out.splitlines()[1:]] == [
        ["it", "u2", "email", "***", "(none)"],
        ["it", "u2", "tier", "***", "***"],
        ["(values", "masked;", "show", "them", "with"],
    ]
    assert "silver" not in said.out
    masked = "(values masked; show them with --show-values)"
    assert asked(retl, changed, "u2", "tier").out.splitlines()[-1] == masked
    assert masked not in asked(retl, changed, "u2", "tier", "--show-values").out


def test_name_of_a_sync_before_the_key_is_an_error_with_the_command_that_was_meant(changed: Shop, retl: Retl):
    said = asked(retl, changed, "it", "u2", "tier")
    hint = "run `retl why u2 tier --select it`"
    assert (said.code, said.err) == (
        2,
        f'"it" is a sync: `retl why` accepts a key and a column\n  hint: {hint}\n',
    )
    assert asked(retl, changed, *hint.strip("run `").split()[2:]).code == 0
    hint = "run `retl why KEY COLUMN`; quote a key that has blanks in it"
    said = asked(retl, changed, "u2", "Smith", "tier")
    what = "`retl why` accepts a key and a column, not 3 arguments"
    assert (said.code, said.err) == (2, f"{what}\n  hint: {hint}\n")


def test_history_goes_back_to_the_first_write_and_a_run_can_be_asked_for(changed: Shop, retl: Retl):
    (cell,) = in_json(retl, changed, "u2", "tier", "--history")["cells"]
    assert [(one["old"], one["new"], one["kind"]) for one in cell["writes"]] == [
        ("basic", "silver", "changed"),
        (None, "basic", "added"),
    ]
    first = cell["writes"][1]["run_id"]
    (of_run,) = in_json(retl, changed, "u2", "tier", "--run", first)["cells"]
    assert [one["run_id"] for one in of_run["writes"]] == [first]


def test_what_the_model_returns_now_is_told_from_what_was_sent(changed: Shop, retl: Retl):
    changed.model("it", MODEL.format("iron"))
    source = in_json(retl, changed, "u2", "tier")["cells"][0]["source"]
    assert (source["file"], source["line"], source["now"]) == ("models/it.sql", 4, "iron")


@pytest.mark.long
def test_what_is_not_in_braze_is_told(shop: Shop, retl: Retl):
    shop.braze.add_fault(Fault("object_error", external_ids=["u2"]))
    shop.sync("it", MODEL.format("basic")).run()
    said = asked(retl, shop, "u2")
    assert (said.code, "it: u2 is rejected by Braze: see `retl rejects`" in said.err) == (0, True)
    assert retl("forget", "u1", "--yes", folder=shop.folder).code == 0
    assert "it: nothing is sent: the person was erased or deleted" in asked(retl, shop, "u1").err


@pytest.mark.long
def test_state_that_a_sync_is_using_is_read_as_it_was_before(changed: Shop, retl: Retl):
    before = in_json(retl, changed, "u2", "tier")
    changed.model("it", MODEL.format("iron"))
    with running(changed, "u2") as process:
        said = asked(retl, changed, "u2@x.example", "tier", "--show-values")
        assert said.err == "it: in use by a sync; shown is the state from before that run\n"
        assert said.out.splitlines()[0] == 'it (syncs.yml:14:3), key u2: tier = "silver"'
        assert said.out.splitlines()[-1] == '  now       the model returns "iron", not as in the state'
        assert "no state of target test has a row about" in asked(retl, changed, "u9").err
        process.kill()
        process.wait()
    after = in_json(retl, changed, "u2", "tier")["cells"][0]
    assert (after["writes"], after["unsure"]) == (before["cells"][0]["writes"], True)
    assert not [*(changed.folder / ".retl/test/it").glob(".copy-*")]


@pytest.mark.long
def test_who_was_erased_while_a_sync_runs_is_in_no_copy(changed: Shop, retl: Retl):
    changed.sync("gone", "SELECT 'u2' AS external_id", mode="users_delete", allow_destructive=True)
    changed.model("it", MODEL.format("iron"))
    with running(changed, "u2"):
        assert changed.run("gone", skip_guards=["max_deletes=1"]).status == "success"
        said = asked(retl, changed, "u2", "--show-values")
        assert (said.code, said.out.splitlines()[1:]) == (0, [])
        assert "it: nothing is sent: the person was erased or deleted" in said.err


def test_who_is_not_known_is_an_error(changed: Shop, retl: Retl):
    said = asked(retl, changed, "u9", "tier")
    what = 'no state of target test has a row about "u9" with a column tier'
    assert (said.code, what in said.err) == (1, True)


def test_braze_is_asked_too(changed: Shop, retl: Retl):
    said = asked(retl, changed, "u2", "tier", "--read", "--show-values")
    assert said.out.splitlines()[-1] == 'Braze: {"tier": "silver"}'


def test_line_is_blamed_on_its_last_commit(changed: Shop, retl: Retl):
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=ann", "-c", "user.email=ann@x.example", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *who, *arguments], cwd=changed.folder, check=True, capture_output=True)

    git("init")
    git("add", "syncs.yml", "models")
    git("commit", "-m", "silver for all")
    blame = in_json(retl, changed, "u2", "tier")["cells"][0]["source"]["blame"]
    assert blame.endswith("ann: silver for all")


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("SELECT 1 AS a,\n  2 AS tier", 2),
        ("SELECT * FROM (\nSELECT id,\n upper(x) AS tier FROM t) s", 3),
        ("WITH a AS (\nSELECT 1 AS tier\n), b AS (SELECT tier FROM a)\nSELECT b.tier FROM b", 2),
        ("SELECT tier\nFROM t", 1),
        ("SELECT *\nFROM t", None),
        ("SELECT 1 AS other", None),
        ("SELECT 1 AS `tier`", 1),
        ("this is no SQL (", None),
    ],
)
def test_line_of_a_column_is_found_by_names(sql: str, line: int | None):
    assert line_of(sql, "tier", "duckdb") == line


# --- against what the sandbox has written down itself ------------------------------------------------------------------


def killed_at(shop: Shop, number: int) -> None:
    """A run that is killed while it waits for the answer to some request."""
    from tests.shop import Held

    shop.destination = {**shop.destination, "timeout_s": 600}
    shop.write()
    answer = Held(shop.braze, external_ids=[f"u{number}"])
    with Forked(command, shop.folder, {**shop.environ, "PATH": "/usr/bin"}, "sync", "it", "--threads", "2") as process:
        process.wait_for(answer.is_held)
        process.kill()
        process.wait()
    answer.goes_out.set()
    shop.braze.clear_faults()


@pytest.mark.long
def test_it_names_the_request_that_the_sandbox_says_has_written_a_cell(shop: Shop, seed: int):
    """Any history: runs, retries and kills. The request is the one that brought these users."""
    chance = random.Random(f"why {seed}")
    shop.destination = {"max_objects_per_request": 7}
    values: dict[str, list[Any]] = {}
    for _ in range(examples(12, 50)):
        for _ in range(chance.choice([0, 3, 30])):
            name = f"u{chance.randrange(60)}"
            values[name] = [chance.randrange(3), chance.choice(["x", "y", None])]
        listed = ", ".join(f"('{user}', {a}, {'NULL' if b is None else repr(b)})" for user, (a, b) in values.items())
        rows = f"(VALUES {listed}) t(external_id, a, b)" if listed else "(SELECT 'u0' AS external_id, 0 AS a, 'x' AS b)"
        shop.sync("it", f"SELECT external_id, a, b FROM {rows}")
        if chance.random() < 0.4:
            killed_at(shop, chance.randrange(60))
        else:
            if chance.random() < 0.3:
                rejected = Fault("object_error", external_ids=[f"u{chance.randrange(60)}"])
                shop.braze.add_fault(chance.choice([Fault("drop_after"), Fault("status", status=503), rejected]))
            shop.run()
            shop.braze.clear_faults()
    shop.run()
    check(shop, chance, examples(20, 1000))


def check(shop: Shop, chance: random.Random, times: int) -> None:
    bodies = {request.number: json.loads(request.body) for request in shop.braze.requests() if request.body}
    project = shop.project()
    sync, found = project.sync("it"), 0
    for _ in range(times):
        user, column = f"u{chance.randrange(60)}", chance.choice(["a", "b"])
        written = in_sandbox(shop, user).get(column)
        if written is None:
            continue
        value, number = written["value"], written["request"]
        (cell,) = why(project, user, column, [sync], None, True).cells
        request = cell.writes[0]
        assert json.loads(cell.value or "null") == value
        brought = {one["external_id"]: one for one in bodies[number]["attributes"]}
        assert brought[user][column] == value
        theirs = lines_of_request(shop, request.run_id, request.request)
        assert theirs <= brought.keys()
        assert request.objects == len(brought)
        found += 1
    assert found


def in_sandbox(shop: Shop, user: str) -> dict[str, Any]:
    """The custom attributes of a user, each with the request that wrote it; none of one who is not there."""
    try:
        with urllib.request.urlopen(f"{shop.braze.url}/_sandbox/user?external_id={user}") as response:
            found = json.load(response)["custom_attributes"]
            return {one["name"]: {"value": json.loads(one["json"]), "request": one["request"]} for one in found}
    except HTTPError:
        return {}


def lines_of_request(shop: Shop, run_id: str, request: int | None) -> set[str]:
    """The users whose rows a request has changed, as the ledger has it."""
    from reverse_etl.state.opening import state_of

    with state_of(shop.project(), shop.project().sync("it")) as state, state.ledger.opened([run_id]):
        sql = "SELECT DISTINCT key FROM retl_ledger WHERE request = ?"
        return {key for (key,) in state.connection.execute(sql, [request]).fetchall()}


def test_rows_in_doubt_of_a_person_are_counted_with_the_first_of_them(shop: Shop, retl: Retl):
    """Keys that may be personal are shown as digests, as elsewhere."""
    of_events = {"mode": "users_track", "track_record_type": "events", "primary_key": "id"}
    seen = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, {} AS id FROM range(7) r(i)"
    shop.sync("it", seen.format("i"), **of_events)
    shop.sync("mailed", seen.format("'ann' || i || '@example.com'"), **of_events)
    for name in ("it", "mailed"):
        shop.braze.add_fault(Fault("drop_after"))
        shop.run(name)
    it, mailed = in_json(retl, shop, "u1")["notes"]
    why_not = "no complete response: the connection was closed without a response"
    assert it == f"it: 7 rows (0, 1, 2, ...) are in doubt: {why_not}"
    assert mailed.startswith(
        "mailed: 7 rows (ann0@example.com, ann1@example.com, ann2@example.com, ...) are in doubt: "
    )
    said = asked(retl, shop, "u1").err
    assert ("it: 7 rows (" in said, "mailed: 7 rows (" in said, "@example.com" in said) == (True, True, False)


BOUGHT = """
    SELECT 'o-' || i AS id, 'u1' AS external_id, 'book' AS product_id, 'EUR' AS currency, 9.5 AS price,
        now() - to_days(i + 1) AS time
    FROM range({}) r(i)
"""
PURCHASES = {"mode": "users_track", "track_record_type": "purchases", "primary_key": "id"}


def test_braze_is_asked_what_it_knows_of_a_purchase_in_doubt(shop: Shop, retl: Retl):
    """Which ones arrived, a count does not tell; by the row's key its user is found, too."""
    shop.sync("it", BOUGHT.format(2), **PURCHASES)
    shop.braze.add_fault(Fault("drop_after"))
    assert shop.run().delivery.in_doubt == 2
    for key in ("o-1", "u1"):
        said = asked(retl, shop, key, "--read")
        (line,) = (line for line in said.out.splitlines() if "book" in line)
        assert line.startswith("Braze: purchases book: count 2, first 20")
        assert "Braze counts events and purchases of 90 days by name: counts do not identify a single one" in said.err
        (user,) = in_json(retl, shop, key, "--read")["braze"]
        assert [(one["name"], one["count"]) for one in user["purchases"]] == [("book", 2)]


def test_purchase_that_did_not_arrive_is_counted_as_none(shop: Shop, retl: Retl):
    shop.sync("people", "SELECT 'u1' AS external_id, 'gold' AS tier").run()
    shop.sync("it", BOUGHT.format(1), **PURCHASES)
    shop.braze.add_fault(Fault("drop_before"))
    assert shop.run("it").delivery.in_doubt == 1
    assert "Braze: purchases book: count 0" in asked(retl, shop, "o-0", "--read").out.splitlines()
    assert asked(retl, shop, "u1", "tier", "--read", "--show-values").out.splitlines()[-2:] == [
        'Braze: {"tier": "gold"}',
        "Braze: purchases book: count 0",
    ]


def test_events_that_arrived_are_summed_up_by_name(shop: Shop, retl: Retl):
    events = {"mode": "users_track", "track_record_type": "events", "primary_key": ["external_id", "name"]}
    seen = "SELECT 'u1' AS external_id, name, now() - to_days(3) AS time FROM (VALUES ('seen'), ('left')) t(name)"
    shop.sync("it", seen, **events).run()
    (user,) = in_json(retl, shop, "u1", "--read")["braze"]
    assert [(one["name"], one["count"]) for one in user["custom_events"]] == [("left", 1), ("seen", 1)]


@pytest.mark.parametrize(
    "known",
    [None, "purchases", [1, None, {}], [{"name": ["a"], "count": 1}], [{"count": 2}]],
    ids=["null", "text", "no objects", "a name that is a list", "no name"],
)
def test_summary_of_braze_that_is_none_counts_nothing(known: object):
    nothing = [{"name": "a", "count": 0, "first": None, "last": None}]
    assert ([*summed(known, frozenset({"a"}))], [*summed(known, None)]) == (nothing, [])


def test_count_of_braze_that_is_no_number_is_not_known():
    assert [*summed([{"name": "a", "count": "many", "last": "x"}], None)] == [
        {"name": "a", "count": None, "first": None, "last": "x"}
    ]
