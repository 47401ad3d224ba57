"""What Braze's response to one request means: which records were accepted, and what to do next. Pure: no socket."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

from reverse_etl.braze.modes import Errors
from reverse_etl.braze.rate_limit_headers import exhausted_wait_s, throttled_wait_s
from reverse_etl.words import count, one_line


class Answer(NamedTuple):
    """A complete response; header names are in lower case. `body` is None if it is too large, or cannot be unpacked."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True)
class NotSent:
    """No byte of the request left this machine. `is_final`: an address or a certificate is wrong, so none ever will."""

    why: str
    hint: str | None = None
    is_final: bool = False


@dataclass(frozen=True)
class NoAnswer:
    """The request was sent, completely or in part, and no complete response was received."""

    why: str


class Outcome(Enum):
    """The result of a request as a whole."""

    ACCEPTED = "accepted, except the records that the response identifies"
    REFUSED = "nothing was accepted: a record in it is wrong"
    TOO_LARGE = "nothing was accepted: the request is too large"
    THROTTLED = "nothing was accepted: over the rate limit"
    NOT_SENT = "nothing was sent"
    UNREACHABLE = "nothing was sent, and repeating it is useless: wrong address, proxy or certificate"
    UNKNOWN = "unknown: it may have been accepted"
    UNPLACED = "accepted, except some records that the response does not identify"
    FORBIDDEN = "nothing was accepted, and repeating it is useless: wrong API key, permission or address"


_SUCCESS = (200, 201, 202)  # any other 2xx is from something in between, which may have passed the request on
_BY_STATUS: Mapping[int, Outcome] = {
    400: Outcome.REFUSED,
    408: Outcome.UNKNOWN,
    413: Outcome.TOO_LARGE,
    429: Outcome.THROTTLED,
}


class Verdict(NamedTuple):
    """`rejected`: records by their index in the request, and why. `pause_s`: how long all threads must not send.

    `hint` is what to do, if that is known from what the network, and not Braze, has said.
    """

    outcome: Outcome
    why: str = ""
    status: int = 0
    rejected: Mapping[int, str] = MappingProxyType({})
    pause_s: float = 0.0
    hint: str | None = None


def hint_for(status: int, permission: str) -> str | None:
    """A hint for a response that every other request would get too (errors page)."""
    return {
        401: "Braze does not recognize this API key: "
        "check api_key, and that endpoint is the REST endpoint of its workspace",
        403: f"create a new API key with the permission {permission}: permissions of an existing key cannot be changed",
        404: "check endpoint: this API call does not exist at that address",
    }.get(
        status,
        "check endpoint: the server redirects, and retl does not follow redirects" if 300 <= status < 400 else None,
    )


@dataclass(frozen=True)
class NamedErrors:
    """How a response says what is wrong, and what the records of the request are called in it."""

    form: Errors
    names: Callable[[], Sequence[str]]


def judge(
    result: Answer | NotSent | NoAnswer,
    records: int,
    arrays: Collection[str],
    counters: Collection[str] = (),
    named: NamedErrors | None = None,
    refused: str = "errors",
    done: str = "",
) -> Verdict:
    """The result of a request of `records` records (errors page).

    `arrays` are the names that its array may have in a response, `counters` the numbers that a response may have;
    `refused` is where it lists what was refused, and `done` what was not; `named`: errors name records otherwise.
    Success is 201, or 202 where requests are queued, with complete JSON, a message that confirms it, and counts that
    account for every record.
    """
    if isinstance(result, NotSent):
        outcome = Outcome.UNREACHABLE if result.is_final else Outcome.NOT_SENT
        return Verdict(outcome, result.why, hint=result.hint)
    if isinstance(result, NoAnswer):
        return Verdict(Outcome.UNKNOWN, result.why)
    body, status = json_object(result.body), result.status
    message = _text(body.get("message")) if body else ""
    why = f"Braze returned {status}: {message}" if message else f"Braze returned {status}"
    if 200 <= status < 300:
        if status not in _SUCCESS or body is None or body.get("message") not in ("success", "queued"):
            what = "with a response that cannot be understood" if result.body is None else "without confirming success"
            return Verdict(Outcome.UNKNOWN, f"{why}, but {what}")
        rejected, is_whole = _placed(body.get(refused), records, arrays)
        pause_s = exhausted_wait_s(result.headers)
        taken = _counted(body, counters)
        if isinstance(body.get(done), list):
            taken = len(body[done])
        if not is_whole:
            why += ", with an error that does not identify a record"
        elif taken == _NO_NUMBER:
            why += ", but its count of processed records is not a number"
            is_whole = False
        elif taken is not None and taken != records - len(rejected):
            why += f", but reported {taken:,} of {count(records - len(rejected), 'record')} as processed"
            is_whole = False
        outcome = Outcome.ACCEPTED if is_whole else Outcome.UNPLACED
        return Verdict(outcome, why, status, rejected, pause_s)
    if named and body and status in _NAMED_BY_STATUS and (errors := errors_of(body)):
        return _judge_named(status, errors, records, named)
    outcome = _BY_STATUS.get(status, Outcome.FORBIDDEN if 300 <= status < 500 else Outcome.UNKNOWN)
    if outcome is Outcome.THROTTLED:
        return Verdict(outcome, why, status, pause_s=throttled_wait_s(result.headers))
    if outcome is Outcome.REFUSED:
        rejected, _ = _placed(body.get(refused) if body else None, records, arrays)
        return Verdict(outcome, why, status, {0: message or why} if records == 1 and not rejected else rejected)
    if outcome is Outcome.TOO_LARGE and records == 1:
        return Verdict(Outcome.REFUSED, why, status, {0: "is larger than Braze accepts in one request"})
    return Verdict(outcome, why, status)


_NAMED_BY_STATUS = (400, 404)


def errors_of(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The errors of a response that have an id, as those of catalogs do (endpoints/catalogs)."""
    errors = body.get("errors")
    of_ids = [one for one in errors if isinstance(one, dict)] if isinstance(errors, list) else []
    return [one for one in of_ids if _text(one.get("id"))]


def in_words(error: Mapping[str, Any]) -> str:
    """An error with an id, as it is told: without the values in it."""
    return ": ".join(text for text in (_text(error.get("id")), _text(error.get("message"))) if text)


def _judge_named(status: int, errors: Sequence[Mapping[str, Any]], records: int, named: NamedErrors) -> Verdict:
    """Nothing was accepted. An error is about the records that it names, by their names or by objects that have these
    (seen in clients); or about none, and then so is every other request; else, one of the records is wrong."""
    why = f"Braze returned {status}: {in_words(errors[0])}"
    for error in errors:
        if (hint := named.form.stops.get(str(error["id"]))) is not None:
            return Verdict(Outcome.FORBIDDEN, f"Braze returned {status}: {in_words(error)}", status, hint=hint)
    if status not in _BY_STATUS:
        return Verdict(Outcome.FORBIDDEN, why, status)
    rejected, names = dict[int, str](), named.names()
    for error in errors:
        parameters, values = error.get("parameters"), error.get("parameter_values")
        if isinstance(values, list) and isinstance(parameters, list) and named.form.names_by in parameters:
            blamed = {str(one.get(named.form.names_by) if isinstance(one, dict) else one) for one in values}
            rejected |= {place: in_words(error) for place, name in enumerate(names) if name in blamed}
    return Verdict(Outcome.REFUSED, why, status, {0: in_words(errors[0])} if records == 1 else rejected)


def json_object(body: bytes | None) -> dict[str, Any] | None:
    """The JSON object that a response is; None if it is anything else.

    JSON is UTF-8 without a byte order mark, has no key twice in one object, and no NaN or infinity (RFC 8259); what is
    none, nobody can understand in one way only. Neither is what Python cannot hold: too deep, too long a number.
    """
    try:
        value = _JSON.decode((body or b"").decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


_JSON = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refused)


def _text(value: Any, otherwise: str = "") -> str:
    """What a response says, in one line that every file and terminal can take; `otherwise` if it is no text."""
    if not isinstance(value, str):
        return otherwise
    return one_line(value)[:300] or otherwise


_NO_NUMBER = -1


def _counted(body: Mapping[str, Any], counters: Collection[str]) -> int | None:
    """The number of records that the response reports as processed; None if it reports none."""
    said = [body[name] for name in counters if body.get(name) is not None]
    if any(type(number) is not int or not 0 <= number < 10**9 for number in said):  # True is an int, too
        return _NO_NUMBER
    return sum(said) if said else None


def _placed(errors: Any, records: int, arrays: Collection[str]) -> tuple[dict[int, str], bool]:
    """The records that `errors` identify, and whether every error identifies one."""
    rejected, is_whole = dict[int, str](), True
    for error in errors or () if isinstance(errors, list | None) else (errors,):
        index, array, reason = _parts(error)
        if type(index) is int and 0 <= index < records and (array is None or array in arrays):
            rejected[index] = _text(reason, "no reason given")
        else:
            is_whole = False
    return rejected, is_whole


def _parts(error: Any) -> tuple[Any, str | None, Any]:
    """The index in an error, the array that it is of, and the reason: of an object, or of an array that begins with the
    index, as renamed and removed external ids have it, which are of one array (post_external_ids_rename)."""
    if isinstance(error, dict):
        array = error.get("input_array")
        return error.get("index"), array if isinstance(array, str) else "", error.get("type")
    if isinstance(error, list) and len(error) == 2:
        return error[0], None, error[1]
    return None, "", None
