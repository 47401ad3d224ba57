"""Values that Braze would drop, and nothing else of their record: it is sent without them, and they are listed."""

import json
import re
from typing import Any

import pytest

from reverse_etl.sandbox import Fault, Sandbox
from tests.shop import Retl, Shop

LONG = "repeat('x', 256)"
NO_COUNTRY = "is not a country that Braze knows: it would remove the one that the profile has"
NO_ZONE = "is not a time zone that Braze knows: it would ignore it"
NO_LANGUAGE = "is not a language that Braze knows"
NO_GENDER = "is not one of M, F, O, N, P"
NO_OPERATOR = "has an operator that Braze ignores: inc needs an integer, add and remove need an array"
NO_OBJECTS = "has an operator that Braze ignores: $add, $remove and $update need arrays of objects"
FACEBOOK = "does not have the form that Braze expects: {id: string, likes: array, num_friends: integer}"
TWITTER = (
    "does not have the form that Braze expects: "
    "{id: integer, screen_name: string, followers_count: integer, friends_count: integer, statuses_count: integer}"
)
BY_CODE = "return the code of two letters (ISO 3166-1)"
# SQL of a value, the reason why it is left out, and the hint.
LEFT_OUT = {
    "country": [
        ("'South Korea'", NO_COUNTRY, "use KR"),
        ("'Deutschland'", NO_COUNTRY, "use DE"),
        ("'KOR'", NO_COUNTRY, "use KR"),
        ("'UK'", NO_COUNTRY, "use GB"),
        ("''", NO_COUNTRY, BY_CODE),
        ("'Atlantis'", NO_COUNTRY, BY_CODE),
    ],
    "time_zone": [
        ("'europe/berlin'", NO_ZONE, "use Europe/Berlin"),
        ("'W. Europe Standard Time'", NO_ZONE, "use Europe/Berlin"),
        ("'Europe/Berln'", NO_ZONE, "return a name such as Europe/Berlin"),
        ("'GMT+2'", NO_ZONE, "return a name such as Europe/Berlin"),
    ],
    "language": [
        ("'English'", NO_LANGUAGE, "use en"),
        ("'EN'", NO_LANGUAGE, "use en"),
        ("'no'", NO_LANGUAGE, "use nb"),
        ("'en-US'", NO_LANGUAGE, "return the code, such as en (ISO 639-1)"),
    ],
    "gender": [
        ("'female'", NO_GENDER, "use F"),
        ("'m'", NO_GENDER, "use M"),
        ("'prefer not to say'", NO_GENDER, "use P"),
        ("'robot'", NO_GENDER, "map it to one of these: CASE gender WHEN ... THEN ... END"),
    ],
    "dob": [("'23.11.1990'", "is not a valid date of the form 2026-11-23", None)],
    "date_of_first_session": [("'yesterday'", "is not a valid time", None)],
    "date_of_last_session": [("'soon'", "is not a valid time", None)],
    "marked_email_as_spam_at": [("'never'", "is not a valid time", None)],
    "email_open_tracking_disabled": [("'maybe'", "is neither true nor false", None)],
    "email_click_tracking_disabled": [("'maybe'", "is neither true nor false", None)],
    "image_url": [("repeat('x', 1025)", "is longer than 1024 characters", None)],
    "first_name": [(LONG, "is longer than 255 characters", None)],
    "last_name": [(LONG, "is longer than 255 characters", None)],
    "home_city": [(LONG, "is longer than 255 characters", None)],
    "phone": [(LONG, "is longer than 255 characters", None)],
    "facebook": [
        ("""'{"id": 5}'""", FACEBOOK, None),
        ("""'{"likes": "cats"}'""", FACEBOOK, None),
        ("'[1]'", "is not a JSON object", None),
    ],
    "twitter": [("""'{"id": "5", "screen_name": "x"}'""", TWITTER, None)],
    "inc_text": [("""'{"inc": "x"}'""", NO_OPERATOR, None), ("""'{"inc": 1.5}'""", NO_OPERATOR, None)],
    "add_text": [
        ("""'{"add": "x"}'""", NO_OPERATOR, None),
        ("""'{"add": ["x"], "remove": "y"}'""", NO_OPERATOR, None),
        ("""'{"add": [{"a": 1}]}'""", NO_OPERATOR, None),
    ],
    "objects_text": [
        ("""'{"$add": {"a": 1}}'""", NO_OBJECTS, None),
        ("""'{"$add": [1]}'""", NO_OBJECTS, None),
        ("""'{"$remove": [{"a": 1}]}'""", NO_OBJECTS, None),
        ("""'{"$update": [{"$identifier_key": "a", "$identifier_value": 1}]}'""", NO_OBJECTS, None),
    ],
    "text": [(LONG, "is longer than 255 characters", None)],
    "number": [("'nan'::DOUBLE", "is NaN or infinite, which JSON cannot represent", None)],
    "big": [("18446744073709551616::HUGEINT", "is an integer that does not fit in 64 bits", None)],
    "day": [("DATE 'infinity'", "is outside the years 0 to 9999", None)],
    "list": [
        ("[1, NULL]", "contains a nested null; Braze drops the whole value", None),
        ("range(501)", "has more than 500 elements; Braze drops the oldest", None),
    ],
    "wide": [("list_transform(range(400), lambda x: repeat('y', 250))", "is larger than 100 KB", None)],
    "late": [("{'a': TIMESTAMP '3001-01-01'}", "contains an invalid $time; Braze drops the whole value", None)],
    "keys": [
        ("{'a.b': 1}", "contains a key that is empty, longer than 255 characters, or has a space, a dot or a $", None)
    ],
    "nested": [(f"{{'a': {LONG}}}", "contains a string longer than 255 characters", None)],
    "broken": [("""'{"a":'""", "is not valid JSON", None)],
}
SENT = {
    "country": ["'KR'", "'Australia'", "'kr'"],
    "time_zone": ["'Europe/Berlin'", "'Eastern Time (US & Canada)'", "'UTC'"],
    "language": ["'en'", "'fil'", "'nb'"],
    "gender": ["'M'", "'F'", "'O'", "'N'", "'P'"],
    "image_url": ["repeat('x', 1024)"],
    "facebook": ["""'{"id": "5", "likes": ["x"], "num_friends": 3}'"""],
    "twitter": ["""'{"id": 5, "screen_name": "x", "followers_count": 1, "friends_count": 2, "statuses_count": 3}'"""],
    "inc_text": ["""'{"inc": -3}'""", """'{"inc": "x", "other": 1}'"""],
    "add_text": ["""'{"add": ["x"], "remove": ["y"]}'"""],
    "objects_text": [
        """'{"$add": [{"a": 1}], "$remove": [{"$identifier_key": "a", "$identifier_value": 2}]}'""",
        """'{"$update": [{"$identifier_key": "a", "$identifier_value": 1, "$new_object": {"a": 2}}]}'""",
    ],
    "text": ["repeat('x', 255)", "''"],
    "list": ["range(500)"],
}
JSON_TEXT = ["facebook", "twitter", "inc_text", "add_text", "objects_text", "broken"]
OPTIONS: dict[str, Any] = {"primary_key": "id", "exclude_columns": "id", "pre_formatted_fields": JSON_TEXT}


def name_of(column: str, place: int) -> str:
    return f"{column} {place}"


CASES = {name_of(c, n): (c, *case) for c, cases in LEFT_OUT.items() for n, case in enumerate(cases)}
KEPT = {name_of(f"ok {c}", n): (c, sql) for c, values in SENT.items() for n, sql in enumerate(values)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, tuple[str, str, str]], dict[str, dict[str, Any]]]:
    """What is listed of each case, and what is sent of it: all cases are in one run."""
    rows = {name: (column, sql) for name, (column, sql, *_) in CASES.items()} | KEPT
    sql = " UNION ALL BY NAME ".join(
        f"SELECT '{name}' AS id, '{name}' AS external_id, 1 AS n, {sql} AS {column}"
        for name, (column, sql) in rows.items()
    )
    with Sandbox() as braze:
        shop = Shop(tmp_path_factory.mktemp("left_out") / "shop", braze)
        result = shop.sync("it", sql, **OPTIONS).run()
        assert (result.status, result.plan.left_out, result.plan.invalid) == ("incomplete", len(CASES), 0)
        found = shop.rows_of("rejects", "key", "rejected_by", "column_name", "reason", "hint")
        sent = [one for body in shop.sent() for one in json.loads(body)["attributes"]]
    assert {by for _, by, *_ in found} == {"left_out"}
    return {key: tuple(rest) for key, _, *rest in found}, {one["external_id"]: one for one in sent}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.sampled(2)
def test_value_that_braze_would_drop_is_left_out(run, case: str):
    column, _, reason, hint = CASES[case]
    listed, sent = run
    assert listed[case][:2] == (column, reason)
    assert hint is None or listed[case][2] == hint
    assert sent[case] == {"external_id": case, "n": 1}


@pytest.mark.parametrize("case", KEPT)
def test_value_that_braze_keeps_is_sent(run, case: str):
    listed, sent = run
    assert (case in listed, sent[case].keys() - {"external_id", "n"}) == (False, {KEPT[case][0]})


# --- the next run ----------------------------------------------------------------------------------------------------

USERS = "SELECT 'u' || i AS external_id, {country} AS country, {n} AS n FROM range({users}) r(i)"


def users(country: str = "'KR'", n: str = "1", users: int = 2) -> str:
    return USERS.format(country=country, n=n, users=users)


def bodies(shop: Shop) -> list[dict[str, Any]]:
    return [one for body in shop.sent() for one in json.loads(body)["attributes"]]


ATLANTIS = "if(i = 1, 'Atlantis', 'KR')"


@pytest.mark.parametrize("send", ["changed_columns", "all_columns"])
@pytest.mark.sampled(2)
def test_left_out_value_is_listed_again_and_its_row_is_not_sent_again(shop: Shop, send: str):
    for _ in range(2):
        result = shop.sync("it", users(ATLANTIS), send=send).run()
        assert [(row.key, row.column) for row in result.left_out] == [("u1", "country")]
        assert (result.exit_code, result.plan.left_out, len(shop.rows_of("rejects"))) == (1, 1, 1)
    assert bodies(shop) == [{"external_id": "u0", "country": "KR", "n": 1}, {"external_id": "u1", "n": 1}]


@pytest.mark.long
@pytest.mark.parametrize("send", ["changed_columns", "all_columns"])
def test_left_out_value_goes_out_once_it_is_correct_and_other_columns_do_before(shop: Shop, send: str):
    shop.sync("it", users(ATLANTIS), send=send).run()
    shop.sync("it", users(ATLANTIS, n="1 + i"), send=send).run()
    assert bodies(shop)[2:] == [{"external_id": "u1", "n": 2}]
    assert shop.sync("it", users(n="1 + i"), send=send).run().status == "success"
    more = {"n": 2} if send == "all_columns" else {}
    assert bodies(shop)[3:] == [{"external_id": "u1", "country": "KR", **more}]
    assert (shop.rows_of("rejects"), shop.run().plan.to_send) == ([], 0)


@pytest.mark.long
def test_value_that_was_acknowledged_stays_so_while_another_is_left_out(shop: Shop):
    """Braze keeps it; a NULL clears it."""
    shop.sync("it", users()).run()
    assert shop.sync("it", users(ATLANTIS)).run().plan.to_send == 0
    assert shop.rows_of("state", "external_id", "country") == [("u0", "KR"), ("u1", "KR")]
    shop.sync("it", users(ATLANTIS, n="2")).run()
    assert shop.rows_of("state", "external_id", "country", "n") == [("u0", "KR", 2), ("u1", "KR", 2)]
    assert shop.sync("it", users(n="2")).run().plan.to_send == 0
    shop.sync("it", users("if(i = 1, NULL, 'KR')", n="2")).run()
    assert bodies(shop)[-1] == {"external_id": "u1", "country": None}


@pytest.mark.long
def test_value_of_another_user_is_not_taken_for_acknowledged(shop: Shop):
    """The row's key belongs to another user now: Braze has no country of that one."""
    row = "SELECT 1 AS id, '{}' AS external_id, '{}' AS country, 1 AS n"
    options = {"primary_key": "id", "exclude_columns": "id"}
    shop.sync("it", row.format("u1", "KR"), **options).run()
    shop.sync("it", row.format("u2", "Atlantis"), **options).run()
    shop.sync("it", row.format("u2", "KR"), **options).run()
    assert bodies(shop)[1:] == [{"external_id": "u2", "n": 1}, {"external_id": "u2", "country": "KR"}]


def test_full_refresh_sends_all_but_what_is_left_out(shop: Shop):
    shop.sync("it", users()).run()
    result = shop.sync("it", users(ATLANTIS)).run(full_refresh=True)
    assert (result.plan.left_out, bodies(shop)[3:]) == (1, [{"external_id": "u1", "n": 1}])


@pytest.mark.long
def test_column_that_is_unsure_and_left_out_stays_unsure(shop: Shop):
    """Braze may have taken the value of a request without an answer: that value is not the acknowledged one."""
    shop.sync("it", users(users=1)).run()
    shop.braze.add_fault(Fault("drop_after", times=None))
    shop.sync("it", users("'DE'", users=1)).run()
    shop.braze.clear_faults()
    shop.sync("it", users("'Atlantis'", n="2", users=1)).run()
    assert shop.rows_of("state", "country", "_retl_unsure") == [("KR", ["country"])]
    shop.sync("it", users(n="2", users=1)).run()
    assert bodies(shop)[-1] == {"external_id": "u0", "country": "KR"}


@pytest.mark.long
def test_column_stays_unsure_even_if_it_is_uncertain_whether_the_user_exists(shop: Shop):
    def only_updated(rows: str) -> str:
        return f"SELECT *, true AS _update_existing_only FROM ({rows})"

    shop.sync("it", only_updated(users(users=1))).run()
    shop.braze.add_fault(Fault("drop_after", times=None))
    shop.sync("it", only_updated(users("'DE'", users=1))).run()
    shop.braze.clear_faults()
    shop.sync("it", only_updated(users("'Atlantis'", n="2", users=1))).run()
    assert shop.rows_of("state", "country", "list_sort(_retl_unsure)") == [("KR", ["_retl_user", "country"])]
    shop.sync("it", only_updated(users(n="2", users=1))).run()
    assert bodies(shop)[-1] == {"external_id": "u0", "country": "KR", "_update_existing_only": True}


def test_baseline_does_not_take_a_left_out_value_for_acknowledged(shop: Shop, retl: Retl):
    shop.sync("it", users("'Atlantis'", users=1))
    assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 0
    assert shop.rows_of("state", "external_id", "country", "n") == [("u0", None, 1)]


@pytest.mark.long
def test_incremental_run_reads_a_row_again_until_it_is_whole(shop: Shop):
    model = "SELECT *, TIMESTAMP '2026-11-23' + INTERVAL (i) DAY AS seen_at FROM (SELECT *, row_number() OVER () AS i FROM ({}))"
    model += " {{% if is_incremental() %}}WHERE seen_at > {{{{ cursor() }}}}{{% endif %}}"
    options = {"incremental": {"cursor": "seen_at"}, "exclude_columns": ["seen_at", "i"]}
    for country in ("if(i = 0, 'Atlantis', 'KR')", "if(i = 0, 'Atlantis', 'KR')", "'KR'"):
        result = shop.sync("it", model.format(users(country)), **options).run()
    assert (result.status, bodies(shop)[2:]) == ("success", [{"external_id": "u0", "country": "KR"}])


# --- beside other rules ----------------------------------------------------------------------------------------------


def test_strict_sync_sends_no_row_without_a_column(shop: Shop):
    result = shop.sync("it", users(ATLANTIS), strict=True, skip_on_invalid_records=True).run()
    assert [(row.key, row.column, row.reason) for row in result.invalid] == [("u1", "country", NO_COUNTRY)]
    assert (result.plan.left_out, bodies(shop)) == (0, [{"external_id": "u0", "country": "KR", "n": 1}])


def test_invalid_row_lists_what_would_be_left_out_too(shop: Shop):
    sql = "SELECT 'u1' AS external_id, 'ann' AS email, 'Atlantis' AS country, 'unsubscribed' AS email_subscribe"
    result = shop.sync("it", sql).run()
    assert [(row.column, row.reason) for row in result.invalid] == [
        ("email", "is not a valid email address"),
        ("country", NO_COUNTRY),
    ]
    assert bodies(shop) == [{"external_id": "u1", "email_subscribe": "unsubscribed"}]


def test_opt_out_is_sent_first_with_a_row_that_is_not_whole(shop: Shop):
    sql = "SELECT 'u1' AS external_id, 'Atlantis' AS country, 'unsubscribed' AS email_subscribe, 1 AS n"
    shop.sync("it", sql).run()
    assert bodies(shop) == [{"external_id": "u1", "email_subscribe": "unsubscribed", "n": 1}]


def test_row_of_which_an_opt_in_is_withheld_and_the_rest_left_out_is_not_sent(shop: Shop):
    row = "SELECT 'u1' AS external_id, '{}' AS country, '{}' AS email_subscribe"
    shop.sync("it", row.format("KR", "unsubscribed")).run()
    result = shop.sync("it", row.format("Atlantis", "opted_in")).run()
    assert ([row.column for row in result.withheld], [row.column for row in result.left_out]) == (
        ["email_subscribe"],
        ["country"],
    )
    assert len(bodies(shop)) == 1


def test_property_is_never_left_out(shop: Shop):
    """An event without it could not be corrected: sent again, it would count twice."""
    shop.sync(
        "it", f"SELECT 'u1' AS external_id, 'seen' AS name, now() AS time, {LONG} AS page",
        mode="users_track", track_record_type="events",
    )  # fmt: skip
    assert [(row.column, row.code) for row in shop.run().invalid] == [("page", "R006")]


def test_part_of_the_key_is_never_left_out(shop: Shop):
    sql = f"SELECT 'u1' AS external_id, {LONG} AS word"
    assert [row.column for row in shop.sync("it", sql, primary_key=["external_id", "word"]).run().invalid] == ["word"]


def test_strict_is_for_attributes(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id", mode="users_delete", allow_destructive=True, strict=True)
    assert '"strict"' in retl("ls", folder=shop.folder).err


# --- what is said ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_left_out_values_are_said_in_plan_run_and_rejects(shop: Shop, retl: Retl):
    shop.sync("it", users("if(i = 1, 'South Korea', 'KR')"))
    row_of_table = f"\n  1     country  {NO_COUNTRY}  use KR  u1\n"
    planned = retl("plan", "it", folder=shop.folder)
    assert "  1 row not whole: columns left out\n  rows  column   reason " in planned.out
    assert row_of_table in planned.out
    (plan,) = json.loads(retl("plan", "it", "--output", "json", folder=shop.folder).out)
    row = {"key": "u1", "column": "country", "reason": NO_COUNTRY, "hint": "use KR", "identifier": None, "code": "R046"}
    assert (plan["left_out"], plan["left_out_rows"]) == (1, [row])
    assert plan["left_out_reasons"] == [{"column": "country", "reason": NO_COUNTRY, "rows": 1, "code": "R046"}]
    done = retl("sync", "it", folder=shop.folder)
    assert (done.code, "; 1 not whole: columns left out" in done.out, row_of_table in done.err) == (1, True, True)
    (result,) = json.loads((shop.folder / "target" / "run_results.json").read_text())["results"]
    assert (result["status"], result["failures"], result["left_out_rows"]) == ("incomplete", 1, [row])
    (listed,) = json.loads(retl("rejects", "it", "--output", "json", folder=shop.folder).out)
    assert (listed["status"], listed["column"], listed["hint"]) == ("left_out", "country", "use KR")
    told = retl("--log-format", "json", "sync", "it", folder=shop.folder).err
    logged = [line for line in map(json.loads, told.splitlines()) if line["event"] == "left_out"]
    assert [(line["column"], line["level"]) for line in logged] == [("country", "warning")]


def test_reasons_are_counted_where_not_all_rows_are_listed(shop: Shop, retl: Retl):
    shop.sync("it", users("'South Korea'", users=30))
    out = retl("plan", "it", folder=shop.folder).out
    assert re.search(r"\n  30    country  is not a country.*  use KR  u0, u1, u10 and 27 more\n", out)


# --- what is not left out --------------------------------------------------------------------------------------------


def test_switch_that_is_neither_true_nor_false_makes_the_row_invalid(shop: Shop):
    """It says how a record is processed: without it, the record would be another one."""
    sql = "SELECT 'u1' AS external_id, 'maybe' AS _update_existing_only, 'maybe' AS _merge_objects, 1 AS n"
    result = shop.sync("it", sql).run()
    assert [(row.column, row.reason) for row in result.invalid] == [
        ("_update_existing_only", "is neither true nor false"),
        ("_merge_objects", "is neither true nor false"),
    ]


def test_name_that_differs_from_a_field_in_case_alone_is_refused(shop: Shop):
    (error,) = shop.sync("it", "SELECT 'u1' AS external_id, 'Ann' AS First_Name").run().errors
    message = 'column "First_Name": Braze\'s field is "first_name", and names are case-sensitive'
    assert (error.code, error.message) == ("P061", message)


def test_name_that_is_too_long_is_refused(shop: Shop):
    (error,) = shop.sync("it", f"SELECT 'u1' AS external_id, 1 AS {'n' * 256}").run().errors
    assert (error.code, error.message) == ("P061", f'column "{"n" * 30}...": the name is longer than 255 characters')


def test_event_with_too_many_or_too_large_properties_is_invalid(shop: Shop):
    many = "map_from_entries(list_transform(range(257), lambda x: ('k' || x, 1)))"
    large = "map_from_entries(list_transform(range(2), lambda x: ('k' || x, 1)))"
    shop.sync(
        "it",
        f"""SELECT 'u1' AS external_id, 'seen' AS name, now() AS time, {many} AS properties, NULL AS words
        UNION ALL SELECT 'u2', 'seen', now(), {large}, list_transform(range(400), lambda x: repeat('y', 250))""",
        mode="users_track",
        track_record_type="events",
        primary_key="external_id",
    )
    assert [(row.key, row.reason) for row in shop.run().invalid] == [
        ("u1", "has more than 256 entries; Braze ignores the rest"),
        ("u2", "is larger than 100 KB"),
        ("u2", "is larger than 100 KB in total"),
    ]


def test_operator_that_is_no_json_makes_a_row_invalid_where_nothing_is_left_out(shop: Shop):
    """What such a value costs is not asked: DuckDB cannot count the items of a document that it cannot read."""
    rows = """SELECT 'u1' AS external_id, '{"add": ["a"]}' AS badges UNION ALL SELECT 'u2', '{"add": ["a"'"""
    shop.sync("it", rows, pre_formatted_fields=["badges"], strict=True, skip_on_invalid_records=True)
    result = shop.run()
    assert [(row.key, row.reason) for row in result.invalid] == [("u2", "is not valid JSON")]
    assert [json.loads(body) for body in shop.sent()] == [
        {"attributes": [{"external_id": "u1", "badges": {"add": ["a"]}}]}
    ]
