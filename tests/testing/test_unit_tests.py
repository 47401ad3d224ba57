"""Unit tests in YAML: given rows in, records out, by the way that a run goes."""

import json
import random
import textwrap
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverse_etl.testing.comparison import differences, json_of
from reverse_etl.testing.fixtures import csv_rows
from tests.shop import Outcome, Retl

HEAD = """\
version: 1
targets:
  dev:
    warehouse: {type: duckdb, path: nowhere.duckdb}
    destination: {type: braze, endpoint: sandbox}
vars: {country: KR}
syncs:
"""
MEMBERS = """\
  - name: members
    model: members
    mode: users_track
    track_record_type: attributes
"""
MODELS = {
    "members": """
        select id as external_id, tier, joined_at, interests, spent
        from {{ ref('people') }} left join {{ ref('spending') }} using (id)
    """,
    "people": "select id, tier, joined_at, string_split(interests, '|') as interests from {{ ref('raw_people') }}",
    "spending": "select id, sum(price)::decimal(18, 2) as spent from {{ source('app', 'orders') }} group by id",
}
SEED = "id,tier,joined_at,interests\nc-9,gold,2026-01-01,running|coffee\n"
Tested = Callable[..., Outcome]


@pytest.fixture
def tested(tmp_path: Path, retl: Retl) -> Tested:
    """`retl test` on a project with one sync (or others), its models, and unit tests given as YAML."""

    def run(tests: str, *arguments: str, syncs: str = MEMBERS, models: dict[str, str] = MODELS) -> Outcome:
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "seeds").mkdir(exist_ok=True)
        (tmp_path / "seeds/raw_people.csv").write_text(SEED)
        for name, sql in models.items():
            (tmp_path / f"models/{name}.sql").write_text(textwrap.dedent(sql).strip() + "\n")
        unit_tests = "unit_tests:\n" + textwrap.indent(textwrap.dedent(tests).strip(), "  ") + "\n"
        (tmp_path / "syncs.yml").write_text(HEAD + syncs + unit_tests)
        return retl("test", *arguments)

    return run


def passes(outcome: Outcome) -> bool:
    return outcome.code == 0 and outcome.out.startswith("pass")


def lines(outcome: Outcome) -> list[str]:
    return outcome.out.splitlines()


NO_ORDERS = """
      - input: source('app', 'orders')
        format: sql
        rows: select null as id, null as price where false
"""


# --- what passes, and how a failure looks ----------------------------------------------------------------------------


def test_given_rows_become_the_records_that_are_expected(tested: Tested):
    outcome = tested("""
        - name: spending_is_summed
          sync: members
          given:
            - input: ref('people')
              rows:
                - {id: c-1, tier: gold, joined_at: 2026-01-01, interests: [running]}
                - {id: c-2}
            - input: source('app', 'orders')
              rows: [{id: c-1, price: 10.5}, {id: c-1, price: 2}]
          expect:
            records:
              - {external_id: c-2}
              - {external_id: c-1, tier: gold, joined_at: 2026-01-01, interests: [running], spent: 12.50}
    """)
    assert (outcome.code, outcome.out) == (0, "pass   spending_is_summed (members)\n")
    assert outcome.err.startswith("1 unit test: 1 pass (")


def test_failure_shows_what_differs_is_missing_and_was_not_expected(tested: Tested):
    outcome = tested("""
        - name: wrong
          sync: members
          given:
            - input: ref('people')
              rows: [{id: c-1, tier: gold, joined_at: 2026-01-01}, {id: c-2}, {id: " "}]
            - input: source('app', 'orders')
              rows: [{id: c-1, price: 10}]
          expect:
            records:
              - {external_id: c-1, tier: silver, interests: null, spent: 10}
              - {external_id: c-3, tier: gold}
            invalid: [{key: c-4, column: tier}]
    """)
    assert outcome.code == 1
    assert lines(outcome) == [
        "FAIL   wrong (members), syncs.yml:13:5",
        "      - expected  + actual",
        '        {"external_id": "c-1"}',
        '          - tier: "silver"',
        '          + tier: "gold"',
        "          - interests: null",
        "          + interests: nothing",
        "          - joined_at: nothing",
        '          + joined_at: "2026-01-01"',
        '      - {"external_id": "c-3", "tier": "gold"}',
        '      + {"external_id": "c-2"}',
        '      - invalid {"key": "c-4", "column": "tier"}',
        '      + invalid {"key": " ", "column": "external_id", "reason": "is empty"}',
    ]
    assert outcome.err.startswith("1 unit test: 1 fail (")


def test_neither_warehouse_nor_state_nor_key_is_touched(
    tested: Tested, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("BRAZE_API_KEY")
    assert passes(
        tested(f"""
        - name: nobody
          sync: members
          given:
            - input: ref('people')
              rows: []
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect: {{records: []}}
    """)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "seeds", "syncs.yml", "target"]


def test_target_need_not_have_what_it_takes_from_the_environment(tested: Tested, tmp_path: Path, retl: Retl):
    """A pull request is tested without secrets, whatever its default target is; data tests need the warehouse."""
    tested(
        "- {name: t, sync: any, expect: {records: [{external_id: '1'}]}}",
        syncs=ANY,
        models={"any": "select 1 as external_id"},
    )
    spec = tmp_path / "syncs.yml"
    spec.write_text(spec.read_text().replace("nowhere.duckdb", "\"{{ env_var('WAREHOUSE_PATH') }}\""))
    assert retl("test").out == "pass   t (any)\n"
    outcome = retl("test", "--data")
    assert (outcome.code, outcome.err.splitlines()[0]) == (
        2,
        'syncs.yml:4:37: environment variable "WAREHOUSE_PATH" is not set',
    )


def test_result_for_programs(tested: Tested):
    outcome = tested(
        f"""
        - name: nobody
          sync: members
          given:
            - input: ref('people')
              rows: [{{id: c-1, tier: gold}}]
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect: {{records: [{{external_id: c-1, tier: 1}}, {{external_id: c-2}}]}}
        """,
        "--output",
        "json",
    )
    (result,) = json.loads(outcome.out)
    assert isinstance(result.pop("duration_s"), float)
    assert (outcome.code, result) == (
        1,
        {
            "test_type": "unit",
            "name": "nobody",
            "sync": "members",
            "location": {"file": "syncs.yml", "line": 13, "column": 5},
            "status": "fail",
            "differences": [
                {
                    "what": "differs",
                    "record": '{"external_id": "c-1"}',
                    "members": {"tier": {"expected": "1", "actual": '"gold"'}},
                },
                {"what": "missing", "record": '{"external_id": "c-2"}', "members": {}},
            ],
            "errors": [],
        },
    )


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_model_that_is_not_given_is_run_on_what_is(tested: Tested):
    assert passes(
        tested(f"""
        - name: interests_are_split
          sync: members
          given:
            - input: ref("raw_people")
              rows: [{{id: c-1, interests: running|coffee}}]
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect:
            records: [{{external_id: c-1, interests: [running, coffee]}}]
    """)
    )


def test_seed_without_rows_has_those_of_its_file(tested: Tested):
    assert passes(
        tested(f"""
        - name: of_the_file
          sync: members
          given:
            - input: ref('raw_people')
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect:
            records: [{{external_id: c-9, tier: gold, joined_at: "2026-01-01", interests: [running, coffee]}}]
    """)
    )


def test_csv_has_the_types_of_the_seed_it_stands_in_for(tested: Tested):
    """`tier` is text in the seed, so 007 stays as it is; `joined_at` is a date."""
    assert passes(
        tested(f"""
        - name: typed
          sync: members
          given:
            - input: ref('raw_people')
              format: csv
              rows: |
                id,tier,joined_at
                c-1,007,2026-01-02
                "c,2",,
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect:
            records:
              - {{external_id: c-1, tier: "007", joined_at: 2026-01-02}}
              - {{external_id: "c,2"}}
    """)
    )


def test_csv_of_an_unknown_table_is_typed_as_a_seed_would_be(tested: Tested):
    assert passes(
        tested(
            """
        - name: typed
          sync: orders
          given:
            - input: source('app', 'orders')
              format: csv
              rows: |
                id,amount,at,paid
                1,2.50,2026-01-02 03:04:05,true
          expect:
            records: [{external_id: "1", amount: 2.5, at: "2026-01-02T03:04:05.000Z", paid: true}]
    """,
            syncs="  - {name: orders, model: orders, mode: users_track, track_record_type: attributes}\n",
            models={"orders": "select id as external_id, amount, \"at\", paid from {{ source('app', 'orders') }}"},
        )
    )


def test_fixtures_lie_where_dbt_keeps_them(tested: Tested, tmp_path: Path):
    (tmp_path / "tests/fixtures").mkdir(parents=True)
    (tmp_path / "tests/fixtures/two_people.csv").write_text("id,tier\nc-1,gold\nc-2,silver\n")
    (tmp_path / "tests/fixtures/no_orders.sql").write_text("select null as id, null as price where false;\n")
    assert passes(
        tested("""
        - name: fixtures
          sync: members
          given:
            - {input: ref('people'), format: csv, fixture: two_people}
            - {input: "source('app', 'orders')", format: sql, fixture: no_orders}
          expect: {records: [{external_id: c-1, tier: gold}, {external_id: c-2, tier: silver}]}
    """)
    )


ANY = "  - {name: any, model: any, mode: users_track, track_record_type: attributes}\n"


OF_VALUES = {
    "whole number": ("1", "1"),
    "64 bits": ("9223372036854775807", "9223372036854775807"),
    "number": ("1.5", "1.5"),
    "boolean": ("true", "true"),
    "text": ("it's", "it's"),
    "Jinja is text": ('"{{ x }}"', '"{{ x }}"'),
    "date": ("2026-01-01", '"2026-01-01"'),
    "time": ("2026-01-01 02:03:04", '"2026-01-01T02:03:04.000Z"'),
    "time with a zone": ("2026-01-01T02:03:04+09:00", "2026-01-01T02:03:04+09:00"),
    "list": ("[a, b]", "[a, b]"),
    "mapping": ("{a: 1, b: {c: x}}", "{a: 1, b: {c: x}}"),
}


def test_types_come_from_the_values_where_nobody_knows_better(tested: Tested):
    """A column for each kind of value."""
    values, records = (
        ", ".join(f"v{n}: {pair[place]}" for n, pair in enumerate(OF_VALUES.values())) for place in range(2)
    )
    columns = ", ".join(f"v{n}" for n in range(len(OF_VALUES)))
    outcome = tested(
        f"""
        - name: typed
          sync: any
          given: [{{input: "source('app', 'any')", rows: [{{id: 1, {values}}}, {{id: 2}}]}}]
          expect: {{records: [{{external_id: "1", {records}}}, {{external_id: "2"}}]}}
    """,
        syncs=ANY,
        models={"any": f"select id as external_id, {columns} from {{{{ source('app', 'any') }}}}"},
    )
    assert (outcome.code, lines(outcome)) == (0, ["pass   typed (any)"])


# --- what Braze has --------------------------------------------------------------------------------------------------


def test_only_changed_columns_go_and_what_went_is_cleared(tested: Tested):
    assert passes(
        tested(f"""
        - name: changes
          sync: members
          given:
            - input: ref('people')
              rows: [{{id: c-1, tier: gold}}, {{id: c-2, tier: gold}}, {{id: c-3}}]
            - input: this
              rows:
                - {{external_id: c-1, tier: silver, joined_at: 2026-01-01}}
                - {{external_id: c-2, tier: gold}}
                - {{external_id: c-4, tier: gold}}
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect:
            records: [{{external_id: c-1, tier: gold, joined_at: null}}, {{external_id: c-3}}]
    """)
    )


@pytest.mark.long
def test_row_that_left_the_model_is_acted_on(tested: Tested):
    acts = {
        "clear": ("on_removed: clear", "[{external_id: c-4, tier: null, _update_existing_only: true}]"),
        "delete": ("on_removed: delete\n    allow_destructive: true", "[{external_ids: [c-4]}]"),
        "ignore": ("send: all_columns", "[]"),
    }
    tests = (
        f"""- name: of_{name}
  sync: {name}
  given:
    - {{input: ref('people'), rows: []}}
    - {{input: this, rows: [{{external_id: c-4, tier: gold}}]}}
    - {{input: "source('app', 'orders')", format: sql, rows: "select null as id, null as price where false"}}
  expect: {{records: {records}}}"""
        for name, (_, records) in acts.items()
    )
    syncs = "".join(
        f"{MEMBERS.replace('name: members', f'name: {name}')}    {keys}\n" for name, (keys, _) in acts.items()
    )
    outcome = tested("\n".join(tests), syncs=syncs)
    assert (outcome.code, lines(outcome)) == (0, [f"pass   of_{name} ({name})" for name in acts])


def test_acknowledged_event_is_not_sent_again(tested: Tested):
    outcome = tested(
        """
        - name: twins
          sync: seen
          given:
            - input: source('app', 'views')
              rows: &views
                - {external_id: c-1, time: 2026-01-01 00:00:00, page: home}
            - {input: this, rows: [{external_id: c-1, name: seen, time: 2026-01-01 00:00:00, page: home}]}
          expect: {records: []}
        - name: new
          sync: seen
          given: [{input: "source('app', 'views')", rows: *views}]
          expect:
            records: [{external_id: c-1, name: seen, time: 2026-01-01 00:00:00, properties: {page: away}}]
    """,
        syncs="  - {name: seen, model: seen, mode: users_track, track_record_type: events}\n",
        models={"seen": "select external_id, 'seen' as name, time, page from {{ source('app', 'views') }}"},
    )
    assert lines(outcome) == [
        "pass   twins (seen)",
        "FAIL   new (seen), syncs.yml:18:5",
        "      - expected  + actual",
        '        {"external_id": "c-1"}',
        '          - properties.page: "away"',
        '          + properties.page: "home"',
    ]


def test_rows_that_braze_cannot_have_acknowledged_are_an_error(tested: Tested):
    outcome = tested(f"""
        - name: impossible
          sync: members
          given:
            - {{input: ref('people'), rows: []}}
            - {{input: this, rows: [{{external_id: " ", tier: gold}}]}}
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect: {{records: []}}
    """)
    assert (outcome.code, lines(outcome)) == (
        1,
        [
            "ERROR  impossible (members), syncs.yml:13:5",
            "      syncs.yml:17:9: row   cannot have been acknowledged: external_id is empty",
            "        hint: exclude these rows: WHERE trim(external_id) IS DISTINCT FROM ''",
        ],
    )


# --- overrides -------------------------------------------------------------------------------------------------------

OVERRIDDEN = """
    select
        id as external_id, '{{ var('country') }}' as country, '{{ env_var('SHOP', 'main') }}' as shop,
        '{{ run_started_at.strftime('%Y-%m-%d') }}' as ran, '{{ scheduled_time.strftime('%H:%M') }}' as due
    from {{ source('app', 'any') }}
    {% if is_incremental() %} where updated_at > {{ cursor() }} {% endif %}
"""


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        pytest.param("{}", "country: KR, shop: main", id="nothing"),
        pytest.param("{vars: {country: DE}, env_vars: {SHOP: 2}}", "country: DE, shop: '2'", id="vars and env_vars"),
    ],
)
def test_vars_and_environment_are_those_of_the_test(tested: Tested, overrides: str, expected: str):
    macros = "macros: {run_started_at: 2026-02-03, scheduled_time: '2026-02-03 04:05:00'}"
    told = overrides[:-1] + (", " if overrides != "{}" else "") + macros + "}"
    assert passes(
        tested(
            f"""
        - name: overridden
          sync: any
          given: [{{input: "source('app', 'any')", rows: [{{id: 1, updated_at: 2026-01-01}}]}}]
          overrides: {told}
          expect: {{records: [{{external_id: "1", {expected}, ran: "2026-02-03", due: "04:05"}}]}}
    """,
            syncs=ANY,
            models={"any": OVERRIDDEN},
        )
    )


def test_incremental_model_reads_from_the_cursor_of_the_test(tested: Tested):
    cases = {
        "{}": "12",
        "{is_incremental: false}": "12",
        "{is_incremental: true, cursor: 2026-01-01}": "2",
        "{is_incremental: true, cursor: '2025-12-31 23:59:59'}": "12",
    }
    model = """
        select id as external_id, updated_at from {{ source('app', 'any') }}
        {% if is_incremental() %} where updated_at > {{ cursor() }} {% endif %}
    """
    tests = (
        f"""- name: t{n}
  sync: any
  given:
    - input: source('app', 'any')
      rows: [{{id: 1, updated_at: 2026-01-01 00:00:00}}, {{id: 2, updated_at: 2026-01-02 00:00:00}}]
  overrides: {{macros: {macros}}}
  expect: {{records: [{", ".join(f'{{external_id: "{key}"}}' for key in sent)}]}}"""
        for n, (macros, sent) in enumerate(cases.items())
    )
    sync = ANY.replace("}", ", incremental: {cursor: updated_at}, exclude_columns: updated_at}")
    outcome = tested("\n".join(tests), syncs=sync, models={"any": model})
    assert (outcome.code, lines(outcome)) == (0, [f"pass   t{n} (any)" for n in range(len(cases))])


# --- what is refused -------------------------------------------------------------------------------------------------


def test_invalid_rows_are_expected_by_key_column_and_reason(tested: Tested):
    assert passes(
        tested(
            f"""
        - name: refused
          sync: members
          given:
            - input: ref('people')
              rows: [{{id: c-1, tier: {"x" * 300}}}, {{id: "", tier: a}}, {{id: c-2}}]
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect:
            records: [{{external_id: c-2}}]
            invalid:
              - {{key: c-1, column: tier, reason: is longer than 255 characters}}
              - {{key: ""}}
    """,
            syncs=f"{MEMBERS}    strict: true\n",
        )
    )


def test_model_that_fails_on_given_rows_is_an_error_of_its_test_alone(tested: Tested):
    outcome = tested(f"""
        - name: twice
          sync: members
          given:
            - input: ref('people')
              rows: [{{id: c-1}}, {{id: c-1}}]
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect: {{records: []}}
        - name: no_date
          sync: members
          given:
            - input: ref('people')
              rows: [{{id: c-1, joined_at: soon}}]
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect: {{records: []}}
        - name: fine
          sync: members
          given:
            - input: ref('people')
              rows: [{{id: c-1}}]
            {textwrap.indent(NO_ORDERS, " " * 6).strip()}
          expect: {{records: [{{external_id: c-1}}]}}
    """)
    assert outcome.code == 1
    assert lines(outcome) == [
        "ERROR  twice (members), syncs.yml:13:5",
        '      syncs.yml:8:5: members: primary_key "external_id" is not unique: 1 key occurs in 2 rows: c-1 (2 rows)',
        "        hint: return one row per key (GROUP BY, QUALIFY row_number() ...), or add columns to primary_key"
        "; to send the others, set skip_on_invalid_records: true",
        "ERROR  no_date (members), syncs.yml:22:5",
        "      syncs.yml:25:9: Conversion Error: invalid date field format: ***, expected format is (YYYY-MM-DD)",
        "        hint: see the compiled SQL in target/compiled/unit_tests/no_date.sql, line 3",
        "pass   fine (members)",
    ]


def test_mistakes_in_inputs_are_shown_together_with_their_places(tested: Tested):
    outcome = tested("""
        - name: first
          sync: members
          expect: {records: []}
          given:
            - input: ref('people')
              rows: [{id: c-1, teir: gold}]
            - input: ref('poeple')
              rows: [{a: 1}]
            - input: source('app', 'orders')
              format: csv
              rows: |
                id,price
                c-1
        - name: second
          sync: members
          expect: {records: []}
          given:
            - input: ref('spending')
            - {input: ref('people'), format: csv, fixture: nobody}
        - name: third
          sync: members
          expect: {records: []}
          given:
            - {input: this, rows: [{external_id: c-1, ter: x}]}
            - {input: ref('raw_people')}
            - {input: ref('spending'), rows: [{id: c-1, spent: 1}]}
        - name: fourth
          sync: members
          expect: {records: []}
          given: [{input: ref('people'), rows: []}]
    """)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines() == [
        "models/spending.sql:1: unit test \"fourth\" (syncs.yml:39:5): no rows are given for source('app', 'orders')",
        "  hint: unit tests read no tables: add `- input: source('app', 'orders')` with its rows to \"given\"",
        'syncs.yml:18:26: unit test "first": ref(\'people\') has no column "teir"',
        '  hint: did you mean "tier"?',
        'syncs.yml:19:16: unit test "first": no model of sync "members" uses ref(\'poeple\')',
        "  hint: remove it, or use one of the inputs: ref('people'), source('app', 'orders'), ref('spending')",
        "syncs.yml:23:15: unit test \"first\": source('app', 'orders'): row 1 has 1 field, but the header has 2",
        'syncs.yml:30:9: unit test "second": ref(\'spending\') has no "rows", and is not a seed, whose rows could come from its file',
        '  hint: add "rows"',
        "syncs.yml:31:54: tests/fixtures/nobody.csv does not exist",
        'syncs.yml:36:49: unit test "third": this has no column "ter"',
        '  hint: did you mean "tier"?',
    ]


def test_mistakes_in_keys_are_shown_with_the_others_of_the_file(tested: Tested):
    outcome = tested(
        """
        - name: a
          sync: mebers
          given:
            - {input: reff('people'), rows: []}
            - {input: ref('people'), rows: x}
            - {input: this}
          overrides: {macros: {is_incremental: true}, vras: {}}
          expect: {}
        - {name: a, sync: members, expect: {recrods: []}}
        - name: b
          sync: members
          given: [{input: this, rows: []}, {input: this, rows: []}]
          expect: {records: []}
    """,
        syncs=MEMBERS + "    data_tests: [{not_nul: x}, {unique: {column: a, error_if: 3}}]\n",
    )
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines() == [
        'syncs.yml:12:19: unknown key "not_nul" in sync "members"',
        '  hint: did you mean "not_null"?',
        'syncs.yml:12:63: "error_if" in sync "members" must be a comparison such as "> 10"',
        'syncs.yml:15:11: unknown sync "mebers" in unit test "a"',
        '  hint: did you mean "members"?',
        "syncs.yml:17:9: \"given\" in unit test \"a\" has the input \"reff('people')\": use ref('name'), source('name', 'table') or this",
        'syncs.yml:18:9: "given" in unit test "a" has "rows" that are not a list of mappings, as "format: dict" requires',
        'syncs.yml:19:9: "given" in unit test "a" has no "rows" for this',
        'syncs.yml:20:25: "macros" in unit test "a" must set both "is_incremental: true" and "cursor", or neither',
        'syncs.yml:20:49: unknown key "vras" in unit test "a"',
        '  hint: did you mean "vars"?',
        'syncs.yml:21:13: "expect" in unit test "a" needs "records" or "invalid"; "records: []" if nothing should be sent',
        'syncs.yml:22:12: duplicate unit test "a", first defined on line 14',
        "  hint: rename one of them",
        'syncs.yml:22:39: unknown key "recrods" in unit test "a"',
        '  hint: did you mean "records"?',
        'syncs.yml:25:46: duplicate input this in "given" of unit test "b"',
        "  hint: combine the rows under one input",
    ]


def test_names_and_rows_that_yaml_reads_otherwise_are_told_apart(tested: Tested):
    """A column that is called 1 is a name like any other; a row that is none is a mistake."""
    outcome = tested("""
        - name: a
          sync: members
          given:
            - {input: ref('people'), rows: [{1: a}, null]}
            - {input: ref('spending'), rows: {id: 1}}
          overrides: {vars: {1: 2}, macros: {run_started_at: soon, cursor: yes}}
          expect: {records: [a], invalid: [b]}
        -
    """)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines() == [
        'syncs.yml:16:38: "rows" in unit test "a" must contain only mappings; item 2 is not one',
        'syncs.yml:17:40: "rows" in unit test "a" must be a list of mappings, or a string',
        'syncs.yml:18:24: key "1" in unit test "a" must be a string',
        '  hint: put it in quotes: "1"',
        'syncs.yml:18:56: "run_started_at" in unit test "a" must be a timestamp such as "2026-11-23 08:15:00"',
        'syncs.yml:18:70: "cursor" in unit test "a" must be a timestamp, a date or an integer',
        'syncs.yml:19:23: "records" in unit test "a" must contain only mappings; item 1 is not one',
        'syncs.yml:19:38: "invalid" in unit test "a" must be a mapping',
        'syncs.yml:20:4: "unit_tests" in unit test 2 must be a mapping',
    ]


def test_table_that_no_ref_or_source_names_is_not_there(tested: Tested):
    outcome = tested(
        "- {name: direct, sync: any, expect: {records: []}}",
        syncs=ANY,
        models={"any": "select 1 as external_id\nfrom main.raw_people"},
    )
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("models/any.sql:2: Catalog Error: Table with name raw_people does not exist!")


def test_model_in_another_dialect_takes_given_rows(tested: Tested):
    model = (
        "{{ config(dialect='hive') }} select `id` as external_id, array(`id`, 'x') as v from {{ source('app', 'any') }}"
    )
    assert passes(
        tested(
            """
            - name: hive
              sync: any
              given: [{input: "source('app', 'any')", rows: [{id: c-1}]}]
              expect: {records: [{external_id: c-1, v: [c-1, x]}]}
            """,
            syncs=ANY,
            models={"any": model},
        )
    )


def test_many_rows_are_no_trouble(tested: Tested):
    """They stand in one VALUES: a chain of a thousand UNIONs would take its time."""
    rows = ", ".join(f"{{id: {n}}}" for n in range(1500))
    records = ", ".join(f"{{external_id: '{n}'}}" for n in range(1499))
    outcome = tested(
        f"""
        - name: many
          sync: any
          given: [{{input: "source('app', 'any')", rows: [{rows}]}}]
          expect: {{records: [{records}]}}
        """,
        syncs=ANY,
        models={"any": "select id as external_id from {{ source('app', 'any') }}"},
    )
    assert lines(outcome)[1:] == ["      - expected  + actual", '      + {"external_id": "1499"}']


# --- which tests run -------------------------------------------------------------------------------------------------

TWO_SYNCS = f"{MEMBERS}    tags: [hourly]\n{MEMBERS.replace('name: members', 'name: others')}"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param([], "m1 m2 o1", id="all"),
        pytest.param(["m*"], "m1 m2", id="glob"),
        pytest.param(["m2", "o1"], "m2 o1", id="names"),
        pytest.param(["others"], "o1", id="sync"),
        pytest.param(["--select", "tag:hourly"], "m1 m2", id="select"),
        pytest.param(["--exclude", "members"], "o1", id="exclude"),
    ],
)
def test_tests_are_chosen_by_name_and_by_sync(tested: Tested, arguments: list[str], expected: str):
    tests = "\n".join(
        f"""- name: {name}
  sync: {sync}
  expect: {{records: [{{external_id: "1"}}]}}"""
        for name, sync in (("m1", "members"), ("m2", "members"), ("o1", "others"))
    )
    outcome = tested(tests, *arguments, syncs=TWO_SYNCS, models={"members": "select 1 as external_id"})
    assert [line.split()[1] for line in lines(outcome)] == expected.split()


def test_unknown_name_is_offered_the_nearest(tested: Tested):
    outcome = tested("- {name: first, sync: members, expect: {records: []}}", "frist")
    assert (outcome.code, outcome.err) == (
        2,
        'unknown unit test or sync "frist"\n  hint: did you mean "first"?\n',
    )


# --- comparison ------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy", max_size=2), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(st.dictionaries(st.sampled_from(["external_id", "email", "a", "b"]), JSON, max_size=4), max_size=6)


@given(RECORDS, st.integers())
def test_order_of_records_does_not_matter(records: list[dict[str, Any]], seed: int):
    shuffled = random.Random(seed).sample(records, len(records))
    assert differences(records, shuffled) == []


@given(RECORDS, RECORDS)
def test_two_lists_differ_unless_they_hold_the_same(expected: list[dict[str, Any]], actual: list[dict[str, Any]]):
    same = sorted(json.dumps(r, sort_keys=True) for r in expected) == sorted(
        json.dumps(r, sort_keys=True) for r in actual
    )
    found = differences(expected, actual)
    assert (found == []) == same
    missing, unexpected, differs = (sum(d.what == w for d in found) for w in ("missing", "unexpected", "differs"))
    assert len(expected) - missing == len(actual) - unexpected
    assert all(d.members for d in found if d.what == "differs") or not differs


def test_record_is_shown_with_every_digit():
    record = json.loads('{"a": [1.10, true, null, "ü"]}', parse_float=Decimal)
    assert json_of(record) == '{"a": [1.10, true, null, "ü"]}'


def test_row_of_csv_with_another_width_is_refused():
    with pytest.raises(ValueError, match="row 2 has 3 fields, but the header has 2"):
        csv_rows("a,b\n1,2\n1,2,3\n")
