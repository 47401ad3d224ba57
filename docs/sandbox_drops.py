"""The silent drops of the sandbox, each with what becomes of it in a sync with `--canary`.

`docs/generate.py` writes them into docs/verify.md; tests/runs/test_silent_drops_of_canaries.py compares them with the
sandbox's code, and proves each.
"""

import ast
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

SANDBOX = Path(__file__).parents[1] / "reverse_etl" / "sandbox"


class Fate(Enum):
    """What becomes of it."""

    READ = "the canary reads it back, and stops the run"
    PREVENTED = "`retl` does not send it"
    NOT_EXPORTED = "Braze exports no properties of events: `--canary` is an error"
    OF_ITEMS = "`--canary` is an error for items of catalogs: `retl verify` reads them"


DROPS: Mapping[Fate, tuple[str, ...]] = {
    Fate.READ: (
        "user does not exist, and is not created",
        "{} stored as {}, the attribute's type",
        "type {}, but the attribute's type is {}",
        "not a country that can be mapped: stored as null",
        "off the map",
        "increment of something other than an integer",
        "add or remove on something other than an array",
        "array operator on something other than an array of objects",
        "more than {} elements in the array: the oldest were dropped",
        "more than {} KB",
        "more than {} levels",
        "stored under its name without the spaces around it",
        "no user has this external_id",
        "another user has this alias",
        "the user has another alias with this label",
        "no user has {}",
        "the user has another external_id",
        "both users have an alias with one label",
        "more than one user is left: none is deleted",
        "no user has this alias",
        "another user has the new alias",
        "one of the identifiers means no user, or more than one",
    ),
    Fate.PREVENTED: (
        "not a string",
        "not a boolean",
        "not one of M, F, O, N, P",
        "not a date in the form YYYY-MM-DD",
        "not a language code on Braze's list",
        "not a time zone",
        "not a date-time",
        "not an object of {}",
        "string longer than {} characters",
        "part of an alias: use user_alias",
        "name is empty or longer than {} characters",
        "increment by something other than an integer",
        "add or remove of something other than an array",
        "add or remove of an object",
        "array operator without an array of objects",
        "array operator without $identifier_key and $identifier_value",
        "$update without $new_object",
        "null in a nested value",
        "string longer than {} characters in a nested value",
        "invalid $time in a nested value",
        "key has a space, a dot, a dollar sign or more than 255 characters",
    ),
    Fate.NOT_EXPORTED: (
        "property name is empty, too long, or starts with a dollar sign",
        "property has a string longer than {} characters, an invalid $time, or {} levels",
        "more than {} properties",
    ),
    Fate.OF_ITEMS: (
        "the item already exists",
        "no such item",
        "an item that does not fit its catalog",
    ),
}

# Where the reason of a drop is: the position of the argument, by the function that is called with it.
_REASONS = {"DroppedError": 0, "lose": 0, "drop": 3, "_drop": 1}
# Arguments that are no text: the functions whose results they are, other reasons, and what is in a table.
_RETURNED = ("_attach_alias", "_identify")
_NO_TEXT = {"reason": (), "dropped.reason": (), "MESSAGES[unfit.id]": ("an item that does not fit its catalog",)}


def drops_in_code() -> set[str]:
    """The reasons of all silent drops in the sandbox's code, with {} for what differs. Raises ValueError for one that
    cannot be found in this way."""
    return {reason for path in SANDBOX.rglob("*.py") for reason in _drops_in(ast.parse(path.read_text("utf-8")))}


def _drops_in(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in _REASONS and len(node.args) > _REASONS[name]:
                yield from _texts(node.args[_REASONS[name]])
        elif isinstance(node, ast.FunctionDef) and node.name in _RETURNED:
            returned = (one.value for one in ast.walk(node) if isinstance(one, ast.Return) and one.value)
            yield from (text for value in returned for text in _texts(value, is_optional=True))
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "reason":
            yield from _texts(node.value)


def _texts(node: ast.expr, is_optional: bool = False) -> Iterator[str]:
    if isinstance(node, ast.Constant) and (isinstance(node.value, str) or (is_optional and node.value is None)):
        yield from [node.value] if node.value else []
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from (text for one in (node.body, node.orelse) for text in _texts(one, is_optional))
    elif ast.unparse(node) in _NO_TEXT:
        yield from _NO_TEXT[ast.unparse(node)]
    else:
        raise ValueError(f"line {node.lineno}: the reason of a silent drop is no text")
