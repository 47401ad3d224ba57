"""POST /users/track, what is decided before the answer: which objects are taken. Pure: looks at the body alone.

The response does not depend on what is stored, as the real endpoint is asynchronous (sync). `track.py` applies.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from reverse_etl.sandbox.exact import Json, size_bytes
from reverse_etl.sandbox.http.answers import MaxObjects, RefusedError, Settings, object_error
from reverse_etl.sandbox.users.fields import STATES, is_phone
from reverse_etl.sandbox.users.identifiers import STRONG, is_alias, is_text
from reverse_etl.sandbox.users.times import moment

ARRAYS = ("attributes", "events", "purchases")

NO_IDENTIFIER = "'external_id', 'braze_id', 'user_alias', 'email' or 'phone' is required"  # (clients)
TWO_IDENTIFIERS = "You must specify only one of 'external_id', 'user_alias' or 'braze_id'"  # (meas26)
BAD_STATE = "'{}' must be 'subscribed', 'unsubscribed', or 'opted_in'"  # (meas26)
BAD_DEVICE = "token import with 'device_id' must have a device_id less than 255 bytes and at least 8 bytes"  # (ticket)
BAD_PROPERTIES = "Invalid 'properties' field"  # (pevent)
NOTHING_VALID = "Valid data must be provided in the 'attributes', 'events', or 'purchases' fields."  # (clients)
TOO_MANY = "Max Input Length Exceeded"  # (errors)
MAX_PROPERTY_BYTES = 100_000  # with arrays or objects; larger is rejected (event, cevent)
MAX_QUANTITY = 100  # (purch)
RESERVED = {
    "events": frozenset({"time", "event_name"}),  # (event)
    "purchases": frozenset({"time", "product_id", "quantity", "event_name", "price", "currency"}),  # (pevent)
}

_CURRENCY = re.compile("[A-Za-z]{3}")
Problem = str | None  # the text of an object's error


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
        problem = _import_problem(one)
        if problem or not (strong or one.get("email") or one.get("phone")):
            return problem
    if strong:
        is_usable = is_alias(one["user_alias"]) if strong == ["user_alias"] else is_text(one[strong[0]])
    else:
        is_usable = is_text(one.get("email")) or is_phone(one.get("phone"))
    return None if is_usable else NO_IDENTIFIER  # a malformed one counts as none: a guess


def _import_problem(one: Mapping[str, Json]) -> Problem:
    """No external_id or braze_id, and at least one token (attr). The texts are guesses."""
    if one.get("external_id") is not None or one.get("braze_id") is not None:
        return "'push_token_import' must not be used with 'external_id' or 'braze_id'"
    return None if one.get("push_tokens") else "'push_tokens' is required with 'push_token_import'"


def _attributes_problem(one: Mapping[str, Json]) -> Problem:
    for name in ("email_subscribe", "push_subscribe"):
        if one.get(name) is not None and one[name] not in STATES:
            return BAD_STATE.format(name)
    return _tokens_problem(one["push_tokens"]) if one.get("push_tokens") is not None else None


def _tokens_problem(tokens: Json) -> Problem:
    for token in tokens if isinstance(tokens, list) else [None]:
        if not isinstance(token, dict) or not is_text(token.get("app_id")) or not is_text(token.get("token")):
            return "'push_tokens' must be an array of objects with 'app_id' and 'token'"  # a guess
        device = token.get("device_id")
        if device is not None and not (isinstance(device, str) and 8 <= len(device.encode()) < 255):
            return BAD_DEVICE
    return None


def _event_problem(one: Mapping[str, Json]) -> Problem:
    return _text_problem(one, "name") or _time_problem(one) or _properties_problem(one, "events")


def _purchase_problem(one: Mapping[str, Json]) -> Problem:
    """Texts other than the one for properties are guesses, after `'external_id' is required`."""
    price, quantity = one.get("price"), 1 if one.get("quantity") is None else one["quantity"]
    if problem := _text_problem(one, "product_id") or _text_problem(one, "currency"):
        return problem
    if len(one["product_id"]) > 255:
        return "'product_id' must have at most 255 characters"
    if not _CURRENCY.fullmatch(one["currency"]):
        return "'currency' must be an ISO 4217 code"
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
    return BAD_PROPERTIES if is_nested and size_bytes(properties) > MAX_PROPERTY_BYTES else None  # text: a guess


_CHECKS: Mapping[str, Callable[[Mapping[str, Json]], Problem]] = {
    "attributes": _attributes_problem,
    "events": _event_problem,
    "purchases": _purchase_problem,
}
