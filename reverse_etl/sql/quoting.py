"""The only ways in which a name or a text gets into SQL, and SQL that is not generated: one statement a file."""

import re
from importlib.resources import files

# What DuckDB takes for something else than a name, unless it is quoted.
RESERVED = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "anti",
        "any",
        "array",
        "as",
        "asc",
        "asof",
        "asymmetric",
        "at",
        "authorization",
        "binary",
        "both",
        "by",
        "case",
        "cast",
        "check",
        "collate",
        "collation",
        "column",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "default",
        "deferrable",
        "desc",
        "describe",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "glob",
        "group",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "intersect",
        "into",
        "is",
        "isnull",
        "join",
        "lambda",
        "lateral",
        "leading",
        "left",
        "like",
        "limit",
        "natural",
        "not",
        "notnull",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "overlaps",
        "pivot",
        "pivot_longer",
        "pivot_wider",
        "placing",
        "positional",
        "primary",
        "qualify",
        "references",
        "returning",
        "right",
        "select",
        "semi",
        "show",
        "similar",
        "some",
        "summarize",
        "symmetric",
        "table",
        "tablesample",
        "then",
        "to",
        "trailing",
        "true",
        "union",
        "unique",
        "unpack",
        "unpivot",
        "using",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
    ]
)


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


QUOTES = {"spark": "`"}  # what other dialects than these quote names with is what DuckDB does: "


def quoted(name: str, dialect: str) -> str:
    """`name` as a quoted identifier of the dialect."""
    mark = QUOTES.get(dialect, '"')
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


def plain(name: str) -> str:
    """`name` as people write it in SQL: quoted only where it must be."""
    is_plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name.casefold() not in RESERVED
    return name if is_plain else identifier(name)


def literal(text: str) -> str:
    """`text` as a SQL string. For values that a statement cannot bind: names inside generated expressions, paths."""
    return "'" + text.replace("'", "''") + "'"


def catalog(file_name: str) -> str:
    """The name under which DuckDB, and dbt-duckdb, attach a database file: what stands before its first dot."""
    return file_name.lstrip(".").split(".")[0]


def statement(module: str, name: str) -> str:
    """The text of `<name>.sql` in the folder of a module (its `__name__`)."""
    return files(module.rpartition(".")[0]).joinpath(f"{name}.sql").read_text(encoding="utf-8")


_NO_CODE = r"(?P<nothing>\s+|--[^\n]*|/\*.*?\*/)"
_QUOTED = r"""(?<!\w)[eE]'(?:[^'\\]|\\.)*'|'[^']*'|"[^"]*"|`[^`]*`|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"""
_TOKEN = re.compile(rf"{_NO_CODE}|(?P<end>;)|{_QUOTED}|.", re.DOTALL)


def without_end(sql: str) -> str:
    """A statement without the semicolons that end it; comments after them stay, and lines keep their numbers."""
    ends: list[int] = []
    for token in _TOKEN.finditer(sql) if ";" in sql else ():
        if token["end"]:
            ends.append(token.start())
        elif token["nothing"] is None:
            ends.clear()
    for place in reversed(ends):
        sql = sql[:place] + sql[place + 1 :]
    return sql.rstrip()


def without_comments(sql: str) -> str:
    """The same text with blanks for comments, so that every place keeps its number."""
    made = (re.sub(r"[^\n]", " ", token[0]) if token["nothing"] else token[0] for token in _TOKEN.finditer(sql))
    return "".join(made)
