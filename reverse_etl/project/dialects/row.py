"""A row of the table: what becomes of one function, operator, cast or clause of another engine, in DuckDB.

    same       DuckDB has it, with the same result
    repaired   `sql` is what it becomes: a template, or a function that builds the tree
    refused    it has no exact counterpart: why, and what to write instead

What has no row is refused, too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

ANY = 99  # arguments


class Verdict(StrEnum):
    SAME = "same"
    REPAIRED = "repaired"
    REFUSED = "refused"


Template = "str | Callable[[Call], Any]"


@dataclass(frozen=True)
class Row:
    """`forms` maps a number of arguments to a template of DuckDB's SQL, in which `a0` is the first argument.

    `kind` is the kind of value that it returns, if that is known: text, int, double, decimal, bool, date, timestamp.
    `how` is what it becomes, in words, for those who read the table.
    """

    name: str
    verdict: Verdict
    forms: Mapping[int, Any] = field(default_factory=dict)
    kind: str | None = None
    why: str = ""
    instead: str | None = None
    how: str = ""


def same(names: str, *counts: int, kind: str | None = None) -> dict[str, Row]:
    """Functions that DuckDB has under the same name, with the same result, with so many arguments."""
    return {
        name: Row(name, Verdict.SAME, dict.fromkeys(counts or (ANY,), name), kind, how="the same in DuckDB")
        for name in names.split()
    }


def repaired(names: str, *forms: Any, kind: str | None = None, how: str = "") -> dict[str, Row]:
    """Functions that become `forms`: templates, in each of which the highest `a0`, `a1` ... is the last argument.

    A form is also a pair of the number of arguments and a function that builds the tree.
    """
    found: dict[int, Any] = {}
    for form in forms:
        found.update({_highest(form): form} if isinstance(form, str) else {form[0]: form[1]})
    said = how or next((form for form in forms if isinstance(form, str)), "")
    return {name: Row(name, Verdict.REPAIRED, found, kind, how=said) for name in names.split()}


def refused(names: str, why: str, instead: str | None = None) -> dict[str, Row]:
    """Functions that no SQL of DuckDB is equal to."""
    return {name: Row(name, Verdict.REFUSED, why=why, instead=instead) for name in names.split()}


def _highest(form: str) -> int:
    return max((int(number) + 1 for number in re.findall(r"\ba(\d)\b", form)), default=0)
