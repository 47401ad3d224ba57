"""Hints about what stands in syncs.yml, in models, in .env and in a dbt project, followed to the letter."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from reverse_etl.errors import ProjectError
from reverse_etl.sandbox import Sandbox
from tests.cli.test_hints import first_error
from tests.project.test_dbt import changed, compiled, of_package
from tests.shop import KEY, Retl, Shop, edit

USER = "SELECT 'u1' AS external_id, 1 AS n"
SEEN = f"SELECT *, 'seen' AS name, '2026-11-23' AS time FROM ({USER})"
ALIAS = "SELECT 'u1' AS external_id, 'n' AS alias_name, 'l' AS alias_label"
EVENTS = {"mode": "users_track", "track_record_type": "events"}
NEW_ALIAS = {"mode": "users_alias_new"}
DAILY = f"SELECT *, TIMESTAMP '2026-11-23' AS seen_at FROM ({USER})"


def by_at(**more: Any) -> dict[str, Any]:
    return {"incremental": {"cursor": "seen_at", **more}}


DELETES = {"mode": "users_delete", "allow_destructive": True}
ITEMS = {"mode": "catalog_items", "catalog": "drinks"}
ITEM = "SELECT 'd1' AS id, 1.5 AS price"


@dataclass(frozen=True)
class Case:
    """A sync that is refused, its hint, and the sync that follows it."""

    sql: str
    hint: str
    followed: str | None = None  # the SQL; the same, if it is the options that change
    options: dict[str, Any] = field(default_factory=dict)
    then: dict[str, Any] | None = None  # the options that follow the hint
    command: str = "plan it"


CASES = {
    "column that the mode does not take": Case(
        f"SELECT *, 1 AS n FROM ({ALIAS})",
        'it accepts alias_name, alias_label, external_id; remove the column, or list it in "exclude_columns"',
        None,
        NEW_ALIAS,
        {**NEW_ALIAS, "exclude_columns": ["n"]},
    ),
    "column that the mode does not take, removed": Case(
        f"SELECT *, 1 AS n FROM ({ALIAS})",
        'it accepts alias_name, alias_label, external_id; remove the column, or list it in "exclude_columns"',
        ALIAS,
        NEW_ALIAS,
    ),
    "number as JSON": Case(USER, "remove it from the list", None, {"pre_formatted_fields": ["n"]}, {}),
    "excluded column that is not there": Case(
        USER, "remove it from the list", None, {"exclude_columns": ["elsewhere"]}, {}
    ),
    "cursor of text": Case(
        f"SELECT * REPLACE (CAST(seen_at AS VARCHAR) AS seen_at) FROM ({DAILY})",
        "CAST it in the model",
        f"SELECT * REPLACE (CAST(CAST(seen_at AS VARCHAR) AS TIMESTAMP) AS seen_at) FROM ({DAILY})",
        by_at(),
    ),
    "lookback of another unit": Case(
        DAILY,
        "use a number for an integer cursor, and an interval such as 1 hour for a timestamp or date",
        None,
        by_at(lookback="5"),
        by_at(lookback="1 hour"),
    ),
    "event without a time": Case(
        f"SELECT * EXCLUDE (time) FROM ({SEEN})",
        "add it to the model, AS time",
        f"SELECT * EXCLUDE (time), now()::TIMESTAMP AS time FROM ({SEEN})",
        EVENTS,
    ),
    "event whose time has another name": Case(
        f"SELECT * RENAME (time AS times) FROM ({SEEN})",
        "did you mean times? Rename it with AS time",
        f"SELECT * EXCLUDE (times), times AS time FROM (SELECT * RENAME (time AS times) FROM ({SEEN}))",
        EVENTS,
    ),
    "half of an alias": Case(
        "SELECT 'n' AS alias_name, 1 AS n",
        "add it: an alias consists of a name and a label",
        "SELECT 'n' AS alias_name, 'l' AS alias_label, 1 AS n",
    ),
    "alias twice": Case(
        "SELECT {'alias_name': 'n', 'alias_label': 'l'} AS user_alias, 'n' AS alias_name, 'l' AS alias_label, 1 AS n",
        "remove user_alias, or both alias_name and alias_label",
        "SELECT {'alias_name': 'n', 'alias_label': 'l'} AS user_alias, 1 AS n",
    ),
    "nobody": Case(
        "SELECT 1 AS n",
        "add one of: external_id, user_alias, braze_id, email, phone (or alias_name with alias_label)",
        USER,
    ),
    "removed users whom Braze cannot delete": Case(
        "SELECT 'a@example.com' AS email, 1 AS n",
        "add one of them: Braze deletes users by one of these",
        f"SELECT *, 'a@example.com' AS email FROM ({USER})",
        {"on_removed": "delete", "allow_destructive": True},
    ),
    "NULL key": Case(
        f"{USER} UNION ALL SELECT NULL, 2",
        "set a value, or exclude them in models/it.sql: WHERE external_id IS NOT NULL; (.*)",
        f"SELECT * FROM ({USER} UNION ALL SELECT NULL, 2) WHERE external_id IS NOT NULL",
        {"primary_key": "external_id"},
    ),
    "NULL key that is skipped": Case(
        f"{USER} UNION ALL SELECT NULL, 2",
        "(.*); to send the others, set skip_on_invalid_records: true",
        None,
        {"primary_key": "external_id"},
        {"primary_key": "external_id", "skip_on_invalid_records": True},
    ),
    "keys that occur twice": Case(
        f"{USER} UNION ALL SELECT 'u2', 2 UNION ALL SELECT 'u2', 3",
        "return one row per key (GROUP BY, QUALIFY row_number() ...), or add columns to primary_key; to send the others, "
        "set skip_on_invalid_records: true",
        None,
        {"primary_key": "external_id"},
        {"primary_key": "external_id", "skip_on_invalid_records": True},
    ),
    "NULL key of a row that would be deleted": Case(
        f"{USER} UNION ALL SELECT NULL, 2",
        "set a value in models/it.sql: a row without a key would be deleted as removed",
        f"{USER} UNION ALL SELECT 'u2', 2",
        {"primary_key": "external_id", "on_removed": "delete", "allow_destructive": True},
    ),
    "cursor without a value": Case(
        f"{DAILY} UNION ALL SELECT 'u2', 2, NULL",
        "set a value, or exclude them in models/it.sql: WHERE isfinite(seen_at)",
        f"SELECT * FROM ({DAILY} UNION ALL SELECT 'u2', 2, NULL) WHERE isfinite(seen_at)",
        by_at(),
    ),
    "removed rows of a part": Case(
        DAILY,
        "remove it: a row that an incremental model does not return is not a removed row",
        None,
        {**by_at(), "on_removed": "clear"},
        by_at(),
        "ls",
    ),
    "rows kept of a part": Case(
        DAILY,
        "remove it: a row that an incremental model does not return is not a removed row",
        None,
        {**by_at(), "keep_removed": "30 days"},
        by_at(),
        "ls",
    ),
    "rows kept that are cleared": Case(
        DAILY,
        "remove it: once that has happened, the state has no such row",
        None,
        {"on_removed": "clear", "keep_removed": "30 days"},
        {"on_removed": "clear"},
        "ls",
    ),
    "retention of attributes": Case(
        DAILY,
        "remove it: only events and purchases can be pruned",
        None,
        by_at(retention="90 days"),
        by_at(),
        "ls",
    ),
    "users to delete": Case(
        "SELECT 'u1' AS external_id",
        'if this is intended, add "allow_destructive: true" to the sync: deleting cannot be undone',
        None,
        {"mode": "users_delete"},
        {"mode": "users_delete", "allow_destructive": True},
        "ls",
    ),
    "cursor of a full run": Case(
        f"SELECT * FROM ({DAILY}) WHERE seen_at > {{{{ cursor() }}}}",
        "use it inside {% if is_incremental() %} ... {% endif %}, in a model of a sync with `incremental:`",
        f"SELECT * FROM ({DAILY}) {{% if is_incremental() %}} WHERE seen_at > {{{{ cursor() }}}} {{% endif %}}",
        by_at(),
        by_at(),
    ),
    "model of itself": Case(
        f"SELECT * FROM {{{{ ref('it') }}}} UNION ALL {USER}",
        "a model cannot depend on itself: remove one ref()",
        USER,
    ),
    "model of a dbt package": Case(
        "SELECT * FROM {{ ref('shop', 'people') }}", "add dbt: {project_dir: ...}", USER
    ),
    "private file": Case(
        "SELECT * FROM read_csv('.env')",
        "keep the data in a file or folder of another name",
        USER,
    ),
    "file of elsewhere": Case(
        "SELECT * FROM read_csv('data/no.csv')",
        "relative paths start at the project",
        USER,
    ),
    "variable of digdag": Case(
        f"SELECT *, '${{session_date}}' AS day FROM ({USER})",
        "write {{ scheduled_time.strftime('%Y-%m-%d') }}, in UTC; for another zone, in_zone(scheduled_time, 'Asia/Seoul')",
        f"SELECT *, '{{{{ scheduled_time.strftime('%Y-%m-%d') }}}}' AS day FROM ({USER})",
    ),
    "rows that a function of Hive makes": Case(
        f"{{{{ config(dialect='hive') }}}}SELECT external_id, stack(1, 2) AS n FROM ({USER}) t",
        "use LATERAL VIEW explode(), posexplode() or json_tuple()",
        f"{{{{ config(dialect='hive') }}}}SELECT external_id, x AS n FROM ({USER}) t LATERAL VIEW explode(array(2)) e AS x",
    ),
    "data test": Case(
        USER,
        "(.*)--skip-guard data_tests(.*)",
        None,
        {"data_tests": [{"accepted_values": {"column": "n", "values": [2]}}]},
        {"data_tests": [{"accepted_values": {"column": "n", "values": [1]}}]},
    ),
    "quarantine of a part": Case(
        f"SELECT * EXCLUDE (n) FROM ({DAILY})",
        "remove one of them: an incremental model does not list a user again, so it would never be deleted",
        None,
        {**by_at(), "quarantine": "1 day", **DELETES},
        {"quarantine": "1 day", "exclude_columns": ["seen_at"], **DELETES},
        "ls",
    ),
    "e-mail of several profiles": Case(
        "SELECT 'a@example.com' AS email",
        "add it, a list that says which profile is meant, of (.*)",
        "SELECT 'a@example.com' AS email, ['unidentified', 'most_recently_updated'] AS prioritization",
        DELETES,
    ),
    "both kinds of profile": Case(
        "SELECT 'a@example.com' AS email, ['identified', 'unidentified'] AS prioritization",
        "(.*)skip_on_invalid_records: true",
        "SELECT 'a@example.com' AS email, ['unidentified', 'most_recently_updated'] AS prioritization",
        DELETES,
    ),
    "items by another key": Case(
        f"SELECT *, 7 AS sku FROM ({ITEM})",
        "remove it, or write primary_key: id",
        None,
        {**ITEMS, "primary_key": "sku"},
        {**ITEMS, "primary_key": "id"},
    ),
    "field of a catalog with a blank in its name": Case(
        f'SELECT *, 7 AS "sku no" FROM ({ITEM})',
        "rename it with AS",
        f"SELECT *, 7 AS sku_no FROM ({ITEM})",
        ITEMS,
    ),
    "array of numbers in a catalog": Case(
        f"SELECT *, [1, 2] AS sizes FROM ({ITEM})",
        "list_transform(sizes, lambda x: CAST(x AS VARCHAR))",
        f"SELECT *, list_transform([1, 2], lambda x: CAST(x AS VARCHAR)) AS sizes FROM ({ITEM})",
        ITEMS,
    ),
    "too many fields": Case(
        f"SELECT id, {', '.join(f'{n} AS c{n}' for n in range(500))} FROM ({ITEM})",
        'list those that are not to be sent in "exclude_columns"',
        None,
        ITEMS,
        {**ITEMS, "exclude_columns": ["c0"]},
    ),
    "catalog that is not there": Case(
        ITEM,
        "`retl sync it --create-catalog` creates it; or",
        None,
        ITEMS,
        None,
        "sync it",
    ),
    "catalog to be created of a sync of users": Case(
        USER,
        "leave it out, or name a sync of mode catalog_items",
        ITEM,
        {},
        ITEMS,
        "sync it --create-catalog",
    ),
    "invalid rows": Case(
        f"{USER} UNION ALL SELECT ' ', 2",
        "list them with `retl rejects it`; to send the others, set skip_on_invalid_records: true",
        None,
        {},
        {"skip_on_invalid_records": True},
        "sync it",
    ),
}  # fmt: skip


@pytest.mark.long
def test_hint_about_a_catalog_that_was_deleted(shop: Shop, retl: Retl):
    shop.sync("it", f"{ITEM} UNION ALL SELECT 'd2', 2", **ITEMS).run(create_catalog=True)
    with Sandbox() as empty:
        edit(shop.folder / "syncs.yml", shop.braze.url, empty.url)
        assert retl("state", "accept-workspace", "it", "--yes", folder=shop.folder).code == 0
        shop.model("it", f"{ITEM} UNION ALL SELECT 'd2', 3")
        hint = "`retl sync it --create-catalog --full-refresh` creates it, and sends all items"
        assert first_error(retl("sync", "it", "--create-catalog", folder=shop.folder))[1] == hint
        assert retl("sync", "it", "--create-catalog", "--full-refresh", "--yes", folder=shop.folder).code == 0
        assert len(empty.catalog("drinks")) == 2


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name == "too many fields" else name for name in CASES]
)
@pytest.mark.sampled(4)
def test_hint_about_a_sync(shop: Shop, retl: Retl, name: str):
    case = CASES[name]
    shop.sync("it", case.sql, **case.options)
    if name == "users to delete":  # which the editor's schema refuses, too
        shop.sync("it", case.sql, **(case.then or {}))
        edit(shop.folder / "syncs.yml", "allow_destructive: true", "on_in_doubt: hold")
        edit(shop.folder / "syncs.yml", "  on_in_doubt: hold\n", "")
    refused = retl(*case.command.split(), folder=shop.folder)
    assert refused.code in (1, 2)
    pattern = re.escape(case.hint).replace(re.escape("(.*)"), "(.*)")
    assert re.fullmatch(pattern, first_error(refused)[1])
    shop.sync("it", case.followed or case.sql, **(case.options if case.then is None else case.then))
    more = ["--create-catalog"] if "--create-catalog` creates" in case.hint else []
    outcome = retl(*case.command.split(), *more, folder=shop.folder)
    said = outcome.out + outcome.err
    is_skipped = re.search(r"\b[12] (rows? )?invalid", said)
    assert outcome.code == 0 or (is_skipped and "skip_on_invalid_records" in (case.then or {})), said


TARGET = "    destination:\n"


@pytest.mark.parametrize(
    ("old", "broken", "hint", "followed"),
    [
        (
            "'{{ env_var(''BRAZE_API_KEY'') }}'",
            "abcdefgh",
            "use api_key: \"{{ env_var('BRAZE_API_KEY') }}\", "
            "and create a new key: this one has been written to a file",
            "\"{{ env_var('BRAZE_API_KEY') }}\"",
        ),
        (
            "'{{ env_var(''BRAZE_API_KEY'') }}'",
            "\"{{ env_var('BRAZE_' ~ 'API_KEY') }}\"",
            "write the name itself, as in {{ env_var('NAME') }}: models cannot read what is named so",
            "\"{{ env_var('BRAZE_API_KEY') }}\"",
        ),
        (
            "  test:\n",
            "  test:\n    renamed_from: test\n",
            "remove it: the states of a target move only if no target has its name any more",
            "  test:\n",
        ),
        (
            "- name: it",
            "- name: it\n  renamed_from: it",
            "remove it: the state of a sync moves only if no sync has its name any more",
            "- name: it",
        ),
        ("model: it", "model: *it", "quote a string that begins with *", 'model: "it"'),
        (
            "  model: it",
            "\tmodel: it",
            "write spaces in the place of the tab that this line begins with: YAML is indented with spaces only",
            "  model: it",
        ),
        ("name: it", "name: 2026-99-99", "quote it, if it is meant as a string", 'name: "2026-99-99"'),
        (
            "path: warehouse.duckdb",
            "path: warehouse.duckdb\n      files: ['..']",
            "remove it: models read the project's files anyway; or list folders in it",
            "path: warehouse.duckdb",
        ),
        (
            "path: warehouse.duckdb",
            "path: warehouse.duckdb\n      files: [/proc]",
            "list the folders or files that the models need",
            "path: warehouse.duckdb\n      files: [models]",
        ),
        (
            "path: warehouse.duckdb",
            "path: warehouse.duckdb\n      files: [.env.d]",
            "keep the data in another file or folder",
            "path: warehouse.duckdb\n      files: [ssh]",
        ),
    ],
)
@pytest.mark.sampled(3)
def test_hint_about_a_target(shop: Shop, retl: Retl, old: str, broken: str, hint: str, followed: str):
    shop.sync("it", USER)
    edit(shop.folder / "syncs.yml", old, broken)
    pattern = re.escape(hint).replace(re.escape("(.*)"), ".*")
    found = first_error(retl("plan", "it", folder=shop.folder))[1]
    assert re.fullmatch(pattern, found), found
    edit(shop.folder / "syncs.yml", broken, followed)
    name = "2026-99-99" if "2026" in followed else "it"
    outcome = retl("plan", name, folder=shop.folder)
    assert outcome.code == 0, outcome.err


def test_two_writers_of_one_attribute(shop: Shop, retl: Retl):
    shop.sync("it", USER).sync("other", "SELECT 'u1' AS external_id, 'x' AS n")
    hint = first_error(retl("plan", "it", folder=shop.folder))[1]
    assert hint == (
        "CAST it to the same type in both, or rename one of them with AS: Braze keeps the type that it sees "
        "first, and drops or converts values of another one without an error"
    )
    shop.sync("other", "SELECT 'u1' AS external_id, CAST('2' AS INTEGER) AS n")
    hint = first_error(retl("plan", "it", folder=shop.folder))[1]
    assert hint == (
        "let one of them write it: remove the column from the other, or list it in its exclude_columns; "
        "if both are meant to, add shares: [n] to both"
    )
    for options in ({"exclude_columns": ["n"]}, {"shares": ["n"]}):
        shop.sync("other", "SELECT 'u1' AS external_id, CAST('2' AS INTEGER) AS n, 1 AS m", **options)
        shop.sync("it", USER, **(options if "shares" in options else {}))
        assert retl("plan", "it", folder=shop.folder).code == 0


@pytest.mark.parametrize(
    ("guards", "hint", "followed"),
    [
        ("--skip-guard data_tests=5", "leave the number out: data_tests", "--skip-guard data_tests"),
        ("--skip-guard max_changes=x", "write it as max_changes=500", "--skip-guard max_changes=500"),
        ("--skip-guard max_changes=1 --skip-guard max_changes=2", "give it once", "--skip-guard max_changes=2"),
    ],
)
def test_hint_about_a_guard(shop: Shop, retl: Retl, guards: str, hint: str, followed: str):
    shop.sync("it", USER)
    assert first_error(retl("sync", "it", *guards.split(), folder=shop.folder))[1] == hint
    assert retl("sync", "it", *followed.split(), folder=shop.folder).code == 0


def test_hints_about_alerts(shop: Shop, retl: Retl):
    shop.sync("it", USER)
    spec, alert = shop.folder / "syncs.yml", "alerts:\n- type: slack\n  url: https://127.0.0.1:9/x\n"
    assert first_error(retl("alert", "test", folder=shop.folder))[1] == (
        "add `alerts:` to syncs.yml, as docs/alerts.md shows; or choose another target with --target"
    )
    spec.write_text(spec.read_text() + alert)
    hint = first_error(retl("ls", folder=shop.folder))[1]
    assert hint == "write url: \"{{ env_var('NAME') }}\", and put the value into .env or the environment"
    edit(spec, "url: https://127.0.0.1:9/x", hint.partition(",")[0].removeprefix("write "))
    (shop.folder / ".env").write_text("NAME=https://127.0.0.1:9/x\n")
    assert retl("ls", folder=shop.folder).code == 0
    text = spec.read_text()
    twice = text[text.index("- type: slack") :]
    spec.write_text(text + twice)
    assert first_error(retl("ls", folder=shop.folder))[1] == "give each of them a name of its own: name: on_call"
    spec.write_text(f"{text}{twice}  name: on_call\n")
    assert retl("ls", folder=shop.folder).code == 0


def test_names_are_checked_after_they_were_written(shop: Shop, retl: Retl):
    shop.sync("it", USER)
    assert first_error(retl("lock", "--check", folder=shop.folder))[1] == "run `retl lock`"
    assert [retl("lock", *options, folder=shop.folder).code for options in ([], ["--check"])] == [0, 0]


def test_two_heirs_of_one_state(shop: Shop, retl: Retl):
    shop.sync("a", USER, renamed_from="it").sync("b", USER, renamed_from="it")
    assert first_error(retl("ls", folder=shop.folder))[1] == "remove one of them: a state has one heir"
    shop.sync("b", USER)
    assert retl("ls", folder=shop.folder).code == 0


def test_word_that_yaml_misreads_is_quoted(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, '{{ var('country') }}' AS home_city")
    for written, sent in (("NO", '"False"'), ('"NO"', '"NO"'), ("false", '"False"')):
        edit(shop.folder / "syncs.yml", "version: 1\n", f"version: 1\nvars: {{country: {written}}}\n")
        said = retl("plan", "it", "--show-values", folder=shop.folder)
        assert ('write "NO" in quotes if it is meant as a string, or false' in said.err) == (written == "NO")
        assert f"home_city: {sent[1:-1]}" in said.out
        edit(shop.folder / "syncs.yml", f"vars: {{country: {written}}}\n", "")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("two parts", "set the environment variable again: without blanks, line breaks, or letters outside ASCII"),
        ("", "set BRAZE_API_KEY in the environment or in .env"),
    ],
)
def test_hint_about_an_api_key(shop: Shop, retl: Retl, monkeypatch: pytest.MonkeyPatch, key: str, hint: str):
    shop.sync("it", USER)
    monkeypatch.setenv("BRAZE_API_KEY", key)
    assert first_error(retl("sync", "it", folder=shop.folder))[1] == hint
    monkeypatch.setenv("BRAZE_API_KEY", KEY)
    assert retl("sync", "it", folder=shop.folder).code == 0


def test_file_that_is_a_link_is_replaced_with_a_copy(shop: Shop, retl: Retl):
    shop.sync("it", USER)
    model, outside = shop.folder / "models" / "it.sql", shop.folder.parent / "it.sql"
    model.rename(outside)
    model.symlink_to(outside)
    assert first_error(retl("plan", "it", folder=shop.folder))[1] == "replace the link with a copy of the file"
    model.unlink()
    model.write_text(outside.read_text())
    assert retl("plan", "it", folder=shop.folder).code == 0


def test_model_in_another_encoding_is_saved_as_utf_8(shop: Shop, retl: Retl):
    shop.sync("it", USER)
    text = "SELECT 'ü1' AS external_id, 1 AS n"
    for encoding, code in (("latin-1", 2), ("utf-8", 0)):
        (shop.folder / "models" / "it.sql").write_bytes(text.encode(encoding))
        outcome = retl("plan", "it", folder=shop.folder)
        assert (outcome.code, "hint: save it as UTF-8" in outcome.err) == (code, code == 2)


def test_file_outside_of_the_project_is_allowed_as_the_hint_says(shop: Shop, retl: Retl):
    outside = shop.folder.parent / "lake"
    outside.mkdir()
    (outside / "people.csv").write_text("external_id,n\nu1,1\n")
    shop.sync("it", f"SELECT * FROM read_csv('{outside}/people.csv')")
    hint = first_error(retl("plan", "it", folder=shop.folder))[1]
    files = re.fullmatch(r"if they may, add it to the target's warehouse in syncs.yml: `(files: \[.*\])`", hint)
    assert files
    edit(shop.folder / "syncs.yml", "path: warehouse.duckdb", f"path: warehouse.duckdb\n      {files[1]}")
    assert retl("plan", "it", folder=shop.folder).code == 0


def test_private_folder_is_read_from_a_folder_in_it(shop: Shop, retl: Retl):
    (shop.folder / "one.csv").write_text("external_id,n\nu1,1\n")
    shop.sync("it", "SELECT * FROM read_csv('*.csv')")
    refused = first_error(retl("plan", "it", folder=shop.folder))
    assert refused[1] == "move the files to a folder in it, such as data/*.csv"
    (shop.folder / "data").mkdir()
    (shop.folder / "one.csv").rename(shop.folder / "data" / "one.csv")
    shop.sync("it", "SELECT * FROM read_csv('data/*.csv')")
    assert retl("plan", "it", folder=shop.folder).code == 0


def test_extension_is_replaced_by_a_table(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id, ST_Area('POLYGON EMPTY'::GEOMETRY) AS n")
    assert first_error(retl("plan", "it", folder=shop.folder))[1] == (
        "build a table of it in the warehouse, which retl then reads"
    )
    shop.warehouse("CREATE TABLE areas AS SELECT 'u1' AS external_id, 0 AS n")
    shop.sync("it", "FROM areas")
    assert retl("plan", "it", folder=shop.folder).code == 0


@pytest.mark.parametrize("taken", ["table", "view"])
def test_seed_whose_name_is_taken(starter: Path, shop: Shop, retl: Retl, taken: str):
    (starter / "seeds" / "more.csv").write_text("id\n1\n")
    shop.folder = starter
    shop.warehouse(f"CREATE {taken} more AS SELECT 2 AS id")
    hint = first_error(retl("seed"))[1]
    renames = re.fullmatch(f"rename the seed; or the {taken}: (ALTER .* RENAME TO another_name)", hint)
    assert renames
    shop.warehouse(renames[1])
    assert retl("seed").code == 0


# --- unit tests ------------------------------------------------------------------------------------------------------

UNIT_TEST = """
unit_tests:
- name: one
  sync: it
  given:
  - input: ref('%s')
    rows: [{external_id: u1}]
  expect: {records: [{external_id: u1}]}
"""


def test_seeds_of_a_warehouse_without_a_file(starter: Path, retl: Retl):
    edit(starter / "syncs.yml", "warehouse: {type: duckdb, path: warehouse.duckdb}", "warehouse: {type: duckdb}")
    _, hint = first_error(retl("seed"))
    assert hint == "add path: warehouse.duckdb; or read the file in a model: SELECT * FROM 'seeds/countries.csv'"
    (starter / "models" / "read.sql").write_text("SELECT count(*) AS n FROM 'seeds/raw_customers.csv'")
    assert retl("show", "read").code == 0
    edit(starter / "syncs.yml", "warehouse: {type: duckdb}", "warehouse: {type: duckdb, path: warehouse.duckdb}")
    assert retl("seed").code == 0


def test_sync_that_was_added_at_the_end_of_the_file_is_no_unit_test(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id").model("other", "SELECT 'u2' AS external_id")
    spec = shop.folder / "syncs.yml"
    syncs, tests = spec.read_text(), UNIT_TEST % "it"
    added = (
        "- {name: other, model: other, mode: users_track, track_record_type: attributes, primary_key: external_id}\n"
    )
    spec.write_text(syncs + tests + added)
    failed = retl("ls", folder=shop.folder)
    assert failed.err.splitlines()[-2:] == [
        f'syncs.yml:{len((syncs + tests).splitlines()) + 1}:10: "other" in unit_tests is a sync',
        '  hint: move it above "unit_tests:", to the end of "syncs:"',
    ]
    spec.write_text(syncs + added + tests)
    assert retl("ls", folder=shop.folder).code == 0


def test_hints_about_the_inputs_of_a_unit_test(shop: Shop, retl: Retl):
    shop.model("other", "SELECT 1 AS external_id")
    shop.model("people", "SELECT 'u1' AS external_id")
    shop.sync("it", "SELECT external_id FROM {{ ref('people') }}")
    spec = shop.folder / "syncs.yml"
    spec.write_text(spec.read_text() + UNIT_TEST % "other")
    assert first_error(retl("test", folder=shop.folder))[1] == "remove it, or use one of the inputs: ref('people')"
    edit(spec, "ref('other')", "ref('people')")
    assert retl("test", folder=shop.folder).code == 0
    shop.warehouse("CREATE TABLE people AS SELECT 'u1' AS external_id")
    shop.model("it", "SELECT external_id FROM {{ source('crm', 'people') }}")
    edit(spec, "version: 1\n", "version: 1\nsources: {crm: {schema: main}}\n")
    edit(spec, "  given:\n  - input: ref('people')\n    rows: [{external_id: u1}]\n", "")
    hint = first_error(retl("test", folder=shop.folder))[1]
    assert hint == "unit tests read no tables: add `- input: source('crm', 'people')` with its rows to \"given\""
    added = re.fullmatch('unit tests read no tables: add `(- input: .*)` with its rows to "given"', hint)
    assert added
    edit(spec, "  sync: it\n", f"  sync: it\n  given:\n  {added[1]}\n    rows: [{{external_id: u1}}]\n")
    outcome = retl("test", folder=shop.folder)
    assert outcome.code == 0, outcome.err


# --- selectors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "hint", "followed"),
    [
        (
            "++orders",
            "graph selectors have the form +x, x+, 2+x or x+1",
            ["+orders", "orders+", "2+orders", "orders+1"],
        ),
        (
            "state:modified",
            "pass --state DIR: a folder with the manifest.json to compare against, such as main's target/",
            ["state:modified --state target"],
        ),
        ("state:changed --state target", "one of: new, old, modified, unmodified", ["state:modified --state target"]),
    ],
)
def test_hint_about_a_selector(starter: Path, retl: Retl, selector: str, hint: str, followed: list[str]):
    retl("ls")
    retl("compile")
    refused = first_error(retl("ls", "-s", *selector.split()))[1]
    assert refused == hint
    for one in followed:
        assert retl("ls", "-s", *one.split()).code == 0


# --- dbt -------------------------------------------------------------------------------------------------------------

DIM = "model.shop.dim_customers"
Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("call", "change", "hint", "follow"),
    [
        (
            "ref('dim_customers')",
            lambda m: m["nodes"][DIM]["config"].update(materialized="ephemeral"),
            "materialize it as a view or a table in dbt, or write its SQL as a model here",
            lambda m: m["nodes"][DIM]["config"].update(materialized="view"),
        ),
        (
            "ref('dim_customers')",
            lambda m: m["nodes"][DIM].update(access="private", group="finance"),
            "set `access: protected` for it in dbt",
            lambda m: m["nodes"][DIM].update(access="protected"),
        ),
        (
            "ref('dim_customers')",
            lambda m: m["nodes"][DIM].update(database="other"),
            'retl reads a single file: build a dbt model on it in "warehouse", and ref() that model',
            lambda m: m["nodes"][DIM].update(database="warehouse"),
        ),
        (
            "source('app', 'visits')",
            lambda m: m["sources"]["source.shop.app.visits"].update(relation_name="read_csv('visits.csv')"),
            "build a dbt model on it, and ref() that model",
            lambda m: of_package("visits", "shop", m),
        ),
        (
            "ref('dim_customers')",
            lambda m: m["nodes"][DIM].update(resource_type="analysis"),
            "move it from analyses/ to models/ in dbt",
            lambda m: m["nodes"][DIM].update(resource_type="model"),
        ),
        (
            "ref('dim_customers')",
            lambda m: m["disabled"].update({DIM: [m["nodes"].pop(DIM)]}),
            "remove `enabled: false` in dbt, then run `dbt build`",
            lambda m: m["nodes"].update({DIM: m["disabled"].pop(DIM)[0]}),
        ),
        (
            "ref('customers')",
            lambda m: of_package("customers", "crm", m),
            "use ref('crm', 'customers') for the one in dbt, or rename models/customers.sql",
            None,
        ),
    ],
)
def test_hint_about_a_model_of_dbt(call: str, change: Change, hint: str, follow: Change | None):
    manifest = changed(change)
    with pytest.raises(ProjectError) as refused:
        compiled(f"SELECT * FROM {{{{ {call} }}}}", manifest)
    assert refused.value.problems[0].hint == hint
    if follow:
        follow(manifest)
    then = "ref('visits')" if "build a dbt model" in hint and "source" in call else call
    then = then if follow else hint.split()[1] + " " + hint.split()[2]
    assert compiled(f"SELECT * FROM {{{{ {then} }}}}", manifest).reads[0].unique_id


def test_path_of_the_file_that_dbt_builds_is_named():
    manifest = changed(lambda m: [node.update(database="built") for node in m["nodes"].values()])
    with pytest.raises(ProjectError) as refused:
        compiled("SELECT * FROM {{ ref('dim_customers') }}", manifest)
    assert "set the warehouse's `path` in this target to the file that dbt builds: built.duckdb" in str(refused.value)
    assert compiled("SELECT * FROM {{ ref('dim_customers') }}", manifest, "built").reads[0].unique_id == DIM


def test_manifest_is_looked_for_where_the_spec_says(shop: Shop, retl: Retl):
    shop.sync("it", f"{USER} FROM {{{{ ref('other') }}}}")
    spec = shop.folder / "syncs.yml"
    assert first_error(retl("exposures", folder=shop.folder))[1] == "add dbt: {project_dir: ../shop}"
    edit(spec, "version: 1\n", "version: 1\ndbt: {project_dir: ../elsewhere}\n")
    hint = first_error(retl("plan", "it", folder=shop.folder))[1]
    assert hint.endswith("; its location is set by dbt.project_dir and dbt.target_path")
    there = shop.folder / "dbt" / "built"
    there.mkdir(parents=True)
    manifest = changed(lambda m: of_package("other", "shop", m))
    manifest["nodes"]["model.shop.other"]["relation_name"] = '"warehouse"."main"."other"'
    (there / "manifest.json").write_text(json.dumps(manifest))
    edit(spec, "dbt: {project_dir: ../elsewhere}", "dbt: {project_dir: dbt, target_path: built}")
    shop.warehouse("CREATE TABLE other AS SELECT 1 AS x")
    outcome = retl("plan", "it", folder=shop.folder)
    assert outcome.code == 0, outcome.err
