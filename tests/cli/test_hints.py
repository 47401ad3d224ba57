"""Every kind of hint, followed to the letter: afterwards the command succeeds, and nothing is lost, deleted or doubled."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from reverse_etl.cli import app
from tests.shop import Outcome, Retl, Shop, edit, some
from tests.test_words import texts

YAML = """\
version: 1
default_target: dev
targets:
  dev:
    warehouse: {type: duckdb, path: warehouse.duckdb}
    destination: {type: braze, endpoint: sandbox}
vars: {country: KR}
syncs:
  - name: people
    model: people
    mode: users_track
    track_record_type: attributes
  - name: orders
    model: people
    mode: users_track
    track_record_type: attributes
"""
MODE = "    mode: users_track\n"


def first_error(outcome: Outcome) -> tuple[str, str]:
    """The message of the first error, without its place, and its hint."""
    found = re.search(r"^(?:\S+\.(?:yml|sql)(?::\d+)*: )?(.*)\n  hint: (.*)$", outcome.err, re.MULTILINE)
    assert found, outcome.err
    return found[1], found[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "people.sql").write_text("SELECT 'u1' AS external_id, 1 AS n")
    (tmp_path / "syncs.yml").write_text(YAML)
    return tmp_path


# --- syncs.yml -------------------------------------------------------------------------------------------------------

KEYS = "`retl schema` describes all keys"


@pytest.mark.parametrize(
    ("old", "broken", "hint", "followed"),
    [
        ("version: 1", 'version: "1"', "write 1 without quotes", "version: 1"),
        ("version: 1", "version: 2", "one of: 1", "version: 1"),
        ("version: 1\n", "", "add version: 1", "version: 1\n"),
        (MODE, "    modle: users_track\n", 'did you mean "mode"?', MODE),
        (
            "    model: people\n" + MODE,
            "    modle: people\n" + MODE,
            'did you mean "model"?',
            "    model: people\n" + MODE,
        ),
        (MODE, f"{MODE}    modell: people\n", 'remove it: "model" is there, too', MODE),
        (MODE, f"{MODE}    colour: 5\n", f"remove it, or use another one: {KEYS}", MODE),
        (MODE, f"{MODE}    unique_key: n\n", 'did you mean "primary_key"?', f"{MODE}    primary_key: n\n"),
        (MODE, f"{MODE}    depends_on: orders\n", 'did you mean "after"?', f"{MODE}    after: orders\n"),
        (MODE, f"{MODE}    cron: '@daily'\n", 'did you mean "schedule"?', f"{MODE}    schedule: '@daily'\n"),
        (MODE, f"{MODE}    after: order\n", 'did you mean "orders"?', f"{MODE}    after: orders\n"),
        (MODE, f"{MODE}    after: peoples\n", "one of: orders", f"{MODE}    after: orders\n"),
        (MODE, f"{MODE}    on: push\n", f"remove it, or use another one: {KEYS}", MODE),
        (MODE, f"{MODE}    tags: [on]\n", 'put it in quotes: "on"', f'{MODE}    tags: ["on"]\n'),
        (MODE, f"{MODE}    description:\n", "give it a value", f"{MODE}    description: all people\n"),
        (MODE, f"{MODE}    timezone: UTC\n", "remove it", MODE),
        (MODE, f"{MODE}    renamed_from: orders\n", "remove it: (.*)", MODE),
        ("name: orders", "name: on", 'put it in quotes: "on"', 'name: "on"'),
        ("name: orders", "name: no", 'put it in quotes: "no"', 'name: "no"'),
        ("name: orders", "name: 0x10", 'put it in quotes: "0x10"', 'name: "0x10"'),
        ("name: orders", "name: people", "rename one of them", "name: others"),
        ("default_target: dev", "default_target: dve", 'did you mean "dev"?', "default_target: dev"),
        ("{country: KR}", "{no: KR}", 'put it in quotes: "no"', '{"no": KR}'),
        ("mode: users_track\n", "mode: users_trak\n", 'did you mean "users_track"?', "mode: users_track\n"),
        ("model: people\n", "model: peopel\n", 'did you mean "people"?', "model: people\n"),
        ("    destination: {type: braze, endpoint: sandbox}\n", "", "add (.*)", "    {}\n"),
        ("    warehouse: {type: duckdb, path: warehouse.duckdb}\n", "", "add (.*)", "    {}\n"),
        ("type: duckdb, ", "", "one of: duckdb, postgres, spark", "type: duckdb, "),
        ("type: duckdb", "type: duckbd", 'did you mean "duckdb"?', "type: duckdb"),
        (YAML[YAML.index("targets:") : YAML.index("vars:")], "", "add (.*)", "{}\n"),
        (YAML[YAML.index("syncs:") :], "", "add (.*)", "{}\n"),
    ],
)
def test_hint_about_syncs_yml(project: Path, retl: Retl, old: str, broken: str, hint: str, followed: str):
    edit(project / "syncs.yml", old, broken)
    refused = retl("ls")
    assert refused.code == 2
    pattern = re.escape(hint).replace(re.escape("(.*)"), "(.*)")
    found = re.search(f"^  hint: {pattern}$", refused.err, re.MULTILINE)
    assert found, refused.err
    fixed = followed.replace("{}", found.groups("")[0]) if found.groups() else followed
    edit(project / "syncs.yml", broken, fixed) if broken else (project / "syncs.yml").write_text(
        YAML.replace(old, fixed)
    )
    outcome = retl("ls")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("broken", "hint", "followed"),
    [
        ("    tags: [a\n", "write `]` where the list or mapping ends that begins on line 16", "    tags: [a]\n"),
        ("    guards: {max_removed: 5\n", "write `}` where the list or mapping ends that begins on line 16", "    guards: {max_removed: 5}\n"),
        ('    skip_on_invalid_records: "yes please"\n', "write skip_on_invalid_records: true, or skip_on_invalid_records: false", "    skip_on_invalid_records: true\n"),
    ],
)  # fmt: skip
def test_hint_about_a_value_that_is_not_whole_or_not_true_or_false(
    project: Path, retl: Retl, broken: str, hint: str, followed: str
):
    file = project / "syncs.yml"
    file.write_text(f"{YAML}{broken}    description: of people\n")
    assert first_error(retl("ls"))[1].replace("line 17", "line 16") == hint
    file.write_text(f"{YAML}{followed}    description: of people\n")
    assert retl("ls").code == 0


def test_file_with_another_ending_is_renamed(project: Path, retl: Retl):
    (project / "syncs.yml").rename(project / "syncs.yaml")
    assert first_error(retl("ls")) == (
        "syncs.yaml is not read: the file must be called syncs.yml",
        "rename it: `mv syncs.yaml syncs.yml`",
    )
    (project / "syncs.yaml").rename(project / "syncs.yml")
    (project / "syncs.yaml").write_text("version: 1")
    refused = first_error(retl("ls"))
    assert refused == (
        "syncs.yaml is not read: syncs.yml is there, too",
        "rename it to something else, such as syncs.yaml.old; or syncs.yml, if that is the old one",
    )
    (project / "syncs.yaml").rename(project / "syncs.yaml.old")
    assert retl("ls").code == 0


def test_project_in_the_folder_around_is_named(project: Path, retl: Retl):
    """Where it is not taken by itself: with --project-dir, and of another user."""
    _, hint = first_error(retl("ls", "--project-dir", "models"))
    assert hint == f"pass --project-dir {project}"
    assert retl("ls", *hint.split()[1:], folder=project / "models").code == 0


# --- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "message", "hint", "followed"),
    [
        (
            "{{ target.schema }}",
            'Jinja: target has no "schema"',
            "write the name in the model, or use a variable: var('schema')",
            "main",
        ),
        ("{{ target.nam }}", 'Jinja: target has no "nam"', "one of: target.name", "{{ target.name }}"),
        (
            "{{ scheduled_time.day_name }}",
            'Jinja: a time has no "day_name"',
            "format it: scheduled_time.strftime('%Y-%m-%d')",
            "{{ scheduled_time.strftime('%Y-%m-%d') }}",
        ),
        ("{{ ref.people }}", 'Jinja: ref has no "people"', "call it: ref('model')", "{{ ref('model') }}"),
        (
            "{{ var() }}",
            "Jinja: var() is called with the wrong arguments",
            "call it as var('name'), or var('name', default)",
            "{{ var('name', 'default') }}",
        ),
        ("{{ varr('country') }}", "Jinja: 'varr' is undefined", 'did you mean "var"?', "{{ var('country') }}"),
        (
            "{{ var('city') }}",
            'variable "city" has no value',
            """set it under "vars:" in syncs.yml, or pass --vars '{"city": ...}'""",
            "{# --vars '{\"city\": ...}' #}{{ var('city') }}",
        ),
        (
            "{{ env_var('CITY') }}",
            'environment variable "CITY" is not set',
            "set CITY in the environment or in .env, or add a default: env_var('CITY', '...')",
            "{{ env_var('CITY', '...') }}",
        ),
        ("{{ ref('modle') }}", 'ref(): unknown model or seed "modle"', 'did you mean "model"?', "{{ ref('model') }}"),
        (
            "{{ config(audience_kind='crm') }}",
            'config(): unknown key "audience_kind"',
            "remove it, or put a key of your own under meta={...}",
            "{{ config(meta={'audience_kind': 'crm'}) }}",
        ),
        ("{{ 1 }", "Jinja: unexpected '}'", "write `}}` where the expression ends that `{{` begins", "{{ 1 }}"),
        ("{{ return(1) }}", "Jinja: return() outside of a macro", "write {{ value }}", "{{ 1 }}"),
        (
            "{{ adapter.dispatch('cents')() }}",
            'adapter.dispatch(): there is no macro "duckdb__cents", and no "default__cents"',
            "add one of them in macros/",
            "{% macro default__cents() %}1{% endmacro %}{{ adapter.dispatch('cents')() }}",
        ),
        (
            "{{ this }}",
            "Jinja: 'this' is undefined",
            "retl writes no table: an incremental model reads from cursor()",
            "{% if is_incremental() %}{{ cursor() }}{% endif %}",
        ),
        (
            "{{ dbt_utils.safe_divide('a', 'b') }}",
            "dbt_utils.safe_divide is a macro of dbt, which retl does not have",
            "write a / nullif(b, 0)",
            "' || 1 / nullif(0, 0) || '",
        ),
        (
            "{{ dbt_date.today() }}",
            "dbt_date.today is a macro of dbt, which retl does not have",
            "write it in SQL, or build a model with it in dbt, and ref() that model",
            "' || today() || '",
        ),
    ],
)
def test_hint_about_a_model(project: Path, retl: Retl, broken: str, message: str, hint: str, followed: str):
    (project / "models" / "model.sql").write_text("SELECT 1")
    people = project / "models" / "people.sql"
    people.write_text(f"SELECT '{broken}' AS external_id")
    assert first_error(retl("compile", "people")) == (message, hint)
    people.write_text(f"SELECT '{followed}' AS external_id")
    options = ["--vars", '{"city": ...}'] if "--vars" in followed else []
    outcome = retl("compile", "people", *options)
    assert outcome.code == 0, outcome.err


def test_arrow_of_a_lambda_is_written_as_the_hint_says(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id,\n    list_filter([1, 2], y -> y > 1) AS n")
    _, hint = first_error(retl("plan", "it", folder=shop.folder))
    assert hint == "write `lambda y: ...` in place of `y -> ...`"
    edit(shop.folder / "models" / "it.sql", "y ->", "lambda y:")
    assert retl("plan", "it", folder=shop.folder).code == 0


@pytest.mark.parametrize("expression", ["1 / 0", "'a' + 1", "ref(1)", "cursor(1)", "[1].x", "config(1)", "source(1)"])
def test_what_jinja_cannot_do_is_said_without_names_of_python(project: Path, retl: Retl, expression: str):
    (project / "models" / "people.sql").write_text(f"SELECT {{{{ {expression} }}}}")
    outcome = retl("compile", "people")
    assert outcome.code == 2
    assert not re.search(r"Error|object|<locals>|dict", outcome.err), outcome.err


# --- rows ------------------------------------------------------------------------------------------------------------

LONG = "repeat('x', 300)"
# Column: what is wrong with it in row 1, the hint, and what follows it: SQL of the column, or a condition on the rows.
ATTRIBUTES = {
    "email": (
        f"{LONG} || '@example.com'",
        "correct it where it comes from; trim(email) removes blanks around it",
        "'a@b.com'",
    ),
    "phone": (LONG, "correct it where it comes from: a part of it is another number", "'+4912345678'"),
    "image_url": (
        f"{LONG} || repeat('x', 725)",
        "use a shorter URL: a part of it leads elsewhere",
        "'https://e.com/1.png'",
    ),
    "first_name": (LONG, "truncate it: left(first_name, 255)", "left(first_name, 255)"),
    "order": (LONG, 'truncate it: left("order", 255)', 'left("order", 255)'),
    "My Bio": (LONG, 'truncate it: left("My Bio", 255)', 'left("My Bio", 255)'),
    "ratio": ("'nan'::DOUBLE", "CASE WHEN isfinite(ratio) THEN ratio END", None),
    "big": ("1e30::HUGEINT", "send it as a string: CAST(big AS VARCHAR)", "CAST(big AS VARCHAR)"),
    "day": ("DATE 'infinity'", "CASE WHEN year(day) BETWEEN 0 AND 9999 THEN day END", None),
    "past": ("TIMESTAMP '0044-03-15 (BC) 00:00:00'", "CASE WHEN year(past) BETWEEN 0 AND 9999 THEN past END", None),
    "raw": ("'\\xAA'::BLOB", 'CAST it to VARCHAR, or list it in "exclude_columns"', "CAST(raw AS VARCHAR)"),
    "gender": (
        "'female'",
        "map it to one of these: CASE gender WHEN ... THEN ... END",
        "CASE gender WHEN 'female' THEN 'F' END",
    ),
    "email_subscribe": (
        "'no'",
        "map it to one of these: CASE email_subscribe WHEN ... THEN ... END",
        "CASE email_subscribe WHEN 'no' THEN 'unsubscribed' END",
    ),
    "dob": (
        "'23.11.1990'",
        "strftime(strptime(dob, ['%Y-%m-%d', '%d.%m.%Y']), '%Y-%m-%d'), with the formats that it has",
        "strftime(strptime(dob, ['%Y-%m-%d', '%d.%m.%Y']), '%Y-%m-%d')",
    ),
    "_update_existing_only": (
        "'maybe'",
        "map it to true or false: CASE _update_existing_only WHEN ... THEN ... END",
        "CASE _update_existing_only WHEN 'maybe' THEN false END",
    ),
    "date_of_first_session": (
        "'23.11.2026 08:15'",
        "parse it in the format that it has: strptime(date_of_first_session, '%d.%m.%Y %H:%M')",
        "strptime(date_of_first_session, '%d.%m.%Y %H:%M')",
    ),
    "date_of_last_session": (
        "1790000000000",
        "use unix time in seconds: date_of_last_session // 1000, if it is in milliseconds",
        "date_of_last_session // 1000",
    ),
    "list": ("[1, NULL]", "omit the key or the element", "list_filter(list, lambda x: x IS NOT NULL)"),
    "gaps": (
        "['nan'::DOUBLE]",
        "leave it out: NULL in a struct, list_filter() in a list",
        "list_filter(gaps, lambda x: isfinite(x))",
    ),
    "gap": ("{'a': 'nan'::DOUBLE}", "leave it out: NULL in a struct, list_filter() in a list", "{'a': NULL}"),
    "huge": ("[18446744073709551616::HUGEINT]", "send it as a string: CAST(... AS VARCHAR)", "CAST(huge AS VARCHAR[])"),
    "words": (f"[{LONG}]", "truncate it with left(..., 255)", "list_transform(words, lambda x: left(x, 255))"),
    "keys": ("{'a.b': 1}", "rename the key", "{'a_b': 1}"),
    "many": ("range(501)", "shorten it with list_slice()", "list_slice(many, 1, 500)"),
    "at": ("""'{"$time": "never"}'::JSON""", 'write {"$time": "2026-11-23"}', """'{"$time": "2026-11-23"}'::JSON"""),
    "wide": ("list_transform(range(400), lambda x: repeat('y', 250))", "shorten it", "wide[:300]"),
    "text": ("'[1,]'", "json(text) removes a comma too many; find the rest: WHERE NOT json_valid(text)", "json(text)"),
    "push_tokens": (
        "'{}'",
        "find these rows: WHERE json_type(push_tokens) <> 'ARRAY'",
        "CASE WHEN json_type(push_tokens) = 'ARRAY' THEN push_tokens END",
    ),
}


@pytest.mark.long
def test_hints_about_values_make_the_row_valid(shop: Shop):
    """All of them at once, where rows with any of them are invalid; what follows a hint leaves the other row as it is."""
    broken = ", ".join(f'{sql} AS "{name}"' for name, (sql, _, _) in ATTRIBUTES.items())
    sql = f"SELECT 'u1' AS external_id, {broken} UNION ALL BY NAME SELECT 'u2' AS external_id"
    listed = {"pre_formatted_fields": ["text", "push_tokens"], "strict": True}
    result = shop.sync("it", sql, **listed).run()
    assert {row.column: row.hint for row in result.invalid} == {name: hint for name, (_, hint, _) in ATTRIBUTES.items()}
    fixed = ", ".join(f'{sql or hint} AS "{name}"' for name, (_, hint, sql) in ATTRIBUTES.items())
    result = shop.sync("it", f"SELECT * REPLACE ({fixed}) FROM ({sql})", **listed).run()
    assert (result.status, [(row.column, row.reason) for row in result.invalid]) == ("success", [])
    assert '"email_subscribe":"unsubscribed"' in shop.sent()[0]


ITEM = {
    "id": ("'a b'", "regexp_replace(id, '[^A-Za-z0-9_-]', '-', 'g'), if no two of them become one", "'a-b'"),
    "note": ("repeat('x', 5001)", "truncate it: left(note, 5000)", None),
    "dotted": ("{'a.b': 1}", "rename the key", "{'a_b': 1}"),
    "deep": (f"""'{'{"a":' * 51}1{"}" * 51}'::JSON""", "flatten it", "{'a': 1}"),
    "numbers": ("'[1]'::JSON", "CAST the elements to VARCHAR", "['1']"),
    "many": (
        "list_transform(range(101), lambda i: i::VARCHAR)",
        "shorten it with list_slice()",
        "list_slice(many, 1, 100)",
    ),
    "large": ("{'x': repeat('x', 5000)}", "shorten it", "{'x': 'x'}"),
    "seven": (
        "'7'::JSON",
        "send it as a string: remove it from pre_formatted_fields, or CAST it",
        "CAST(seven AS VARCHAR)",
    ),
}


def test_hints_about_values_of_items_make_the_row_valid(shop: Shop):
    how = {"mode": "catalog_items", "catalog": "drinks"}
    broken = ", ".join(f"{sql} AS {name}" for name, (sql, _, _) in ITEM.items())
    result = shop.sync("it", f"SELECT {broken}", **how).run()
    assert {row.column: row.hint for row in result.invalid} == {name: hint for name, (_, hint, _) in ITEM.items()}
    fixed = ", ".join(f"{sql or hint.partition(': ')[2]} AS {name}" for name, (_, hint, sql) in ITEM.items())
    result = shop.sync("it", f"SELECT * REPLACE ({fixed}) FROM (SELECT {broken})", **how).run(create_catalog=True)
    assert (result.status, [(row.column, row.reason) for row in result.invalid]) == ("success", [])


PURCHASE = {"product_id": "'p'", "currency": "'EUR'", "price": "1.5::DOUBLE", "quantity": "1", "time": "'2026-11-23'"}
EVENT = {"name": "'seen'", "time": "'2026-11-23'", "app_id": "'a'"}
# What is wrong, the hint, and what follows it: SQL of a column, or what the rows must fulfil.
OF_ROWS = {
    "no identifier": (
        "events",
        {"external_id": "NULL"},
        "exclude these rows: WHERE external_id IS NOT NULL OR email IS NOT NULL",
        "",
    ),
    "blank identifier": (
        "events",
        {"external_id": "' '"},
        "exclude these rows: WHERE trim(external_id) IS DISTINCT FROM ''",
        "",
    ),
    "no name": ("events", {"name": "NULL"}, "exclude these rows: WHERE name IS NOT NULL", ""),
    "blank name": ("events", {"name": "' '"}, "exclude these rows: WHERE trim(name) IS DISTINCT FROM ''", ""),
    "blank app": ("events", {"app_id": "''"}, "exclude these rows: WHERE trim(app_id) IS DISTINCT FROM ''", ""),
    "no time": (
        "events",
        {"time": "'23.11.2026 08:15'"},
        "parse it in the format that it has: strptime(time, '%d.%m.%Y %H:%M')",
        "coalesce(try_strptime(time, '%d.%m.%Y %H:%M'), TRY_CAST(time AS TIMESTAMP)) AS time",
    ),
    "long product": (
        "purchases",
        {"product_id": LONG},
        "give the product a shorter id: a part of it may be that of another one",
        "if(length(product_id) > 255, md5(product_id), product_id) AS product_id",
    ),
    "currency": (
        "purchases",
        {"currency": "' eur'"},
        "upper(trim(currency)), or map it: CASE currency WHEN ... THEN ... END",
        "upper(trim(currency)) AS currency",
    ),
    "price": ("purchases", {"price": "'inf'::DOUBLE"}, "exclude these rows: WHERE isfinite(price)", ""),
    "quantity": (
        "purchases",
        {"quantity": "0"},
        "split what is more into several rows; exclude what is less: WHERE coalesce(quantity, 1) >= 1",
        "",
    ),
}


@pytest.mark.parametrize("kind", ["events", "purchases"])
@pytest.mark.long
def test_hints_about_events_and_purchases_keep_every_other_row(shop: Shop, kind: str):
    """Three rows for each case, of which the first is invalid; all hints followed at once, they leave the others."""
    cases = [(wrong, hint, column) for of, wrong, hint, column in OF_ROWS.values() if of == kind]
    columns = {"external_id": "'u' || n || i", "email": "CASE WHEN i = 2 THEN 'a@example.com' END"}
    columns |= EVENT if kind == "events" else PURCHASE

    def of_case(n: int, wrong: dict[str, str]) -> str:
        values = (
            f"{f'CASE WHEN i = 1 THEN {wrong[name]} ELSE {sql} END' if name in wrong else sql} AS {name}"
            for name, sql in columns.items()
        )
        return f"SELECT {n} AS n, i, {', '.join(values)} FROM range(1, 4) r(i)"

    rows = " UNION ALL ".join(of_case(n, wrong) for n, (wrong, _, _) in enumerate(cases))
    rows = f"SELECT * REPLACE (CASE WHEN i <> 2 THEN external_id END AS external_id) FROM ({rows})"
    options = {
        "mode": "users_track",
        "track_record_type": kind,
        "primary_key": ["n", "i"],
        "exclude_columns": ["n", "i"],
    }
    result = shop.sync("it", rows, **options).run()
    assert {row.key: row.hint for row in result.invalid} == {
        f'["{n}","1"]': hint for n, (_, hint, _) in enumerate(cases)
    }
    columns_fixed = ", ".join(column for _, _, column in cases if column)
    wheres = " AND ".join(f"({hint.partition('WHERE ')[2]})" for _, hint, column in cases if not column)
    fixed = f"SELECT * REPLACE ({columns_fixed}) FROM ({rows}) WHERE {wheres}"
    result = shop.sync("it", fixed, **options).run()
    assert (result.status, [(row.column, row.reason) for row in result.invalid]) == ("success", [])
    left_out = sum(not column for _, _, column in cases)
    assert len([one for body in shop.sent() for one in json.loads(body)[kind]]) == 3 * len(cases) - left_out


@pytest.mark.long
def test_row_without_a_key_gets_a_value_or_is_excluded(shop: Shop):
    sql = "SELECT 'u' || i AS external_id, if(i = 1, NULL, i) AS n FROM range(1, 4) r(i)"
    options = {"primary_key": "n", "skip_on_invalid_records": True}
    result = shop.sync("it", sql, **options).run()
    assert [row.hint for row in result.invalid] == ["set a value, or exclude these rows: WHERE n IS NOT NULL"]
    assert shop.sync("it", f"SELECT * REPLACE (coalesce(n, 1) AS n) FROM ({sql})", **options).run().status == "success"
    assert shop.sync("it", f"SELECT * FROM ({sql}) WHERE n IS NOT NULL", **options).run().status == "success"


# --- states ----------------------------------------------------------------------------------------------------------

USERS = "SELECT 'u' || i AS external_id, i AS n FROM range(20) r(i)"
VISITS = "SELECT 'u' || i AS external_id, 'seen' AS name, TIMESTAMP '2026-11-23' AS time FROM range({}) r(i)"
MADE = {"mode": "users_track", "track_record_type": "events"}


def run_in(shop: Shop, retl: Retl) -> Callable[[str], Outcome]:
    def run(command: str) -> Outcome:
        return retl(*shlex.split(command.removeprefix("retl ")), folder=shop.folder)

    return run


def follow(run: Callable[[str], Outcome], hint: str) -> None:
    """Run the commands of a hint, one after the other, saying yes where one asks."""
    for command in re.findall(r"`(retl [^`]+)`", hint):
        outcome = run(f"{command} --yes" if " state " in command or "--full-refresh" in command else command)
        assert outcome.code == 0, (command, outcome.err)


def events(shop: Shop) -> list[str]:
    """Users of the events that Braze has, in order."""
    return sorted(event["external_id"] for body in shop.sent() for event in json.loads(body).get("events", []))


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "changed", "message"),
    some(
        [
            (
                {},
                "SELECT *, 'kr' AS country FROM ({})",
                "all columns together identify a row, and the model gained country",
            ),
            ({}, "SELECT * EXCLUDE (time), time AS at, TIMESTAMP '2026-11-24' AS time FROM ({})", None),
            ({"primary_key": "external_id"}, "SELECT *, external_id AS id FROM ({})", None),
        ]
    ),
)
def test_events_whose_columns_changed_reach_braze_once_each(shop: Shop, retl: Retl, options, changed, message):
    run = run_in(shop, retl)
    shop.sync("it", VISITS.format(2), **MADE, **options).run()
    then = {**options, **({"primary_key": "id"} if options else {})}
    shop.sync("it", changed.format(VISITS.format(3)), **MADE, **then)  # and u2 is new
    what, hint = first_error(run("retl sync it"))
    assert hint == (
        "to send no row twice, undo this and run `retl sync it`; "
        "then do it again, and run `retl state reset it` and `retl state baseline it`"
    )
    assert message is None or what == f"it: {message}"
    undone, done = hint.split(";")
    shop.sync("it", VISITS.format(3), **MADE, **options)
    follow(run, undone)
    shop.sync("it", changed.format(VISITS.format(3)), **MADE, **then)
    follow(run, done)
    shop.sync("it", changed.format(VISITS.format(4)), **MADE, **then)
    assert run("retl sync it").code == 0
    assert events(shop) == ["u0", "u1", "u2", "u3"]


@pytest.mark.long
def test_events_whose_columns_are_in_another_order_are_the_same_in_the_former_one(shop: Shop, retl: Retl):
    run = run_in(shop, retl)
    shop.sync("it", VISITS.format(2), **MADE).run()
    shop.sync("it", f"SELECT time, * EXCLUDE (time) FROM ({VISITS.format(3)})", **MADE)
    assert first_error(run("retl sync it")) == (
        "it: its columns, which identify a row, are in another order: time, external_id, name",
        "select external_id, name, time",
    )
    shop.sync("it", f"SELECT external_id, name, time FROM ({VISITS.format(3)})", **MADE)
    assert run("retl sync it").code == 0
    assert events(shop) == ["u0", "u1", "u2"]


@pytest.mark.long
@pytest.mark.parametrize("damage", ["state", "outbox"])
def test_events_are_not_sent_again_where_a_state_is_lost(shop: Shop, retl: Retl, damage: str):
    run = run_in(shop, retl)
    shop.sync("it", VISITS.format(2), **MADE).run()
    folder = shop.folder / ".retl" / "test" / "it"
    (folder / "journal.jsonl").write_text("{}\n") if damage == "outbox" else None
    (folder / "state.duckdb").write_bytes(b"x" * 9000) if damage == "state" else None
    _, hint = first_error(run("retl sync it"))
    assert hint.endswith(
        "pause its schedule, run `retl state reset it`, then `retl state baseline it`: "
        "the old files are kept, and what the model returns by now counts as sent"
    )
    follow(run, hint)
    shop.sync("it", VISITS.format(3), **MADE)
    assert run("retl sync it").code == 0
    assert events(shop) == ["u0", "u1", "u2"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("before", "after", "options"),
    [
        (USERS, USERS, {"primary_key": ["external_id", "n"]}),
        (USERS, f"SELECT external_id, CAST(n AS VARCHAR) AS n FROM ({USERS})", {}),
        (USERS, f"SELECT * FROM ({USERS}) WHERE n < 5", {"on_removed": "clear"}),
        (USERS, f"{USERS} WHERE false", {"on_removed": "clear"}),
        (USERS, USERS.replace("20", "40"), {"guards": {"max_changes": 3, "max_requests": 0, "max_data_points": 1}}),
        (USERS, USERS.replace("20", "40"), {"data_tests": [{"accepted_values": {"column": "n", "values": [1]}}]}),
    ],
    ids=["key", "type", "max_removed", "empty_model", "guards of size", "data_tests"],
)
def test_hint_about_a_blocked_or_failed_run_lets_it_go_on(shop: Shop, retl: Retl, before, after, options):
    run = run_in(shop, retl)
    shop.sync("it", before).run()
    shop.sync("it", after, **options)
    refused = run("retl sync it")
    passed = re.findall(r"--skip-guard [\w=]+", refused.err)
    if passed:
        assert run("retl plan it").code == 1  # which is to tell why, as the hint says
        assert len(passed) >= len(options.get("guards", ""))
        assert run(f"retl sync it {' '.join(passed)}").code == 0
    else:
        hint = first_error(refused)[1]
        if "primary_key" in options:
            assert hint == "run `retl state reset it`, and every row is sent again"
        follow(run, hint)
        assert run("retl sync it").code == 0


@pytest.mark.parametrize(
    ("options", "after"),
    some(
        [
            ({"on_removed": "delete", "allow_destructive": True}, f"SELECT * FROM ({USERS}) WHERE n < 5"),
            ({"on_removed": "delete", "allow_destructive": True}, f"{USERS} WHERE false"),
            (
                {"mode": "users_delete", "allow_destructive": True, "guards": {"max_changes": 1}},
                "SELECT 'u1' AS external_id",
            ),
        ]
    ),
)
@pytest.mark.long
def test_no_hint_deletes_anybody(shop: Shop, retl: Retl, options, after):
    run = run_in(shop, retl)
    if "mode" in options:
        shop.sync("it", USERS).run()
    else:
        shop.sync("it", USERS, **options).run()
    sent = len(shop.sent())
    shop.sync("it", after, **options)
    _, hint = first_error(run("retl sync it"))
    follow(run, hint)
    run("retl sync it")
    assert len(shop.sent()) == sent


# --- commands --------------------------------------------------------------------------------------------------------


def commands() -> dict[str, set[str]]:
    """The options of every command, by its name."""

    def within(group: Any, name: str) -> Iterator[tuple[str, set[str]]]:
        for one, command in getattr(group, "commands", {}).items():
            yield from within(command, f"{name} {one}")
        yield name, {option for parameter in group.params for option in parameter.opts}

    return dict(within(typer.main.get_command(app), "retl"))


@pytest.mark.long
def test_every_command_in_a_text_exists_with_its_options():
    known = commands()
    unknown = []
    for where, text in texts():
        for typed in re.findall(r"`(retl [^`]*)`", text):
            words = typed.split()
            size = 3 if words[1] == "state" and " ".join(words[:3]) in known else 2
            options = {word for word in words if word.startswith("--")}
            if words[1] != "COMMAND" and not options <= known.get(" ".join(words[:size]), set()):
                unknown.append((where, typed))
    assert unknown == []


@pytest.mark.long
def test_commands_in_hints_are_about_the_project_and_target_of_the_command_that_failed(shop: Shop, retl: Retl):
    """Or they would change the state of the default target."""
    shop.sync("it", VISITS.format(2), **MADE).run()
    edit(shop.folder / "syncs.yml", "default_target: test", "default_target: dev")
    edit(
        shop.folder / "syncs.yml",
        "targets:\n",
        "targets:\n  dev: {warehouse: {type: duckdb, path: warehouse.duckdb}, "
        "destination: {type: braze, endpoint: sandbox}}\n",
    )
    shop.model("it", f"SELECT *, 'kr' AS country FROM ({VISITS.format(2)})")
    outside, options = shop.folder.parent, ["--project-dir", str(shop.folder), "--target", "test"]
    hint = first_error(retl("sync", "it", *options, folder=outside))[1]
    typed = f" --project-dir {shop.folder} --target test`"
    assert hint == (
        f"to send no row twice, undo this and run `retl sync it{typed}; "
        f"then do it again, and run `retl state reset it{typed} and `retl state baseline it{typed}"
    )
    done = hint.partition(";")[2]
    for command in re.findall(r"`retl ([^`]+)`", done):
        assert retl(*shlex.split(command), "--yes", folder=outside).code == 0
    assert retl("sync", "it", *options, folder=outside).code == 0
    assert events(shop) == ["u0", "u1"]
    (said,) = [
        line for line in retl("sync", "it", *options, folder=outside).err.splitlines() if "rows in the model" in line
    ]
    assert said.endswith("2 unchanged")


def test_events_of_which_several_have_a_key_are_told_apart(shop: Shop, retl: Retl):
    run = run_in(shop, retl)
    twice = f"{VISITS.format(2)} UNION ALL SELECT * REPLACE ('left' AS name) FROM ({VISITS.format(2)})"
    shop.sync("it", twice, **MADE, primary_key="external_id")
    assert first_error(run("retl sync it"))[1] == (
        "add columns to primary_key that tell these rows apart, or return one row per key"
    )
    shop.sync("it", twice, **MADE, primary_key=["external_id", "name"])
    assert run("retl sync it").code == 0
    assert events(shop) == ["u0", "u0", "u1", "u1"]


def test_opt_out_is_kept_of_two_rows_for_one_user(shop: Shop, retl: Retl):
    run = run_in(shop, retl)
    rows = "SELECT 'u1' AS external_id, 'g' AS subscription_group_id, unnest(['unsubscribed', 'subscribed']) AS "
    shop.sync("it", f"{rows} subscription_state", mode="subscription_status_set")
    assert first_error(run("retl sync it"))[1] == (
        'return one row per key: GROUP BY, with max(subscription_state), which keeps "unsubscribed"'
    )
    one = "SELECT external_id, subscription_group_id, max(subscription_state) AS subscription_state"
    shop.sync("it", f"{one} FROM ({rows} subscription_state) GROUP BY ALL", mode="subscription_status_set")
    assert run("retl sync it").code == 0
    assert '"unsubscribed"' in shop.sent()[0]


def test_sync_whose_mode_is_one_that_deletes_now_deletes_nobody(shop: Shop, retl: Retl):
    run = run_in(shop, retl)
    shop.sync("it", USERS).run()
    shop.sync("it", "SELECT 'u1' AS external_id", mode="users_delete", allow_destructive=True)
    assert first_error(run("retl sync it"))[1] == (
        "set mode back to users_track / attributes: "
        "in the new one, the sync would delete every user that the model returns"
    )
    shop.sync("it", USERS)
    assert run("retl sync it").code == 0
    assert len(shop.sent()) == 1


@pytest.mark.parametrize(
    ("refused", "hint", "followed"),
    [
        ("sync", "name one or more of users_track, orders, newsletter, or pass --all", ["sync orders"]),
        (
            "retry",
            "run `retl sync --all` first, or retry one sync by name: `retl retry NAME`",
            ["sync --all", "retry", "retry orders"],
        ),
        (
            "sync --all orders",
            "remove --all to run only these, or names to run every sync",
            ["sync orders", "sync --all"],
        ),
        ("why orders 1 total", "run `retl why 1 total --select orders`", None),
        ("why a b c", "run `retl why KEY COLUMN`; quote a key that has blanks in it", None),
        ("ls -s config.mod:users_track", 'did you mean "config.mode:users_track"?', ["ls -s config.mode:users_track"]),
        ("sync order", 'did you mean "orders"?', ["sync orders"]),
        ("sync customers", 'to select the syncs built from this model: "customers+"', ["sync customers+"]),
        ("ls -s +customers", 'to select what is built from it: "customers+"', ["ls -s customers+"]),
        ("ls -s tags:hourly", 'did you mean "tag:hourly"?', ["ls -s tag:hourly"]),
        ("ls -s hourly", 'to select by this tag: "tag:hourly"', ["ls -s tag:hourly"]),
        ("ls -s tag:hourl", 'did you mean "hourly"?', ["ls -s tag:hourly"]),
        (
            "ls -s label:hourly",
            "use a name, a glob, or a method: tag:, mode:, model:, path:, source:, config.KEY:, state:, result:",
            ["ls -s orders", "ls -s orde*", "ls -s tag:hourly"],
        ),
        ("ls -t sandbx", 'did you mean "sandbox"?', ["ls -t sandbox"]),
        ("ls --vars x", "pass a YAML mapping: `--vars '{country: KR}'`", ["ls --vars '{country: KR}'"]),
        ("apply p", "create one with `retl plan --out FILE`", ["plan orders --out p", "apply p"]),
        ("plan --encrypt", "run `retl plan --out FILE --encrypt`", None),
        ("apply p --max-age 5", "use minutes, hours or days: 30m, 24h, 7d", None),
        ("sync orders --memory-limit x", "use a size such as 512MB or 4GB", ["sync orders --memory-limit 512MB"]),
        (
            "sync orders --skip-guard max_remove",
            'did you mean "max_removed"?',
            ["sync orders --skip-guard max_removed"],
        ),
        (
            "sync orders --scheduled-time 2026-11-25",
            "use a time with a time zone: 2026-11-25T08:00:00Z, or +09:00 instead of Z",
            ["sync orders --scheduled-time 2026-11-25T08:00:00Z"],
        ),
        (
            "sync orders --finish-by seven",
            'use 07:00 (UTC), "07:00 Asia/Seoul", or 2026-11-25T07:00:00Z',
            ["sync orders --finish-by 07:00", "sync orders --finish-by '07:00 Asia/Seoul'"],
        ),
        (
            "sync orders --finish-by 2026-11-25T07:00:00Z",
            "use a later time",
            ["sync orders --finish-by 2099-11-25T07:00:00Z"],
        ),
        ("show order", 'did you mean "orders"?', ["show orders"]),
        (
            "test customers",
            'did you mean "customers_without_orders_have_spent_nothing"?',
            ["test customers_without_orders_have_spent_nothing"],
        ),
        ("state accept-workspace", "one of: users_track, orders, newsletter", ["state accept-workspace orders --yes"]),
        (
            "state reset orders",
            "to confirm, pass --yes; then, before the next run, `retl state baseline orders`, so that nothing counts twice",
            ["state reset orders --yes", "state baseline orders --yes"],
        ),
        ("resolve orders", "list the rows: `retl rejects orders`", ["rejects orders"]),
        ("init", "use an empty folder: `retl init my_project`", ["init my_project"]),
        ("sandbox --last 1 --file a --target sandbox", "remove one of them", ["sandbox --last 1 --target sandbox"]),
        ("explain P0001", 'did you mean "P001"?', ["explain P001"]),
    ],
)
def test_hint_about_a_command(starter: Path, retl: Retl, refused: str, hint: str, followed: list[str] | None):
    assert first_error(retl(*shlex.split(refused)))[1] == hint
    (starter / "models" / "of_country.sql").write_text("SELECT '{{ var('country', 'US') }}' AS country")
    for command in followed or []:
        outcome = retl(*shlex.split(command))
        assert outcome.code == 0, (command, outcome.err)


def test_missing_warehouse_is_made_of_the_seeds(starter: Path, retl: Retl):
    (starter / "warehouse.duckdb").unlink()
    assert first_error(retl("sync", "orders"))[1] == "create it from seeds/*.csv with `retl seed`, or correct the path"
    assert (retl("seed").code, retl("sync", "orders").code) == (0, 0)
