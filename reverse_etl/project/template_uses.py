"""What templates use, without running them: names, calls, files, and so macros. In any branch, taken or not. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from jinja2 import TemplateSyntaxError, nodes

from reverse_etl.project.environment import MACROS, PLAIN, Library, TemplateProblem, file_of

Arguments = tuple[str | None, ...]  # of a call, without names: strings, or None for what is worked out
_DISPATCHED = ("default", "duckdb", "postgres", "spark")  # what adapter.dispatch('x') may call: default__x


class Call(NamedTuple):
    """A call of a function by its name, with the names of its other arguments, and the line that it is in."""

    function: str
    arguments: Arguments
    names: tuple[str, ...]
    line: int


@dataclass(frozen=True)
class Uses:
    """What a template uses, or one macro of it."""

    names: frozenset[str] = frozenset()
    calls: tuple[Call, ...] = ()
    files: frozenset[str] = frozenset()
    is_readable: bool = True


@dataclass(frozen=True)
class Reading:
    """What a template uses outside its macros, and in each of them."""

    top: Uses
    macros: Mapping[str, Uses]


@dataclass(frozen=True)
class Needed:
    """What a model uses, in its macros and the files that it includes, too; `files` are these, with their texts."""

    uses: tuple[Uses, ...]
    files: Mapping[str, str]

    def calls(self, function: str) -> list[Arguments]:
        """The arguments that a function is called with."""
        return [call.arguments for one in self.uses for call in one.calls if call.function == function]

    def words(self, function: str) -> tuple[frozenset[str], bool]:
        """The strings that a function is called with first, as in ref('customers').

        Also whether there may be others: an argument is an expression, or a text is not valid Jinja.
        """
        first = [arguments[0] if arguments else None for arguments in self.calls(function)]
        worked_out = None in first or not all(one.is_readable for one in self.uses)
        return frozenset(word for word in first if word is not None), worked_out


def needed(text: str, library: Library) -> Needed:
    """What a model needs of its project."""
    found, files = list[Uses](), dict[str, str]()
    done, todo = set[tuple[str, str | None]](), _all(reading(text))
    while todo:
        one = todo.pop()
        found.append(one)
        wanted: list[tuple[str, str | None]] = [(file, None) for file in one.files]
        wanted += [(library.macros[name], name) for name in _macros(one, library)]
        for file, macro in wanted:
            if (file, macro) in done:
                continue
            done.add((file, macro))
            try:
                files[file] = library.text(file)
            except TemplateProblem as problem:  # reported when the model is compiled; once it is mended, it has changed
                files[file] = problem.what
                continue
            read = reading(files[file], file)
            todo += _all(read) if macro is None else [read.top, read.macros.get(macro, Uses())]
    return Needed(tuple(found), files)


def variables_of(text: str) -> tuple[frozenset[str], bool]:
    """The variables that a template reads, in its own text, and whether it may read others; of one that is not valid
    Jinja, what looks like it."""
    uses = _all(reading(text))
    if not all(one.is_readable for one in uses):
        return variables_in(text)
    return Needed(tuple(uses), {}).words("var")


def variables_in(text: str) -> tuple[frozenset[str], bool]:
    """The same of a text that has templates in it, as YAML has; it writes their quotes twice, or with a backslash."""
    return frozenset(_READS_VARIABLE.findall(text)), bool(_WORKS_OUT_VARIABLE.search(text))


_READS_VARIABLE = re.compile(r"""\bvar\(\s*[\\"']+([^\\"']+)[\\"']""")
_WORKS_OUT_VARIABLE = re.compile(r"""\bvar\(\s*(?:[^\\"'\s)]|[\\"']+[^\\"']*[\\"']+\s*[^\s,)\\"'])""")


def _macros(uses: Uses, library: Library) -> Iterable[str]:
    return library.macros if "*" in uses.names else uses.names & library.macros.keys()


def _all(read: Reading) -> list[Uses]:
    return [read.top, *read.macros.values()]


@lru_cache(maxsize=4096)
def reading(text: str, file: str = "") -> Reading:
    """What a template uses. One that is not valid Jinja is reported when it is compiled."""
    if "{" not in text:
        return Reading(Uses(), {})
    try:
        body = PLAIN._parse(text, file, file or f"{MACROS}/").body
    except (TemplateSyntaxError, RecursionError, ValueError):  # nested too deep; a number of 6,000 digits
        return Reading(Uses(is_readable=False), {})
    macros = {node.name: _uses([node]) for node in body if isinstance(node, nodes.Macro)}
    return Reading(_uses(node for node in body if not isinstance(node, nodes.Macro)), macros)


def _uses(of: Iterable[nodes.Node]) -> Uses:
    names, calls, files = set[str](), list[Call](), set[str]()
    for node in (inner for outer in of for inner in _every(outer)):
        if isinstance(node, nodes.Name):
            names.add(node.name)
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name):
            calls.append(Call(node.node.name, tuple(map(_string, node.args)), _names(node), node.lineno))
        elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr) and node.node.attr == "dispatch":
            word = _string(node.args[0]) if node.args else None
            names |= {"*"} if word is None else {f"{kind}__{word}" for kind in _DISPATCHED}
        elif isinstance(node, nodes.Import | nodes.FromImport | nodes.Include | nodes.Extends):
            files.add(file_of(node) or "")
    return Uses(frozenset(names), tuple(calls), frozenset(files))


def _every(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    yield from node.find_all(nodes.Node)


def _names(call: nodes.Call) -> tuple[str, ...]:
    """The names of arguments: of config(tags='x'), or config({'tags': 'x'})."""
    pairs = [pair.key for one in call.args if isinstance(one, nodes.Dict) for pair in one.items]
    return (*(one.key for one in call.kwargs), *(word for key in pairs if (word := _string(key)) is not None))


def _string(node: nodes.Expr) -> str | None:
    return node.value if isinstance(node, nodes.Const) and isinstance(node.value, str) else None
