"""The warehouse: attached to a connection, read-only, with nothing else in reach of models; and its seeds."""

from collections.abc import Mapping
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.errors import headline, locked
from reverse_etl.errors import Location, ProjectError
from reverse_etl.plan.workbench import allow, fence
from reverse_etl.project.readable import Readable
from reverse_etl.project.spec import EXTENSIONS
from reverse_etl.sql.quoting import catalog, identifier, literal


def attach_warehouse(connection: DuckDBPyConnection, path: Path, where: Location | None) -> None:
    """Make the warehouse the default catalog of models, read-only. `where` is its location in syncs.yml."""
    if not path.exists():
        hint = "create it from seeds/*.csv with `retl seed`, or correct the path"
        raise ProjectError(f"the warehouse file {path} does not exist", where, hint)
    name = identifier(catalog(path.name))
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS {name} (READ_ONLY)")
        connection.execute(f"USE {name}")
    except duckdb.IOException as error:
        raise locked(error, path) or ProjectError(f"{path} is not a DuckDB file: {headline(error)}", where) from error
    except duckdb.Error as error:
        raise ProjectError(f"cannot open the warehouse {path}: {headline(error)}", where) from error


def keep_inside(connection: DuckDBPyConnection, readable: Readable) -> None:
    """Restrict the SQL of a connection to what models may read, for good. See `fence`."""
    for extension in {EXTENSIONS[url.partition("://")[0]] for url in readable.urls}:
        _load(connection, extension, readable)
    allow(connection, [*readable.folders, *readable.urls], [*readable.files, *readable.urls])
    fence(connection)


def _load(connection: DuckDBPyConnection, extension: str, readable: Readable) -> None:
    """Load what reads URLs, and DuckDB's own secrets for them, while that is still possible."""
    try:
        try:
            connection.execute(f"LOAD {extension}")
        except duckdb.Error:
            connection.execute(f"INSTALL {extension}; LOAD {extension}")
        connection.execute("FROM duckdb_secrets()")
    except duckdb.Error as error:
        what = f"files: cannot load DuckDB's extension {extension}, which reads URLs: {headline(error)}"
        raise ProjectError(what, readable.where, f"install it for this user: INSTALL {extension}") from error


def detach_warehouse(connection: DuckDBPyConnection, path: Path) -> None:
    """Detach the warehouse, so that other processes can write it."""
    connection.execute(f"USE memory; DETACH {identifier(catalog(path.name))}")


def seed_sql(path: Path) -> str:
    """A SELECT of the rows of a CSV file, with the types that DuckDB detects."""
    return f"SELECT * FROM read_csv({literal(str(path.absolute()))}, header = true)"


def load_seeds(warehouse: Path, seeds: Mapping[str, Path]) -> dict[str, int]:
    """Load CSV files into the warehouse, replacing one table each; returns the number of rows by table.

    The warehouse is created if it does not exist.
    """
    rows = {}
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    try:
        with duckdb.connect(warehouse) as connection:
            for name, path in seeds.items():
                connection.execute(f"CREATE OR REPLACE TABLE {identifier(name)} AS {seed_sql(path)}")
                rows[name] = connection.table(identifier(name)).shape[0]
    except duckdb.Error as error:
        what = f"cannot load seeds into {warehouse}: {headline(error)}"
        raise locked(error, warehouse) or ProjectError(what) from error
    return rows
