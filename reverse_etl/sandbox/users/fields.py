"""Standard fields of a profile: what each takes. Pure. Names are case sensitive, lower case (attr).

A value that does not fit is not set, and the sender is not told. What refuses the whole object is in
`attribute_checks.py`, and does not come here. Source of the rules is (attr) unless a line says otherwise.
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from zoneinfo import ZoneInfo

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.users.codes import COUNTRIES, COUNTRY_NAMES, LANGUAGES, RAILS_ZONES
from reverse_etl.sandbox.users.times import is_day, moment
from reverse_etl.sandbox.users.values import DroppedError

SWITCHES = frozenset({"_update_existing_only", "push_token_import", "_merge_objects"})  # not stored
IDENTIFIERS = frozenset({"external_id", "user_alias", "braze_id"})
NOT_FREE = frozenset(  # standard fields that cost a data point (dp); those in no list are free: a guess
    {
        "first_name",
        "last_name",
        "email",
        "gender",
        "home_city",
        "time_zone",
        "dob",
        "phone",
        "current_location",
        "country",
        "language",
    }
)

_PHONE = re.compile(r"\+?[0-9](?:[ ().-]*[0-9]){6,14}")
_ZONE_LIKE = re.compile(r"[A-Z][A-Za-z]*(?:/[A-Z][A-Za-z0-9_+-]*)+|UTC")
MAX_NAME_OF_PERSON = 255  # characters (websdk); that the API drops a longer one is a guess
MAX_IMAGE_URL = 1024  # characters (std); the same guess


def is_phone(value: Json) -> bool:
    """Whether Braze would call it valid (track, attr): a guess, 7 to 15 digits with the usual signs between."""
    return isinstance(value, str) and _PHONE.fullmatch(value) is not None


def _text(value: Json) -> Json:
    if not _is_text(value):
        raise DroppedError("not a string")
    return value


def _text_up_to(most: int) -> Callable[[Json], Json]:
    def check(value: Json) -> Json:
        if len(_text(value)) > most:
            raise DroppedError(f"string longer than {most:,} characters")
        return value

    return check


def _boolean(value: Json) -> Json:
    if not isinstance(value, bool):
        raise DroppedError("not a boolean")
    return value


def _account(**fields: Callable[[Json], bool]) -> Callable[[Json], Json]:
    """A social network account: an object in which these fields have their types. Others are kept: a guess."""

    def check(value: Json) -> Json:
        if not isinstance(value, dict) or not all(fits(value[name]) for name, fits in fields.items() if name in value):
            raise DroppedError(f"not an object of {', '.join(fields)}")
        return value

    return check


def _is_text(value: Json) -> bool:
    return isinstance(value, str)


def _is_integer(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_texts(value: Json) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _email(value: Json) -> Json:
    return value.lower()  # as it comes back on read-back (clients)


def _gender(value: Json) -> Json:
    if value not in ("M", "F", "O", "N", "P"):
        raise DroppedError("not one of M, F, O, N, P")
    return value


def _day(value: Json) -> Json:
    if not is_day(value):
        raise DroppedError("not a date in the form YYYY-MM-DD")
    return value


def _country(value: Json) -> Json:
    """ISO 3166-1 alpha-2. Braze maps other spellings if it can: here lower case, and the one that the page has."""
    code = value.upper() if isinstance(value, str) else None
    if code not in COUNTRIES:
        code = COUNTRY_NAMES.get(value.lower()) if isinstance(value, str) else None
    if code is None:
        raise DroppedError("not a country that can be mapped: stored as null", clears=True)
    return code


def _language(value: Json) -> Json:
    """That others are dropped is a guess."""
    if not isinstance(value, str) or value not in LANGUAGES:
        raise DroppedError("not a language code on Braze's list")
    return value


def _time_zone(value: Json) -> Json:
    if not isinstance(value, str) or not (value in RAILS_ZONES or _is_iana_zone(value)):
        raise DroppedError("not a time zone")
    return value


@lru_cache(maxsize=1000)
def _is_iana_zone(name: str) -> bool:
    return _is_known_zone(name) or (not _is_known_zone("Asia/Tokyo") and _ZONE_LIKE.fullmatch(name) is not None)


def _is_known_zone(name: str) -> bool:
    """Whether this machine has the zone; some have none at all."""
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # no such zone; a folder; a path outside, or no zone file
        return False
    return True


def _location(value: Json) -> Json:
    ends = {"longitude": 180, "latitude": 90}
    if not all(-end <= value[name] <= end for name, end in ends.items()):
        raise DroppedError("off the map")  # a guess
    return {name: value[name] for name in ends}


def _date_time(value: Json) -> Json:
    if moment(value) is None:
        raise DroppedError("not a date-time")
    return value


def _misplaced(value: Json) -> Json:
    raise DroppedError("part of an alias: use user_alias")  # (attr) lists it, what it does is a guess


STANDARD: Mapping[str, Callable[[Json], Json]] = {
    "email": _email,
    "phone": _text,  # one that is not valid is kept, and not refused (merge)
    "first_name": _text_up_to(MAX_NAME_OF_PERSON),
    "last_name": _text_up_to(MAX_NAME_OF_PERSON),
    "home_city": _text_up_to(MAX_NAME_OF_PERSON),
    "image_url": _text_up_to(MAX_IMAGE_URL),
    "gender": _gender,
    "dob": _day,
    "country": _country,
    "language": _language,
    "time_zone": _time_zone,
    "current_location": _location,
    "date_of_first_session": _date_time,
    "date_of_last_session": _date_time,
    "marked_email_as_spam_at": _date_time,
    "email_subscribe": _text,
    "push_subscribe": _text,
    "email_open_tracking_disabled": _boolean,
    "email_click_tracking_disabled": _boolean,
    "facebook": _account(id=_is_text, likes=_is_texts, num_friends=_is_integer),
    "twitter": _account(
        id=_is_integer,
        screen_name=_is_text,
        followers_count=_is_integer,
        friends_count=_is_integer,
        statuses_count=_is_integer,
    ),
    "alias_name": _misplaced,
    "alias_label": _misplaced,
}


def settle_standard(name: str, sent: Json) -> Json:
    """The value to store for a standard field; None removes it. Raises DroppedError if it is not to change."""
    return None if sent is None else STANDARD[name](sent)
