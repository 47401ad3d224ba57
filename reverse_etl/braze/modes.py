"""The table of modes: the endpoint of each, what a record contains, and every rule of Braze that retl follows.

A rule or limit of Braze is here once, with its page beside it: the page's name under https://www.braze.com/docs/api
(endpoints, objects_filters, api_limits, errors) or user_guide. Nothing here knows SQL, HTTP or files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from functools import cached_property

from reverse_etl.braze.lists import COUNTRY_NAMES, LANGUAGE_NAMES, TIME_ZONE_NAMES

MAX_TEXT = 255  # characters of a custom attribute, a property, a key in nested data (user_guide: data types)
MAX_JSON_BYTES = 100_000  # an array or object attribute, the properties of one event: 100 KB (data types, event object)
MAX_ARRAY_ITEMS = 500  # of an array attribute: Braze drops the oldest beyond it (data types)
MAX_PROPERTIES = 256  # of one event: Braze ignores further ones (custom events)
MAX_BODY_BYTES = 3_800_000  # Braze rejects a request over 4 MB (api_limits); it does not say which MB, so stay under
OPT_OUT = "unsubscribed"  # any other subscription state is an opt-in (user attributes object, subscription groups)
MAX_EXTERNAL_ID_BYTES = 987  # a longer one is rejected (post_user_track)
MAX_IMAGE_URL = 1024  # characters (user_guide: standard attributes)
MAX_ITEM_TEXT = 5000  # characters of one value of a catalog's item (catalogs: post_create_catalog_items)
MAX_ITEM_DEPTH = 50  # levels of an object in one (catalogs: post_create_catalog_items)
MAX_ITEM_ARRAY = 100  # strings of an array in one (user_guide: catalogs)
MAX_CATALOG_FIELDS = 500  # with `id` (catalogs: post_create_catalog)
MAX_NEW_FIELDS = 50  # of one request (catalogs: post_create_catalog_fields)
MAX_DESCRIPTION = 250  # characters of a catalog's description, which it must have (catalogs: post_create_catalog)
LAST_YEAR = 3000  # a later year is kept as text, or dropped in nested data (user attributes object, nested attributes)


USER = "user"  # what records are about, unless their mode says otherwise


class Kind(StrEnum):
    """What happened to a primary key since the destination last acknowledged it."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class Shape(Enum):
    """What Braze expects in a field, and so how the column is rendered and checked."""

    ID = "a string or an integer, sent as a string"
    TEXT = "a string"
    NUMBER = "a number"
    WHOLE = "an integer"
    BOOLEAN = "true or false"
    DATE = "a date"
    TIME = "a timestamp"
    OBJECT = "an object: STRUCT, MAP, JSON, or VARCHAR listed in pre_formatted_fields"
    ARRAY = "an array: LIST, JSON, or VARCHAR listed in pre_formatted_fields"


class Extra(Enum):
    """What a column that is not a field of the mode is sent as."""

    CUSTOM_ATTRIBUTE = "a custom attribute"
    PROPERTY = "a property"
    CATALOG_FIELD = "a field of the catalog"
    REFUSED = "not accepted"


class Cost(Enum):
    """What a record costs in data points, on contracts billed by them (user_guide: data points)."""

    NOTHING = "0"
    ATTRIBUTES = "one per attribute that it sets, and per key of an object"
    RECORD = "1; e-commerce events cost nothing"
    QUANTITY = (
        "as many as its `quantity`: Braze treats it as that many purchases"  # a guess: no page says what it costs
    )


@dataclass(frozen=True)
class Pattern:
    """What a value must match as a whole, and what that allows, in words."""

    regex: str
    allows: str


@dataclass(frozen=True)
class Field:
    """A field that Braze defines. A value outside the bounds that are set here makes the row invalid.

    A `switch` controls how Braze processes a record: it is sent with every record, and is not a change by itself. A
    `free` field costs no data point. Of a `rejected` field, Braze rejects the whole object that has a value which it
    does not accept; of others, it drops the value (post_user_track). A `consent` field says whether a user may be
    contacted: see OPT_OUT. With `inside`, it is a member of the object in the record that has this name, not of the
    record itself, and is called `sent_as` there. It `names` this identifier of the user, by another name; or the user
    `becomes` it, in the place of that one.
    """

    name: str
    shape: Shape
    required: bool = False
    switch: bool = False
    free: bool = False
    consent: bool = False
    rejected: bool = False
    choices: tuple[str, ...] = ()
    max_length: int | None = None
    pattern: Pattern | None = None
    low: int | None = None
    high: int | None = None
    inside: str = ""
    sent_as: str = ""
    names: str = ""
    becomes: str = ""

    @property
    def member(self) -> str:
        """How it is called in a record."""
        return self.sent_as or self.name


@dataclass(frozen=True)
class Slot:
    """The array of the request body that a record goes into, chosen by the identifier that the row has.

    `bare`: the array contains only the identifier's value (`["u1", "u2"]`), not an object per row.
    """

    array: str
    identifier: str | None = None
    bare: bool = False


@dataclass(frozen=True)
class Group:
    """An object around a slot's array, one per combination of the `fields` values, of which the first names it. In a
    request are at most so many, none of them twice, and identifiers of one kind."""

    array: str
    fields: tuple[str, ...]
    per_request: int = 1


@dataclass(frozen=True)
class Errors:
    """How responses of an endpoint say what is wrong, where they do not name an array and an index.

    `names_by`: the member of a record that identifies it in an error. `stops`: errors that are about no record, by
    their ids, and what to do: every other request would get them, too.
    """

    names_by: str
    stops: Mapping[str, str] = field(hash=False)


_KEY_IN_PATH = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Call:
    """One endpoint: which rate limit it shares, which permission its API key needs, how many rows a request may have.

    `label` is how it is called everywhere: by its path, since almost all are POSTed to. The words in braces in a path
    are keys of the sync, whose values are in their places when a sync uses it: see `Mode.at`.
    `error_array` is the name of the request's array in responses, where it differs from the array's own name.
    `counters` are the numbers of processed objects in responses, each only if its array was sent. `refused` is where
    responses list the objects that were refused, and `done`, if there is such an array, the others.
    """

    path: str
    family: str
    permission: str
    rows_per_request: int
    error_array: str | None = None
    counters: tuple[str, ...] = ()
    refused: str = "errors"
    done: str = ""
    method: str = "POST"
    errors: Errors | None = None

    @property
    def label(self) -> str:
        return self.path if self.method == "POST" else f"{self.method} {self.path}"

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of a sync that its path contains."""
        return tuple(_KEY_IN_PATH.findall(self.path))

    def at(self, values: Mapping[str, str]) -> "Call":
        """The call with these values in its path."""
        return replace(self, path=self.path.format_map(values)) if self.keys else self


@dataclass(frozen=True)
class Deletion:
    """How that is deleted which a record is about: the array that its identifier goes into; or, where a slot is not
    bare, an object of its `key_fields`."""

    call: Call
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Ends:
    """What records do that nothing undoes: the `guard` bounds how many are sent, and the sync says
    `allow_destructive: true`. The others are the words for it in messages."""

    guard: str
    does: str
    doing: str
    done: str
    of: str = USER


@dataclass(frozen=True)
class Mode:
    """One row of the table: a value of `mode`, with its `track_record_type` where there is one.

    `identifiers` are in order of precedence; at most one of `exclusive` may have a value in a row.
    Without `primary_key` a row is identified by its identifier and `key_fields`, or, with `whole_row_key`, by the whole
    row. `options` are the keys of a sync that only some modes support.
    `is_idempotent`: sending a record twice has the same effect as sending it once. `changes_identity`: it decides which
    profile an identifier means, so it needs the effect of calls before it, and calls after it need its own.
    `e164`: a phone number must be in E.164 form; elsewhere Braze makes it so (user_guide: user phone numbers).
    `priorities`: an email or phone, which several profiles may have, needs a prioritization of these words.
    `ecommerce`: names of its records may be those of Braze's e-commerce events: see `ecommerce.py`.
    `needs`: identifiers that a user must have already: to a record about nobody, Braze responds success, and does
    nothing. In attributes and events, that is so for `_update_existing_only`; with `alias_updates_only`, for an alias
    without it, too. `proves`: identifiers of which an acknowledged record says that a user has them. `deletion`: what
    `on_removed: delete` does, where the mode supports it. `about`: what a record is about, in messages.
    `ends`: what it is about is gone when Braze has processed a record, for good. `inside`: the object of a record that
    its identifiers are members of; `keeps`: fields that identify the user into whom the other one is merged, as
    identifiers with KEPT before them.
    `is_exported`: Braze tells what became of each record; of events and purchases, it tells numbers of them only
    (post_users_identifier). `place`: the values in the paths of its calls, once they are there. `update`: the endpoint
    for changed rows of which only the changed columns are sent, if it is another one; `call` is then sent whole ones.
    `clears`: it supports `on_removed: clear`. `own_key`: a row is identified by `key_fields`, and by nothing else.
    `max_text`: characters of a string that is not a field. `lasts`: what nobody can take back of what was sent, beside
    what it `ends`; `is_reverted`: whether `retl revert` takes back the rest.
    """

    name: str
    record_type: str | None
    call: Call
    slots: tuple[Slot, ...]
    kinds: frozenset[Kind]
    identifiers: tuple[str, ...]
    exclusive: tuple[str, ...]
    key_fields: tuple[str, ...] = ()
    fields: tuple[Field, ...] = ()
    extra: Extra = Extra.REFUSED
    cost: Cost = Cost.NOTHING
    group: Group | None = None
    options: frozenset[str] = frozenset()
    is_idempotent: bool = True
    whole_row_key: bool = False
    nested_times: bool = False
    nested_nulls: bool = True
    reserved_properties: tuple[str, ...] = ()
    forgets_removed: bool = False
    changes_identity: bool = False
    priorities: tuple[str, ...] = ()
    ecommerce: bool = False
    e164: bool = False
    needs: tuple[str, ...] = ()
    alias_updates_only: bool = False
    proves: tuple[str, ...] = ()
    deletion: Deletion | None = None
    about: str = USER
    ends: Ends | None = None
    inside: str = ""
    keeps: tuple[str, ...] = ()
    is_exported: bool = True
    place: tuple[str, ...] = ()
    update: Call | None = None
    clears: bool = False
    own_key: bool = False
    max_text: int = MAX_TEXT
    lasts: str = "what it has sent"

    @property
    def is_reverted(self) -> bool:
        return Kind.CHANGED in self.kinds and not self.changes_identity

    @property
    def label(self) -> str:
        return " / ".join([self.name, *([self.record_type] if self.record_type else []), *self.place])

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys that a sync must have, as the paths of its calls contain them."""
        return tuple(dict.fromkeys(key for call in self.calls for key in call.keys))

    @property
    def calls(self) -> tuple[Call, ...]:
        """All endpoints that it may use."""
        return tuple(call for call in (self.call, self.update, self.deletion and self.deletion.call) if call)

    def at(self, values: Mapping[str, str]) -> "Mode":
        """The mode with these values in the paths of its calls; it is another mode than with other values."""
        place = tuple(values[key] for key in self.keys)
        if place and place not in self._placed:
            deletion = self.deletion and replace(self.deletion, call=self.deletion.call.at(values))
            update = self.update and self.update.at(values)
            self._placed[place] = replace(
                self, call=self.call.at(values), update=update, deletion=deletion, place=place
            )
        return self._placed[place] if place else self

    @cached_property
    def _placed(self) -> dict[tuple[str, ...], "Mode"]:
        return {}

    def field(self, name: str) -> Field | None:
        return next((field for field in self.fields if field.name == name), None)


@dataclass(frozen=True)
class Window:
    """At most `requests` per `per_seconds`."""

    requests: int
    per_seconds: float


# Default rate limits of a workspace, by the family of endpoints that shares one (api_limits).
RATE_LIMITS: Mapping[str, Window] = {
    "users_track": Window(3000, 3),
    "users": Window(20_000, 60),  # alias/new, alias/update, identify, merge and delete draw from one pool
    "external_ids_rename": Window(1000, 60),
    "external_ids_remove": Window(1000, 60),
    "subscription_status_set": Window(5000, 60),  # v1 and v2 together
    "users_export_ids": Window(40, 1),  # with `fields_to_export`, and none of them about messages received
    "subscription_user_status": Window(250_000, 3600),  # with most endpoints that are not in this list
    "catalog_items": Window(16_000, 60),  # many items of a catalog at once: asynchronous
    "catalog_item": Window(50, 60),  # one item, and reading items: synchronous
    "catalogs": Window(50, 60),  # catalogs themselves
    "catalog_fields": Window(50, 60),
}

_TRACK = Call(
    path="/users/track",
    family="users_track",
    permission="users.track",
    rows_per_request=75,  # in all arrays together; 50 on some contracts (api_limits)
    counters=("attributes_processed", "events_processed", "purchases_processed"),  # post_user_track
)
_ALIAS_NEW = Call(  # post_user_alias
    path="/users/alias/new",
    family="users",
    permission="users.alias.new",
    rows_per_request=50,
    counters=("aliases_processed",),
)
_IDENTIFY = Call(  # post_user_identify
    path="/users/identify",
    family="users",
    permission="users.identify",
    rows_per_request=50,
    error_array="user_identifiers",
    counters=("aliases_processed", "emails_processed", "phone_numbers_processed"),
)
DELETE = Call(  # post_user_delete
    path="/users/delete",
    family="users",
    permission="users.delete",
    rows_per_request=50,
    counters=("deleted",),  # ids that were queued, whether such users exist or not
)
MERGE = Call(  # post_users_merge: 202, which says that it is queued, and no more
    path="/users/merge",
    family="users",
    permission="users.merge",
    rows_per_request=50,
)
ALIAS_UPDATE = Call(  # post_users_alias_update
    path="/users/alias/update",
    family="users",
    permission="users.alias.update",
    rows_per_request=50,
)
RENAME = Call(  # post_external_ids_rename
    path="/users/external_ids/rename",
    family="external_ids_rename",
    permission="users.external_ids.rename",
    rows_per_request=50,
    refused="rename_errors",
    done="external_ids",
)
REMOVE = Call(  # post_external_ids_remove
    path="/users/external_ids/remove",
    family="external_ids_remove",
    permission="users.external_ids.remove",
    rows_per_request=50,
    refused="removal_errors",
    done="removed_ids",
)
_SUBSCRIBE = Call(  # post_update_user_subscription_group_status_v2
    path="/v2/subscription/status/set",
    family="subscription_status_set",
    permission="subscription.status.set",
    rows_per_request=50,
)

CATALOG_NAME = Pattern("[A-Za-z0-9_-]+", "letters, digits, - and _")  # of a catalog, a field and an item
MAX_CATALOG_NAME = 250  # characters of each of these names (catalogs: post_create_catalog)
_CATALOG_ERRORS = Errors(
    names_by="id",  # in parameter_values, where parameters say so (catalogs)
    stops={
        "catalog-not-found": "the catalog was deleted: `retl sync NAME --create-catalog` creates it again",
        "invalid-fields": "the catalog has lost a field: `retl sync NAME --create-catalog` creates it again",
        "company-size-limit-already-reached": "delete catalogs that are not used, or ask Braze for more storage",
        "company-size-limit-surge": "delete catalogs that are not used, or ask Braze for more storage",
    },
)


def _items(method: str, permission: str) -> Call:
    """Up to 50 items; 202 says that they are queued (catalogs: asynchronous)."""
    path = "/catalogs/{catalog}/items"
    return Call(path, "catalog_items", permission, rows_per_request=50, method=method, errors=_CATALOG_ERRORS)


_REPLACE_ITEMS = _items("PUT", "catalogs.replace_items")  # whole items; creates what is not there (put_update...)
_UPDATE_ITEMS = _items("PATCH", "catalogs.update_items")  # fields of items that are there (patch_catalog_items)
_DELETE_ITEMS = _items("DELETE", "catalogs.delete_items")

_DELETE_USERS = Deletion(
    DELETE,
    (  # one kind of identifier per request (post_user_delete)
        Slot("external_ids", "external_id", bare=True),
        Slot("user_aliases", "user_alias", bare=True),
        Slot("braze_ids", "braze_id", bare=True),
    ),
)

# With a strong identifier, email and phone are profile fields; without one, email takes precedence over phone
# (post_user_track).
STRONG = ("external_id", "user_alias", "braze_id")  # an object with two of them is rejected
_TRACK_IDENTIFIERS = (*STRONG, "email", "phone")

SUBSCRIPTION_GROUP_STATES = ("subscribed", OPT_OUT)  # in subscription_groups, and of the endpoint for groups
# Which of several profiles with one email or phone is meant, in the order in which Braze applies them; two of a pair
# clash (post_user_identify, post_user_delete).
_PRIORITIES = ("identified", "unidentified", "most_recently_updated")
CLASHING_PRIORITIES = (("identified", "unidentified"), ("most_recently_updated", "least_recently_updated"))

_SUBSCRIPTION_STATES = ("opted_in", "subscribed", OPT_OUT)  # with any other value the object is rejected

# user_attributes_object; what is free: user_guide, data points
_PROFILE_FIELDS = (
    *(
        Field(name, Shape.TEXT, max_length=MAX_TEXT)
        for name in ("first_name", "last_name", "home_city", "country", "language", "time_zone")
    ),
    Field("image_url", Shape.TEXT, max_length=MAX_IMAGE_URL, free=True),
    Field("email", Shape.TEXT, rejected=True),  # its rules bound its length
    Field("phone", Shape.TEXT, max_length=MAX_TEXT),
    Field("gender", Shape.TEXT, choices=("M", "F", "O", "N", "P")),
    Field("dob", Shape.DATE),
    Field("current_location", Shape.OBJECT, rejected=True),
    *(Field(f"date_of_{which}_session", Shape.TIME, free=True) for which in ("first", "last")),
    Field("marked_email_as_spam_at", Shape.TIME, free=True),
    *(
        Field(f"{which}_subscribe", Shape.TEXT, free=True, consent=True, rejected=True, choices=_SUBSCRIPTION_STATES)
        for which in ("email", "push")
    ),
    *(Field(f"email_{what}_tracking_disabled", Shape.BOOLEAN, free=True) for what in ("open", "click")),
    Field("subscription_groups", Shape.ARRAY, free=True, consent=True, rejected=True),
    Field("push_tokens", Shape.ARRAY, free=True, rejected=True),
    *(Field(name, Shape.OBJECT, free=True) for name in ("facebook", "twitter")),
)
# Names that no attribute may have: Braze rejects the object (post_user_track).
NO_ATTRIBUTES = ("email_subscription_info",)
# What to use instead of a value, in lower case, that Braze does not know; by field.
_GENDERS = {
    **dict.fromkeys(("m", "male", "man", "masculine"), "M"),
    **dict.fromkeys(("f", "female", "woman", "feminine"), "F"),
    **dict.fromkeys(("o", "other", "x", "d", "diverse", "nonbinary", "non-binary"), "O"),
    **dict.fromkeys(("n", "not applicable", "n/a"), "N"),
    **dict.fromkeys(("p", "prefer not to say"), "P"),
}
SUGGESTIONS: Mapping[str, Mapping[str, str]] = {
    "country": COUNTRY_NAMES,
    "language": LANGUAGE_NAMES,
    "time_zone": TIME_ZONE_NAMES,
    "gender": _GENDERS,
}
# Fields that add to what a profile has, group by group and token by token: several syncs may write them.
ADDED_TO = ("subscription_groups", "push_tokens")
# Values that tell Braze to modify the stored value; sending one twice is not idempotent (user attributes, array of
# objects).
OPERATORS = ("inc", "add", "remove", "$add", "$update", "$remove")
# All keys that may start with a `$` in nested data (nested_custom_attribute_support, array_of_objects).
DOLLAR_KEYS = ("$time", "$add", "$update", "$remove", "$identifier_key", "$identifier_value", "$new_object")

_HAPPENING = (
    Field("app_id", Shape.ID),
    Field("properties", Shape.OBJECT),
    Field("_update_existing_only", Shape.BOOLEAN),
)

MAX_DELETES, MAX_MERGES = "max_deletes", "max_merges"
DELETES = Ends(MAX_DELETES, "delete", "deleting", "deleted")  # what `on_removed: delete` does, too
_MERGES = Ends(MAX_MERGES, "merge", "merging", "merged")
_REMOVES = Ends(MAX_DELETES, "remove", "removing", "removed", of="external id")
KEPT = "keep_"  # before an identifier: that of the user who remains
TO_MERGE, TO_KEEP = "identifier_to_merge", "identifier_to_keep"
_TO_BE_MERGED = ("external_id", "user_alias", "email", "phone")

_TABLE = (
    Mode(
        name="users_track",
        record_type="attributes",
        lasts="the creation of users",
        call=_TRACK,
        slots=(Slot("attributes"),),
        kinds=frozenset({Kind.ADDED, Kind.CHANGED}),
        identifiers=_TRACK_IDENTIFIERS,
        exclusive=STRONG,
        fields=(
            *_PROFILE_FIELDS,
            Field("_merge_objects", Shape.BOOLEAN, switch=True),
            Field("_update_existing_only", Shape.BOOLEAN, switch=True),
            Field("push_token_import", Shape.BOOLEAN, switch=True),
        ),
        extra=Extra.CUSTOM_ATTRIBUTE,
        cost=Cost.ATTRIBUTES,
        options=frozenset(
            {"pre_formatted_fields", "send", "nulls", "on_removed", "keep_removed", "on_in_doubt"}
            | {"allow_destructive", "quarantine", "suppresses", "shares", "consent", "strict"}
        ),
        nested_times=True,  # a timestamp in nested data is {"$time": "..."} (nested_custom_attribute_support)
        nested_nulls=False,  # a null in nested data drops the whole attribute (post_user_track)
        alias_updates_only=True,  # user_attributes_object
        proves=_TRACK_IDENTIFIERS,
        deletion=_DELETE_USERS,
        clears=True,
    ),
    Mode(
        name="users_track",
        record_type="events",
        lasts="events",
        call=_TRACK,
        slots=(Slot("events"),),
        kinds=frozenset({Kind.ADDED}),
        identifiers=_TRACK_IDENTIFIERS,
        exclusive=STRONG,
        fields=(Field("name", Shape.ID, required=True), Field("time", Shape.TIME, required=True), *_HAPPENING),
        extra=Extra.PROPERTY,
        cost=Cost.RECORD,
        options=frozenset({"pre_formatted_fields", "on_in_doubt"}),
        is_idempotent=False,  # Braze has no key that identifies a repeated event (post_user_track)
        is_exported=False,
        whole_row_key=True,
        reserved_properties=("time", "event_name"),  # event_object
        ecommerce=True,
        proves=_TRACK_IDENTIFIERS,
    ),
    Mode(
        name="users_track",
        record_type="purchases",
        lasts="purchases",
        call=_TRACK,
        slots=(Slot("purchases"),),
        kinds=frozenset({Kind.ADDED}),
        identifiers=_TRACK_IDENTIFIERS,
        exclusive=STRONG,
        fields=(  # purchase_object
            Field("product_id", Shape.ID, required=True, max_length=255),
            Field("currency", Shape.TEXT, required=True),
            Field("price", Shape.NUMBER, required=True),
            Field("quantity", Shape.WHOLE, low=1, high=100),
            Field("time", Shape.TIME, required=True),
            *_HAPPENING,
        ),
        extra=Extra.PROPERTY,
        cost=Cost.QUANTITY,
        options=frozenset({"pre_formatted_fields", "on_in_doubt"}),
        is_idempotent=False,
        is_exported=False,
        whole_row_key=True,
        # user_guide: purchase events
        reserved_properties=("time", "product_id", "quantity", "event_name", "price", "currency"),
        proves=_TRACK_IDENTIFIERS,
    ),
    Mode(
        name="users_alias_new",
        record_type=None,
        lasts="new aliases",
        call=_ALIAS_NEW,
        slots=(Slot("user_aliases"),),
        kinds=frozenset({Kind.ADDED, Kind.CHANGED}),
        identifiers=(),
        exclusive=(),
        key_fields=("alias_name", "alias_label"),
        fields=(
            Field("alias_name", Shape.ID, required=True),
            Field("alias_label", Shape.ID, required=True),
            Field("external_id", Shape.ID),  # without it an alias-only user is created (post_user_alias)
        ),
        options=frozenset({"keep_removed"}),
        changes_identity=True,
        needs=("external_id",),
        proves=("user_alias",),
    ),
    Mode(
        name="users_identify",
        record_type=None,
        lasts="identifications",
        call=_IDENTIFY,
        slots=(
            Slot("aliases_to_identify", "user_alias"),
            Slot("emails_to_identify", "email"),
            Slot("phone_numbers_to_identify", "phone"),
        ),
        kinds=frozenset({Kind.ADDED, Kind.CHANGED}),
        identifiers=("user_alias", "email", "phone"),
        exclusive=("user_alias", "email", "phone"),
        fields=(Field("external_id", Shape.ID, required=True), Field("prioritization", Shape.ARRAY, switch=True)),
        priorities=(*_PRIORITIES, "least_recently_updated"),
        options=frozenset({"pre_formatted_fields", "keep_removed"}),
        changes_identity=True,
        needs=("user_alias", "email", "phone"),
        proves=("external_id", "user_alias"),
    ),
    Mode(
        name="users_delete",
        record_type=None,
        lasts="deletions",
        call=DELETE,
        slots=(
            *_DELETE_USERS.slots,
            Slot("email_addresses", "email"),  # of the phone numbers no example is printed: their shape is derived
            Slot("phone_numbers", "phone"),
        ),
        kinds=frozenset({Kind.ADDED}),
        identifiers=(*STRONG, "email", "phone"),
        exclusive=(*STRONG, "email", "phone"),
        fields=(Field("prioritization", Shape.ARRAY, switch=True),),
        priorities=_PRIORITIES,
        options=frozenset({"pre_formatted_fields", "allow_destructive", "quarantine", "suppresses"}),
        forgets_removed=True,  # a user who leaves the model and returns is deleted again
        changes_identity=True,
        ends=DELETES,
    ),
    Mode(  # post_users_merge
        name="users_merge",
        record_type=None,
        lasts="merges",
        call=MERGE,
        slots=(Slot("merge_updates"),),
        kinds=frozenset({Kind.ADDED}),
        identifiers=_TO_BE_MERGED,
        exclusive=_TO_BE_MERGED,
        fields=(
            Field("prioritization", Shape.ARRAY, switch=True, inside=TO_MERGE),
            Field("keep_external_id", Shape.ID, inside=TO_KEEP, sent_as="external_id"),
            Field("keep_user_alias", Shape.OBJECT, inside=TO_KEEP, sent_as="user_alias"),
            Field("keep_email", Shape.TEXT, inside=TO_KEEP, sent_as="email"),
            Field("keep_phone", Shape.TEXT, inside=TO_KEEP, sent_as="phone"),
            Field("keep_prioritization", Shape.ARRAY, inside=TO_KEEP, sent_as="prioritization"),
        ),
        priorities=(*_PRIORITIES, "least_recently_updated"),
        options=frozenset({"pre_formatted_fields", "allow_destructive", "suppresses", "on_in_doubt"}),
        forgets_removed=True,
        changes_identity=True,
        ends=_MERGES,
        inside=TO_MERGE,
        keeps=tuple(f"{KEPT}{name}" for name in _TO_BE_MERGED),
    ),
    Mode(
        name="users_alias_update",
        record_type=None,
        lasts="renames",
        call=ALIAS_UPDATE,
        slots=(Slot("alias_updates"),),
        kinds=frozenset({Kind.ADDED, Kind.CHANGED}),
        identifiers=(),
        exclusive=(),
        key_fields=("alias_label", "old_alias_name"),
        fields=(
            Field("alias_label", Shape.ID, required=True),
            Field("old_alias_name", Shape.ID, required=True, names="alias_name"),
            Field("new_alias_name", Shape.ID, required=True, becomes="alias_name"),
        ),
        options=frozenset({"keep_removed"}),
        changes_identity=True,
    ),
    Mode(
        name="users_external_ids_rename",
        record_type=None,
        lasts="renames",
        call=RENAME,
        slots=(Slot("external_id_renames"),),
        kinds=frozenset({Kind.ADDED, Kind.CHANGED}),
        identifiers=(),
        exclusive=(),
        key_fields=("current_external_id",),
        fields=(
            Field("current_external_id", Shape.ID, required=True, names="external_id"),
            Field("new_external_id", Shape.ID, required=True, becomes="external_id"),
        ),
        options=frozenset({"keep_removed", "on_in_doubt"}),
        is_idempotent=False,  # a second time, the present id is a deprecated one, which is an error
        changes_identity=True,
    ),
    Mode(
        name="users_external_ids_remove",
        record_type=None,
        lasts="removals",
        call=REMOVE,
        slots=(Slot("external_ids", "external_id", bare=True),),
        kinds=frozenset({Kind.ADDED}),
        identifiers=("external_id",),
        exclusive=("external_id",),
        options=frozenset({"allow_destructive", "suppresses", "on_in_doubt"}),
        is_idempotent=False,  # a second time, there is no such id
        forgets_removed=True,
        changes_identity=True,
        ends=_REMOVES,
    ),
    Mode(
        name="subscription_status_set",
        record_type=None,
        lasts="opt-outs, beyond what consent allows",
        call=_SUBSCRIBE,
        slots=(
            Slot("external_ids", "external_id", bare=True),
            Slot("emails", "email", bare=True),
            Slot("phones", "phone", bare=True),
        ),
        kinds=frozenset({Kind.ADDED, Kind.CHANGED}),
        identifiers=("external_id", "email", "phone"),
        exclusive=("external_id", "email", "phone"),
        key_fields=("subscription_group_id",),
        fields=(
            Field("subscription_group_id", Shape.ID, required=True),
            Field("subscription_state", Shape.TEXT, required=True, consent=True, choices=SUBSCRIPTION_GROUP_STATES),
            Field("use_double_opt_in_logic", Shape.BOOLEAN, switch=True),
        ),
        options=frozenset({"consent"}),
        e164=True,
        group=Group(  # how many a request may have is not said; RudderStack sends so many
            "subscription_groups",
            ("subscription_group_id", "subscription_state", "use_double_opt_in_logic"),
            per_request=25,
        ),
    ),
    Mode(
        name="catalog_items",
        record_type=None,
        lasts="the creation of items",
        call=_REPLACE_ITEMS,
        update=_UPDATE_ITEMS,
        slots=(Slot("items"),),
        kinds=frozenset({Kind.ADDED, Kind.CHANGED}),
        identifiers=(),
        exclusive=(),
        key_fields=("id",),
        own_key=True,  # two requests about one item have no order
        fields=(Field("id", Shape.ID, required=True, max_length=MAX_CATALOG_NAME, pattern=CATALOG_NAME),),
        extra=Extra.CATALOG_FIELD,
        max_text=MAX_ITEM_TEXT,
        options=frozenset({"pre_formatted_fields", "send", "on_removed", "keep_removed", "allow_destructive"}),
        deletion=Deletion(_DELETE_ITEMS, (Slot("items"),)),
        about="item",
        is_exported=False,
    ),
)

MODES: Mapping[tuple[str, str | None], Mode] = {(mode.name, mode.record_type): mode for mode in _TABLE}
CONSENT_FIELDS = frozenset(field.name for mode in _TABLE for field in mode.fields if field.consent)

# The modes of which each record ends what it is about: their states have hashes of what is gone, and no rows.
ENDING_MODES = frozenset(mode.label for mode in _TABLE if mode.ends)

# These ask the table when they are called, so that a row which is added to it is known to all who use it.


def mode_names() -> list[str]:
    """The values of `mode`."""
    return list(dict.fromkeys(name for name, _ in MODES))


def record_types() -> list[str]:
    """The values of `track_record_type`."""
    return list(dict.fromkeys(record_type for _, record_type in MODES if record_type))


def families() -> list[str]:
    """The families of endpoints that have a rate limit."""
    return list(RATE_LIMITS)


def options_of(mode: Mode) -> frozenset[str]:
    """The keys of a sync that this mode supports, and not every other one."""
    return mode.options | {*mode.keys} | ({"track_record_type"} if mode.record_type else set())


def not_supported(mode: Mode) -> frozenset[str]:
    """The keys of a sync that other modes support, and this one does not."""
    return frozenset().union(*map(options_of, MODES.values())) - options_of(mode)


def groups_per_request() -> Mapping[str, int]:
    """How many groups a request may have, by the label of its endpoint; of those that have groups."""
    return {mode.call.label: mode.group.per_request for mode in MODES.values() if mode.group}


def calls_that_end(about: str | None = None) -> list[str]:
    """The labels of all endpoints after which there is nothing any more that records are about; of modes about users
    only, if they are asked for."""
    modes = [mode for mode in MODES.values() if about in (None, mode.about)]
    calls = [mode.call for mode in modes if mode.ends] + [mode.deletion.call for mode in modes if mode.deletion]
    return sorted({call.label for call in calls})


def about(label: str | None) -> str:
    """What the records of a mode with this label are about, whatever is in its paths; users, if it is not known."""
    name = (label or "").partition(" / ")[0]
    return next((mode.about for mode in MODES.values() if mode.name == name), USER)


def is_deleting(call: str) -> bool:
    """Whether after a call of the endpoint with this label there is nothing any more that records are about."""
    return re.fullmatch(deleting_pattern(), call) is not None


def deleting_pattern() -> str:
    """A regular expression for the labels of all such endpoints."""
    labels = calls_that_end()
    return "|".join("[^/]+".join(map(re.escape, _KEY_IN_PATH.split(label)[::2])) for label in labels)
