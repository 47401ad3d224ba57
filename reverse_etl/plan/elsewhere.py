"""Acknowledged rows that are in the warehouse, and not in the state: which tables they are in.

    base      all of them, as they were when it was written
    deltas    rows that were acknowledged since, and keys that are gone: one for each run that changed some

A table is written once and never changed. Which of them count, the pointer says: JSON in `meta` of the state, which the
transaction that commits a run replaces. Tables that it does not name are of killed runs, or have been replaced.
"""

import json
import re
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, Protocol

ADOPTED = "retl_adopted"
POINTER = "rows_elsewhere"  # its key in `meta`
PREFIX = "rows_prefix"  # ... and that of how its tables will be called, of a state that has none yet
GONE = "_retl_gone"  # a column of deltas: the row is none of the acknowledged ones any more
MOST_DELTAS = 10  # more of them are made one base
DELTAS_OF_BASE = 0.1  # and so are those that have more rows than this part of the base
_NAME = re.compile(r"[^a-z0-9]+")
_LONGEST = 40  # of the part of a table's name that is the sync's


@dataclass(frozen=True)
class RowTable:
    """One table: its name, its `rows`, and the types of the model's columns that it has, as DuckDB writes them."""

    name: str
    rows: int
    columns: Mapping[str, str]


@dataclass(frozen=True)
class Numbers:
    """How many acknowledged rows there are; how many of them Braze is known to have, are unsure of a column, are
    uncertain of their user, and are noted as absent from the model."""

    rows: int = 0
    acknowledged: int = 0
    unsure: int = 0
    uncertain: int = 0
    absent: int = 0

    def moved(self, before: "Numbers", after: "Numbers") -> "Numbers":
        """The numbers of all rows, when some of them were `before`, and these are `after` now."""
        ends = zip(asdict(self).items(), asdict(before).values(), asdict(after).values(), strict=True)
        return Numbers(**{name: number - was + now for (name, number), was, now in ends})


@dataclass(frozen=True)
class Pointer:
    """The tables in `schema` that have the acknowledged rows: a base, and deltas from old to new."""

    schema: str
    prefix: str
    base: RowTable | None = None
    deltas: tuple[RowTable, ...] = ()
    numbers: Numbers = field(default_factory=Numbers)

    @property
    def tables(self) -> tuple[RowTable, ...]:
        return (*([self.base] if self.base else []), *self.deltas)

    @property
    def is_long(self) -> bool:
        """Whether its tables are to be made one."""
        rows = sum(delta.rows for delta in self.deltas)
        return len(self.deltas) > MOST_DELTAS or rows > max(DELTAS_OF_BASE * (self.base.rows if self.base else 0), 1000)

    def new_name(self, kind: str, run_id: str) -> str:
        """A name for a table of a run. No two attempts share one: what one of them writes, another never replaces."""
        return f"{self.prefix}_{kind}_{run_id.replace('-', '_').lower()}_{secrets.token_hex(3)}"

    def with_table(self, table: RowTable) -> "Pointer":
        """The same with a table that was written after all others."""
        if self.base is None:
            return replace(self, base=table)
        return replace(self, deltas=(*self.deltas, table))

    def text(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Adopted:
    """What a baseline has written before it is committed: a pointer to all rows of its model; the table that has the
    `named` columns of them, by which `lines` tells the `key` of each and whom it is about: it is SQL over ADOPTED, a
    view; and how many `rows` nobody looks at again."""

    pointer: Pointer
    table: str
    named: Sequence[str]
    lines: str
    rows: int


def new_pointer(schema: str, sync: str, meta: Mapping[str, str]) -> Pointer:
    """Where the rows of a new state will be: its tables share their names' beginning with those of no other state."""
    if PREFIX in meta:
        return Pointer(schema, meta[PREFIX])
    name = _NAME.sub("_", sync.casefold()).strip("_")[:_LONGEST]
    return Pointer(schema, f"retl_{name}_{secrets.token_hex(4)}")


def pointer_of(meta: Mapping[str, str]) -> Pointer | None:
    """What a state says of where its rows are; None if it has them itself."""
    text = meta.get(POINTER)
    if not text:
        return None
    found = json.loads(text)
    base, deltas = found["base"], found["deltas"]
    tables = [RowTable(**one) for one in ([base] if base else []) + deltas]
    return Pointer(
        found["schema"],
        found["prefix"],
        tables[0] if base else None,
        tuple(tables[1:] if base else tables),
        Numbers(**found["numbers"]),
    )


@dataclass(frozen=True)
class Asked:
    """Whose rows are looked for: `texts` of identifiers, as in `records/identity.py`, or `alias_name:...` without the
    label of an alias.

    Or their tags, made with a `secret`; or the digests with which keys are masked, made with the salt of the state.
    None of that is in the text of a statement, which the warehouse may keep.
    """

    texts: Collection[str]
    by: Literal["text", "tag", "digest"] = "text"
    secret: str = ""


@dataclass(frozen=True)
class RowPlace:
    """The schema of the warehouse that has the acknowledged rows, None if the states have them; and what opens one:
    nothing is connected before. `moves`: the rows are to be moved there, and may still be elsewhere. `is_copied`: the
    pointer is a copy of that which counts, so nothing is written or dropped."""

    schema: str | None
    open: "Callable[[str], RowTables]"
    moves: bool = False
    is_copied: bool = False


class RowTables(Protocol):
    """Writes tables of acknowledged rows in a warehouse. What goes wrong there is a RetlError, without values."""

    def names(self, prefix: str) -> list[str]:
        """The tables whose names begin so."""

    def write(self, name: str, columns: Mapping[str, Any], batches: Iterator[Any]) -> None:
        """Write a new table from pyarrow.RecordBatch. `columns` are the types (SqlType) of its columns."""

    def write_current(
        self, name: str, pointer: Pointer, columns: Mapping[str, Any], key: Sequence[str], without: Any = None
    ) -> int:
        """Write a new table with the rows that the tables of a pointer have, but for those `without` which it is to be:
        a pyarrow.Table of their keys. Returns how many these are."""

    def read(self, pointer: Pointer, columns: Mapping[str, Any], key: Sequence[str], of: Any = None) -> Iterator[Any]:
        """The rows that the tables of a pointer have, as pyarrow.RecordBatch; with `of`, a pyarrow.Table, those with
        these keys."""

    def sample(
        self, pointer: Pointer, columns: Mapping[str, Any], key: Sequence[str], seed: str, at_most: int
    ) -> tuple[int, Iterator[Any]]:
        """How many rows Braze has acknowledged that the model still returns, and a random sample of them, as
        pyarrow.RecordBatch: the same for the same seed and rows."""

    def find(self, pointer: Pointer, mode: Any, key: Sequence[str], asked: Asked) -> Iterator[tuple[RowTable, Any]]:
        """All rows that may be among those asked for, as pyarrow.RecordBatch, each with a table that has its columns:
        those of the key, and those that identify people in this mode. Rows that have been replaced, or are gone, are
        in tables, too."""

    def named(self, adopted: Adopted, key: Mapping[str, Any], without: Any = None) -> Iterator[Any]:
        """The named columns of rows that are adopted, as pyarrow.RecordBatch; but for those whose keys, of these types,
        a pyarrow.Table has."""

    def uncertain_rows(self, pointer: Pointer, columns: Mapping[str, Any], key: Sequence[str]) -> Iterator[Any]:
        """The same of rows that are uncertain of their user."""

    def sent_before(
        self, pointer: Pointer, columns: Mapping[str, Any], key: Sequence[str], at: datetime
    ) -> Iterator[Any]:
        """The same of rows that were sent before a time."""

    def known_users(
        self, pointer: Pointer, columns: Mapping[str, Any], key: Sequence[str], users: Any
    ) -> Iterator[Any]:
        """Those of `users`, a pyarrow.RecordBatch of `who` as `records/identity.py` writes it, whom rows that Braze has
        acknowledged are about."""

    def check(self, pointer: Pointer) -> None:
        """Raises StateError if a table of a pointer does not have the rows that were written to it."""

    def try_out(self, prefix: str = "retl") -> None:
        """Raises ProjectError if tables cannot be made, or dropped: such as one whose name begins so."""

    def drop_tried(self, before: datetime) -> None:
        """Drop what `try_out` has left, without a prefix, if it was killed before that time."""

    def drop(self, names: Iterable[str]) -> None: ...

    def erase(self, names: Iterable[str]) -> list[str]:
        """Drop tables with rows of people who were erased; where these may be all the same, in words."""

    def close(self) -> None: ...
