"""Columns of a model that differ in each run, as they are made of the time or of chance: found in its SQL, which is not
run. What only chooses rows, or is compared, does not count: `WHERE day > today() - 7`."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection

from reverse_etl.errors import Location
from reverse_etl.project.models import Compiled

_FUNCTIONS = frozenset(
    {"now", "today", "random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "nextval", "txid_current", "current_date"}
    | {"get_current_timestamp", "get_current_time", "transaction_timestamp", "current_localtimestamp"}
    | {"current_localtime", "current_timestamp", "current_time", "localtimestamp", "localtime"}
)
_WITHOUT_BRACKETS = frozenset(name for name in _FUNCTIONS if name.startswith(("current_", "local")))
_MAY_CALL = re.compile(rf"\b({'|'.join(sorted(_FUNCTIONS))}|age)\b", re.IGNORECASE)
# Parts of an expression whose value is true or false: it seldom changes when the time does.
_JUDGES = ("COMPARISON", "CONJUNCTION", "BETWEEN")
_ONLY_CHOOSES = ("when_expr", "filter", "order_bys")


@dataclass(frozen=True)
class Volatile:
    """A column, the function that it is made of, and where in the model."""

    column: str
    function: str
    where: Location


def volatile_columns(connection: DuckDBPyConnection, model: Compiled) -> list[Volatile]:
    """The columns of a model that are made of the time or of chance, as far as its SQL tells; none if DuckDB cannot
    parse it."""
    if not _MAY_CALL.search(model.sql):  # a tree of many columns takes long to walk
        return []
    try:
        ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [model.sql]).fetchall()
        nodes = [one["node"] for one in json.loads(tree).get("statements", ())]
    except (duckdb.Error, ValueError, RecursionError):
        return []
    found = dict[str, Volatile]()
    for node in nodes:
        returned = set(_names(node))
        for column, function, offset in _made_of_it(node):
            if column not in found and (column in returned or "*" in returned):
                line = model.sql.encode()[:offset].count(b"\n") + 1
                found[column] = Volatile(column, function, model.source_of(line, function))
    return list(found.values())


def _names(node: Mapping[str, Any]) -> Iterator[str]:
    """The columns that a query returns; `*` if there may be others."""
    for side in ("left", "right"):
        if isinstance(node.get(side), dict):
            yield from _names(node[side])
    for item in node.get("select_list", ()):
        yield "*" if item.get("class") == "STAR" else _name(item)


def _name(item: Mapping[str, Any]) -> str:
    if item.get("alias"):
        return str(item["alias"])
    return str(item["column_names"][-1]) if item.get("class") == "COLUMN_REF" else str(item.get("function_name", ""))


def _made_of_it(part: Any) -> Iterator[tuple[str, str, int]]:
    """The items of all queries in a tree that are made of such a function: name, function, and where in the text."""
    if isinstance(part, list):
        for one in part:
            yield from _made_of_it(one)
    elif isinstance(part, dict):
        for item in part.get("select_list", ()):
            for function, offset in _functions(item):
                yield _name(item), function, offset
        for one in part.values():
            yield from _made_of_it(one)


def _functions(part: Any) -> Iterator[tuple[str, int]]:
    if isinstance(part, list):
        for one in part:
            yield from _functions(one)
    elif isinstance(part, dict) and part.get("class") not in _JUDGES and "select_list" not in part:
        name = str(part.get("function_name", "")).lower()
        names = part.get("column_names") or []
        if part.get("class") == "FUNCTION" and (name in _FUNCTIONS or (name == "age" and len(part["arguments"]) == 1)):
            yield name, part["query_location"]
        elif len(names) == 1 and names[0].lower() in _WITHOUT_BRACKETS:
            yield names[0].lower(), part["query_location"]
        for key, one in part.items():
            if key not in _ONLY_CHOOSES:
                yield from _functions(one)
