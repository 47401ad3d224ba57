"""What Braze has now of what is compared: users for a canary, users and items for `retl verify`."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from reverse_etl.braze.answers import Answer, json_object
from reverse_etl.braze.catalogs import READ_ITEM, READ_ITEMS, Asking, items_of, next_cursor
from reverse_etl.braze.comparing import (
    Difference,
    Expected,
    differences,
    fields_to_read,
    item_differences,
    not_compared,
    reads_groups,
)
from reverse_etl.braze.modes import USER, Extra
from reverse_etl.braze.subscriptions import GROUPS, Read, User, kind_of, kinds_not_read
from reverse_etl.delivery.reading import Asked, HowToRead, Reader, read_users
from reverse_etl.delivery.session import Session
from reverse_etl.errors import ProjectError
from reverse_etl.project.spec import Sync

CANARY = "--canary"


def refuse_unreadable(sync: Sync, command: str) -> None:
    """Raises ProjectError if Braze does not tell what became of records of the sync. Of users who were deleted or
    merged, a state has hashes only."""
    mode, is_of_state = sync.mode, command != CANARY
    if is_of_state and mode.extra is Extra.CATALOG_FIELD:
        return
    if not mode.is_exported or mode.about != USER or (is_of_state and mode.ends):
        why = f"the state does not tell whom it has {mode.ends.done}" if mode.ends else "Braze does not export them"
        what = f"{sync.name}: {command} cannot compare records of mode {mode.label}: {why}"
        hint = None if is_of_state else "run this sync without --canary"
        raise ProjectError(what, sync.where(), hint, code="P142")


class Profiles:
    """Reads what is expected of records. `tells_groups`: the states of groups can be read of their users."""

    def __init__(self, session: Session, how: HowToRead, of: Sequence[Expected]) -> None:
        self._session, self._how = session, how
        columns = {name for one in of for name in one.attributes}
        kinds = {kind_of(one.person) for one in of}
        self.tells_groups = reads_groups(columns) and not kinds_not_read(Read.GROUPS, kinds)
        self._fields = fields_to_read(columns)
        self._exports = not self.tells_groups or not columns <= {GROUPS, "subscription_state"}

    def of(self, people: Sequence[str]) -> dict[str, list[User]]:
        """The users that each of the people is. Raises StateError if Braze does not tell."""
        found: dict[str, list[User]] = {person: [] for person in people}
        if self._exports:
            found |= read_users(self._session, Read.STATES, people, self._fields, self._how)
        if self.tells_groups:
            for person, users in read_users(self._session, Read.GROUPS, people, (), self._how).items():
                groups = {name: state for user in users for name, state in user[GROUPS].items()}
                known = found[person] if self._exports else users[:1]
                found[person] = [{**user, GROUPS: groups} for user in known]
        return found

    def differences(self, of: Expected, found: Sequence[User]) -> list[Difference]:
        return differences(of, found)

    def not_compared(self, columns: set[str]) -> list[str]:
        """Those of the columns that cannot be compared."""
        return not_compared(columns, self.tells_groups)


Item = Mapping[str, Any]


class Items:
    """Reads items of a catalog, of which it has about so many: one by one, or page by page if that are fewer requests.
    Braze allows 50 of them per minute."""

    def __init__(self, session: Session, how: HowToRead, catalog: str, items: int) -> None:
        self._session, self._how, self._at = session, how, {"catalog": catalog}
        self._pages = ceil(items / READ_ITEMS.rows_per_request)

    def requests(self, items: int) -> int:
        """About how many requests it takes to read so many."""
        return min(items, self._pages)

    def of(self, ids: Sequence[str]) -> dict[str, list[Item]]:
        """The item of each id, if there is one. Raises StateError if Braze does not tell."""
        found: dict[str, list[Item]] = {one: [] for one in ids}
        for item in self._one_by_one(ids) if len(ids) <= self._pages else self._all():
            if str(item["id"]) in found:
                found[str(item["id"])] = [item]
        return found

    def _one_by_one(self, ids: Sequence[str]) -> list[Item]:
        questions = (Asking(READ_ITEM.at({**self._at, "item": one}).path) for one in ids)
        reader = Reader(self._session, READ_ITEM.at({**self._at, "item": "ID"}), _heard, self._how, (200, 404))
        return [item for _, items in reader.answers(questions) for item in items]

    def _all(self) -> list[Item]:
        call = READ_ITEMS.at(self._at)
        pages = _Pages(self._session, call, _heard, self._how).answers(iter([Asking(call.path)]))
        return [item for _, items in pages for item in items]

    def differences(self, of: Expected, found: Sequence[Item]) -> list[Difference]:
        return item_differences(of, found)

    def not_compared(self, columns: set[str]) -> list[str]:
        """Those of the columns that cannot be compared: none."""
        return []


def _heard(question: Asked, said: Mapping[str, Any]) -> tuple[list[Item], list[Asking]]:
    return items_of(said), []


class _Pages(Reader[Item]):
    """Reads a list to its end, whose pages name the next one in a header."""

    def _told(self, question: Any, answer: Answer) -> tuple[list[Item], list[Any]]:
        cursor = next_cursor(answer.headers.get("link"))
        more = [Asking(question.address, cursor)] if cursor and cursor != question.cursor else []
        return items_of(json_object(answer.body) or {}), more
