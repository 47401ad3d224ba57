"""POST /users/track, what happens after the answer: objects that were taken change users.

Order: attributes, events, purchases (limits); inside an array as sent (not promised by Braze).
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.answers import Answer, Settings
from reverse_etl.sandbox.store import Transaction, User
from reverse_etl.sandbox.users.ecommerce import SCHEMAS
from reverse_etl.sandbox.users.fields import (
    IDENTIFIERS,
    NOT_FREE,
    STANDARD,
    SWITCHES,
    is_phone,
    settle_standard,
)
from reverse_etl.sandbox.users.identifiers import alias_of, is_text
from reverse_etl.sandbox.users.people import same_email, usual_choice
from reverse_etl.sandbox.users.times import is_nested_time, iso, moment
from reverse_etl.sandbox.users.track_checks import Sent, check
from reverse_etl.sandbox.users.values import (
    MAX_DEPTH,
    MAX_NAME,
    MAX_TEXT,
    SCALARS,
    DroppedError,
    Kind,
    convert,
    data_points,
    kind_of,
    settle,
)

MAX_PROPERTIES = 256  # further ones are ignored (event, cevent)
_NOT_ATTRIBUTES = SWITCHES | IDENTIFIERS | {"subscription_groups", "push_tokens"}


def track(work: Transaction, body: Json, settings: Settings) -> Answer:
    checked = check(body, settings)
    # A queue goes here if requests are ever to be applied late, or out of order: nothing above reads the file.
    apply(work, checked.taken, keep_first_type=settings.keep_first_type)
    return 201, checked.answer


def apply(work: Transaction, taken: Iterable[Sent], *, keep_first_type: bool) -> None:
    """Change users and record what they did. What is not stored is recorded as a silent drop."""
    taken = list(taken)
    work.prefetch(sent.object["external_id"] for sent in taken if sent.object.get("external_id") is not None)
    names = {name.strip() for sent in taken if sent.array == "attributes" for name in sent.object}
    types = _Types(work.attribute_types(names) if names else {}, keep_first_type)
    for sent in taken:
        user = _user(work, sent)
        if user is None:
            work.drop(sent.array, sent.index, "", "user does not exist, and is not created")
        elif sent.array == "attributes":
            _Attributes(work, sent, user, types).apply()
        elif sent.array == "events":
            _add_event(work, sent, user)
        else:
            _add_purchase(work, sent, user)
    work.keep_attribute_types(types.new)


class _Types:
    """First seen type of each attribute wins: other values are converted, or rejected (types-faq, cdi)."""

    def __init__(self, known: Mapping[str, Kind], is_kept: bool) -> None:
        self.known = known
        self._is_kept = is_kept
        self.new: dict[str, Kind] = {}

    def fit(self, name: str, value: Json, lose: Callable[[str], None]) -> Json:
        """The value in the attribute's type; `lose` is called for a conversion. Raises DroppedError if none exists."""
        kind = kind_of(value)
        if kind is None:
            return value
        first = self.known.get(name) or self.new.setdefault(name, kind)
        if first == kind or not self._is_kept:
            return value
        converted = convert(value, first)
        if converted is None:
            raise DroppedError(f"type {kind}, but the attribute's type is {first}")
        lose(f"{kind} stored as {first}, the attribute's type")
        return converted


def _user(work: Transaction, sent: Sent) -> User | None:
    """The user of the object, created if necessary; None: there is nothing to do (track, attr)."""
    one = sent.object
    update_only = one.get("_update_existing_only")
    if one.get("external_id") is not None:
        return work.by_external_id(one["external_id"]) or (
            None if update_only is True else work.create(one["external_id"])
        )
    if one.get("user_alias") is not None:
        return _user_with_alias(work, one)
    if one.get("braze_id") is not None:
        return work.by_braze_id(one["braze_id"])  # cannot create users (cdi)
    if not is_text(one.get("email")) and not is_phone(one.get("phone")):
        return _user_with_tokens(work, one["push_tokens"])
    # Email takes precedence over phone (track, cdi)
    name = "email" if is_text(one.get("email")) else "phone"
    value = one["email"].lower() if name == "email" else one["phone"]
    found = usual_choice(work.with_email(value) if name == "email" else work.with_phone(value))
    if found is not None or update_only is True:
        return found
    user = work.create()
    user.fields[name] = [value, work.number]
    return user


def _user_with_alias(work: Transaction, one: Mapping[str, Json]) -> User | None:
    """Update-only is the default; an explicit false makes an alias-only user (attr, track).

    For events and purchases Braze's pages disagree whether false does: here it does.
    """
    alias = alias_of(one["user_alias"])
    found = work.by_alias(alias)
    if found is not None or one.get("_update_existing_only") is not False:
        return found
    user = work.create()
    work.add_alias(user, alias)
    return user


def _user_with_tokens(work: Transaction, tokens: Iterable[Mapping[str, str]]) -> User | None:
    """Import of push tokens: known ones are ignored, others get an anonymous user (attr)."""
    is_known = all(work.by_push_token(token["app_id"], token["token"]) for token in tokens)
    return None if is_known else work.create()


class _Attributes:
    """One attributes object on its way into one user."""

    def __init__(self, work: Transaction, sent: Sent, user: User, types: _Types) -> None:
        self._work, self._sent, self._user, self._types = work, sent, user, types
        self._merge = sent.object.get("_merge_objects") in (True, "true")  # the string "true" too (cdi)
        self._written = self._points = 0

    def apply(self) -> None:
        one = self._sent.object
        is_found_by = _weak_identifier(one)
        known, custom, number = self._types.known, self._user.custom, self._work.number
        for name, value in one.items():
            kind = SCALARS.get(type(value))
            if kind is not None and known.get(name) == kind and (kind != "string" or len(value) <= MAX_TEXT):
                custom[name] = [value, number]  # nearly all values, and nothing to decide
                self._written += 1
                self._points += 1
            elif name not in _NOT_ATTRIBUTES and name != is_found_by:
                self._set(name, value)
        self._work.change(self._user)
        self._work.count(attributes=self._written, data_points=self._points)
        self._add_tokens(one.get("push_tokens") or [])
        self._subscribe(one)

    def _set(self, name: str, value: Json) -> None:
        try:
            if name in STANDARD:
                self._store(self._user.fields, name, settle_standard(name, value))
                self._points += name in NOT_FREE
            else:
                self._set_custom(name, value)
        except DroppedError as dropped:
            self._drop(name, dropped.reason)
            if dropped.clears:
                self._user.fields.pop(name, None)

    def _set_custom(self, sent_name: str, value: Json) -> None:
        name = sent_name.strip()  # (cattr)
        if not 0 < len(name) <= MAX_NAME:
            raise DroppedError(f"name is empty or longer than {MAX_NAME} characters")
        stored = self._user.custom[name][0] if name in self._user.custom else None

        def lose(reason: str) -> None:
            self._drop(sent_name, reason)

        if name != sent_name:
            lose("stored under its name without the spaces around it")
        new = settle(stored, value, merge=self._merge, lose=lose)
        self._store(self._user.custom, name, self._types.fit(name, new, lose))
        self._points += data_points(value)

    def _store(self, values: dict[str, list[Json]], name: str, value: Json) -> None:
        if value is None:
            values.pop(name, None)  # null removes (attr)
        else:
            values[name] = [value, self._work.number]
        self._written += 1

    def _drop(self, name: str, reason: str) -> None:
        self._work.drop("attributes", self._sent.index, name, reason)

    def _add_tokens(self, tokens: Iterable[Mapping[str, str]]) -> None:
        for token in tokens:
            self._work.flush()
            self._work.add_push_token(self._user, token["app_id"], token["token"], token.get("device_id"))

    def _subscribe(self, one: Mapping[str, Json]) -> None:
        """A subscription change also changes every user with the same email (track)."""
        groups = one.get("subscription_groups") or []
        state = one.get("email_subscribe")
        if not groups and state is None:
            return
        for user in same_email(self._work, self._user):
            for group in groups:
                self._work.subscribe(user, group["subscription_group_id"], group["subscription_state"])
            if state is not None and user is not self._user:
                user.fields["email_subscribe"] = [state, self._work.number]
                self._work.change(user)


def _weak_identifier(one: Mapping[str, Json]) -> str | None:
    """The field that a user without strong identifier was found by: it is set already."""
    if any(one.get(name) is not None for name in IDENTIFIERS):
        return None
    return "email" if is_text(one.get("email")) else "phone"


def _add_event(work: Transaction, sent: Sent, user: User) -> None:
    work.add_event(user, _stored(work, sent), *_time(work, sent))
    work.touch(user)
    work.count(data_points=sent.object["name"] not in SCHEMAS)  # one (dp), for e-commerce events none (rel, ecom)


def _add_purchase(work: Transaction, sent: Sent, user: User) -> None:
    work.add_purchase(user, _stored(work, sent), *_time(work, sent))
    work.touch(user)
    work.count(data_points=sent.object.get("quantity") or 1)  # as that many purchases (purch); the cost is a guess


def _time(work: Transaction, sent: Sent) -> tuple[str, float]:
    """Text and unix seconds; a time in the future becomes now (event)."""
    text = sent.object["time"]
    found = moment(text)
    if found is None or found > datetime.fromtimestamp(work.now, UTC):
        return iso(work.now), work.now
    return text, found.timestamp()


def _stored(work: Transaction, sent: Sent) -> dict[str, Json]:
    """The object without what Braze does not store: invalid properties, an app id that is not a string."""
    one = {name: value for name, value in sent.object.items() if name != "properties" and value is not None}
    if not isinstance(one.get("app_id"), str):
        one.pop("app_id", None)
    if sent.object.get("properties") is not None:
        one["properties"] = _properties(work, sent)
    return one


def _properties(work: Transaction, sent: Sent) -> dict[str, Json]:
    """Names of 1-255 characters without a leading dollar sign, strings up to 255 (event, cevent).

    What breaks this is dropped alone: a guess.
    """
    kept: dict[str, Json] = {}
    for name, value in sent.object["properties"].items():
        if not 0 < len(name) <= MAX_NAME or name.startswith("$"):
            reason = "property name is empty, too long, or starts with a dollar sign"
        elif _is_bad_property(value):
            reason = f"property has a string longer than {MAX_TEXT} characters, an invalid $time, or {MAX_DEPTH} levels"
        elif len(kept) == MAX_PROPERTIES:
            reason = f"more than {MAX_PROPERTIES} properties"
        else:
            kept[name] = value
            continue
        work.drop(sent.array, sent.index, f"properties.{name}", reason)
    return kept


def _is_bad_property(value: Json, depth: int = 1) -> bool:
    match value:
        case str():
            return len(value) > MAX_TEXT
        case list() | dict() if depth > MAX_DEPTH:
            return True
        case list():
            return any(_is_bad_property(one, depth + 1) for one in value)
        case {"$time": text, **rest} if not rest:
            return not is_nested_time(text)
        case dict():
            return any(_is_bad_property(one, depth + 1) for one in value.values())
    return False
