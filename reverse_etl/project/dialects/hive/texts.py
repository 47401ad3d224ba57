"""Hive's functions of texts, and of JSON in texts."""

from sqlglot import exp

from reverse_etl.project.dialects import clauses
from reverse_etl.project.dialects.hive.casts import to_text
from reverse_etl.project.dialects.kinds import TESTS, kind_of, with_kind
from reverse_etl.project.dialects.rewrite import Call, Translator, integer, number, text


def substring(call: Call) -> exp.Expression:
    """From 0 is from 1; a length below 1 is no text, nor is a start before the text, but in Spark."""
    said, *numbers = [_as_text(call.by, call.args[0]), *call.args[1:]]
    start = integer(numbers[0])
    before = numbers[0]
    if start is None:
        numbers[0] = call.by.fill("CASE WHEN a0 = 0 THEN 1 ELSE a0 END", numbers[0])
    elif start == 0:
        numbers[0] = number(1)
    if len(numbers) == 2:
        length = integer(numbers[1])
        none = call.by.fill("greatest(a0, 0)", numbers[1]) if length is None else number(0)
        numbers[1] = numbers[1] if length is not None and length >= 0 else none
    made = call.by.fill("substr(a0, a1, a2)" if len(numbers) == 2 else "substr(a0, a1)", said, *numbers)
    if call.by.family.name == "spark" or (start is not None and start >= 0):
        return made
    return call.by.fill("CASE WHEN length(a0) < -a1 THEN '' ELSE a2 END", said, before, made)


def _as_text(by: Translator, value: exp.Expression) -> exp.Expression:
    return value if kind_of(value) in (None, "text") else to_text(by, value)


def concat(call: Call) -> exp.Expression:
    parts = [to_text(call.by, arg, is_cast=False) for arg in call.args]
    return call.by.fill(" || ".join(f"a{position}" for position in range(len(parts))), *parts)


def joined(by: Translator, node: exp.DPipe) -> exp.Expression:
    sides = (node.this, node.expression)
    made = [to_text(by, side, is_cast=False) for side in sides]
    if all(one is side for one, side in zip(made, sides, strict=True)):
        return with_kind(node, "text")
    return with_kind(by.fill("a0 || a1", *made), "text")


def concat_ws(call: Call) -> exp.Expression:
    separator, *values = call.args
    if len(values) == 1 and kind_of(values[0]) in (None, "list"):
        listed = "TRY_CAST(a1 AS VARCHAR[])"
        if call.by.family.name != "spark":  # which leaves NULLs out; Hive writes them
            listed = f"list_transform({listed}, lambda e: coalesce(e, 'null'))"
        form = f"array_to_string({listed}, a0)"
        if kind_of(values[0]) is None:
            is_list = TESTS["list"].replace("a0", "a1")
            form = f"CASE WHEN {is_list} THEN {form} ELSE coalesce(CAST(a1 AS VARCHAR), '') END"
        return call.by.fill(form, separator, values[0])
    if any(kind_of(value) == "list" for value in values):
        raise call.refuse("arrays beside texts are not translated")
    parts = [to_text(call.by, value) for value in values]
    return call.by.fill("concat_ws(" + ", ".join(f"a{n}" for n in range(len(parts) + 1)) + ")", separator, *parts)


def regexp_extract(call: Call) -> exp.Expression:
    clauses.refuse_pattern(call.by.dialect, call.args[1])
    group = call.whole(2, "group") if len(call.args) == 3 else 1
    clauses.refuse_group(call.by.dialect, call.args[1], group)
    return call.by.fill("regexp_extract(a0, a1, a2)", call.args[0], call.args[1], number(group))


def regexp_replace(call: Call) -> exp.Expression:
    clauses.refuse_pattern(call.by.dialect, call.args[1])
    new = java_replacement(call, call.text(2, "replacement"))
    return call.by.fill("regexp_replace(a0, a1, a2, 'g')", call.args[0], call.args[1], text(new))


def java_replacement(call: Call, said: str) -> str:
    r"""`$1` as `\1`, and what has a backslash before it as itself."""
    made, rest = "", said
    while rest:
        if rest[0] == "$" and rest[1:2].isdigit():
            made, rest = made + "\\" + rest[1], rest[2:]
        elif rest[0] == "$":
            raise call.refuse("the replacement names a group: ${name}", "use its number, as in $1")
        elif rest[0] == "\\":
            made, rest = made + rest[1:2].replace("\\", "\\\\"), rest[2:]
        else:
            made, rest = made + rest[0], rest[1:]
    return made


META = frozenset(".$|()[{^?*+\\")


def split(call: Call) -> exp.Expression:
    separator = call.text(1, "separator")
    if not separator:
        raise call.refuse("an empty separator is not translated")
    plain = (
        separator.replace("\\", "", 1)
        if len(separator) == 2 and separator[0] == "\\" and not separator[1].isalnum()
        else separator
    )
    if not META & set(plain) or plain != separator or separator in ("[|]", "[.]"):
        return call.by.fill(
            "string_split(a0, a1)", call.args[0], text(plain.strip("[]") if separator in ("[|]", "[.]") else plain)
        )
    clauses.refuse_pattern(call.by.dialect, call.args[1])
    return call.by.fill("regexp_split_to_array(a0, a1)", call.args[0], call.args[1])


def substring_index(call: Call) -> exp.Expression:
    separator, counted = call.text(1, "separator"), call.whole(2, "count")
    if not counted or not separator:
        return text("")
    sliced = f"[:{counted}]" if counted > 0 else f"[{counted}:]"
    return call.by.fill(f"array_to_string(string_split(a0, a1){sliced}, a1)", call.args[0], text(separator))


def json_object(call: Call) -> exp.Expression:
    path = call.text(1, "path")
    if not path.startswith("$"):
        return exp.Null()
    if any(part in path for part in ("..", "?", "@")):
        raise call.refuse(f"the path {path!r} is not translated")
    if "[*]" in path:
        form = "CASE WHEN json_valid(CAST(a0 AS VARCHAR)) THEN CAST(to_json(json_extract(CAST(a0 AS VARCHAR), a1)) AS VARCHAR) END"
        return call.by.fill(form, call.args[0], text(path))
    return call.by.fill(clauses.json_text("a1"), call.args[0], text(path))


def parse_url(call: Call) -> exp.Expression:
    part = call.text(1, "part").upper()
    if part == "QUERY" and len(call.args) == 3:
        name = call.text(2, "name")
        if not name.replace("_", "").replace("-", "").isalnum():
            raise call.refuse(f"the name {name!r} is not translated")
        pattern, group = f"[?&]{name}=([^&#]*)", 1
    elif part in URL_PARTS and len(call.args) == 2:
        pattern, group = URL_PARTS[part], 1
    else:
        raise call.refuse(f"the part {part!r} is not translated", "HOST, PATH, QUERY, PROTOCOL and REF are")
    return call.by.fill(
        "CASE WHEN regexp_matches(a0, a1) THEN regexp_extract(a0, a1, a2) END",
        call.args[0],
        text(pattern),
        number(group),
    )


_BEFORE_PATH = "^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?"


URL_PARTS = {
    "HOST": _BEFORE_PATH + "([^/?#:]+)",
    "PATH": "^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*([^?#]*)",
    "QUERY": "^[^?#]*\\?([^#]*)",
    "PROTOCOL": "^([A-Za-z][A-Za-z0-9+.-]*)://",
    "REF": "#(.*)$",
}


def trimmed(by: Translator, node: exp.Trim) -> exp.Expression:
    where = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position") or "").upper(), "trim")
    if node.expression is not None:
        return with_kind(by.fill(f"{where}(a0, a1)", node.this, node.expression), "text")
    return with_kind(by.fill(f"{where}(a0)", node.this), "text")


INITCAP = (
    "array_to_string(list_transform(string_split(a0, ' '), lambda w: upper(left(w, 1)) || lower(substr(w, 2))), ' ')"
)


def sha2(call: Call) -> exp.Expression:
    if call.whole(1, "number of bits") not in (0, 256):
        raise call.refuse("only 256 bits are translated")
    return call.by.fill("sha256(CAST(a0 AS VARCHAR))", call.args[0])
