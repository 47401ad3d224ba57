"""Errors, by what the reader does next. No printing here: `cli` prints an error once.

RetlError
├── ProjectError      fix syncs.yml, a model's SQL or the command; nothing was tried   exit 2
├── DataError         fix the rows that a model returns                                exit 1
├── BusyError         wait: another process has the sync or the warehouse locked       exit 1
│   └── AtWorkError   that process is retl, running the same sync
└── StateError        the state of a sync cannot be used as it is: follow the hint     exit 1
    └── MovedError    it is that of another name now
"""

from collections.abc import Iterable, Mapping
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
    """One error: what is wrong, where, and how to fix it. It contains no secret, whatever it is made of.

    `code` is one of `codes.py`.
    """

    message: str
    location: Location | None = None
    hint: str | None = None
    code: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", redact(self.message))
        object.__setattr__(self, "hint", self.hint and redact(self.hint))

    def __str__(self) -> str:
        return self._in_words("")

    @property
    def with_code(self) -> str:
        """The same, with its code: `retl explain CODE` says more."""
        return self._in_words(f" [{self.code}]" if self.code else "")

    def _in_words(self, code: str) -> str:
        place = f"{self.location}: " if self.location else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{self.message}{code}{hint}"


class RetlError(Exception):
    """Base class of everything that `retl` raises on purpose: one or more errors, and the exit code they lead to."""

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str | Iterable[Problem],
        location: Location | None = None,
        hint: str | None = None,
        code: str = "",
    ) -> None:
        self.problems = (Problem(message, location, hint, code),) if isinstance(message, str) else tuple(message)
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


# What other tools, and earlier versions of retl, call it.
_ALSO_CALLED: Mapping[str, str] = {
    "name": "id title sync_name",
    "model": "query sql sql_file table view relation from source",
    "mode": "sync_mode sync_type operation behavior action",
    "track_record_type": "object object_type record_type",
    "primary_key": "unique_key unique_id id_column identifier key pk",
    "pre_formatted_fields": "json_columns json_fields json",
    "exclude_columns": "ignore exclude ignore_columns skip_columns excluded_columns",
    "on_removed": "on_delete on_removal removed",
    "clear": "null unset nullify",
    "ignore": "keep nothing none",
    "cursor": "cursor_field cursor_column updated_at watermark",
    "retention": "keep ttl",
    "after": "depends_on needs dependencies upstream run_after",
    "schedule": "cron interval frequency cadence schedule_interval every",
    "timezone": "tz time_zone schedule_timezone",
    "tags": "label labels groups",
    "empty_model": "empty_snapshot",
    "data_tests": "tests checks expectations",
    "unit_tests": "tests",
    "renamed_from": "previous_name former_name old_name alias",
    "targets": "outputs environments profiles envs",
    "default_target": "target profile default",
    "vars": "variables parameters",
    "warehouse": "source database db connection",
    "path": "file filename database dbname",
    "endpoint": "url host rest_endpoint instance_url base_url",
    "api_key": "key token api_token auth rest_api_key",
    "max_objects_per_request": "batch_size max_batch_size chunk_size",
}
_FINAL = ("delete", "merge", "remove")  # in words for what nobody can take back
_FEW = 12  # so many words are all listed
_LONG = 6  # the beginning of a word that is so long says which one is meant


def nearest(word: str, valid: Iterable[str]) -> str | None:
    """A hint that offers the valid word that means `word` or is closest to it, or all of them if they are few.

    A word for what cannot be taken back is offered only to who has almost written it.
    """
    words = list(dict.fromkeys(valid))
    close = closest(word, words)
    if close:
        return f'did you mean "{close}"?'
    return f"one of: {', '.join(words)}" if 0 < len(words) <= _FEW else None


def closest(word: str, valid: Iterable[str]) -> str | None:
    """The valid word that means `word`, has its letters in another order, or differs from it by little; None if none.

    Rather none than a wrong one: `delay` is not `model`.
    """
    words = list(valid)
    spelled = {_letters(one): one for one in reversed(words)}
    meant = [one for one, others in _ALSO_CALLED.items() if one in words and word.casefold() in others.split()]
    same = [one for one in words if sorted(_letters(one)) == sorted(_letters(word))]
    by_letters = get_close_matches(_letters(word), spelled, n=1, cutoff=0.7)
    begins = get_close_matches(_letters(word), {one[: len(_letters(word))]: one for one in spelled}, n=1, cutoff=0.85)
    begun = [spelled[one] for one in spelled if begins and one.startswith(begins[0]) and len(word) >= _LONG]
    close = [*meant, *same, *(spelled[one] for one in by_letters), *begun][:1]
    is_final = close and any(what in close[0] for what in _FINAL)
    if is_final and not get_close_matches(word, close, n=1, cutoff=0.85):
        return None
    return close[0] if close else None


def _letters(word: str) -> str:
    """A word as it is compared with others: `primaryKey` is `primary_key`."""
    return word.casefold().replace("_", "").replace("-", "")
