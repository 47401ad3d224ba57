"""The six recommended e-commerce events and their closed schemas. Pure. Source of all rules: (ecom, ecomsdk).

An event that misses its schema is refused whole, with a text of JSON Schema; four of them were seen (rud26), the others
have the same form and are guesses. Names are exact: `ecommerce.OrderPlaced` is a custom event like any other.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from reverse_etl.sandbox.exact import Json, dumps
from reverse_etl.sandbox.users.codes import CURRENCIES

BAD_CURRENCY = "'currency' must be an ISO 4217 currency"
MISSING = "The property '{}' did not contain a required property of '{}'"  # this and the next two: (rud26)
WRONG_TYPE = "The property '{}' of type {} did not match the following type: {}"
NOT_ALLOWED = "The property '{}' contains additional properties {} outside of the schema when none are allowed"
NOT_LISTED = "The property '{}' value {} did not match one of the following values: {}"
TOO_LOW = "The property '{}' did not have a minimum value of 0, inclusively"
MAX_BYTES = 102_400  # all properties of an event together


@dataclass(frozen=True)
class _Value:
    """What a property may be. An object without `fields` has any; `minimum` is 0 or none."""

    type: str
    choices: tuple[str, ...] = ()
    is_positive: bool = False
    items: "_Value | None" = None
    fields: "Mapping[str, _Property] | None" = None


@dataclass(frozen=True)
class _Property:
    value: _Value
    is_required: bool


_TEXT, _NUMBER, _INTEGER, _FREE = _Value("string"), _Value("number"), _Value("integer"), _Value("object")
_AMOUNT = _Value("number", is_positive=True)


def _required(**values: _Value) -> dict[str, _Property]:
    return {name: _Property(value, is_required=True) for name, value in values.items()}


def _optional(**values: _Value) -> dict[str, _Property]:
    return {name: _Property(value, is_required=False) for name, value in values.items()}


_OF_ALL = {**_required(currency=_TEXT, source=_TEXT), **_optional(metadata=_FREE)}
_PRODUCT = {
    **_required(product_id=_TEXT, product_name=_TEXT, variant_id=_TEXT),
    **_optional(image_url=_TEXT, product_url=_TEXT),
}
_LINE = _Value(
    "object", fields={**_PRODUCT, **_required(quantity=_INTEGER, price=_NUMBER), **_optional(metadata=_FREE)}
)
_LINES = _required(products=_Value("array", items=_LINE))
_TOTAL = _required(total_value=_AMOUNT)
_PARTS = _optional(subtotal_value=_AMOUNT, tax=_AMOUNT, shipping=_AMOUNT)
_DISCOUNT = _Value("object", fields=_optional(code=_TEXT, amount=_NUMBER, type=_TEXT))
_DISCOUNTS = _optional(total_discounts=_AMOUNT, discounts=_Value("array", items=_DISCOUNT))
_ORDER = {**_OF_ALL, **_LINES, **_required(order_id=_TEXT), **_TOTAL, **_DISCOUNTS}
_OFFERS = _Value("array", items=_Value("string", choices=("price_drop", "back_in_stock")))
_ACTIONS = _Value("string", choices=("add", "remove", "replace"))
_CART = {**_OF_ALL, **_LINES, **_required(cart_id=_TEXT), **_optional(action=_ACTIONS), **_TOTAL, **_PARTS}

SCHEMAS: Mapping[str, Mapping[str, _Property]] = {
    "ecommerce.product_viewed": {**_OF_ALL, **_PRODUCT, **_required(price=_AMOUNT), **_optional(type=_OFFERS)},
    "ecommerce.cart_updated": _CART,
    "ecommerce.checkout_started": {
        **_OF_ALL,
        **_LINES,
        **_optional(cart_id=_TEXT),
        **_required(checkout_id=_TEXT),
        **_TOTAL,
        **_PARTS,
    },
    "ecommerce.order_placed": {**_ORDER, **_optional(cart_id=_TEXT), **_PARTS},
    "ecommerce.order_cancelled": {**_ORDER, **_PARTS, **_required(cancel_reason=_TEXT)},
    "ecommerce.order_refunded": _ORDER,
}
_CHANGED_CART = {**_CART, **_optional(total_value=_AMOUNT)}  # of an event that adds or removes
_TYPES: Mapping[type, str] = {str: "string", bool: "boolean", int: "integer", Decimal: "number", list: "array"}


def ecommerce_problem(name: str, properties: Mapping[str, Json]) -> str | None:
    """The first way in which an e-commerce event misses its schema; None for all other events."""
    schema = SCHEMAS.get(name)
    if schema is None:
        return None
    if schema is _CART and properties.get("action") in ("add", "remove"):
        schema = _CHANGED_CART
    missed = next(_missed_of_object("#/", properties, schema), None)
    return missed or (None if properties["currency"].upper() in CURRENCIES else BAD_CURRENCY)


def _missed_of_object(path: str, sent: Mapping[str, Json], fields: Mapping[str, _Property]) -> Iterator[str]:
    missing = (name for name, field in fields.items() if field.is_required and name not in sent)
    yield from (MISSING.format(path, name) for name in missing)
    for name, value in sent.items():
        if name in fields:
            yield from _missed(f"{path.rstrip('/')}/{name}", value, fields[name].value)
    if extra := [name for name in sent if name not in fields]:
        yield NOT_ALLOWED.format(path, dumps(extra))


def _missed(path: str, sent: Json, wanted: _Value) -> Iterator[str]:
    found = _type_of(sent)
    if found != wanted.type and (found, wanted.type) != ("integer", "number"):
        yield WRONG_TYPE.format(path, found, wanted.type)
    elif wanted.choices and sent not in wanted.choices:
        yield NOT_LISTED.format(path, dumps(sent), ", ".join(wanted.choices))
    elif wanted.is_positive and sent < 0:
        yield TOO_LOW.format(path)
    elif wanted.items:
        for index, one in enumerate(sent):
            yield from _missed(f"{path}/{index}", one, wanted.items)
    elif wanted.fields:
        yield from _missed_of_object(path, sent, wanted.fields)


def _type_of(value: Json) -> str:
    return "null" if value is None else _TYPES.get(type(value), "object")
