"""What Braze's pages say of the values in a record of /users/track, what retl does about each, and the test of it.

`docs/generate.py` writes it into docs/values.md; tests/records/test_values_page.py compares it with the tests. Pages
are named as in `reverse_etl/braze/modes.py`: under https://www.braze.com/docs/api, or user_guide.
"""

from collections.abc import Mapping
from dataclasses import dataclass

INVALID, LEFT_OUT, WARNING, SENT, ERROR = "invalid row", "left out", "warning", "sent", "error in the project"
OUTCOMES = (INVALID, LEFT_OUT, WARNING, SENT, ERROR)
_TRACK, _ATTR, _EVENT, _PURCHASE = "post_user_track", "user_attributes_object", "event_object", "purchase_object"
_TYPES, _NESTED, _STANDARD = (
    "user_guide: data types",
    "nested_custom_attribute_support",
    "user_guide: standard attributes",
)
_MAIL, _PHONE, _LANG = "user_guide: email validation", "user_guide: user phone numbers", "user_guide: language codes"
_CUSTOM = "user_guide: custom attributes"
# Of tests that have many cases.
_REJECTED, _TAKEN = "row_that_braze_would_reject_is_invalid", "row_that_braze_accepts_is_sent"
_DROPPED, _KEPT = "value_that_braze_would_drop_is_left_out", "value_that_braze_keeps_is_sent"
_INVALID = "value_makes_the_row_invalid"


@dataclass(frozen=True)
class Row:
    """A row of the table. `tests` are names without their `test_`, each with a case in brackets if it has several."""

    rule: str
    page: str
    outcome: str
    tests: tuple[str, ...]


def _of(test: str, *cases: str) -> tuple[str, ...]:
    return tuple(f"{test}[{case}]" for case in cases)


ROWS: Mapping[str, tuple[Row, ...]] = {
    "What makes Braze reject an object": (
        Row("`external_id` has at most 987 bytes", _TRACK, INVALID, _of(_REJECTED, "external_id over 987 bytes")),
        Row(
            "`external_id` is not blocked by Braze",
            _TRACK,
            SENT,
            ("row_that_braze_rejected_is_not_sent_again_until_it_changes",),
        ),
        Row("`email` is a valid address: see below", _TRACK, INVALID, _of(_REJECTED, "email 'ann'")),
        Row(
            "`email_subscribe` is subscribed, unsubscribed or opted_in",
            _TRACK,
            INVALID,
            _of(_REJECTED, "email_subscribe"),
        ),
        Row("`push_subscribe` is one of the same three", _TRACK, INVALID, _of(_REJECTED, "push_subscribe")),
        Row("`subscription_groups` is an array", _TRACK, INVALID, _of(_REJECTED, "groups are an object")),
        Row(
            "its items are objects with `subscription_group_id` and `subscription_state`",
            _TRACK,
            INVALID,
            _of(_REJECTED, "group is a text", "group without a state"),
        ),
        Row(
            "the id is the UUID of a group; whether the group exists, Braze says",
            _TRACK,
            INVALID,
            _of(_REJECTED, "group id is a name"),
        ),
        Row("the state is subscribed or unsubscribed", _TRACK, INVALID, _of(_REJECTED, "group state")),
        Row(
            "`current_location` is an object with the numbers `longitude` and `latitude`",
            _TRACK,
            INVALID,
            _of(_REJECTED, "location is an array", "location without longitude", "location of texts"),
        ),
        Row("`push_tokens` is an array of objects", _TRACK, INVALID, _of(_REJECTED, "tokens are texts")),
        Row("`token` is a string", _TRACK, INVALID, _of(_REJECTED, "token is a number")),
        Row(
            "`app_id` is there; whether it is one of the workspace, Braze says",
            _TRACK,
            INVALID,
            _of(_REJECTED, "token without app_id", "token of an app without a name"),
        ),
        Row(
            "a token import has tokens, and neither external_id nor braze_id",
            _TRACK,
            INVALID,
            _of(_REJECTED, "token import with external_id", "token import without tokens"),
        ),
        Row("`device_id` has 8 to 255 bytes", _TRACK, INVALID, _of(_REJECTED, "device_id of 7 bytes")),
        Row("`email_subscription_info` is no attribute", _TRACK, ERROR, ("name_that_braze_rejects_is_no_attribute",)),
        Row(
            "whatever of it is wrong, the opt-outs of the row are sent",
            _TRACK,
            SENT,
            ("opt_outs_are_sent_whatever_braze_would_reject_of_their_rows",),
        ),
    ),
    "Identifiers": (
        Row("an object has an identifier", _TRACK, INVALID, ("events_that_braze_would_not_take_are_invalid",)),
        Row(
            "it has one of external_id, user_alias and braze_id",
            _TRACK,
            INVALID,
            ("event_that_braze_would_not_take_is_invalid",),
        ),
        Row(
            "beside external_id, email and phone are fields of the profile",
            _ATTR,
            SENT,
            ("identifier_of_each_row_is_the_first_that_it_has",),
        ),
        Row(
            "of email and phone without an id, email identifies the user",
            _TRACK,
            SENT,
            ("identifier_of_each_row_is_the_first_that_it_has",),
        ),
        Row(
            "a phone that is the only identifier is valid",
            _TRACK,
            INVALID,
            _of(_REJECTED, "only phone", "only phone of ten digits that begins with 1"),
        ),
        Row(
            "in subscription groups, it has E.164 form",
            "post_update_user_subscription_group_status_v2",
            INVALID,
            ("identifiers_have_the_same_rules_in_every_mode[subscription_status_set]",),
        ),
        Row(
            "email and phone that identify who is deleted or identified follow the same rules",
            "post_user_delete, post_user_identify",
            INVALID,
            (
                "identifiers_have_the_same_rules_in_every_mode[users_delete]",
                "users_are_identified_by_valid_addresses_alone",
            ),
        ),
    ),
    "Email addresses": (
        Row("no blanks", _MAIL, INVALID, _of(_REJECTED, "email ' ann@example.com'", "email 'ann @example.com'")),
        Row("no double quotes", _MAIL, INVALID, _of(_REJECTED, "email '\"ann\"@example.com'")),
        Row(
            "1 to 64 characters before the @, Unicode letters among them",
            _MAIL,
            INVALID,
            (*_of(_REJECTED, "email '@example.com'"), *_of(_TAKEN, "änn@example.com")),
        ),
        Row(
            "no dot at either end of them",
            _MAIL,
            INVALID,
            _of(_REJECTED, "email '.ann@example.com'", "email 'ann.@example.com'"),
        ),
        Row(
            "a domain of at least two labels of a-z, 0-9 and -, with a letter or digit at both ends",
            _MAIL,
            INVALID,
            _of(_REJECTED, "email 'ann@example'", "email 'ann@-example.com'", "email 'ann@exa_mple.com'"),
        ),
        Row(
            "the last label has letters only, two or more, or is in Punycode, and the domain is no IP address",
            _MAIL,
            INVALID,
            (
                *_of(_REJECTED, "email 'ann@example.123'", "email 'ann@example.c'", "email 'ann@example.c1'"),
                *_of(_REJECTED, "email 'ann@192.168.1.1'", "email 'ann@[192.168.1.1]'"),
            ),
        ),
        Row(
            "the last label is a known top-level domain: which are known, Braze says",
            _MAIL,
            SENT,
            ("row_that_braze_rejected_is_not_sent_again_until_it_changes",),
        ),
        Row(
            "other letters of a domain in Punycode",
            _MAIL,
            INVALID,
            (*_of(_REJECTED, "email 'ann@bücher.example'"), *_of(_TAKEN, "ann@xn--bcher-kva.com")),
        ),
        Row("at gmail.com, at least 2 characters before the @", _MAIL, INVALID, _of(_REJECTED, "email 'a@gmail.com'")),
        Row(
            "at msn, hotmail, outlook and live, word characters, - and single dots before a +",
            _MAIL,
            INVALID,
            _of(_REJECTED, "email 'a..nn@hotmail.com'", "email 'änn@outlook.com'", "email 'a!nn@live.com'"),
        ),
    ),
    "Fields of a profile": (
        Row("`phone` beside an id: any text is kept", _PHONE, SENT, _of(_TAKEN, "phone beside an id")),
        Row(
            "`phone` of ten digits is a number of the US, others are best in E.164 form",
            _PHONE,
            WARNING,
            ("attributes_that_braze_changes_are_said_once_a_column",),
        ),
        Row(
            "`first_name`, `last_name`, `home_city` have at most 255 characters",
            _ATTR,
            LEFT_OUT,
            _of(_DROPPED, "first_name 0", "last_name 0", "home_city 0"),
        ),
        Row(
            "`country` that Braze cannot map removes the one of the profile",
            _ATTR,
            LEFT_OUT,
            _of(_DROPPED, "country 0", "country 1", "country 4", "country 5"),
        ),
        Row(
            "`country` by a name that Braze can map, or in small letters",
            _ATTR,
            WARNING,
            ("attributes_that_braze_changes_are_said_once_a_column",),
        ),
        Row(
            "`language` is a code on Braze's list",
            _LANG,
            LEFT_OUT,
            _of(_DROPPED, "language 0", "language 2", "language 3"),
        ),
        Row(
            "`time_zone` is a name of IANA or Rails; others are ignored",
            _ATTR,
            LEFT_OUT,
            (*_of(_DROPPED, "time_zone 0", "time_zone 2"), *_of(_KEPT, "ok time_zone 1")),
        ),
        Row("`gender` is M, F, O, N or P", _ATTR, LEFT_OUT, _of(_DROPPED, "gender 0", "gender 3")),
        Row("`dob` has the form 2026-11-23", _ATTR, LEFT_OUT, _of(_DROPPED, "dob 0")),
        Row(
            "coordinates that no place has: no page says what becomes of them",
            _ATTR,
            WARNING,
            ("attributes_that_braze_changes_are_said_once_a_column",),
        ),
        Row("`image_url` has at most 1,024 characters", _STANDARD, LEFT_OUT, _of(_DROPPED, "image_url 0")),
        Row(
            "`facebook` and `twitter` have keys of certain types",
            _ATTR,
            LEFT_OUT,
            _of(_DROPPED, "facebook 0", "facebook 1", "twitter 0"),
        ),
        Row(
            "`date_of_first_session`, `date_of_last_session`, `marked_email_as_spam_at` are times",
            _ATTR,
            LEFT_OUT,
            _of(_DROPPED, "date_of_first_session 0", "date_of_last_session 0", "marked_email_as_spam_at 0"),
        ),
        Row(
            "`email_open_tracking_disabled`, `email_click_tracking_disabled` are true or false",
            _STANDARD,
            LEFT_OUT,
            _of(_DROPPED, "email_open_tracking_disabled 0", "email_click_tracking_disabled 0"),
        ),
        Row(
            "`_update_existing_only`, `push_token_import`, `_merge_objects` are true or false",
            _ATTR,
            INVALID,
            ("switch_that_is_neither_true_nor_false_makes_the_row_invalid",),
        ),
        Row(
            "a name that differs from that of a field in case alone is a custom attribute",
            _STANDARD,
            ERROR,
            ("name_that_differs_from_a_field_in_case_alone_is_refused",),
        ),
        Row(
            "null removes an attribute",
            _ATTR,
            SENT,
            ("value_that_was_acknowledged_stays_so_while_another_is_left_out",),
        ),
    ),
    "Custom attributes": (
        Row("a name has at most 255 characters", _CUSTOM, ERROR, ("name_that_is_too_long_is_refused",)),
        Row(
            "blanks at the ends of a name are cut off",
            _CUSTOM,
            WARNING,
            ("attributes_that_braze_changes_are_said_once_a_column",),
        ),
        Row(
            "a string is a string, even one that is JSON: list its column in `pre_formatted_fields`, or as a string in "
            "braze.lock.yml",
            _TYPES,
            WARNING,
            (
                "attribute_that_looks_like_json_is_said_once_with_its_rows",
                "property_that_looks_like_json_is_said",
                "json_that_is_listed_or_reviewed_as_a_string_is_not_said",
            ),
        ),
        Row("a string has at most 255 characters", _TYPES, LEFT_OUT, _of(_DROPPED, "text 0")),
        Row(
            "numbers are finite, and integers have 64 bits: JSON and Braze keep no others",
            _TYPES,
            LEFT_OUT,
            _of(_DROPPED, "number 0", "big 0"),
        ),
        Row(
            "`inc` needs an integer",
            _ATTR,
            LEFT_OUT,
            (*_of(_DROPPED, "inc_text 0", "inc_text 1"), *_of(_KEPT, "ok inc_text 0")),
        ),
        Row(
            "`add` and `remove` need an array, without objects",
            _ATTR,
            LEFT_OUT,
            (*_of(_DROPPED, "add_text 0", "add_text 1", "add_text 2"), *_of(_KEPT, "ok add_text 0")),
        ),
        Row(
            "`$add`, `$remove` and `$update` need arrays of objects, which say what they mean, and what it becomes",
            "user_guide: array of objects",
            LEFT_OUT,
            (
                *_of(_DROPPED, *(f"objects_text {n}" for n in range(4))),
                *_of(_KEPT, "ok objects_text 0", "ok objects_text 1"),
            ),
        ),
        Row(
            "times are sent in the form of ISO 8601; text in another form stays text",
            _ATTR,
            SENT,
            ("value_goes_out_as",),
        ),
        Row("a year below 0", _ATTR, LEFT_OUT, _of(_DROPPED, "day 0")),
        Row(
            "a year above 3000 is kept as text",
            _ATTR,
            WARNING,
            ("attributes_that_braze_changes_are_said_once_a_column",),
        ),
        Row(
            "an array has at most 500 elements: the oldest drop out",
            _TYPES,
            LEFT_OUT,
            (*_of(_DROPPED, "list 1"), *_of(_KEPT, "ok list 0")),
        ),
        Row("an array or object has at most 100 KB", _TYPES, LEFT_OUT, _of(_DROPPED, "wide 0")),
        Row("a null inside drops the whole value", _TRACK, LEFT_OUT, _of(_DROPPED, "list 0")),
        Row(
            "a wrong `$time` inside, or one out of the years 0 to 3000, drops the whole value",
            _NESTED,
            LEFT_OUT,
            _of(_DROPPED, "late 0"),
        ),
        Row(
            "keys inside have at most 255 characters, no blanks, dots or $", _NESTED, LEFT_OUT, _of(_DROPPED, "keys 0")
        ),
        Row("strings inside have at most 255 characters", _NESTED, LEFT_OUT, _of(_DROPPED, "nested 0")),
        Row("JSON text is JSON", _ATTR, LEFT_OUT, _of(_DROPPED, "broken 0")),
        Row(
            "one type per attribute",
            "user_guide: managing custom data",
            ERROR,
            ("changed_type_stops_the_run_until_it_is_accepted",),
        ),
    ),
    "Events": (
        Row("`name` is there, and a string", _EVENT, INVALID, ("events_that_braze_would_not_take_are_invalid",)),
        Row(
            "a `name` over 255 characters, or with a $ at its beginning: SDKs refuse it",
            _EVENT,
            WARNING,
            ("events_that_braze_changes_are_said",),
        ),
        Row("`time` is there, and a time", _EVENT, INVALID, ("events_that_braze_would_not_take_are_invalid",)),
        Row("a `time` in the future becomes now", _EVENT, WARNING, ("events_that_braze_changes_are_said",)),
        Row("`properties` is an object", _EVENT, INVALID, ("event_that_braze_would_not_take_is_invalid",)),
        Row(
            "`time` and `event_name` are no properties",
            _EVENT,
            INVALID,
            ("event_that_braze_would_not_take_is_invalid",),
        ),
        Row(
            "strings have at most 255 characters; no property is left out",
            _EVENT,
            INVALID,
            ("property_is_never_left_out",),
        ),
        Row(
            "at most 256 properties, and 100 KB together",
            "user_guide: custom events",
            INVALID,
            ("event_with_too_many_or_too_large_properties_is_invalid",),
        ),
    ),
    "Purchases": (
        Row(
            "`product_id` is there, with at most 255 characters",
            _PURCHASE,
            INVALID,
            ("purchase_that_braze_would_not_take_is_invalid",),
        ),
        Row("`currency` is one of ISO 4217", _PURCHASE, INVALID, ("purchase_that_braze_would_not_take_is_invalid",)),
        Row("a `currency` that was withdrawn", _PURCHASE, WARNING, ("purchases_that_braze_changes_are_said",)),
        Row("`price` is there, and a number", _PURCHASE, INVALID, ("purchase_that_braze_would_not_take_is_invalid",)),
        Row("`quantity` is 1 to 100", _PURCHASE, INVALID, ("purchase_that_braze_would_not_take_is_invalid",)),
        Row(
            "properties over 50 KB: another page says 100 KB",
            _PURCHASE,
            WARNING,
            ("purchases_that_braze_changes_are_said",),
        ),
    ),
}
