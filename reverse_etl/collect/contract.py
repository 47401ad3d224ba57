"""What a webhook may send, as in Treasure Data's Postback API: its key, its table, its records. Pure.

    POST /postback/v3/event/{source}/{table}?unwrap=events
    X-TD-Write-Key: KEY                     or Authorization: TD1 KEY, or Bearer KEY (Braze Currents)

    {"events": [{"id": "a1", "td_record_time": 1764450000, "price": 1.10}, ...]}

A record keeps the text that was sent: no number goes through a float. What DuckDB could not read as JSON is refused.
"""

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from reverse_etl.words import count

MAX_BODY_BYTES = 1_048_064  # as in Treasure Data
MAX_RECORDS = 10_000  # of a request
MAX_DEPTH = 100  # of nested objects and arrays
MAX_ID = 255  # characters of an event's own id
TIME_KEY = "td_record_time"
OLDEST, NEWEST = timedelta(days=7), timedelta(days=3)  # of a record's own time, before and after its receipt

_PATH = re.compile(r"/postback/v3/event/([^/]+)/([^/]+)/?")
_AUTHORIZATION = re.compile(r"(?:TD1|Bearer) +(\S+) *", re.IGNORECASE)
_MAX_FIELDS = 50  # of a query


class Refusal(Exception):  # noqa: N818  # a response, not a fault of ours
    """A response that takes nothing of a request. It repeats nothing of what was sent."""

    def __init__(self, status: HTTPStatus, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


@dataclass(frozen=True)
class Source:
    """Who may send: the {database} of the URL. Of keys, only digests are kept."""

    name: str
    tables: frozenset[str]
    digests: tuple[bytes, ...] = field(repr=False)  # of keys that stand side by side
    key_in_url: bool = False
    rate_limit: float = 1000  # requests/s of each key


@dataclass(frozen=True)
class Admitted:
    """A request with a good key, for a table that is there."""

    source: Source
    table: str
    key: int  # which of the source's keys
    unwrap: str | None  # None: one record; "": the body is an array of records; else the key of that array


@dataclass(frozen=True)
class Record:
    """An object as it was sent, without `td_record_time`."""

    record_id: str  # equal if the same is sent again
    time: int  # unix seconds
    text: str


def digest(key: str) -> bytes:
    """What keys are compared by."""
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def admitted(sources: Mapping[str, Source], method: str, path: str, query: str, headers: Mapping[str, str]) -> Admitted:
    """Whose request it is. `headers` by their names in lower case. Raises Refusal."""
    found = _PATH.fullmatch(path)
    if not found:
        raise Refusal(HTTPStatus.NOT_FOUND, "POST to /postback/v3/event/{database}/{table}")
    if method != "POST":
        raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, "use POST: tracking pixels are not supported", {"allow": "POST"})
    asked = _asked(query)
    if "td_redirect" in asked:
        raise Refusal(HTTPStatus.BAD_REQUEST, "td_redirect is not supported")
    source = sources.get(found[1])
    if source is None:
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such database")
    key = _key(source, headers, asked)
    if found[2] not in source.tables:
        raise Refusal(HTTPStatus.NOT_FOUND, "there is no such table in this database")
    if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body without compression")
    return Admitted(source, found[2], key, asked.get("unwrap"))


def _asked(query: str) -> dict[str, str]:
    try:
        return {name: texts[0] for name, texts in parse_qs(query, True, max_num_fields=_MAX_FIELDS).items()}
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the query of the URL cannot be read") from error


def _key(source: Source, headers: Mapping[str, str], asked: Mapping[str, str]) -> int:
    """The number of the key that a request has. The first place in which one is found decides."""
    authorization = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    given = authorization[1] if authorization else headers.get("x-td-write-key")
    if given is None and source.key_in_url:
        given = asked.get("td_write_key")
    found = digest(given or "")
    same = [hmac.compare_digest(found, one) for one in source.digests]  # all of them, however soon one is found
    if not given or True not in same:
        raise Refusal(HTTPStatus.FORBIDDEN, "the write key is missing or wrong")
    return same.index(True)


# --- the body --------------------------------------------------------------------------------------------------------

# Numbers stay texts, told from strings by what no sender begins one with.
_NUMBER = "\x00#"
_SPACE = re.compile(r"[ \t\n\r]*")


def records_of(body: bytes, sent: Admitted, received_at: datetime) -> list[Record]:
    """The records of a body; none if it is empty and its records would be unwrapped. Raises Refusal."""
    try:
        text = body.decode("utf-8-sig")
        at = _after_space(text, 0)
        if sent.unwrap is not None and at == len(text):
            return []
        if sent.unwrap is None:
            value, end = _DECODER.raw_decode(text, at)
            found = [(value, text[at:end])]
        elif sent.unwrap:
            found, end = _array_in_object(text, at, sent.unwrap)
        else:
            found, end = _array(text, at)
        if _after_space(text, end) != len(text):
            raise ValueError("there is more than one JSON document")
        if len(found) > MAX_RECORDS:
            raise Refusal(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the array has more than {count(MAX_RECORDS, 'record')}"
            )
        return [_record(value, one, sent, received_at) for value, one in found]
    except UnicodeError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body is not Unicode text in UTF-8") from error
    except RecursionError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, f"the JSON is nested more than {MAX_DEPTH} deep") from error
    except json.JSONDecodeError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, "the body is not JSON") from error
    except ValueError as error:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from error


def _record(value: Any, text: str, sent: Admitted, received_at: datetime) -> Record:
    if not isinstance(value, dict):
        what = "the body is not a JSON object" if sent.unwrap is None else "the array contains more than JSON objects"
        way = "; to send an array of objects, add ?unwrap to the URL" if isinstance(value, list) else ""
        raise ValueError(what + way)
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError(f"the JSON is nested more than {MAX_DEPTH} deep")
    time = None
    if TIME_KEY in value:
        text = _without(text, TIME_KEY)
        time = _time_of(value.pop(TIME_KEY), received_at)
    canonical = _canonical(sent, value)  # of any record: what is no Unicode is found by it
    return Record(
        record_id=_own_id(value) or sha256(canonical).hexdigest()[:32],
        time=int(received_at.timestamp()) if time is None else time,
        text=text,
    )


def _own_id(value: Mapping[str, Any]) -> str | None:
    """The id of an event of Currents. That of another record may be a user's: of two records with it, both count."""
    own = value.get("id")
    if isinstance(own, str) and isinstance(value.get("event_type"), str) and len(own) <= MAX_ID:
        return own.removeprefix(_NUMBER)
    return None


def _canonical(sent: Admitted, value: Any) -> bytes:
    """The same bytes for the same record, whatever the order of its keys. Raises UnicodeError for half a character."""
    return json.dumps([sent.source.name, sent.table, value], sort_keys=True, ensure_ascii=False).encode()


def _time_of(value: Any, received_at: datetime) -> int | None:
    """A record's own time in unix seconds, if it is one, and neither too old nor in the future."""
    digits = value.removeprefix(_NUMBER) if isinstance(value, str) else ""
    if not re.fullmatch(r"[0-9]{1,12}", digits):
        return None
    oldest, newest = (received_at - OLDEST).timestamp(), (received_at + NEWEST).timestamp()
    return int(digits) if oldest <= int(digits) <= newest else None


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        inner = (one.values() if isinstance(one, dict) else one for one in level)
        level = [found for some in inner for found in some if isinstance(found, dict | list)]
    return depth


# --- JSON whose parts keep their text --------------------------------------------------------------------------------


_TWICE = "an object has the same key twice"


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(_TWICE)
    return found


def _no_number(text: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_int=_NUMBER.__add__, parse_float=_NUMBER.__add__, parse_constant=_no_number
)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _array(text: str, at: int) -> tuple[list[tuple[Any, str]], int]:
    """The elements of the array that begins here, each with its text, and where it ends."""
    if text[at : at + 1] != "[":
        raise ValueError("the body is not a JSON array of objects")
    found: list[tuple[Any, str]] = []
    at = _after_space(text, at + 1)
    if text[at : at + 1] == "]":
        return found, at + 1
    while True:
        value, end = _DECODER.raw_decode(text, at)
        found.append((value, text[at:end]))
        at = _after_space(text, end)
        if text[at : at + 1] == "]":
            return found, at + 1
        at = _expected(",", text, at)


def _object(text: str, at: int, apart: str | None = None) -> tuple[dict[str, tuple[Any, str]], int]:
    """The members of the object that begins here by their keys, each with its text, and where it ends.

    The value of the key `apart` is its elements, as of `_array`.
    """
    if text[at : at + 1] != "{":
        raise ValueError("the body is not a JSON object")
    found: dict[str, tuple[Any, str]] = {}
    at = _after_space(text, at + 1)
    if text[at : at + 1] == "}":
        return found, at + 1
    while True:
        if text[at : at + 1] != '"':
            raise _not_json(text, at)
        key, end = _DECODER.raw_decode(text, at)
        value_at = _expected(":", text, _after_space(text, end))
        value, end = _array(text, value_at) if key == apart else _DECODER.raw_decode(text, value_at)
        if key in found:
            raise ValueError(_TWICE)
        found[key] = value, text[at:end]
        at = _after_space(text, end)
        if text[at : at + 1] == "}":
            return found, at + 1
        at = _expected(",", text, at)


def _array_in_object(text: str, at: int, key: str) -> tuple[list[tuple[Any, str]], int]:
    """The elements of the array of that key in the object that begins here, and where the object ends."""
    members, end = _object(text, at, key)
    if members and key not in members:
        raise ValueError("the object does not have the key that ?unwrap names")
    return members.get(key, ([], ""))[0], end


def _without(text: str, key: str) -> str:
    """The text of an object without one of its members."""
    return "{" + ",".join(one for name, (_, one) in _object(text, 0)[0].items() if name != key) + "}"


def _expected(mark: str, text: str, at: int) -> int:
    """Behind a mark that must be here, and behind the blanks after it."""
    if text[at : at + 1] != mark:
        raise _not_json(text, at)
    return _after_space(text, at + 1)


def _not_json(text: str, at: int) -> json.JSONDecodeError:
    return json.JSONDecodeError("not JSON", text, at)
