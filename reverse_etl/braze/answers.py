"""What Braze's answer to one request means: which records were taken, and what to do next. Pure: no socket."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from reverse_etl.braze.rate_limit_headers import exhausted_wait_s, throttled_wait_s


@dataclass(frozen=True)
class Answer:
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class NotSent:
    """No byte of the request left this machine."""

    why: str


@dataclass(frozen=True)
class NoAnswer:
    """The request went out, wholly or in part, and no whole answer came back."""

    why: str


class Outcome(Enum):
    """What became of a request as a whole."""

    ACCEPTED = "taken, save the records that it names"
    REFUSED = "nothing was taken: a record in it is wrong"
    TOO_LARGE = "nothing was taken: the request is too large"
    THROTTLED = "nothing was taken: over the rate limit"
    NOT_SENT = "nothing was sent"
    UNKNOWN = "nobody knows"
    UNPLACED = "taken, save records that it does not name"
    FORBIDDEN = "nothing was taken, and nothing ever will be: wrong key, permission or address"


_BY_STATUS: Mapping[int, Outcome] = {
    400: Outcome.REFUSED,
    408: Outcome.UNKNOWN,
    413: Outcome.TOO_LARGE,
    429: Outcome.THROTTLED,
}


@dataclass(frozen=True)
class Verdict:
    """`rejected`: records by their place in the request, and why. `pause_s`: let nobody send for so long."""

    outcome: Outcome
    why: str = ""
    status: int = 0
    rejected: Mapping[int, str] = field(default_factory=dict)
    pause_s: float = 0.0


def hint_for(status: int, permission: str) -> str | None:
    """What to do about an answer that no other request would get round (errors page)."""
    return {
        401: "the key is unknown at this address: look at api_key, and whether endpoint is that of the workspace",
        403: f"permissions of a key cannot be changed: make a new key with {permission}",
        404: "there is no such call at this address: look at endpoint",
    }.get(status, "look at endpoint: a redirect is not followed" if 300 <= status < 400 else None)


def judge(
    result: Answer | NotSent | NoAnswer, records: int, arrays: Collection[str], counters: Collection[str] = ()
) -> Verdict:
    """What became of a request of `records` records (errors page).

    `arrays` are the names that its array may have in an answer, `counters` the numbers that an answer may give. Success
    is 201, or 202 during maintenance, and whole JSON, and a message that says so, and counts that leave no record out.
    """
    if isinstance(result, NotSent):
        return Verdict(Outcome.NOT_SENT, result.why)
    if isinstance(result, NoAnswer):
        return Verdict(Outcome.UNKNOWN, result.why)
    body, status = _json_object(result.body), result.status
    message = str(body.get("message", "")) if body else ""
    why = f"Braze answered {status}: {message}"[:300] if message else f"Braze answered {status}"
    if status in (200, 201, 202):
        if body is None or message not in ("success", "queued"):
            return Verdict(Outcome.UNKNOWN, f"{why}, and not that it succeeded")
        rejected, is_whole = _placed(body.get("errors"), records, arrays)
        pause_s = exhausted_wait_s(result.headers)
        taken = _counted(body, counters)
        if not is_whole:
            why += ", with an error that names no record"
        elif taken is not None and taken != records - len(rejected):
            why += f", and that it took {taken:,} of {records - len(rejected):,} records"
            is_whole = False
        outcome = Outcome.ACCEPTED if is_whole else Outcome.UNPLACED
        return Verdict(outcome, why, status, rejected, pause_s)
    outcome = _BY_STATUS.get(status, Outcome.FORBIDDEN if status < 500 else Outcome.UNKNOWN)
    if outcome is Outcome.THROTTLED:
        return Verdict(outcome, why, status, pause_s=throttled_wait_s(result.headers))
    if outcome is Outcome.REFUSED:
        rejected, _ = _placed(body.get("errors") if body else None, records, arrays)
        return Verdict(outcome, why, status, {0: message or why} if records == 1 and not rejected else rejected)
    if outcome is Outcome.TOO_LARGE and records == 1:
        return Verdict(Outcome.REFUSED, why, status, {0: "is larger than Braze takes in one request"})
    return Verdict(outcome, why, status)


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _counted(body: Mapping[str, Any], counters: Collection[str]) -> int | None:
    """How many records the answer says it took; None if it does not say."""
    said = [body[name] for name in counters if isinstance(body.get(name), int)]
    return sum(said) if said else None


def _placed(errors: Any, records: int, arrays: Collection[str]) -> tuple[dict[int, str], bool]:
    """The records that `errors` name, and whether every error names one."""
    rejected, is_whole = dict[int, str](), True
    for error in errors or () if isinstance(errors, list | None) else (errors,):
        index = error.get("index") if isinstance(error, dict) else None
        if isinstance(index, int) and 0 <= index < records and error.get("input_array") in arrays:
            rejected[index] = str(error.get("type", "no reason given"))[:300]
        else:
            is_whole = False
    return rejected, is_whole
