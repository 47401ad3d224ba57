"""Errors, by what the reader does next. No printing here: `cli` prints an error once.

RetlError
├── ProjectError      fix syncs.yml, a model's SQL or the command; nothing was tried   exit 2
├── DataError         fix the rows that a model returns                                exit 1
├── BusyError         wait: another process has the sync or the warehouse locked       exit 1
│   └── AtWorkError   that process is retl, running the same sync
└── StateError        the state of a sync cannot be used as it is: follow the hint     exit 1
    └── MovedError    it is that of another name now
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar

from reverse_etl.redaction import redact


@dataclass(frozen=True, order=True)
class Location:
    """A location in a file of the project; `line` and `column` count from 1, 0 means unknown."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)])


@dataclass(frozen=True)
class Problem:
    """One error: what is wrong, where, and how to fix it. It contains no secret, whatever it is made of."""

    message: str
    location: Location | None = None
    hint: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", redact(self.message))
        object.__setattr__(self, "hint", self.hint and redact(self.hint))

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"


class RetlError(Exception):
    """Base class of everything that `retl` raises on purpose: one or more errors, and the exit code they lead to."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str | Iterable[Problem], location: Location | None = None, hint: str | None = None
    ) -> None:
        self.problems = (Problem(message, location, hint),) if isinstance(message, str) else tuple(message)
        super().__init__("\n".join(map(str, self.problems)))


class ProjectError(RetlError):
    """The project or the command is invalid. Nothing was tried."""

    exit_code = 2


class DataError(RetlError):
    """The rows that a model returns must be fixed, or a guard skipped."""


class BusyError(RetlError):
    """Another process has the sync or the warehouse locked."""


class AtWorkError(BusyError):
    """Another retl is running the sync: what is due is already being done."""


class StateError(RetlError):
    """The state of a sync is damaged, belongs to something else, or no longer fits the model."""


class MovedError(StateError):
    """The state of a sync was moved when it was renamed: whoever uses the former name is out of date."""


# What is meant by words that look like nothing valid.
_SYNONYMS = {"empty_snapshot": "empty_model", "keep": "retention"}


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """A hint that offers the valid word that means `word` or is closest to it, or all of them if they are few.

    A word that deletes is offered only to who has almost written it.
    """
    words = list(valid)
    meant = [_SYNONYMS[word]] if _SYNONYMS.get(word) in words else []
    close = meant or get_close_matches(word, words, n=1, cutoff=0.6)
    if close and "delete" in close[0]:
        close = get_close_matches(word, close, n=1, cutoff=0.85)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"one of: {', '.join(words)}" if 0 < len(words) <= 12 else None
