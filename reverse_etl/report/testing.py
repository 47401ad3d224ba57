"""Results of tests as text for people, and as JSON for programs. Pure; `cli` prints it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from reverse_etl.plan.data_tests import DataTestResult
from reverse_etl.project.spec import Sync
from reverse_etl.report.as_json import location_json, problem_json
from reverse_etl.testing.comparison import Difference
from reverse_etl.testing.unit_tests import UnitTestResult
from reverse_etl.words import count, duration

_NOTHING = "nothing"


def unit_test_lines(result: UnitTestResult) -> Iterator[str]:
    """A unit test for people: its status; if it fails, its location and the differences."""
    test = result.test
    where = "" if result.status == "pass" else f", {test.where()}"
    yield f"{_word(result.status)}  {test.name} ({test.sync}){where}"
    for problem in result.errors:
        yield from (f"      {line}" for line in problem.with_code.splitlines())
    if result.differences:
        yield "      - expected  + actual"
    for difference in result.differences:
        yield from (f"      {line}" for line in _difference_lines(difference))


def _word(status: str) -> str:
    return f"{status if status in ('pass', 'warn') else status.upper():5}"


_SIGNS = {
    "missing": "- {}",
    "unexpected": "+ {}",
    "invalid row missing": "- invalid {}",
    "invalid row unexpected": "+ invalid {}",
}


def _difference_lines(difference: Difference) -> Iterator[str]:
    if difference.members is None:
        yield _SIGNS[difference.what].format(difference.record)
        return
    yield f"  {difference.record}"
    for path, (expected, actual) in difference.members.items():
        yield f"    - {path}: {_NOTHING if expected is None else expected}"
        yield f"    + {path}: {_NOTHING if actual is None else actual}"


def data_test_lines(sync: Sync, results: Sequence[DataTestResult]) -> Iterator[str]:
    """The data tests of a sync for people: rows by key, without values."""
    for result in results:
        line = f"{_word(result.status)}  {sync.name}: {result.name}"
        if result.status != "pass":
            line += f", {sync.where('data_tests', result.number)}: {count(result.failures, 'row')}"
            line += f" ({result.named})" if result.keys else ""
        yield line


def tests_summary(results: Sequence[UnitTestResult], data: Sequence[DataTestResult], seconds: float) -> str:
    """The results of all tests in one line."""
    statuses = Counter([*(result.status for result in results), *(result.status for result in data)])
    counted = ", ".join(f"{statuses[s]} {s}" for s in ("pass", "warn", "fail", "error") if statuses[s])
    parts = [count(len(results), "unit test")] * bool(results) + [count(len(data), "data test")] * bool(data)
    return f"{', '.join(parts)}: {counted} ({duration(seconds)})"


def unit_test_json(result: UnitTestResult) -> dict[str, Any]:
    """A unit test for programs."""
    test = result.test
    return {
        "test_type": "unit",
        "name": test.name,
        "sync": test.sync,
        "location": location_json(test.where()),
        "status": result.status,
        "differences": [
            {
                "what": difference.what,
                "record": difference.record,
                "members": {
                    path: {"expected": expected, "actual": actual}
                    for path, (expected, actual) in (difference.members or {}).items()
                },
            }
            for difference in result.differences
        ],
        "errors": [problem_json(problem) for problem in result.errors],
        "duration_s": round(result.duration_s, 3),
    }


def data_test_json(sync: Sync, result: DataTestResult) -> dict[str, Any]:
    """A data test for programs."""
    return {
        "test_type": "data",
        "name": result.name,
        "sync": sync.name,
        "location": location_json(sync.where("data_tests", result.number)),
        "status": result.status,
        "failures": result.failures,
        "keys": list(result.keys),
    }
