"""Seeds: CSV files in seeds/, one table each in the warehouse.

A table is replaced only if its comment says that a seed made it, or if it equals the seed anyway. All files are read
before anything is replaced, and all tables in one transaction.
"""

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.engines.duckdb.connection import refuse_other_files
from reverse_etl.engines.duckdb.errors import headline, locked, without_values
from reverse_etl.errors import Location, Problem, ProjectError
from reverse_etl.sql.database import connect
from reverse_etl.sql.quoting import identifier, literal
from reverse_etl.words import count

MARK = "created by retl seed"  # the comment of a table that may be replaced
_DELIMITERS = (",", ";", "\t", "|")


# --- files -----------------------------------------------------------------------------------------------------------


def seed_sql(path: Path) -> str:
    """A SELECT of the rows of a CSV file, with the types that DuckDB detects in all of them."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        delimiter = literal(_delimiter(file.readline()))
    dialect = f"""header = true, delim = {delimiter}, quote = '"', escape = '"', sample_size = -1"""
    return f"SELECT * FROM read_csv({literal(str(path.absolute()))}, {dialect})"


def _delimiter(header: str) -> str:
    return max(_DELIMITERS, key=header.count)


def faults_of_seeds(seeds: Mapping[str, Path], folder: Path) -> list[Problem]:
    """What is wrong with the CSV files, the first thing of each. `folder` is that of the project."""
    found = []
    by_fold = Counter(name.casefold() for name in seeds)
    for name, path in seeds.items():
        file = path.relative_to(folder).as_posix()
        if by_fold[name.casefold()] > 1:
            found.append(
                Problem("names of seeds must differ in more than case", Location(file), "rename it", code="P058")
            )
        fault = next(_faults(path.read_bytes()), None)
        if fault:
            line, what, hint = fault
            found.append(Problem(what, Location(file, line), hint, code="P058"))
    return found


def _faults(content: bytes) -> Iterator[tuple[int, str, str]]:
    """Line, message and hint for what is wrong with a CSV file, in the order of its lines."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield content.count(b"\n", 0, error.start) + 1, "the seed is not UTF-8", "save it as UTF-8"
        return
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text.partition("\n")[0]), strict=True)
    header, rows, line = list[str](), 0, 1
    try:
        for fields in reader:
            if not header:
                header = fields
                yield from ((line, what, hint) for what, hint in _faults_of_header(fields))
            elif fields:
                rows += 1
                if len(fields) != len(header):
                    what = f"the row has {count(len(fields), 'field')}, and the header has {len(header)}"
                    yield line, what, 'complete the row; a field that contains the delimiter needs quotes: "a, b"'
            line = reader.line_num + 1
    except csv.Error as error:
        what = "a quoted field is not closed" if "unexpected end" in str(error) else "text after a closing quote"
        yield line, what, 'write a quote inside a quoted field twice: "a ""b"" c"'
        return
    if not rows:
        what = "the seed has a header, but no rows" if header else "the seed is empty"
        yield 1, what, "add rows, or delete the file"


def _faults_of_header(names: Collection[str]) -> Iterator[tuple[str, str]]:
    if not any(name.strip() for name in names):
        yield "the header is blank", "write the names of the columns in the first line"
        return
    for number, name in enumerate(names, 1):
        if not name.strip():
            yield f"column {number} of the header has no name", "name it, or remove the column"
    for fold, times in Counter(name.strip().casefold() for name in names).items():
        if times > 1:
            same = next(name for name in names if name.strip().casefold() == fold)
            yield f'the header has {count(times, "column")} named "{same}"', "rename one of them"


# --- tables ----------------------------------------------------------------------------------------------------------


def load_seeds(warehouse: Path, seeds: Mapping[str, Path], folder: Path) -> dict[str, int]:
    """Load CSV files into the warehouse, one table each; returns the number of rows by table.

    The warehouse is created if it does not exist. Raises ProjectError, and changes nothing, if a file is not a complete
    CSV file, or if a table or view with its name was not created by a seed.
    """
    if problems := faults_of_seeds(seeds, folder):
        raise ProjectError(problems)
    refuse_other_files(warehouse, None)
    warehouse.parent.mkdir(parents=True, exist_ok=True)
    try:
        with connect(warehouse) as connection:
            connection.execute("BEGIN")
            if problems := list(_not_ours(connection, warehouse, seeds, folder)):
                raise ProjectError(problems)
            for name, path in seeds.items():
                _replace(connection, name, path, Location(path.relative_to(folder).as_posix()))
            connection.execute("COMMIT")
            return {name: connection.table(identifier(name)).shape[0] for name in seeds}
    except duckdb.Error as error:
        what = f"cannot load seeds into {warehouse}: {headline(error)}"
        raise locked(error, warehouse) or ProjectError(what, code="P058") from error


def _replace(connection: DuckDBPyConnection, name: str, path: Path, where: Location) -> None:
    table = identifier(name)
    try:
        connection.execute(f"CREATE OR REPLACE TABLE {table} AS {seed_sql(path)}")
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:  # its text quotes the line
        raise ProjectError(f"DuckDB cannot read the seed: {without_values(error)[:60]}", where, code="P058") from None
    connection.execute(f"COMMENT ON TABLE {table} IS {literal(MARK)}")


def _not_ours(
    connection: DuckDBPyConnection, warehouse: Path, seeds: Mapping[str, Path], folder: Path
) -> Iterator[Problem]:
    here = "database_name = current_database() AND schema_name = current_schema()"
    views = connection.execute(f"SELECT view_name FROM duckdb_views() WHERE {here} AND NOT internal").fetchall()
    tables = connection.execute(f"SELECT table_name, comment FROM duckdb_tables() WHERE {here}").fetchall()
    kinds = {name.casefold(): "view" for (name,) in views}
    kinds |= {name.casefold(): "table" for name, comment in tables if comment != MARK}
    for name, path in seeds.items():
        kind = kinds.get(name.casefold())
        if kind is None or (kind == "table" and _equals(connection, name, path)):
            continue
        what = f'{kind} "{name}" in {warehouse.name} was not created by `retl seed`, which does not replace it'
        hint = f"rename the seed; or the {kind}: ALTER {kind.upper()} {identifier(name)} RENAME TO another_name"
        yield Problem(what, Location(path.relative_to(folder).as_posix()), hint, code="P058")


def _equals(connection: DuckDBPyConnection, name: str, path: Path) -> bool:
    """Whether a table has the columns and rows of a seed, as one that an older retl has loaded."""
    table, seed = identifier(name), f"({seed_sql(path)})"
    columns = [connection.execute(f"DESCRIBE FROM {rows}").fetchall() for rows in (table, seed)]
    if [row[:2] for row in columns[0]] != [row[:2] for row in columns[1]]:
        return False
    differs = f"(FROM {table} EXCEPT ALL FROM {seed}) UNION ALL (FROM {seed} EXCEPT ALL FROM {table})"
    return not connection.execute(f"SELECT 1 FROM ({differs}) LIMIT 1").fetchall()
