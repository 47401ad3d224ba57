"""The keys of `collect`: what they may say, and what is said of each mistake in them."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from reverse_etl.errors import ProjectError
from reverse_etl.project.json_schema import json_schema
from reverse_etl.project.project import load_project
from reverse_etl.project.reader import Surroundings, read_spec
from reverse_etl.project.spec import Spec

HEAD = """\
version: 1
targets:
  dev:
    warehouse: {type: duckdb, path: w.duckdb}
    destination: {type: braze, endpoint: sandbox}
syncs: []
"""
WHOLE = """\
collect:
  path: ../inbox
  keep: 2 weeks
  sources:
    postback:
      keys: ["{{ env_var('POSTBACK_KEY') }}", "{{ env_var('POSTBACK_KEY_2') }}"]
      key_in_url: true
      rate_limit: 5
      tables:
        unsubscribes:
          columns: [external_id, user.external_user_id]
          keep: forever
        currents:
          columns: {id: user.external_user_id, event_time: time}
"""
KEYS = "keys: \"{{ env_var('POSTBACK_KEY') }}\""


def read(text: str, environ: dict[str, str] | None = None) -> Spec:
    return read_spec(HEAD + text, [], Surroundings(environ or {}))


def problems(text: str) -> list[str]:
    with pytest.raises(ProjectError) as raised:
        read(text)
    return [str(problem) for problem in raised.value.problems]


def source(keys: str = KEYS, tables: str = "{unsubscribes: {}}", name: str = "postback") -> str:
    return f"collect:\n  sources:\n    {name}:\n      {keys}\n      tables: {tables}\n"


def table(**keys: Any) -> str:
    return source(tables=f"{{unsubscribes: {yaml.safe_dump(keys, default_flow_style=True).strip()}}}")


def test_everything_that_is_written_is_read_without_the_keys_in_the_environment():
    found = read(WHOLE).collect
    assert found is not None
    postback = found.sources["postback"]
    assert (found.path, postback.key_in_url, postback.rate_limit) == ("../inbox", True, 5)
    assert postback.tables["unsubscribes"].columns == {
        "external_id": "external_id",
        "user_external_user_id": "user.external_user_id",
    }
    assert postback.tables["currents"].columns == {"id": "user.external_user_id", "event_time": "time"}
    kept = [found.keep_of("postback", name) for name in ("unsubscribes", "currents")]
    assert kept == [None, timedelta(weeks=2)]


def test_defaults_keep_records_for_thirty_days_beside_the_project():
    found = read(source()).collect
    assert found is not None
    postback = found.sources["postback"]
    assert (found.path, postback.key_in_url, postback.rate_limit) == ("collected", False, 1000)
    assert found.keep_of("postback", "unsubscribes") == timedelta(days=30)


def test_key_that_has_the_name_of_a_column_of_all_tables_gets_another_one():
    (problem,) = problems(table(columns=["record"]))
    told = re.search(r"such as (.*)$", problem)
    assert told
    found = read(table(columns=yaml.safe_load(told[1]))).collect
    assert found is not None
    assert found.sources["postback"].tables["unsubscribes"].columns == {"record_record": "record"}


def test_project_without_it_collects_nothing():
    assert read("").collect is None


def test_variables_of_the_keys_are_secret():
    assert read(WHOLE).secrets == {"POSTBACK_KEY", "POSTBACK_KEY_2"}


@pytest.mark.parametrize("keys", ["keys: [wk-1]", "keys: wk-1", "keys: [\"{{ var('x') }}\"]"])
def test_key_that_is_written_in_the_file_is_refused(keys: str):
    (problem,) = problems(source(keys))
    assert problem.partition(": ")[2] == (
        'a key of source "postback" in "collect" must come from the environment\n  hint: write keys: '
        "[\"{{ env_var('POSTBACK_KEY') }}\"], and put a new key into .env or the environment"
    )
    assert "wk-1" not in problem
    told = re.search(r"hint: write (keys: .*), and put", problem)
    assert told
    assert read(source(told[1])).collect is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("collect: 1", '7:10: "collect" must be a mapping'),
        ("collect: {}", '7:10: "sources" is missing in "collect"'),
        ("collect: {sources: {}}", '7:20: "sources" in "collect" must not be empty'),
        (source(keys="rate_limit: 1"), '10:7: "keys" is missing in "collect"'),
        (source(keys="keys: []"), '"keys" in "collect" must not be empty'),
        (source(tables="{}"), '"tables" in "collect" must not be empty'),
        (
            source(tables="{un-subs: {}}"),
            '"tables" in "collect" contains "un-subs": use letters, digits and _, and neither log nor erased',
        ),
        (
            source(name="log"),
            '"sources" in "collect" contains "log": use letters, digits and _, and neither log nor erased',
        ),
        (
            source(keys=f"{KEYS}\n      rate_limits: 1"),
            'unknown key "rate_limits" in "collect"\n  hint: did you mean "rate_limit"?',
        ),
        (table(keep="never"), '"keep" in "collect" must be a time such as "30 days", or forever'),
        (table(keep="0 days"), '"keep" in "collect" must be a time such as "30 days", or forever'),
        (table(keep="99999 years"), '"keep" in "collect" must be a time such as "30 days", or forever'),
        (table(columns=["a", "a"]), '"columns" in "collect" lists the column "a" twice'),
        (table(columns=["a.b", "a_b"]), '"columns" in "collect" lists the column "a_b" twice'),
        (table(columns=["a", "A"]), '"columns" in "collect" must not differ in upper and lower case only: A and a'),
        (table(columns=[1]), '"columns" in "collect" must be a list of keys, or a mapping of columns to keys'),
        (table(columns=["a..b"]), "must contain names of keys, with dots between a key and one of the object in it"),
        (
            table(columns=["time"]),
            '"columns" in "collect" must not name a column "time", as every table has one: give it another name, such '
            "as {record_time: time}",
        ),
        (
            "sources: {postback: {}}\n" + source(),
            '10:5: "postback" is both under "sources" and under "sources" of "collect"\n'
            "  hint: rename one of them: source() would have two meanings",
        ),
    ],
)
def test_mistake_is_named_with_its_place(text: str, expected: str):
    (problem,) = problems(text)
    assert expected in problem
    assert problem.startswith("syncs.yml:")


def test_schema_for_editors_accepts_and_refuses_the_same():
    schema = Draft202012Validator(json_schema())
    assert list(schema.iter_errors(yaml.safe_load(HEAD + WHOLE))) == []
    assert list(schema.iter_errors(yaml.safe_load(HEAD + source()))) == []
    wrong = (
        table(keep="never"),
        table(columns=1),
        source(tables="{}"),
        source(tables="{a-b: {}}"),
        source().replace("keys", "kes"),
    )
    assert [text for text in wrong if not list(schema.iter_errors(yaml.safe_load(HEAD + text)))] == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "syncs.yml").write_text(HEAD + WHOLE)
    return tmp_path


def test_keys_come_from_the_environment_when_they_are_asked_for(folder: Path):
    project = load_project(folder, environ={"POSTBACK_KEY": "wk-first-1234", "POSTBACK_KEY_2": " wk-second-5678\n"})
    assert project.collect_keys("postback") == ("wk-first-1234", "wk-second-5678")
    assert project.collect_folder == folder / "../inbox"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, 'environment variable "POSTBACK_KEY" is not set'),
        (" ", 'a key of source "postback" is empty'),
        ("wk one", 'a key of source "postback" contains a blank, or a character outside ASCII'),
        ("schlüssel", 'a key of source "postback" contains a blank, or a character outside ASCII'),
    ],
)
def test_key_that_no_request_could_have_is_an_error_which_does_not_show_it(folder: Path, value: str | None, said: str):
    environ = {"POSTBACK_KEY_2": "wk-second-5678"} | ({"POSTBACK_KEY": value} if value is not None else {})
    project = load_project(folder, environ=environ)
    with pytest.raises(ProjectError) as raised:
        project.collect_keys("postback")
    (problem,) = map(str, raised.value.problems)
    assert problem.startswith(f"syncs.yml:12:14: {said}")
    assert value is None or value.strip() == "" or value not in problem
