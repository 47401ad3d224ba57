"""What is sent, counted and remembered when the server or the network does not behave."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.braze.modes import MAX_BODY_BYTES
from reverse_etl.delivery.batches import Batch, Place, Record, Records, Row, Run, Same, cut
from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.delivery.session import open_session
from reverse_etl.project.project import load_project
from reverse_etl.sandbox import Fault, Sandbox
from tests.proxy import Raw
from tests.shop import KEY, FakeClock, Retl, Shop, examples, some

MANY = "SELECT 'u' || i AS external_id, i AS n FROM range({rows}) r(i)"
EVENTS = {"mode": "users_track", "track_record_type": "events"}
SEEN = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range({rows}) r(i)"


def attributes(shop: Shop, rows: int = 10) -> Shop:
    return shop.sync("it", MANY.format(rows=rows))


def events(shop: Shop, rows: int = 10) -> Shop:
    return shop.sync("it", SEEN.format(rows=rows), **EVENTS)


def users(shop: Shop) -> int:
    return len(list(shop.braze.profiles()))


# --- batches ---------------------------------------------------------------------------------------------------------

PLACES = [Place(call, envelope) for call in ("/a", "/b") for envelope in ('{"x":[', '{"y":[')]
BODIES = st.sampled_from(['"short"', '"' + "x" * 400_000 + '"', '"' + "\u20ac" * 200_000 + '"'])
RECORDS = st.lists(
    st.builds(Record, seq=st.just(0), body=BODIES, idempotent=st.booleans(), place=st.integers(0, 3)), max_size=60
)


def in_pieces(records: list[Record]) -> Records:
    """As they are read, three at a time, with what is the same for all of a place once, as far as it is."""
    runs = []
    for number, of_place in groupby(records, lambda record: record.place):
        rows, idempotent = list(of_place), {record.idempotent for record in records}
        same: Same = (idempotent.pop(), number) if len(idempotent) == 1 else ()
        values: list[Row] = [row[:2] if same else row for row in rows]
        runs.append(Run(same, [values[n : n + 3] for n in range(0, len(values), 3)]))
    return Records(PLACES, runs)


@given(RECORDS)
def test_batches_hold_every_record_once_in_order_and_keep_the_limits(records: list[Record]):
    sizes = {"/a": 7, "/b": 3}
    batches = list(cut(in_pieces(records), sizes))
    assert [record for batch in batches for record in batch.records] == records
    for batch in batches:
        assert 0 < len(batch.records) <= sizes[batch.place.call]
        assert {PLACES[record.place] for record in batch.records} == {batch.place}
        assert len(batch.body("]}")) <= MAX_BODY_BYTES + 10
        assert json.loads(batch.body("]}"))


@given(RECORDS)
def test_no_two_batches_would_go_into_one_request(records: list[Record]):
    sizes = {"/a": 7, "/b": 3}
    for one, other in pairwise(cut(in_pieces(records), sizes)):
        longer = one.of([*one.rows, other.rows[0]])
        assert (
            one.place != other.place
            or len(longer.records) > sizes[one.place.call]
            or sum(len(record.body.encode()) + 1 for record in longer.records) > MAX_BODY_BYTES
        )


def test_batch_is_idempotent_only_if_all_its_records_are():
    records = [Record(n, "1", idempotent) for n, idempotent in enumerate([True, False])]
    place = Place("/a", "{")
    assert (Batch(place, records).is_idempotent, Batch(place, records[:1]).is_idempotent) == (False, True)


# --- the key and the address -----------------------------------------------------------------------------------------


def test_unknown_key_stops_the_run_at_once_and_is_not_repeated_anywhere(tmp_path, retl):
    with Sandbox(keys={"another": {"*"}}) as braze:
        shop = attributes(Shop(tmp_path / "shop", braze), rows=1000)
        result = shop.run()
        assert [str(problem) for problem in result.errors] == [
            "it: Braze returned 401: Invalid API key: ***\n"
            "  hint: Braze does not recognize this API key: check api_key, and that endpoint is the REST endpoint of its workspace"
        ]
        assert (result.status, result.exit_code, result.delivery.accepted, result.delivery.unsent) == (
            "failed",
            1,
            0,
            1000,
        )
        assert len(braze.requests()) <= 4  # one for each worker
        assert KEY not in "".join(str(part) for part in vars(retl("status", folder=shop.folder)).values())


def test_long_key_is_not_repeated_in_part_either(shop: Shop):
    """Responses are cut to 300 characters, which must not come before the key is taken out of them."""
    shop.environ = {"BRAZE_API_KEY": "k" * 400}
    assert attributes(shop).run().errors[0].message == "it: Braze returned 401: Invalid API key: ***"


def test_missing_permission_says_that_a_new_key_is_needed(tmp_path):
    with Sandbox(keys={KEY: {"users.delete"}}) as braze:
        result = attributes(Shop(tmp_path / "shop", braze)).run()
        assert [str(problem) for problem in result.errors] == [
            "it: Braze returned 403: Access Denied\n"
            "  hint: create a new API key with the permission users.track: permissions of an existing key cannot be changed"
        ]
        assert (result.delivery.accepted, result.delivery.unsent) == (0, 10)


def test_address_that_redirects_is_not_followed(shop: Shop):
    shop.braze.add_fault(Fault("status", status=301, headers={"Location": "https://example.com/"}, times=None))
    result = attributes(shop).run()
    assert (result.status, result.delivery.accepted, result.delivery.unsent) == ("failed", 0, 10)


def test_server_that_does_not_connect_is_said_after_some_tries(shop: Shop):
    """It may do so later. Nobody at the address ends the run at once: tests/network."""
    with Raw(lambda _: []) as server:  # closes each connection in the middle of the handshake
        shop.destination = {"endpoint": f"https://127.0.0.1:{server.port}"}
        result = attributes(shop).run(policy=RetryPolicy(tries=4))
    assert (result.status, result.exit_code, result.delivery.requests, result.delivery.unsent) == ("failed", 1, 0, 10)
    assert result.errors[0].message.startswith(f"it: cannot reach https://127.0.0.1:{server.port}: ")
    assert "; gave up after 4 attempts in " in result.errors[0].message
    assert len(shop.clock.waits) == 3
    shop.destination = {}
    shop.write()
    assert shop.run().delivery.accepted == 10


# --- answers ---------------------------------------------------------------------------------------------------------


def test_record_that_spoils_its_request_is_found_by_halving(shop: Shop):
    # The stand-in refuses the whole request for these two, as Braze does for a body it cannot read.
    shop.braze.add_fault(Fault("status", status=400, body='{"message":"no"}', times=None, external_ids=("u3", "u60")))
    result = attributes(shop, rows=75).run()
    assert (result.status, result.delivery.accepted, result.delivery.rejected, users(shop)) == ("incomplete", 73, 2, 73)
    assert shop.run().delivery.requests == 0


@pytest.mark.long
def test_few_bad_records_among_many_cost_fewer_than_ten_requests_each(shop: Shop, seed: int):
    rows = examples(900, 3000)
    bad = {f"u{n}" for n in random.Random(seed).sample(range(rows), rows // 20)}
    refused = '{"message":"Valid data must be provided"}'
    shop.braze.add_fault(Fault("status", status=400, body=refused, times=None, external_ids=bad))
    result = attributes(shop, rows).run()
    assert (result.status, result.delivery.accepted, result.delivery.rejected) == (
        "incomplete",
        rows - len(bad),
        len(bad),
    )
    assert {key for key, *_ in shop.rows_of("rejects", "key")} == bad
    assert {profile["external_id"] for profile in shop.braze.profiles()} == {f"u{n}" for n in range(rows)} - bad
    assert result.delivery.requests - rows / 75 < 10 * len(bad)
    assert shop.run().delivery.requests == 0


@pytest.mark.parametrize("bad", some([[0], [74], [36, 37, 38], [37], list(range(0, 75, 2)), [0, 1], list(range(75))]))
def test_bad_records_are_found_wherever_they_stand(shop: Shop, bad: list[int]):
    ids = {f"u{n}" for n in bad}
    shop.braze.add_fault(Fault("status", status=400, body='{"message":"no"}', times=None, external_ids=ids))
    result = attributes(shop, rows=75).run()
    assert (result.delivery.accepted, result.delivery.rejected, result.delivery.unsent) == (75 - len(bad), len(bad), 0)
    assert {key for key, *_ in shop.rows_of("rejects", "key")} == ids


def test_doubt_in_the_middle_of_the_search_is_no_verdict_on_the_rest(shop: Shop):
    shop.braze.add_fault(
        Fault("drop_after", skip=1),
        Fault("status", status=400, body='{"message":"no"}', times=None, external_ids=["u60"]),
    )
    result = shop.sync("it", SEEN.format(rows=75), **EVENTS, primary_key="external_id").run()
    assert (result.delivery.in_doubt, result.delivery.rejected, result.delivery.accepted) == (37, 1, 37)
    assert len(shop.braze.events()) == 74


def test_named_records_of_a_request_that_was_not_taken_are_rejected_and_the_rest_goes_on(shop: Shop):
    errors = [{"type": "bad", "input_array": "attributes", "index": n} for n in (0, 4)]
    body = json.dumps({"message": "Valid data must be provided", "errors": errors})
    shop.braze.add_fault(Fault("status", status=400, body=body))
    result = attributes(shop).run()
    assert (result.delivery.accepted, result.delivery.rejected, result.delivery.requests) == (8, 2, 2)


def test_request_that_is_too_large_is_halved(shop: Shop):
    shop.braze.add_fault(Fault("status", status=413))
    result = attributes(shop).run()
    assert (result.status, result.delivery.accepted, result.delivery.requests) == ("success", 10, 3)


def test_one_record_that_is_too_large_is_rejected(shop: Shop):
    shop.braze.add_fault(Fault("status", status=413))
    result = attributes(shop, rows=1).run()
    assert (result.status, result.delivery.rejected) == ("incomplete", 1)


@pytest.mark.long
def test_braze_that_refuses_everything_row_by_row_is_not_asked_on(shop: Shop):
    shop.braze.add_fault(Fault("status", status=400, body='{"message":"no"}', times=None))
    result = attributes(shop, rows=3000).run()
    assert result.status == "failed"
    assert "Braze rejected 75 rows in a row, one by one" in result.errors[0].message
    assert len(shop.braze.requests()) < 800
    assert result.delivery.rejected + result.delivery.unsent == 3000


@pytest.mark.parametrize("make", [attributes, events], ids=["attributes", "events"])
def test_throttled_request_waits_as_told_and_goes_again(shop: Shop, make):
    shop.braze.add_fault(Fault("status", status=429, headers={"Retry-After": "7"}, times=3))
    result = make(shop).run()
    assert (result.status, result.delivery.accepted, result.delivery.requests) == ("success", 10, 4)
    assert shop.clock.waits == [7.0, 7.0, 7.0]


@pytest.mark.parametrize(("threads", "throttled"), [(1, 0), (4, 7)])  # of four, three are on their way as it is reached
def test_limit_of_the_server_is_kept_by_its_headers(tmp_path, threads: int, throttled: int):
    clock = FakeClock()
    with Sandbox(limits={"users_track": [(2, 60.0)]}, clock=clock) as braze:
        result = attributes(Shop(tmp_path / "shop", braze, clock=clock), rows=75 * 7).run(threads=threads)
        assert (result.status, result.delivery.accepted) == ("success", 75 * 7)
        assert sum(request.status == 429 for request in braze.requests()) <= throttled


def test_contract_by_active_users_is_obeyed_by_the_wait_that_its_429_tells(tmp_path):
    """Nothing shows the burst beforehand, and at 429 only X-Ratelimit-Retry-After says how long to wait."""
    clock = FakeClock()
    with Sandbox(limits={"users_track": [(1000, 3600.0), (2, 30.0)]}, clock=clock, contract="mau") as braze:
        began_s = clock.time_s - clock.time_s % 30
        result = attributes(Shop(tmp_path / "shop", braze, clock=clock), rows=75 * 6).run(threads=1)
        assert (result.status, result.delivery.accepted) == ("success", 75 * 6)
        assert [request.status for request in braze.requests()] == [201, 201, 429, 201, 201, 429, 201, 201]
        assert [request.at for request in braze.requests()[3::3]] == pytest.approx(
            [began_s + 30, began_s + 60], abs=1.1
        )


def test_hour_of_a_contract_by_active_users_is_waited_for(tmp_path):
    """Its reset is in seconds left, and no request is sent in vain."""
    clock = FakeClock(start_s=1_790_000_000.0 // 3600 * 3600 + 3570)
    with Sandbox(limits={"users_track": [(2, 3600.0)]}, clock=clock, contract="mau") as braze:
        result = attributes(Shop(tmp_path / "shop", braze, clock=clock), rows=75 * 3).run(threads=1)
        assert (result.status, result.delivery.accepted) == ("success", 75 * 3)
        assert [request.status for request in braze.requests()] == [201, 201, 201]
        assert 29 <= sum(clock.waits) <= 31


def test_two_processes_on_one_workspace_settle_by_the_headers(tmp_path):
    clock = FakeClock()
    with Sandbox(limits={"users_track": [(10, 60.0)]}, clock=clock) as braze:
        shops = [Shop(tmp_path / name, braze, clock=clock) for name in ("one", "two")]
        for number, one in enumerate(shops):
            one.sync("it", MANY.format(rows=75 * 20).replace("'u'", f"'s{number}-'"))
            # Each believes that the whole limit is its own.
            one.destination = {"rate_limits": {"users_track": {"requests": 10, "per_seconds": 60}}}
            one.write()
        with ThreadPoolExecutor() as pool:
            results = list(pool.map(lambda one: one.run(), shops))
        assert [(result.status, result.delivery.accepted) for result in results] == [("success", 1500)] * 2
        assert users(shops[0]) == 3000
        throttled = sum(request.status == 429 for request in braze.requests())
        assert throttled <= 40  # of 80 requests: no storm


def test_hourly_limit_of_the_contract_holds_beside_the_burst(tmp_path):
    clock = FakeClock()
    with Sandbox(limits={"users_track": [(4, 3.0), (10, 3600.0)]}, clock=clock) as braze:
        windows = [{"requests": 4, "per_seconds": 3}, {"requests": 10, "per_seconds": 3600}]
        shop = Shop(tmp_path / "shop", braze, clock=clock, destination={"rate_limits": {"users_track": windows}})
        result = attributes(shop, rows=75 * 25).run(threads=1)
        assert (result.status, result.delivery.accepted) == ("success", 75 * 25)
        assert all(request.status == 201 for request in braze.requests())


def test_share_of_the_rate_limit_leaves_room_for_others(shop: Shop):
    shop.destination = {"rate_limits": {"users_track": {"requests": 10, "per_seconds": 60}}}
    attributes(shop)
    with open_session(load_project(shop.folder, environ={"BRAZE_API_KEY": KEY}), rate_limit_share=0.5) as session:
        pacer = session.pacer("users_track")
    waits = [pacer.reserve(0.0) for _ in range(20)]
    assert waits[-1] == pytest.approx(60 / 5 * 19)


@pytest.mark.parametrize(
    "fault",
    some(
        [
            Fault("status", status=500),
            Fault("status", status=502),
            Fault("html"),
            Fault("status", status=503),
            Fault("drop_before"),
            Fault("truncate_head"),
            Fault("drop_after"),
            Fault("status", status=203, body='{"message":"success"}'),
            Fault("truncate"),
            Fault("status", status=204, body=""),
            Fault("status", status=202, body='{"message":"what?"}'),
            Fault("status", status=206, body='{"message":"success"}'),
            Fault("status", status=201, body="[" * 100_000),
        ]
    ),
    ids=lambda fault: f"{fault.kind} {fault.status if fault.kind == 'status' else ''}".strip(),
)
class TestUnclearAnswer:
    def test_attributes_are_sent_again(self, shop: Shop, fault: Fault):
        shop.braze.add_fault(fault)
        result = attributes(shop).run()
        assert (result.status, result.delivery.accepted, users(shop)) == ("success", 10, 10)
        assert shop.run().delivery.requests == 0

    @pytest.mark.sampled(4)
    def test_events_are_held_in_doubt_and_never_sent_twice(self, shop: Shop, fault: Fault):
        shop.braze.add_fault(fault)
        result = events(shop).run()
        assert (result.status, result.exit_code, result.delivery.in_doubt) == ("incomplete", 1, 10)
        taken = len(shop.braze.events())
        again = shop.run()
        assert (again.status, again.delivery.requests, again.plan.held) == ("incomplete", 0, 10)
        assert len(shop.braze.events()) == taken


def test_answer_that_never_ends_is_cut_off(shop: Shop):
    shop.destination = {"timeout_s": 0.3}
    shop.braze.add_fault(Fault("slow", seconds=3600))
    until_it_comes_in_time = RetryPolicy(tries=10**6, give_up_after_s=10**9)
    result = attributes(shop).run(policy=until_it_comes_in_time)
    assert (result.status, result.delivery.accepted) == ("success", 10)


def test_attribute_that_works_on_the_stored_value_counts_as_an_event(shop: Shop):
    shop.sync("it", """SELECT 'u1' AS external_id, '{"inc": 1}' AS visits""", pre_formatted_fields="visits")
    shop.braze.add_fault(Fault("drop_after"))
    result = shop.run()
    assert (result.delivery.in_doubt, shop.run().delivery.requests) == (1, 0)
    assert shop.braze.profile(external_id="u1")["custom_attributes"] == {"visits": 1}


def test_server_that_stays_broken_is_left_and_the_rest_is_unsent(shop: Shop):
    shop.braze.add_fault(Fault("status", status=503, times=None))
    result = attributes(shop, rows=1000).run(policy=RetryPolicy(tries=3))
    assert (result.status, result.exit_code, result.delivery.accepted, result.delivery.unsent) == ("failed", 1, 0, 1000)
    assert len(shop.braze.requests()) <= 3 * 4
    shop.braze.clear_faults()
    assert shop.run().delivery.accepted == 1000


def test_events_do_not_all_end_in_doubt_when_the_server_stays_broken(shop: Shop):
    shop.braze.add_fault(Fault("status", status=503, times=None))
    result = events(shop, rows=3000).run()
    assert result.status == "failed"
    assert result.delivery.in_doubt <= 75 * (3 + 4)
    assert result.delivery.in_doubt + result.delivery.unsent == 3000


def test_error_that_names_no_record_leaves_the_request_in_doubt(shop: Shop):
    body = {
        "message": "success",
        "events_processed": 9,
        "errors": [{"type": "x", "input_array": "events", "index": 99}],
    }
    shop.braze.add_fault(Fault("status", status=201, body=json.dumps(body)))
    assert events(shop).run().delivery.in_doubt == 10


@pytest.mark.parametrize(("make", "outcome"), [(attributes, "unsent"), (events, "in_doubt")])
def test_answer_whose_counts_do_not_match_is_not_taken_at_its_word(shop: Shop, make, outcome: str):
    counter = "attributes_processed" if make is attributes else "events_processed"
    shop.braze.add_fault(Fault("status", status=201, body=json.dumps({"message": "success", counter: 9})))
    result = make(shop).run()
    assert (getattr(result.delivery, outcome), result.delivery.accepted, result.status) == (10, 0, "incomplete")
    assert (shop.run().delivery.accepted, users(shop)) == ((10, 10) if make is attributes else (0, 0))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("status", status=500, body='{"message": "Internal"}'), "Braze returned 500: Internal"),
        (Fault("status", status=204, body=""), "Braze returned 204, but without confirming success"),
        (
            Fault("status", status=201, body='{"message": "success", "events_processed": 9}'),
            "Braze returned 201: success, but reported 9 of 10 records as processed",
        ),
        (Fault("drop_after"), "no complete response: the connection was closed without a response"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_why_rows_are_in_doubt_is_said_wherever_they_are(shop: Shop, retl: Retl, fault: Fault, reason: str):
    shop.braze.add_fault(fault)
    result = events(shop).run()
    assert (result.delivery.in_doubt, result.delivery.unclear) == (10, {reason: 10})
    assert shop.listener.notices == [f"it: 10 rows without a clear response: {reason}"]
    assert set(shop.rows_of("in_doubt", "reason")) == {(reason,)}
    assert {row["reason"] for row in json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)} == {
        reason
    }


def test_why_rows_are_still_to_be_sent_is_said(shop: Shop):
    shop.braze.add_fault(
        Fault("status", status=201, body='{"message": "success", "attributes_processed": 7}', times=None)
    )
    result = attributes(shop).run()
    reason = "Braze returned 201: success, but reported 7 of 10 records as processed"
    assert (result.status, result.delivery.unsent, result.delivery.unclear) == ("incomplete", 10, {reason: 10})
    assert shop.listener.notices == [f"it: 10 rows without a clear response: {reason}"]


def test_answer_without_counts_is_taken(shop: Shop):
    shop.braze.add_fault(Fault("status", status=201, body='{"message": "success"}'))
    assert events(shop).run().delivery.accepted == 10


def test_queued_during_maintenance_is_accepted(shop: Shop):
    shop.braze.add_fault(Fault("status", status=202, body='{"message":"queued"}'))
    assert attributes(shop).run().delivery.accepted == 10


def test_part_of_a_run_that_was_answered_is_kept_when_the_rest_fails(shop: Shop):
    shop.braze.add_fault(Fault("status", status=401, skip=2, times=None))
    result = attributes(shop, rows=1000).run()
    assert (result.status, result.delivery.accepted) == ("failed", 150)
    assert result.delivery.unsent == 850
    shop.braze.clear_faults()
    again = shop.run()
    assert (again.plan.added, again.delivery.accepted, users(shop)) == (850, 850, 1000)


# --- what may have arrived -------------------------------------------------------------------------------------------


def lose_answers(shop: Shop) -> None:
    """A run of which Braze takes everything, and answers nothing."""
    shop.braze.add_fault(Fault("drop_after", times=None))
    assert shop.run().delivery.accepted == 0
    shop.braze.clear_faults()


def attribute(shop: Shop, name: str = "tier") -> object:
    return shop.braze.profile("u1")["custom_attributes"].get(name)


@pytest.mark.long
def test_value_that_goes_back_after_a_lost_answer_is_sent_again(shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id, 'silver' AS tier, 1 AS n").run()
    shop.sync("it", "SELECT 'u1' AS external_id, 'gold' AS tier, 1 AS n")
    lose_answers(shop)
    assert attribute(shop) == "gold"
    shop.sync("it", "SELECT 'u1' AS external_id, 'silver' AS tier, 1 AS n")
    result = shop.run()
    assert (attribute(shop), result.plan.changed, result.delivery.attributes) == ("silver", 1, 1)
    assert shop.run().delivery.requests == 0


@pytest.mark.long
def test_value_of_a_new_row_that_goes_away_after_a_lost_answer_is_cleared(shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id, 'gold' AS tier, 1 AS n")
    lose_answers(shop)
    assert shop.rows_of("state", "count(_retl_sent_at)") == [(0,)]
    shop.sync("it", "SELECT 'u1' AS external_id, CAST(NULL AS VARCHAR) AS tier, 1 AS n")
    result = shop.run()
    assert (attribute(shop), attribute(shop, "n"), result.plan.added) == (None, 1, 1)
    assert (shop.run().delivery.requests, shop.rows_of("state", "count(_retl_sent_at)")) == (0, [(1,)])


@pytest.mark.long
def test_user_who_leaves_the_model_after_a_lost_answer_is_cleared(shop: Shop):
    two = "SELECT * FROM (VALUES ('u1', 'gold'), ('u2', 'gold')) t(external_id, tier)"
    shop.sync("it", two, on_removed="clear", guards={"max_removed": "100%"})
    lose_answers(shop)
    shop.model("it", f"{two} WHERE external_id = 'u2'")
    assert (shop.run().plan.removed, attribute(shop)) == (1, None)
    assert shop.run().delivery.requests == 0


@pytest.mark.long
def test_user_who_comes_back_after_a_lost_answer_to_clearing_is_sent_again(shop: Shop):
    two = "SELECT * FROM (VALUES ('u1', 'gold'), ('u2', 'gold')) t(external_id, tier)"
    shop.sync("it", two, on_removed="clear", guards={"max_removed": "100%"}).run()
    shop.model("it", f"{two} WHERE external_id = 'u2'")
    lose_answers(shop)
    assert attribute(shop) is None
    shop.model("it", two)
    assert (shop.run().delivery.accepted, attribute(shop)) == (1, "gold")


def test_row_that_was_never_acknowledged_is_not_counted_as_in_braze(shop: Shop, retl):
    shop.sync("it", MANY.format(rows=10))
    lose_answers(shop)
    in_braze, to_send, rejects, in_doubt = retl("status", folder=shop.folder).out.splitlines()[1].split()[-4:]
    assert (in_braze, to_send, rejects, in_doubt) == ("0", "10", "0", "0")
    assert "no acknowledged row with the key" in retl("state", "show", "it", "--key", "u1", folder=shop.folder).err
