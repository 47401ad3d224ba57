"""Trino's functions of texts, of JSON in texts, and format()."""

import re
from collections.abc import Iterator
from typing import Any

from sqlglot import exp

from reverse_etl.project.dialects import clauses
from reverse_etl.project.dialects.hive.texts import URL_PARTS, java_replacement
from reverse_etl.project.dialects.kinds import TESTS, kind_of, with_kind
from reverse_etl.project.dialects.rewrite import Call, Refusal, Translator, indexed, integer, number, text

# Characters that Character.isWhitespace() of Java has, but those that no line of text has.
_BLANKS = "".join(
    map(
        chr,
        (9, 10, 11, 12, 13, 32, 0x1680, *range(0x2000, 0x2007), *range(0x2008, 0x200B), 0x2028, 0x2029, 0x205F, 0x3000),
    )
)


def trim(function: str) -> Any:
    def build(call: Call) -> exp.Expression:
        return call.by.fill(f"{function}(a0, a1)", call.args[0], text(_BLANKS))

    return build


def trimmed(by: Translator, node: exp.Trim) -> exp.Expression:
    where = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or "").upper(), "trim")
    return with_kind(by.fill(f"{where}(a0, a1)", node.this, node.expression or text(_BLANKS)), "text")


def position(by: Translator, node: exp.StrPosition) -> exp.Expression:
    return with_kind(by.fill("strpos(a0, a1)", node.this, node.args["substr"]), "int")


def substr(call: Call) -> exp.Expression:
    """From 0 there is no text, nor from before it; a length below 1 is none either."""
    start = integer(call.args[1])
    if start == 0:
        return call.fill("CASE WHEN a0 IS NOT NULL THEN '' END")
    rest = ", a2" if len(call.args) == 3 else ""
    if len(call.args) == 3 and (integer(call.args[2]) or -1) < 0:
        rest = ", greatest(a2, 0)"
    if start is not None and start > 0:
        return call.fill(f"substr(a0, a1{rest})")
    return call.fill(
        f"CASE WHEN a0 IS NULL THEN NULL WHEN a1 = 0 OR length(a0) < -a1 THEN '' ELSE substr(a0, a1{rest}) END"
    )


def concat(call: Call) -> exp.Expression:
    return call.fill(" || ".join(f"a{position}" for position in range(len(call.args))))


def regexp_extract(call: Call) -> exp.Expression:
    clauses.refuse_pattern(call.by.dialect, call.args[1])
    group = call.whole(2, "group") if len(call.args) == 3 else 0
    clauses.refuse_group(call.by.dialect, call.args[1], group)
    if group and isinstance(call.args[1], exp.Literal) and re.search(r"\)[?*]|\)\{0|\|", call.args[1].name):
        raise call.refuse(
            "a group that may be left out is NULL in Trino, and empty in DuckDB", "write it without ?, * or |"
        )
    return call.by.fill(
        "CASE WHEN regexp_matches(a0, a1) THEN regexp_extract(a0, a1, a2) END",
        call.args[0],
        call.args[1],
        number(group),
    )


def regexp_extract_all(call: Call) -> exp.Expression:
    clauses.refuse_pattern(call.by.dialect, call.args[1])
    group = call.whole(2, "group") if len(call.args) == 3 else 0
    clauses.refuse_group(call.by.dialect, call.args[1], group)
    return call.by.fill("regexp_extract_all(a0, a1, a2)", call.args[0], call.args[1], number(group))


def regexp_replace(call: Call) -> exp.Expression:
    clauses.refuse_pattern(call.by.dialect, call.args[1])
    if len(call.args) == 3 and isinstance(call.args[2], exp.Lambda):
        raise call.refuse("the replacement is a function")
    new = java_replacement(call, call.text(2, "replacement")) if len(call.args) == 3 else ""
    return call.by.fill("regexp_replace(a0, a1, a2, 'g')", call.args[0], call.args[1], text(new))


def regexp_like(call: Call) -> exp.Expression:
    clauses.refuse_pattern(call.by.dialect, call.args[1])
    return call.fill("regexp_matches(a0, a1)")


def regexp_split(call: Call) -> exp.Expression:
    clauses.refuse_pattern(call.by.dialect, call.args[1])
    return call.fill("regexp_split_to_array(a0, a1)")


def split(call: Call) -> exp.Expression:
    return call.fill("string_split(a0, a1)")


def split_part(call: Call) -> exp.Expression:
    position = call.whole(2, "position")
    if position < 1:
        raise call.refuse("the position must be 1 or more")
    return indexed(call.fill("string_split(a0, a1)"), call.args[2])


def _json_path(call: Call) -> str:
    path = call.text(1, "path")
    if not path.startswith("$") or any(part in path for part in ("[*]", "..", "?", "*", "@")):
        raise call.refuse(f"the path {path!r} is not translated", 'paths such as $.a, $.a[0] and $["a b"] are')
    # `$["a b"]` and `$[a]` are keys, which DuckDB writes `$."a b"`
    return re.sub(
        r"\[\"([^\"]+)\"\]|\['([^']+)'\]|\[([A-Za-z_]\w*)\]",
        lambda found: f'."{found[1] or found[2] or found[3]}"',
        path,
    )


def json_extract_scalar(call: Call) -> exp.Expression:
    path = text(_json_path(call))
    said = "CAST(a0 AS VARCHAR)"
    return call.by.fill(f"CASE WHEN json_valid({said}) THEN json_value({said}, a1) ->> '$' END", call.args[0], path)


def json_extract(call: Call) -> exp.Expression:
    said = "CAST(a0 AS VARCHAR)"
    return call.by.fill(
        f"CASE WHEN json_valid({said}) THEN json_extract({said}, a1) END", call.args[0], text(_json_path(call))
    )


def json_size(call: Call) -> exp.Expression:
    said = "CAST(a0 AS VARCHAR)"
    form = (
        f"CASE WHEN json_valid({said}) THEN CASE json_type({said}, a1) WHEN 'ARRAY' THEN json_array_length({said}, a1)"
        f" WHEN 'OBJECT' THEN len(json_keys({said}, a1)) ELSE json_type({said}, a1) IS NULL AND NULL OR 0 END END"
    )
    form = form.replace(
        f"json_type({said}, a1) IS NULL AND NULL OR 0", f"CASE WHEN json_type({said}, a1) IS NOT NULL THEN 0 END"
    )
    return call.by.fill(form, call.args[0], text(_json_path(call)))


_PLACEHOLDER = re.compile(r"%(?:(\d+)\$)?([-,0 +#(]*)(\d*)(?:\.(\d+))?([a-zA-Z%])")


def format_text(call: Call) -> exp.Expression:
    """Each placeholder becomes a text of its own: DuckDB's printf() would refuse numbers for %s, and round otherwise."""
    said, values, made, at, turn = call.text(0, "format"), call.args[1:], [], 0, 0
    for found in _PLACEHOLDER.finditer(said):
        made.append(text(said[at : found.start()]))
        at = found.end()
        if found[5] in "%n":
            made.append(text("%" if found[5] == "%" else "\n"))
            continue
        position = int(found[1]) - 1 if found[1] else turn
        turn += 0 if found[1] else 1
        if position >= len(values):
            raise call.refuse("there are more placeholders than values")
        made.append(_placed(call, found, values[position]))
    if "%" in _PLACEHOLDER.sub("", said):
        raise call.refuse(f"the format {said!r} is not read")
    parts = [part for part in [*made, text(said[at:])] if not (isinstance(part, exp.Literal) and not part.name)] or [
        text("")
    ]
    return call.by.fill(" || ".join(f"a{n}" for n in range(len(parts))), *parts) if len(parts) > 1 else parts[0]


def _placed(call: Call, found: re.Match[str], value: exp.Expression) -> exp.Expression:
    flags, width, digits, letter = found[2], found[3], found[4], found[5]
    shape = f"%{flags}{width}"
    if letter == "s" and not flags and not width and digits is None:
        if kind_of(value) == "text":
            return value.copy()
        if kind_of(value) in ("int", "decimal", "bool"):
            return call.by.fill("CAST(a0 AS VARCHAR)", value)
        if kind_of(value) is None:
            tests = " OR ".join(TESTS[kind] for kind in ("text", "int", "decimal", "bool", "date"))
            return call.by.fill(
                f"CASE WHEN {tests} THEN CAST(a0 AS VARCHAR) ELSE stop('%s takes texts, integers, decimals, booleans and dates: cast it') END",
                value,
            )
    if letter == "d" and not set(flags) - {"0", ",", "-"} and digits is None:
        return call.by.fill("printf(a1, CAST(a0 AS BIGINT))", value, text(f"{shape}d"))
    if letter == "f" and not flags and not width and digits is not None and int(digits) <= 10:
        return call.by.fill(
            f"CAST(CAST(round(CAST(a0 AS DECIMAL(38, 12)), {digits}) AS DECIMAL(38, {digits})) AS VARCHAR)", value
        )
    raise call.refuse(
        f"{found[0]} is not translated", "%s, %d, %05d, %,d and %.2f are, of texts and numbers; cast others"
    )


def url_part(part: str) -> Any:
    def build(call: Call) -> exp.Expression:
        pattern = text(URL_PARTS[part])
        return call.by.fill(
            "CASE WHEN regexp_matches(a0, a1) THEN regexp_extract(a0, a1, 1) END", call.args[0], pattern
        )

    return build


def url_parameter(call: Call) -> exp.Expression:
    name = call.text(1, "name")
    if not name.replace("_", "").replace("-", "").isalnum():
        raise call.refuse(f"the name {name!r} is not translated")
    form = "CASE WHEN regexp_matches(a0, a1) THEN url_decode(replace(regexp_extract(a0, a1, 1), '+', ' ')) END"
    return call.by.fill(form, call.args[0], text(f"[?&]{name}=([^&#]*)"))


def listagg(by: Translator, node: exp.WithinGroup) -> exp.Expression:
    by.children(node)
    call = node.this
    if not (isinstance(call, exp.Anonymous) and call.name.lower() in ("listagg", "string_agg")):
        raise Refusal(f"{by.dialect}: WITHIN GROUP is translated of listagg() only")
    value, *separator = call.expressions
    between = separator[0].copy() if separator else text("")
    ordered = exp.Order(this=between, expressions=[one.copy() for one in node.expression.expressions])
    return with_kind(exp.Anonymous(this="string_agg", expressions=[value.copy(), ordered]), "text")


def utf8(call: Call) -> exp.Expression:
    return with_kind(exp.Paren(this=call.args[0].copy()), "bytes")


def digest(call: Call) -> exp.Expression:
    """The digest of to_utf8(text), as the text that to_hex() makes of it."""
    if kind_of(call.args[0]) != "bytes":
        raise call.refuse("it is translated of to_utf8(text) only", f"to_hex({call.name}(to_utf8(x)))")
    return with_kind(call.by.fill(f"{call.name}(a0)", call.args[0].this), "digest")


def hex_text(call: Call) -> exp.Expression:
    kind, value = kind_of(call.args[0]), call.args[0].copy()
    if kind not in ("bytes", "digest"):
        raise call.refuse("it is translated of to_utf8(), md5(), sha1() and sha256() only")
    value = value.this if kind == "bytes" else with_kind(value, "text")
    return call.by.fill("upper(a0)" if kind == "digest" else "hex(a0)", value)


def refuse_bytes(tree: exp.Expression, by: Translator) -> None:
    """What is left of bytes, which Braze does not take, and which DuckDB has as text here."""
    nodes: Iterator[Any] = tree.walk()
    for node in nodes:
        if node.meta.get("kind") in ("bytes", "digest"):
            by.refusals.append(
                by.found(node, "bytes are translated inside of to_hex() only", "to_hex(md5(to_utf8(x)))")
            )
