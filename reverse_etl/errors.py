"""What can go wrong, by what the reader does next. No printing here: `cli` prints a mistake once.

RetlError
├── ProjectError      fix syncs.yml, a model's SQL or the command; nothing was tried   exit 2
├── DataError         fix the rows that a model returns                                exit 1
├── BusyError         wait: another process holds the sync or the warehouse            exit 1
│   └── AtWorkError   it is retl, and it is the sync
└── StateError        what is remembered of a sync needs a hand                        exit 1
"""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar


@dataclass(frozen=True, order=True)
class Location:
    """A place in a file of the project; `line` and `column` count from 1, 0 means that it is not known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return ":".join([self.file, *(str(n) for n in (self.line, self.column) if n)])


@dataclass(frozen=True)
class Problem:
    """One thing to mend: what is wrong, where it stands, and the way out."""

    message: str
    location: Location | None = None
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{self.message}{hint}"


class RetlError(Exception):
    """All that `retl` raises on purpose; it holds one mistake or several, and the exit code they lead to."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self, message: str | Iterable[Problem], location: Location | None = None, hint: str | None = None
    ) -> None:
        self.problems = (Problem(message, location, hint),) if isinstance(message, str) else tuple(message)
        super().__init__("\n".join(map(str, self.problems)))


class ProjectError(RetlError):
    """Fix the project or the command. Nothing was tried."""

    exit_code = 2


class DataError(RetlError):
    """Fix the rows that a model returns, or say that they are meant so."""


class BusyError(RetlError):
    """Wait until another process lets go."""


class AtWorkError(BusyError):
    """Another retl is at work on the sync: what there is to do is being done."""


class StateError(RetlError):
    """What is remembered of a sync is damaged, foreign, or no longer fits the model."""


# What is meant by words that look like nothing valid.
_SYNONYMS = {"empty_snapshot": "empty_model", "keep": "retention"}


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """A hint that offers the valid word that means `word` or is closest to it, else all of them when they are few."""
    words = list(valid)
    meant = [_SYNONYMS[word]] if _SYNONYMS.get(word) in words else []
    close = meant or get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"one of: {', '.join(words)}" if 0 < len(words) <= 12 else None
