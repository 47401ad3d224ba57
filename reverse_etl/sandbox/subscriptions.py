"""Subscription groups: set (v1, v2) and read back."""

from collections.abc import Mapping
from dataclasses import dataclass

from reverse_etl.sandbox.answers import MAX_IDS, TOO_MANY_IDS, Answer, RefusedError, Settings, array_of
from reverse_etl.sandbox.exact import Json
from reverse_etl.sandbox.fields import GROUP_STATES
from reverse_etl.sandbox.identifiers import is_text
from reverse_etl.sandbox.people import same_email
from reverse_etl.sandbox.store import Transaction, User

EMAIL_AND_PHONE = "Either an email address or a phone number should be provided, but not both."  # (sub1)


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
    _apply(work, _change(body, *lists.values()))
    return 201, {"message": "success"}


_V1 = ("external_id", "email", "phone")


def set_v2(work: Transaction, body: Mapping[str, Json], settings: Settings) -> Answer:
    """Several groups at once (sub2). The answer is not printed, and one bad group refuses all: guesses."""
    groups = array_of(body, "subscription_groups", most=10**9)  # how many is not said
    if not all(isinstance(group, dict) for group in groups):
        raise RefusedError("'subscription_groups' must be an array of objects")
    for change in [_change(one, one.get("external_ids"), one.get("emails"), one.get("phones")) for one in groups]:
        _apply(work, change)
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


def _apply(work: Transaction, change: _Change) -> None:
    """Unknown ids do nothing: attributes create users, this does not (sub2). Shared e-mails change together."""
    work.prefetch(change.external_ids)
    found: list[User] = []
    for external_id in change.external_ids:
        user = work.by_external_id(external_id)
        found += same_email(work, user) if user is not None else []
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
    external_ids = [*query.get("external_id[]", []), *query.get("external_id", [])]
    if not group_id or not external_ids:
        raise RefusedError("'subscription_group_id' and 'external_id' are required")  # a guess
    if len(external_ids) > MAX_IDS:
        raise RefusedError(TOO_MANY_IDS)
    return 200, {"status": {one: _state(work, one, group_id) for one in external_ids}, "message": "success"}


def _state(work: Transaction, external_id: str, group_id: str) -> str:
    user = work.by_external_id(external_id)
    return "Unknown" if user is None else work.subscriptions(user).get(group_id, "unknown").capitalize()
