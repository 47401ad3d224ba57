"""POST /users/export/ids: read users back."""

import math
from collections.abc import Mapping

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.answers import MAX_IDS, TOO_MANY_IDS_AND_ALIASES, Answer, RefusedError, Settings
from reverse_etl.sandbox.http.limits import EXPORT, LIGHT_EXPORT
from reverse_etl.sandbox.store import Transaction, User
from reverse_etl.sandbox.users.identifiers import alias_of, is_alias, is_text
from reverse_etl.sandbox.users.times import iso

SUMMARY_S = 90 * 86_400  # custom_events and purchases cover 90 days (export)
PLAIN_FIELDS = (
    "first_name",
    "last_name",
    "email",
    "home_city",
    "country",
    "phone",
    "language",
    "time_zone",
    "gender",
    "email_subscribe",
    "push_subscribe",
)
FIELDS = (
    *("external_id", "braze_id", "user_aliases", *PLAIN_FIELDS, "dob", "last_coordinates", "created_at"),
    *("random_bucket", "total_revenue", "custom_attributes", "custom_events", "purchases", "push_tokens"),
)
SELECTORS = ("external_ids", "user_aliases", "device_id", "email_address", "phone", "braze_id")
_HEAVY = ("canvases_received", "campaigns_received")


def family(body: Json) -> str:
    """Which rate limit a request counts for: naming fields, and no messages among them, is cheaper (limits)."""
    fields = body.get("fields_to_export") if isinstance(body, dict) else None
    return LIGHT_EXPORT if isinstance(fields, list) and not any(name in fields for name in _HEAVY) else EXPORT


def export_ids(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """201 with the users found; `invalid_user_ids` names every unknown id (export, rec21)."""
    fields = _fields(body, settings)
    users, unknown = _selected(work, body)
    exported = [_exported(work, user, fields) for user in users]
    answer: dict[str, Json] = {"message": "success", "users": exported}
    return 201, {**answer, "invalid_user_ids": unknown} if unknown else answer


def _fields(body: Mapping[str, Json], settings: Settings) -> list[str]:
    """Required for customers onboarded from 2024-08-22, for others all by default (export, export-old).

    The text is a guess; unknown names are ignored.
    """
    fields = body.get("fields_to_export")
    if fields is None and not settings.export_needs_fields:
        return list(FIELDS)
    if not isinstance(fields, list) or not fields or not all(map(is_text, fields)):
        raise RefusedError("'fields_to_export' is required")
    return fields


def _selected(work: Transaction, body: Mapping[str, Json]) -> tuple[list[User], list[Json]]:
    """Users, each once, and ids without a user. That these include aliases is a guess."""
    external_ids, aliases = _ids(body, "external_ids"), _ids(body, "user_aliases")
    single = {name: body[name] for name in SELECTORS[2:] if body.get(name) is not None}
    if len(single.keys() & {"device_id", "email_address", "phone"}) > 1:
        raise RefusedError("only one of 'device_id', 'email_address' or 'phone' is allowed")  # a guess
    if not (external_ids or aliases or single):
        raise RefusedError(f"one of {', '.join(map(repr, SELECTORS))} is required")  # a guess
    if len(external_ids) + len(aliases) > MAX_IDS:
        raise RefusedError(TOO_MANY_IDS_AND_ALIASES)
    if not (all(map(is_text, external_ids)) and all(map(is_alias, aliases)) and all(map(is_text, single.values()))):
        raise RefusedError("ids must be non-empty strings, aliases objects with a name and a label")  # a guess
    work.prefetch(external_ids)
    asked = [(one, work.by_external_id(one)) for one in external_ids]
    asked += [(alias, work.by_alias(alias_of(alias))) for alias in aliases]
    found = [user for _, user in asked if user is not None] + _found_by_one(work, single)
    return list(dict.fromkeys(found)), [one for one, user in asked if user is None]


def _ids(body: Mapping[str, Json], name: str) -> list[Json]:
    sent = [] if body.get(name) is None else body[name]
    if not isinstance(sent, list):
        raise RefusedError(f"'{name}' must be an array")  # a guess
    return sent


def _found_by_one(work: Transaction, single: Mapping[str, str]) -> list[User]:
    found: list[User] = []
    for name, value in single.items():
        match name:
            case "device_id":
                found += work.with_device(value)
            case "email_address":
                found += work.with_email(value)
            case "phone":
                found += work.with_phone(value)
            case "braze_id":
                user = work.by_braze_id(value)
                found += [] if user is None else [user]
    return found


def _exported(work: Transaction, user: User, fields: list[str]) -> dict[str, Json]:
    """Null and empty fields are absent, `user_aliases` is not (export, rec21)."""
    shown = {name: _value(work, user, name) for name in dict.fromkeys(fields)}
    if "braze_id" in shown:
        shown["appboy_id"] = user.braze_id  # (rec21)
    return {name: value for name, value in shown.items() if value not in (None, {}, []) or name == "user_aliases"}


def _value(work: Transaction, user: User, name: str) -> Json:
    match name:
        case "external_id":
            return user.external_id
        case "braze_id":
            return user.braze_id
        case "user_aliases":
            return [{"alias_name": name, "alias_label": label} for label, name in work.aliases(user)]
        case "custom_attributes":
            return {name: value for name, (value, _) in user.custom.items()}
        case "custom_events":
            return _summary(work, "events", "name", user)
        case "purchases":
            return _summary(work, "purchases", "product_id", user)
        case "created_at":
            return iso(user.created_at)
        case "random_bucket":
            return int(user.braze_id[:8], 16) % 10_000
        case "total_revenue":
            total = work.revenue(user)  # other currencies are not turned into USD here
            return total if total and math.isfinite(total) else None
        case "dob":
            return f"{user.value('dob')}T00:00:00.000Z" if user.value("dob") else None  # as on the wire (rec21)
        case "last_coordinates":
            place = user.value("current_location")
            return [place["longitude"], place["latitude"]] if place else None
        case "push_tokens":
            return [_token(token) for token in work.push_tokens(user)]
    return user.value(name) if name in PLAIN_FIELDS else None


def _token(token: Mapping[str, str]) -> dict[str, Json]:
    """In Braze, this has the name and platform of the app (export, clients): the sandbox knows only its id."""
    return {"app": token["app_id"], "token": token["token"], "device_id": token["device_id"]}


def _summary(work: Transaction, table: str, key: str, user: User) -> list[dict[str, Json]]:
    rows = work.summary(table, key, user, work.now - SUMMARY_S)
    return [{"name": name, "first": iso(first), "last": iso(last), "count": n} for name, first, last, n in rows]
