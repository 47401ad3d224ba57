"""Data tests: what must be true of the rows that a model returns, or the run is blocked. Pure: SQL out, counts in.

tests_sql()    one SELECT for all tests of a sync; one row, with (failing rows, a few of their keys) per test
judge()        compares these with severity and thresholds: pass, warn or fail
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import eq, ge, gt, le, lt, ne
from typing import Literal

from reverse_etl.errors import Problem
from reverse_etl.masking import Keys
from reverse_etl.plan.guards import DATA_TESTS, to_skip
from reverse_etl.project.spec import Sync
from reverse_etl.project.spec_tests import AcceptedValues, DataTest
from reverse_etl.records.layout import Layout
from reverse_etl.records.mapping import key_text
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.sql.types import bytewise
from reverse_etl.words import count

SHOWN_KEYS = 5
TESTED_MODEL = "/* the model under test */"  # where the model's SQL goes in `tests_sql`
_TESTED = "retl_tested"
_Status = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class DataTestResult:
    """The result of one data test: the number of failing rows and the first of their keys; no values.

    `number` is its index in the `data_tests` of the sync, from 0.
    """

    number: int
    name: str
    status: _Status
    failures: int
    keys: Sequence[str]

    def shown(self, keys: Keys) -> "DataTestResult":
        """The same, with keys as `keys` shows them."""
        return replace(self, keys=tuple(map(keys.shown, self.keys)))

    def __str__(self) -> str:
        return f"data test {self.name}: {count(self.failures, 'row fails', 'rows fail')}"

    @property
    def named(self) -> str:
        """The failing rows, by their keys."""
        noun = "key" if self.failures == 1 else "keys"
        more = f" and {self.failures - len(self.keys):,} more" if self.failures > len(self.keys) else ""
        return f"{noun} {', '.join(self.keys)}{more}"


def tests_sql(layout: Layout) -> str:
    """A SELECT of one row over the model, whose place in it is `TESTED_MODEL`: the number of rows that it returns, and
    a struct of rows and keys per test.

    The model runs once, however many tests there are.
    """
    columns, results, twins = {"key": key_text(layout.key, identifier, has_number=False)}, [], []
    for number, test in enumerate(layout.sync.data_tests):
        if test.kind == "unique":
            columns |= _grouped(layout, number, test)
            twins.append(_twins(number, len(test.claim.column)))
            results.append(_rows_of_twins(number, len(test.claim.column)))
        else:
            columns[f"fails{number}"] = _looked_at(test, _FAILS[test.kind](layout, test))
            failing = f"FILTER (fails{number})"
            results.append(f"{{'rows': count(*) {failing}, 'keys': min(key, {SHOWN_KEYS}) {failing}}}")
    read = ",\n    ".join(f"{sql} AS {name}" for name, sql in columns.items())
    tested = f"{_TESTED} AS (\nSELECT\n    {read}\nFROM (\n{TESTED_MODEL}\n)\n)"
    return f"WITH {', '.join([tested, *twins])}\nSELECT {', '.join(['count(*)', *results])} FROM {_TESTED}"


def _looked_at(test: DataTest, condition: str) -> str:
    return f"({condition})" + (f" AND (\n{test.claim.where}\n)" if test.claim.where else "")


def _is_null(layout: Layout, test: DataTest) -> str:
    return " OR ".join(f"{identifier(name)} IS NULL" for name in test.claim.column)


def _is_not_accepted(layout: Layout, test: DataTest) -> str:
    assert isinstance(test.claim, AcceptedValues)
    conditions = []
    for name in test.claim.column:
        of = layout.column(name).type
        accepted = ", ".join(f"TRY_CAST({literal(value)} AS {of.text})" for value in test.claim.values)
        value = bytewise(f"CAST({identifier(name)} AS {of.text})", of)
        conditions.append(f"{identifier(name)} IS NOT NULL AND NOT coalesce({value} IN ({accepted}), false)")
    return " OR ".join(f"({condition})" for condition in conditions)


_FAILS: Mapping[str, Callable[[Layout, DataTest], str]] = {"not_null": _is_null, "accepted_values": _is_not_accepted}


def _grouped(layout: Layout, number: int, test: DataTest) -> dict[str, str]:
    has_values = " AND ".join(f"{identifier(name)} IS NOT NULL" for name in test.claim.column)
    values = [bytewise(identifier(name), layout.column(name).type) for name in test.claim.column]
    parts = dict(zip(_parts(number, len(test.claim.column)), values, strict=True))
    return {f"counts{number}": _looked_at(test, has_values), **parts}


def _twins(number: int, parts: int) -> str:
    """A table expression: the values that occur in several rows, and in how many."""
    columns = ", ".join(_parts(number, parts))
    grouped = f"SELECT {columns}, count(*) AS n FROM {_TESTED} WHERE counts{number} GROUP BY {columns}"
    return f"twins{number} AS (\n{grouped} HAVING count(*) > 1\n)"


def _rows_of_twins(number: int, parts: int) -> str:
    same = ", ".join(_parts(number, parts))
    rows = f"(SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM twins{number})"
    keys = f"(SELECT min(key, {SHOWN_KEYS}) FROM {_TESTED} SEMI JOIN twins{number} USING ({same}) WHERE counts{number})"
    return f"{{'rows': {rows}, 'keys': {keys}}}"


def _parts(number: int, parts: int) -> list[str]:
    return [f"part{number}_{index}" for index in range(parts)]


# --- verdicts --------------------------------------------------------------------------------------------------------

_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    **{"=": eq, "!=": ne, "<>": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
}


def judge(tests: Sequence[DataTest], found: Sequence[tuple[int, Sequence[str]]]) -> tuple[DataTestResult, ...]:
    """The result of every test, from its number of failing rows and some of their keys."""
    return tuple(
        DataTestResult(number, f"{test.kind} {', '.join(test.claim.column)}", _status(test, rows), rows, tuple(keys))
        for number, (test, (rows, keys)) in enumerate(zip(tests, found, strict=True))
    )


def _status(test: DataTest, failures: int) -> _Status:
    if test.claim.severity == "error" and _holds(test.claim.error_if, failures):
        return "fail"
    return "warn" if _holds(test.claim.warn_if, failures) else "pass"


def _holds(threshold: str, failures: int) -> bool:
    parts = re.fullmatch(r"([=!<>]+) ?(\d+)", threshold)
    assert parts
    return _COMPARE[parts[1]](failures, int(parts[2]))


def failed(sync: Sync, results: Sequence[DataTestResult], skipped: bool = False) -> Iterator[Problem]:
    """An error for every test that blocks the run; none of them does if that is `skipped`."""
    for result in results:
        if result.status == "fail" and not skipped:
            remedy = to_skip(sync, DATA_TESTS)
            hint = f"{result.named}; {remedy}" if result.keys else remedy
            where = sync.where("data_tests", result.number)
            yield Problem(f"{sync.name}: {result}", where, hint, code="X003")


def warnings(results: Sequence[DataTestResult], skipped: bool = False) -> Iterator[str]:
    """A line for every test that does not pass and does not block the run."""
    for result in results:
        if result.status == "warn" or (result.status == "fail" and skipped):
            yield f"warning: {result}" + (f" ({result.named})" if result.keys else "")
