"""What Spark says, in retl's words: with file and line, without values. Pure."""

import re

from reverse_etl.errors import BusyError, Location, ProjectError, RetlError
from reverse_etl.masking import MASK, of_warehouse
from reverse_etl.project.models import Compiled

GONE_AWAY = re.compile(
    "UNAVAILABLE|failed to connect|Connection reset|Socket closed|session .* (?:not found|closed)", re.I
)
# Apache Spark: by a client, and by whoever looks at its jobs; Sail.
CANCELLED = re.compile(r"OPERATION_CANCELED|SPARK_JOB_CANCELLED|Job \d+ cancelled|operation not found", re.I)
_TOO_LARGE = re.compile(r"bigger than spark\.driver\.maxResultSize \((.+?)\)")
_LINE = re.compile(r"line (\d+),? pos(?:ition)? \d+")  # Spark
_OFFSET = re.compile(r"found .*? at (\d+):\d+")  # Sail
_OBJECT = re.compile(r"ObjectName\(\[(.*?)\]\)")  # Sail: Identifier("a"), Identifier("b")
_UNKNOWN = re.compile(
    r"^(?:ambiguous )?attribute:? ([^:]+?)(?: is missing|$)|view not found: (\S+)|unknown function: (\S+)"
)
_WORD = re.compile(
    r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|--[^\n]*|/\*.*?\*/|`(?P<quoted>[^`]*)`|(?P<plain>\w+)", re.S
)
_END = re.compile(r"\s*SQLSTATE: |\n\n|\n==|;?\s*\(?line \d+,? pos|\nJVM stacktrace| expected ")


def unreachable(address: str, why: str, where: Location) -> RetlError:
    what = f"cannot connect to Spark at {address}: {why}"
    return BusyError(what, where, "check host and port of remote; or try again when it answers", code="B004")


def too_large(text: str, what: str, where: Location | None = None) -> RetlError | None:
    """An error for rows that Spark's driver does not pass on, all of which goes through its memory; None for others.

    Source: https://spark.apache.org/docs/latest/configuration.html#application-properties
    """
    limit = _TOO_LARGE.search(text)
    if limit is None:
        return None
    told = f"{what} are more than Spark's driver passes on: its spark.driver.maxResultSize is {limit[1]}"
    hint = "start the Spark server with a larger one, or with 0, and run it again: nothing is lost"
    return ProjectError(told, where, hint, code="P149")


def explained(text: str, name: str, model: Compiled, statement: str) -> RetlError:
    """An error for what Spark says of a statement that contains a model. `name` is that of its exception."""
    text = _OBJECT.sub(lambda found: ".".join(re.findall(r'Identifier\("(.*?)"\)', found[1])), text)
    what = " ".join(_END.split(text.strip())[0].split()) or name
    if GONE_AWAY.search(text):
        lost = f"{model.file}: the connection to Spark was lost while the model was running"
        return BusyError(lost, hint="nothing was sent: run it again when Spark answers", code="B004")
    if CANCELLED.search(text):
        ended = f"{model.file}: Spark has cancelled the statement that the model was running in"
        return BusyError(ended, hint="nothing was sent: run it again, once Spark lets such jobs end", code="B005")
    if large := too_large(text, f"{model.file}: its rows"):
        return large
    if name not in ("AnalysisException", "ParseException", "IllegalArgumentException"):
        what = re.sub(r"\".*\"|'.*'", MASK, what)
    line = _line(text, statement, model) or _only_line(what, model)
    what = of_warehouse(what)
    where = model.source_of(line) if line else Location(model.file)
    hint = f"see the compiled SQL in {model.compiled_file}" + (f", line {line}" if line else "")
    return ProjectError(what, where, hint, code="P051")


def _line(text: str, statement: str, model: Compiled) -> int:
    """The line of the model that an error refers to; 0 if it refers to none."""
    begins, found = statement.find(model.sql), 0
    if begins < 0:
        return 0
    if named := _LINE.search(text):
        found = int(named[1])
    elif offset := _OFFSET.search(text):
        found = statement.count("\n", 0, int(offset[1])) + 1
    line = found - statement.count("\n", 0, begins)
    return line if 0 < line <= model.sql.count("\n") else 0


def _only_line(what: str, model: Compiled) -> int:
    """The only line of the model that has the name which an error is about; 0 if there are several, or none."""
    named = _UNKNOWN.search(what)
    name = next(part for part in named.groups() if part).rpartition(".")[2].casefold() if named else ""
    found = {
        model.sql.count("\n", 0, word.start()) + 1
        for word in _WORD.finditer(model.sql)
        if name and (word["quoted"] or word["plain"] or "").casefold() == name
    }
    return found.pop() if len(found) == 1 else 0
