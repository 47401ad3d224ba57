"""Models that return only what is new: nothing is lost and nothing doubled at the boundary."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.plan.actions import Intent
from reverse_etl.sandbox import Fault, Sandbox
from tests.shop import Retl, Shop, database, examples, some

EVENTS = {"mode": "users_track", "track_record_type": "events"}
SEEN = """
    SELECT id AS external_id, 'seen' AS name, seen_at AS time, seen_at FROM seen
    {% if is_incremental() %}WHERE seen_at > {{ cursor() }}{% endif %}
"""
SAME_TIME = SEEN.replace("seen_at AS time", "TIMESTAMP '2026-11-23' AS time")
NOON = datetime(2026, 11, 20, 12)


def seen(shop: Shop, *rows: tuple[str, object], of: str = "TIMESTAMP") -> None:
    """Add rows to the warehouse."""
    with database(shop.folder / "warehouse.duckdb") as connection:
        connection.execute(f"CREATE TABLE IF NOT EXISTS seen (id VARCHAR, seen_at {of})")
        for row in rows:
            connection.execute("INSERT INTO seen VALUES (?, ?)", row)


def events(shop: Shop, sql: str = SEEN, keyed: bool = True, incremental: dict[str, object] | None = None) -> Shop:
    key = {"primary_key": "external_id"} if keyed else {}
    rest = {"exclude_columns": ["seen_at"], "skip_on_invalid_records": True}
    return shop.sync("it", sql, **EVENTS, **key, **rest, incremental={"cursor": "seen_at", **(incremental or {})})


def arrived(shop: Shop) -> list[str]:
    return sorted(event["external_id"] for event in shop.braze.events())


@pytest.mark.long
def test_second_run_reads_only_what_is_new_since_a_watermark_that_is_shown_and_a_full_refresh_everything(
    shop: Shop, retl: Retl
):
    seen(shop, ("a", NOON), ("b", NOON + timedelta(hours=1)))
    assert events(shop).run().plan.rows == 2
    seen(shop, ("c", NOON + timedelta(hours=2)))
    result = shop.run()
    assert (result.plan.rows, result.plan.since, result.delivery.accepted) == (2, "2026-11-20 13:00:00", 1)
    assert arrived(shop) == ["a", "b", "c"]
    compiled = (shop.folder / "target/compiled/it.sql").read_text()
    assert "WHERE seen_at > CAST('2026-11-20 12:59:59.999999' AS TIMESTAMP)" in compiled
    shown = retl("state", "show", "it", folder=shop.folder).out
    assert "watermark      seen_at 2026-11-20 14:00:00\n" in shown
    planned = retl("plan", "it", folder=shop.folder).out
    assert "+ 0 added   ~ 0 changed   - 0 removed   1 unchanged since 2026-11-20 14:00:00" in planned
    result = shop.run(full_refresh=True)
    assert (result.plan.rows, result.plan.since, result.delivery.accepted) == (3, None, 3)


TYPES = [
    ("TIMESTAMP", NOON, NOON + timedelta(seconds=1)),
    ("TIMESTAMP_S", NOON, NOON + timedelta(seconds=1)),
    ("TIMESTAMP_NS", NOON, NOON + timedelta(seconds=1)),
    ("TIMESTAMPTZ", NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=UTC) + timedelta(seconds=1)),
    ("DATE", NOON.date(), NOON.date() + timedelta(days=1)),
    ("BIGINT", 1_790_000_000, 1_790_000_001),
    ("UINTEGER", 0, 1),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("sign", "of", "at", "later"), some([(sign, *row) for row in TYPES for sign in (">", ">=")], every=3)
)
def test_rows_equal_to_the_boundary_are_neither_lost_nor_doubled(shop: Shop, sign: str, of: str, at, later):
    seen(shop, ("a", at), ("b", later), of=of)
    events(shop, SAME_TIME.replace("seen_at > ", f"seen_at {sign} ")).run()
    seen(shop, ("c", later), ("d", later), of=of)
    assert shop.run().delivery.accepted == 2
    assert shop.run().delivery.requests == 0
    assert arrived(shop) == ["a", "b", "c", "d"]


@pytest.mark.long
def test_equal_rows_without_a_key_that_come_one_after_the_other_are_all_sent(shop: Shop):
    seen(shop, ("a", NOON), ("a", NOON))
    events(shop, SAME_TIME, keyed=False).run()
    seen(shop, ("a", NOON), ("a", NOON + timedelta(hours=1)))
    assert shop.run().delivery.accepted == 2
    assert (shop.run().delivery.requests, arrived(shop)) == (0, ["a"] * 4)


@pytest.mark.long
def test_late_rows_are_read_within_the_lookback(shop: Shop):
    seen(shop, ("a", NOON))
    events(shop, incremental={"lookback": "1 hour"}).run()
    seen(shop, ("late", NOON - timedelta(minutes=59)), ("too late", NOON - timedelta(minutes=61)))
    assert (shop.run().plan.since, arrived(shop)) == ("2026-11-20 11:00:00", ["a", "late"])


@pytest.mark.long
@pytest.mark.parametrize("outcome", ["rejected", "invalid", "in doubt", "unsent"])
def test_watermark_never_passes_a_row_that_is_not_acknowledged(shop: Shop, outcome: str):
    seen(shop, ("a", NOON), ("b", NOON + timedelta(hours=1)), ("c", NOON + timedelta(hours=2)))
    faults = {
        "rejected": [Fault("object_error", external_ids=["b"])],
        "invalid": [],
        "in doubt": [Fault("drop_after", external_ids=["b"])],
        "unsent": [Fault("status", status=401, external_ids=["b"])],
    }
    shop.braze.add_fault(*faults[outcome])
    bad_time = "CASE WHEN id = 'b' THEN NULL ELSE seen_at END AS time"
    shop.destination = {"max_objects_per_request": 1}
    events(shop, SEEN.replace("seen_at AS time", bad_time) if outcome == "invalid" else SEEN).run()
    seen(shop, ("d", NOON + timedelta(hours=3)))
    result = shop.run()
    assert (result.plan.since, result.plan.rows) == ("2026-11-20 13:00:00", 3)
    held = f"the watermark is held at 2026-11-20 13:00:00 since {datetime.now(UTC):%Y-%m-%d}"
    (notice,) = [notice for notice in shop.listener.notices if held in notice]
    to_do = "not sent yet; the next run sends what is left of them" if outcome == "unsent" else "`retl rejects it`"
    assert notice.endswith(f" not in Braze: {to_do}")
    events(shop).run()
    assert arrived(shop) == (["a", "c", "d"] if outcome == "rejected" else ["a", "b", "c", "d"])
    if outcome in ("invalid", "unsent"):
        assert shop.run().plan.since == "2026-11-20 15:00:00"


@pytest.mark.long
def test_run_that_was_stopped_before_it_sent_moves_no_watermark(shop: Shop):
    seen(shop, ("a", NOON))
    events(shop).run()
    seen(shop, ("b", NOON + timedelta(hours=1)), ("c", NOON + timedelta(hours=2)))
    shop.syncs[0]["guards"] = {"max_changes": 1}
    shop.write()
    assert shop.run().status == "blocked"
    assert shop.run(skip_guards=["max_changes"]).delivery.accepted == 2


@pytest.mark.long
def test_cursor_far_in_the_future_does_not_carry_the_watermark_along(shop: Shop):
    seen(shop, ("a", NOON), ("typo", datetime(9999, 12, 31)))
    events(shop, SAME_TIME).run()
    seen(shop, ("b", datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)))
    assert shop.run().delivery.accepted == 1


@pytest.mark.long
def test_row_that_an_incremental_model_leaves_out_is_not_gone(shop: Shop):
    seen(shop, ("a", NOON), ("b", NOON + timedelta(hours=1)))
    sql = (
        "SELECT id AS external_id, seen_at FROM seen {% if is_incremental() %}WHERE seen_at > {{ cursor() }}{% endif %}"
    )
    shop.sync("it", sql, incremental={"cursor": "seen_at"}).run()
    shop.warehouse("UPDATE seen SET seen_at = seen_at + INTERVAL 1 DAY WHERE id = 'b'")
    result = shop.run()
    assert (result.plan.changed, result.plan.removed, len(shop.rows_of("state"))) == (1, 0, 2)
    shop.warehouse("DELETE FROM seen")
    assert shop.run().status == "success"  # an empty window is no empty model


# --- letting go ------------------------------------------------------------------------------------------------------


def let_go(shop: Shop, **incremental: object) -> Shop:
    """A state whose rows were sent long ago, and left it with the run after, as far as they may."""
    seen(shop, ("a", NOON), ("b", NOON + timedelta(hours=1)), ("c", NOON + timedelta(hours=2)))
    events(shop, incremental={"retention": "90 days", **incremental}).run()
    with database(shop.folder / ".retl/test/it/state.duckdb") as connection:
        connection.execute("UPDATE state SET _retl_sent_at = _retl_sent_at - INTERVAL 91 DAYS")
    shop.run()
    return shop


@pytest.mark.long
def test_rows_that_were_sent_long_ago_leave_the_state_and_are_never_new_again(shop: Shop, retl: Retl):
    """And a sync that let go of rows does not stop being incremental unasked."""
    let_go(shop)
    assert shop.rows_of("state", "external_id") == [("c",)]
    shop.model(
        "it", "SELECT id AS external_id, 'seen' AS name, seen_at AS time, seen_at FROM seen"
    )  # does not ask where to begin
    assert (shop.run().delivery.requests, arrived(shop)) == (0, ["a", "b", "c"])
    assert "; rows up to 2026-11-20 13:00:00 were pruned" in retl("state", "show", "it", folder=shop.folder).out
    del shop.syncs[0]["incremental"]
    shop.write()
    result = shop.run()
    assert [str(problem) for problem in result.errors] == [
        'syncs.yml:13:3: it: rows up to 2026-11-20 13:00:00 of "seen_at" were pruned, and would now count as new\n'
        "  hint: set `incremental: {cursor: seen_at}` again"
    ]
    assert (result.status, arrived(shop)) == ("failed", ["a", "b", "c"])


def test_rows_within_the_lookback_stay(shop: Shop):
    let_go(shop, lookback="90 minutes")
    assert shop.rows_of("state", "external_id") == [("b",), ("c",)]


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("incremental", "sql", "message"),
    [
        (
            {"cursor": "seen_it"},
            "SELECT 'a' AS external_id, 1 AS seen_at",
            'syncs.yml:18:13: "incremental" in sync "it": the model has no column "seen_it"\n  hint: did you mean "seen_at"?',
        ),
        (
            {"cursor": "seen_at"},
            "SELECT 'a' AS external_id, 'x' AS seen_at",
            'syncs.yml:18:13: "incremental" in sync "it": "seen_at" is VARCHAR; the cursor must be a timestamp, a date or an integer\n'
            "  hint: CAST it in the model",
        ),
        (
            {"cursor": "seen_at", "lookback": "1 hour"},
            "SELECT 'a' AS external_id, 1 AS seen_at",
            'syncs.yml:19:15: "incremental" in sync "it": "lookback: 1 hour" does not fit cursor "seen_at" of type INTEGER\n'
            "  hint: use a number for an integer cursor, and an interval such as 1 hour for a timestamp or date",
        ),
        (
            {"cursor": "seen_at"},
            "SELECT 'a' AS external_id, CAST(NULL AS DATE) AS seen_at",
            'syncs.yml:18:13: it: cursor "seen_at" is NULL or infinite in 1 row of the model\n'
            "  hint: set a value, or exclude them in models/it.sql: WHERE isfinite(seen_at)",
        ),
        (
            None,
            "SELECT {{ cursor() }} AS external_id",
            "models/it.sql:1: cursor() has no value in a full run\n"
            "  hint: use it inside {% if is_incremental() %} ... {% endif %}, in a model of a sync with `incremental:`",
        ),
    ],
)
def test_mistakes_around_the_cursor_are_named(shop: Shop, incremental, sql: str, message: str):
    result = shop.sync("it", sql, **({"incremental": incremental} if incremental else {})).run()
    assert [str(problem) for problem in result.errors] == [message]


# --- whatever happens ------------------------------------------------------------------------------------------------


@pytest.mark.long
@given(
    steps=st.lists(
        st.tuples(
            st.lists(st.integers(-3, 5), max_size=4),  # cursors of new rows, from the highest so far
            st.sampled_from(["fine", "fine", "forbidden", "rejected", "dropped"]),
        ),
        min_size=1,
        max_size=examples(4, 6),
    ),
    rows_per_request=st.integers(1, 3),
    keyed=st.booleans(),
)
@settings(max_examples=examples(4, 100))
def test_each_row_within_the_lookback_arrives_once_whatever_goes_wrong_between(steps, rows_per_request, keyed):
    with TemporaryDirectory() as folder, Sandbox() as braze:
        shop = Shop(Path(folder) / "shop", braze, destination={"max_objects_per_request": rows_per_request})
        seen(shop, of="BIGINT")
        events(shop, SAME_TIME, keyed, {"lookback": 3})
        highest, number = 100, 0
        for cursors, weather in steps:
            rows = [(f"u{number + n}", highest + cursor) for n, cursor in enumerate(cursors)]
            number += len(rows)
            seen(shop, *rows)
            faults = {
                "forbidden": [Fault("status", status=401, skip=1)],
                "rejected": [Fault("object_error", external_ids=[f"u{number - 1}"])],
                "dropped": [Fault("drop_before")],
            }
            braze.add_fault(*faults.get(weather, []))
            shop.run()
            braze.clear_faults()
            highest = max([highest, *(cursor for _, cursor in rows)])
        assert len(arrived(shop)) == len(set(arrived(shop)))
        shop.syncs[0]["on_in_doubt"] = "resend"  # nothing that was dropped had arrived
        shop.write()
        shop.run(intent=Intent.RETRY)
        assert arrived(shop) == sorted(f"u{n}" for n in range(number))
        assert shop.run().delivery.requests == 0
