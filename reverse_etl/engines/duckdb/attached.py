"""A lake, a service or a URL that DuckDB attaches as the warehouse, with an extension, and what models may call then.

An extension brings functions, and some of them connect to any server, or delete files of what is attached read-only. So
models call what DuckDB had before it was loaded, and of that which returns tables what makes or reads rows: others run
SQL, or functions, that are named in a string, which nobody sees.
"""

import json
import re
from collections.abc import Set

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.connection import load
from reverse_etl.engines.duckdb.errors import headline, locked
from reverse_etl.engines.duckdb.model import refuse_other_statements
from reverse_etl.errors import Location, ProjectError
from reverse_etl.project.attached import Attached
from reverse_etl.project.models import Compiled
from reverse_etl.project.spec import Sync
from reverse_etl.sql.quoting import identifier, literal

_OF_ROWS = re.compile(
    "(read|parquet|json)_(?!execute).*|.*_series|range|repeat(_row)?|unnest|glob|sniff_csv|histogram(_values)?|summary"
)
_INSTEAD = (
    "put the call into a view of the warehouse, or build a table of what it returns; see Lakes in docs/engines.md"
)
_CALLED = re.compile(r'"function_name":"((?:[^"\\]|\\.)*)"')  # within the texts of a tree, quotes are escaped


def attach(connection: DuckDBPyConnection, attached: Attached, where: Location | None) -> Set[str]:
    """Make it the default catalog of models, read-only, and a lake as it is now; returns what models may call then.

    `where` is its location in syncs.yml. Raises ProjectError, or BusyError if another process has it open for writing.
    """
    own = own_functions(connection)
    for extension in attached.extensions:
        load(connection, extension, f"path: {attached.address}", where)
    name, address = identifier(attached.name), literal(attached.address)
    try:
        connection.execute(f"ATTACH {address} AS {name} (READ_ONLY)")
        if attached.is_lake:  # others may write to it while a run reads it twice
            current = f"SELECT id FROM ducklake_current_snapshot({literal(attached.name)})"
            ((snapshot,),) = connection.execute(current).fetchall()
            connection.execute(f"DETACH {name}; ATTACH {address} AS {name} (READ_ONLY, SNAPSHOT_VERSION {snapshot})")
        connection.execute(f"USE {name}")
    except duckdb.Error as error:
        if attached.file and (is_locked := locked(error, attached.file)):
            raise is_locked from error
        raise ProjectError(f"cannot attach {attached.address}: {headline(error)}", where, code="P057") from error
    return own


def own_functions(connection: DuckDBPyConnection) -> Set[str]:
    """Those that models may call with any extension, in lower case, as long as none is loaded."""
    listed = "SELECT lower(function_name), bool_and(function_type IN ('table', 'pragma')) FROM duckdb_functions()"
    found = connection.execute(f"{listed} GROUP BY ALL").fetchall()
    return {name for name, is_table in found if not is_table or _OF_ROWS.fullmatch(name)}


def refuse_other_calls(connection: DuckDBPyConnection, model: Compiled, own: Set[str]) -> None:
    """Raises ProjectError for a model that calls another function, or is not a single SELECT. Nothing of it is run."""
    refuse_other_statements(connection, model)
    calls = _called(connection, model.sql)
    if calls is None:
        what = "cannot tell which functions this model calls: DuckDB makes no tree of it"
        raise ProjectError(what, Location(model.file), "write it as a plain SELECT", code="P059")
    for name in sorted(calls - own):
        found = re.search(rf'(?<!\w)"?{re.escape(name)}(?!\w)', model.sql, re.IGNORECASE)
        line = model.sql.count("\n", 0, found.start()) + 1 if found else 0
        where = model.source_of(line, name) if line else Location(model.file)
        raise ProjectError(
            f"models cannot call {name}() here: it is none of those that they may call", where, _INSTEAD, code="P059"
        )


def refuse_other_calls_of_tests(connection: DuckDBPyConnection, sync: Sync, own: Set[str]) -> None:
    """The same for the conditions of data tests."""
    for number, test in enumerate(sync.data_tests):
        calls = _called(connection, f"SELECT 1 FROM t WHERE\n{test.claim.where}\n") if test.claim.where else set()
        for name in sorted((calls or set()) - own):  # what is no condition has an error of its own
            where = sync.where("data_tests", number, test.kind, "where")
            raise ProjectError(
                f"data tests cannot call {name}() here: it is none of those that they may call",
                where,
                _INSTEAD,
                code="P059",
            )


def _called(connection: DuckDBPyConnection, sql: str) -> set[str] | None:
    """The functions that a SELECT calls, in lower case; None if DuckDB makes no tree of it."""
    ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
    if not tree.startswith('{"error":false,'):
        return None
    return {json.loads(f'"{name}"').casefold() for name in _CALLED.findall(tree)}
