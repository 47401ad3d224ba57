"""Who a row is about, as one text, and the keyed hash of that text: SQL. Pure.

    external_id:u1   braze_id:5f1e   user_alias:shop<US>ann   email:ann@x.example   phone:8210...
                                     (label, unit separator, name)

A row is about the first of these that it has, as Braze takes it: with an external id, its e-mail is a field of a
profile and no identifier. E-mails are compared without blanks around them and in lower case, phones by their digits.

A hash is HMAC-SHA256 (RFC 2104) of the text, its first 128 bits in hex: H(opad || H(ipad || text)), where ipad and opad
are the key, filled up with zeros to 64 bytes, XOR 0x36 and XOR 0x5c. Its four rounds of SHA-256 take a second per
million rows, so a tag is compared before: 32 bits of an MD5 of a second key and the text, a quarter of that. Only texts
whose tag is known get a hash; of a million rows beside a million hashes of others, some 200 do.
"""

import hmac
from collections.abc import Callable, Collection, Iterator, Mapping
from hashlib import sha256

from reverse_etl.braze.modes import KEPT, USER, Mode
from reverse_etl.records.layout import ALIAS_PARTS, Layout
from reverse_etl.sql.quoting import identifier, literal

KINDS = ("external_id", "user_alias", "braze_id", "email", "phone")  # in the order in which a row is about one of them
STRONG_KINDS = ("external_id", "user_alias", "braze_id")
WHO = "about"  # a column of the outbox
KEPT_WHO = "kept"  # of merges: who remains
HASH_DIGITS, TAG_DIGITS = 32, 8
_BLOCK_BYTES = 64
_SEPARATOR = "chr(31)"
_NORMALIZED = {"email": "lower(trim({}))", "phone": "regexp_replace({}, '[^0-9]', '', 'g')"}

# --- keyed hashes ----------------------------------------------------------------------------------------------------


def parameters(key: bytes) -> dict[str, object]:
    """What `hash_sql` and `tag_sql` need of a key: parameters, so that it is in the text of no statement."""
    block = key.ljust(_BLOCK_BYTES, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
    return {"inner": inner, "outer": outer, "tags": hmac.new(key, b"tags", sha256).hexdigest()}


def hash_sql(text: str) -> str:
    """SQL for the hash of a text."""
    return f"left(sha256($outer || unhex(sha256($inner || encode({text})))), {HASH_DIGITS})"


def tag_sql(text: str) -> str:
    """SQL for the tag of a text."""
    return f"left(md5($tags || {text}), {TAG_DIGITS})"


# --- who a row is about ----------------------------------------------------------------------------------------------


def who_of_outbox(layout: Layout) -> str:
    """SQL over the changes of a sync: who each row is about, or NULL; items are about nobody, whatever columns they
    have."""
    if layout.mode.about != USER:
        return "CAST(NULL AS VARCHAR)"
    sent = {column.name: column.type.family for column in layout.sent}
    return who_sql(*as_identifiers(layout.mode, sent, lambda name: identifier(f"new.{name}")))


def as_identifiers(
    mode: Mode | None, columns: Mapping[str, str], value: Callable[[str], str]
) -> tuple[Mapping[str, str], Callable[[str], str]]:
    """The same columns under the names of the identifiers that they are in this mode."""
    names = {one.names: one.name for one in mode.fields if one.names and one.name in columns} if mode else {}
    if not names:
        return columns, value
    return {**columns, **{name: columns[own] for name, own in names.items()}}, lambda name: value(names.get(name, name))


def renames(mode: Mode | None) -> bool:
    """Whether a record gives its user another identifier."""
    return mode is not None and any(field.becomes for field in mode.fields)


def becomes_sql(mode: Mode | None, columns: Collection[str], value: Callable[[str], str]) -> str | None:
    """SQL for the identifier that the user of a row has after it, as a text; None if that is none other."""
    for field in mode.fields if mode else ():
        if field.becomes == "external_id" and field.name in columns:
            return text_of(field.becomes, value(field.name))
        if field.becomes == "alias_name" and {field.name, "alias_label"} <= set(columns):
            return alias_text(value("alias_label"), value(field.name))
    return None


def who_of_acknowledged(mode: Mode | None, families: Mapping[str, str]) -> str:
    """SQL for who an acknowledged row with columns of these families is about; of a rename, that is the new id or
    alias."""
    return becomes_sql(mode, families, identifier) or who_sql(families, identifier)


def may_be_several(who: str) -> str:
    """SQL for: the text of an identifier is an address, which several users may have."""
    return f"regexp_matches({who}, '^(email|phone):')"


def kept_of_outbox(layout: Layout) -> str:
    """SQL over the changes of a sync that merges users: into whom each row merges its user, or NULL."""
    kinds = {name.removeprefix(KEPT): layout.column(name).type.family for name in layout.mode.keeps if layout.has(name)}
    return who_sql(kinds, lambda kind: identifier(f"new.{KEPT}{kind}"))


def who_sql(columns: Mapping[str, str], value: Callable[[str], str]) -> str:
    """SQL for who a row is about. `columns` are the families of their types; `value` is SQL for the value of one."""
    found = [sql for kind in KINDS for sql in _named(kind, columns, value)]
    return f"coalesce({', '.join(found)}, NULL)" if found else "CAST(NULL AS VARCHAR)"


def all_named(columns: Mapping[str, str], value: Callable[[str], str]) -> dict[str, str]:
    """SQL for each identifier of a row, whether it is about that one or not, by its kind."""
    return {kind: f"coalesce({', '.join(found)}, NULL)" for kind in KINDS if (found := [*_named(kind, columns, value)])}


def who_in_json(document: str) -> str:
    """SQL for who a record is about, over SQL for its JSON."""
    return f"coalesce({', '.join(named_in_json(document).values())})"


def named_in_json(document: str) -> dict[str, str]:
    """SQL for each identifier in a record, over SQL for its JSON, by its kind."""

    def at(path: str) -> str:
        return f"json_extract_string({document}, {literal(path)})"

    aliases = [
        alias_text(at(f"$.{where}alias_label"), at(f"$.{where}alias_name"))
        for where in ("user_alias.", "user_to_identify.", "", "identifier_to_merge.user_alias.")
    ]
    aliases.append(alias_text(at("$.alias_label"), at("$.old_alias_name")))
    found = {kind: [at(f"$.{kind}"), at(f"$.identifier_to_merge.{kind}")] for kind in KINDS if kind != "user_alias"}
    found["external_id"].append(at("$.current_external_id"))
    texts = {kind: text_of(kind, f"coalesce({', '.join(values)})") for kind, values in found.items()}
    return {kind: texts.get(kind) or f"coalesce({', '.join(aliases)})" for kind in KINDS}


def others_in_json(document: str) -> str:
    """SQL for whom else a record names: the user who remains after a merge, or what an id or alias becomes."""

    def at(path: str) -> str:
        return f"json_extract_string({document}, {literal(path)})"

    kept = "$.identifier_to_keep."
    alias = alias_text(at(f"{kept}user_alias.alias_label"), at(f"{kept}user_alias.alias_name"))
    ids = [text_of("external_id", at(path)) for path in (f"{kept}external_id", "$.new_external_id")]
    addresses = [text_of(kind, at(f"{kept}{kind}")) for kind in ("email", "phone")]
    renamed = alias_text(at("$.alias_label"), at("$.new_alias_name"))
    return f"coalesce({', '.join([*ids, alias, renamed, *addresses])})"


def text_of(kind: str, value: str) -> str:
    """SQL for the text of an identifier, over SQL for its value; NULL for NULL and for nothing."""
    normalized = _NORMALIZED.get(kind, "{}").format(f"CAST({value} AS VARCHAR)")
    return f"{literal(f'{kind}:')} || nullif({normalized}, '')"


def alias_text(label: str, name: str) -> str:
    return f"'user_alias:' || CAST({label} AS VARCHAR) || {_SEPARATOR} || CAST({name} AS VARCHAR)"


def columns_named(columns: Collection[str]) -> list[str]:
    """Those of the columns that identify a person."""
    return [name for name in columns if name in (*KINDS, *ALIAS_PARTS)]


def identifying_columns(mode: Mode | None, columns: Collection[str]) -> list[str]:
    """Those of the columns that say whom a row is about in this mode, or what that person becomes."""
    of_mode = {one.name for one in mode.fields if one.names or one.becomes} if mode else set[str]()
    return [name for name in columns if name in of_mode or name in (*KINDS, *ALIAS_PARTS)]


def _named(kind: str, columns: Mapping[str, str], value: Callable[[str], str]) -> Iterator[str]:
    if kind != "user_alias":
        if kind in columns:
            yield text_of(kind, value(kind))
        return
    if kind in columns:
        of, whole = columns[kind], value(kind)
        document = f"TRY_CAST({whole} AS JSON)" if of in ("varchar", "json") else f"to_json({whole})"
        yield alias_text(*(f"json_extract_string({document}, '$.{part}')" for part in reversed(ALIAS_PARTS)))
    if set(ALIAS_PARTS) <= columns.keys():
        yield alias_text(*(value(part) for part in reversed(ALIAS_PARTS)))
