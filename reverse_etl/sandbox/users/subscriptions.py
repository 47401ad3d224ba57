"""Subscription groups: set (v1, v2) and read back."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.http.answers import MAX_IDS, TOO_MANY_IDS, Answer, RefusedError, Settings, array_of
from reverse_etl.sandbox.store import Transaction, User
from reverse_etl.sandbox.users.attribute_checks import GROUP_STATES
from reverse_etl.sandbox.users.identifiers import is_text
from reverse_etl.sandbox.users.people import same_email, usual_choice

EMAIL_AND_PHONE = "Either an email address or a phone number should be provided, but not both."  # (sub1)


_E164 = re.compile(r"\+[1-9][0-9]{1,14}", re.ASCII)


@dataclass(frozen=True)
class _Change:
    group_id: str
    state: str
    external_ids: list[str]
    emails: list[str]
    phones: list[str]


def set_v1(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """One group and state; each of external_id, email, phone a string or an array of them (sub1)."""
    lists = {name: [body[name]] if isinstance(body.get(name), str) else body.get(name) for name in _V1}
    _apply(work, _change(body, *lists.values()), 0)
    return 201, {"message": "success"}


_V1 = ("external_id", "email", "phone")


def set_v2(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """Several groups at once; phones in E.164 (sub2). The response, and that one bad group rejects all: guesses."""
    groups = array_of(body, "subscription_groups", most=10**9)  # how many is not said
    if not all(isinstance(group, dict) for group in groups):
        raise RefusedError("'subscription_groups' must be an array of objects")
    changes = [_change(one, one.get("external_ids"), one.get("emails"), one.get("phones")) for one in groups]
    if not all(_E164.fullmatch(phone) for change in changes for phone in change.phones):
        raise RefusedError("phone numbers must be in E.164 format")
    for index, change in enumerate(changes):
        _apply(work, change, index)
    return 201, {"message": "success"}


def _change(sent: Mapping[str, Json], external_ids: Json, emails: Json, phones: Json) -> _Change:
    """The checked change. All texts but two are guesses."""
    group_id, state = sent.get("subscription_group_id"), sent.get("subscription_state")
    if not is_text(group_id):
        raise RefusedError("'subscription_group_id' is required")
    if state not in GROUP_STATES:
        raise RefusedError("'subscription_state' must be 'subscribed' or 'unsubscribed'")
    if emails and phones:
        raise RefusedError(EMAIL_AND_PHONE)
    lists = [external_ids or [], emails or [], phones or []]
    if not any(lists):
        raise RefusedError("an external id, an email or a phone number is required")
    for ids in lists:
        if not isinstance(ids, list) or not all(map(is_text, ids)):
            raise RefusedError("external ids, emails and phone numbers must be non-empty strings")
        if len(ids) > MAX_IDS:
            raise RefusedError(TOO_MANY_IDS)
    return _Change(group_id, state, *lists)


def _apply(work: Transaction, change: _Change, index: int) -> None:
    """Unknown ids do nothing: attributes create users, this does not (sub2). Shared emails change together."""
    work.prefetch(change.external_ids)
    found: list[User] = []
    for external_id in change.external_ids:
        user = work.by_external_id(external_id)
        if user is None:
            work.drop("subscription_groups", index, "external_ids", "no user has this external_id")
        else:
            found += same_email(work, user)
    for email in change.emails:
        found += work.with_email(email)
    for phone in change.phones:
        found += work.with_phone(phone)
    for user in dict.fromkeys(found):
        work.subscribe(user, change.group_id, change.state)
        work.touch(user)


def status(work: Transaction, query: Mapping[str, Json], settings: Settings) -> Answer:
    """State of users in one group, capitalised; `Unknown` if none is set (subget). Status code: a guess."""
    group_id = next(iter(query.get("subscription_group_id", [])), None)
    if not group_id:
        raise RefusedError("'subscription_group_id' is required")  # a guess
    name, asked = _asked(query)
    return 200, {"status": {one: _state(work, name, one, group_id) for one in asked}, "message": "success"}


def _state(work: Transaction, name: str, asked: str, group_id: str) -> str:
    """If users share an email or a phone, the state of the usual choice, under the email: both guesses."""
    user = usual_choice(_found(work, name, asked))
    return "Unknown" if user is None else work.subscriptions(user).get(group_id, "unknown").capitalize()


MOST_USERS = 100  # per response, by default and at most (subuser)


def of_users(work: Transaction, query: Mapping[str, Json], settings: Settings) -> Answer:
    """All groups in which users have a state; users who share an email are listed separately (subuser).

    The shape is that of (clients): the page prints an older one. Unknown users are left out: a guess.
    """
    name, asked = _asked(query)
    limit, offset = _number(query, "limit", MOST_USERS), _number(query, "offset", 0)
    users = list(dict.fromkeys(user for one in asked for user in _found(work, name, one)))
    page = users[offset : offset + min(limit, MOST_USERS)]
    return 200, {"users": [_of_user(work, user) for user in page], "total_count": len(users), "message": "success"}


def _of_user(work: Transaction, user: User) -> dict[str, Json]:
    """The sandbox knows only the ids of groups: names and channels are invented."""
    channel = "sms" if user.value("email") is None and user.value("phone") is not None else "email"
    return {
        "email": user.value("email"),
        "phone": user.value("phone"),
        "external_id": user.external_id,
        "subscription_groups": [
            {"id": group_id, "name": group_id, "channel": channel, "status": state.capitalize()}
            for group_id, state in work.subscriptions(user).items()
        ],
    }


def _asked(query: Mapping[str, Json]) -> tuple[str, list[str]]:
    """Which identifier a query names users by, and which: `name=1`, or `name[]=1` several times.

    External ids take precedence; without them, an email and a phone together are an error (subget).
    """
    given = {name: [*query.get(f"{name}[]", []), *query.get(name, [])] for name in ("external_id", "email", "phone")}
    if not any(given.values()):
        raise RefusedError("'external_id', 'email' or 'phone' is required")  # a guess
    if given["email"] and given["phone"] and not given["external_id"]:
        raise RefusedError(EMAIL_AND_PHONE)
    name = next(name for name, asked in given.items() if asked)
    if len(given[name]) > MAX_IDS:
        raise RefusedError(TOO_MANY_IDS)
    return name, given[name]


def _found(work: Transaction, name: str, asked: str) -> list[User]:
    """Users with this identifier, the most recently updated last."""
    if name == "external_id":
        user = work.by_external_id(asked)
        return [] if user is None else [user]
    return work.with_email(asked) if name == "email" else work.with_phone(asked)


def _number(query: Mapping[str, Json], name: str, default: int) -> int:
    text = next(iter(query.get(name, [])), str(default))
    if not re.fullmatch("[0-9]{1,9}", text):
        raise RefusedError(f"'{name}' must be a number")  # a guess
    return int(text)
