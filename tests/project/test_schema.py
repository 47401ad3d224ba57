"""The JSON Schema of syncs.yml: editors know what retl knows, as far as a schema can say it."""

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from docs.generate import ROOT
from reverse_etl.braze.modes import MODES
from reverse_etl.project.json_schema import SCHEMA_FILE, json_schema
from tests.project import test_spec
from tests.shop import Retl

SCHEMA = Draft202012Validator(json_schema())
# Mistakes of test_spec.py that no schema can see, and why.
BEYOND = {
    "duplicate key": "the second of two equal keys is gone before a schema is asked",
    "missing model": "which files there are",
    "two syncs of one name": "what two entries of a list say of each other",
    "after nothing": "what two entries of a list say of each other",
    "after itself": "what two entries of a list say of each other",
    "missing environment variable": "what the environment holds",
    "key of two names, one of them put together": "what is called in a template",
    "key of a name put together behind a tag": "what is called in a template",
    "missing variable": "what other keys hold",
    "schedule and zone that cannot be used": "what cron lines and time zones there are",
    "not YAML": "there is nothing to validate",
    "cron line without quotes": "there is nothing to validate",
}
MISTAKES = {
    problem.id: problem.values[0]
    for mark in test_spec.test_mistake_is_named_with_its_place_and_the_way_out.pytestmark
    for problem in mark.args[1]
}


def is_valid(text: str) -> bool:
    return SCHEMA.is_valid(yaml.safe_load(text))


def test_schema_is_a_schema():
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize("name", sorted(MISTAKES.keys() - BEYOND.keys()))
def test_mistake_is_refused_by_the_schema(name: str):
    assert not is_valid(MISTAKES[name])


@pytest.mark.parametrize("name", sorted(BEYOND.keys() - {"not YAML", "cron line without quotes"}))
def test_mistake_that_no_schema_can_see_is_let_pass(name: str):
    """If one is refused some day, it is to leave the list."""
    assert is_valid(MISTAKES[name])


@pytest.mark.parametrize("path", [ROOT / "syncs.yml", *sorted(ROOT.glob("tests/projects/**/syncs.yml"))], ids=str)
def test_project_is_valid(path: Path):
    assert [error.message for error in SCHEMA.iter_errors(yaml.safe_load(path.read_text()))] == []


@pytest.mark.parametrize(
    "text", [test_spec.HEAD + test_spec.GOOD, test_spec.PROD + test_spec.GOOD], ids=["good", "two"]
)
def test_good_spec_is_valid(text: str):
    assert is_valid(text)


@pytest.mark.parametrize("mode", MODES.values(), ids=lambda mode: mode.label)
def test_every_mode_is_valid_with_every_option_that_it_takes(mode):
    """And no other mode's options."""
    values = {
        "pre_formatted_fields": ["a"],
        "send": "all_columns",
        "nulls": "omit",
        "on_removed": "clear" if mode.clears else "ignore",
        "on_in_doubt": "resend",
        "allow_destructive": True,
    }
    good = {option: values[option] for option in mode.options if option in values}
    keys = {"mode": mode.name, "track_record_type": mode.record_type, "allow_destructive": True}
    keys |= dict.fromkeys(mode.keys, "products")
    needed = keys if mode.name == "users_delete" else {**keys, "allow_destructive": None}
    assert is_valid(test_spec.sync(**{**needed, **good}))
    for option in values.keys() - mode.options - {"allow_destructive"}:
        assert not is_valid(test_spec.sync(**needed, **{option: values[option]})), option


@pytest.mark.parametrize(
    ("keys", "valid"),
    [
        pytest.param({"after": "orders", "tags": "a, b", "primary_key": "id"}, True, id="words for lists"),
        pytest.param({"mode": "{{ var('mode') }}", "send": "all_columns"}, True, id="mode worked out"),
        pytest.param({"skip_on_invalid_records": "{{ var('skip') }}"}, True, id="boolean worked out"),
        pytest.param({"on_removed": "delete", "allow_destructive": True}, True, id="deleting with leave"),
        pytest.param({"incremental": {"cursor": "at", "lookback": 5}}, True, id="lookback of numbers"),
        pytest.param({"guards": {"max_removed": 50, "max_changes": "2.5%"}}, True, id="bounds"),
        pytest.param({"guards": {"max_remove": 50}}, False, id="unknown guard"),
        pytest.param({"incremental": {"cursor": "at", "lookback": "soon"}}, False, id="no lookback"),
    ],
)
def test_sync_is_valid_as_retl_reads_it(keys, valid: bool):
    assert is_valid(test_spec.sync(**keys)) == valid


@pytest.mark.parametrize(
    ("endpoint", "valid"),
    [
        ("https://rest.iad-01.braze.com", True),
        ("https://rest.iad-01.braze.com/", True),
        ("http://localhost:8080", True),
        ("http://127.0.0.1:8080", True),
        ("{{ env_var('BRAZE_REST_ENDPOINT') }}", True),
        ("https://rest.iad-01.braze.com/users", False),
        ("http://localhost.example.com", False),
        ("rest.iad-01.braze.com", False),
        ("https://localhost:8443", True),
        ("https://rest.iad-01.braze.com:65535/", True),
        ("https://[fd00::1]:443", True),
        *((endpoint, False) for endpoint, _ in test_spec.WRONG_ENDPOINTS),
    ],
)
def test_endpoint_is_valid_as_retl_reads_it(endpoint: str, valid: bool):
    head = test_spec.HEAD.replace("sandbox}", f'"{endpoint}", api_key: "{{{{ env_var(\'KEY\') }}}}"}}')
    assert is_valid(head + test_spec.GOOD) == valid


def test_header_of_the_demo_leads_to_a_schema():
    first = (ROOT / "syncs.yml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE}"
    assert (ROOT / SCHEMA_FILE).exists()


def test_header_of_the_starter_leads_to_the_schema_of_this_retl(retl: Retl, tmp_path: Path):
    assert retl("init").code == 0
    text = (tmp_path / "syncs.yml").read_text()
    assert text.splitlines()[0] == f"# yaml-language-server: $schema={SCHEMA_FILE}"
    assert is_valid(text)
    assert (tmp_path / SCHEMA_FILE).read_text() == retl("schema").out
