"""The warehouse: attached to a connection, read-only, with nothing else in reach of models."""

import os
import re
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.errors import headline, locked
from reverse_etl.errors import Location, ProjectError
from reverse_etl.plan.workbench import allow, fence
from reverse_etl.project.attached import Attached, begin_of
from reverse_etl.project.readable import Readable
from reverse_etl.project.spec_targets import EXTENSIONS
from reverse_etl.sql.quoting import catalog, identifier, literal


def attach_warehouse(connection: DuckDBPyConnection, path: Path, where: Location | None) -> None:
    """Make the warehouse the default catalog of models, read-only. `where` is its location in syncs.yml."""
    refuse_other_files(path, where)
    if not path.exists():
        hint = "create it from seeds/*.csv with `retl seed`, or correct the path"
        raise ProjectError(f"the warehouse file {path} does not exist", where, hint, code="P057")
    name = identifier(catalog(path.name))
    try:
        connection.execute(f"ATTACH {literal(str(path.absolute()))} AS {name} (TYPE duckdb, READ_ONLY); USE {name}")
    except duckdb.Error as error:
        if of_newer := re.search(r"version number \d+", str(error)):
            what = f"{path} was written by another version of DuckDB ({of_newer[0]}), not by {duckdb.__version__}"
            hint = "install the version of the package duckdb that wrote it, or export the file with it for this one"
            raise ProjectError(what, where, hint, code="P057") from error
        if is_locked := locked(error, path):
            raise is_locked from error
        raise ProjectError(f"cannot open the warehouse {path}: {headline(error)}", where, code="P057") from error


_MAGIC = {b"SQLite format 3\x00": "a SQLite database", b"PAR1": "a Parquet file", b"PK\x03\x04": "a ZIP archive"}
_ANOTHER = "set the path of a DuckDB file; `retl seed` creates one from seeds/*.csv"
_OF_SERVICES = "copy what models need to a DuckDB file before a sync: see Lakes in docs/engines.md"
_INSTEAD = dict.fromkeys(("postgres", "postgresql"), "set type: postgres, with uri: see Postgres in docs/engines.md")
_DUCKDB = slice(8, 12)  # where a DuckDB file says that it is one


def refuse_other_files(path: Path, where: Location | None) -> None:
    """Raises ProjectError if there is something else than a DuckDB file at a path, or if it is the address of a
    service, and says what it is.

    DuckDB itself would download what reads it, or create a database.
    """
    if path.is_dir():
        raise ProjectError(f"{path} is a folder, not a DuckDB file", where, _ANOTHER, code="P057")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        for begins in filter(None, map(begin_of, path.parts)):
            what = f"path begins with {begins}:, which is neither a DuckDB file nor what retl lets DuckDB attach"
            raise ProjectError(what, where, _INSTEAD.get(begins, _OF_SERVICES), code="P057") from None
        return
    except OSError as error:
        raise ProjectError(f"cannot read the warehouse {path}: {error.strerror}", where, code="P057") from error
    if head[_DUCKDB] == b"DUCK" or not head:
        return
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    what = f"{path} is {kind}, not a DuckDB file" if kind else f"{path} is not a DuckDB file"
    raise ProjectError(what, where, _ANOTHER, code="P057")


def keep_inside(connection: DuckDBPyConnection, readable: Readable) -> None:
    """Restrict the SQL of a connection to what models may read, for good. See `fence`."""
    for extension in {EXTENSIONS[url.partition("://")[0]] for url in readable.urls}:
        load(connection, extension, "files", readable.where)
    allow(connection, [*readable.folders, *readable.urls], [*readable.files, *readable.urls])
    if readable.start:
        _start_at(connection, readable, readable.start)
    fence(connection)


def _start_at(connection: DuckDBPyConnection, readable: Readable, start: Path) -> None:
    """Let relative paths start at a folder, and not where the process is.

    DuckDB checks a relative path as if it started where the process is, and only then looks for it elsewhere. So what
    may be read is allowed there, too, if nothing has that name there: then nothing more is in reach.
    """
    here = Path.cwd().resolve()
    if start == here:
        return
    connection.execute(f"SET file_search_path = {literal(str(start))}")
    whole = [str(one) for one in start.iterdir()] if str(start) in readable.folders else ()
    places = {
        here / Path(place).relative_to(start): Path(place).is_dir()
        for place in (*readable.folders, *readable.files, *whole)
        if Path(place).is_relative_to(start) and Path(place) != start
    }
    free = {place: is_folder for place, is_folder in places.items() if not os.path.lexists(place)}
    folders = [str(place) for place, is_folder in free.items() if is_folder]
    allow(connection, folders, [str(place) for place in free if str(place) not in folders])


def load(connection: DuckDBPyConnection, extension: str, of: str, where: Location | None) -> None:
    """Load an extension, which is installed if it is missing, and DuckDB's own secrets, while that is possible.

    `of` says what it is for. Raises ProjectError.
    """
    try:
        try:
            connection.execute(f"LOAD {extension}")
        except duckdb.Error:
            connection.execute(f"INSTALL {extension}; LOAD {extension}")
        connection.execute("FROM duckdb_secrets()")
    except duckdb.Error as error:
        what = f"{of}: cannot load DuckDB's extension {extension}: {headline(error)}"
        raise ProjectError(what, where, f"install it for this user: INSTALL {extension}", code="P055") from error


def detach_warehouse(connection: DuckDBPyConnection, warehouse: Path | Attached) -> None:
    """Detach the warehouse, so that other processes can write it."""
    name = warehouse.name if isinstance(warehouse, Attached) else catalog(warehouse.name)
    connection.execute(f"USE memory; DETACH {identifier(name)}")
