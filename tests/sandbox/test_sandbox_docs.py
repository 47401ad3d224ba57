"""The table of rules in docs/sandbox.md: its tests are there, its sources are known, and nothing is left out."""

import ast
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from docs.sandbox_rules import FILES, GUESS, RULES, SOURCES, Rule

TESTS = Path(__file__).parent
SANDBOX = TESTS.parents[1] / "reverse_etl" / "sandbox"
ALL_RULES = [rule for rules in RULES.values() for rule in rules]
WHOLLY_LISTED = ("track", "ecommerce", "people", "catalogs")  # these files are about Braze's rules alone
# A word in parentheses that is no source: "(a guess)" has two, these are shapes, parts and versions.
OTHER_WORDS = {
    *("name", "label", "requests", "seconds", "counter", "identifier", "family", "position", "id", "first", "last"),
    *("count", "v1", "v2", "marked", "asynchronous", "synchronous", "202"),
}


@cache
def claims_of(file: str) -> set[str]:
    tree = ast.parse((TESTS / f"test_sandbox_{file}.py").read_text(encoding="utf-8"))
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {name.removeprefix("test_") for name in found if name.startswith("test_")}


def sources_in(path: Path) -> set[str]:
    """What stands in parentheses in comments and docstrings, if it is one word or several with commas between."""
    with path.open("rb") as file:
        texts = [
            token.string
            for token in tokenize.tokenize(file.readline)
            if token.type == tokenize.COMMENT or token.string.startswith('"""')
        ]
    found = re.findall(r"\(([a-z0-9-]+(?:, [a-z0-9-]+)*)(?:[;:] [^)]*)?\)", "\n".join(texts))
    return {word for words in found for word in words.split(", ")} - OTHER_WORDS


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.tests.split()[0])
def test_rule_is_held_by_tests_that_are_there(rule: Rule):
    assert rule.tests.split()
    assert set(rule.tests.split()) <= set().union(*map(claims_of, FILES))


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.tests.split()[0])
def test_rule_has_a_known_source(rule: Rule):
    assert rule.sources.split()
    assert set(rule.sources.split()) <= {*SOURCES, GUESS}


@pytest.mark.parametrize("file", WHOLLY_LISTED)
def test_every_test_of_a_rule_is_in_the_table(file: str):
    assert claims_of(file) - {name for rule in ALL_RULES for name in rule.tests.split()} == set()


def test_every_source_is_used():
    assert set(SOURCES) - {key for rule in ALL_RULES for key in rule.sources.split()} == set()


@pytest.mark.parametrize("path", sorted(SANDBOX.rglob("*.py")), ids=lambda path: path.stem)
def test_source_beside_a_rule_in_the_code_is_known(path: Path):
    assert sources_in(path) - SOURCES.keys() == set()


def test_sources_are_found_in_comments_and_docstrings(tmp_path: Path):
    """A guard of the guard: the search above finds something."""
    path = tmp_path / "x.py"
    path.write_text('"""A rule (attr; a guess)."""\nMOST = 5  # (track, cdi)\nf(x)  # (a guess)\n')
    assert sources_in(path) == {"attr", "track", "cdi"}
    assert {"attr", "aoo"} <= sources_in(SANDBOX / "users" / "values.py")
