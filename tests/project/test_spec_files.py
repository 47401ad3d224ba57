"""syncs/*.yml beside syncs.yml, defaults of all syncs, and places for anchors."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from reverse_etl.errors import ProjectError
from reverse_etl.project.json_schema import json_schema, sync_files_schema
from reverse_etl.project.project import load_project
from reverse_etl.project.reader import Surroundings, read_spec
from reverse_etl.project.spec import Spec
from reverse_etl.project.spec_files import DEFAULT_KEYS
from tests.shop import Retl

HEAD = """\
version: 1
targets:
  dev:
    warehouse: {type: duckdb, path: w.duckdb}
    destination: {type: braze, endpoint: sandbox}
"""
CRM = """\
syncs:
  - {name: members, model: members, mode: users_track, track_record_type: attributes}
"""
EVENTS = """\
version: 1
syncs:
  - name: orders
    model: orders
    mode: users_track
    track_record_type: events
    after: members
"""
ONE = "{name: members, model: members, mode: users_track, track_record_type: attributes"


def read(text: str, **others: str) -> Spec:
    files = {f"syncs/{name}.yml": other for name, other in others.items()}
    return read_spec(text, ["members", "orders"], Surroundings({}), files)


def problems(text: str, **others: str) -> list[str]:
    with pytest.raises(ProjectError) as raised:
        read(text, **others)
    return [str(problem) for problem in raised.value.problems]


def test_syncs_of_all_files_are_syncs_of_the_project():
    spec = read(HEAD, crm=CRM, events=EVENTS)
    assert [(sync.name, str(sync.where("name"))) for sync in spec.syncs] == [
        ("members", "syncs/crm.yml:2:12"),
        ("orders", "syncs/events.yml:3:11"),
    ]
    assert str(spec.syncs[1].where("after")) == "syncs/events.yml:7:12"
    assert str(spec.in_target("warehouse")) == "syncs.yml:4:16"
    spec = read(f"{HEAD}syncs:\n  - {ONE}, after: orders}}\n", events=EVENTS.replace("    after: members\n", ""))
    assert [str(sync.where("model")) for sync in spec.syncs] == ["syncs.yml:7:28", "syncs/events.yml:4:12"]


def test_project_reads_files_of_folders_too_in_their_order(tmp_path: Path):
    (tmp_path / "models").mkdir()
    for name in ("members", "orders"):
        (tmp_path / "models" / f"{name}.sql").write_text("select 'u' as external_id")
    (tmp_path / "syncs.yml").write_text(HEAD)
    (tmp_path / "syncs" / "b").mkdir(parents=True)
    (tmp_path / "syncs" / "b" / "crm.yml").write_text(CRM)
    (tmp_path / "syncs" / "a.yml").write_text(EVENTS)
    (tmp_path / "syncs" / "empty.yml").write_text("# later\n")
    assert load_project(tmp_path, environ={}).sync_names == ["orders", "members"]
    (tmp_path / "syncs" / "c.yaml").write_text(CRM)
    with pytest.raises(ProjectError) as raised:
        load_project(tmp_path, environ={})
    assert str(raised.value) == (
        "syncs/c.yaml: files in syncs/ must end with .yml\n  hint: rename it: `mv syncs/c.yaml syncs/c.yml`"
    )


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param(
            {"crm": CRM, "more": f"syncs:\n  - {ONE.replace('members,', 'Members,', 1)}}}\n"},
            ['syncs/more.yml:2:12: duplicate sync "Members", first defined at syncs/crm.yml:2:12\n'
             "  hint: rename one of them"],
            id="a name in two files",
        ),
        pytest.param(
            {"crm": f"{CRM}targets: {{}}\nx-common: &x {{}}\n", "more": "synks: []\n"},
            ['syncs/crm.yml:3:1: "targets" is read from syncs.yml only\n  hint: move it to syncs.yml',
             'syncs/more.yml:1:1: unknown key "synks"\n'
             "  hint: remove it: files in syncs/ have syncs, unit_tests, and x-... for anchors"],
            id="keys of syncs.yml",
        ),
        pytest.param(
            {"crm": "- members\n", "more": "syncs: {members: 1}\n", "none": "version: 2\n"},
            ["syncs/crm.yml: must be a mapping with syncs or unit_tests\n  hint: begin with syncs: and a list",
             'syncs/more.yml:1:8: "syncs" must be a list\n  hint: begin each item with a dash',
             'syncs/none.yml:1:10: "version" must be 1\n  hint: version: 1'],
            id="no list",
        ),
        pytest.param(
            {"crm": CRM.replace("model:", "modle:"), "more": EVENTS.replace("after: members", "after: member")},
            ['syncs/crm.yml:2:5: "model" is missing in sync "members"',
             'syncs/crm.yml:2:21: unknown key "modle" in sync "members"\n  hint: did you mean "model"?',
             'syncs/more.yml:7:12: "after" in sync "orders" refers to an unknown sync: "member"\n'
             '  hint: did you mean "members"?'],
            id="errors of several files",
        ),
        pytest.param(
            {"crm": "unit_tests:\n  - {name: a, sync: x, given: [], expect: {records: []}}\nsyncs: []\n",
             "more": "unit_tests:\n  - {name: a, sync: x, given: [], expect: {records: []}}\n"},
            ['syncs/crm.yml:2:21: unknown sync "x" in unit test "a"',
             'syncs/more.yml:2:12: duplicate unit test "a", first defined at syncs/crm.yml:2:12\n'
             "  hint: rename one of them",
             'syncs/more.yml:2:21: unknown sync "x" in unit test "a"'],
            id="unit tests",
        ),
    ],
)  # fmt: skip
def test_error_leads_to_the_file_that_it_is_in(others: dict[str, str], expected: list[str]):
    assert problems(HEAD, **others) == expected


def test_defaults_are_for_all_syncs_and_what_a_sync_says_goes_before_them():
    text = (
        f"{HEAD}defaults:\n  nulls: omit\n  schedule: '@daily'\n  timezone: Asia/Seoul\n  tags: [crm]\n"
        "  guards: {max_changes: 10%, max_requests: 5}\n  on_removed: clear\n"
        f"syncs:\n  - {ONE}}}\n"
        f"  - {ONE.replace('members', 'others', 1)}, nulls: send, schedule: null, tags: [hourly, crm],"
        " guards: {max_requests: 7}, on_removed: ignore}\n"
    )
    first, second, orders = read(text, events=EVENTS).syncs
    assert (first.nulls, first.schedule, first.timezone, first.tags, first.on_removed) == (
        *("omit", "@daily", "Asia/Seoul", ("crm",), "clear"),
    )
    assert (second.nulls, second.schedule, second.tags, second.on_removed) == (
        "send",
        None,
        ("crm", "hourly"),
        "ignore",
    )
    assert [(s.guards.max_changes, s.guards.max_requests) for s in (first, second)] == [("10%", 5), ("10%", 7)]
    assert (orders.schedule, orders.on_removed, orders.nulls) == ("@daily", "ignore", "clear")  # events have neither
    assert first.as_written["nulls"] == "omit"
    assert [str(first.where("nulls")), str(first.where("guards", "max_changes")), str(second.where("nulls"))] == [
        *("syncs.yml:7:10", "syncs.yml:11:25"),
        "syncs.yml:15:93",
    ]


@pytest.mark.parametrize(
    ("defaults", "expected"),
    [
        pytest.param(
            "{nulls: omitt}",
            ['syncs.yml:6:19: "omitt" is not a valid value for "nulls" in "defaults"\n  hint: did you mean "omit"?'],
            id="value",
        ),
        pytest.param(
            "{colour: 1}",
            ['syncs.yml:6:12: unknown key "colour" in "defaults"\n'
             "  hint: remove it, or use another one: `retl schema` describes all keys"],
            id="unknown key",
        ),
        pytest.param(
            "{mode: users_track, allow_destructive: true}",
            [f'syncs.yml:6:{column}: "{key}" in "defaults": every sync has its own\n'
             f"  hint: write it in the syncs; defaults are {', '.join(DEFAULT_KEYS)}"
             for key, column in (("mode", 12), ("allow_destructive", 31))],
            id="key of a sync",
        ),
        pytest.param(
            "{schedule: 'at noon'}",
            ['syncs.yml:6:22: "schedule" in sync "members": "at noon" is not a valid cron expression: it has 2 fields, '
             'not 5\n  hint: use five fields, minute hour day month weekday, such as "*/15 * * * *" or "30 7 * * mon-fri"; '
             "or @daily"],
            id="value that is checked with the sync",
        ),
        pytest.param("[nulls]", ['syncs.yml:6:11: "defaults" must be a mapping'], id="no mapping"),
    ],
)  # fmt: skip
def test_error_in_defaults_leads_there_once(defaults: str, expected: list[str]):
    assert problems(f"{HEAD}defaults: {defaults}\nsyncs:\n  - {ONE}}}\n") == expected


def test_place_for_anchors_is_not_read():
    text = f"{HEAD}x-common: &common\n  nulls: omit\nx-more: [NO]\nsyncs:\n  - {{<<: *common, {ONE[1:]}}}\n"
    spec = read(text, events=f"x-later: [&a {{after: members}}]\n{EVENTS}")
    assert (spec.syncs[0].nulls, spec.warnings) == ("omit", ())


def test_fingerprint_of_a_sync_changes_with_a_default_that_applies_to_it(tmp_path: Path):
    (tmp_path / "models").mkdir()
    for name in ("members", "orders"):
        (tmp_path / "models" / f"{name}.sql").write_text("select 'u' as external_id")
    found = []
    for defaults in ("", "defaults: {nulls: omit}\n", "defaults: {nulls: omit, schedule: '@daily'}\n"):
        (tmp_path / "syncs.yml").write_text(f"{HEAD}{defaults}{CRM}")
        project = load_project(tmp_path, environ={})
        found.append(project.fingerprint(project.sync("members")))
    assert found[0] != found[1] == found[2]


@pytest.mark.parametrize(
    ("schema", "text", "is_valid"),
    [
        (json_schema(), f"{HEAD}defaults: {{nulls: omit, tags: [a], guards: {{max_changes: 5}}}}\nx-a: 1\n{CRM}", True),
        (json_schema(), f"{HEAD}defaults: {{mode: users_track}}\n{CRM}", False),
        (json_schema(), f"{HEAD}y-a: 1\n{CRM}", False),
        (sync_files_schema(), f"{EVENTS}x-a: 1\n", True),
        (sync_files_schema(), "targets: {}\n", False),
        (sync_files_schema(), CRM.replace("model:", "modle:"), False),
    ],
)
def test_schema_knows_them(schema: dict[str, Any], text: str, is_valid: bool):
    Draft202012Validator.check_schema(schema)
    assert Draft202012Validator(schema).is_valid(yaml.safe_load(text)) is is_valid


def test_schema_of_the_files_is_printed(retl: Retl):
    printed = retl("schema", "sync-files")
    assert printed.code == 0
    assert yaml.safe_load(printed.out) == sync_files_schema()


def test_example_of_the_reference_is_a_project(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs" / "reference.md").read_text().split("### Many syncs")[1]
    page = page.split("\n## ")[0]
    for file, text in re.findall(r"```yaml\n# (\S+)\n(.*?)```", page, re.DOTALL):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    (tmp_path / "models").mkdir()
    for name in ("customers", "tiers"):
        (tmp_path / "models" / f"{name}.sql").write_text("select 'u' as external_id")
    customers, tiers = load_project(tmp_path, environ={}).spec.syncs
    assert (customers.schedule, customers.timezone, customers.tags) == ("@hourly", "Asia/Seoul", ("crm",))
    assert (tiers.schedule, tiers.timezone, tiers.tags) == (None, "UTC", ("crm", "nightly"))
    assert re.findall(r"`(\w+)`", page.split("These keys can have one:")[1]) == list(DEFAULT_KEYS)
