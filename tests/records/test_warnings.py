"""Values that are sent, and that Braze makes something else of: a line for each column, with the number of rows."""

import pytest

from reverse_etl.sql.quoting import identifier
from tests.shop import EVENTS, Retl, Shop

COUNTRY = "is not a code of two letters: Braze maps a name if it can, Australia to AU [R060]"
US = "has ten digits and no +: Braze reads it as a number of the US [R061]"
NO_NUMBER = "is not in E.164 form: Braze keeps it, and cannot send to it or merge by it [R061]"
LATE = "is after the year 3000: Braze keeps it as text [R062]"
SPACE = "is not a place on earth: no page says what Braze does [R063]"
FUTURE = "is in the future: Braze takes the time at which it arrives [R062]"


JSON = 'is sent as a string, and looks like JSON: list the column in "pre_formatted_fields" [R065]'


def said(shop: Shop) -> list[str]:
    shop.listener.notices.clear()
    assert shop.run().status == "success"
    return [notice.removeprefix("it: warning: ") for notice in shop.listener.notices if "warning" in notice]


def test_attributes_that_braze_changes_are_said_once_a_column(shop: Shop):
    shop.sync(
        "it",
        """SELECT 'u' || i AS external_id, ['KR', 'Australia', 'kr'][i] AS country,
            ['+1 (415) 555-2671', '415 555 2671', '0151 23456789'][i] AS phone, 1 AS " n ",
            {'longitude': 60.0 * i, 'latitude': 60.0 * i} AS current_location, make_date(2999 + i, 1, 1) AS day
        FROM range(1, 4) r(i)""",
    )
    assert said(shop) == [
        'column " n " has blanks at the ends of its name, which Braze cuts off: rename it with AS [R064]',
        f"country of 2 rows {COUNTRY}",
        f"phone of 1 row {US}",
        f"phone of 1 row {NO_NUMBER}",
        f"current_location of 2 rows {SPACE}",
        f"day of 2 rows {LATE}",
    ]


@pytest.mark.long
def test_value_that_is_not_sent_again_is_not_said_again(shop: Shop):
    sql = "SELECT 'u1' AS external_id, 'Australia' AS country, {} AS n"
    shop.sync("it", sql.format(1))
    assert said(shop) == [f"country of 1 row {COUNTRY}"]
    shop.sync("it", sql.format(2))
    assert said(shop) == []


KEYS = [pytest.param({}, id="whole row"), pytest.param({"primary_key": "row"}, id="primary key")]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("time", ["{}", "CAST({} AS VARCHAR)", "CAST(epoch({}) AS BIGINT)"])
def test_events_that_braze_changes_are_said(shop: Shop, key: dict[str, str], time: str):
    shop.sync(
        "it",
        f"""SELECT 'u' || i AS external_id, if(i = 1, '$seen', 'seen') AS name, i AS row,
            {time.format("if(i = 3, TIMESTAMP '2999-11-23', TIMESTAMP '2026-11-23')")} AS time
        FROM range(1, 4) r(i)""",
        **{"mode": "users_track", "track_record_type": "events"} | key,
    )
    assert said(shop) == [
        "name of 1 row is longer than 255 characters or begins with $: Braze's SDKs do not accept such an event [R063]",
        f"time of 1 row {FUTURE}",
    ]
    assert said(shop) == []  # nothing is sent


@pytest.mark.parametrize("key", KEYS)
def test_purchases_that_braze_changes_are_said(shop: Shop, key: dict[str, str]):
    shop.sync(
        "it",
        """SELECT 'u' || i AS external_id, 'p' AS product_id, if(i = 1, 'HRK', 'EUR') AS currency, 1.5 AS price,
            if(i = 3, TIMESTAMP '2999-11-23', TIMESTAMP '2026-11-23') AS time, i AS row,
            list_transform(range(if(i = 2, 300, 1)), lambda x: repeat('y', 250)) AS words
        FROM range(1, 4) r(i)""",
        **{"mode": "users_track", "track_record_type": "purchases"} | key,
    )
    assert said(shop) == [
        "currency of 1 row is a currency that is no longer in use [R063]",
        f"time of 1 row {FUTURE}",
        "properties of 1 row are larger than 50 KB, which is more than one page allows [R063]",
    ]
    assert said(shop) == []


@pytest.mark.parametrize("key", KEYS)
def test_phone_that_identifies_the_user_of_an_event_is_said(shop: Shop, key: dict[str, str]):
    shop.sync(
        "it",
        "SELECT '415 555 2671' AS phone, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, 1 AS row",
        **{"mode": "users_track", "track_record_type": "events"} | key,
    )
    assert said(shop) == [f"phone of 1 row {US}"]


def test_attribute_of_the_key_is_said_when_it_is_sent_and_not_with_every_change_beside_it(shop: Shop):
    key = {"primary_key": ["external_id", "country"]}
    shop.sync("it", "SELECT 'u1' AS external_id, 'Australia' AS country, 1 AS n", **key)
    assert said(shop) == [f"country of 1 row {COUNTRY}"]
    shop.sync("it", "SELECT 'u1' AS external_id, 'Australia' AS country, 2 AS n", **key)
    assert said(shop) == []
    shop.sync("it", "SELECT 'u1' AS external_id, 'Australia' AS country, 3 AS n", send="all_columns", **key)
    assert said(shop) == [f"country of 1 row {COUNTRY}"]


def test_warnings_are_in_the_plan_too_and_block_nothing(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, 'Australia' AS country")
    planned = retl("plan", "it", folder=shop.folder)
    told = f"it: warning: country of 1 row {COUNTRY}\n".replace(" [R060]", "")  # the code comes with `retl` as it is
    assert (planned.code, planned.err) == (0, told)


LOOKS_LIKE_JSON = """['{"a": 1}', '[1, 2]', 'text', '{no json}', '[KR]', NULL, '"{"', '{', '7'][i]"""


def test_attribute_that_looks_like_json_is_said_once_with_its_rows(shop: Shop):
    odd = 'a/b~"c ü'
    shop.sync(
        "it",
        f"""SELECT 'u' || i AS external_id, {LOOKS_LIKE_JSON} AS home, {LOOKS_LIKE_JSON} AS {identifier(odd)},
            'x' AS plain, {{'home': '[1]'}} AS nested, '[1]' AS first_name
        FROM range(1, 10) r(i)""",
    )
    assert said(shop) == [f"home of 2 rows {JSON}", f"{odd} of 2 rows {JSON}"]
    assert said(shop) == []  # nothing is sent


@pytest.mark.parametrize("record_type", ["events", "purchases"])
def test_property_that_looks_like_json_is_said(shop: Shop, record_type: str):
    product = "'p' AS product_id, 'EUR' AS currency, 1 AS price" if record_type == "purchases" else "'seen' AS name"
    shop.sync(
        "it",
        f"""SELECT 'u' || i AS external_id, 'e' || i AS event, {product}, TIMESTAMP '2026-11-23' AS time,
            {LOOKS_LIKE_JSON} AS items FROM range(1, 10) r(i)""",
        **{"mode": "users_track", "track_record_type": record_type, "primary_key": "event"},
    )
    assert said(shop) == [f"items of 2 rows {JSON}"]


def test_property_beside_others_in_a_column_is_said(shop: Shop):
    shop.sync(
        "it",
        """SELECT 'u1' AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time, '[1]' AS items,
            {'other': '[1]'} AS properties""",
        **EVENTS,
    )
    assert said(shop) == [f"items of 1 row {JSON}"]


def test_json_that_is_listed_or_reviewed_as_a_string_is_not_said(shop: Shop):
    sql = "SELECT 'u1' AS external_id, '[1]' AS home, '[1]' AS tags"
    shop.sync("it", sql, pre_formatted_fields=["home"])
    (shop.folder / "braze.lock.yml").write_text("version: 1\nattributes: {tags: string}\n")
    assert said(shop) == []
    shop.sync("it", sql.replace("[1]", "[2]"), pre_formatted_fields=["tags"])
    assert said(shop) == [f"home of 1 row {JSON}"]
    (shop.folder / "braze.lock.yml").write_text("no list")
    shop.sync("it", sql.replace("[1]", "[3]"), pre_formatted_fields=["tags"])
    assert said(shop) == [f"home of 1 row {JSON}"]
