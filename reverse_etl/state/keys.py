"""How the keys of a sync are shown, and which row is meant by a key that a user copied from there."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence, Set

from duckdb import DuckDBPyConnection

from reverse_etl.errors import DataError
from reverse_etl.masking import Keys, has_digest
from reverse_etl.plan.tables import ACKNOWLEDGED, IN_DOUBT, META, REJECTS
from reverse_etl.records.layout import ROW_NUMBER
from reverse_etl.records.mapping import key_text
from reverse_etl.sql.quoting import identifier
from reverse_etl.state.contents import KEY_COLUMNS, acknowledged_columns, meta_of
from reverse_etl.words import count

SALT = "salt"  # its key in `meta`: of the digests, so that nobody can compute them without the state
IDENTIFYING = ("external_id", "email", "phone", "braze_id", "alias_name")


def keys_of(
    connection: DuckDBPyConnection,
    columns: Sequence[str] = (),
    in_full: bool = False,
    known: Mapping[str, str] | None = None,
) -> Keys:
    """How the attached state shows keys of these columns; without them, the keys of the last run. `known` is its meta,
    if that has been read."""
    meta = dict(meta_of(connection) if known is None else known)
    if SALT not in meta:
        meta[SALT] = secrets.token_hex(16)
        connection.execute(f"INSERT INTO {META} VALUES (?, ?)", [SALT, meta[SALT]])
    of_last_run = json.loads(meta.get(KEY_COLUMNS) or meta.get("primary_key") or "[]")
    return Keys(tuple(columns or of_last_run), meta[SALT], in_full)


def key_meant(connection: DuckDBPyConnection, sync: str, key: str) -> str:
    """The key or identifier of which `key` is the masked form; `key` itself if there is none.

    Raises DataError if several have this form.
    """
    if not has_digest(key):
        return key
    return _only(sync, key, {one for one, shown in _shown(connection, key) if shown == key} - {key})


def _only(sync: str, key: str, found: Set[str]) -> str:
    if len(found) > 1:
        hint = f"pass the key itself: `retl rejects {sync} --show-values` lists keys in full"
        raise DataError(f'{sync}: "{key}" is the digest of {count(len(found), "key")}', hint=hint, code="D007")
    return next(iter(found), key)


def keys_meant(connection: DuckDBPyConnection, sync: str, keys: Sequence[str]) -> list[str]:
    """The same for keys of rows that are not in Braze, however many: they are read once."""
    if not any(map(has_digest, keys)):
        return [*keys]
    known, shown = dict[str, set[str]](), keys_of(connection)
    for (one,) in connection.execute(f"SELECT key FROM {REJECTS} UNION SELECT key FROM {IN_DOUBT}").fetchall():
        known.setdefault(shown.shown(one), set()).add(one)
    return [_only(sync, key, known.get(key, set()) - {key}) for key in keys]


def _shown(connection: DuckDBPyConnection, key: str) -> Iterator[tuple[str, str]]:
    """Keys and identifiers of the state, and how they are shown; all that are shown as `key` are among them."""
    keys = keys_of(connection)
    for table in (REJECTS, IN_DOUBT):
        for one, who in connection.execute(f"SELECT DISTINCT key, identifier FROM {table}").fetchall():
            yield one, keys.shown(one)
            for name, value in json.loads(who or "{}").items():
                yield str(value), str(keys.part(name, value))
    columns = acknowledged_columns(connection)
    if not columns:
        return
    (found,) = connection.execute(f"SELECT value FROM {META} WHERE key = 'primary_key'").fetchall()
    primary_key = json.loads(found[0])

    def text(name: str) -> str:
        return f"CAST({identifier(name)} AS VARCHAR)"

    def shown(name: str) -> str:
        return keys.part_sql(name, text(name))

    named = [(text(name), shown(name)) for name in columns if name in IDENTIFYING]
    if ROW_NUMBER not in primary_key:
        named.append((key_text(primary_key, identifier), key_text(primary_key, shown)))
    for whole, as_shown in named:
        sql = f"SELECT DISTINCT {whole} FROM {ACKNOWLEDGED} WHERE {as_shown} = ?"
        yield from ((one, key) for (one,) in connection.execute(sql, [key]).fetchall())
