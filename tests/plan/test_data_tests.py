"""Data tests: what holds of the rows that a model returns, or nothing is sent."""

import json
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.engines.duckdb.checks import is_condition
from reverse_etl.engines.duckdb.engine import DuckDBEngine
from reverse_etl.errors import Location
from reverse_etl.plan.data_tests import judge
from reverse_etl.plan.workbench import connect
from reverse_etl.project.models import Given, compile_given
from reverse_etl.project.readable import Readable
from reverse_etl.project.spec import Sync
from reverse_etl.project.spec_tests import DataTest
from reverse_etl.records.layout import lay_out
from tests.shop import Retl, Shop, examples, one_duckdb, some

ROWS = """
    SELECT * FROM (VALUES
        ('c-1', 'a@x.example', 'KR', 'gold'), ('c-2', NULL, 'KR', 'silver'),
        ('c-3', 'a@x.example', 'DE', 'platin'), ('c-4', NULL, 'DE', NULL)
    ) AS t(external_id, email, country, tier)
"""


def test_failed_test_stops_the_run_before_its_first_request(shop: Shop):
    shop.sync("members", ROWS, data_tests=[{"not_null": ["external_id"]}, {"not_null": "email"}])
    result = shop.run()
    assert (result.status, result.exit_code, shop.sent()) == ("blocked", 1, [])
    assert [str(problem) for problem in result.errors] == [
        "syncs.yml:20:5: members: data test not_null email: 2 rows fail\n"
        "  hint: keys c-2, c-4; to run anyway, pass --skip-guard data_tests to `retl sync members`"
    ]
    assert shop.listener.notices == []
    assert shop.rows_of("runs", "status", "message") == [("blocked", "members: data test not_null email: 2 rows fail")]


def test_test_of_severity_warn_is_said_and_the_run_goes_on(shop: Shop):
    shop.sync("members", ROWS, data_tests=[{"unique": {"column": "email", "severity": "warn"}}])
    result = shop.run()
    assert (result.status, result.exit_code, len(shop.sent())) == ("success", 0, 1)
    assert shop.listener.notices == ["members: warning: data test unique email: 2 rows fail (keys c-1, c-3)"]


def test_forced_run_passes_and_says_what_failed(shop: Shop):
    shop.sync("members", ROWS, data_tests=[{"not_null": "tier"}])
    result = shop.run(skip_guards=["data_tests"])
    assert (result.status, len(shop.sent())) == ("success", 1)
    assert shop.listener.notices == ["members: warning: data test not_null tier: 1 row fails (key c-4)"]


@pytest.mark.long
def test_rows_of_an_incremental_run_are_tested_as_it_reads_them(shop: Shop):
    shop.warehouse("CREATE TABLE seen AS SELECT 'c-1' AS id, 'home' AS page, TIMESTAMP '2026-01-01' AS seen_at")
    model = """
        SELECT id AS external_id, 'seen' AS name, seen_at AS time, page FROM seen
        {% if is_incremental() %} WHERE seen_at > {{ cursor() }} {% endif %}
    """
    options: dict[str, Any] = {"incremental": {"cursor": "time"}, "data_tests": [{"not_null": "page"}]}
    shop.sync("views", model, mode="users_track", track_record_type="events", **options)
    assert shop.run().status == "success"
    shop.warehouse("UPDATE seen SET page = NULL; INSERT INTO seen VALUES ('c-2', 'cart', TIMESTAMP '2026-01-02')")
    assert shop.run().status == "blocked"
    shop.warehouse("UPDATE seen SET seen_at = TIMESTAMP '2025-01-01' WHERE id = 'c-1'")
    assert shop.run().status == "success"


def test_rows_without_a_primary_key_are_named_as_rejects_name_them(shop: Shop):
    model = "SELECT 'c-1' AS external_id, 'seen' AS name, TIMESTAMP '2026-01-01' AS time, 'x' AS page"
    claim = {"column": "page", "values": ["home"], "severity": "warn"}
    shop.sync("views", model, mode="users_track", track_record_type="events", data_tests=[{"accepted_values": claim}])
    plan = shop.run().plan
    assert plan
    (key,) = plan.data_tests[0].keys
    assert shop.rows_of("state", "_retl_sent_at IS NOT NULL") == [(True,)]
    assert [len(key), key.isalnum()] == [32, True]


def test_whom_the_state_forgets_is_in_no_test_result_either(shop: Shop):
    shop.sync("members", ROWS, data_tests=[{"not_null": {"column": "email", "severity": "warn"}}])
    shop.run()
    ((counts,),) = shop.rows_of("runs", "counts")
    assert json.loads(counts)["data_tests"] == [
        {"number": 0, "name": "not_null email", "status": "warn", "failures": 2, "keys": []}
    ]


def test_seeding_the_state_tests_nothing_as_nothing_is_sent(shop: Shop, retl: Retl):
    shop.sync("members", ROWS, data_tests=[{"not_null": "email"}])
    assert retl("state", "baseline", "members", "--yes", folder=shop.folder).code == 0


# --- what fails ------------------------------------------------------------------------------------------------------


def run(tests: list[dict[str, Any]], model: str, **keys: Any) -> list[tuple[str, int, list[str]]]:
    """Status, failing rows and their keys of each test."""
    base = {"name": "m", "model": "m", "mode": "users_track", "track_record_type": "attributes"}
    sync = Sync.model_validate({**base, "primary_key": "external_id", **keys, "data_tests": tests})
    compiled = compile_given("m", Given(model, Location("models/m.sql")), "")
    with connect() as connection:
        engine = DuckDBEngine(connection, Readable())
        layout = lay_out(sync, "models/m.sql", engine.describe(compiled))
        return [(r.status, r.failures, list(r.keys)) for r in engine.run_data_tests(layout, compiled)]


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        pytest.param({"not_null": "email"}, ("fail", 2, ["c-2", "c-4"]), id="not_null"),
        pytest.param({"not_null": ["email", "tier"]}, ("fail", 2, ["c-2", "c-4"]), id="one of several is null"),
        pytest.param({"unique": "email"}, ("fail", 2, ["c-1", "c-3"]), id="nulls are nobody's twin"),
        pytest.param({"unique": ["email", "country"]}, ("pass", 0, []), id="unique together"),
        pytest.param({"unique": "country"}, ("fail", 4, ["c-1", "c-2", "c-3", "c-4"]), id="several pairs"),
        pytest.param(
            {"unique": {"column": "country", "where": "tier <> 'platin'"}},
            ("fail", 2, ["c-1", "c-2"]),
            id="unique where",
        ),
        pytest.param(
            {"accepted_values": {"column": "tier", "values": ["gold", "silver"]}},
            ("fail", 1, ["c-3"]),
            id="accepted_values looks at no null",
        ),
        pytest.param(
            {"accepted_values": {"column": "tier", "values": ["gold"], "where": "country = 'DE' -- only there"}},
            ("fail", 1, ["c-3"]),
            id="where with a comment",
        ),
        pytest.param(
            {"not_null": {"column": "email", "where": "tier = 'gold' OR tier = 'platin'"}},
            ("pass", 0, []),
            id="or in where",
        ),
        pytest.param({"not_null": {"column": "email", "where": "NULL"}}, ("pass", 0, []), id="where is null"),
    ],
)
def test_rows_that_fail_are_counted_and_named(test: dict[str, Any], expected: tuple[str, int, list[str]]):
    assert run([test], ROWS) == [expected]


@pytest.mark.parametrize("test", [{"unique": "email"}, {"not_null": "email"}], ids=["unique", "not_null"])
def test_model_without_rows_passes(test: dict[str, Any]):
    assert run([test], f"SELECT * FROM ({ROWS}) WHERE false") == [("pass", 0, [])]


@pytest.mark.parametrize(
    ("sql", "values", "failures"),
    [
        pytest.param("1::INTEGER", [1, 2], 0, id="integer"),
        pytest.param("3::INTEGER", [1, 2], 1, id="another integer"),
        pytest.param("1.50::DECIMAL(9, 2)", [1.5], 0, id="decimal"),
        pytest.param("true", [True], 0, id="boolean"),
        pytest.param("false", [True], 1, id="another boolean"),
        pytest.param("'1'", [1], 0, id="text that looks like a number"),
        pytest.param("DATE '2026-01-01'", [date(2026, 1, 1)], 0, id="date"),
        pytest.param("TIMESTAMP '2026-01-01'", [date(2026, 1, 1)], 0, id="timestamp"),
        pytest.param("'a'::ENUM('a', 'b')", ["b", "c"], 1, id="enum"),
        pytest.param("7", ["seven"], 1, id="value that the type cannot be"),
        pytest.param("'it''s'", ["it's"], 0, id="quote"),
        pytest.param("NULL", ["a"], 0, id="nothing"),
    ],
)
def test_values_are_compared_in_the_type_of_the_column(sql: str, values: list[Any], failures: int):
    test = {"accepted_values": {"column": "v", "values": values}}
    ((_, found, _),) = run([test], f"SELECT 'c-1' AS external_id, {sql} AS v")
    assert found == failures


@pytest.mark.parametrize(
    ("keys", "verdicts"),
    [
        pytest.param({}, "pass fail fail", id="default"),
        pytest.param({"severity": "warn"}, "pass warn warn", id="warn"),
        pytest.param({"error_if": "> 3"}, "pass warn fail", id="few are a warning"),
        pytest.param({"error_if": ">3", "warn_if": ">= 3"}, "pass pass fail", id="few are nothing"),
        pytest.param(
            {"severity": "warn", "error_if": "> 3", "warn_if": "> 2"}, "pass pass warn", id="error_if of a warning"
        ),
        pytest.param({"error_if": "= 0"}, "fail warn warn", id="none is an error"),
    ],
)
def test_thresholds_decide_as_in_dbt(keys: dict[str, Any], verdicts: str):
    test = DataTest.model_validate({"not_null": {"column": "a", **keys}})
    assert [result.status for n in (0, 2, 4) for result in judge([test], [(n, ())])] == verdicts.split()


def test_messages_name_five_keys_at_most():
    test = DataTest.model_validate({"not_null": "v"})
    model = "SELECT 'c-' || i AS external_id, NULL AS v FROM range(1, 8) AS t(i)"
    ((_, failures, keys),) = run([{"not_null": "v"}], model)
    (result,) = judge([test], [(failures, keys)])
    assert (str(result), result.named) == (
        "data test not_null v: 7 rows fail",
        "keys c-1, c-2, c-3, c-4, c-5 and 2 more",
    )


VALUES = st.lists(st.tuples(st.sampled_from([None, "a", "b", "c"]), st.sampled_from([None, 1, 2])), max_size=12)


@settings(max_examples=examples(12, 100))
@given(VALUES)
@pytest.mark.long
def test_counts_are_those_that_a_person_would_count(rows: list[tuple[str | None, int | None]]):
    listed = ", ".join(
        f"('k{i:02}', {'NULL' if a is None else repr(a)}, {b or 'NULL'})" for i, (a, b) in enumerate(rows)
    )
    model = (
        f"SELECT * FROM (VALUES ('-', NULL, 0), {listed}) AS t(external_id, a, b) WHERE external_id <> '-'"
        if rows
        else ("SELECT 'k' AS external_id, 'a' AS a, 1 AS b WHERE false")
    )
    tests = [
        {"not_null": "a"},
        {"unique": "a"},
        {"unique": ["a", "b"]},
        {"accepted_values": {"column": "b", "values": [1]}},
    ]
    found = run(tests, model)
    whole = Counter(row for row in rows if None not in row)
    first = Counter(a for a, _ in rows if a is not None)
    failing = [
        [i for i, (a, _) in enumerate(rows) if a is None],
        [i for i, (a, _) in enumerate(rows) if first[a] > 1],
        [i for i, row in enumerate(rows) if whole[row] > 1],
        [i for i, (_, b) in enumerate(rows) if b == 2],
    ]
    assert [number for _, number, _ in found] == [len(numbers) for numbers in failing]
    for (_, _, keys), numbers in zip(found, failing, strict=True):
        assert set(keys) <= {f"k{i:02}" for i in numbers}
        assert len(keys) == min(5, len(numbers))


# --- plans, and the command ------------------------------------------------------------------------------------------


@pytest.fixture
def members(shop: Shop) -> Path:
    warn = {"column": "tier", "values": ["gold", "silver"], "severity": "warn"}
    shop.sync("members", ROWS, data_tests=[{"not_null": "email"}, {"accepted_values": warn}, {"not_null": "country"}])
    return shop.folder


WHERE_NOT_NULL = "syncs.yml:18:5"
STOP = f"""{WHERE_NOT_NULL}: members: data test not_null email: 2 rows fail
  hint: keys c-2, c-4; to run anyway, pass --skip-guard data_tests to `retl sync members`
"""


def test_plan_says_what_came_of_the_tests(retl: Retl, members: Path):
    outcome = retl("plan", "members", folder=members)
    assert (outcome.code, outcome.err) == (1, STOP)
    assert [line for line in outcome.out.splitlines() if "test" in line and "users_track" not in line] == [
        "  data tests: 1 pass, 1 warn, 1 fail",
        "  warning: data test accepted_values tier: 1 row fails (key c-3)",
    ]
    (plan,) = json.loads(retl("plan", "members", "--output", "json", folder=members).out)
    assert [(t["name"], t["status"], t["failures"], t["keys"]) for t in plan["data_tests"]] == [
        ("not_null email", "fail", 2, ["c-2", "c-4"]),
        ("accepted_values tier", "warn", 1, ["c-3"]),
        ("not_null country", "pass", 0, []),
    ]


def test_plan_on_a_pull_request_names_no_rows(retl: Retl, members: Path):
    out = retl("plan", "members", "--output", "markdown", folder=members).out
    assert out.splitlines()[-3:] == [
        "> warning: members: data test accepted_values tier: 1 row fails",
        "",
        f"> members: data test not_null email: 2 rows fail ({WHERE_NOT_NULL})",
    ]
    assert "c-2" not in out


@pytest.mark.long
def test_saved_plan_was_tested_when_it_was_made(retl: Retl, members: Path, shop: Shop):
    retl("plan", "members", "--out", "p", folder=members)
    shop.warehouse("SELECT 1")
    refused = retl("apply", "p", folder=members)
    assert (refused.code, shop.sent()) == (1, [])
    assert STOP.replace("`retl sync members`", "`retl apply FILE`") in refused.err
    skipped = retl("apply", "p", "--skip-guard", "data_tests", folder=members)
    assert (skipped.code, len(shop.sent())) == (0, 1)
    assert "members: warning: data test not_null email: 2 rows fail (keys c-2, c-4)\n" in skipped.err


def test_command_runs_data_tests_if_it_is_told_to(retl: Retl, members: Path, shop: Shop):
    outcome = retl("test", folder=members)
    nothing = 'nothing to test: add "unit_tests" to syncs.yml, or run data tests with --data\n'
    assert (outcome.code, outcome.out, outcome.err) == (0, "", nothing)
    outcome = retl("test", "--data", folder=members)
    assert outcome.code == 1
    assert outcome.out == (
        "FAIL   members: not_null email, syncs.yml:18:5: 2 rows (keys c-2, c-4)\n"
        "warn   members: accepted_values tier, syncs.yml:19:5: 1 row (key c-3)\n"
        "pass   members: not_null country\n"
    )
    assert outcome.err.startswith("3 data tests: 1 pass, 1 warn, 1 fail (")
    (first, *_) = json.loads(retl("test", "--data", "--output", "json", folder=members).out)
    assert first == {
        "test_type": "data",
        "name": "not_null email",
        "sync": "members",
        "location": {"file": "syncs.yml", "line": 18, "column": 5},
        "status": "fail",
        "failures": 2,
        "keys": ["c-2", "c-4"],
    }
    assert not (members / ".retl").exists()
    assert shop.sent() == []


def test_unknown_guard_is_offered_data_tests(retl: Retl, members: Path):
    assert retl("sync", "members", "--skip-guard", "data_test", folder=members).err == (
        '--skip-guard: unknown guard "data_test"\n  hint: did you mean "data_tests"?\n'
    )


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        pytest.param(
            {"not_null": ["external_id", "emial"]},
            'syncs.yml:19:5: data test not_null in sync "members": the model has no column "emial"\n'
            '  hint: did you mean "email"?',
            id="unknown column",
        ),
        pytest.param(
            {"unique": {"column": "emial"}},
            'syncs.yml:19:15: data test unique in sync "members": the model has no column "emial"\n'
            '  hint: did you mean "email"?',
            id="unknown column in full",
        ),
        pytest.param(
            {"not_null": {"column": "email", "where": "contry = 'KR'"}},
            'syncs.yml:20:14: data test in sync "members": where: Binder Error: Referenced column "contry" not found in '
            'FROM clause! Candidate bindings: "country"\n'
            '  hint: "where" must be SQL over the columns that the model returns',
            id="where",
        ),
    ],
)
def test_mistakes_lead_to_the_place_in_the_file(shop: Shop, test: dict[str, Any], expected: str):
    shop.sync("members", ROWS, data_tests=[test])
    (result,) = shop.run_all("members")
    assert [str(problem) for problem in result.errors] == [expected]
    assert (result.exit_code, shop.sent()) == (2, [])


CONDITIONS = ["tier = 'a;b' -- one;", "id IN (SELECT 1)", "(a) OR (b)", "list_filter(l, x -> x > 1) = []", "a /* ) */"]
OTHERS = [
    "true); DELETE FROM members; SELECT (true",
    "true; DELETE FROM members",
    "true; SELECT 1",
    "true) OR (true",
    "true) UNION ALL SELECT 1 FROM t WHERE (true",
    "true UNION ALL SELECT 1",
    "true GROUP BY ALL",
    "true ORDER BY 1",
    "true LIMIT 1",
    "true QUALIFY row_number() OVER () = 1",
    "true)",
    "true /*",
    "-- true",
    "",
]


@pytest.mark.parametrize("text", CONDITIONS)
def test_condition_is_a_condition(text: str):
    assert is_condition(one_duckdb(), text)


def test_anything_but_one_condition_is_refused_before_it_is_run(shop: Shop):
    assert [text for text in OTHERS if is_condition(one_duckdb(), text)] == []
    shop.warehouse("CREATE TABLE members AS SELECT 1 AS id")
    for text in some(filter(None, OTHERS), every=4):
        shop.sync("members", ROWS, data_tests=[{"not_null": {"column": "email", "where": text}}])
        (result,) = shop.run_all("members")
        assert [str(problem) for problem in result.errors] == [
            'syncs.yml:20:14: data test in sync "members": where: not a single SQL condition\n'
            "  hint: write one expression that is true or false, such as country = 'KR'"
        ]
        assert (result.exit_code, shop.sent()) == (2, [])


def test_tests_see_columns_that_are_not_sent(shop: Shop):
    shop.sync("members", ROWS, exclude_columns=["tier"], data_tests=[{"not_null": "tier"}])
    assert shop.run().status == "blocked"


def test_error_in_the_model_is_the_models_also_where_tests_come_first(shop: Shop):
    shop.sync(
        "members",
        "SELECT 'c-1' AS external_id,\n  CAST('x' || random() AS INTEGER) AS n",
        data_tests=[{"not_null": "n"}],
    )
    (problem,) = shop.run().errors
    assert (str(problem.location), problem.hint) == (
        "models/members.sql:2",
        "see the compiled SQL in target/compiled/members.sql, line 2",
    )


def test_where_that_fails_on_a_row_is_told_from_the_model(shop: Shop):
    shop.sync("members", ROWS, data_tests=[{"not_null": {"column": "email", "where": "CAST(tier AS INTEGER) > 1"}}])
    assert [str(problem) for problem in shop.run().errors] == [
        'syncs.yml:18:3: data test in sync "members": Conversion Error: Could not convert string *** to INT32 when '
        'casting from source column tier\n  hint: check "where" in its data tests'
    ]
