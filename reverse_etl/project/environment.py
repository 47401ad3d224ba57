"""Jinja's sandbox as models have it: what dbt adds to Jinja, macros, files that templates import, marks of lines. Pure.

macros/money.sql ── {% macro cents_to_dollars(column) %} ──> cents_to_dollars('price') in every model and macro
{% import 'macros/money.sql' as money %}, {% include 'models/columns.sql' %}     files of the project, no others
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sized
from functools import cached_property, partial
from typing import Any, NoReturn

from jinja2 import FunctionLoader, StrictUndefined, TemplateSyntaxError, UndefinedError, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame, MacroRef
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing

from reverse_etl.errors import Location, ProjectError

MOST_CHARACTERS = 50_000_000  # of a rendered text
MACROS = "macros"  # the folder whose macros every model can call
MARK = re.compile("\ufdd0([^\ufdd1]*):(\\d+)\ufdd1")  # file and line


class TemplateProblem(Exception):  # noqa: N818  # it becomes an error of the file
    """Raised by a function that a template calls; `render` adds the line and turns it into a ProjectError."""

    def __init__(self, what: str, hint: str | None = None, *, code: str) -> None:
        super().__init__(what)
        self.what, self.hint, self.code = what, hint, code


class Returned(Exception):  # noqa: N818  # no error
    """What `return(value)` does in a macro, as in dbt: the macro ends, and its value is no text."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


def return_from_macro(value: Any = "") -> NoReturn:
    """`return(value)`."""
    raise Returned(value)


def dispatch_for(dialect: str) -> Callable[..., Any]:
    """`adapter.dispatch('name')`: the macro `duckdb__name`, of the warehouse, or else `default__name`."""

    @pass_context
    def dispatch(context: Context, name: str, macro_namespace: str | None = None) -> Any:
        names = [f"{kind}__{name}" for kind in (dialect, "default")]
        found = next((one for word in names if (one := context.resolve_or_missing(word)) is not missing), None)
        if found is None:
            what = f'adapter.dispatch(): there is no macro "{names[0]}", and no "{names[1]}"'
            raise TemplateProblem(what, "add one of them in macros/", code="P137")
        return found

    return dispatch


class _Generator(CodeGenerator):
    """Lets macros return values."""

    def macro_def(self, macro_ref: MacroRef, frame: Frame) -> None:
        self.write("environment.returning(")
        super().macro_def(macro_ref, frame)
        self.write(")")


class _LineMarks(Extension):
    """Writes file and line, between two characters that never occur in text, at the start of every line."""

    is_everywhere = False

    def filter_stream(self, stream: TokenStream) -> Any:
        first_of_all = True
        for token in stream:
            if token.type != "data":
                yield token
                continue
            first, *rest = str(token.value).split("\n")
            marked = [f"\ufdd0{stream.filename}:{token.lineno + n}\ufdd1{line}" for n, line in enumerate(rest, 1)]
            if self.is_everywhere and not first_of_all:
                first = f"\ufdd0{stream.filename}:{token.lineno}\ufdd1{first}"
            first_of_all = False
            yield Token(token.lineno, token.type, "\n".join([first, *marked]))


class _MarksEverywhere(_LineMarks):
    """The same, and where the text goes on behind an expression or a tag: a macro may have written lines of its own."""

    is_everywhere = True


class _BlocksOfDbt(Extension):
    """What dbt has in its macros/ besides macros, and retl does not need."""

    tags = {"test", "data_test", "materialization", "snapshot"}  # noqa: RUF012  # Jinja's own type

    def parse(self, parser: Parser) -> list[nodes.Node]:
        tag = next(parser.stream)
        if not (parser.filename or "").startswith(f"{MACROS}/"):
            parser.fail(f"{{% {tag.value} %}} is dbt's: a model of retl is a SELECT", tag.lineno)
        while parser.stream.current.type != "block_end":
            next(parser.stream)
        parser.parse_statements((f"name:end{tag.value}",), drop_needle=True)
        return []


class Environment(SandboxedEnvironment):
    """Jinja's sandbox bounds range(); this one also bounds what `*` and `**` make."""

    intercepted_binops = frozenset({"*", "**"})
    code_generator_class = _Generator

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            size = left.bit_length() * right
        elif operator == "*" and isinstance(left, int) and isinstance(right, int):
            size = left.bit_length() + right.bit_length()
        else:
            sizes = [len(value) if isinstance(value, Sized) else value for value in (left, right)]
            size = sizes[0] * sizes[1] if all(isinstance(one, int) for one in sizes) else 0
        if size > MOST_CHARACTERS:
            raise TemplateProblem(
                f"Jinja: the result of `{operator}` is too large", "use a smaller number", code="P092"
            )
        return super().call_binop(context, operator, left, right)

    def returning(self, macro: Macro) -> Macro:
        """The macro, which return() ends."""
        body = macro._func

        def run(*arguments: Any) -> Any:
            try:
                return body(*arguments)
            except Returned as returned:
                return returned.value

        macro._func = run
        return macro

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all((nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends)):
            if file_of(node) is None:
                what = f"{{% {type(node).__name__.removeprefix('From').lower()} %}} needs a file's name in quotes"
                raise TemplateSyntaxError(what, node.lineno, name, filename)
        return tree


def file_of(node: Any) -> str | None:
    """The file that a tag imports or includes; None if only Jinja knows."""
    value = node.template.value if isinstance(node.template, nodes.Const) else None
    return value if isinstance(value, str) else None


class UnknownError(UndefinedError):
    """Something that a template uses and that is not there: `name`, of the value `of` if it is not a name by itself."""

    def __init__(self, message: str | None, of: Any, name: Any) -> None:
        super().__init__(message)
        self.of, self.name = of, name


class _Unknown(StrictUndefined):
    """As StrictUndefined; its error can be asked for what is not there."""

    __slots__ = ()

    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = UndefinedError
    ) -> None:
        is_plain = exc is UndefinedError  # the sandbox has another one, for what is unsafe
        super().__init__(hint, obj, name, partial(UnknownError, of=obj, name=name) if is_plain else exc)  # type: ignore[arg-type]


def _environment(*more: type[Extension]) -> Environment:
    extensions: Collection[Any] = ("jinja2.ext.do", "jinja2.ext.loopcontrols", _BlocksOfDbt, *more)
    return Environment(undefined=_Unknown, keep_trailing_newline=True, extensions=extensions, loader=_NOTHING)


_NOTHING = FunctionLoader(lambda name: None)
PLAIN = _environment()
MARKED = _environment(_LineMarks)
_ALL_MARKED = _environment(_MarksEverywhere)


class Library:
    """What templates of a project share: its macros, by name, with the file of each; and files that they include.

    `read` is the text of a file of the project; it raises TemplateProblem for any other.
    """

    def __init__(self, macros: Mapping[str, str], read: Callable[[str], str]) -> None:
        self.macros, self._read = macros, read
        self._texts = dict[str, str]()
        self._environments = dict[int, Environment]()

    def text(self, file: str) -> str:
        if file not in self._texts:
            self._texts[file] = self._read(file)
        return self._texts[file]

    def files(self) -> Collection[str]:
        """The files that have been read so far."""
        return self._texts.keys()

    def inside(self, environment: Environment) -> Environment:
        """The environment with the files of this library."""
        found = self._environments.get(id(environment))
        if found is None:
            loader = FunctionLoader(lambda file: (self.text(file), file, None))
            found = self._environments[id(environment)] = environment.overlay(loader=loader, cache_size=1000)
        return found

    def callables(self, environment: Environment, names: Mapping[str, Any]) -> dict[str, Any]:
        """`names`, and all macros as functions that use these names and one another. A file runs when it is needed."""
        found, modules = dict(names), dict[str, Any]()

        def function(file: str, name: str) -> Callable[..., Any]:
            def macro(*args: Any, **kwargs: Any) -> Any:  # no partial(): a template could read what is in it
                if file not in modules:
                    modules[file] = self.inside(environment).get_template(file).make_module(found)
                return getattr(modules[file], name)(*args, **kwargs)

            return macro

        found.update({name: function(file, name) for name, file in self.macros.items()})
        return found

    @cached_property
    def every_way_to_mark(self) -> tuple[tuple[Environment, Environment], ...]:
        """Environments of a text and of its macros that mark lines, the first of them more of them."""
        return ((_ALL_MARKED, _ALL_MARKED), (MARKED, PLAIN)) if self.macros else ((MARKED, MARKED),)


def _no_file(file: str) -> NoReturn:
    raise TemplateProblem(f'Jinja: "{file}" cannot be included here', "models can include files", code="P136")


NO_LIBRARY = Library({}, _no_file)
_NAMED = re.compile(r"\{%[-+]?\s*macro\s+(\w+)")
_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)


def macros_in(texts: Mapping[str, str], taken: Collection[str]) -> dict[str, str]:
    """The file of each macro, by its name. Raises ProjectError for a name that is there twice, or `taken`."""
    found = dict[str, Location]()
    for name, where in _named(texts):
        if name in taken:
            what = f'macro "{name}" has the name of a function of retl'
            raise ProjectError(what, where, "rename it", code="P014")
        if name in found:
            what = f'duplicate macro "{name}", first defined at {found[name]}'
            raise ProjectError(what, where, "rename one of them, or remove it", code="P014")
        found[name] = where
    return {name: where.file for name, where in found.items()}


def _named(texts: Mapping[str, str]) -> Iterator[tuple[str, Location]]:
    for file, text in texts.items():
        bare = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n"), text) if "{#" in text else text
        for macro in _NAMED.finditer(bare):
            yield macro[1], Location(file, bare.count("\n", 0, macro.start()) + 1)
