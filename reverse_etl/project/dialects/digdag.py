"""`${...}`, which digdag fills in before a query runs, and retl does not: refused, with the Jinja for it."""

import re
from dataclasses import dataclass

from reverse_etl.sql.quoting import without_comments

_VARIABLE = re.compile(r"\$\{([^{}\n]*)\}")
_OF_LIQUID = re.compile(r"\{\{[^{}]*$")  # Braze's own: {{${first_name}}}
_SCHEDULED = "scheduled_time.strftime('{}')"
_JINJA = {
    "session_time": _SCHEDULED.format("%Y-%m-%dT%H:%M:%S%z"),
    "session_date": _SCHEDULED.format("%Y-%m-%d"),
    "session_date_compact": _SCHEDULED.format("%Y%m%d"),
    "session_local_time": _SCHEDULED.format("%Y-%m-%d %H:%M:%S"),
    "session_tz_offset": _SCHEDULED.format("%z"),
    "session_unixtime": "scheduled_time.timestamp() | int",
}


@dataclass(frozen=True)
class Variable:
    """A `${...}` at an offset of a text, and what to write in its place."""

    at: int
    text: str
    instead: str


def variable_in(sql: str) -> Variable | None:
    """The first `${...}` outside of comments, if there is one."""
    for found in _VARIABLE.finditer(without_comments(sql)):
        if not _OF_LIQUID.search(sql[: found.start()].rpartition("\n")[2]):
            return Variable(found.start(), found[0], _instead(found[1].strip()))
    return None


def _instead(name: str) -> str:
    if name in _JINJA:
        return f"write {{{{ {_JINJA[name]} }}}}, in UTC; for another zone, in_zone(scheduled_time, 'Asia/Seoul')"
    if name.startswith(("last_", "next_")):
        return "work it out from {{ scheduled_time }}, or set a variable: {{ var('name') }}"
    if name.startswith("moment("):
        return f"write {{{{ {_SCHEDULED.format('%Y-%m-%d')} }}}}, with the format that you need"
    if name.startswith("secret:"):
        return "models read no secrets: take it out"
    plain = re.sub(r"\W+", "_", name.removeprefix("td.")).strip("_") or "name"
    return f"write {{{{ var('{plain}') }}}}, and set it under \"vars:\" in syncs.yml"
