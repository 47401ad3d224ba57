"""What makes Braze refuse an attributes object, beyond its identifier. Pure: looks at the object alone.

The page of /users/track lists these errors as codes; the live endpoint was seen to answer with texts (meas26, clients,
ticket). So the type of an error is its text where one was seen, and its code elsewhere.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.users.emails import is_email
from reverse_etl.sandbox.users.identifiers import is_text

STATES = ("subscribed", "unsubscribed", "opted_in")
GROUP_STATES = ("subscribed", "unsubscribed")
BAD_EMAIL = "The value provided for the 'email' field is not a valid email."  # (clients)
BAD_STATE = "'{}' must be 'subscribed', 'unsubscribed', or 'opted_in'"  # (meas26)
BAD_DEVICE = "token import with 'device_id' must have a device_id less than 255 bytes and at least 8 bytes"  # (ticket)
BAD_GROUPS = "BAD_SUBSCRIPTION_GROUP_ARRAY"  # this and the codes that follow: (track)
BAD_GROUP = "BAD_SUBSCRIPTION_GROUP_HASH"
BAD_GROUP_ID = "BAD_SUBSCRIPTION_GROUP_ID"
BAD_GROUP_STATE = "BAD_SUBSCRIPTION_GROUP_STATE"
BAD_LOCATION = "BAD_LOCATION_UPDATE"
BAD_TOKENS = "BAD_PUSH_TOKEN_VALUE"
BAD_TOKEN = "BAD_PUSH_TOKEN_STRING"
BAD_TOKEN_APP = "BAD_PUSH_TOKEN_APP_ID"
BAD_IMPORT = "BAD_PUSH_TOKEN_IMPORT"
BAD_INFO = "INVALID_ATTRIBUTE_EMAIL_SUBSCRIPTION_INFO"

_UUID = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
Problem = str | None  # the type of an object's error


def attributes_problem(one: Mapping[str, Json]) -> Problem:
    """The first error of an object. Null removes a field, and is no error."""
    if "email_subscription_info" in one:
        return BAD_INFO
    return next((found for name, check in _CHECKS.items() if one.get(name) is not None if (found := check(one))), None)


def import_problem(one: Mapping[str, Json]) -> Problem:
    """`push_token_import`: no external_id or braze_id, and at least one token (attr)."""
    is_named = one.get("external_id") is not None or one.get("braze_id") is not None
    return BAD_IMPORT if is_named or not one.get("push_tokens") else None


def _email(one: Mapping[str, Json]) -> Problem:
    return None if is_email(one["email"]) else BAD_EMAIL


def _state_of(name: str) -> Callable[[Mapping[str, Json]], Problem]:
    return lambda one: None if one[name] in STATES else BAD_STATE.format(name)


def _groups(one: Mapping[str, Json]) -> Problem:
    """That a group exists is not checked: any UUID is one."""
    groups = one["subscription_groups"]
    if not isinstance(groups, list):
        return BAD_GROUPS
    for group in groups:
        if not isinstance(group, dict) or not {"subscription_group_id", "subscription_state"} <= group.keys():
            return BAD_GROUP
        group_id = group["subscription_group_id"]
        if not isinstance(group_id, str) or not _UUID.fullmatch(group_id):
            return BAD_GROUP_ID
        if group["subscription_state"] not in GROUP_STATES:
            return BAD_GROUP_STATE
    return None


def _location(one: Mapping[str, Json]) -> Problem:
    """Both must be numbers; what is off the map is another matter: see fields.py."""
    place = one["current_location"]
    is_place = isinstance(place, dict) and all(_is_number(place.get(name)) for name in ("longitude", "latitude"))
    return None if is_place else BAD_LOCATION


def _is_number(value: Json) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _tokens(one: Mapping[str, Json]) -> Problem:
    """An app of the workspace is any string: which there are is not known here. Of device ids, the page says 8 to 255
    bytes (track)."""
    tokens = one["push_tokens"]
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        return BAD_TOKENS
    for token in tokens:
        if not isinstance(token.get("token"), str):
            return BAD_TOKEN
        if not is_text(token.get("app_id")):
            return BAD_TOKEN_APP
        device = token.get("device_id")
        if device is not None and not (isinstance(device, str) and 8 <= len(device.encode()) <= 255):
            return BAD_DEVICE
    return None


_CHECKS: Mapping[str, Callable[[Mapping[str, Json]], Problem]] = {
    "email": _email,
    "email_subscribe": _state_of("email_subscribe"),
    "push_subscribe": _state_of("push_subscribe"),
    "subscription_groups": _groups,
    "current_location": _location,
    "push_tokens": _tokens,
}
