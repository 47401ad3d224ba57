"""Goes over sqlglot's tree, and replaces each node by what the tables say. What no table knows is refused.

Children come before their parents, so every rule sees arguments that are DuckDB's already. Whether a value is text or
a number decides many rules: `kinds.py` says it where the SQL does, and otherwise DuckDB decides when it binds the
model (`typeof()` is a constant then).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import sqlglot
from sqlglot import exp

from reverse_etl.errors import Location
from reverse_etl.project.dialects.kinds import TESTS, kind_of, with_kind
from reverse_etl.project.dialects.parse import parser_of, place_of
from reverse_etl.project.dialects.row import ANY, Row, Verdict
from reverse_etl.words import count

_TAKE_ANY = (exp.Anonymous, exp.Paren, exp.Cast, exp.TryCast, exp.Array, exp.Alias, exp.Select, exp.Lambda, exp.Tuple)


class Refusal(Exception):  # noqa: N818  # it becomes an error of the model
    """Part of a model that cannot be translated: what, and what to write instead."""

    def __init__(self, what: str, instead: str | None = None) -> None:
        super().__init__(what)
        self.what, self.instead = what, instead


@dataclass(frozen=True)
class Found:
    """A refusal, or a rewrite by the row `row`, at an offset of the text."""

    at: int | None
    what: str
    instead: str | None = None
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Family:
    """What is known of one dialect: its functions, and the classes of sqlglot's tree with what becomes of them.

    `nodes` maps the name of a class to None (the same in DuckDB), to a row that refuses it, or to a function that builds
    what it becomes; `whole` to one that sees the node before its children are rewritten.
    """

    name: str
    functions: Mapping[str, Row]
    nodes: Mapping[str, Any]
    whole: Mapping[str, Callable[["Translator", Any], exp.Expression]]
    unknown: Callable[[str], Row | None]


@dataclass
class Translator:
    """One model on its way."""

    family: Family
    dialect: str
    scheduled_time: datetime
    location: Callable[[int], Location]
    source: str
    refusals: list[Found] = field(default_factory=list)
    rewrites: list[Found] = field(default_factory=list)
    tries: int = 0  # how many TRY() are around the node
    place: int | None = None

    def translate(self, node: exp.Expression) -> exp.Expression:
        """What a node becomes; the node itself if it is the same, or refused: then `refusals` says why."""
        self.place = place_of(node)
        name = type(node).__name__
        try:
            if name in self.family.whole:
                made = self.family.whole[name](self, node)
                return made if name == "Anonymous" else self._told(node, name, made)
            self.children(node)
            self.place = place_of(node)
            if isinstance(node, exp.Anonymous):
                return self.function(node)
            return self._node(node, name)
        except Refusal as refusal:
            self.refusals.append(Found(place_of(node), refusal.what, refusal.instead))
            return node

    def children(self, node: exp.Expression) -> None:
        for child in list(node.iter_expressions()):
            made = self.translate(child)
            if made is not child:
                child.replace(made)

    def _node(self, node: exp.Expression, name: str) -> exp.Expression:
        if name not in self.family.nodes:
            raise Refusal(f"{self.dialect}: {_spelled(name)} is not translated", None)
        rule = self.family.nodes[name]
        if rule is None:
            return node
        if isinstance(rule, Row):
            raise Refusal(f"{self.dialect}: {rule.why}", rule.instead)
        return self._told(node, name, rule(self, node))

    def found(self, node: exp.Expression, what: str, instead: str | None = None) -> Found:
        return Found(place_of(node), f"{self.dialect}: {what}", instead)

    def function(self, node: exp.Anonymous) -> exp.Expression:
        """What a call becomes, after its arguments."""
        self.place = place_of(node)
        name = str(node.this).lower()
        row = self.family.functions.get(name) or self.family.unknown(name)
        if row is None:
            raise Refusal(f"{self.dialect}: function {name}() is not known here", None)
        return self.apply(row, name, node)

    def apply(self, row: Row, name: str, node: exp.Expression) -> exp.Expression:
        """What a call becomes by its row."""
        if row.verdict is Verdict.REFUSED:
            raise Refusal(f"{self.dialect}: {name}() cannot be translated: {row.why}", row.instead)
        args = [self._taken(arg) for arg in node.expressions]
        form = row.forms.get(len(args)) or row.forms.get(ANY)
        if form is None:
            counts = " or ".join(str(number) for number in sorted(row.forms))
            raise Refusal(
                f"{self.dialect}: {name}() with {count(len(args), 'argument')} is not translated",
                counts and f"it is translated with {counts} arguments",
            )
        if row.verdict is Verdict.SAME:
            node.set("this", form)
            return with_kind(node, row.kind)
        around = node.expressions[0] if args and isinstance(node.expressions[0], exp.Distinct | exp.Order) else None
        before = self._written(node)
        made = form(Call(self, name, args, node)) if callable(form) else self.fill(form, *args)
        if around is not None:
            made = _again_around(made, around, self.dialect, name)
        made = with_kind(made, row.kind)
        self.rewrites.append(Found(place_of(node), row.name, before=before, after=made.sql(dialect="duckdb")))
        return _in_place(made, node)

    def _taken(self, arg: exp.Expression) -> exp.Expression:
        if isinstance(arg, exp.Distinct) and len(arg.expressions) == 1:
            inner: exp.Expression = arg.expressions[0]
            return inner
        return arg.this if isinstance(arg, exp.Order) and arg.this else arg

    def _told(self, node: exp.Expression, name: str, made: exp.Expression) -> exp.Expression:
        if made is node:
            return node
        before = self._written(node)
        self.rewrites.append(Found(place_of(node), _spelled(name), before=before, after=made.sql(dialect="duckdb")))
        return _in_place(made, node)

    def _written(self, node: exp.Expression) -> str:
        """A call as it is in the text; other parts of a model as sqlglot writes them."""
        start = node.meta.get("start")
        if start is None:
            return node.sql(dialect=parser_of(self.dialect))
        depth = 0
        for end, character in enumerate(self.source[start:], start):
            depth += {"(": 1, ")": -1}.get(character, 0)
            if character == ")" and not depth:
                return self.source[start : end + 1]
        return str(node.this)

    def fill(self, template: str, *args: exp.Expression) -> exp.Expression:
        """A template of DuckDB's SQL with its arguments. `stop('why')` in it ends the run, and names the place."""
        tree = _parsed(template).copy()
        columns: list[Any] = list(tree.find_all(exp.Column))
        for column in columns:
            name = column.name
            if not column.table and name[0] == "a" and name[1:].isdigit():
                column = _put(column, args[int(name[1:])]) if column.parent else args[int(name[1:])].copy()
                tree = tree if column.parent else column
        for call in [call for call in tree.find_all(exp.Anonymous) if call.name.lower() == "stop"]:
            call.set("this", "error")
            call.expressions[0].set("this", self.said(call.expressions[0].name))
        return tree

    def said(self, what: str) -> str:
        """A reason with the place it is about, for errors that DuckDB raises."""
        if self.place is None:
            return f"{self.dialect}: {what}"
        return f"{self.location(self.place)}: {self.dialect}: {what}"

    def by_kind(self, value: exp.Expression, forms: Mapping[str, str], otherwise: str) -> exp.Expression:
        """The template for the kind of a value: chosen here if it is known, else by DuckDB, when it binds the model."""
        kind = kind_of(value)
        if kind:
            return self.fill(forms.get(kind, otherwise), value)
        whens = " ".join(f"WHEN {TESTS[key]} THEN {form}" for key, form in forms.items())
        return self.fill(f"CASE {whens} ELSE {otherwise} END", value)


@dataclass(frozen=True)
class Call:
    """A call of a function whose row builds the tree itself."""

    by: Translator
    name: str
    args: Sequence[exp.Expression]
    node: exp.Expression  # the call in its place in the tree

    def fill(self, template: str, *more: exp.Expression) -> exp.Expression:
        return self.by.fill(template, *self.args, *more)

    def text(self, number: int, what: str) -> str:
        """The literal text of an argument. Raises Refusal if it is anything else."""
        arg = self.args[number]
        if not (isinstance(arg, exp.Literal) and arg.is_string):
            raise Refusal(f"{self.by.dialect}: {self.name}(): the {what} must be a text, not an expression")
        return str(arg.this)

    def whole(self, number: int, what: str) -> int:
        """The literal integer of an argument. Raises Refusal if it is anything else."""
        found = integer(self.args[number])
        if found is None:
            raise Refusal(f"{self.by.dialect}: {self.name}(): the {what} must be an integer, not an expression")
        return found

    def refuse(self, what: str, instead: str | None = None) -> Refusal:
        return Refusal(f"{self.by.dialect}: {self.name}(): {what}", instead)


def integer(node: exp.Expression) -> int | None:
    """The value of an integer literal, also a negative one."""
    if isinstance(node, exp.Paren):
        return integer(node.this)
    if isinstance(node, exp.Neg):
        inner = integer(node.this)
        return None if inner is None else -inner
    is_number = isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit()
    return int(node.this) if is_number else None


def indexed(value: exp.Expression, index: exp.Expression) -> exp.Expression:
    """`value[index]` with DuckDB's own idea of the index: the first element is 1."""
    loose = _binds_loosely(value) or isinstance(value, exp.Array)
    return exp.Bracket(
        this=exp.Paren(this=value.copy()) if loose else value.copy(), expressions=[index.copy()], offset=1
    )


def text(value: str) -> exp.Expression:
    return exp.Literal.string(value)


def number(value: int) -> exp.Expression:
    return exp.Literal.number(value) if value >= 0 else exp.Neg(this=exp.Literal.number(-value))


def _put(column: exp.Expression, arg: exp.Expression) -> exp.Expression:
    """An argument in its place in a template, in parentheses where an operator is beside it."""
    new = arg.copy()
    if _binds_loosely(new) and not isinstance(column.parent, _TAKE_ANY):
        new = exp.Paren(this=new)
    column.replace(new)
    return new


def _in_place(made: exp.Expression, node: exp.Expression) -> exp.Expression:
    made.meta["at"] = place_of(node)
    if _binds_loosely(made) and not isinstance(node.parent, _TAKE_ANY):
        kind = kind_of(made)
        made = with_kind(exp.Paren(this=made), kind)
        made.meta["at"] = place_of(node)
    return made


def _binds_loosely(node: exp.Expression) -> bool:
    loose = (exp.Binary, exp.Unary, exp.Between, exp.In, exp.AtTimeZone, exp.Interval, exp.Lambda)
    return isinstance(node, loose) and not isinstance(node, exp.Paren | exp.Dot)


def _again_around(made: exp.Expression, around: exp.Expression, dialect: str, name: str) -> exp.Expression:
    """DISTINCT, or ORDER BY, around the first argument of what a call became."""
    if not isinstance(made, exp.Anonymous) or not made.expressions:
        raise Refusal(f"{dialect}: {name}() with DISTINCT or ORDER BY is not translated")
    first, *rest = made.expressions
    again = around.copy()
    if isinstance(around, exp.Distinct):
        again.set("expressions", [first])
        made.set("expressions", [again, *rest])
        return made
    *before, last = made.expressions  # where DuckDB wants the order
    again.set("this", last)
    made.set("expressions", [*before, again])
    return made


def _spelled(name: str) -> str:
    """`GroupingSets` as "grouping sets"."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


@cache
def _parsed(template: str) -> exp.Expression:
    tree: Any = sqlglot.parse_one(template, read=parser_of("duckdb"))
    return tree  # type: ignore[no-any-return]
