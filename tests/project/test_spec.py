"""syncs.yml: what it may say, and what is said of each mistake in it."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from reverse_etl.braze.modes import mode_names
from reverse_etl.errors import ProjectError
from reverse_etl.project.json_schema import json_schema
from reverse_etl.project.reader import Surroundings, read_spec
from reverse_etl.project.spec import Spec, Sync

HEAD = """\
version: 1
targets:
  dev:
    warehouse: {type: duckdb, path: w.duckdb}
    destination: {type: braze, endpoint: sandbox}
syncs:
"""
GOOD = "  - {name: members, model: members, mode: users_track, track_record_type: attributes}\n"


def read(text: str, environ: dict[str, str] | None = None, target: str | None = None, **variables: object) -> Spec:
    return read_spec(text, ["members", "orders"], Surroundings(environ or {}, variables or {}, target))


def problems(text: str, **options: object) -> list[str]:
    with pytest.raises(ProjectError) as raised:
        read(text, **options)
    return [str(problem) for problem in raised.value.problems]


def sync(**keys: object) -> str:
    """A syncs.yml with one sync, of whose keys each stands on a line of its own from line 7 on."""
    good = {"name": "members", "model": "members", "mode": "users_track", "track_record_type": "attributes"}
    lines = [f"{name}: {json.dumps(value)}" for name, value in {**good, **keys}.items() if value is not None]
    return HEAD + "  - " + "\n    ".join(lines) + "\n"


def test_good_sync_has_its_values_and_defaults():
    (found,) = read(sync(primary_key="external_id", pre_formatted_fields="a, b", tags=["x"])).syncs
    assert found.primary_key == ("external_id",)
    assert found.pre_formatted_fields == ("a", "b")
    assert (found.send, found.nulls, found.on_removed, found.guards.max_removed) == (
        "changed_columns",
        "clear",
        "ignore",
        "10%",
    )
    assert found.mode.label == "users_track / attributes"
    assert str(found.where("primary_key")) == "syncs.yml:11:18"


@pytest.mark.parametrize("key", [field.alias or name for name, field in Sync.model_fields.items()])
@pytest.mark.parametrize("mode", ["users_track", "users_delete"])
def test_key_without_a_value_is_an_error_or_counts_as_missing(key: str, mode: str):
    """As in a file that is not finished."""
    good = {"name": "members", "model": "members", "mode": mode, "allow_destructive": "true"}
    good |= {"track_record_type": "attributes"} if mode == "users_track" else {}
    lines = [f"{name}: {value}".rstrip() for name, value in {**good, key: ""}.items()]
    text = HEAD + "  - " + "\n    ".join(lines) + "\n"
    try:
        (found,) = read(text).syncs
    except ProjectError:
        return
    assert found.mode.label in ("users_track / attributes", "users_delete")
    assert (found.cron, found.predecessors, found.delay_time) == (None, (), timedelta())


def test_record_type_without_a_value_is_missing():
    text = sync().replace('track_record_type: "attributes"', "track_record_type:")
    assert problems(text) == problems(sync(track_record_type=None))


_ONLY_HOST = "must contain only a host, and a port from 1 to 65535 if it needs one: no blanks"
_NO_URL = "must be a URL such as https://rest.iad-01.braze.com, or sandbox"
_DASHBOARD = "is the dashboard: use the REST endpoint, rest.<instance>.braze.com"
_LOGIN = "must not contain a user or password: only api_key tells Braze who sends"
_PATH = "must not have a path or query: retl adds the path of each endpoint"
WRONG_ENDPOINTS = [
    ("https://dashboard-01.braze.com", _DASHBOARD),
    ("https://dashboard.braze.eu/", _DASHBOARD),
    ("https://user:secret@rest.iad-01.braze.com", _LOGIN),
    ("https://@rest.iad-01.braze.com", _LOGIN),
    ("https://rest.iad-01.braze.com:99999", _ONLY_HOST),
    ("https://rest.iad-01.braze.com:0", _ONLY_HOST),
    ("https://rest.iad-01.braze.com:", _ONLY_HOST),
    ("https://rest.iad-01.braze.com:x", _ONLY_HOST),
    (" https://rest.iad-01.braze.com", _ONLY_HOST),
    ("https://rest.iad-01.braze.com ", _ONLY_HOST),
    ("https://rest.iad-01. braze.com", _ONLY_HOST),
    ("https://rest..braze.com", _ONLY_HOST),
    ("https://[::1", _NO_URL),
    ("https://", _NO_URL),
    ("ftp://rest.iad-01.braze.com", _NO_URL),
    ("https://rest.iad-01.braze.com?x=1", _PATH),
    ("https://rest.iad-01.braze.com#x", _PATH),
]


@pytest.mark.parametrize(("endpoint", "message"), WRONG_ENDPOINTS)
def test_endpoint_that_leads_to_no_braze_is_refused_where_it_is_written(endpoint: str, message: str):
    head = HEAD.replace("sandbox}", f'"{endpoint}", api_key: "{{{{ env_var(\'KEY\') }}}}"}}')
    assert problems(head + GOOD) == [f'syncs.yml:5:42: "endpoint" in target "dev" {message}']


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            sync(btach_size=4, pre_formatted_feilds="a"),
            [
                'syncs.yml:11:5: unknown key "btach_size" in sync "members"\n'
                "  hint: remove it, or use another one: `retl schema` describes all keys",
                'syncs.yml:12:5: unknown key "pre_formatted_feilds" in sync "members"\n'
                '  hint: did you mean "pre_formatted_fields"?',
            ],
            id="unknown keys",
        ),
        pytest.param(
            sync(guards={"empty_snapshot": False}, incremental={"cursor": "at", "keep": "90 days"}),
            [
                'syncs.yml:11:14: unknown key "empty_snapshot" in sync "members"\n  hint: did you mean "empty_model"?',
                'syncs.yml:12:35: unknown key "keep" in sync "members"\n  hint: did you mean "retention"?',
            ],
            id="words that mean another key",
        ),
        pytest.param(
            HEAD + "  - name: a\n    model: members\n    mode: users_alias_new\n    name: b\n",
            ['syncs.yml:10:5: duplicate key "name", first defined on line 7\n  hint: remove one of them'],
            id="duplicate key",
        ),
        pytest.param(
            sync(schedule="0 25 * * *", timezone="Asia/Soul"),
            [
                'syncs.yml:11:15: "schedule" in sync "members": "0 25 * * *" is not a valid cron expression: bad hour\n'
                "  hint: use five fields, minute hour day month weekday, such as "
                '"*/15 * * * *" or "30 7 * * mon-fri"; or @daily',
                'syncs.yml:12:15: "timezone" in sync "members": unknown time zone "Asia/Soul"\n'
                '  hint: did you mean "Asia/Seoul"?',
            ],
            id="schedule and zone that cannot be used",
        ),
        pytest.param(
            sync(timezone="Asia/Seoul", delay="1 hour"),
            [
                'syncs.yml:11:5: "timezone" in sync "members" has no effect without "schedule"\n  hint: remove it',
                'syncs.yml:12:5: "delay" in sync "members" has no effect without "schedule"\n  hint: remove it',
            ],
            id="zone without a schedule",
        ),
        pytest.param(
            sync(schedule=15),
            ['syncs.yml:11:15: "schedule" in sync "members" must be a string\n  hint: put it in quotes: "15"'],
            id="schedule that is a number",
        ),
        pytest.param(
            HEAD + GOOD.replace("}", ", schedule: */5 * * * *}"),
            [
                "syncs.yml:7:98: invalid YAML: expected alphabetic or numeric character, but found '/'\n"
                "  hint: quote a string that begins with *"
            ],
            id="cron line without quotes",
        ),
        pytest.param(
            sync(model="membrs"),
            [
                'syncs.yml:8:12: the model in sync "members" does not exist: models/membrs.sql\n'
                '  hint: did you mean "members"?'
            ],
            id="missing model",
        ),
        pytest.param(
            sync(mode="users_trak", track_record_type=None),
            [
                'syncs.yml:9:11: "users_trak" is not a valid value for "mode" in sync "members"\n  hint: did you mean "users_track"?'
            ],
            id="unknown mode",
        ),
        pytest.param(
            sync(mode="users_purge", track_record_type=None),
            [
                'syncs.yml:9:11: "users_purge" is not a valid value for "mode" in sync "members"\n'
                f"  hint: one of: {', '.join(mode_names())}"
            ],
            id="mode that sounds like one that merges",
        ),
        pytest.param(
            sync(mode="users_delet", track_record_type=None),
            [
                'syncs.yml:9:11: "users_delet" is not a valid value for "mode" in sync "members"\n'
                '  hint: did you mean "users_delete"?'
            ],
            id="mode that deletes, mistyped",
        ),
        pytest.param(
            sync(track_record_type=None),
            [
                'syncs.yml:7:5: "track_record_type" is missing in sync "members": users_track needs it\n'
                "  hint: one of: attributes, events, purchases"
            ],
            id="missing record type",
        ),
        pytest.param(
            sync(track_record_type="attribute"),
            [
                'syncs.yml:10:24: "attribute" is not a valid value for "track_record_type" in sync "members"\n'
                '  hint: did you mean "attributes"?'
            ],
            id="unknown record type",
        ),
        pytest.param(
            sync(mode="users_alias_new", track_record_type="events", send="all_columns"),
            [
                'syncs.yml:10:5: "track_record_type" in sync "members" is not supported by mode users_alias_new\n'
                "  hint: remove it",
                'syncs.yml:11:5: "send" in sync "members" is not supported by mode users_alias_new\n  hint: remove it',
            ],
            id="keys that the mode does not take",
        ),
        pytest.param(
            sync(on_removed="clear", incremental={"cursor": "at", "retention": "90 days", "lookback": "an hour"}),
            [
                'syncs.yml:11:17: "on_removed" in sync "members" cannot be combined with "incremental"\n'
                "  hint: remove it: a row that an incremental model does not return is not a removed row",
                'syncs.yml:12:35: "retention" in sync "members" is not supported by mode users_track / attributes\n'
                "  hint: remove it: only events and purchases can be pruned",
                'syncs.yml:12:71: "lookback" in sync "members" must be an interval such as "1 hour", or a number for an '
                "integer cursor",
            ],
            id="incremental that does not fit",
        ),
        pytest.param(
            sync(keep_removed="90 days", incremental={"cursor": "at"}),
            [
                'syncs.yml:11:5: "keep_removed" in sync "members" cannot be combined with "incremental"\n'
                "  hint: remove it: a row that an incremental model does not return is not a removed row"
            ],
            id="keep_removed of an incremental model",
        ),
        pytest.param(
            sync(keep_removed="90 days", on_removed="clear"),
            [
                'syncs.yml:11:5: "keep_removed" in sync "members" has no effect with "on_removed: clear"\n'
                "  hint: remove it: once that has happened, the state has no such row"
            ],
            id="keep_removed of rows that are cleared",
        ),
        pytest.param(
            sync(keep_removed="90"),
            ['syncs.yml:11:19: "keep_removed" in sync "members" must be a time such as "30 days", or forever'],
            id="keep_removed without a unit",
        ),
        pytest.param(
            sync(keep_removed="90 days", track_record_type="events"),
            [
                'syncs.yml:11:5: "keep_removed" in sync "members" is not supported by mode users_track / events\n'
                "  hint: remove it"
            ],
            id="keep_removed of events",
        ),
        pytest.param(
            sync(mode="users_delete", track_record_type=None),
            [
                'syncs.yml:9:11: "mode: users_delete" in sync "members" deletes users\n'
                '  hint: if this is intended, add "allow_destructive: true" to the sync: deleting cannot be undone'
            ],
            id="deleting without leave",
        ),
        pytest.param(
            sync(on_removed="delete"),
            [
                'syncs.yml:11:17: "on_removed: delete" in sync "members" deletes users\n'
                '  hint: if this is intended, add "allow_destructive: true" to the sync: deleting cannot be undone'
            ],
            id="deleting the removed without leave",
        ),
        pytest.param(
            sync(skip_on_invalid_records="maybe", tags=5, guards={"max_removed": "lots"}),
            [
                'syncs.yml:11:30: "skip_on_invalid_records" in sync "members" must be true or false\n  hint: write skip_on_invalid_records: true, or skip_on_invalid_records: false',
                'syncs.yml:12:11: "tags" in sync "members" must be a string or a list of strings\n'
                '  hint: put it in quotes: "5"',
                'syncs.yml:13:29: "max_removed" in sync "members" must be a number of rows, or a percentage such as "10%"',
            ],
            id="wrong types",
        ),
        pytest.param(
            sync(name="a b"),
            ['syncs.yml:7:11: "name" in sync "a b" may contain letters, digits, _ and - only'],
            id="bad name",
        ),
        pytest.param(
            HEAD + GOOD + GOOD,
            ['syncs.yml:8:12: duplicate sync "members", first defined on line 7\n  hint: rename one of them'],
            id="two syncs of one name",
        ),
        pytest.param(
            sync(after=["orders"]),
            ['syncs.yml:11:13: "after" in sync "members" refers to an unknown sync: "orders"\n  hint: remove it'],
            id="after nothing",
        ),
        pytest.param(
            sync(after="members"),
            ['syncs.yml:11:12: cycle in "after": members -> members\n  hint: remove one of them'],
            id="after itself",
        ),
        pytest.param(
            sync(description="{{ env_var('NOPE') }}"),
            [
                'syncs.yml:11:18: environment variable "NOPE" is not set\n'
                "  hint: set NOPE in the environment or in .env, or add a default: env_var('NOPE', '...')"
            ],
            id="missing environment variable",
        ),
        pytest.param(
            sync(description="{{ var('country') }}"),
            [
                'syncs.yml:11:18: variable "country" has no value\n'
                """  hint: set it under "vars:" in syncs.yml, or pass --vars '{"country": ...}'"""
            ],
            id="missing variable",
        ),
        pytest.param(
            HEAD.replace("version: 1", "version: 2") + GOOD,
            ['syncs.yml:1:10: "2" is not a valid value for "version"\n  hint: one of: 1'],
            id="unknown version",
        ),
        pytest.param(
            HEAD.replace("endpoint: sandbox", "endpoint: http://rest.iad-01.braze.com, api_key: secret") + GOOD,
            [
                'syncs.yml:5:42: "endpoint" in target "dev" must start with https:// (http is allowed for loopback '
                "addresses only)",
                'syncs.yml:5:81: "api_key" in target "dev" must come from the environment\n'
                "  hint: use api_key: \"{{ env_var('BRAZE_API_KEY') }}\", and create a new key: this one has been written "
                "to a file",
            ],
            id="key in the file, no TLS",
        ),
        pytest.param(
            HEAD.replace("endpoint: sandbox", "endpoint: https://rest.iad-01.braze.com, api_key: \"{{ 'secret' }}\"")
            + GOOD,
            [
                'syncs.yml:5:82: "api_key" in target "dev" must come from the environment\n'
                "  hint: use api_key: \"{{ env_var('BRAZE_API_KEY') }}\", and create a new key: this one has been written "
                "to a file",
            ],
            id="key in a template",
        ),
        *(
            pytest.param(
                HEAD.replace("endpoint: sandbox", f'endpoint: https://rest.iad-01.braze.com, api_key: "{key}"') + GOOD,
                [
                    'syncs.yml:5:82: "api_key" in target "dev" must not compute the name of an environment variable\n'
                    "  hint: write the name itself, as in {{ env_var('NAME') }}: models cannot read what is named so",
                ],
                id=f"key of {what}",
            )
            for what, key in {
                "a name put together": "{{ env_var('BRAZE_' ~ 'KEY') }}",
                "a name from a variable": "{{ env_var(var('key')) }}",
                "two names, one of them put together": "{{ env_var('BRAZE_KEY') ~ env_var('MO' ~ 'RE') }}",
                "a name put together behind a tag": "{% do 1 %}{{ env_var('A') ~ env_var('B' ~ 'C') }}",
                "another name for env_var": "{% set read = env_var %}{{ read('BRAZE_KEY') }}",
            }.items()
        ),
        pytest.param(
            HEAD.replace("endpoint: sandbox", "endpoint: https://rest.iad-01.braze.com") + GOOD,
            ['syncs.yml:5:18: "api_key" is missing: add api_key: "{{ env_var(\'BRAZE_API_KEY\') }}"'],
            id="no key",
        ),
        pytest.param(
            HEAD.replace("endpoint: sandbox", "endpoint: https://sdk.iad-01.braze.com") + GOOD,
            [
                'syncs.yml:5:42: "endpoint" in target "dev" is an SDK endpoint: use the REST endpoint, '
                "rest.<instance>.braze.com"
            ],
            id="SDK host",
        ),
        pytest.param(
            HEAD.replace("sandbox}", "sandbox, rate_limits: {users_trak: {requests: 0, per_seconds: 3}}}") + GOOD,
            [
                'syncs.yml:5:65: unknown key "users_trak" in "rate_limits" in target "dev"\n'
                '  hint: did you mean "users_track"?',
                'syncs.yml:5:88: "requests" in target "dev" must be greater than 0',
            ],
            id="bad rate limit",
        ),
        pytest.param(
            HEAD.replace("sandbox}", "sandbox, keep_free: 100%}") + GOOD,
            ['syncs.yml:5:62: "keep_free" in target "dev" must be a percentage below 100, such as "20%"'],
            id="nothing is left",
        ),
        pytest.param(
            HEAD.replace("sandbox}", "sandbox, keep_free: 0.2}") + GOOD,
            ['syncs.yml:5:62: "keep_free" in target "dev" must be a percentage below 100, such as "20%"'],
            id="fraction, not a percentage",
        ),
        pytest.param(
            HEAD.replace(
                "sandbox}",
                "sandbox, rate_limits: {users_track: [{requests: 9, per_seconds: 3}, {requests: 9, per_second: 3}]}}",
            )
            + GOOD,
            [
                'syncs.yml:5:110: "per_seconds" is missing in target "dev"',
                'syncs.yml:5:124: unknown key "per_second" in target "dev"\n  hint: did you mean "per_seconds"?',
            ],
            id="bad second window",
        ),
        pytest.param(
            "version: 1\nsyncs: []\n",
            [
                'syncs.yml: "targets" is missing\n  hint: add targets: {dev: {warehouse: {type: duckdb, path: '
                "warehouse.duckdb}, destination: {type: braze, endpoint: sandbox}}}"
            ],
            id="no targets",
        ),
        pytest.param(
            "",
            [
                "syncs.yml: must be a mapping with version, targets and syncs\n  hint: `retl init my_project` writes an example"
            ],
            id="empty file",
        ),
        pytest.param(
            "version: 1\n  targets: {\n",
            ["syncs.yml:2:10: invalid YAML: mapping values are not allowed here"],
            id="not YAML",
        ),
    ],
)
def test_mistake_is_named_with_its_place_and_the_way_out(text: str, expected: list[str]):
    assert problems(text) == expected


def test_all_mistakes_of_a_file_are_shown_together_in_its_order():
    text = HEAD + (
        "  - {name: a, model: nope, mode: users_track}\n"
        "  - {name: b, model: members, mode: users_delete, nulls: clear}\n"
        "  - {name: c, mode: users_alias_new, after: [b, zz]}\n"
    )
    assert [line.split(": ")[0] for line in problems(text)] == [
        "syncs.yml:7:5",
        "syncs.yml:7:22",
        "syncs.yml:8:37",
        "syncs.yml:8:51",
        "syncs.yml:9:5",
        "syncs.yml:9:49",
    ]


PROD = HEAD.replace(
    "syncs:",
    """  prod:
    warehouse: {type: duckdb, path: "{{ env_var('WAREHOUSE_PATH') }}"}
    destination:
      type: braze
      endpoint: "{{ env_var('BRAZE_REST_ENDPOINT') }}"
      api_key: "{{ env_var('BRAZE_API_KEY') }}"
      max_objects_per_request: "{{ env_var('OBJECTS') }}"
syncs:""",
).replace("version: 1", "version: 1\ndefault_target: dev")


def test_secrets_of_other_targets_are_never_asked_for():
    assert read(PROD + GOOD).target_name == "dev"


def test_values_of_the_chosen_target_come_from_the_environment():
    environ = {
        "WAREHOUSE_PATH": "/data/w.duckdb",
        "BRAZE_REST_ENDPOINT": "https://rest.fra-01.braze.eu",
        "OBJECTS": "50",
    }
    target = read(PROD + GOOD, environ=environ, target="prod").target
    assert (target.warehouse.path, target.destination.endpoint, target.destination.max_objects_per_request) == (
        "/data/w.duckdb",
        "https://rest.fra-01.braze.eu",
        50,
    )


def test_api_key_is_not_read_before_it_is_needed_and_never_shown():
    environ = {"WAREHOUSE_PATH": "w", "BRAZE_REST_ENDPOINT": "https://rest.fra-01.braze.eu", "OBJECTS": "50"}
    spec = read(PROD + GOOD, environ={**environ, "BRAZE_API_KEY": "very-secret"}, target="prod")
    assert "very-secret" not in repr(spec)


def test_mistakes_in_the_keys_of_other_targets_are_found_all_the_same():
    assert problems(PROD.replace("max_objects_per_request", "max_objcts") + GOOD) == [
        'syncs.yml:13:7: unknown key "max_objcts" in target "prod"\n  hint: did you mean "max_objects_per_request"?'
    ]


def test_missing_environment_variables_of_the_chosen_target_are_all_named():
    assert [line.split("\n")[0] for line in problems(PROD + GOOD, target="prod")] == [
        'syncs.yml:8:37: environment variable "WAREHOUSE_PATH" is not set',
        'syncs.yml:11:17: environment variable "BRAZE_REST_ENDPOINT" is not set',
        'syncs.yml:13:32: environment variable "OBJECTS" is not set',
    ]


def test_empty_environment_variables_of_the_chosen_target_are_all_named():
    environ = dict.fromkeys(("WAREHOUSE_PATH", "BRAZE_REST_ENDPOINT", "OBJECTS"), "")
    url = '"endpoint" in target "prod" must be a URL such as https://rest.iad-01.braze.com, or sandbox'
    assert problems(PROD + GOOD, target="prod", environ=environ) == [
        'syncs.yml:8:37: environment variable "WAREHOUSE_PATH" is empty\n  hint: set WAREHOUSE_PATH in the environment '
        'or in .env: "path" in target "prod" must not be empty',
        'syncs.yml:11:17: environment variable "BRAZE_REST_ENDPOINT" is empty\n  hint: set BRAZE_REST_ENDPOINT in the '
        f"environment or in .env: {url}",
        'syncs.yml:13:32: environment variable "OBJECTS" is empty\n  hint: set OBJECTS in the environment or in .env: '
        '"max_objects_per_request" in target "prod" must be an integer',
    ]


def test_part_of_a_value_that_is_empty_is_named():
    text = HEAD.replace("endpoint: sandbox", "endpoint: \"https://{{ env_var('HOST') }}{{ env_var('PORT', '1') }}\"")
    (problem,) = problems(text + GOOD, environ={"HOST": "", "PORT": ""})
    assert problem.startswith('syncs.yml:5:42: environment variables "HOST" and "PORT" are empty\n')
    assert "set HOST and PORT in the environment or in .env" in problem


def test_sync_that_reads_an_empty_variable_names_it():
    text = HEAD + GOOD.replace("model: members", "model: \"{{ env_var('MODEL') }}\"")
    (problem, *others) = problems(text, environ={"MODEL": ""})
    assert (problem.split(": ")[1].split("\n")[0], others) == ('environment variable "MODEL" is empty', [])


def test_unknown_target_is_named_with_the_nearest():
    assert problems(PROD + GOOD, target="prd") == ['syncs.yml: unknown target "prd"\n  hint: did you mean "prod"?']


def test_variables_of_the_command_line_win():
    text = HEAD.replace("syncs:", "vars: {country: KR}\nsyncs:") + GOOD.replace(
        "}", ", description: \"{{ var('country') }}\"}"
    )
    assert read(text).syncs[0].description == "KR"
    assert read(text, country="DE").syncs[0].description == "DE"


def test_anchors_and_merge_keys_work_and_keep_their_places():
    text = HEAD + (
        "  - &base\n    name: a\n    model: members\n    mode: users_track\n    track_record_type: attributes\n"
        "  - <<: *base\n    name: b\n    sned: all\n"
    )
    assert problems(text) == ['syncs.yml:14:5: unknown key "sned" in sync "b"\n  hint: did you mean "send"?']


def test_yaml_cannot_make_objects():
    (line,) = problems("version: !!python/object/apply:os.system [echo]\n")
    assert line.startswith("syncs.yml:1:10: invalid YAML: could not determine a constructor for the tag")


def test_schema_describes_every_key_of_a_sync():
    schema = json_schema()
    sync_keys = schema["properties"]["syncs"]["items"]["properties"]
    assert {"name", "model", "mode", "primary_key", "nulls", "on_removed", "guards"} <= sync_keys.keys()
    assert {"enum": ["attributes", "events", "purchases"], "type": "string"} in sync_keys["track_record_type"]["anyOf"][
        0
    ]["anyOf"]


@pytest.mark.parametrize("file", ["syncs.yml", "reverse_etl/starter/project/syncs.yml"])
def test_schema_takes_the_projects_that_we_write(file: str):
    text = (Path(__file__).parents[2] / file).read_text()
    assert list(Draft202012Validator(json_schema()).iter_errors(yaml.safe_load(text))) == []


TESTED = {"name": "t", "sync": "members", "expect": {"records": []}}


@pytest.mark.parametrize(
    ("keys", "where"),
    [
        pytest.param({"unit_tests": [{**TESTED, "given": [{"inputs": "ref('a')"}]}]}, "unit_tests/0/given/0", id="key"),
        pytest.param(
            {"unit_tests": [{**TESTED, "expect": {"records": "none"}}]}, "unit_tests/0/expect/records", id="list"
        ),
        pytest.param({"data_tests": [{"not_nul": "a"}]}, "syncs/0/data_tests/0", id="unknown test"),
        pytest.param(
            {"data_tests": [{"unique": {"column": "a", "severity": "bad"}}]}, "syncs/0/data_tests/0/unique", id="word"
        ),
    ],
)
def test_schema_refuses_mistakes_in_tests(keys: dict[str, Any], where: str):
    document = yaml.safe_load(sync(**{"data_tests": keys.get("data_tests", [])}))
    document["unit_tests"] = keys.get("unit_tests", [TESTED])
    places = {
        "/".join(map(str, error.absolute_path)) for error in Draft202012Validator(json_schema()).iter_errors(document)
    }
    assert places == {where}
