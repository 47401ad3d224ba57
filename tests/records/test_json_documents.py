"""What is found out about a JSON document cheaply is what the functions that read all of it say."""

import random

import pytest
from duckdb import DuckDBPyConnection

from reverse_etl.braze.modes import MODES
from reverse_etl.plan.workbench import connect, execute
from reverse_etl.project.spec import Sync
from reverse_etl.records.documents import fault, is_operator, keys_of_plain, may_be_operator, plain
from reverse_etl.records.json_text import json_text
from reverse_etl.records.layout import Column, Layout, Role
from reverse_etl.sql.quoting import literal
from reverse_etl.sql.types import SqlType

_TEXTS = ("", ":", ": b", "a.b", "$time", "$add", "inc", "add", "x y", "nan", "12e9", "[{", ",]", '\\"', "\\n", "é")
_TEXTS += ("null", "2026-11-23", "1" * 19, "x" * 300, "\\u0041", "\\\\")
_WORDS = ("-1.5", "1e5", "1e999", "NaN", "-inf", "null", "9" * 19, "9" * 20, "0.5E-3")


def _document(draw: random.Random, depth: int = 3) -> str:
    """A JSON document, in which here and there is something odd."""

    def odd(choices: tuple[str, ...], otherwise: str) -> str:
        return draw.choice(choices) if draw.random() < 0.06 else otherwise

    kind = draw.random()
    if depth == 0 or kind < 0.3:
        return odd(_WORDS, "12") if draw.random() < 0.5 else f'"{odd(_TEXTS, "abc")}"'
    inner = [_document(draw, depth - 1) for _ in range(draw.randint(0, 3))]
    blank, ends = odd((" ", "\n"), ""), odd((",",), "")
    if kind < 0.5:
        return f"{blank}[{f',{blank}'.join(inner)}{ends}{blank}]"
    members = (
        f'"{odd(_TEXTS, "k")}{odd(("",), str(number))}"{odd((" ",), "")}:{blank}{one}'
        for number, one in enumerate(inner)
    )
    return f"{blank}{{{blank}{f',{blank}'.join(members)}{ends}}}"


def test_plain_document_has_no_fault_is_no_operator_and_its_keys_are_counted(seed: int) -> None:
    draw = random.Random(seed)
    texts = {_document(draw) for _ in range(20_000)} | {"", "{", "x", "{}", "[]", '{"a":{"b":1},"c":[1,"d"]}'}
    listed = ", ".join(f"({literal(text)})" for text in texts)
    found = execute(
        connect(),
        f"""SELECT count(*), list(j) FILTER (
            retl_json_fault(j, true) > 0 OR {is_operator("j")} OR retl_is_bad_operator(j)
            OR {keys_of_plain("j")} IS DISTINCT FROM retl_data_points(j)
        ) FROM (VALUES {listed}) AS documents(j) WHERE {plain("j")}""",
    ).fetchall()
    plain_ones, wrong = found[0]
    assert wrong is None
    assert plain_ones > 1000


@pytest.fixture(scope="module")
def workbench() -> DuckDBPyConnection:
    return connect()


_INTEGER, _DOUBLE, _VARCHAR = (SqlType(name.lower(), name) for name in ("INTEGER", "DOUBLE", "VARCHAR"))
_DATE, _HUGE = SqlType("date", "DATE"), SqlType("hugeint", "HUGEINT")


def _list(of: SqlType) -> SqlType:
    return SqlType("list", f"{of.text}[]", (("child", of),))


def _struct(**fields: SqlType) -> SqlType:
    listed = ", ".join(f'"{name}" {of.text}' for name, of in fields.items())
    return SqlType("struct", f"STRUCT({listed})", tuple(fields.items()))


_VALUES = {
    "integers": (_list(_INTEGER), ["[1, 2]", "[]", "[1, NULL]", "range(600)"]),
    "doubles": (_list(_DOUBLE), ["[1.5]", "['nan'::DOUBLE]", "['-inf'::DOUBLE]", "[1e300]", "[NULL]"]),
    "strings": (_list(_VARCHAR), ["['a', 'null', 'nan']", "[repeat('x', 256)]", "[repeat('é', 255)]", "['\"']"]),
    "dates": (_list(_DATE), ["[DATE '2026-11-23']", "['infinity'::DATE]", "[DATE '9999-01-01']"]),
    "huge integers": (_list(_HUGE), ["[1]", "[170141183460469231731687303715884105727]"]),
    "lists of lists": (_list(_list(_INTEGER)), ["[[1], [2, NULL]]", "[[1], NULL]", "[[1]]"]),
    "struct": (
        _struct(a=_INTEGER, b=_VARCHAR),
        ["{'a': 1, 'b': 'x'}", "{'a': NULL, 'b': NULL}", "{'a': 1, 'b': repeat('x', 300)}"],
    ),
    "struct with a list": (_struct(a=_list(_INTEGER)), ["{'a': [1]}", "{'a': [NULL]}", "{'a': NULL}"]),
    "struct with a time": (_struct(a=_DATE), ["{'a': DATE '2026-01-01'}", "{'a': DATE '9999-01-01'}"]),
    "struct with an odd key": (_struct(**{"a b": _INTEGER}), ["{'a b': 1}", "{'a b': NULL}"]),
    "operator": (_struct(inc=_INTEGER), ["{'inc': 1}"]),
}


@pytest.mark.parametrize(("of", "values"), _VALUES.values(), ids=_VALUES.keys())
def test_fault_that_a_type_leaves_room_for_is_found(
    workbench: DuckDBPyConnection, of: SqlType, values: list[str]
) -> None:
    mode = MODES["users_track", "attributes"]
    sync = Sync.model_construct(mode_name=mode.name, track_record_type=mode.record_type)
    column = Column("v", of, Role.EXTRA, None, True)
    layout = Layout(sync, (column,), (), False, ())
    listed = ", ".join(f"(CAST({value} AS {of.text}))" for value in [*values, "NULL"])
    text = json_text("v", of, mode.nested_times)
    found = execute(
        workbench,
        f"""SELECT "json.v", {fault(layout, column)}, retl_json_fault("json.v", true), {is_operator('"json.v"')}
        FROM (SELECT *, {plain('"json.v"')} AS "plain.v"
            FROM (SELECT {text} AS "json.v" FROM (VALUES {listed}) AS rows(v)))""",
    ).fetchall()
    assert [(document, one) for document, one, _, _ in found] == [(document, one) for document, _, one, _ in found]
    assert may_be_operator(of) or not any(operates for *_, operates in found)


def test_double_has_the_digits_that_duckdb_gives_it(seed: int) -> None:
    draw = random.Random(seed)
    numbers = [draw.uniform(-1, 1) * 10 ** draw.randint(-8, 20) for _ in range(20_000)]
    numbers += [round(draw.uniform(-1e6, 1e6), draw.randint(0, 4)) for _ in range(20_000)]
    numbers += [0.0, -0.0, 0.001, 1e15, -1e15, 1e16, 0.1 + 0.2, 1e300, 5e-324]
    connection = connect()
    connection.execute("CREATE TABLE numbers AS SELECT unnest($1) AS v", [numbers])
    text = json_text('"v"', _DOUBLE)
    assert (
        connection.execute(f"SELECT v FROM numbers WHERE {text} IS DISTINCT FROM CAST(v AS VARCHAR)").fetchall() == []
    )


@pytest.mark.parametrize(("of", "values"), _VALUES.values(), ids=_VALUES.keys())
def test_value_of_a_column_has_the_text_that_it_has_inside_another(
    workbench: DuckDBPyConnection, of: SqlType, values: list[str]
) -> None:
    listed = ", ".join(f"(CAST({value} AS {of.text}))" for value in [*values, "NULL"])
    alone, inside = json_text('"v"', of), json_text("s.v", of)
    rows = f"SELECT v, {{'v': v}} AS s FROM (VALUES {listed}) AS rows(v)"
    differing = workbench.execute(f"SELECT v FROM ({rows}) WHERE {alone} IS DISTINCT FROM {inside}")
    assert differing.fetchall() == []
