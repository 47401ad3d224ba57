"""Catalogs in the sandbox: the examples of Braze's pages give the answers of Braze's pages, and each rule its error."""

from decimal import Decimal
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.sandbox import Sandbox

NOW = 1_667_419_446.879  # 2022-11-02T20:04:06.879Z, as in the pages
KEY = {"Authorization": "Bearer sandbox"}
SUCCESS = {"message": "success"}
FIELDS = {
    "id": "string",
    "Name": "string",
    "City": "string",
    "Cuisine": "string",
    "Rating": "number",
    "Loyalty_Program": "boolean",
    "Location": "object",
    "Top_Dishes": "array",
    "Created_At": "time",
}
RESTAURANTS = {
    "name": "restaurants",
    "description": "My Restaurants",
    "fields": [{"name": name, "type": kind} for name, kind in FIELDS.items()],
}
RESTAURANT = {
    "Name": "Restaurant1",
    "City": "New York",
    "Cuisine": "American",
    "Rating": 5,
    "Loyalty_Program": True,
    "Location": {"Latitude": 33.6112, "Longitude": -117.8711},
    "Top_Dishes": ["Hamburger", "Deluxe Cheeseburger"],
    "Created_At": "2022-11-01T09:03:19.967+00:00",
}
STORED = {**RESTAURANT, "Created_At": "2022-11-01T09:03:19.967Z"}
ITEMS, ITEM = "/catalogs/restaurants/items", "/catalogs/restaurants/items/restaurant1"


def call(braze: Sandbox, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    answer = requests.request(method, braze.url + path, json=body, headers=KEY)
    return answer.status_code, answer.json()


def refused(id: str, message: str, parameters: list[str], values: list[Any], status: int = 400) -> tuple[int, Any]:
    error = {"id": id, "message": message, "parameters": parameters, "parameter_values": values}
    return status, {"errors": [error], "message": "Invalid Request"}


NO_CATALOG = refused("catalog-not-found", "Could not find catalog", ["catalog_name"], ["restaurants"], 404)


@pytest.fixture
def empty():
    with Sandbox(clock=lambda: NOW) as sandbox:
        yield sandbox


@pytest.fixture
def braze(empty):
    """A sandbox with the catalog of the pages, without items."""
    assert call(empty, "POST", "/catalogs", {"catalogs": [RESTAURANTS]})[0] == 201
    return empty


def stored(braze: Sandbox) -> Any:
    """id -> values, with numbers as they were sent"""
    return {item["id"]: {name: item[name] for name in item if name != "id"} for item in braze.catalog("restaurants")}


def drops(braze: Sandbox) -> list[tuple[str, int, str]]:
    return [(drop.input_array, drop.index, drop.reason) for drop in braze.silent_drops()]


# Catalogs


def test_catalog_is_made_listed_and_deleted(empty):
    shown = {**RESTAURANTS, "num_items": 0, "updated_at": "2022-11-02T20:04:06.879+00:00"}
    assert call(empty, "GET", "/catalogs") == (200, {"catalogs": [], **SUCCESS})
    assert call(empty, "POST", "/catalogs", {"catalogs": [RESTAURANTS]}) == (201, {"catalogs": [shown], **SUCCESS})
    assert call(empty, "GET", "/catalogs") == (200, {"catalogs": [shown], **SUCCESS})
    assert call(empty, "DELETE", "/catalogs/restaurants") == (200, SUCCESS)
    assert call(empty, "GET", "/catalogs") == (200, {"catalogs": [], **SUCCESS})
    assert empty.catalog("restaurants") is None


def test_catalog_counts_its_items_and_is_updated_with_them():
    now = [NOW]
    with Sandbox(clock=lambda: now[-1]) as braze:
        call(braze, "POST", "/catalogs", {"catalogs": [RESTAURANTS]})
        now.append(NOW + 1)
        call(braze, "POST", ITEMS, {"items": [{"id": "a"}, {"id": "b"}]})
        listed = call(braze, "GET", "/catalogs")[1]["catalogs"][0]
        assert (listed["num_items"], listed["updated_at"]) == (2, "2022-11-02T20:04:07.879+00:00")


def test_items_of_a_deleted_catalog_do_not_come_back(braze):
    call(braze, "POST", ITEMS, {"items": [{"id": "a"}]})
    call(braze, "DELETE", "/catalogs/restaurants")
    call(braze, "POST", "/catalogs", {"catalogs": [RESTAURANTS]})
    assert braze.catalog("restaurants") == []


def with_fields(*fields: Any) -> list[Any]:
    return [{**RESTAURANTS, "name": "new", "fields": list(fields)}]


def field(name: str, kind: str = "string") -> dict[str, str]:
    return {"name": name, "type": kind}


ID = field("id")
BAD_FIELDS = "'fields' must be an array of objects with a 'name' and a 'type'"
BAD_ID = "'id' must be the first field, and a string"
TYPES = "array, boolean, geolocation, number, object, string, time"


@pytest.mark.parametrize(
    ("catalogs", "error"),
    [
        pytest.param(
            "x", ("catalog-array-invalid", "'catalogs' must be an array of objects", ["catalogs"], []), id="no array"
        ),
        pytest.param(
            [], ("catalog-array-invalid", "'catalogs' must be an array of objects", ["catalogs"], []), id="empty array"
        ),
        pytest.param(
            [1], ("catalog-array-invalid", "'catalogs' must be an array of objects", ["catalogs"], []), id="no objects"
        ),
        pytest.param(
            [RESTAURANTS, RESTAURANTS],
            ("too-many-catalog-atoms", "Only one catalog can be created per request", ["catalogs"], []),
            id="two",
        ),
        pytest.param(
            [{**RESTAURANTS, "name": "my restaurants"}],
            (
                "invalid-catalog-name",
                "Catalog names can only include letters, numbers, hyphens, and underscores",
                ["name"],
                ["my restaurants"],
            ),
            id="blank in name",
        ),
        pytest.param(
            [{**RESTAURANTS, "name": "x" * 251}],
            ("catalog-name-too-large", "Catalog names cannot be longer than 250 characters", ["name"], ["x" * 251]),
            id="long name",
        ),
        pytest.param(
            [RESTAURANTS],
            ("catalog-name-already-exists", "A catalog with that name already exists", ["name"], ["restaurants"]),
            id="name taken",
        ),
        pytest.param(
            [{**RESTAURANTS, "name": "new", "description": "x" * 251}],
            (
                "description-too-long",
                "Descriptions cannot be longer than 250 characters",
                ["description"],
                ["x" * 251],
            ),
            id="long description",
        ),
        pytest.param(
            [{"name": "new", "description": ""}], ("invalid-fields", BAD_FIELDS, ["fields"], []), id="no fields"
        ),
        pytest.param(
            with_fields({"name": "id"}), ("invalid-fields", BAD_FIELDS, ["fields"], []), id="field without type"
        ),
        pytest.param(
            with_fields(field("a"), ID), ("id-not-first-column", BAD_ID, ["fields"], []), id="id is not first"
        ),
        pytest.param(
            with_fields(field("id", "number")), ("id-not-first-column", BAD_ID, ["fields"], []), id="id is a number"
        ),
        pytest.param(
            with_fields(ID, *(field(f"f{n}") for n in range(500))),
            ("too-many-fields", "A catalog cannot have more than 500 fields", ["fields"], []),
            id="501 fields",
        ),
        pytest.param(
            with_fields(ID, field("a.b")),
            (
                "invalid-field-names",
                "Field names can only include letters, numbers, hyphens, and underscores",
                ["name"],
                ["a.b"],
            ),
            id="dot in field",
        ),
        pytest.param(
            with_fields(ID, field("x" * 251)),
            ("field-names-too-large", "Field names cannot be longer than 250 characters", ["name"], ["x" * 251]),
            id="long field",
        ),
        pytest.param(
            with_fields(ID, field("a"), field("a")),
            ("field-names-not-unique", "Field names must be unique", ["name"], ["a"]),
            id="field twice",
        ),
        pytest.param(
            with_fields(ID, field("a", "text")),
            ("invalid-field-types", f"Field types must be one of {TYPES}", ["type"], ["text"]),
            id="unknown type",
        ),
    ],
)
def test_bad_catalog_is_refused(braze, catalogs, error):
    assert call(braze, "POST", "/catalogs", {"catalogs": catalogs}) == refused(*error)
    assert [one["name"] for one in call(braze, "GET", "/catalogs")[1]["catalogs"]] == ["restaurants"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/catalogs/restaurants"),
        ("POST", "/catalogs/restaurants/fields"),
        ("DELETE", "/catalogs/restaurants/fields/City"),
        ("POST", ITEMS),
        ("PATCH", ITEMS),
        ("PUT", ITEMS),
        ("DELETE", ITEMS),
        ("GET", ITEMS),
        ("POST", ITEM),
        ("PATCH", ITEM),
        ("PUT", ITEM),
        ("DELETE", ITEM),
        ("GET", ITEM),
    ],
)
def test_unknown_catalog_is_a_404_with_a_reason(empty, method, path):
    assert call(empty, method, path, {"items": [{"id": "a"}], "fields": [field("a")]}) == NO_CATALOG


# Fields


def test_fields_are_added_and_deleted_with_their_values(braze):
    new = {"fields": [field("Phone"), field("Seats", "number")]}
    assert call(braze, "POST", "/catalogs/restaurants/fields", new) == (202, SUCCESS)
    call(braze, "POST", ITEMS, {"items": [{"id": "a", "City": "Seoul", "Seats": 40}]})
    assert call(braze, "DELETE", "/catalogs/restaurants/fields/Seats") == (202, SUCCESS)
    assert stored(braze) == {"a": {"City": "Seoul"}}
    fields = call(braze, "GET", "/catalogs")[1]["catalogs"][0]["fields"]
    assert fields == [*RESTAURANTS["fields"], field("Phone")]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param(
            [field(f"f{n}") for n in range(51)],
            ("request-includes-too-many-fields", "A request cannot have more than 50 new fields", ["fields"], []),
            id="51",
        ),
        pytest.param(
            [field("City")], ("field-names-not-unique", "Field names must be unique", ["name"], ["City"]), id="known"
        ),
        pytest.param({}, ("invalid-fields", BAD_FIELDS, ["fields"], []), id="no array"),
    ],
)
def test_bad_fields_are_refused(braze, fields, error):
    assert call(braze, "POST", "/catalogs/restaurants/fields", {"fields": fields}) == refused(*error)


def test_catalog_has_at_most_500_fields(empty):
    call(empty, "POST", "/catalogs", {"catalogs": with_fields(ID, *(field(f"f{n}") for n in range(498)))})
    assert call(empty, "POST", "/catalogs/new/fields", {"fields": [field("a")]}) == (202, SUCCESS)
    assert call(empty, "POST", "/catalogs/new/fields", {"fields": [field("b")]}) == refused(
        "catalog-exceeds-fields-limit", "A catalog cannot have more than 500 fields", ["fields"], []
    )


@pytest.mark.parametrize("name", ["id", "Seats"])
def test_id_and_unknown_fields_are_not_deleted(braze, name):
    assert call(braze, "DELETE", f"/catalogs/restaurants/fields/{name}") == refused(
        "invalid-field-name", "Could not find field", ["field_name"], [name], 404
    )


# One item


def test_item_is_made_read_changed_replaced_and_deleted(braze):
    assert call(braze, "POST", ITEM, {"items": [RESTAURANT]}) == (201, SUCCESS)
    assert call(braze, "GET", ITEM) == (200, {"items": [{"id": "restaurant1", **STORED}], **SUCCESS})
    changes = {"Name": "Restaurant", "Top_Dishes": {"$add": ["Biscuits", "Coleslaw"], "$remove": ["Hamburger"]}}
    assert call(braze, "PATCH", ITEM, {"items": [{**changes, "Cuisine": None}]}) == (200, SUCCESS)
    dishes = ["Deluxe Cheeseburger", "Biscuits", "Coleslaw"]
    changed = {**STORED, "Name": "Restaurant", "Top_Dishes": dishes}
    del changed["Cuisine"]
    assert call(braze, "GET", ITEM) == (200, {"items": [{"id": "restaurant1", **changed}], **SUCCESS})
    assert call(braze, "PUT", ITEM, {"items": [{"Name": "Restaurant", "City": "Seoul"}]}) == (200, SUCCESS)
    assert stored(braze) == {"restaurant1": {"Name": "Restaurant", "City": "Seoul"}}
    assert call(braze, "DELETE", ITEM) == (202, SUCCESS)
    assert stored(braze) == {}


def test_put_makes_an_unknown_item(braze):
    assert call(braze, "PUT", ITEM, {"items": [{"City": "Seoul"}]}) == (200, SUCCESS)
    assert stored(braze) == {"restaurant1": {"City": "Seoul"}}


def test_known_item_is_not_made_again(braze):
    call(braze, "POST", ITEM, {"items": [{"City": "Seoul"}]})
    assert call(braze, "POST", ITEM, {"items": [{"City": "Busan"}]}) == refused(
        "item-already-exists", "The item already exists in the catalog", ["item_id"], ["restaurant1"]
    )
    assert stored(braze) == {"restaurant1": {"City": "Seoul"}}


@pytest.mark.parametrize(("method", "status"), [("GET", 404), ("PATCH", 404), ("DELETE", 400)])
def test_unknown_item_is_told(braze, method, status):
    answer = call(braze, method, ITEM, {"items": [{"City": "Seoul"}]})
    assert answer == refused("item-not-found", "Could not find item", ["item_id"], ["restaurant1"], status)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize(
    ("path", "items", "error"),
    [
        pytest.param(
            ITEM, None, ("item-array-invalid", "'items' must be an array of objects", ["items"], []), id="no items"
        ),
        pytest.param(
            ITEM,
            [{}, {}],
            ("request-includes-too-many-items", "The request has too many items", ["items"], []),
            id="two items",
        ),
        pytest.param(
            ITEM,
            [{"id": "restaurant1"}],
            ("id-in-body", "Item ids belong in the path only", ["id"], ["restaurant1"]),
            id="id in the body",
        ),
        pytest.param(
            f"{ITEMS}/a b",
            [{}],
            (
                "invalid-ids",
                "Item ids can only include letters, numbers, hyphens, and underscores",
                ["item_id"],
                ["a b"],
            ),
            id="blank in the id",
        ),
        pytest.param(
            f"{ITEMS}/{'x' * 251}",
            [{}],
            ("ids-too-large", "Item ids cannot be longer than 250 characters", ["item_id"], ["x" * 251]),
            id="long id",
        ),
        pytest.param(
            ITEM,
            [{"City": "Seoul", "Town": "Seoul"}],
            ("invalid-fields", "Some of the fields given do not exist in the catalog", ["id"], ["restaurant1"]),
            id="unknown field",
        ),
    ],
)
def test_bad_item_is_refused(braze, method, path, items, error):
    assert call(braze, method, path, {"items": items}) == refused(*error)
    assert braze.catalog("restaurants") == []


# Values


@pytest.mark.parametrize(
    ("name", "sent", "kept"),
    [
        pytest.param("City", "Seoul", "Seoul", id="string"),
        pytest.param("City", 5, "5", id="number to string"),
        pytest.param("City", True, "true", id="boolean to string"),
        pytest.param("Rating", 4.5, Decimal("4.5"), id="number"),
        pytest.param("Rating", "4.50", Decimal("4.50"), id="string to number"),
        pytest.param("Loyalty_Program", "True", True, id="string to boolean"),
        pytest.param("Created_At", "2022-11-01", "2022-11-01T00:00:00.000Z", id="day to time"),
        pytest.param("Created_At", "2022-11-01T09:03:19+09:00", "2022-11-01T00:03:19.000Z", id="time of a zone"),
        pytest.param("Location", {"a": {"b": [1]}}, {"a": {"b": [1]}}, id="object"),
        pytest.param("Top_Dishes", ["a", "a"], ["a", "a"], id="array"),
        pytest.param("Top_Dishes", ["a"] * 100, ["a"] * 100, id="array of 100"),
        pytest.param("City", "x" * 5000, "x" * 5000, id="5,000 characters"),
    ],
)
def test_value_is_kept_in_the_type_of_its_field(braze, name, sent, kept):
    assert call(braze, "PUT", ITEM, {"items": [{name: sent}]}) == (200, SUCCESS)
    assert stored(braze) == {"restaurant1": {name: kept}}


UNFIT = ("unable-to-coerce-value", "Some of the values cannot be converted to the type of their field")
LONG = ("items-too-large", "Values of items cannot be longer than 5,000 characters")
KEYS = ("invalid-keys-in-value-object", "Keys of objects cannot include '.' or '$'")
DEEP = ("too-deep-nesting-in-value-object", "Objects cannot have more than 50 levels")


def nested(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("name", "sent", "error"),
    [
        pytest.param("City", ["Seoul"], UNFIT, id="array for a string"),
        pytest.param("City", "x" * 5001, LONG, id="long string"),
        pytest.param("Rating", "good", UNFIT, id="text for a number"),
        pytest.param("Rating", True, UNFIT, id="boolean for a number"),
        pytest.param("Loyalty_Program", 1, UNFIT, id="number for a boolean"),
        pytest.param("Created_At", "yesterday", UNFIT, id="no time"),
        pytest.param("Created_At", 1667293399, UNFIT, id="number for a time"),
        pytest.param("Location", "here", UNFIT, id="text for an object"),
        pytest.param("Location", {"a": [{"b.c": 1}]}, KEYS, id="dot in a key"),
        pytest.param("Location", {"$a": 1}, KEYS, id="dollar sign in a key"),
        pytest.param("Location", nested(51), DEEP, id="51 levels"),
        pytest.param("Location", {"a": "x" * 5000}, LONG, id="large object"),
        pytest.param("Top_Dishes", [1], UNFIT, id="array of numbers"),
        pytest.param("Top_Dishes", ["a"] * 101, UNFIT, id="array of 101"),
        pytest.param("Top_Dishes", {"$add": ["a"]}, UNFIT, id="$add without PATCH"),
    ],
)
def test_value_that_does_not_fit_its_field_is_refused(braze, name, sent, error):
    assert call(braze, "PUT", ITEM, {"items": [{name: sent}]}) == refused(*error, ["id"], ["restaurant1"])


def test_object_of_50_levels_is_kept(braze):
    assert call(braze, "PUT", ITEM, {"items": [{"Location": nested(50)}]}) == (200, SUCCESS)


@pytest.mark.parametrize(
    ("sent", "is_kept"),
    [([-73.988103, 40.779109], True), ([180, -90], True), ([40, 91], False), ([1], False), (["1", "2"], False)],
)
def test_geolocation_is_longitude_and_latitude(empty, sent, is_kept):
    call(empty, "POST", "/catalogs", {"catalogs": with_fields(ID, field("place", "geolocation"))})
    assert call(empty, "POST", "/catalogs/new/items/a", {"items": [{"place": sent}]})[0] == (201 if is_kept else 400)


@pytest.mark.parametrize("change", [{"$add": "a"}, {"$remove": [1]}])
def test_bad_change_of_an_array_is_refused(braze, change):
    call(braze, "PUT", ITEM, {"items": [{"Top_Dishes": ["a"]}]})
    answer = call(braze, "PATCH", ITEM, {"items": [{"Top_Dishes": change}]})
    assert answer == refused(*UNFIT, ["id"], ["restaurant1"])


def test_array_does_not_grow_beyond_100(braze):
    call(braze, "PUT", ITEM, {"items": [{"Top_Dishes": ["a"] * 100}]})
    change = {"Top_Dishes": {"$add": ["b"]}}
    assert call(braze, "PATCH", ITEM, {"items": [change]}) == refused(*UNFIT, ["id"], ["restaurant1"])
    assert call(braze, "PATCH", ITEMS, {"items": [{"id": "restaurant1", **change}]}) == (202, SUCCESS)
    assert drops(braze) == [("items", 0, UNFIT[1])]
    assert stored(braze) == {"restaurant1": {"Top_Dishes": ["a"] * 100}}


# Many items


def test_items_are_made_changed_replaced_and_deleted(braze):
    many = [{"id": f"restaurant{n}", **RESTAURANT} for n in (1, 2, 3)]
    assert call(braze, "POST", ITEMS, {"items": many}) == (202, SUCCESS)
    changes = [{"id": "restaurant1", "Rating": 2}, {"id": "restaurant3", "Top_Dishes": {"$remove": ["Hamburger"]}}]
    assert call(braze, "PATCH", ITEMS, {"items": changes}) == (202, SUCCESS)
    whole = [{"id": "restaurant2", "City": "Seoul"}, {"id": "restaurant4", "City": "Busan"}]
    assert call(braze, "PUT", ITEMS, {"items": whole}) == (202, SUCCESS)
    assert call(braze, "DELETE", ITEMS, {"items": [{"id": "restaurant4"}]}) == (202, SUCCESS)
    location = {"Latitude": Decimal("33.6112"), "Longitude": Decimal("-117.8711")}
    assert stored(braze) == {
        "restaurant1": {**STORED, "Location": location, "Rating": 2},
        "restaurant2": {"City": "Seoul"},
        "restaurant3": {**STORED, "Location": location, "Top_Dishes": ["Deluxe Cheeseburger"]},
    }
    assert drops(braze) == []


def test_what_cannot_be_done_with_many_items_is_dropped_in_silence(braze):
    call(braze, "POST", ITEMS, {"items": [{"id": "a", "City": "Seoul"}]})
    for method in ("POST", "PATCH", "DELETE"):
        items = [{"id": "a" if method == "POST" else "b", "City": "Busan"}, {"id": "c" if method == "POST" else "a"}]
        assert call(braze, method, ITEMS, {"items": items}) == (202, SUCCESS)
    assert drops(braze) == [
        ("items", 0, "the item already exists"),
        ("items", 0, "no such item"),
        ("items", 0, "no such item"),
    ]
    assert stored(braze) == {"c": {}}


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("items", "error"),
    [
        pytest.param({}, ("item-array-invalid", "'items' must be an array of objects", ["items"], []), id="no array"),
        pytest.param(
            [{"id": f"r{n}"} for n in range(51)],
            ("request-includes-too-many-items", "The request has too many items", ["items"], []),
            id="51",
        ),
        pytest.param(
            [{"id": "a"}, {"City": "Seoul"}],
            ("items-missing-ids", "There are 1 item(s) that do not have ids", [], []),
            id="no id",
        ),
        pytest.param([{"id": 1}], ("ids-not-strings", "Item ids must be strings", ["id"], [1]), id="number"),
        pytest.param(
            [{"id": "x" * 251}],
            ("ids-too-large", "Item ids cannot be longer than 250 characters", ["id"], ["x" * 251]),
            id="long id",
        ),
        pytest.param(
            [{"id": "a/b"}],
            (
                "invalid-ids",
                "Item ids can only include letters, numbers, hyphens, and underscores",
                ["id"],
                ["a/b"],
            ),
            id="slash in id",
        ),
        pytest.param(
            [{"id": "a"}, {"id": "a"}],
            ("ids-not-unique", "Item ids must be unique in the request", ["id"], ["a"]),
            id="id twice",
        ),
    ],
)
def test_bad_items_are_refused_with_all_others(braze, method, items, error):
    assert call(braze, method, ITEMS, {"items": items}) == refused(*error)
    assert braze.catalog("restaurants") == []


def test_items_with_unknown_fields_are_named_and_all_refused(braze):
    items = [{"id": "a", "Town": "x"}, {"id": "b"}, {"id": "c", "Town": "y"}]
    assert call(braze, "POST", ITEMS, {"items": items}) == refused(
        "invalid-fields", "Some of the fields given do not exist in the catalog", ["id"], ["a", "c"]
    )
    assert braze.catalog("restaurants") == []


def test_fifty_items_are_taken(braze):
    assert call(braze, "POST", ITEMS, {"items": [{"id": f"r{n}"} for n in range(50)]}) == (202, SUCCESS)
    assert len(stored(braze)) == 50


# Pages


def page(braze: Sandbox, path: str) -> tuple[list[str], str | None]:
    """Ids on a page, and its Link header."""
    answer = requests.get(braze.url + path, headers=KEY)
    assert answer.status_code == 200
    return [item["id"] for item in answer.json()["items"]], answer.headers.get("Link")


def link(skip: str, relation: str) -> str:
    return f'</catalogs/restaurants/items?cursor={skip}>; rel="{relation}"'


def test_items_come_in_pages_of_50_with_links(braze):
    ids = [f"r{n}" for n in range(120)]
    for first in (0, 50, 100):
        call(braze, "POST", ITEMS, {"items": [{"id": id} for id in ids[first : first + 50]]})
    to_0, to_50, to_100 = "c2tpcDow", "c2tpcDo1MA==", "c2tpcDoxMDA="  # base64 of skip:0, skip:50, skip:100
    assert page(braze, ITEMS) == (ids[:50], link(to_50, "next"))
    second = f"{link(to_0, 'prev')},{link(to_100, 'next')}"
    assert page(braze, f"{ITEMS}?cursor={to_50}") == (ids[50:100], second)
    assert page(braze, f"{ITEMS}?cursor={to_100}") == (ids[100:], link(to_50, "prev"))


def test_fifty_items_are_one_page_without_links(braze):
    call(braze, "POST", ITEMS, {"items": [{"id": f"r{n}"} for n in range(50)]})
    assert page(braze, ITEMS) == ([f"r{n}" for n in range(50)], None)


@pytest.mark.parametrize("cursor", ["bad-cursor", "c2tpcDphbGw="])
def test_bad_cursor_is_refused(braze, cursor):
    assert call(braze, "GET", f"{ITEMS}?cursor={cursor}") == refused(
        "invalid-cursor", "'cursor' is not valid", ["cursor"], [cursor]
    )


# Any order of calls

IDS = st.sampled_from(["a", "b", "c"])
SOME_FIELDS = st.dictionaries(st.sampled_from(["City", "Cuisine"]), st.sampled_from(["x", "y", None]))
ONE = st.tuples(st.sampled_from(["POST", "PATCH", "PUT", "DELETE"]), st.just(None), IDS, SOME_FIELDS)
MANY = st.tuples(
    st.sampled_from(["POST", "PATCH", "PUT", "DELETE"]),
    st.dictionaries(IDS, SOME_FIELDS, min_size=1),
    st.none(),
    st.none(),
)


def expected(items: dict[str, dict[str, Any]], method: str, id: str, values: dict[str, Any]) -> bool:
    """Does to a dict what the call does to a catalog; whether there was something to do."""
    is_there = id in items
    if method == "DELETE":
        items.pop(id, None)
        return is_there
    if is_there == (method == "POST") and method != "PUT":
        return False
    old = items.get(id, {}) if method == "PATCH" else {}
    items[id] = {name: value for name, value in {**old, **values}.items() if value is not None}
    return True


@pytest.fixture(scope="module")
def unlimited():
    with Sandbox(limits={"catalogs": [], "catalog_item": []}) as sandbox:
        yield sandbox


@given(st.lists(ONE | MANY, max_size=8))
def test_catalog_is_a_table_of_items_whatever_the_order_of_calls(unlimited, calls):
    call(unlimited, "DELETE", "/catalogs/restaurants")
    call(unlimited, "POST", "/catalogs", {"catalogs": [RESTAURANTS]})
    items: dict[str, dict[str, Any]] = {}
    for method, many, id, values in calls:
        if many is None:
            is_done = expected(items, method, id, values)
            status, _ = call(unlimited, method, f"{ITEMS}/{id}", {"items": [values]})
            assert (status < 300) is is_done
        else:
            for each, changes in many.items():
                expected(items, method, each, changes)
            sent = [{"id": each, **changes} for each, changes in many.items()]
            assert call(unlimited, method, ITEMS, {"items": sent})[0] == 202
    assert stored(unlimited) == items
