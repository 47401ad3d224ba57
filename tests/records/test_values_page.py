"""The table of values in docs/values.md: every rule has tests, and they are there, with the cases that it names."""

import ast
from functools import cache
from pathlib import Path

import pytest

from docs.values_rules import OUTCOMES, ROWS, Row
from tests.records import test_left_out, test_rejected_values

TESTS = Path(__file__).parents[1]
ALL_ROWS = [row for rows in ROWS.values() for row in rows]
CASES = {
    "row_that_braze_would_reject_is_invalid": set(test_rejected_values.REJECTED),
    "row_that_braze_accepts_is_sent": set(test_rejected_values.TAKEN),
    "value_that_braze_would_drop_is_left_out": set(test_left_out.CASES),
    "value_that_braze_keeps_is_sent": set(test_left_out.KEPT),
    "identifiers_have_the_same_rules_in_every_mode": {"subscription_status_set", "users_delete", "events"},
}


@cache
def claims() -> set[str]:
    files = [
        *(TESTS / "records").glob("test_*.py"),
        *(TESTS / "runs").glob("test_*.py"),
        *(TESTS / "state").glob("test_*.py"),
    ]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    return {
        node.name.removeprefix("test_") for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: row.rule)
def test_rule_of_values_is_held_by_tests_that_are_there(row: Row):
    assert row.tests
    for test in row.tests:
        name, _, case = test.removesuffix("]").partition("[") if test.endswith("]") else (test, "", "")
        assert name in claims()
        assert not case or case in CASES[name]


@pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: row.rule)
def test_rule_of_values_has_a_page_and_an_outcome(row: Row):
    assert (bool(row.page), row.outcome in OUTCOMES) == (True, True)


def test_every_value_that_makes_braze_reject_an_object_is_in_the_table():
    """One row for each of the errors that the page of /users/track lists."""
    assert len(ROWS["What makes Braze reject an object"]) == 16 + 1


def test_every_case_of_a_value_that_is_rejected_or_dropped_is_of_a_column_in_the_table():
    named = {test for row in ALL_ROWS for test in row.tests}
    for name in ("row_that_braze_would_reject_is_invalid", "value_that_braze_would_drop_is_left_out"):
        assert any(test.startswith(name) for test in named)
    columns = {case.rpartition(" ")[0] for case in CASES["value_that_braze_would_drop_is_left_out"]}
    listed = {test.partition("[")[2].rpartition(" ")[0] for test in named if test.startswith("value_that_braze_would")}
    assert columns - listed == {"phone"}  # its length: in the row about any text
