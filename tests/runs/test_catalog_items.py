"""Items of a catalog: whole ones are put, changed columns patched, removed rows deleted; and nothing is sent to a catalog
that does not have what the model returns."""

import json
from typing import Any

import pytest
import requests

from reverse_etl.delivery.retry import RetryPolicy
from reverse_etl.errors import ProjectError
from reverse_etl.sandbox import Fault
from tests.shop import KEY, Retl, Shop, erased_from

DRINKS = """
    SELECT 'd' || i AS id, 'drink ' || i AS title, CAST(i * 1.5 AS DECIMAL(9, 2)) AS price, i % 2 = 0 AS in_stock,
        TIMESTAMP '2026-11-23 08:15:00.5' AS made_at, DATE '2026-11-01' AS since, ['cold', 'wet'] AS tags,
        {{'ml': i * 100, 'glass': NULL}} AS size
    FROM range({rows}) r(i)
"""
TYPES = {
    **{"title": "string", "price": "number", "in_stock": "boolean", "made_at": "time", "since": "time"},
    **{"tags": "array", "size": "object"},
}
ITEMS = "/catalogs/drinks/items"
HEADERS = {"Authorization": f"Bearer {KEY}"}


def drinks(shop: Shop, sql: str = DRINKS.format(rows=3), **options: Any) -> Shop:
    return shop.sync("it", sql, mode="catalog_items", catalog="drinks", **options)


def make_catalog(shop: Shop, types: dict[str, str] = TYPES) -> None:
    fields = [{"name": name, "type": kind} for name, kind in {"id": "string", **types}.items()]
    body = {"catalogs": [{"name": "drinks", "description": "what we sell", "fields": fields}]}
    assert requests.post(f"{shop.braze.url}/catalogs", json=body, headers=HEADERS).status_code == 201


def sent(shop: Shop) -> list[tuple[str, str, Any]]:
    """The requests about items so far: method, path, items."""
    return [(r.method, r.path, json.loads(r.body)["items"]) for r in shop.braze.requests() if r.path.endswith("/items")]


def test_new_rows_are_sent_whole_in_the_types_of_the_model(shop: Shop):
    make_catalog(drinks(shop))
    result = shop.run()
    assert (result.status, result.mode, result.delivery.accepted) == ("success", "catalog_items / drinks", 3)
    assert result.plan.requests == {f"PUT {ITEMS}": 1}
    item = {
        **{"id": "d1", "title": "drink 1", "price": 1.5, "in_stock": False, "made_at": "2026-11-23T08:15:00.500Z"},
        **{"since": "2026-11-01T00:00:00.000Z", "tags": ["cold", "wet"], "size": {"ml": 100}},
    }
    ((method, path, items),) = sent(shop)
    assert (method, path, len(items), items[1]) == ("PUT", ITEMS, 3, item)
    assert shop.braze.catalog("drinks")[1] == item
    assert (shop.run().delivery.requests, len(sent(shop))) == (0, 1)


def test_of_changed_rows_the_changed_columns_are_patched(shop: Shop):
    make_catalog(drinks(shop))
    shop.run()
    drinks(shop, f"SELECT * REPLACE (if(id = 'd1', 9, price) AS price) FROM ({DRINKS.format(rows=3)})")
    assert shop.run().plan.requests == {f"PATCH {ITEMS}": 1}
    assert sent(shop)[1:] == [("PATCH", ITEMS, [{"id": "d1", "price": 9.0}])]
    assert shop.braze.catalog("drinks")[1]["title"] == "drink 1"


def test_row_in_which_a_value_has_become_null_is_replaced_without_it(shop: Shop):
    """No page says what a null does to an item."""
    make_catalog(drinks(shop))
    shop.run()
    changed = "if(id = 'd1', NULL, price) AS price, if(id = 'd2', 'beer', title) AS title"
    drinks(shop, f"SELECT * REPLACE ({changed}) FROM ({DRINKS.format(rows=3)})")
    assert shop.run(threads=1).plan.requests == {f"PUT {ITEMS}": 1, f"PATCH {ITEMS}": 1}
    (put, path, (whole,)), patch = sent(shop)[1:]
    assert (put, path, whole["id"], "price" in whole, len(whole)) == ("PUT", ITEMS, "d1", False, len(TYPES))
    assert patch == ("PATCH", ITEMS, [{"id": "d2", "title": "beer"}])
    assert "price" not in shop.braze.catalog("drinks")[1]


def test_whole_rows_are_put_with_all_columns(shop: Shop):
    make_catalog(drinks(shop, send="all_columns"))
    shop.run()
    drinks(
        shop,
        f"SELECT * REPLACE (if(id = 'd1', 9, price) AS price) FROM ({DRINKS.format(rows=3)})",
        send="all_columns",
    )
    assert shop.run().plan.requests == {f"PUT {ITEMS}": 1}
    ((method, _, (whole,)),) = sent(shop)[1:]
    assert (method, len(whole), whole["price"]) == ("PUT", len(TYPES) + 1, 9.0)


@pytest.mark.long
def test_removed_rows_are_deleted_under_the_guard(shop: Shop):
    deletes = {"on_removed": "delete", "allow_destructive": True}
    make_catalog(drinks(shop, DRINKS.format(rows=120), **deletes))
    shop.run(threads=1)
    drinks(shop, f"SELECT * FROM ({DRINKS.format(rows=120)}) WHERE price < 90", **deletes)
    blocked = shop.run(skip_guards=["max_removed"])
    assert [str(problem) for problem in blocked.errors] == [
        "syncs.yml:13:3: it: guard max_deletes: 60 items would be deleted; "
        "at most 50 are allowed (50, or 0.1% of 120 items in the state)\n"
        "  hint: check the model: `retl show it`; --skip-guard max_deletes=60 may delete these items, for good"
    ]
    result = shop.run(skip_guards=["max_removed", "max_deletes=60"], threads=1)
    assert (result.status, result.plan.deletes, result.plan.requests) == ("success", 60, {f"DELETE {ITEMS}": 2})
    assert [(method, len(items)) for method, _, items in sent(shop)[3:]] == [("DELETE", 50), ("DELETE", 10)]
    assert sent(shop)[3][2][0].keys() == {"id"}
    assert len(shop.braze.catalog("drinks")) == 60


def test_catalog_that_is_not_there_is_an_error_before_anything_is_sent(shop: Shop):
    drinks(shop, "SELECT 'd1' AS id, 1.5 AS price, 'water' AS title")
    result = shop.run()
    body = '{"catalogs": [{"name": "drinks", "description": "model it", "fields": [{"name": "id", "type": "string"}, '
    body += '{"name": "price", "type": "number"}, {"name": "title", "type": "string"}]}]}'
    curl = f'curl {shop.braze.url}/catalogs -H "Authorization: Bearer $BRAZE_API_KEY" '
    curl += f"-H \"Content-Type: application/json\" -d '{body}'"
    assert (result.status, result.exit_code, [problem.with_code for problem in result.errors]) == (
        "blocked",
        1,
        [
            'syncs.yml:16:12: it: catalog "drinks" is not in Braze [X013]\n'
            f"  hint: `retl sync it --create-catalog` creates it; or\n  {curl}"
        ],
    )
    assert [(request.method, request.path) for request in shop.braze.requests()] == [("GET", "/catalogs")]
    assert shop.run(create_catalog=True).status == "success"
    assert shop.braze.catalog("drinks") == [{"id": "d1", "price": 1.5, "title": "water"}]
    assert shop.listener.notices == ["it: creating the catalog drinks: price (number), title (string)"]


def test_fields_that_are_not_there_are_an_error_and_can_be_created(shop: Shop):
    make_catalog(drinks(shop), {name: TYPES[name] for name in ("title", "price", "in_stock", "made_at", "since")})
    result = shop.run()
    (problem,) = result.errors
    assert problem.message == 'it: catalog "drinks" has no field tags, size'
    assert problem.hint.splitlines()[1].endswith(
        '-d \'{"fields": [{"name": "tags", "type": "array"}, {"name": "size", "type": "object"}]}\''
    )
    assert (result.status, sent(shop)) == ("blocked", [])
    result = shop.run(create_catalog=True)
    assert (result.status, result.delivery.accepted) == ("success", 3)
    assert shop.listener.notices == ["it: creating fields of catalog drinks: tags (array), size (object)"]


def test_field_of_another_type_is_an_error_as_a_field_keeps_its_type(shop: Shop):
    make_catalog(drinks(shop), {**TYPES, "price": "string", "size": "array"})
    for create in (False, True):
        result = shop.run(create_catalog=create)
        assert [(problem.message, problem.hint) for problem in result.errors] == [
            (
                'it: field "price" of catalog "drinks" is of type string, and the column of type number',
                "CAST(price AS VARCHAR)",
            ),
            (
                'it: field "size" of catalog "drinks" is of type array, and the column of type object',
                "rename the column with AS: a field keeps its type",
            ),
        ]
        assert sent(shop) == []


def test_fields_that_the_model_lacks_are_named_where_whole_items_lose_them(shop: Shop):
    make_catalog(drinks(shop), {**TYPES, "sold_out": "boolean"})
    shop.run()
    assert shop.listener.notices == [
        "it: warning: catalog drinks has fields that the model does not return: sold_out; "
        "items that are sent whole lose their values"
    ]


def test_catalogs_are_read_once_in_a_command(shop: Shop):
    make_catalog(drinks(shop))
    shop.sync("more", DRINKS.format(rows=5), mode="catalog_items", catalog="drinks")
    assert [result.status for result in shop.run_all("it", "more")] == ["success", "success"]
    assert [request.path for request in shop.braze.requests()].count("/catalogs") == 2  # one of them made it


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param("'a b' AS id", "id has characters other than letters, digits, - and _", id="id with a blank"),
        pytest.param("repeat('x', 251) AS id", "id is longer than 250 characters", id="long id"),
        pytest.param("NULL::VARCHAR AS id", None, id="no id"),
        pytest.param("'a' AS id, repeat('x', 5001) AS note", "note is longer than 5000 characters", id="long text"),
        pytest.param("'a' AS id, repeat('ñ', 5000) AS note", None, id="5,000 characters"),
        pytest.param("'a' AS id, 'NaN'::DOUBLE AS n", "n is NaN or infinite, which JSON cannot represent", id="NaN"),
        pytest.param(
            "'a' AS id, {'a.b': 1} AS o", "o has a key with a dot or a $, which an item cannot have", id="dot"
        ),
        pytest.param(
            "'a' AS id, {'x': {'$b': 1}} AS o", "o has a key with a dot or a $, which an item cannot have", id="$"
        ),
        pytest.param("'a' AS id, {'x': 'a.b$'} AS o", None, id="dot in a text"),
        pytest.param("'a' AS id, {'x': repeat('x', 5000)} AS o", "o is longer than 5000 characters", id="long object"),
        pytest.param(
            "'a' AS id, list_transform(range(101), lambda i: i::VARCHAR) AS l",
            "l has more than 100 elements",
            id="long array",
        ),
        pytest.param("'a' AS id, ['x', NULL] AS l", "l has an element that is not a string", id="null in an array"),
        pytest.param("'a' AS id, '[1]'::JSON AS l", "l has an element that is not a string", id="number in an array"),
        pytest.param("'a' AS id, '7'::JSON AS l", "l is not a JSON object or array", id="JSON number"),
        pytest.param(
            f"""'a' AS id, '{'{"a":' * 51}1{"}" * 51}'::JSON AS o""",
            "o is nested deeper than 50 levels",
            id="51 levels",
        ),
        pytest.param(f"""'a' AS id, '{'{"a":' * 50}1{"}" * 50}'::JSON AS o""", None, id="50 levels"),
        pytest.param("'a' AS id, 'x'::BLOB AS b", "b is of type BLOB, which JSON cannot represent", id="BLOB"),
    ],
)
@pytest.mark.sampled(5)
def test_value_that_braze_would_refuse_makes_the_row_invalid(shop: Shop, value: str, reason: str | None):
    drinks(shop, f"SELECT {value} UNION ALL BY NAME SELECT 'fine' AS id", skip_on_invalid_records=True)
    if reason is None and "NULL" in value:
        reason = "id is NULL in the primary key"
    result = shop.run(create_catalog=True)
    assert [f"{row.column} {row.reason}" for row in result.invalid] == ([reason] if reason else [])
    assert len(shop.braze.catalog("drinks")) == (1 if reason else 2)


@pytest.mark.parametrize(
    ("sql", "options", "message"),
    [
        pytest.param(
            "SELECT 1 AS id, 'x' AS \"my field\"",
            {},
            'models/it.sql: column "my field" cannot be a field of a catalog: '
            "names have up to 250 letters, digits, - and _\n  hint: rename it with AS",
            id="name",
        ),
        pytest.param(
            "SELECT 1 AS id, [1] AS sizes",
            {},
            'models/it.sql: column "sizes" is INTEGER[]; an array of a catalog has strings only\n'
            "  hint: list_transform(sizes, lambda x: CAST(x AS VARCHAR))",
            id="array of numbers",
        ),
        pytest.param(
            f"SELECT 1 AS id, {', '.join(f'{n} AS c{n}' for n in range(500))}",
            {},
            "models/it.sql: the model returns 501 columns; a catalog has at most 500 fields\n"
            '  hint: list those that are not to be sent in "exclude_columns"',
            id="501 fields",
        ),
        pytest.param(
            "SELECT 1 AS id, 'x' AS sku",
            {"primary_key": "sku"},
            'syncs.yml:17:16: "primary_key" in sync "it": items are identified by id, and by nothing else\n'
            "  hint: remove it, or write primary_key: id",
            id="another key",
        ),
        pytest.param(
            "SELECT 1 AS sku",
            {},
            'models/it.sql: mode catalog_items / drinks needs a column "id"\n  hint: add it to the model, AS id',
            id="no id",
        ),
    ],
)
def test_model_that_no_catalog_fits_is_an_error(shop: Shop, sql: str, options: dict[str, Any], message: str):
    result = drinks(shop, sql, **options).run()
    assert "\n".join(map(str, result.errors)) == message
    assert shop.braze.requests() == []


def test_keys_of_the_mode_are_checked_in_syncs_yml(shop: Shop):
    shop.sync("it", "SELECT 1 AS id", mode="catalog_items", on_removed="clear", nulls="send")
    shop.sync("more", "SELECT 1 AS external_id", catalog="drinks")
    shop.sync("third", "SELECT 1 AS id", mode="catalog_items", catalog="my drinks")
    with pytest.raises(ProjectError) as raised:
        shop.project()
    assert [problem.with_code for problem in raised.value.problems] == [
        'syncs.yml:13:3: "catalog" is missing in sync "it": catalog_items needs it [P008]\n  hint: add catalog: NAME',
        'syncs.yml:16:15: "on_removed: clear" in sync "it" is not supported by mode catalog_items [P017]\n'
        "  hint: use ignore, or delete",
        'syncs.yml:17:3: "nulls" in sync "it" is not supported by mode catalog_items [P017]\n  hint: remove it',
        'syncs.yml:22:3: "catalog" in sync "more" is not supported by mode users_track / attributes [P017]\n'
        "  hint: remove it",
        'syncs.yml:26:12: "catalog" in sync "third" must be the name of a catalog: up to 250 letters, digits, - and _ '
        "[P010]",
    ]


def test_state_of_one_catalog_is_not_compared_with_another(shop: Shop):
    drinks(shop).run(create_catalog=True)
    shop.sync("it", DRINKS.format(rows=3), mode="catalog_items", catalog="food")
    (problem,) = shop.run(create_catalog=True).errors
    assert problem.message == (
        "it: its rows were sent as catalog_items / drinks, and the sync is now catalog_items / food"
    )


def test_item_that_braze_refuses_is_named_by_it_and_the_others_are_sent_at_once(shop: Shop):
    make_catalog(drinks(shop, DRINKS.format(rows=50)))
    errors = [{"id": "invalid-ids", "message": "no", "parameters": ["id"], "parameter_values": ["d7", "d9"]}]
    body = json.dumps({"errors": errors, "message": "Invalid Request"})
    shop.braze.add_fault(Fault("status", path=ITEMS, status=400, body=body))
    result = shop.run()
    assert (result.status, result.delivery.accepted, result.delivery.rejected) == ("incomplete", 48, 2)
    assert shop.rows_of("rejects", "key", "reason") == [("d7", "invalid-ids: no"), ("d9", "invalid-ids: no")]


@pytest.mark.long
def test_items_are_about_nobody(shop: Shop, retl: Retl):
    """Whatever columns they have: who was erased keeps none of them back, and `retl forget` does not look there."""
    sql = "SELECT 's1' AS id, 'ann@example.com' AS email, '+4912345678' AS phone, 'u1' AS external_id"
    drinks(shop, sql).run(create_catalog=True)
    shop.sync("people", "SELECT 'u1' AS external_id, 'ann@example.com' AS email, 1 AS n").run("people")
    assert erased_from(retl("forget", "u1", "--yes", folder=shop.folder)) == {"people": (1, 0, 0)}
    drinks(shop, sql.replace("+4912345678", "+4987654321"))
    assert (shop.run("it").delivery.accepted, shop.run("people").plan.suppressed) == (1, 1)
    assert shop.braze.catalog("drinks")[0]["phone"] == "+4987654321"


def test_item_that_was_deleted_and_comes_back_is_sent_again(shop: Shop):
    deletes = {"on_removed": "delete", "allow_destructive": True, "guards": {"max_removed": "100%"}}
    drinks(shop, DRINKS.format(rows=3), **deletes).run(create_catalog=True)
    drinks(shop, DRINKS.format(rows=2), **deletes)
    assert (shop.run().plan.deletes, len(shop.braze.catalog("drinks"))) == (1, 2)
    drinks(shop, DRINKS.format(rows=3), **deletes)
    assert (shop.run().plan.added, len(shop.braze.catalog("drinks"))) == (1, 3)


def test_item_whose_deletion_is_in_doubt_is_put_whole_if_it_comes_back(shop: Shop):
    """A patch does nothing if the item is gone."""
    deletes = {"on_removed": "delete", "allow_destructive": True, "guards": {"max_removed": "100%"}}
    drinks(shop, DRINKS.format(rows=3), **deletes).run(create_catalog=True)
    drinks(shop, DRINKS.format(rows=2), **deletes)
    shop.braze.add_fault(Fault("drop_after", path=ITEMS, times=None))
    policy = RetryPolicy(tries=1)
    result = shop.run(policy=policy)
    assert (result.status, [item["id"] for item in shop.braze.catalog("drinks")]) == ("failed", ["d0", "d1"])
    shop.braze.clear_faults()
    drinks(shop, f"SELECT * REPLACE (if(id = 'd2', 'new', title) AS title) FROM ({DRINKS.format(rows=3)})", **deletes)
    result = shop.run()
    assert (result.status, result.plan.requests) == ("success", {f"PUT {ITEMS}": 1})
    assert [item["title"] for item in shop.braze.catalog("drinks")] == ["drink 0", "drink 1", "new"]


@pytest.mark.long
def test_saved_plan_is_applied_once_the_catalog_is_there(shop: Shop, retl: Retl):
    """The types of its fields are those of the plan; no model is run."""
    drinks(shop)
    assert retl("plan", "it", "--out", "plan.zip", folder=shop.folder).code == 0
    assert shop.braze.requests() == []
    refused = retl("apply", "plan.zip", folder=shop.folder)
    assert (refused.code, 'catalog "drinks" is not in Braze' in refused.err) == (1, True)
    assert retl("plan", "it", "--out", "plan.zip", folder=shop.folder).code == 0
    assert retl("apply", "plan.zip", "--create-catalog", folder=shop.folder).code == 0
    assert len(shop.braze.catalog("drinks")) == 3


@pytest.mark.long
def test_run_can_be_reverted(shop: Shop, retl: Retl):
    drinks(shop).run(create_catalog=True)
    drinks(shop, f"SELECT * REPLACE (if(id = 'd1', 9, price) AS price) FROM ({DRINKS.format(rows=3)})").run()
    (run,) = json.loads(retl("history", "it", "--limit", "1", "--output", "json", folder=shop.folder).out)
    assert retl("revert", run["run_id"], "--pin", "--out", "back.zip", folder=shop.folder).code == 0
    assert retl("apply", "back.zip", folder=shop.folder).code == 0
    assert sent(shop)[2:] == [("PATCH", ITEMS, [{"id": "d1", "price": 1.5}])]
    assert shop.run().delivery.requests == 0


@pytest.mark.parametrize(
    ("status", "error", "message", "hint"),
    [
        (
            400,
            "invalid-fields",
            "Braze returned 400: invalid-fields: gone",
            "the catalog has lost a field: `retl sync NAME --create-catalog` creates it again",
        ),
        (
            404,
            "catalog-not-found",
            "Braze returned 404: catalog-not-found: gone",
            "the catalog was deleted: `retl sync NAME --create-catalog` creates it again",
        ),
        (
            400,
            "company-size-limit-already-reached",
            "Braze returned 400: company-size-limit-already-reached: gone",
            "delete catalogs that are not used, or ask Braze for more storage",
        ),
    ],
)
def test_error_that_every_request_would_get_stops_the_run_and_what_was_accepted_stays(
    shop: Shop, status: int, error: str, message: str, hint: str
):
    make_catalog(drinks(shop, DRINKS.format(rows=120)))
    errors = [{"id": error, "message": "gone", "parameters": ["id"], "parameter_values": ["d60"]}]
    body = json.dumps({"errors": errors, "message": "Invalid Request"})
    shop.braze.add_fault(Fault("status", path=ITEMS, skip=1, times=None, status=status, body=body))
    result = shop.run(threads=1)
    assert (result.status, result.delivery.accepted, result.delivery.unsent) == ("failed", 50, 70)
    assert [(problem.message, problem.hint) for problem in result.errors] == [(f"it: {message}", hint)]


def test_catalog_that_cannot_be_read_is_an_error_before_anything_is_sent(shop: Shop):
    drinks(shop)
    shop.braze.add_fault(Fault("status", path="/catalogs", times=None, status=403))
    (problem,) = shop.run().errors
    assert (problem.with_code, sent(shop)) == (
        "syncs.yml:16:12: /catalogs: Braze returned 403 [X014]\n"
        "  hint: create a new API key with the permission catalogs.get: permissions of an existing key cannot be "
        "changed; then run it again: nothing was sent",
        [],
    )


def test_items_have_no_canary(shop: Shop):
    (problem,) = drinks(shop).run(canary=5).errors
    assert problem.message == (
        "it: --canary cannot compare records of mode catalog_items / drinks: Braze does not export them"
    )


def test_rows_that_are_planned_name_the_old_and_the_new_value(shop: Shop, retl: Retl):
    drinks(shop).run(create_catalog=True)
    drinks(shop, f"SELECT * REPLACE (if(id = 'd1', 9, price) AS price) FROM ({DRINKS.format(rows=3)})")
    shown = retl("plan", "it", "--show-values", folder=shop.folder).out
    assert "  ~ d1\n      price: 1.50 -> 9.00\n" in shown
    assert f"1 request to PATCH {ITEMS}" in shown


def test_debug_checks_permissions_limits_and_the_catalog(shop: Shop, retl: Retl):
    drinks(shop, "SELECT 'd1' AS id, 1.5 AS price", on_removed="delete", allow_destructive=True)
    limit = "at most 16,000 in 60 s"
    endpoints = [
        f"ok    PUT {ITEMS}, permission catalogs.replace_items, {limit}",
        f"ok    PATCH {ITEMS}, permission catalogs.update_items, {limit}",
        f"ok    DELETE {ITEMS}, permission catalogs.delete_items, {limit}",
    ]
    found = retl("debug", folder=shop.folder)
    assert (found.code, found.out.splitlines()[4:8]) == (
        1,
        [*endpoints, 'FAIL  it: catalog "drinks" is not in Braze'],
    )
    make_catalog(shop, {"price": "number", "note": "string"})
    found = retl("debug", folder=shop.folder)
    assert (found.code, found.out.splitlines()[4:8]) == (0, [*endpoints, "ok    catalog of it: drinks, 3 fields"])


def test_fields_that_braze_has_only_queued_are_waited_for_and_nothing_is_sent_without_them(shop: Shop):
    make_catalog(drinks(shop), {name: of for name, of in TYPES.items() if name != "size"})
    shop.braze.add_fault(Fault("status", path="/catalogs/drinks/fields", status=202, body='{"message": "success"}'))
    (problem,) = shop.run(create_catalog=True).errors
    assert problem.with_code == (
        "syncs.yml:16:12: it: Braze has accepted new fields of catalog drinks, and lacks them still [X014]\n"
        "  hint: run it again: Braze only queues new fields"
    )
    assert (len([wait for wait in shop.clock.waits if wait == 2.0]), sent(shop)) == (29, [])
    assert shop.run(create_catalog=True).status == "success"


def test_catalog_that_cannot_be_created_is_an_error_with_braze_s_word_for_it(shop: Shop):
    errors = [{"id": "catalog-name-already-exists", "message": "It is there", "parameters": ["name"]}]
    body = json.dumps({"errors": errors, "message": "Invalid Request"})
    drinks(shop)
    shop.braze.add_fault(Fault("status", path="/catalogs", skip=1, status=400, body=body))
    (problem,) = shop.run(create_catalog=True).errors
    assert problem.with_code == (
        "syncs.yml:16:12: /catalogs: Braze returned 400: catalog-name-already-exists [X014]\n"
        "  hint: run it again: nothing was sent"
    )


def test_catalog_that_was_deleted_in_braze_is_not_created_with_the_changes_alone(shop: Shop):
    drinks(shop).run(create_catalog=True)
    assert requests.delete(f"{shop.braze.url}/catalogs/drinks", headers=HEADERS).status_code == 200
    drinks(shop, f"SELECT * REPLACE (if(id = 'd1', 9, price) AS price) FROM ({DRINKS.format(rows=3)})")
    (problem,) = shop.run(create_catalog=True).errors
    assert problem.with_code == (
        'syncs.yml:16:12: it: catalog "drinks" is not in Braze any more, and this run would send only changes [X013]\n'
        "  hint: `retl sync it --create-catalog --full-refresh` creates it, and sends all items"
    )
    assert shop.run(create_catalog=True, full_refresh=True).delivery.accepted == 3
    assert [item["price"] for item in shop.braze.catalog("drinks")] == [0, 9, 3]
