"""sqlglot's parsers, without its ideas of functions: every call stays a name with arguments and a place in the text.

What a function means is said by our table alone. Positions: `place_of(node)` is an offset in the text, or None.
"""

from functools import cache
from typing import Any

from sqlglot import Dialect, exp
from sqlglot.dialects.dialect import Dialects

# Not functions but syntax: CAST(x AS t), EXTRACT(part FROM x) ...
_SYNTAX = {"CAST", "TRY_CAST", "EXTRACT", "TRIM", "POSITION"}
_PARENTS = {"athena": "trino", "presto": "trino", "redshift": "postgres"}  # their own parsers hand on to another


@cache
def parser_of(name: str) -> type[Dialect]:
    """A dialect that reads as `name` does, but leaves functions as they are written."""
    base: Any = Dialect.get_or_raise(_PARENTS.get(name, name)).__class__
    parser: Any = base.parser_class if hasattr(base, "parser_class") else base.Parser
    kept = {key: value for key, value in parser.FUNCTION_PARSERS.items() if key in _SYNTAX}
    arrays = {"ARRAY": lambda args: exp.Array(expressions=args)}  # else array(1, 2)[0] loses its elements
    rules: dict[str, Any] = {"FUNCTIONS": arrays, "FUNCTION_PARSERS": kept}
    if name == "hive":  # which cuts a text that is cast to varchar(2); sqlglot reads it as a text of any length
        rules["_parse_types"] = lambda self, *_, **more: parser._parse_types(self, **{**more, "schema": True})
    own = type("Parser", (parser,), rules)
    return type(f"Plain{name.title()}", (base,), {"Parser": own})


def known_to_sqlglot(name: str) -> bool:
    return name in {dialect.value for dialect in Dialects}


def mark_places(tree: exp.Expression) -> None:
    """Write into each node where it begins in the text: `place_of` reads it."""

    def visit(node: exp.Expression, above: int | None) -> int | None:
        own: int | None = node.meta.get("start")
        below = [visit(child, None) for child in node.iter_expressions()]
        found = [place for place in (own, *below) if place is not None]
        node.meta["at"] = min(found) if found else above
        return node.meta["at"] if found else None

    def hand_down(node: exp.Expression, above: int | None) -> None:
        if node.meta["at"] is None:
            node.meta["at"] = above
        for child in node.iter_expressions():
            hand_down(child, node.meta["at"])

    visit(tree, None)
    hand_down(tree, None)


def place_of(node: exp.Expression) -> int | None:
    """The offset in the text at which a node begins."""
    at: int | None = node.meta.get("at")
    return at
