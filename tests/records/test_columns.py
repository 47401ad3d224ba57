"""What fits between a mode and the columns of a model, and what is said where something does not."""

import json

import pytest

from tests.shop import Retl, Shop, some

EVENTS = {"mode": "users_track", "track_record_type": "events"}
PURCHASES = {"mode": "users_track", "track_record_type": "purchases"}
EVENT = "'u1' AS external_id, 'seen' AS name, now() AS time"


@pytest.mark.parametrize(
    ("options", "columns", "expected"),
    [
        pytest.param(
            {"primary_key": ["id"], "pre_formatted_fields": "prefs", "exclude_columns": "extra"},
            "1 AS external_id, '{}' AS pref",
            [
                'syncs.yml:18:5: "primary_key" in sync "it": the model has no column "id"\n  hint: one of: external_id, pref',
                'syncs.yml:19:25: "pre_formatted_fields" in sync "it": the model has no column "prefs"\n'
                '  hint: did you mean "pref"?',
                'syncs.yml:20:20: "exclude_columns" in sync "it": the model has no column "extra"\n'
                "  hint: remove it from the list",
            ],
            id="names that the model lacks",
        ),
        pytest.param(
            {},
            "'u1' AS external_id, 1 AS a, 2 AS A",
            ['models/it.sql: the model returns 2 columns with the same name: "a", "A"\n  hint: rename them with AS'],
            id="two columns of one name",
        ),
        pytest.param(
            {},
            "'u1' AS external_id, 'x' AS Email",
            [
                'models/it.sql: column "Email": Braze\'s field is "email", and names are case-sensitive\n'
                '  hint: rename it with AS email, or list it in "exclude_columns"'
            ],
            id="capital letters",
        ),
        pytest.param(
            {},
            "'u1' AS external_id, 1 AS _retl_x",
            ['models/it.sql: column "_retl_x": the prefix _retl_ is reserved for retl\n  hint: rename it with AS'],
            id="names of our own",
        ),
        pytest.param(
            {},
            "1 AS n",
            [
                "models/it.sql: mode users_track / attributes needs a column that identifies the user\n"
                "  hint: add one of: external_id, user_alias, braze_id, email, phone (or alias_name with alias_label)"
            ],
            id="no identifier",
        ),
        pytest.param(
            {},
            "1.5::DOUBLE AS external_id",
            [
                'models/it.sql: column "external_id" is DOUBLE; Braze expects a string or an integer, sent as a string\n'
                "  hint: CAST(external_id AS BIGINT)"
            ],
            id="identifier of a wrong type",
        ),
        pytest.param(
            {"track_record_type": "events", "primary_key": "external_id"},
            "'u1' AS external_id, 'seen' AS name, 1790000000.5::DOUBLE AS time",
            [
                'models/it.sql: column "time" is DOUBLE; Braze expects a timestamp\n'
                "  hint: to_timestamp(time), if it is unix time in seconds"
            ],
            id="unix time with a fraction",
        ),
        pytest.param(
            {},
            "'n' AS alias_name, 1 AS n",
            [
                'models/it.sql: column "alias_name" requires column "alias_label"\n  hint: add it: an alias consists of a name and a label'
            ],
            id="half an alias",
        ),
        pytest.param(
            {},
            "'{}' AS user_alias, 1 AS n",
            [
                'models/it.sql: column "user_alias" is VARCHAR; Braze expects an object: STRUCT, MAP, JSON, or VARCHAR listed in '
                'pre_formatted_fields\n  hint: list the column in "pre_formatted_fields"'
            ],
            id="alias as text that is not listed",
        ),
        pytest.param(
            {"pre_formatted_fields": "n"},
            "'u1' AS external_id, 1 AS n",
            [
                'syncs.yml:17:25: "pre_formatted_fields" in sync "it": "n" is INTEGER, not JSON text\n'
                "  hint: remove it from the list"
            ],
            id="a number is not pre-formatted",
        ),
        pytest.param(
            {},
            "'u1' AS external_id, 1 AS _merge_objects",
            [
                'models/it.sql: column "_merge_objects" is INTEGER; Braze expects true or false\n'
                "  hint: CAST(_merge_objects AS BOOLEAN)"
            ],
            id="a switch that is a number",
        ),
        pytest.param(
            EVENTS,
            "'u1' AS external_id, now() AS tiem",
            [
                'models/it.sql: mode users_track / events needs a column "name"\n  hint: add it to the model, AS name',
                'models/it.sql: mode users_track / events needs a column "time"\n  hint: did you mean tiem? Rename it with AS time',
            ],
            id="event without name and time",
        ),
        pytest.param(
            EVENTS,
            f'{EVENT}, 1 AS event_name, 2 AS "$page"',
            [
                'models/it.sql: column "event_name" cannot be a property: Braze reserves the name\n  hint: rename it with AS',
                'models/it.sql: column "$page" cannot be a property: Braze reserves the name\n  hint: rename it with AS',
            ],
            id="reserved properties",
        ),
        pytest.param(
            EVENTS,
            f"{EVENT}, '{{}}' AS properties",
            [
                'models/it.sql: column "properties" is VARCHAR; Braze expects an object: STRUCT, MAP, JSON, or VARCHAR listed in '
                'pre_formatted_fields\n  hint: list the column in "pre_formatted_fields"'
            ],
            id="properties as text that is not listed",
        ),
        pytest.param(
            PURCHASES,
            "'u1' AS external_id, 'p' AS product_id, 'KRW' AS currency, '1.5' AS price, 1.0 AS quantity, true AS time",
            [
                'models/it.sql: column "price" is VARCHAR; Braze expects a number\n  hint: CAST(price AS DECIMAL(18, 2))',
                'models/it.sql: column "quantity" is DECIMAL(2,1); Braze expects an integer\n'
                "  hint: CAST(quantity AS BIGINT)",
                'models/it.sql: column "time" is BOOLEAN; Braze expects a timestamp\n  hint: return a TIMESTAMP instead',
            ],
            id="purchase of wrong types",
        ),
        pytest.param(
            {"mode": "users_delete", "allow_destructive": True},
            "'u1' AS external_id, 'x' AS reason",
            [
                'models/it.sql: mode users_delete does not accept column "reason"\n'
                '  hint: it accepts external_id, user_alias, braze_id, email, phone, prioritization; remove the column, or list it in "exclude_columns"'
            ],
            id="column that the mode does not take",
        ),
        pytest.param(
            {"on_removed": "delete", "allow_destructive": True},
            "'a@example.com' AS email, 1 AS n",
            [
                'syncs.yml:17:15: "on_removed: delete" in sync "it" needs a column external_id, user_alias or braze_id\n'
                "  hint: add one of them: Braze deletes users by one of these"
            ],
            id="deleting by e-mail",
        ),
    ],
)
@pytest.mark.sampled(4)
def test_what_does_not_fit_is_said_with_its_place_and_the_way_out(shop: Shop, options, columns, expected):
    result = shop.sync("it", f"SELECT {columns}", **options).run()
    assert [str(problem) for problem in result.errors] == expected
    assert (result.status, result.exit_code, shop.sent()) == ("failed", 2, [])


ALIAS = "'n' AS alias_name, 'l' AS alias_label"


@pytest.mark.parametrize(
    ("options", "columns", "key"),
    some(
        [
            ({}, "'u1' AS external_id, 'a@example.com' AS email, 1 AS n", "external_id"),
            ({}, "'a@example.com' AS email, '+821' AS phone", "email"),
            ({}, f"{ALIAS}, 1 AS n", "alias_name, alias_label"),
            ({"mode": "users_alias_new"}, ALIAS, "alias_name, alias_label"),
            ({"mode": "users_identify"}, f"'u1' AS external_id, {ALIAS}", "alias_name, alias_label"),
            ({"mode": "users_delete", "allow_destructive": True}, "'u1' AS external_id", "external_id"),
            (
                {"mode": "subscription_status_set"},
                "'u1' AS external_id, 'g' AS subscription_group_id, 'subscribed' AS subscription_state",
                "external_id, subscription_group_id",
            ),
            (
                {"mode": "subscription_status_set"},
                "NULL AS phone, 'a@example.com' AS email, 'g' AS subscription_group_id, 'subscribed' AS subscription_state",
                "email, phone, subscription_group_id",
            ),
            (EVENTS, EVENT, "external_id, name, time, position among identical rows"),
        ]
    ),
)
def test_without_primary_key_a_row_is_known_by_the_key_of_its_mode(shop: Shop, retl: Retl, options, columns, key):
    shop.sync("it", f"SELECT {columns}", **options).run()
    state = json.loads(retl("state", "show", "it", "--output", "json", folder=shop.folder).out)
    assert state["primary_key"] == key
