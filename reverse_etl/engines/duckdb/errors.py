"""DuckDB's errors, with a model's file and line, or the process that has a file locked; never a value."""

import re
from pathlib import Path

import duckdb

from reverse_etl.engines.duckdb.reach import out_of_reach
from reverse_etl.engines.duckdb.without_line import LAMBDA, found_in
from reverse_etl.errors import BusyError, DataError, Location, ProjectError, RetlError
from reverse_etl.masking import MASK, of_warehouse
from reverse_etl.project.collected import parts_of
from reverse_etl.project.dialects.names import DIALECTS
from reverse_etl.project.models import Compiled
from reverse_etl.system.file_lock import WAIT
from reverse_etl.system.memory import is_out_of_memory


def lacks_room(error: Exception) -> bool:
    """Whether an error is about memory, or a full disk, and so says nothing of the file that was being used."""
    is_of_memory = isinstance(error, duckdb.OutOfMemoryException) or is_out_of_memory(error)
    return is_of_memory or WRITING.search(str(error)) is not None


def locked(error: duckdb.Error, path: Path) -> BusyError | None:
    """A BusyError that identifies the process which has `path` open for writing; None if `error` is another one."""
    if "Unique file handle conflict" in str(error):  # another thread of this process is reading it
        return BusyError(f"{path} is being read by another sync of this process", hint=WAIT, code="B002")
    holder = re.search(r"held in (.*?) \(PID (\d+)\)", str(error))
    if not holder:
        return None
    what = f"{path} is locked by {Path(holder[1]).name} (PID {holder[2]}), which has it open for writing"
    hint = f"{WAIT}: while one process writes a DuckDB file, no other can read it"
    return BusyError(what, hint=hint, code="B002")


class errors_of:  # noqa: N801  # reads as a statement: with errors_of(model, ...)
    """Turns DuckDB's errors inside the block into ones that lead to the model's file and line.

    The model's compiled SQL starts at line `first_line` of the statement.
    """

    def __init__(self, model: Compiled, first_line: int) -> None:
        self.model, self.first_line = model, first_line

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, duckdb.Error) and not WRITING.search(str(error)):
            # Not `from error`: a traceback would show DuckDB's text, which may contain a value.
            raise translated(error, self.model, self.first_line) from None


WRITING = re.compile(
    "Could not write|Could not fsync|No space left|File too large|Disk quota exceeded"
)  # into retl's own files
_OF_VALUES = (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException)


_GONE = re.compile(r'(?:No files found that match the pattern|Cannot open file|Failed to open file) "(.*?)"')


def translated(error: duckdb.Error, model: Compiled, first_line: int) -> RetlError:
    what, line = without_values(error), max(line_of(error) - first_line + 1, 0)
    found = found_in(error, model.sql) if not line_of(error) else None
    line, word = (found.line, found.word) if found else (line, _word_at(error))
    gone = _GONE.search(str(error))
    if gone and parts_of([Path(gone[1]).name]):
        hint = "run it again: it reads the files that are there then"
        what = f"{model.file}: a collected file was removed before it was read: {Path(gone[1]).name}"
        return DataError(what, hint=hint, code="D010")
    refused = out_of_reach(error)
    if refused:
        return ProjectError(
            refused.what, model.source_of(line, word) if line > 0 else Location(model.file), refused.hint, refused.code
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return DataError(
            f"{model.file}: DuckDB ran out of memory: {what}",
            hint="raise the limit (`retl sync --memory-limit 4GB`), or free disk space for DuckDB to spill to",
            code="D005",
        )
    own = _STOPPED.fullmatch(what)  # by the translation of another dialect, which knows its place
    if own:
        where, what = Location(own["file"], int(own["line"] or 0), int(own["column"] or 0)), own["what"]
    else:
        where = model.source_of(line, word) if line > 0 else Location(model.file)
    hint = f"see the compiled SQL in {model.compiled_file}" + (f", line {line}" if line > 0 else "")
    if other := model.translated_at(line):
        hint += f"; it is a translation, which `retl compile --explain {other}` shows"
    return ProjectError(what, where, _not_built(what, model) or (found and found.hint) or hint, code="P051")


_STOPPED = re.compile(
    rf"\w[\w ]*: (?P<file>[^:]+\.sql)(?::(?P<line>\d+))?(?::(?P<column>\d+))?: (?P<what>(?:{'|'.join(DIALECTS)}): .*)"
)


def _word_at(error: duckdb.Error) -> str:
    """The name of a table or column that an error is about, and points at."""
    said, _, snippet = str(error).partition("\n\nLINE ")
    code, _, below = snippet.partition("\n")
    found = re.match(r"\w+", code[max(below.find("^") - len("LINE "), 0) :])
    if found and re.search(rf"\b{found[0]}\b", said):
        return found[0]
    column = re.search(r'source column "?(\w+)', said)
    return column[1] if column else ""


def _not_built(what: str, model: Compiled) -> str | None:
    """A hint if the table that DuckDB does not find is one that dbt knows; None if it is not."""
    missing = re.match(r'Catalog Error: Table with name "?([^"]*?)"? does not exist', what)
    if not missing:
        return None
    for relation in model.reads:
        if relation.unique_id and f".{relation.plain}".endswith(f".{missing[1].casefold()}"):
            kind, _, name = relation.unique_id.split(".", 2)
            remedy = "load it" if kind == "source" else f"run `dbt build --select {name}`"
            return f"dbt knows it as {relation.unique_id}, but it is not in this warehouse: {remedy}"
    return None


def without_values(error: duckdb.Error) -> str:
    """DuckDB's message without values of rows: what it quotes of one, and what looks like personal data."""
    what = " ".join(str(error).partition("\n\nLINE ")[0].split())
    if LAMBDA in what:  # what follows is about a setting, which models cannot change
        what = f"{what.partition(LAMBDA)[0]}{LAMBDA}"
    if isinstance(error, _OF_VALUES):
        what = re.sub(r"'.*'|\".*\"|(?<=with value )\S+", MASK, what)
    return of_warehouse(what)


def line_of(error: duckdb.Error) -> int:
    """The line of the statement that an error refers to; 0 if it refers to none."""
    snippet = str(error).partition("\n\nLINE ")[2]
    return int(snippet.split(":")[0]) if snippet else 0


def headline(error: BaseException) -> str:
    return in_words(error).splitlines()[0]


_AS_JSON = re.compile(r'Async \w+ failed for range \[.*?\]: .*?"exception_message":"((?:[^"\\]|\\.)*)".*', re.DOTALL)


def in_words(error: BaseException) -> str:
    """What an error says; DuckDB says in JSON what went wrong in a thread that wrote a file."""
    return _AS_JSON.sub(lambda found: found[1].replace('\\"', '"'), str(error))
