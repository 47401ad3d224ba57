"""What the page of a project is made of: from the project, the states and their ledgers, and nothing of a person."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.braze.modes import MODES, Mode
from reverse_etl.errors import ProjectError
from reverse_etl.report.site.packed import packed
from reverse_etl.report.site.page import assets, page
from reverse_etl.runs.flaps import HowToLook
from reverse_etl.runs.site import collect
from reverse_etl.runs.site_did import did
from reverse_etl.runs.site_facts import Site, SiteColumn, SiteRun, SiteSync
from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.state.look import sync_status
from tests.shop import EVENTS, Retl, Shop, database, running

NOW = datetime(2026, 11, 25, 8, tzinfo=UTC)
TIERS = "SELECT 'u' || i AS external_id, if(i < 2, 'gold', NULL) AS tier, i AS spent FROM range(4) r(i)"
TEXTS = [{"name": "tier", "description": "level in the loyalty program"}, {"name": "spent", "owner": "Finance"}]


@pytest.fixture
def shop(tmp_path: Path, braze: Sandbox) -> Shop:
    return Shop(tmp_path, braze).sync(
        "tiers", TIERS, owner="CRM", columns=TEXTS, description="levels", schedule="@daily"
    )


def site_of(shop: Shop) -> Site:
    return collect(shop.project(), HowToLook(30, 1, shop.clock.utc()), "1.0")


def text_of(shop: Shop) -> str:
    return page(site_of(shop), assets())


def data_of(text: str) -> Any:
    return json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[0])


@pytest.mark.long
def test_columns_have_their_texts_and_what_became_of_them(shop: Shop):
    shop.run()
    shop.model("tiers", TIERS.replace("'gold'", "'silver'"))
    shop.run()
    (sync,) = site_of(shop).syncs
    tier, spent = sync.columns
    assert (tier.name, tier.type, tier.description, tier.owner) == (
        "tier",
        "string",
        "level in the loyalty program",
        "",
    )
    assert (spent.name, spent.type, spent.description, spent.owner) == ("spent", "number", "", "Finance")
    assert (tier.filled, tier.changes, tier.data_points) == (2, 2, 2)  # those of new rows are no changes
    assert (spent.filled, spent.changes, spent.changed_at) == (4, 0, None)
    assert tier.changed_at is not None
    assert sync.written == 2 + 4 + 2
    assert (sync.owner, sync.status, sync.rows, sync.ends, sync.sends) == ("CRM", "success", 4, "", "attribute")
    assert [(run.accepted, run.requests, run.did, run.changed) for run in sync.runs] == [
        (2, 1, [], {"tier": 2}),
        (4, 1, [("added", 4)], {}),
    ]


PLANNED = {"rows": 9, "in_state": 5, "added": 4, "changed": 1, "removed": 2, "to_send": 7, "unchanged": 4}


@pytest.mark.parametrize(
    ("options", "counts", "words"),
    [
        ({}, {}, [("added", 4)]),
        ({"on_removed": "clear"}, {}, [("added", 4), ("cleared", 2)]),
        ({"on_removed": "delete"}, {"deletes": 2}, [("added", 4), ("deleted", 2)]),
        ({"on_removed": "clear"}, {"invalid": 1}, [("added up to", 4), ("cleared", 2)]),
        ({"on_removed": "clear"}, {"to_send": 8}, [("added up to", 4), ("cleared up to", 2)]),
        ({}, {"changed": 0, "unchanged": 0}, [("sent whole", 4)]),  # as in --full-refresh
        ({}, {"changed": 0, "unchanged": 0, "in_state": 0}, [("added", 4)]),
        (EVENTS, {}, [("sent", 4)]),
        ({"mode": "users_delete"}, {"deletes": 4}, [("deleted", 4)]),
        ({}, {"delivery": {"accepted": 0}}, []),
        ({}, {"suppressed": 3}, [("added", 1), ("suppressed", 3)]),
        (EVENTS, {"suppressed": 4}, [("suppressed", 4)]),
        ({}, {"suppressed": 4, "delivery": {"accepted": 0}}, [("suppressed", 4)]),
    ],
)
def test_run_says_what_it_did_to_whole_rows(
    shop: Shop, options: dict[str, Any], counts: dict[str, Any], words: list[tuple[str, int]]
):
    is_destructive = "deleted" in dict(words)
    shop.sync("it", TIERS, **options, **({"allow_destructive": True} if is_destructive else {}))
    assert did(shop.project().sync("it"), {**PLANNED, "delivery": {"accepted": 7}, **counts}) == words


@pytest.mark.parametrize(
    ("options", "sql", "beside", "columns"),
    [
        (
            {**EVENTS, "track_record_type": "purchases", "primary_key": "order_id"},
            "SELECT 'u1' AS external_id, 'mug' AS product_id, 3.5 AS price, 'EUR' AS currency, 1 AS quantity, "
            "TIMESTAMP '2026-11-23' AS time, 'o1' AS order_id",
            ["external_id", "product_id", "price", "currency", "quantity", "time"],
            ["order_id"],
        ),
        (
            {**EVENTS, "exclude_columns": ["note"]},
            "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, 3 AS pages, 'x' AS note",
            ["external_id", "name", "time"],
            ["pages"],
        ),
        (
            {"mode": "subscription_status_set"},
            "SELECT 'u1' AS external_id, 'g1' AS subscription_group_id, 'subscribed' AS subscription_state",
            [],
            ["external_id", "subscription_group_id", "subscription_state"],
        ),
        ({}, "SELECT 'u1' AS external_id, true AS _update_existing_only, 3 AS spent", ["external_id", "_update_existing_only"], ["spent"]),
    ],
    ids=["purchases", "events", "subscriptions", "attributes"],
)  # fmt: skip
def test_all_columns_that_leave_the_warehouse_are_listed(
    shop: Shop, options: dict[str, Any], sql: str, beside: list[str], columns: list[str]
):
    shop.sync("it", sql, **options)
    for _ in ("before", "after its first run"):
        sync = next(sync for sync in site_of(shop).syncs if sync.name == "it")
        assert [one.name for one in sync.fields] == beside
        assert [one.name for one in sync.columns] == columns
        shop.run("it")


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: mode.label)
def test_what_cannot_be_undone_is_said_of_every_mode(mode: Mode):
    """A mode of which `retl revert` takes nothing back says so by what it sends."""
    assert mode.lasts != Mode.lasts
    goes_back = [("users_track", "attributes"), ("subscription_status_set", None), ("catalog_items", None)]
    assert mode.is_reverted == ((mode.name, mode.record_type) in goes_back)


@pytest.mark.parametrize(
    ("days", "since", "is_overdue"),
    [(0, None, False), (1, 1, False), (2, 1, True), (7, 1, True)],
)
def test_sync_is_overdue_since_the_first_time_that_it_missed_once_it_has_missed_another(
    shop: Shop, days: int, since: int | None, is_overdue: bool
):
    shop.run()
    today = shop.clock.utc().replace(hour=0, minute=0, second=0, microsecond=0)
    shop.clock.ahead = timedelta(days=days)
    (sync,) = site_of(shop).syncs
    assert (sync.due_since, sync.is_overdue) == (since and today + timedelta(days=since), is_overdue)


def test_rows_of_users_who_were_erased_are_suppressed_and_not_added(shop: Shop, retl: Retl):
    shop.run()
    for user in ("u0", "u1"):
        assert retl("forget", user, "--yes", folder=shop.folder).code == 0
    shop.model("tiers", TIERS.replace("range(4)", "range(5)").replace("i AS spent", "i + 1 AS spent"))
    shop.run()
    (sync,) = site_of(shop).syncs
    assert (sync.runs[0].accepted, sync.runs[0].did) == (3, [("added", 1), ("suppressed", 2)])
    assert "suppressed" in data_of(text_of(shop))["texts"]


def test_row_that_consent_withholds_is_called_withheld(shop: Shop):
    sql = "SELECT 'u1' AS external_id, 'unsubscribed' AS email_subscribe"
    shop.sync("it", sql).run("it")
    shop.sync("it", sql.replace("'unsub", "'sub")).run("it")
    sync = next(sync for sync in site_of(shop).syncs if sync.name == "it")
    assert [one.status for one in sync.rejects] == ["withheld"]
    assert sync.lost == [("withheld", 1)]


def test_before_the_first_run_the_model_says_what_there_is(shop: Shop):
    (sync,) = site_of(shop).syncs
    assert [(column.name, column.filled, column.changes) for column in sync.columns] == [
        ("tier", None, 0),
        ("spent", None, 0),
    ]
    assert (sync.status, sync.rows, list(sync.runs), sync.notes) == ("never", 0, [], [])
    assert not (shop.folder / ".retl/test/tiers").exists()


def test_described_column_that_the_model_lacks_is_named(shop: Shop):
    shop.sync("tiers", TIERS, columns=[*TEXTS, {"name": "teir", "description": "level"}])
    (sync,) = site_of(shop).syncs
    assert sync.notes == ['columns: the model does not return "teir"']


SPENT = "SELECT 'u' || i AS external_id, i AS spent FROM range(4) r(i)"
KEPT = "Braze keeps the values that it has"


@pytest.mark.long
def test_column_that_is_no_longer_sent_stays_on_the_page_with_its_changes(shop: Shop):
    """Before the next run, by the state; after it, by the ledger, and by the text of the earlier model."""
    shop.run()
    shop.model("tiers", TIERS.replace("'gold'", "'silver'"))
    shop.run()
    shop.model("tiers", SPENT)
    assert gone_of(shop) == {
        "spent": ("", 4, 0),
        "tier": (f"no longer sent: the model does not return it; {KEPT}", 2, 2),
    }
    shop.run()
    assert gone_of(shop) == {
        "spent": ("", 4, 0),
        "tier": (f"no longer sent since some time after {today(shop)}; {KEPT}", None, 2),
    }
    assert next(run.changed for run in site_of(shop).syncs[0].runs if run.accepted == 2) == {"tier": 2}
    shop.model("tiers", TIERS)
    assert gone_of(shop) == {"spent": ("", 4, 0), "tier": ("", None, 2)}


@pytest.mark.long
def test_column_is_gone_since_the_first_run_that_changed_something_without_it(shop: Shop):
    shop.run()
    shop.model("tiers", SPENT.replace("i AS spent", "i + 1 AS spent"))
    shop.run()
    assert gone_of(shop) == {"spent": ("", 4, 4), "tier": (f"no longer sent since {today(shop)}; {KEPT}", None, 0)}


@pytest.mark.long
def test_column_that_never_changed_is_known_to_be_gone_by_the_text_of_the_earlier_model(shop: Shop):
    shop.run()
    shop.model("tiers", SPENT)
    shop.run()
    shop.model("tiers", "SELECT * FROM nowhere")
    assert gone_of(shop) == {
        "spent": ("", 4, 0),
        "tier": (f"no longer sent since some time after {today(shop)}; {KEPT}", None, 0),
    }


def gone_of(shop: Shop) -> dict[str, tuple[str, int | None, int]]:
    (sync,) = site_of(shop).syncs
    return {column.name: (column.gone, column.filled, column.changes) for column in sync.columns}


def today(shop: Shop) -> str:
    return f"{site_of(shop).syncs[0].runs[0].started_at:%Y-%m-%d}"


def test_model_that_cannot_be_read_leaves_the_rest(shop: Shop):
    shop.run()
    shop.model("tiers", "SELECT nothing FROM nowhere")
    (sync,) = site_of(shop).syncs
    assert [column.name for column in sync.columns] == ["tier", "spent"]
    assert sync.notes == ["the columns of models/tiers.sql cannot be read now: `retl plan tiers` says why"]


def test_rows_that_are_not_in_braze_are_counted_by_reason(shop: Shop):
    shop.sync("tiers", f"{TIERS} UNION ALL SELECT 'u9', repeat('x', 30000), 1", skip_on_invalid_records=True)
    shop.run()
    (sync,) = site_of(shop).syncs
    (reject,) = sync.rejects
    assert (reject.status, reject.column, reject.rows, sync.rejected) == ("left out", "tier", 1, 1)


@pytest.mark.long
def test_rows_that_braze_rejected_have_what_to_do_next(shop: Shop, braze: Sandbox):
    braze.add_fault(Fault("status", status=400, times=100))
    shop.run()
    (reject,) = site_of(shop).syncs[0].rejects
    assert reject.reason.startswith("Braze rejected it: ")
    assert (reject.rows, reject.hint) == (4, "`retl rejects tiers` has the rows, and what Braze said of each")


@pytest.mark.long
def test_sync_that_is_not_green_says_what_is_wrong_and_then_the_rest_a_line_each(shop: Shop):
    shop.sync("tiers", TIERS, data_tests=[{"not_null": "tier"}, {"unique": "tier"}])
    shop.run()
    (sync,) = site_of(shop).syncs
    cause, tried = sync.message.split("\n")
    assert (sync.status, sync.tried_at) == ("blocked", None)
    assert cause == "data test not_null tier: 2 rows fail; data test unique tier: 2 rows fail"
    assert tried.startswith("blocked 1 time in a row, the last at ")
    shop.sync("tiers", "SELECT * FROM nowhere")
    shop.clock.ahead = timedelta(minutes=1)
    shop.run()
    (sync,) = site_of(shop).syncs
    now, tried, before = sync.message.split("\n")
    assert now == "SQL error [P051] in models/tiers.sql:1"
    assert tried.startswith("failed or blocked 2 times in a row, the last at ")
    assert before == f"the last run on record: {cause}"


def test_run_that_failed_before_it_had_a_plan_is_known_by_when_it_was(shop: Shop):
    shop.sync("later", TIERS, after="tiers")
    shop.model("tiers", "SELECT * FROM nowhere")
    shop.run_all("tiers", "later")
    tiers, later = site_of(shop).syncs
    assert [len(sync.runs) for sync in (tiers, later)] == [0, 0]
    assert (tiers.status, later.status) == ("failed", "skipped")
    assert tiers.tried_at is not None
    assert later.tried_at is not None
    assert later.message == "skipped: its predecessors have not succeeded: tiers"


@pytest.mark.long
def test_events_are_those_of_the_lock_file_as_names_are_values(shop: Shop):
    sql = "SELECT 'u1' AS external_id, lower('SEEN') AS name, TIMESTAMP '2026-11-23' AS time, 3 AS pages"
    shop.sync("views", sql, **{**EVENTS, "primary_key": ["external_id", "name", "time"]})
    shop.run("views")
    assert site_of(shop).events == []
    assert "seen" not in data_of(text_of(shop))["texts"]
    (shop.folder / "braze.lock.yml").write_text("version: 1\nevents:\n  seen: {pages: number}\n")
    (event,) = site_of(shop).events
    assert (event.name, event.properties, event.syncs) == ("seen", {"pages": "number"}, ["views"])


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("'seen'", ["seen"]),
        ("CASE WHEN i > 1 THEN 'seen' WHEN i > 0 THEN 'left' ELSE 'went' END", ["seen", "left", "went"]),
        ("CASE WHEN i > 1 THEN 'seen' END", []),
        ("'seen' || i", []),
    ],
)
def test_events_that_a_model_writes_down_are_known_without_a_lock_file(shop: Shop, name: str, known: list[str]):
    sql = f"SELECT 'u1' AS external_id, {name} AS name, TIMESTAMP '2026-11-23' AS time, 3 AS pages FROM range(3) r(i)"
    shop.sync("views", sql, **{**EVENTS, "primary_key": ["external_id", "name", "time"]})
    found = [(event.name, event.properties, event.syncs) for event in site_of(shop).events]
    assert found == [(one, {"pages": "number"}, ["views"]) for one in known]


def test_event_that_a_model_with_ref_writes_down_is_known(shop: Shop):
    shop.model("users", "SELECT 'u1' AS external_id")
    sql = "SELECT external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM {{ ref('users') }}"
    shop.sync("views", sql, **EVENTS)
    assert [event.name for event in site_of(shop).events] == ["seen"]


@pytest.mark.long
def test_event_was_sent_last_when_its_own_row_was_if_the_key_tells_and_not_when_its_sync_ran(shop: Shop):
    sql = "SELECT 'u1' AS external_id, name, i AS n, TIMESTAMP '2026-11-23' AS time FROM range({}) r(i), {}"
    two, key = "(VALUES ('seen'), ('left')) n(name)", ["external_id", "name", "n"]
    written = "SELECT 'u1' AS external_id, 'went' AS name, 1 AS n, TIMESTAMP '2026-11-23' AS time"
    (shop.folder / "braze.lock.yml").write_text("version: 1\nevents:\n  seen: {}\n  left: {}\n")
    shop.sync("views", sql.format(1, two), **{**EVENTS, "primary_key": key})
    shop.sync("others", f"{sql.format(1, two)}".replace("'u1'", "'u2'"), **EVENTS | {"primary_key": ["name", "time"]})
    shop.sync("rest", written, **{**EVENTS, "primary_key": "n"})
    shop.run_all("views", "others", "rest")
    first = sent_last(shop)
    shop.clock.ahead = timedelta(hours=1)
    shop.model("views", sql.format(2, two) + " WHERE i = 0 OR name = 'seen'")
    shop.run("views")
    then = sent_last(shop)
    assert then["left"] == first["left"]
    assert then["seen"]["views"] - first["seen"]["views"] > timedelta(minutes=59)
    assert then["seen"]["others"] == first["seen"]["others"]
    (event,) = (event for event in site_of(shop).events if event.name == "went")
    assert (event.sent_at, event.only) == ({}, ["rest"])


def sent_last(shop: Shop) -> dict[str, Any]:
    return {event.name: event.sent_at for event in site_of(shop).events if event.name != "went"}


@pytest.mark.long
def test_property_that_is_no_longer_sent_is_none_of_the_event(shop: Shop):
    sql = "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, 3 AS pages"
    events = {**EVENTS, "primary_key": ["external_id", "name", "time"]}
    shop.sync("views", f"{sql}, 5 AS seconds", **events).run("views")
    shop.sync("views", sql, **events)
    site = site_of(shop)
    assert [event.properties for event in site.events] == [{"pages": "number"}]
    gone = {column.name: column.gone for column in site.syncs[1].columns}
    keeps = "Braze keeps it in what was sent"
    today = f"{site.syncs[1].runs[0].started_at:%Y-%m-%d}"
    assert gone == {"pages": "", "seconds": f"no longer sent since some time after {today}; {keeps}"}
    shop.model("views", "SELECT * FROM nowhere")
    assert not any(column.gone for column in site_of(shop).syncs[1].columns)


# --- values ----------------------------------------------------------------------------------------------------------

OF_MANY = """SELECT 'u' || i AS external_id, if(i < 20, 'gold', if(i < 28, 'silver', 'of mina')) AS tier,
    'r' || i % 25 AS room, i % 2 = 0 AS member, 'mina' || i % 3 || '@example.com' AS email,
    if(i % 2 = 0, 'mina@example.com', 'other') AS contact FROM range(30) r(i)"""
MAY = [{"name": name, "show_values": True} for name in ("external_id", "tier", "room", "email", "contact")]


@pytest.mark.long
def test_values_are_shown_where_they_may_be_if_they_are_few_and_in_many_rows(shop: Shop):
    shop.warehouse(f"CREATE TABLE people AS {OF_MANY}")
    shop.sync("tiers", "SELECT * FROM people", columns=MAY).run("tiers")
    (sync,) = site_of(shop).syncs
    assert {column.name: list(column.values) for column in sync.columns} == {
        "tier": [("gold", 20), ("silver", 8), ("", 2)],
        "room": [("", 30)],  # 25 values are many
        "member": [],  # nobody allowed it
        "email": [],  # never
        "contact": [("***", 15), ("other", 15)],
    }
    assert {column.name: column.unshown for column in sync.columns if not column.values} == {
        "member": "",
        "email": "never shown: personal data",
    }
    text = text_of(shop)
    assert [one for one in ("mina", "r24", "u29", "example.com") if one in text] == []


@pytest.mark.long
def test_values_are_not_shown_unless_a_sync_says_so(shop: Shop):
    shop.warehouse(f"CREATE TABLE people AS {OF_MANY}")
    shop.sync("tiers", "SELECT * FROM people", columns=[{"name": "tier"}]).run("tiers")
    assert [list(column.values) for column in site_of(shop).syncs[0].columns] == [[]] * 5
    assert "gold" not in text_of(shop)


def test_lineage_has_seeds_sources_and_models(shop: Shop):
    shop.warehouse("CREATE SCHEMA crm; CREATE TABLE crm.levels AS SELECT 'u1' AS external_id, 'gold' AS tier")
    shop.warehouse("CREATE TABLE main.blocked AS SELECT 'u2' AS external_id")
    shop.model("levels", "SELECT * FROM {{ source('crm', 'levels') }}")
    unblocked = "WITH levels AS (FROM {{ ref('levels') }}) FROM levels ANTI JOIN main.blocked USING (external_id)"
    shop.sync("tiers", unblocked)
    nodes = {node.id: node for node in site_of(shop).nodes}
    assert {id_: list(node.parents) for id_, node in nodes.items()} == {
        "model.levels": ["source.crm.levels"],
        "model.tiers": ["model.levels", "table.main.blocked"],
        "source.crm.levels": [],
        "table.main.blocked": [],
    }
    assert nodes["model.levels"].sql == "SELECT * FROM {{ source('crm', 'levels') }}"


def test_sync_of_a_catalog_deletes_items_and_its_sql_lists_no_persons(shop: Shop):
    items = {"mode": "catalog_items", "catalog": "mugs", "on_removed": "delete", "allow_destructive": True}
    shop.sync("mugs", "SELECT 'mug' AS id, 3.5 AS price", **items)
    shop.sync("tiers", TIERS, on_removed="delete", allow_destructive=True)
    site = site_of(shop)
    assert {sync.name: sync.ends for sync in site.syncs} == {"mugs": "deletes items", "tiers": "deletes users"}
    sql = {node.id: node.sql for node in site.nodes}
    assert sql == {"model.mugs": "SELECT 'mug' AS id, 3.5 AS price", "model.tiers": ""}


@pytest.mark.long
def test_no_person_is_on_the_page(tmp_path: Path, braze: Sandbox):
    """Not by a value, a key, an e-mail address in SQL, a response of Braze, or an error that names keys."""
    shop = Shop(tmp_path, braze)
    shop.warehouse(
        "CREATE TABLE people AS SELECT 'mina' || i || '@example.com' AS email, 'Mina Kim' || i AS first_name FROM range(3) r(i)"
    )
    shop.warehouse("CREATE TABLE twins AS SELECT 'carla' AS external_id, unnest([1, 2]) AS n")
    shop.sync("mails", "-- not for boss@example.com\nSELECT * FROM people", primary_key="email")
    shop.sync("twins", "SELECT * FROM twins", primary_key="external_id")
    shop.sync("odd", "SELECT 'no address of ' || first_name AS email, 1 AS n FROM people LIMIT 1", primary_key="email")
    gone = "SELECT 'gustav' AS external_id WHERE 'gustav' <> ''"
    shop.sync("gone", gone, mode="users_delete", allow_destructive=True, guards={"max_deletes": 5})
    results = shop.run_all("mails", "twins", "odd", "gone")
    assert [result.status for result in results] == ["success", "failed", "blocked", "success"], [
        r.errors for r in results
    ]
    text = text_of(shop)
    for personal in ("mina", "Mina", "Kim", "example.com", "boss", "carla", "gustav"):
        assert personal not in text
    assert "@" not in json.dumps(data_of(text))


def test_data_ends_neither_its_block_nor_the_page(shop: Shop):
    shop.sync("tiers", TIERS, description="</script><script>alert(1)</script><!-- @JS@")
    text = text_of(shop)
    assert text.count("<script") == 2
    assert "</script><script>alert(1)</script><!-- @JS@" in data_of(text)["texts"]


def test_looking_changes_no_state(shop: Shop):
    shop.run()
    before = {path: path.read_bytes() for path in sorted((shop.folder / ".retl").rglob("*")) if path.is_file()}
    text_of(shop)
    assert {path: path.read_bytes() for path in sorted((shop.folder / ".retl").rglob("*")) if path.is_file()} == before


def test_state_of_an_older_format_is_migrated_in_its_copy_and_read_as_others_are(shop: Shop):
    shop.run()
    shop.model("tiers", TIERS.replace("'gold'", "'silver'"))
    shop.run()
    at = datetime.now(UTC)
    known = collect(shop.project(), HowToLook(30, 1, at), "1.0")
    with database(shop.folder / ".retl/test/tiers/state.duckdb") as connection:
        connection.execute("UPDATE meta SET value = '9' WHERE key = 'format'")
    assert collect(shop.project(), HowToLook(30, 1, at), "1.0") == known
    assert ("format", "9") in shop.rows_of("meta")


def test_state_that_cannot_be_read_leaves_those_of_others(shop: Shop):
    shop.sync("spent", "SELECT 'u1' AS external_id, 5 AS paid")
    shop.run_all("tiers", "spent")
    state = shop.folder / ".retl/test/tiers/state.duckdb"
    state.write_bytes(state.read_bytes()[:5000])
    tiers, spent = site_of(shop).syncs
    assert tiers.status == "damaged"
    assert tiers.message.startswith("cannot use ")
    assert numbers(tiers) == (None, None, None, None)
    assert (spent.status, spent.rows) == ("success", 1)


def test_numbers_of_a_first_run_that_is_under_way_are_not_known(shop: Shop):
    with running(shop, "u0", ("sync", "tiers")):
        (sync,) = site_of(shop).syncs
    assert sync.status == "running"
    assert sync.message.startswith('sync "tiers" on target "test" is already running: process ')
    assert numbers(sync) == (None, None, None, None)


def test_numbers_of_a_sync_that_is_running_are_those_of_before_and_it_says_so(shop: Shop):
    shop.run()
    shop.model("tiers", TIERS.replace("range(4)", "range(7)"))
    with running(shop, "u5", ("sync", "tiers")):
        (sync,) = site_of(shop).syncs
    assert (sync.status, numbers(sync)) == ("running", (4, 0, 0, 6))
    assert sync.message.splitlines()[1:] == ["the numbers are those of before this run"]


def test_numbers_of_a_killed_run_are_not_known_until_it_is_recovered(shop: Shop):
    shop.sync("seen", "SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time", **EVENTS)
    with running(shop, "u1", ("sync", "seen")) as process:
        process.kill()
        process.wait()
    killed = site_of(shop).syncs[1]
    assert (killed.status, numbers(killed)) == ("killed", (None, None, None, None))
    assert killed.message == (
        "its last run was killed, and what that has sent is not recorded yet: `retl status` does that"
    )
    sync_status(shop.project(), shop.project().sync("seen"))
    recovered = site_of(shop).syncs[1]
    assert (recovered.status, numbers(recovered)) == ("killed", (0, 0, 1, 0))


def numbers(sync: SiteSync) -> tuple[int | None, int | None, int | None, int | None]:
    return sync.rows, sync.rejected, sync.in_doubt, sync.written


def test_broken_lock_file_is_an_error_with_its_line(shop: Shop):
    (shop.folder / "braze.lock.yml").write_text("version: 1\nevents: 3\n")
    with pytest.raises(ProjectError, match=re.escape("braze.lock.yml:2:9")):
        site_of(shop)


# --- size ------------------------------------------------------------------------------------------------------------


def large(syncs: int = 200, columns: int = 300, runs: int = 30) -> Site:
    """A large project: no two syncs write the same attribute, and each run has changed some."""

    def sync(number: int) -> SiteSync:
        written = [
            SiteColumn(
                name=f"attr_{number:03}_{place:03}",
                type=("string", "number", "boolean")[place % 3],
                description=f"what attribute {place} of {number} means" if place % 30 == 0 else "",
                filled=1_000_000 - place * number % 1000,
                changes=place * number % 997,
                data_points=place * number % 997,
                changed_at=NOW - timedelta(days=place % 30),
            )
            for place in range(columns)
        ]
        ran = [
            SiteRun(
                f"{NOW - timedelta(hours=place):%Y%m%dT%H%M%S}-{number:03x}{place:03x}", NOW - timedelta(hours=place), 12.5, "success",
                1_000_000, 5_000 + place, 0, 5_000 + place, 0, 0, 0, 67, 9_000 + place,
                commit=f"{place:040x}", started_by="ci on runner, scheduled", did=[("added", 5_000 + place)],
                changed={f"attr_{number:03}_{one:03}": 100 + one for one in range(20)},
            )
            for place in range(runs)
        ]  # fmt: skip
        texts = (
            f"sync_{number:03}",
            f"attributes of team {number % 12}",
            f"team {number % 12}",
            "users_track / attributes",
        )
        return SiteSync(
            *texts, "user", "attribute", f"sync_{number:03}", "syncs.yml", number * 9, ("hourly",), (), "", "", "@hourly UTC",
            NOW + timedelta(hours=1), None, "success", "", None, 1_000_000, 0, 0, 0, 9_000, written, ran, (), (),
        )  # fmt: skip

    return Site("shop", "prod", "1.0", NOW, 30, [sync(number) for number in range(syncs)], (), (), ())


@pytest.mark.long
def test_two_hundred_syncs_of_three_hundred_attributes_are_under_two_megabytes():
    text = page(large(), assets())
    data = data_of(text)
    assert len(data["names"].split("\n")) == 60_000
    assert len(text.encode()) < 2_000_000


def test_what_is_the_same_is_written_once():
    data = packed(large(2, 3, 1))
    first, second = data["syncs"]
    assert data["names"].split("\n") == ["aattr_000_000", "l1", "l2", "h1_000", "l1", "l2"]
    assert (first[27], second[27]) == ([0, 3], [3, 3])  # ranges of names
    assert data["texts"][0] == ""
    assert data["texts"].count("users_track / attributes") == 1
