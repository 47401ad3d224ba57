"""${...} of digdag in a query, as the Jinja that means the same. Pure.

In digdag it is JavaScript with moment.js (digdag-docs, workflow_definition.rst). Only what is listed here is known;
anything else is named, and its query is not taken. `session_time` is the time that a run is for: `scheduled_time`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_VARIABLE = re.compile(r"\$\$|\$\{([^{}]*)\}")
_JINJA = re.compile(r"\{\{|\{%|\{#")
_MOMENT = re.compile(
    r"moment\(\s*session_(?P<base>time|date)\s*\)"
    r"(?:\.(?P<move>add|subtract)\(\s*(?P<number>-?\d+)\s*,\s*(?P<q>['\"])(?P<unit>day|hour|minute)s?(?P=q)\s*\))?"
    r"\.(?:format\(\s*(?P<quote>['\"])(?P<format>[^'\"]*)(?P=quote)\s*\)|(?P<unix>unix\(\s*\)))"
)
_UNIX = re.compile(r"session_unixtime(?:\s*(?P<sign>[+-])\s*(?P<numbers>\d+(?:\s*\*\s*\d+)*))?")
_LETTERS = {"YYYY": "%Y", "MM": "%m", "DD": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
_FORMAT = re.compile(r"YYYY|MM|DD|HH|mm|ss|[-/:. _]|[A-Za-z]")
_NAMED: Mapping[str, str] = {
    "session_time": "isoformat(timespec='seconds')",
    "session_date": "strftime('%Y-%m-%d')",
    "session_date_compact": "strftime('%Y%m%d')",
    "session_local_time": "strftime('%Y-%m-%d %H:%M:%S')",
    "session_tz_offset": "strftime('%z')",
}


# Why a variable has no counterpart, and what to write instead: by what its name begins with.
_UNKNOWN: Mapping[str, str] = {
    "last_executed_session_": "retl sends what changed since the last run: leave this out, or use `incremental:`",
    "last_session_": "the schedule does not tell: write the time with {{ in_zone(scheduled_time, ZONE, days=-1) }}",
    "next_session_": "the schedule does not tell: write the time with {{ in_zone(scheduled_time, ZONE, days=1) }}",
    "td.each.": "it is of each row of a loop: write one query with a JOIN of those rows",
    "td.last_results.": "it is of the query before: put that query into this one",
    "td.last_job": "it is of a job of Treasure Data: leave it out",
    "secret:": "secrets are in no query: write it with {{ env_var('...') }}",
}


def why_unknown(name: str) -> str:
    """What to do about a variable that has no counterpart."""
    why = next((why for begin, why in _UNKNOWN.items() if name.startswith(begin)), None)
    return f"${{{name}}} has no counterpart: " + (why or "write it with {{ var('...') }} or {{ scheduled_time }}")


@dataclass(frozen=True)
class Scope:
    """What variables mean where a query stands: the time zone of its workflow, what `_export` defines, and how often
    its schedule comes: `every` is a unit and a number of it, if that is always the same."""

    zone: str
    exports: Mapping[str, Any]
    every: tuple[str, int] | None = None


class UnknownVariable(ValueError):  # noqa: N818 - of the file, as errors.Problem
    """A variable that has no counterpart; `at` is where it stands in the text."""

    def __init__(self, name: str, at: int) -> None:
        super().__init__(name)
        self.name, self.at = name, at


def to_jinja(text: str, scope: Scope) -> tuple[str, list[str]]:
    """A text with its variables as Jinja, and what they were. Raises UnknownVariable."""
    found: list[str] = []
    parts, end = list[str](), 0
    for variable in _VARIABLE.finditer(text):
        parts.append(_verbatim(text[end : variable.start()]))
        end = variable.end()
        if variable[1] is None:
            parts.append("$")
            continue
        meant = _meant(variable[1].strip(), scope)
        if meant is None:
            raise UnknownVariable(variable[1].strip(), variable.start())
        found.append(variable[1].strip())
        parts.append(meant)
    if "${" in text[end:]:
        raise UnknownVariable("${", text.index("${", end))
    return "".join([*parts, _verbatim(text[end:])]), found


def _verbatim(text: str) -> str:
    return f"{{% raw %}}{text}{{% endraw %}}" if _JINJA.search(text) else text


def _meant(expression: str, scope: Scope) -> str | None:
    for known in (_of_session, _of_unix_time, _of_moment, _of_export):
        meant = known(expression, scope)
        if meant is not None:
            return meant
    return None


def _time(scope: Scope, moved: str = "") -> str:
    return "scheduled_time" if scope.zone == "UTC" and not moved else f"in_zone(scheduled_time, '{scope.zone}'{moved})"


def _of_session(expression: str, scope: Scope) -> str | None:
    which, name = re.fullmatch(r"((?:last_|next_)?)(.*)", expression, re.DOTALL).groups()  # type: ignore[union-attr]
    call = "timestamp() | int" if which and name == "session_unixtime" else _NAMED.get(name)
    if not call or (which and scope.every is None):
        return None
    unit, number = scope.every or ("days", 0)
    moved = f", {unit}={number if which == 'next_' else -number}" if which else ""
    return f"{{{{ {_time(scope, moved)}.{call} }}}}"


def _of_unix_time(expression: str, scope: Scope) -> str | None:
    found = _UNIX.fullmatch(expression)
    if not found:
        return None
    moved = f" {found['sign']} {found['numbers']}" if found["sign"] else ""
    return f"{{{{ scheduled_time.timestamp() | int{moved} }}}}"


def _of_moment(expression: str, scope: Scope) -> str | None:
    found = _MOMENT.fullmatch(expression)
    if not found:
        return None
    moved = ""
    if found["move"]:
        number = int(found["number"]) * (-1 if found["move"] == "subtract" else 1)
        moved = f", {found['unit']}s={number}"
    time = _time(scope, moved)
    if found["base"] == "date":
        if found["unit"] not in (None, "day"):
            return None
        time += ".replace(hour=0, minute=0, second=0, microsecond=0)"
    if found["unix"]:
        return f"{{{{ {time}.timestamp() | int }}}}"
    pieces = _FORMAT.findall(found["format"])
    if "".join(pieces) != found["format"] or any(piece.isalpha() and piece not in _LETTERS for piece in pieces):
        return None
    written = "".join(_LETTERS.get(piece, piece) for piece in pieces)
    return f"{{{{ {time}.strftime('{written}') }}}}"


def is_constant(expression: str, scope: Scope) -> bool:
    """Whether a variable is one that the workflow defines."""
    return _of_export(expression, scope) is not None


def _of_export(expression: str, scope: Scope) -> str | None:
    """A constant that the workflow defines is filled in, as digdag does."""
    value: Any = scope.exports
    for part in expression.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    if isinstance(value, bool):
        return "true" if value else "false"
    return _verbatim(str(value)) if isinstance(value, str | int | float) and "${" not in str(value) else None
