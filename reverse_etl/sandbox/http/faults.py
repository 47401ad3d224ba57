"""Fault injection: which fault, on which path, how often. Only decides; `wire.py` acts on the connection.

| kind          | processed? | what the client sees                                            |
|---------------|------------|-----------------------------------------------------------------|
| status        | no         | this status, headers and body                                   |
| html          | no         | 200 with an HTML page, like the response of a captive portal    |
| drop_before   | no         | the whole request is read, then the connection closes           |
| drop_after    | yes        | the connection closes without a response                        |
| truncate      | yes        | the response ends in the middle of its body                     |
| truncate_head | yes        | half a status line, then the connection closes                  |
| slow          | yes        | the body arrives byte by byte, over `seconds` in total          |
| delay         | yes        | the response comes `seconds` late                               |
| object_error  | yes        | chosen objects are rejected with `error`, the rest is accepted  |
"""

import random
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from math import isfinite
from typing import Any, Literal, get_args
from zlib import crc32

Kind = Literal[
    "status",
    "html",
    "drop_before",
    "drop_after",
    "truncate",
    "truncate_head",
    "slow",
    "delay",
    "object_error",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
NOT_TAKEN: frozenset[Kind] = frozenset({"status", "html", "drop_before"})
_BLOCKED = "provided external_id is blacklisted and disallowed"  # (track, life)


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # of RFC 9110
_HEADER_VALUE = re.compile(r"([\x21-\x7e\xa0-\xff]([\t\x20-\x7e\xa0-\xff]*[\x21-\x7e\xa0-\xff])?)?")
_OF_THE_BODY = ("content-length", "transfer-encoding")  # kind "truncate" makes a wrong one
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Fault:
    """A fault that hits requests whose path starts with `path`.

    The first `skip` matching requests pass; then each is hit with `probability`, and the `burst - 1` requests
    after it in any case, until `times` were hit (None: no limit). Delays and object errors combine with other
    faults; of the other kinds, the oldest fault that hits decides, and later ones are not used up.

    `until` is for tests in the server's own process, such as the `is_set` of a `threading.Event`. It is called
    repeatedly, in the server's thread; at the first call, the request has been processed.
    """

    kind: Kind
    _: KW_ONLY
    path: str = ""
    times: int | None = 1
    skip: int = 0
    probability: float = 1.0
    burst: int = 1
    status: int = 500  # of kind "status"
    headers: Mapping[str, str] = field(default_factory=dict)  # of kinds "status" and "html"
    body: str | None = None  # of kinds "status" and "html"; None: {"message": the status' name}
    seconds: float = 0.0  # of kinds "delay" and "slow"
    until: Callable[[], bool] | None = None  # of kind "delay": the response waits for this, too
    external_ids: Collection[str] = ()  # only requests with an object that has one of these ids ...
    matches: Callable[[str], bool] | None = None  # ... or whose identifier (id, alias name, email) passes ...
    share: float = 0.0  # ... or is in this fraction of all identifiers, always the same ones
    error: str = _BLOCKED  # of kind "object_error": the `type` of its entry

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; expected one of {', '.join(KINDS)}")
        for name in ("probability", "share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"a fault's {name} must be between 0 and 1, not {getattr(self, name)}")
        if self.skip < 0 or self.seconds < 0 or (self.times is not None and self.times < 0):
            raise ValueError("skip, times and seconds of a fault must not be negative")
        if not isfinite(self.seconds):
            raise ValueError(f"the seconds of a fault must be a finite number, not {self.seconds}")
        if self.burst < 1:
            raise ValueError("the burst of a fault must be at least 1")
        if not 200 <= self.status <= 599:
            raise ValueError(f"a fault's status must be between 200 and 599, not {self.status}")
        for name, text in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OF_THE_BODY:
                raise ValueError(f"a fault cannot have the header {name!r}")
            if not _HEADER_VALUE.fullmatch(text):
                raise ValueError(f"a fault's header {name!r} must be printable Latin-1 text")
        if any(_SURROGATE.search(text) for text in (self.path, self.body or "", self.error, *self.external_ids)):
            raise ValueError("a fault must not contain half of a character, such as \\ud800")
        if self.kind == "object_error" and not self.is_choosy:
            raise ValueError("an object_error requires external_ids or share")

    @property
    def is_choosy(self) -> bool:
        """Whether it hits only requests with certain objects."""
        return bool(self.external_ids or self.share) or self.matches is not None

    def refuses(self, identifier: str) -> bool:
        """Whether an object with this identifier is hit."""
        if identifier in self.external_ids or (self.matches is not None and self.matches(identifier)):
            return True
        return self.share > 0 and crc32(identifier.encode()) < self.share * 2**32


_FROM_JSON: Mapping[str, type | tuple[type, ...]] = {
    "kind": str,
    "path": str,
    "times": (int, type(None)),
    "skip": int,
    "probability": (int, float),
    "burst": int,
    "share": (int, float),
    "status": int,
    "headers": dict,
    "body": (str, type(None)),
    "seconds": (int, float),
    "external_ids": list,
    "error": str,
}


def from_json(value: Any) -> Fault:
    """A fault from the control endpoint. Raises ValueError with a message for the user."""
    if not isinstance(value, dict) or "kind" not in value:
        raise ValueError("a fault must be an object with a 'kind'")
    for name, sent in value.items():
        wanted = _FROM_JSON.get(name)
        if wanted is None:
            raise ValueError(f"unknown field {name!r} of a fault; expected one of {', '.join(_FROM_JSON)}")
        if not isinstance(sent, wanted) or (isinstance(sent, bool)):
            raise ValueError(f"field {name!r} of a fault has the wrong type")
    texts = [*value.get("headers", {}).values(), *value.get("external_ids", [])]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("headers and external_ids of a fault must be strings")
    return Fault(**value)


def from_text(text: str) -> Fault:
    """A fault as the command line has it: `status:status=503,probability=0.01`.

    It never ends, unless `times` is set. External ids are separated by plus signs. Raises ValueError with a message
    for the user.
    """
    kind, _, rest = text.partition(":")
    value: dict[str, Any] = {"kind": kind, "times": None}
    for part in rest.split(",") if rest else []:
        name, equals, sent = part.partition("=")
        if not equals:
            raise ValueError(f"{part!r} in a fault must have the form NAME=VALUE")
        value[name] = sent.split("+") if name == "external_ids" else _number(sent)
    return from_json(value)


def _number(text: str) -> int | float | str:
    for number in (int, float):
        with suppress(ValueError):
            return number(text)
    return text


def as_json(fault: Fault) -> dict[str, Any]:
    """What `from_json` takes; a predicate has no JSON form and is left out."""
    shown = {one.name: getattr(fault, one.name) for one in fields(fault) if one.name not in ("matches", "until")}
    return {**shown, "external_ids": list(fault.external_ids), "headers": dict(fault.headers)}


@dataclass
class _Armed:
    fault: Fault
    seen: int = 0
    hits: int = 0
    left: int = 0  # of a burst

    def hit(self, draw: Callable[[], float]) -> bool:
        self.seen += 1
        fault = self.fault
        if self.seen <= fault.skip or (fault.times is not None and self.hits >= fault.times):
            return False
        if not self.left and fault.probability < 1 and draw() >= fault.probability:
            return False
        self.left = (self.left or fault.burst) - 1
        self.hits += 1
        return True


@dataclass(frozen=True)
class Hit:
    """The faults that one request meets."""

    ending: Fault | None = None
    delays: tuple[Fault, ...] = ()
    object_errors: tuple[Fault, ...] = ()

    @property
    def delay_s(self) -> float:
        return sum(fault.seconds for fault in self.delays)

    @property
    def wait_s(self) -> float:
        """How much later than without faults the whole response has arrived, apart from `until`."""
        return self.delay_s + (self.ending.seconds if self.ending and self.ending.kind == "slow" else 0)

    @property
    def name(self) -> str | None:
        """For the request log."""
        kinds: list[str] = [self.ending.kind] if self.ending else []
        is_late = any(fault.seconds or fault.until for fault in self.delays)
        kinds += ["delay"] * is_late + ["object_error"] * bool(self.object_errors)
        return "+".join(kinds) or None

    def refusal(self, identifier: str) -> str | None:
        """The error text of an object with this identifier, or None."""
        return next((fault.error for fault in self.object_errors if fault.refuses(identifier)), None)


NO_HIT = Hit()


@dataclass(frozen=True)
class SavedFaults:
    """Faults as they were at one moment."""

    armed: tuple[_Armed, ...]
    chance: tuple[Any, ...]


class Faults:
    """The faults that are set, in order. Safe to change while requests come in."""

    def __init__(self, seed: int) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._draw = self._random.random
        self._armed: list[_Armed] = []

    def add(self, faults: Iterable[Fault]) -> None:
        with self._lock:
            self._armed += [_Armed(fault) for fault in faults]

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def listed(self) -> list[Fault]:
        with self._lock:
            return [armed.fault for armed in self._armed]

    def hits(self) -> list[int]:
        """How many requests each of them has hit."""
        with self._lock:
            return [armed.hits for armed in self._armed]

    def replace(self, faults: Iterable[Fault], seed: int) -> None:
        """These faults instead of all others, and chance from its beginning."""
        with self._lock:
            self._random.seed(seed)
            self._armed = [_Armed(fault) for fault in faults]

    def saved(self) -> "SavedFaults":
        """All of it, how far each is and chance too, for `put_back`."""
        with self._lock:
            return SavedFaults(tuple(replace(armed) for armed in self._armed), self._random.getstate())

    def put_back(self, saved: "SavedFaults") -> None:
        with self._lock:
            self._armed = [replace(armed) for armed in saved.armed]
            self._random.setstate(saved.chance)

    def strike(self, path: str, identifiers: Callable[[], Collection[str]]) -> Hit:
        """What this request meets; counts it. `identifiers` of its objects are read only if a fault asks."""
        if not self._armed:
            return NO_HIT
        with self._lock:
            return self._strike(path, identifiers)

    def _strike(self, path: str, identifiers: Callable[[], Collection[str]]) -> Hit:
        here = [armed for armed in self._armed if path.startswith(armed.fault.path)]
        here = [armed for armed in here if self._concerns(armed.fault, identifiers)]
        delays, ending = list[Fault](), None
        for armed in here:
            if armed.fault.kind == "delay":
                delays += [armed.fault] * armed.hit(self._draw)
            elif armed.fault.kind != "object_error" and ending is None and armed.hit(self._draw):
                ending = armed.fault
        if ending is not None and ending.kind in NOT_TAKEN:
            return Hit(ending, tuple(delays))
        refusals = (armed for armed in here if armed.fault.kind == "object_error")
        return Hit(ending, tuple(delays), tuple(one.fault for one in refusals if one.hit(self._draw)))

    def _concerns(self, fault: Fault, identifiers: Callable[[], Collection[str]]) -> bool:
        return not fault.is_choosy or any(map(fault.refuses, identifiers()))
