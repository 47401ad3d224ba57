"""Asks Braze which attributes and events the workspace has, page by page.

Only the cursor of a `Link` header is used, never its address: the API key goes to the endpoint alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from reverse_etl.braze.answers import Answer, hint_for, json_object
from reverse_etl.braze.catalogs import next_cursor
from reverse_etl.braze.data_types import DataType, of_braze
from reverse_etl.braze.modes import MAX_TEXT
from reverse_etl.errors import ProjectError

if TYPE_CHECKING:
    from reverse_etl.braze.client import Connection

ATTRIBUTES, EVENTS = "/custom_attributes", "/events/list"
MOST_PAGES = 500  # of 1,000 requests per hour that these endpoints share (get_custom_attributes)
_FORBIDDEN = 403  # the key lacks the permission (errors)
PERMISSIONS = {ATTRIBUTES: "custom_attributes.get", EVENTS: "events.list"}


@dataclass(frozen=True)
class KnownAttribute:
    """A custom attribute of the workspace. Braze does not keep values of one that is blocked."""

    name: str
    type: DataType
    is_blocked: bool


def known_attributes(connection: "Connection") -> list[KnownAttribute]:
    """All custom attributes of the workspace. Raises ProjectError if Braze does not list them."""
    found = [one for page, _ in _pages_by_cursor(connection) for one in _listed(page, "attributes", ATTRIBUTES)]
    return [
        KnownAttribute(one["name"], of_braze(one.get("data_type")), _is_blocked(one.get("status")))
        for one in found
        if isinstance(one, dict) and _is_name(one.get("name"))
    ]


def known_events(connection: "Connection") -> list[str] | None:
    """The names of all custom events of the workspace; None if the API key may not list them. Raises ProjectError if
    Braze does not list them for another reason."""
    names: list[str] = []
    for page in range(MOST_PAGES):
        answer = _answer(connection, EVENTS, f"?page={page}")
        if answer.status == _FORBIDDEN:
            return None
        found = _listed(_object(_succeeded(answer, EVENTS), EVENTS), "events", EVENTS)
        fresh = [name for name in found if _is_name(name) and name not in names]
        if not fresh:  # an empty page is the last one; one that repeats others would never end
            return names
        names += fresh
    raise _endless(EVENTS)


def _pages_by_cursor(connection: "Connection") -> Iterator[tuple[dict[str, Any], str | None]]:
    cursor, seen = None, set[str]()
    for _ in range(MOST_PAGES):
        query = f"?cursor={quote(cursor, safe='')}" if cursor else ""
        answer = _succeeded(_answer(connection, ATTRIBUTES, query), ATTRIBUTES)
        yield _object(answer, ATTRIBUTES), cursor
        cursor = next_cursor(answer.headers.get("link"))
        if cursor is None:
            return
        if cursor in seen:
            raise _endless(ATTRIBUTES)
        seen.add(cursor)
    raise _endless(ATTRIBUTES)


def _answer(connection: "Connection", path: str, query: str) -> Answer:
    answer = connection.get(path + query)
    if not isinstance(answer, Answer):
        raise ProjectError(f"{path}: {answer.why}", hint="try again, or check endpoint: `retl debug`", code="P097")
    return answer


def _succeeded(answer: Answer, path: str) -> Answer:
    if answer.status not in (200, 201):
        hint = hint_for(answer.status, PERMISSIONS[path]) or "try again later"
        if answer.status == 429:
            hint = "try again after the full hour: Braze allows 1,000 of these requests per hour"
        raise ProjectError(f"{path}: Braze returned {answer.status}", hint=hint, code="P097")
    return answer


def _object(answer: Answer, path: str) -> dict[str, Any]:
    found = json_object(answer.body)
    if found is None:
        raise _not_understood(path)
    return found


def _listed(page: dict[str, Any], key: str, path: str) -> list[Any]:
    found = page.get(key)
    if not isinstance(found, list):
        raise _not_understood(path)
    return found


def _not_understood(path: str) -> ProjectError:
    hint = "check endpoint: this is not how Braze responds, so something else is there or in between"
    return ProjectError(f"{path}: the response is not a list of names", hint=hint, code="P097")


def _endless(path: str) -> ProjectError:
    what = f"{path}: the pages do not end"
    return ProjectError(what, hint="check endpoint: this is not how Braze responds", code="P097")


def _is_name(value: object) -> bool:
    """Whether it is a name that a file can hold and a terminal can show."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT and value.isprintable()


def _is_blocked(status: object) -> bool:
    return isinstance(status, str) and status.casefold().startswith("block")
