"""How retl speaks: what stands in messages, hints, help texts and descriptions, and what never does."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from reverse_etl.words import count

PACKAGE = Path(__file__).parent.parent / "reverse_etl"
LONGEST = 120
# Words that were here once and said less than the field's own: "is not a valid", "is", "cycle", "release", "hint", ...
NEVER = (
    r"(?<!there )\bis no (?!longer)|\bhere again\b|\bin a circle\b|\blets? go\b|\bway out\b|\bmend"
    r"|\bin silence\b|\bat work\b|\bgoe?s? out\b|\bgoes with\b|\bhas no use\b|\btakes? part\b|\bbecame of\b|\bcame of\b"
    r"|\bby hand\b|\bof one name\b|\banew\b|\bonce more\b|\bstands for\b|\bfold(s|ed)? in\b|\b(put|moved|kept) aside\b"
    r"|\bwhole number\b|\bremembered\b|\bmaybe\b|\bmistakes?\b|\bfates\b|\bstand-in\b|\bseeded\b|\(s\)"
)
A_COUNT = r"\{[^{}]*\} (rows|requests|keys|syncs|models|records|columns|files|tests|errors|users|seconds)\b(?!/)"
# The sandbox's requests are Braze's texts; SQL and CSS are no speech.
IS_CODE = re.compile(
    r"\b(SELECT|CASE|INSERT|UPDATE|DELETE|CREATE|WHERE|WHEN|JOIN|FROM|ALTER|DROP)\b|default-src|^\(\?P"
)


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """All of them, read when a test asks: every worker imports this."""
    return tuple(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    """(file:line, text) of each string in the package that has words in it, a value put into it as {expression}."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.is_relative_to(PACKAGE / "sandbox"):
            continue
        tree = ast.parse(path.read_text())
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        inside |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            text = None if id(node) in inside else text_of(node)
            if text and " " in text.strip() and "\n" not in text and not IS_CODE.search(text):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text  # type: ignore[attr-defined]


def text_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    if isinstance(node, ast.JoinedStr):
        return "".join(str(text_of(part)) for part in node.values)
    return None


def test_texts_are_found():
    assert len(texts()) > 500
    assert any("is already running: {holder}" in text or "is already running" in text for _, text in texts())


@pytest.mark.parametrize("pattern", [NEVER, A_COUNT], ids=["former words", "plurals without count()"])
def test_no_text_has(pattern: str):
    assert [(where, text) for where, text in texts() if re.search(pattern, text)] == []


def test_no_text_is_longer_than_a_line():
    assert [(where, text) for where, text in texts() if len(text) > LONGEST] == []


@pytest.mark.parametrize(("n", "words"), [(0, "0 keys"), (1, "1 key"), (2, "2 keys"), (1234, "1,234 keys")])
def test_plurals_are_right(n: int, words: str):
    assert count(n, "key") == words
