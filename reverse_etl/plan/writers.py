"""Several syncs of a target that write the same attributes, and names that are almost the same. Pure.

Each sync compares its model with what it has sent itself, so of two that write one attribute of one user neither sees
what the other one did: the value that Braze has is that of whoever sent last, and no run repairs it.

    another type for one name            an error, always
    the same kind of identifier          an error if users are in both models; a note if none are
    another kind of identifier           a warning: nobody can tell whether the users are the same
    listed in `shares` of both           meant
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby

from reverse_etl.braze.data_types import fits
from reverse_etl.braze.modes import MODES
from reverse_etl.errors import Location, Problem
from reverse_etl.project.spec import Sync
from reverse_etl.records.attributes import Attribute, attributes_of, common_identifiers
from reverse_etl.records.layout import Layout
from reverse_etl.words import count

STANDARD = frozenset(field.name for field in MODES["users_track", "attributes"].fields)


@dataclass(frozen=True)
class Writer:
    """A sync that writes attributes, and the file of its model."""

    layout: Layout
    file: str

    @property
    def sync(self) -> Sync:
        return self.layout.sync

    @cached_property
    def attributes(self) -> dict[str, Attribute]:
        return attributes_of(self.layout)


@dataclass(frozen=True)
class Overlap:
    """Attributes that two syncs write, and not both list in `shares`. `identifiers` are those that both have."""

    one: Writer
    other: Writer
    names: tuple[str, ...]
    identifiers: tuple[str, ...]


def type_clashes(one: Writer, other: Writer) -> Iterator[Problem]:
    """An error for each attribute that one of two syncs sends as another type than the other one."""
    for name in _of_both(one, other):
        mine, its = one.attributes[name], other.attributes[name]
        if mine.type and its.type and not fits(mine.type, its.type):
            there = f'{other.file}, of sync "{other.sync.name}", returns it as {its.sql_type} (a Braze {its.type})'
            what = f'column "{name}" is {mine.sql_type} (a Braze {mine.type}), and {there}'
            hint = "CAST it to the same type in both, or rename one of them with AS: Braze keeps the type that it sees "
            hint += "first, and drops or converts values of another one without an error"
            yield Problem(what, Location(one.file), hint, code="P095")


def overlap(one: Writer, other: Writer) -> Overlap | None:
    """The attributes that two syncs both write without saying so in both."""
    shared = set(one.sync.shares) & set(other.sync.shares)
    names = tuple(name for name in _of_both(one, other) if name not in shared)
    return Overlap(one, other, names, tuple(common_identifiers(one.layout, other.layout))) if names else None


def _of_both(one: Writer, other: Writer) -> list[str]:
    """The attributes that two syncs write: of two of a hundred syncs, mostly none."""
    found = one.attributes.keys() & other.attributes.keys()
    return [name for name in one.attributes if name in found] if found else []


def both_write(found: Overlap, users: int, differing: Mapping[str, int]) -> Problem:
    """The error for two syncs that write the same attributes of the same users."""
    changed = [f'"{name}" for {differing[name]:,}' for name in found.names if differing[name]]
    differ = f", and the values differ: {', '.join(changed)}" if changed else ", with the same values at present"
    what = f"{written_by_both(found)}: {count(users, 'user')} {'is' if users == 1 else 'are'} in both models{differ}"
    hint = "let one of them write it: remove the column from the other, or list it in its exclude_columns; "
    hint += f"if both are meant to, add shares: [{', '.join(found.names)}] to both"
    return Problem(f"{found.one.sync.name}: {what}", found.one.sync.where("model"), hint, code="P096")


def no_common_users(found: Overlap) -> str:
    """The note about two syncs that write the same attributes of other users."""
    return f"{written_by_both(found)}; no user is in both models"


def cannot_count(found: Overlap) -> str:
    """The warning about two syncs of whose users nobody can tell whether they are the same."""
    if found.identifiers:
        return f"{written_by_both(found)}; whether for the same users is not known: one of the models cannot be run"
    kinds = [" or ".join(writer.layout.identifiers) for writer in (found.one, found.other)]
    where = f"by {kinds[0]} here, and by {kinds[1]} there, so whether for the same users is not known"
    shares = f"shares: [{', '.join(found.names)}]"
    return f"{written_by_both(found)}: users are identified {where}; if it is meant, add {shares} to both"


def written_by_both(found: Overlap) -> str:
    """Which attributes another sync writes, too, and where that one is."""
    names = ", ".join(f'"{name}"' for name in found.names)
    where = found.other.sync.where("model")
    verb = "is" if len(found.names) == 1 else "are"
    return f'{names} {verb} written by sync "{found.other.sync.name}" ({where}), too'


def spelled_alike(writers: Iterable[Writer], to: Collection[str] | None = None) -> list[tuple[str, ...]]:
    """Names of attributes that differ only in capitals, blanks and signs, each group once; with Braze's own fields.

    With `to`, only groups with names like these.
    """
    letters = None if to is None else set(map(_letters, to))
    names = {name for writer in writers for name in writer.attributes}
    written = names if letters is None else {name for name in names if _letters(name) in letters}
    found = alike([*written, *STANDARD])
    return [names for names in found if written & set(names) and not set(names) <= STANDARD]


def alike(names: Collection[str]) -> list[tuple[str, ...]]:
    """Groups of different names that are the same without capitals, blanks and signs, in order."""
    by_letters: Sequence[tuple[str, str]] = sorted((_letters(name), name) for name in set(names) if _letters(name))
    groups = (tuple(name for _, name in group) for _, group in groupby(by_letters, key=lambda pair: pair[0]))
    return [group for group in groups if len(group) > 1]


@cache
def _letters(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def alike_in_words(names: Sequence[str], writers: Iterable[Writer]) -> str:
    """The warning about names that are almost the same, with who writes them."""
    whose = {name: [writer.sync.name for writer in writers if name in writer.attributes] for name in names}
    parts = [f'"{name}" ({", ".join(by) or "a field of Braze"})' for name, by in whose.items()]
    return f"attributes with almost the same name: {' and '.join(parts)}; if one is meant, rename it with AS"
