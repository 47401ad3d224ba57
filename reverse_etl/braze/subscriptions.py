"""Who has opted out in Braze, and what else it says of users: what to ask, and what the responses say. Pure: no socket.

A user is a JSON object as text, as the state has it: {"external_id": ...}, {"alias_name": ..., "alias_label": ...},
{"braze_id": ...}, {"email": ...} or {"phone": ...}. A channel is `email_subscribe`, `push_subscribe`, or
`subscription_groups:<id>`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from itertools import groupby, islice
from typing import Any
from urllib.parse import quote

from reverse_etl.braze.modes import OPT_OUT

User = Mapping[str, Any]  # as a response has it
GROUPS = "subscription_groups"
GLOBAL = ("email_subscribe", "push_subscribe")
_MOST_URL = 6000  # characters: servers and proxies refuse lines over 8 KB
_SELECTORS = {
    **{"external_id": "external_ids", "user_alias": "user_aliases"},  # up to 50 in a request
    **{"braze_id": "braze_id", "email": "email_address", "phone": "phone"},  # one in a request
}


class Read(Enum):
    """An endpoint that is read: path, family of rate limits, permission, and the identifiers that several users of a
    request may have, and that one may."""

    # post_users_identifier
    STATES = (
        *("/users/export/ids", "users_export_ids", "users.export.ids"),
        *(("external_id", "user_alias"), ("braze_id", "email", "phone")),
    )
    # get_list_user_subscription_groups
    GROUPS = (
        *("/subscription/user/status", "subscription_user_status", "subscription.groups.get"),
        *(("external_id", "email", "phone"), ()),
    )

    def __init__(
        self, path: str, family: str, permission: str, several: tuple[str, ...], single: tuple[str, ...]
    ) -> None:
        self.path, self.family, self.permission = path, family, permission
        self.several, self.single = several, single


USERS_PER_REQUEST = 50  # of both


@dataclass(frozen=True)
class Question:
    """One request about users with one kind of identifier. `is_again`: another request about the same users has been
    answered; `offset`: with so many. `fields` are what an export is to tell of them, beside their identifiers."""

    read: Read
    people: tuple[str, ...]
    offset: int = 0
    is_again: bool = False
    fields: tuple[str, ...] = GLOBAL

    @property
    def path(self) -> str:
        if self.read is Read.STATES:
            return self.read.path
        asked = [_parameter(person) for person in self.people]
        page = [f"offset={self.offset}"] if self.offset else []
        return f"{self.read.path}?{'&'.join([*asked, *page])}"

    @property
    def body(self) -> bytes | None:
        """What is posted; None for a GET."""
        if self.read is Read.GROUPS:
            return None
        kind, users = kind_of(self.people[0]), [_value(person) for person in self.people]
        asked = {_SELECTORS[kind]: users if kind in self.read.several else users[0]}
        return json.dumps({**asked, "fields_to_export": list(dict.fromkeys((*_IDENTIFIERS, *self.fields)))}).encode()


_IDENTIFIERS = ("external_id", "user_aliases", "email", "phone")


def kinds_not_read(read: Read, kinds: Iterable[str]) -> list[str]:
    """The kinds of identifiers by which Braze does not tell this of a user."""
    return [kind for kind in kinds if kind not in (*read.several, *read.single)]


def questions(read: Read, people: Iterable[str], fields: tuple[str, ...] = GLOBAL) -> Iterator[Question]:
    """The requests about all of the people, who are in the order of their kinds of identifiers."""
    for kind, of_kind in groupby(people, kind_of):
        most = USERS_PER_REQUEST if kind in read.several else 1
        while batch := tuple(islice(of_kind, most)):
            yield from _short_enough(Question(read, batch, fields=fields))


def _short_enough(question: Question) -> Iterator[Question]:
    half = len(question.people) // 2
    if half == 0 or len(question.path) <= _MOST_URL:
        yield question
        return
    for people in (question.people[:half], question.people[half:]):
        yield from _short_enough(replace(question, people=people))


def heard(question: Question, said: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[Question]]:
    """Who has opted out of what, by a response, and what must be asked besides. Raises ValueError if it is none."""
    users, more = told(question, said)
    return [(person, channel) for person, user in users for channel in _opted_out(question.read, user)], more


def told(question: Question, said: Mapping[str, Any]) -> tuple[list[tuple[str, User]], list[Question]]:
    """The users of a response, each beside who was asked for, and what must be asked besides; with the states of groups
    by their ids, if it has them. Raises ValueError if it is no answer.

    Of several users, a response names each by its present identifier. If that is none that was asked for, as after an
    external id was renamed, everybody who is not in the response is asked for alone.
    """
    users = said.get("users")
    if said.get("message") != "success" or not isinstance(users, list) or not all(isinstance(u, dict) for u in users):
        raise ValueError
    asked = {_compared(_value(person)): person for person in question.people}
    found, answered, others = list[tuple[str, User]](), set[str](), False
    for user in users:
        people = question.people if len(question.people) == 1 else _meant(user, kind_of(question.people[0]), asked)
        others = others or not people
        answered.update(people)
        if question.read is Read.GROUPS:
            user = {**user, GROUPS: _states_of_groups(user)}
        found += [(person, user) for person in people]
    alone = [person for person in question.people if person not in answered] if others else []
    more = [replace(question, people=(person,), offset=0, is_again=True) for person in alone]
    total = said.get("total_count")
    if isinstance(total, int) and users and total > question.offset + len(users):
        more.append(replace(question, offset=question.offset + len(users), is_again=True))
    return found, more


def _meant(user: Mapping[str, Any], kind: str, asked: Mapping[str, str]) -> list[str]:
    names = user.get("user_aliases") if kind == "user_alias" else [user.get(kind)]
    if not isinstance(names, list):
        raise ValueError
    return [asked[name] for one in names if one is not None and (name := _compared(one)) in asked]


def _opted_out(read: Read, user: User) -> Iterator[str]:
    if read is Read.STATES:
        yield from (name for name in GLOBAL if user.get(name) == OPT_OUT)
        return
    yield from (f"{GROUPS}:{group}" for group, state in user[GROUPS].items() if state == OPT_OUT)


def _states_of_groups(user: User) -> dict[str, str]:
    """The state of each group, as records have it."""
    groups, found = user.get(GROUPS), dict[str, str]()
    if not isinstance(groups, list):
        raise ValueError
    for group in groups:
        if not (isinstance(group, dict) and isinstance(group.get("id"), str) and isinstance(group.get("status"), str)):
            raise ValueError
        found[group["id"]] = group["status"].lower()
    return found


def kind_of(person: str) -> str:
    """The kind of a user's identifier, as `identifiers` of modes have it."""
    return "user_alias" if "alias_name" in (one := json.loads(person)) else str(next(iter(one)))


def _value(person: str) -> Any:
    one = json.loads(person)
    return one if "alias_name" in one else next(iter(one.values()))


def _compared(name: Any) -> str:
    """What is equal for one user, however Braze spells an address or an alias."""
    if isinstance(name, dict):
        return json.dumps([name.get("alias_label"), name.get("alias_name")])
    text = str(name).strip()
    return re.sub("[^0-9]", "", text) if text.startswith("+") else text.lower() if "@" in text else text


def _parameter(person: str) -> str:
    return f"{kind_of(person)}[]={quote(str(_value(person)), safe='')}"
