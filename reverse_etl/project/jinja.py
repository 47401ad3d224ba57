"""Jinja as dbt users know it: one sandboxed environment for syncs.yml and for models.

Here: rendering, and where in the file it failed. The caller decides which functions a template may call.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import CodeType
from typing import Any

from jinja2 import TemplateNotFound, TemplateSyntaxError, UndefinedError, nodes
from jinja2.exceptions import SecurityError
from jinja2.utils import missing

from reverse_etl.errors import Location, ProjectError, closest, nearest
from reverse_etl.network.proxies import names_proxy
from reverse_etl.project.environment import (
    MARK,
    MOST_CHARACTERS,
    NO_LIBRARY,
    PLAIN,
    Environment,
    Library,
    Returned,
    TemplateProblem,
    UnknownError,
)

_UNSET = object()
_Environments = tuple[Environment, Environment]  # of a text, and of the macros that it calls


def is_template(value: object) -> bool:
    """Whether `value` is a string that Jinja would change."""
    return isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#"))


def render(text: str, names: Mapping[str, Any], where: Location, library: Library = NO_LIBRARY) -> str:
    """`text` with its Jinja rendered.

    `names` are the functions and values that the text may use, besides the macros of `library`. An error is a
    ProjectError at the line of `where.file`, or of a file with macros, that caused it; a `where` with a line (a value
    in YAML) is reported unchanged.
    """
    return _render((PLAIN, PLAIN), text, names, where, library)


def source_lines(text: str, names: Mapping[str, Any], where: Location, library: Library = NO_LIBRARY) -> list[Location]:
    """For every line of the rendered text, the line of `text`, or of a macro's file, that it came from; 0 if unknown.

    The text is rendered a second time with marks in it, so call this only for an error message. A template that
    compares its own text (`{% set %}` blocks) may take another branch then: all zeros. So may one that trims what a
    macro returns: then its lines are those of the call.
    """
    plain = _render((PLAIN, PLAIN), text, names, where, library)
    for environments in library.every_way_to_mark:
        marked = _render(environments, text, names, where, library)
        if MARK.sub("", marked) == plain:
            return _lines_of(marked, where.file)
    return [Location(where.file)] * (plain.count("\n") + 1)


def _lines_of(marked: str, file: str) -> list[Location]:
    """Where each line is from: what the mark before its first letter says."""
    lines, current = list[Location](), Location(file, 1)
    for line in marked.split("\n"):
        begins = current
        for mark in MARK.finditer(line):
            current = Location(mark[1], int(mark[2]))
            if not MARK.sub("", line[: mark.start()]).strip():
                begins = current
        lines.append(begins)
    return lines


def _render(environments: _Environments, text: str, names: Mapping[str, Any], where: Location, library: Library) -> str:
    environment, place = library.inside(environments[0]), _Place(where, library)
    try:
        code = _compiled(environment, text, where.file)
        functions = library.callables(environments[1], names)
        template = environment.template_class.from_code(environment, code, environment.make_globals(functions))
        return _joined(template.generate())
    except TemplateSyntaxError as error:
        at = where if where.line else Location(error.filename or where.file, error.lineno)
        unclosed = (
            "write `}}` where the expression ends that `{{` begins" if error.message == "unexpected '}'" else None
        )
        raise ProjectError(f"Jinja: {error.message}", at, unclosed, code="P030") from error
    except TemplateProblem as error:
        raise ProjectError(*place.of(error, error.what), error.hint, code=error.code) from error
    except TemplateNotFound as error:
        what = f'Jinja: "{error.name}" cannot be included here'
        raise ProjectError(*place.of(error, what), "only models include files", code="P136") from error
    except UndefinedError as error:
        what, hint = _unknown(error, {**library.macros, **names})
        raise ProjectError(*place.of(error, what), hint, code="P031") from error
    except SecurityError as error:
        raise ProjectError(*place.of(error, f"Jinja: {error}"), code="P032") from error
    except Returned as error:
        what = "Jinja: return() outside of a macro"
        raise ProjectError(*place.of(error, what), "write {{ value }}", code="P033") from error
    except ProjectError:
        raise
    except Exception as error:
        # A template can raise anything: 1/0, a method called with the wrong arguments. It is the template's error.
        what, hint = _failed(error)
        raise ProjectError(*place.of(error, what), hint, code="P033") from error


@lru_cache(maxsize=1000)  # a command compiles a model several times: for its own sync, and for those beside it
def _compiled(environment: Environment, text: str, file: str) -> CodeType:
    return environment.compile(text, name=file, filename=file)


@dataclass(frozen=True)
class _Place:
    """A template that is being rendered, and the files that it may call."""

    where: Location
    library: Library

    def of(self, error: BaseException, what: str) -> tuple[str, Location]:
        """The message of an error, and the innermost line that it comes from; in a macro's file, the call, too."""
        if self.where.line:
            return what, self.where
        called, found, frame = self.where, self.where, error.__traceback__
        files = self.library.files()
        while frame is not None:
            file, line = frame.tb_frame.f_code.co_filename, frame.tb_lineno
            if file == self.where.file:
                called = found = Location(file, line)
            elif file in files:
                found = Location(file, line)
            frame = frame.tb_next
        return (what, found) if found.file == called.file else (f"{what} (called at {called})", found)


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
        (
            *("run_query", "statement", "load_result", "execute", "graph", "modules", "log", "print", "exceptions"),
            *("get_columns_in_relation", "get_relation", "quote", "create_schema", "type", "api"),
        ),
        "write it as SQL; or build a model with it in dbt, and ref() that model",
    ),
}


def _unknown(error: UndefinedError, names: Mapping[str, Any]) -> tuple[str, str | None]:
    """What a template uses that is not there, and what there is."""
    what = f"Jinja: {error.message}"
    if not isinstance(error, UnknownError):
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


def variables(values: Mapping[str, Any]) -> Callable[..., Any]:
    """`var('name')` or `var('name', default)`."""

    def var(name: str, default: Any = _UNSET) -> Any:
        if name in values:
            return values[name]
        if default is not _UNSET:
            return default
        remedy = f"""set it under "vars:" in syncs.yml, or pass --vars '{{"{name}": ...}}'"""
        close = closest(name, values)
        remedy = f'did you mean "{close}"? Otherwise, {remedy}' if close else remedy
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


@dataclass(frozen=True)
class VariablesRead:
    """The `names` of the environment variables that a template reads; `computes_names`: and others, as in
    `env_var('A' ~ 'B')`."""

    names: frozenset[str]
    computes_names: bool = False


def variables_read(template: str) -> VariablesRead:
    """What a template reads of the environment, by its own syntax: nothing is rendered."""
    try:
        parsed = PLAIN.parse(template)
    except TemplateSyntaxError:  # rendering it says so
        return VariablesRead(frozenset(_READ_VARIABLE.findall(template)))
    calls = [call for call in parsed.find_all(nodes.Call) if _is_env_var(call.node)]
    names = [call.args[0].value for call in calls if call.args and isinstance(call.args[0], nodes.Const)]
    return VariablesRead(frozenset(map(str, names)), len(names) < sum(map(_is_env_var, parsed.find_all(nodes.Name))))


def _is_env_var(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "env_var"


def to_set(names: Iterable[str]) -> str:
    """The hint for a value that is empty, as the environment variables are that it reads."""
    return f"set {' and '.join(sorted(names))} in the environment or in .env"


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
