"""Jinja as dbt users know it: one sandboxed environment for syncs.yml and for models.

Here: rendering, and where in the file it failed. The caller decides which functions a template may call.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sized
from datetime import datetime
from functools import partial
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream
from jinja2.sandbox import SandboxedEnvironment
from jinja2.utils import missing

from reverse_etl.errors import Location, ProjectError, nearest
from reverse_etl.network.proxies import names_proxy

MOST_CHARACTERS = 50_000_000  # of a rendered text
_UNSET = object()
_MARK = re.compile("\ufdd0(\\d+)\ufdd1")


class TemplateProblem(Exception):  # noqa: N818  # it becomes an error of the file
    """Raised by a function that a template calls; `render` adds the line and turns it into a ProjectError."""

    def __init__(self, what: str, hint: str | None = None, *, code: str) -> None:
        super().__init__(what)
        self.what, self.hint, self.code = what, hint, code


class _LineMarks(Extension):
    """Writes the source line's number, between two characters that never occur in text, at the start of every line."""

    def filter_stream(self, stream: TokenStream) -> Any:
        for token in stream:
            if token.type != "data":
                yield token
                continue
            first, *rest = str(token.value).split("\n")
            marked = [f"\ufdd0{token.lineno + n}\ufdd1{line}" for n, line in enumerate(rest, 1)]
            yield Token(token.lineno, token.type, "\n".join([first, *marked]))


class _Environment(SandboxedEnvironment):
    """Jinja's sandbox bounds range(); this one also bounds what `*` and `**` make."""

    intercepted_binops = frozenset({"*", "**"})

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


class _UnknownError(UndefinedError):
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
        super().__init__(hint, obj, name, partial(_UnknownError, of=obj, name=name) if is_plain else exc)  # type: ignore[arg-type]


_PLAIN = _Environment(undefined=_Unknown, keep_trailing_newline=True)
_MARKED = _Environment(undefined=_Unknown, keep_trailing_newline=True, extensions=[_LineMarks])


def is_template(value: object) -> bool:
    """Whether `value` is a string that Jinja would change."""
    return isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))


def render(text: str, names: Mapping[str, Any], where: Location) -> str:
    """`text` with its Jinja rendered.

    `names` are the functions and values that the text may use. An error is a ProjectError at the line of `where.file`
    that caused it; a `where` with a line (a value in YAML) is reported unchanged.
    """
    return _render(_PLAIN, text, names, where)


def words_called_with(text: str, function: str) -> tuple[frozenset[str], bool]:
    """The string literals that `function` is called with anywhere in `text`, as in ref('customers'), in any branch.

    Also whether there may be others: an argument is an expression, or the text is not valid Jinja.
    """
    try:
        calls = [call for call in _PLAIN.parse(text).find_all(nodes.Call) if _called(call) == function]
    except (TemplateSyntaxError, RecursionError, ValueError):  # nested too deep; a number of 6,000 digits
        return frozenset(), True
    words = [_first_word(call) for call in calls]
    return frozenset(word for word in words if word is not None), None in words


def _called(call: nodes.Call) -> str | None:
    return call.node.name if isinstance(call.node, nodes.Name) else None


def _first_word(call: nodes.Call) -> str | None:
    first = call.args[0] if call.args else None
    return first.value if isinstance(first, nodes.Const) and isinstance(first.value, str) else None


def source_lines(text: str, names: Mapping[str, Any], where: Location) -> list[int]:
    """For every line of the rendered text, the line of `text` that it came from; 0 where that is unknown.

    The text is rendered a second time with marks in it, so call this only for an error message. A template that
    compares its own text (`{% set %}` blocks) may take another branch then: all zeros.
    """
    marked = _render(_MARKED, text, names, where)
    plain = _render(_PLAIN, text, names, where)
    if _MARK.sub("", marked) != plain:
        return [0] * (plain.count("\n") + 1)
    lines, current = [], 1
    for line in marked.split("\n"):
        marks = _MARK.findall(line)
        current = int(marks[-1]) if marks else current
        lines.append(current)
    return lines


def _render(environment: SandboxedEnvironment, text: str, names: Mapping[str, Any], where: Location) -> str:
    try:
        code = environment.compile(text, name=where.file, filename=where.file)
        template = environment.template_class.from_code(environment, code, environment.make_globals(dict(names)))
        return _joined(template.generate())
    except TemplateSyntaxError as error:
        raise ProjectError(f"Jinja: {error.message}", _at(where, error.lineno), code="P030") from error
    except TemplateProblem as error:
        raise ProjectError(error.what, _at(where, _line_of(error, where.file)), error.hint, error.code) from error
    except UndefinedError as error:
        what, hint = _unknown(error, names)
        raise ProjectError(what, _at(where, _line_of(error, where.file)), hint, code="P031") from error
    except SecurityError as error:
        raise ProjectError(f"Jinja: {error}", _at(where, _line_of(error, where.file)), code="P032") from error
    except ProjectError:
        raise
    except Exception as error:
        # A template can raise anything: 1/0, a method called with the wrong arguments. It is the template's error.
        what, hint = _failed(error)
        raise ProjectError(what, _at(where, _line_of(error, where.file)), hint, code="P033") from error


# How the functions of a template are called.
_CALLS = {
    "ref": "ref('model')",
    "source": "source('name', 'table')",
    "var": "var('name'), or var('name', default)",
    "env_var": "env_var('NAME'), or env_var('NAME', 'default')",
    "config": "config(dialect='hive')",
    "is_incremental": "is_incremental()",
    "cursor": "cursor()",
}
# What dbt has and retl has not, and what takes its place.
_OF_DBT = {
    "this": "retl writes no table: an incremental model reads from cursor()",
    **dict.fromkeys(
        ("schema", "database", "target_schema"), "write the name in the model, or use a variable: var('schema')"
    ),
    **dict.fromkeys(
        ("adapter", "run_query", "statement", "load_result", "execute", "dbt", "dbt_utils", "graph", "modules", "log"),
        "write it as SQL; or build a model with it in dbt, and ref() that model",
    ),
}


def _unknown(error: UndefinedError, names: Mapping[str, Any]) -> tuple[str, str | None]:
    """What a template uses that is not there, and what there is."""
    what = f"Jinja: {error.message}"
    if not isinstance(error, _UnknownError):
        return what, None
    name = str(error.name)
    if error.of is missing:
        return what, _OF_DBT.get(name) or nearest(name, names)
    of = next((other for other, value in names.items() if value is error.of), None)
    if isinstance(error.of, datetime):
        return f'Jinja: a time has no "{name}"', "format it: scheduled_time.strftime('%Y-%m-%d')"
    if of in _CALLS:
        return f'Jinja: {of} has no "{name}"', f"call it: {_CALLS[of]}"
    if of and isinstance(error.of, Mapping):
        there = ", ".join(f"{of}.{key}" for key in error.of)
        return f'Jinja: {of} has no "{name}"', _OF_DBT.get(name) or f"one of: {there}"
    return f'Jinja: there is no "{name}" in this value', None


def _failed(error: Exception) -> tuple[str, str | None]:
    """What went wrong in an expression of a template, without Python's names for it."""
    said = str(error)
    function = re.search(r"(\w+)\(\) (?:missing|takes|got)", said)
    if function and function[1] in _CALLS:
        return f"Jinja: {function[1]}() is called with the wrong arguments", f"call it as {_CALLS[function[1]]}"
    return f"Jinja: an expression fails: {said}", None


def _joined(pieces: Iterable[str]) -> str:
    """The rendered text. Raises TemplateProblem if it is too long, or has a half of a character in it."""
    found, length = [], 0
    for piece in pieces:
        found.append(piece)
        length += len(piece)
        if length > MOST_CHARACTERS:
            what = f"Jinja: the rendered text has more than {MOST_CHARACTERS:,} characters"
            raise TemplateProblem(what, "write a smaller loop, or a table in SQL", code="P092")
    text = "".join(found)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = "Jinja: the rendered text is not Unicode"
        raise TemplateProblem(
            what,
            "look for \\ud800 to \\udfff in it, and for variables that are not UTF-8",
            code="P092",
        ) from error
    return text


def _at(where: Location, line: int) -> Location:
    return where if where.line else Location(where.file, line)


def _line_of(error: BaseException, file: str) -> int:
    line, frame = 0, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == file:
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def variables(values: Mapping[str, Any]) -> Callable[..., Any]:
    """`var('name')` or `var('name', default)`."""

    def var(name: str, default: Any = _UNSET) -> Any:
        if name in values:
            return values[name]
        if default is not _UNSET:
            return default
        remedy = f"""set it under "vars:" in syncs.yml, or pass --vars '{{"{name}": ...}}'"""
        raise TemplateProblem(f'variable "{name}" has no value', remedy, code="P034")

    return var


# Credentials of the stores that `state.path` may name, and the key of saved plans.
_CREDENTIALS = re.compile(
    r"RETL_PLAN_KEY|AWS_(SECRET_ACCESS_KEY|SESSION_TOKEN)|GOOGLE_SERVICE_ACCOUNT_KEY"
    r"|AZURE_(STORAGE_)?(ACCOUNT_KEY|SAS_KEY|SAS_TOKEN|CLIENT_SECRET)"
)
_READ_VARIABLE = re.compile(r"env_var\(\s*[\"']([^\"']+)[\"']")


def is_credential(name: str) -> bool:
    """Whether an environment variable is a secret of retl's own: of a store or of saved plans, or names a proxy."""
    return _CREDENTIALS.fullmatch(name) is not None or names_proxy(name)


def variables_read(template: str) -> frozenset[str]:
    """The names of the environment variables that a template reads."""
    return frozenset(_READ_VARIABLE.findall(template))


def environment_variables(
    environ: Mapping[str, str], secrets: Collection[str] = (), *, is_for_secret: bool = False
) -> Callable[..., str]:
    """`env_var('NAME')` or `env_var('NAME', 'default')`; an error for `secrets` and the credentials of stores.

    What a template reads is written to files and shown in messages; a secret is in neither. `is_for_secret`: what is
    rendered is a secret, which no hint asks to write down.
    """

    def env_var(name: str, default: Any = _UNSET) -> str:
        if name in secrets or is_credential(name):
            what = f'environment variable "{name}" is a secret: only "api_key" can read the one of an API key'
            raise TemplateProblem(what, "use a variable that is not a secret", code="P036")
        if name in environ:
            return environ[name]
        if default is not _UNSET:
            return str(default)
        remedy = f"set {name} in the environment or in .env"
        if not is_for_secret:
            remedy += f", or add a default: env_var('{name}', '...')"
        raise TemplateProblem(f'environment variable "{name}" is not set', remedy, code="P035")

    return env_var
