"""What Postgres and its driver say, in retl's words: with file and line, without values and passwords. Pure."""

import re
from collections.abc import Mapping

from reverse_etl.engines.pulled import of_refused
from reverse_etl.errors import BusyError, DataError, Location, ProjectError, RetlError
from reverse_etl.masking import MASK, of_warehouse
from reverse_etl.project.models import Compiled

# Why a connection is refused for good; anything else may be better in a minute.
_SETTINGS = re.compile(
    "|".join(
        [
            "authentication",
            "password",
            "no pg_hba",
            "certificate",
            "SSL",
            "service",
            "permission",
            'role ".*" (?:does not exist|is not permitted)',
            'database ".*" does not exist',
        ]
    )
)
_LOST = re.compile(
    "|".join(
        [
            "server closed the connection",
            "terminating connection",
            "connection to server was lost",
            "no connection to the server",
            "could not (?:receive|send) data",
            "SSL (?:SYSCALL|error)",
            "connection not open",
        ]
    )
)
_CANCELED, _NO_PRIVILEGE, _READ_ONLY = "57014", "42501", "25006"
_OF_VALUES = ("22", "23")  # classes of SQLSTATE whose messages quote values


def cannot_connect(text: str, where: Location) -> RetlError:
    """An error for what libpq says when it does not connect: it may repeat a part of the address, or a password."""
    said = re.search(
        r"(connection to server (?:at|on) .*? failed: )?(?:FATAL:\s+)?([^\n]*)",
        text.partition("Failed to connect: ")[2],
    )
    place, why = (said[1], said[2].strip()) if said else (None, "")
    if place is None and "translate host name" not in why:
        hint = "it is postgresql://[user[:password]@]host[:port]/database, @ : / in a password as %40 %3A %2F"
        return ProjectError("libpq does not understand the address of the warehouse", where, hint, code="P057")
    what = f"cannot connect to Postgres: {why}"
    if place is not None and _SETTINGS.search(why):
        return ProjectError(
            what, where, "correct the address in the environment, or ask who runs the database", code="P057"
        )
    return BusyError(what, where, "check host and port; or try again when it answers", code="B004")


def lost(text: str, where: Location) -> RetlError:
    """An error for a session that cannot be used any more."""
    said = text.partition("ERROR:")[2] or text
    what = f"the connection to Postgres cannot be used: {' '.join(said.split())}"
    return BusyError(what, where, "try again when the database answers", code="B004")


def explained(
    text: str, sqlstate: str | None, details: Mapping[str, str], model: Compiled, statement: str, timeout_s: int
) -> RetlError:
    """An error for what Postgres says of a statement that contains a model."""
    if refused := of_refused(text, model):
        return refused
    said = re.search(r"ERROR:\s+([^\n]*)|FATAL:\s+([^\n]*)", text)
    what = details.get("PG_DIAG_MESSAGE_PRIMARY") or (said and (said[1] or said[2])) or text.splitlines()[0]
    if _LOST.search(text):
        lost = f"{model.file}: the connection to Postgres was lost while the model was running"
        return BusyError(lost, hint="nothing was sent: run it again when the database answers", code="B004")
    if sqlstate == _CANCELED or "due to statement timeout" in what:
        hint = "make the model faster, or raise statement_timeout_s of the warehouse"
        return DataError(f"{model.file}: Postgres ended the model after {timeout_s:,} s", hint=hint, code="D012")
    if sqlstate is None or sqlstate.startswith(_OF_VALUES):
        what = re.sub(r"\".*\"|'.*'", MASK, what)
    what, line = of_warehouse(what), _line(statement, model, details)
    where = model.source_of(line) if line else Location(model.file)
    if sqlstate == _NO_PRIVILEGE:
        return ProjectError(
            what, where, "GRANT SELECT on it to the user of the warehouse, and USAGE on its schema", code="P051"
        )
    if sqlstate == _READ_ONLY or "in a read-only transaction" in what or "multiple commands" in what:
        return ProjectError(f"a model must be a single SELECT: {what}", where, code="P052")
    hint = f"see the compiled SQL in {model.compiled_file}" + (f", line {line}" if line else "")
    return ProjectError(what, where, hint, code="P051")


def _line(statement: str, model: Compiled, details: Mapping[str, str]) -> int:
    """The line of the model that an error refers to; 0 if it refers to none."""
    position, begins = int(details.get("PG_DIAG_STATEMENT_POSITION", 0)), statement.find(model.sql)
    inside = position - 1 - begins
    return model.sql.count("\n", 0, inside) + 1 if begins >= 0 and 0 <= inside < len(model.sql) else 0
