"""POST /users/track, what is decided before the answer: which objects are taken. Pure: looks at the body alone.

The response does not depend on what is stored, as the real endpoint is asynchronous (sync). `track.py` applies.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from reverse_etl.sandbox.exact import Json, size_bytes
from reverse_etl.sandbox.http.answers import MaxObjects, RefusedError, Settings, object_error
from reverse_etl.sandbox.users.attribute_checks import BAD_EMAIL, Problem, attributes_problem, import_problem
from reverse_etl.sandbox.users.codes import CURRENCIES
from reverse_etl.sandbox.users.ecommerce import BAD_CURRENCY, MAX_BYTES, SCHEMAS, ecommerce_problem
from reverse_etl.sandbox.users.emails import is_email
from reverse_etl.sandbox.users.fields import is_phone
from reverse_etl.sandbox.users.identifiers import STRONG, is_alias, is_text
from reverse_etl.sandbox.users.times import moment

ARRAYS = ("attributes", "events", "purchases")

NO_IDENTIFIER = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"  # (clients)
TWO_IDENTIFIERS = "You must specify only one of 'external_id', 'user_alias' or 'braze_id'"  # (meas26)
TOO_LONG_ID = "'external_id' must be fewer than 988 bytes"  # (rud26)
BAD_PROPERTIES = "Invalid 'properties' field"  # (pevent)
NOTHING_VALID = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."  # (clients)
TOO_MANY = "Max Input Length Exceeded"  # (errors)
MAX_PROPERTY_BYTES = 100_000  # with arrays or objects; larger is rejected (event, cevent)
MAX_QUANTITY = 100  # (purch)
MAX_ID_BYTES = 987  # of an external_id (track)
RESERVED = {
    "events": frozenset({"time", "event_name"}),  # (event)
    "purchases": frozenset({"time", "product_id", "quantity", "event_name", "price", "currency"}),  # (pevent)
}


@dataclass(frozen=True)
class Sent:
    """A valid object, and its position in the request."""

    array: str
    index: int
    object: Mapping[str, Json]


@dataclass(frozen=True)
class Checked:
    """What to apply, in the order attributes, events, purchases (limits), and the response."""

    taken: tuple[Sent, ...]
    answer: dict[str, Json]


def check(body: Json, settings: Settings) -> Checked:
    """Raises RefusedError if there are too many objects, or none that is valid."""
    arrays = _arrays(body)
    _check_count(arrays, settings.max_objects)
    taken, errors = [], []
    answer: dict[str, Json] = {"message": "success"}
    for name, objects in arrays.items():
        valid = 0
        for index, one in enumerate(objects):
            problem = _problem(name, one, settings)
            if problem is None:
                taken.append(Sent(name, index, one))
                valid += 1
            else:
                errors.append(object_error(problem, name, index))
        answer[f"{name}_processed"] = valid  # accepted and rejected add up to sent (meas26)
    if not taken:
        raise RefusedError(NOTHING_VALID, errors)
    return Checked(tuple(taken), {**answer, "errors": errors} if errors else answer)


def _arrays(body: Json) -> dict[str, list[Json]]:
    if not isinstance(body, dict):
        raise RefusedError(NOTHING_VALID)
    found = {name: body[name] for name in ARRAYS if body.get(name) is not None}
    for name, objects in found.items():
        if not isinstance(objects, list):
            raise RefusedError(f"'{name}' must be an array of objects")  # a guess, after the text of merge
    return found


def _check_count(arrays: Mapping[str, list[Json]], max_objects: MaxObjects) -> None:
    """75 together; legacy customers 75 per array; one contract type 50 together (limits, track)."""
    counts = [len(objects) for objects in arrays.values()]
    most = 50 if max_objects == "50 together" else 75
    if (max(counts, default=0) if max_objects == "75 per array" else sum(counts)) > most:
        raise RefusedError(TOO_MANY)


def _problem(array: str, one: Json, settings: Settings) -> Problem:
    if not isinstance(one, dict):
        return NO_IDENTIFIER  # a guess
    return _identifier_problem(array, one) or _CHECKS[array](one) or settings.refusal(one)


def _identifier_problem(array: str, one: Mapping[str, Json]) -> Problem:
    strong = [name for name in STRONG if one.get(name) is not None]
    if len(strong) > 1:
        return TWO_IDENTIFIERS
    if array == "attributes" and one.get("push_token_import") is True:
        problem = import_problem(one)
        if problem or not (strong or one.get("email") or one.get("phone")):
            return problem
    if not strong:
        return _weak_identifier_problem(one)
    name, value = strong[0], one[strong[0]]
    if not (is_alias(value) if name == "user_alias" else is_text(value)):
        return NO_IDENTIFIER  # a malformed one counts as none: a guess
    return TOO_LONG_ID if name == "external_id" and len(value.encode()) > MAX_ID_BYTES else None


def _weak_identifier_problem(one: Mapping[str, Json]) -> Problem:
    """An email that is not valid is refused as such, in every array: for events and purchases a guess."""
    if one.get("email") is not None:
        return None if is_email(one["email"]) else BAD_EMAIL
    return None if is_phone(one.get("phone")) else NO_IDENTIFIER


def _event_problem(one: Mapping[str, Json]) -> Problem:
    return (
        _text_problem(one, "name")
        or _time_problem(one)
        or _properties_problem(one, "events")
        or ecommerce_problem(one["name"], one.get("properties") or {})
    )


def _purchase_problem(one: Mapping[str, Json]) -> Problem:
    """Texts other than those for currency (ecom) and properties are guesses, after `'external_id' is required`."""
    price, quantity = one.get("price"), 1 if one.get("quantity") is None else one["quantity"]
    if problem := _text_problem(one, "product_id") or _text_problem(one, "currency"):
        return problem
    if len(one["product_id"]) > 255:
        return "'product_id' must have at most 255 characters"
    if one["currency"].upper() not in CURRENCIES:  # lower case is taken: a guess
        return BAD_CURRENCY
    if price is None:
        return "'price' is required"
    if isinstance(price, bool) or not isinstance(price, int | Decimal):
        return "'price' must be a number"
    if isinstance(quantity, bool) or not isinstance(quantity, int) or not 1 <= quantity <= MAX_QUANTITY:
        return f"'quantity' must be an integer between 1 and {MAX_QUANTITY}"
    return _time_problem(one) or _properties_problem(one, "purchases")


def _text_problem(one: Mapping[str, Json], name: str) -> Problem:
    if one.get(name) is None:
        return f"'{name}' is required"
    return None if is_text(one[name]) else f"'{name}' must be a non-empty string"


def _time_problem(one: Mapping[str, Json]) -> Problem:
    if one.get("time") is None:
        return "'time' is required"
    return None if moment(one["time"]) else "'time' must be a date-time in ISO 8601"


def _properties_problem(one: Mapping[str, Json], array: str) -> Problem:
    properties = one.get("properties")
    if properties is None:
        return None
    if not isinstance(properties, dict) or not RESERVED[array].isdisjoint(properties):
        return BAD_PROPERTIES
    is_nested = any(isinstance(value, list | dict) for value in properties.values())
    most = MAX_BYTES if one.get("name") in SCHEMAS else MAX_PROPERTY_BYTES
    return BAD_PROPERTIES if is_nested and size_bytes(properties) > most else None  # text: a guess


_CHECKS: Mapping[str, Callable[[Mapping[str, Json]], Problem]] = {
    "attributes": attributes_problem,
    "events": _event_problem,
    "purchases": _purchase_problem,
}
