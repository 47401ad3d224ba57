"""Persons are erased from what was collected, whether a collector runs or not.

    log/*.jsonl                    segments that are over become Parquet files
    erased/*.json                  for a collector that runs: whom to leave out of what it has received until now
    <source>/<table>/*.parquet     rewritten without their records, each under its name

Who is killed in between has erased whole files; to do it again does the rest.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from pathlib import Path

import duckdb

from reverse_etl.collect.erasing import announce, drop_erasings, records, without
from reverse_etl.collect.keep import DAMAGED_SUFFIX, convert, maintenance, reason, tables
from reverse_etl.collect.log import segments
from reverse_etl.collect.persons import Named, named_in
from reverse_etl.errors import BusyError, StateError
from reverse_etl.project.collected import LOCK, LOG, LOG_SUFFIX, parts_of
from reverse_etl.state.persons import Persons
from reverse_etl.system.clock import Clock, when_free
from reverse_etl.system.disk import remedy
from reverse_etl.system.file_lock import locked
from reverse_etl.words import count

WAIT_S = 60.0  # at least, for the collector to be done with its files
_ROUNDS = 10
_MOST_KEYS = 5  # that are named
_KEY = re.compile(r"[A-Za-z_$][\w.$-]{0,63}")  # of which it is safe to say that it is there


@dataclass
class Erased:
    """How many records of which table are gone; where others mention the persons. `is_pending`: of what the collector
    has received in the last minute, it will leave out theirs."""

    records: Counter[str] = field(default_factory=Counter)
    out_of_reach: list[str] = field(default_factory=list)
    is_pending: bool = False


# --- erasing ---------------------------------------------------------------------------------------------------------


def erase_collected(
    folder: Path, texts: Collection[str], at: datetime, wait_s: float, clock: Clock, say: Callable[[str], None]
) -> Erased:
    """Erase the persons with these identifiers from all that was received before `at`.

    Raises BusyError if another process is at the files for too long, and StateError if they cannot be rewritten.
    """
    found = Erased()
    if not folder.is_dir() or not texts:
        return found
    with _told(folder), _held(folder) as is_ours, _maintained(folder, max(wait_s, WAIT_S), clock, say):
        for name in segments(folder) if is_ours else segments(folder)[:-1]:  # the last one may be written
            convert(folder, name, say)
        theirs = _linked(folder, texts, at)
        if segments(folder):
            announce(folder, theirs, at)
            found.is_pending = True
        for table in tables(folder):
            _erase_table(table, theirs, frozenset(texts) | theirs, at, found)
        drop_erasings(folder, clock.utc())
        found.out_of_reach += map(str, sorted((folder / LOG).glob(f"*{DAMAGED_SUFFIX}")))
    return found


def _erase_table(table: Path, theirs: frozenset[str], known: frozenset[str], at: datetime, found: Erased) -> None:
    """Erase the records of `theirs`, and count those that stay and have one of the identifiers that are `known`."""
    gone, keys, others = dict[Path, set[int]](), set[str](), 0
    for file, row, named in records(_parts(table), at, known):
        if named.is_about(theirs.__contains__):
            gone.setdefault(file, set()).add(row)
        elif mentioned := named.mentions(known.__contains__):
            others += 1
            keys |= mentioned
    for file, rows in gone.items():
        without(file, rows)
        found.records[_name(table)] += len(rows)
    if others:
        shown = ", ".join(sorted(filter(_KEY.fullmatch, keys))[:_MOST_KEYS]) or "their keys"
        what = f"{count(others, 'record')} of other users, or of nobody known, with a value of the person in {shown}"
        found.out_of_reach.append(f"{table}: {what}")


def count_about(folder: Path, hashes: Collection[str], hashed: Callable[[str], str], at: datetime) -> Counter[str]:
    """How many records received before `at` are about the persons whose identifiers have these hashes, by table.

    Raises StateError if they cannot be read.
    """
    found = Counter[str]()
    if not folder.is_dir():
        return found
    with _told(folder):
        theirs = _linked(folder, hashes, at, hashed)
        for table in tables(folder):
            for _, _, named in records(_parts(table), at):
                found[_name(table)] += named.is_about(lambda text: hashed(text) in theirs)
        for name, named in _in_log(folder, at):
            found[name] += named.is_about(lambda text: hashed(text) in theirs)
    return +found


def _linked(
    folder: Path, texts: Collection[str], at: datetime, tag: Callable[[str], str] | None = None
) -> frozenset[str]:
    """The identifiers, with those that records say are of the same person, without those that are of others, too.

    If these are hashes, `tag` makes one of an identifier.
    """
    persons = Persons(set(texts))
    for _ in range(_ROUNDS):
        sought = None if tag else frozenset(persons.texts)
        found = chain.from_iterable(records(_parts(table), at, sought) for table in tables(folder))
        if not sum(_take(persons, named, tag or str) for _, _, named in found):
            break
    return frozenset(persons.erased)


def _take(persons: Persons, named: Named, tag: Callable[[str], str]) -> bool:
    row = {kind: tag(text) for kind, text in named.row.items()}
    if not row.keys() & {"external_id", "user_alias"} and row.get("braze_id") not in persons.texts:
        row.pop("braze_id", None)  # of a profile that nobody has named: it may be theirs
    return persons.take(dict(row))


# --- files -----------------------------------------------------------------------------------------------------------


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turns what fails on disk into StateError."""
    try:
        yield
    except (OSError, duckdb.Error) as error:
        file = re.search(r"[^/'\"]*\.parquet", str(error))
        where = f" ({file[0]})" if file else ""
        hint = remedy(error, "make its files readable and writable, or remove one that is damaged, and run this again")
        raise StateError(f"cannot erase from {folder}: {reason(error)}{where}", hint=hint, code="S030") from error


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Whether no collector runs, and none starts during the block."""
    lock = locked(folder / LOCK, lambda holder: BusyError(str(holder), code="B003"))
    with ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except BusyError:
            yield False
        else:
            yield True


@contextmanager
def _maintained(folder: Path, wait_s: float, clock: Clock, say: Callable[[str], None]) -> Iterator[None]:
    """Have the files alone during the block. Raises BusyError if another process has them for longer than `wait_s`."""

    def attempt() -> ExitStack:
        with ExitStack() as stack:
            if not stack.enter_context(maintenance(folder)):
                hint = "run this again: a collector has its files for seconds, another `retl forget` for longer"
                raise BusyError(f"the files in {folder} are being rewritten by another process", hint=hint, code="B003")
            return stack.pop_all()

    with when_free(attempt, wait_s, clock, say):
        yield


def _name(table: Path) -> str:
    return f"{table.parent.name}/{table.name}"


def _parts(table: Path) -> list[Path]:
    return [table / part.name for part in parts_of(path.name for path in table.iterdir())]


def _in_log(folder: Path, before: datetime) -> Iterator[tuple[str, Named]]:
    """The records of the log that were received before a time, with the source and table of each."""
    for name in segments(folder):
        with suppress(FileNotFoundError), (folder / LOG / f"{name}{LOG_SUFFIX}").open("rb") as lines:
            for line in lines:
                with suppress(ValueError, KeyError, TypeError):  # not whole, or damaged: nobody can read it
                    entry = json.loads(line)
                    if datetime.fromisoformat(entry["received_at"]) < before:
                        for one in entry["records"]:
                            named = named_in(one["record"])
                            if named is not None:
                                yield f"{entry['source']}/{entry['table']}", named
