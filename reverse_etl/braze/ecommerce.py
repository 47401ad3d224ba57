"""Braze's e-commerce events: their names, and the schemas of their properties. See `records/ecommerce.py`.

Braze drops an event that does not fit its schema as a whole. A name that is spelled otherwise is an ordinary event to
it: neither checked nor counted as an order. Pages: user_guide, recommended events and ecommerce events; of `discounts`,
developer_guide, logging ecommerce events.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from reverse_etl.braze.modes import Shape

PREFIX = "ecommerce."
EVENTS = tuple(
    f"{PREFIX}{name}"
    for name in (
        *("product_viewed", "cart_updated", "checkout_started"),
        *("order_placed", "order_cancelled", "order_refunded"),
    )
)
MAX_PROPERTIES_BYTES = 102_400  # of all properties of one event
OWN = "metadata"  # of an event, and of a product: the only place for properties that Braze does not define


@dataclass(frozen=True)
class Property:
    """A property of e-commerce events, or of the objects in one, which is an array.

    `use` has a letter for each of EVENTS: R required, o optional, - not in its schema. `unless`: a required one is
    optional if that other property has one of these values. `is_amount`: not negative. `items` are the properties of
    the objects in an array; if it `is_closed`, they need those that are required, and have no others.
    """

    name: str
    shape: Shape
    use: str
    unless: tuple[str, tuple[str, ...]] | None = None
    is_amount: bool = False
    choices: tuple[str, ...] = ()
    is_currency: bool = False
    items: tuple["Property", ...] = ()
    is_closed: bool = False

    @property
    def required_by(self) -> tuple[str, ...]:
        return tuple(event for event, use in zip(EVENTS, self.use, strict=True) if use == "R")

    @property
    def events(self) -> tuple[str, ...]:
        """Those that may have it."""
        return tuple(event for event, use in zip(EVENTS, self.use, strict=True) if use != "-")


_PRODUCT = (
    *(Property(name, Shape.TEXT, "RRRRRR") for name in ("product_id", "product_name", "variant_id")),
    Property("quantity", Shape.WHOLE, "RRRRRR"),
    Property("price", Shape.NUMBER, "RRRRRR"),
    *(Property(name, Shape.TEXT, "oooooo") for name in ("image_url", "product_url")),
    Property(OWN, Shape.OBJECT, "oooooo"),
)
_DISCOUNT = (
    Property("code", Shape.TEXT, "oooooo"),
    Property("amount", Shape.NUMBER, "oooooo"),
    Property("type", Shape.TEXT, "oooooo"),
)
_ADDED = ("action", ("add", "remove"))  # a cart that is changed, not replaced
# In the order of EVENTS: viewed, cart, checkout, placed, cancelled, refunded.
PROPERTIES: Mapping[str, Property] = {
    one.name: one
    for one in (
        Property("currency", Shape.TEXT, "RRRRRR", is_currency=True),
        Property("source", Shape.TEXT, "RRRRRR"),
        *(Property(name, Shape.TEXT, "R-----") for name in ("product_id", "product_name", "variant_id")),
        Property("price", Shape.NUMBER, "R-----", is_amount=True),
        *(Property(name, Shape.TEXT, "o-----") for name in ("image_url", "product_url")),
        Property("type", Shape.ARRAY, "o-----", choices=("price_drop", "back_in_stock")),
        Property("products", Shape.ARRAY, "-RRRRR", items=_PRODUCT, is_closed=True),
        Property("cart_id", Shape.TEXT, "-Roo--"),
        Property("action", Shape.TEXT, "-o----", choices=("add", "remove", "replace")),
        Property("checkout_id", Shape.TEXT, "--R---"),
        Property("order_id", Shape.TEXT, "---RRR"),
        Property("total_value", Shape.NUMBER, "-RRRRR", is_amount=True, unless=_ADDED),
        *(Property(name, Shape.NUMBER, "-oooo-", is_amount=True) for name in ("subtotal_value", "tax", "shipping")),
        Property("total_discounts", Shape.NUMBER, "---ooo", is_amount=True),
        Property("discounts", Shape.ARRAY, "---ooo", items=_DISCOUNT),
        Property("cancel_reason", Shape.TEXT, "----R-"),
        Property(OWN, Shape.OBJECT, "oooooo"),
    )
}
