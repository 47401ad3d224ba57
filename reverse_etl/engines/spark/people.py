"""Which rows of tables in Spark may be about somebody, or have a key that is shown so: SQL of Spark. Pure.

    tables ── texts of their identifiers, hashed as what is asked for ── joined ──> retl: who they are about, as ever

It decides nothing: it leaves out rows that are about nobody who is asked for. What a value is in DuckDB and may be
otherwise in Spark, such as an e-mail with other letters than ASCII's, counts as ODD: these rows come in any case.
"""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import md5, sha256

from reverse_etl.braze.modes import Mode
from reverse_etl.masking import DIGITS
from reverse_etl.plan.elsewhere import Asked
from reverse_etl.records.identity import KINDS, TAG_DIGITS, as_identifiers, identifying_columns
from reverse_etl.records.layout import ALIAS_PARTS, ROW_NUMBER
from reverse_etl.sql.quoting import literal, quoted
from reverse_etl.sql.types import WRITTEN_ALIKE, SqlType

ASKED, SECRET = "retl_asked", "retl_secret"  # what is asked for, hashed, and with what: views of a session
ODD = "?"
_UNIT_SEPARATOR = "CAST(X'1F' AS STRING)"
_HASHED = {
    "text": "e.text",
    "tag": f"left(md5(concat(k.secret, e.text)), {TAG_DIGITS})",
    "digest": f"left(sha2(concat(k.secret, e.text), 256), {DIGITS})",
}


def hashed_odd(asked: Asked) -> str:
    """What rows that may be anybody's are in the view of what is asked for."""
    whole = f"{asked.secret}{ODD}".encode()
    by = {"text": ODD, "tag": md5(whole).hexdigest()[:TAG_DIGITS], "digest": sha256(whole).hexdigest()[:DIGITS]}
    return by[asked.by]


def wanted_columns(types: Mapping[str, SqlType], mode: Mode | None, key: Sequence[str]) -> list[str]:
    """The columns of rows that tell whom they are about, and which they are."""
    identifying = identifying_columns(mode, types)
    return [name for name in types if name in identifying or name in key]


def asked_sql(
    tables: Sequence[str], types: Mapping[str, SqlType], mode: Mode | None, key: Sequence[str], by: str
) -> str:
    """A SELECT of the rows of tables, all of which have columns of these types, that may be among those asked for."""
    columns = ", ".join(quoted(name, "spark") for name in wanted_columns(types, mode, key))
    texts = _values(types, key) if by == "digest" else [*_texts(types, mode)]
    rows = " UNION ALL ".join(f"SELECT {columns} FROM {table}" for table in tables)
    each = f"SELECT {columns}, explode(array({', '.join(texts)})) AS text FROM ({rows}) AS r"
    named = f"SELECT {columns}, {_HASHED[by]} AS _retl_text FROM ({each}) AS e CROSS JOIN {SECRET} AS k"
    return f"SELECT {columns} FROM ({named}) AS n LEFT SEMI JOIN {ASKED} AS a ON n._retl_text = a.text"


def _values(types: Mapping[str, SqlType], key: Sequence[str]) -> list[str]:
    """What is shown as a digest: a value of the key, or of an identifier."""
    shown = [name for name in types if (name in key or name in (*KINDS, *ALIAS_PARTS)) and name != ROW_NUMBER]
    return [f"CAST({quoted(name, 'spark')} AS STRING)" for name in shown] + _odd(types, shown)


def _texts(types: Mapping[str, SqlType], mode: Mode | None) -> Iterator[str]:
    """The texts of all identifiers; and the names of aliases without their labels, by which people ask for them."""
    named, value = as_identifiers(mode, {name: of.family for name, of in types.items()}, lambda name: name)
    for kind in (kind for kind in KINDS if kind in named and kind != "user_alias"):
        yield _text(kind, quoted(value(kind), "spark"))
    becomes = {field.becomes: field.name for field in (mode.fields if mode else ()) if field.becomes}
    if (new := becomes.get("external_id")) in types:
        yield _text("external_id", quoted(str(new), "spark"))
    aliases = list[tuple[str, str]]()
    if set(ALIAS_PARTS) <= named.keys():
        label = quoted(value("alias_label"), "spark")
        aliases.append((label, quoted(value("alias_name"), "spark")))
        if (new := becomes.get("alias_name")) in types:
            aliases.append((label, quoted(str(new), "spark")))
    if named.get("user_alias") == "struct":
        whole = quoted(value("user_alias"), "spark")
        fields = {name.casefold() for name, _ in types[value("user_alias")].children}
        if set(ALIAS_PARTS) <= fields:
            aliases.append((f"{whole}.alias_label", f"{whole}.alias_name"))
    for label, name in aliases:
        yield _alias(label, name)
        yield f"concat('alias_name:', CAST({name} AS STRING))"
    yield from _odd(types, identifying_columns(mode, types))
    yield "CAST(NULL AS STRING)"


def _text(kind: str, column: str) -> str:
    value = f"CAST({column} AS STRING)"
    if kind == "email":
        value = f"lower(trim({value}))"
    if kind == "phone":
        value = f"regexp_replace({value}, '[^0-9]', '')"
    return f"concat({literal(f'{kind}:')}, {value})"


def _odd(types: Mapping[str, SqlType], columns: Sequence[str]) -> list[str]:
    """ODD, of rows with a value that DuckDB may write otherwise."""
    found = list[str]()
    for name in columns:
        column, of = quoted(name, "spark"), types[name]
        is_odd = f"{column} IS NOT NULL"
        if of.family in WRITTEN_ALIKE and name != "user_alias":
            if name != "email":
                continue
            is_odd = f"CAST({column} AS STRING) RLIKE '[^ -~]'"
        elif of.family == "struct":
            names = f"{column}.alias_label IS NULL OR {column}.alias_name IS NULL"
            fields = {field.casefold(): child.family for field, child in of.children}
            if all(fields.get(part) in WRITTEN_ALIKE for part in ALIAS_PARTS):
                is_odd = f"{column} IS NOT NULL AND ({names})"
        found.append(f"CASE WHEN {is_odd} THEN {literal(ODD)} END")
    return found


def _alias(label: str, name: str) -> str:
    return f"concat('user_alias:', CAST({label} AS STRING), {_UNIT_SEPARATOR}, CAST({name} AS STRING))"
