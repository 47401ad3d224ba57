"""From workflows of Treasure Data to a project that syncs, and a report of all that was in them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from reverse_etl.errors import ProjectError
from reverse_etl.project.models import Model, RunValues, compile_model
from reverse_etl.starter.treasure_data.importer import Imported, import_treasure_data
from reverse_etl.starter.treasure_data.settings import SettingProblem, schedule_keys, slot_of, sync_keys
from reverse_etl.starter.treasure_data.variables import Scope, UnknownVariable, to_jinja
from tests.shop import Retl, database

DAILY = """\
timezone: Asia/Tokyo
schedule:
  daily>: 04:30:00
  skip_on_overtime: true
_export:
  td: {database: marketing, engine: presto}
  tier: gold

+prepare:
  td>: queries/prepare.sql
  create_table: members_daily

+push:
  _parallel: true
  +attributes:
    td>: queries/attributes.sql
    result_connection: braze_prod
    result_settings:
      mode: User - Track
      track_record_type: User Profile Attributes
      pre_formated_fields: home_store
      skip_on_invalid_records: true
    priority: 1
  +events:
    td>:
    query: |
      SELECT crm_id AS external_id, 'viewed_item' AS name, viewed_at AS time FROM clicks
      WHERE day = '${session_date}' AND tier = '${tier}'
    result_connection: braze_prod
    result_settings: {mode: user_track, track_record_type: Custom Events, rest_api_key: "${secret:braze.key}"}

+consents:
  td>: queries/consents.sql
  engine: hive
  result_connection: braze_prod
  result_settings: {mode: Subscription Group}

+each:
  for_each>: {country: [KR, JP]}
  _do:
    +one:
      td>: queries/gone.sql
      result_connection: braze_prod
      result_settings: {mode: User - Delete}
"""
GONE = """\
schedule: {cron>: 0 3 1 * *, delay: 90}
+gone:
  td>: queries/gone.sql
  result_url: '{"type": "braze", "mode": "User - Delete"}'
+again:
  td_result_export>:
  job_id: ${td.last_job_id}
  result_connection: other
  result_settings: {mode: users_delete}
"""
IDS = """\
+ids:
  td>: queries/each.sql
  result_connection: braze_prod
  result_settings: {mode: User - Identify, pre_formatted_fields: user_alias}
"""
QUERIES = {
    "prepare": "SELECT 1",
    "attributes": "SELECT crm_id AS external_id, tier, home AS home_store FROM marketing.members;",
    "consents": "SELECT email, 'b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10' AS subscription_group_id,\n"
    "  'unsubscribed' AS subscription_state FROM consents",
    "gone": "SELECT crm_id AS external_id FROM gone",
    "each": "SELECT a AS external_id,\n  ${td.each.x} AS user_alias FROM t",
}


@pytest.fixture
def workflows(tmp_path: Path) -> Path:
    folder = tmp_path / "td"
    (folder / "queries").mkdir(parents=True)
    for name, text in (("daily", DAILY), ("gone", GONE), ("ids", IDS)):
        (folder / f"{name}.dig").write_text(text)
    for name, text in QUERIES.items():
        (folder / "queries" / f"{name}.sql").write_text(text)
    (folder / "notes.txt").write_text("hello")
    return folder


@pytest.mark.long
def test_three_workflows_become_a_project_that_syncs(workflows: Path, tmp_path: Path, retl: Retl):
    made = retl("init", "shop", "--from", "treasure-data", str(workflows))
    assert (made.code, made.err.splitlines()[-3:]) == (
        0,
        [
            "5 syncs: attributes, events, consents, gone, again",
            "22 keys and files taken, 4 keys and files taken differently, 7 keys and files not taken",
            "next: read shop/treasure-data-import.md",
        ],
    )
    shop = tmp_path / "shop"
    text = (shop / "syncs.yml").read_text()
    assert text.startswith("# yaml-language-server: $schema=syncs.schema.json\nversion: 1\n")
    spec = yaml.safe_load(text)
    tokyo = {"schedule": "0 0 * * *", "timezone": "Asia/Tokyo", "delay": "270 minutes", "tags": ["braze_prod"]}
    monthly = {"schedule": "0 3 1 * *", "delay": "90 seconds"}
    deletes = {"mode": "users_delete", "allow_destructive": True}
    assert spec["syncs"] == [
        {
            **{"name": "attributes", "model": "attributes", "mode": "users_track", "track_record_type": "attributes"},
            **{"pre_formatted_fields": ["home_store"], "skip_on_invalid_records": True, **tokyo},
        },
        {"name": "events", "model": "events", "mode": "users_track", "track_record_type": "events", **tokyo},
        {
            **{"name": "consents", "model": "consents", "mode": "subscription_status_set"},
            **{"after": ["attributes", "events"], **tokyo},
        },
        {"name": "gone", "model": "gone", **deletes, **monthly, "tags": ["braze"]},
        {"name": "again", "model": "gone", **deletes, "after": ["gone"], **monthly, "tags": ["other"]},
    ]
    assert spec["targets"]["other"]["destination"] == {
        "type": "braze",
        "endpoint": "{{ env_var('OTHER_ENDPOINT') }}",
        "api_key": "{{ env_var('OTHER_API_KEY') }}",
    }
    assert {path.stem: path.read_text() for path in (shop / "models").iterdir()} == {
        "attributes": "{{ config(dialect='trino') }}\n" + QUERIES["attributes"].rstrip(";") + "\n",
        "consents": "{{ config(dialect='hive') }}\n" + QUERIES["consents"] + "\n",
        "gone": "{{ config(dialect='trino') }}\n" + QUERIES["gone"] + "\n",
        "events": "{{ config(dialect='trino') }}\n"
        "SELECT crm_id AS external_id, 'viewed_item' AS name, viewed_at AS time FROM clicks\n"
        "WHERE day = '{{ in_zone(scheduled_time, 'Asia/Tokyo').strftime('%Y-%m-%d') }}' AND tier = 'gold'\n",
    }
    report = (shop / "treasure-data-import.md").read_text()
    assert [line for line in report.splitlines() if line.startswith("| ")][1:8] == [
        "| daily.dig:4:3 | `skip_on_overtime` | it has no counterpart |",
        "| daily.dig:10:3 | `td> prepare` | it makes the table members_daily: make it before, in what fills the warehouse |",
        "| daily.dig:23:5 | `priority` | it has no counterpart |",
        "| daily.dig:39:3 | `for_each> each` | a loop or condition: write the sync that is meant |",
        "| daily.dig:42:7 | `td> each+one` | it stands in for_each> each: write the sync that is meant |",
        "| queries/each.sql:2 | `td> ids` | ${td.each.x} has no counterpart: it is of each row of a loop: write one query with a JOIN of those rows |",
        "| notes.txt | `notes.txt` | no export to Braze uses it |",
    ]
    assert "secret" not in report
    assert "`clicks`, `consents`, `gone`, `marketing.members`" in report
    with database(shop / "warehouse.duckdb") as connection:
        connection.execute(
            """CREATE SCHEMA marketing;
            CREATE TABLE marketing.members AS SELECT 'u1' AS crm_id, 'gold' AS tier, '{"city": "Seoul"}' AS home;
            CREATE TABLE clicks AS SELECT 'u1' AS crm_id, '2026-11-24T10:00:00Z' AS viewed_at, '2026-11-25' AS day, 'gold' AS tier;
            CREATE TABLE consents AS SELECT 'ann@example.com' AS email"""
        )
    at = ("--scheduled-time", "2026-11-24T15:00:00Z")  # midnight of the 25th in Tokyo
    sent = retl("sync", "attributes", "events", "consents", *at, folder=shop)
    assert (sent.code, [line.split(",")[0] for line in sent.out.splitlines()[:3]]) == (
        0,
        ["attributes: success", "events: success", "consents: success"],
    )
    assert retl("plan", "--detailed-exitcode", "attributes", "events", "consents", *at, folder=shop).code == 0


def test_what_braze_has_already_is_a_baseline_after_which_nothing_is_sent(workflows: Path, tmp_path: Path, retl: Retl):
    for name in ("daily", "ids"):
        (workflows / f"{name}.dig").unlink()
    assert retl("init", "shop", "--from", "treasure-data", str(workflows)).code == 0
    shop = tmp_path / "shop"
    with database(shop / "warehouse.duckdb") as connection:
        connection.execute("CREATE TABLE gone AS SELECT 'u' || i AS crm_id FROM range(3) r(i)")
    assert retl("state", "baseline", "gone", "--yes", folder=shop).code == 0
    assert retl("plan", "gone", "--detailed-exitcode", folder=shop).code == 0


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("gone.dig", f"timezone: Asia/Soul\n{GONE}", 'gone.dig:1:11: unknown time zone "Asia/Soul"\n  hint: did you mean "'),
        ("gone.dig", "schedule: [", "gone.dig:1:12: invalid YAML: "),
        ("gone.dig", "- a", "gone.dig:1: a workflow is a mapping of keys and tasks\n"),
        ("gone.dig", "+a:\n  td>: x.sql\n  td>: y.sql\n", 'gone.dig:3:3: duplicate key "td>", first defined on line 2\n'),
        ("gone.dig", "+a:\n  !include : b.yml\n", "gone.dig:2:3: b.yml not found, which is included here\n  hint: put the text"),
        ("gone.dig", "!include : ../b.yml\n", "gone.dig:1:1: ../b.yml not found, which is included here\n  hint: put the text"),
        ("gone.dig", "!include : gone.dig\n", "gone.dig:1:1: gone.dig includes itself\n"),
        ("gone.dig", "!include : notes.txt\n", "gone.dig:1:1: notes.txt is not a mapping\n"),
        ("gone.dig", "!include : queries/gone.sql\n+a:\n  b: 1\n  b: 2", "gone.dig:1:1: queries/gone.sql is not a mapping\n"),
        ("gone.dig", "+a:\n  call>: gone\n", "gone.dig:2:10: gone.dig calls itself\n"),
        ("gone.dig", "+a:\n  call>: none\n", "gone.dig:2:10: none.dig not found, which this task calls\n"),
        ("gone.dig", GONE.replace("gone.sql", "none.sql"), "gone.dig:3:3: queries/none.sql not found, which this task runs\n"),
        ("ids.dig", IDS.replace("Identify", "Merge"), "ids.dig:4:3: td> ids: mode is none of User - New Alias, "),
        ("ids.dig", IDS.replace("pre_formatted_fields", "batch"), 'ids.dig:4:44: "batch" is not a setting of the Braze export'),
        ("ids.dig", IDS.replace("pre_f", "export_mode: track, pre_f"), 'ids.dig:4:44: "export_mode" says what another setting says'),
        ("ids.dig", f"{IDS}  engine: pig\n", 'ids.dig:5:3: unknown engine "pig"\n  hint: one of: presto, trino, hive\n'),
    ],
)  # fmt: skip
def test_file_that_is_not_understood_is_an_error_at_its_line_and_nothing_is_written(
    workflows: Path, tmp_path: Path, retl: Retl, file: str, text: str, says: str
):
    (workflows / file).write_text(text)
    failed = retl("init", "shop", "--from", "treasure-data", str(workflows))
    assert (failed.code, failed.out, (tmp_path / "shop").exists()) == (2, "", False)
    assert failed.err.startswith(says)


def test_folder_without_an_export_to_braze_says_what_was_found(tmp_path: Path, retl: Retl):
    (tmp_path / "td").mkdir()
    none = retl("init", "shop", "--from", "treasure-data", "td")
    assert (none.code, none.err) == (2, "td has no *.dig\n  hint: name the folder with the workflows\n")
    (tmp_path / "td/a.dig").write_text("+a:\n  sh>: ls\n")
    other = retl("init", "shop", "--from", "treasure-data", "td")
    assert (other.code, other.err) == (
        2,
        "no export to Braze can be imported from td:\na.dig:2:3: sh> a: retl runs syncs and nothing else\n"
        "  hint: an export is a task td> with result_connection and result_settings\n",
    )
    assert retl("init", "shop", "--from", "treasure-data", "nowhere").err.startswith("nowhere is not a folder\n")


@pytest.mark.parametrize(
    ("schedule", "keys"),
    [
        ({"hourly>": "30:00"}, {"schedule": "0 * * * *", "delay": "30 minutes"}),
        ({"daily>": "00:00:00"}, {"schedule": "0 0 * * *"}),
        ({"daily>": "25:00:00"}, {"schedule": "0 0 * * *", "delay": "25 hours"}),
        ({"weekly>": "Sun,09:00:00"}, {"schedule": "0 0 * * sun", "delay": "9 hours"}),
        ({"weekly>": "0,00:00:01"}, {"schedule": "0 0 * * 0", "delay": "1 second"}),
        ({"monthly>": "1,09:00:00"}, {"schedule": "0 0 1 * *", "delay": "9 hours"}),
        ({"minutes_interval>": 45, "delay": 60}, {"schedule": "*/45 * * * *", "delay": "1 minute"}),
        ({"cron>": "42 4 1 * *"}, {"schedule": "42 4 1 * *"}),
        (
            {"cron>": "0 0 1 * 1"},
            "day of month and day of week are both set, which Treasure Data and cron read differently",
        ),
        ({"weekly>": "someday,09:00:00"}, "it is not one that is known"),
        ({"daily>": "noon"}, "noon is not a time"),
    ],
)
def test_schedule_is_that_of_the_session_and_its_delay(schedule: dict[str, Any], keys: dict[str, str] | str):
    if isinstance(keys, dict):
        assert schedule_keys(schedule) == keys
        return
    with pytest.raises(SettingProblem) as problem:
        schedule_keys(schedule)
    assert str(problem.value) == keys


def compiled(text: str, at: datetime) -> str:
    values = RunValues({}, {}, "test", {}, (), run_started_at=at, scheduled_time=at)
    return compile_model("it", {"it": Model("it", "models/it.sql", text)}, values).sql.rstrip()


@pytest.mark.parametrize(
    ("expression", "utc", "tokyo"),
    [
        ("session_time", "2026-11-24T18:30:05+00:00", "2026-11-25T03:30:05+09:00"),
        ("session_date", "2026-11-24", "2026-11-25"),
        ("session_date_compact", "20261124", "20261125"),
        ("session_local_time", "2026-11-24 18:30:05", "2026-11-25 03:30:05"),
        ("session_tz_offset", "+0000", "+0900"),
        ("session_unixtime", "1795545005", "1795545005"),
        ("session_unixtime - 86400 * 2", "1795372205", "1795372205"),
        ("moment(session_time).format('YYYYMMDD')", "20261124", "20261125"),
        ("moment(session_time).add(-1, 'days').format(\"YYYY-MM-DD HH:mm:ss\")", "2026-11-23 18:30:05", "2026-11-24 03:30:05"),
        ("moment(session_time).subtract(2, 'hour').unix()", "1795537805", "1795537805"),
        ("moment(session_date).unix()", "1795478400", "1795532400"),
        ("moment(session_date).add(-1, 'day').format('YYYY-MM-DD HH:mm')", "2026-11-23 00:00", "2026-11-24 00:00"),
        ("td.database", "marketing", "marketing"),
    ],
)  # fmt: skip
def test_variable_means_what_it_meant(expression: str, utc: str, tokyo: str):
    at = datetime(2026, 11, 24, 18, 30, 5, 123456, UTC)
    found = {}
    for zone in ("UTC", "Asia/Tokyo"):
        text, variables = to_jinja(f"SELECT '${{{expression}}}' AS a", Scope(zone, {"td": {"database": "marketing"}}))
        assert variables == [expression]
        found[zone] = compiled(text, at)
    assert found == {"UTC": f"SELECT '{utc}' AS a", "Asia/Tokyo": f"SELECT '{tokyo}' AS a"}


@pytest.mark.parametrize(
    "expression",
    [
        *("td.last_results.x", "last_executed_session_time", "moment().format('YYYY')", "task_name", ""),
        *("moment(session_date).add(-3).format('YYYY')", "moment(session_date).add(1, 'hour').unix()"),
        *("moment(session_time).format('LLL')", "session_unixtime / 2", "a.b ? 1 : 2", "td", "secret:a"),
    ],
)
def test_variable_without_a_counterpart_is_named(expression: str):
    with pytest.raises(UnknownVariable) as unknown:
        to_jinja(f"SELECT 1,\n${{{expression}}}", Scope("UTC", {"td": {}}))
    assert (unknown.value.name, unknown.value.at) == (expression, 10)


def test_braces_of_a_query_stay_as_they_are():
    at = datetime(2026, 11, 24, tzinfo=UTC)
    text, _ = to_jinja("SELECT '{{ x }}' AS a, '$$1' AS b", Scope("UTC", {}))
    assert compiled(text, at) == "SELECT '{{ x }}' AS a, '$1' AS b"


def test_mode_that_tracks_needs_a_record_type_that_is_known():
    with pytest.raises(SettingProblem, match="track_record_type is none of Custom Events, "):
        sync_keys({"mode": "User - Track", "track_record_type": "Sessions"})
    assert sync_keys(
        {"mode": "subscription_status_set", "pre_formatted_fields": "a", "skip_on_invalid_records": "false"}
    ) == {
        "mode": "subscription_status_set",
        "skip_on_invalid_records": False,
    }


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("'2026-11-24', 'UTC'", "in_zone(): 'str' object has no attribute 'astimezone'"),
        ("scheduled_time, 'Asia/Soul'", 'in_zone(): unknown time zone "Asia/Soul"'),
        ("scheduled_time, 'UTC', days=10 ** 9", "in_zone(): days=1000000000; must have magnitude <= 999999999"),
    ],
)
def test_time_in_a_zone_that_cannot_be_told_is_an_error(call: str, says: str):
    with pytest.raises(ProjectError) as error:
        compiled(f"SELECT '{{{{ in_zone({call}) }}}}'", datetime(2026, 11, 24, tzinfo=UTC))
    assert error.value.problems[0].message == says
    hint = error.value.problems[0].hint or ""
    if hint.startswith("use it as "):
        hour = compiled(f"SELECT '{{{{ {hint.removeprefix('use it as ')} }}}}'", datetime(2026, 11, 24, tzinfo=UTC))
        assert hour == "SELECT '2026-11-23 09:00:00+09:00'"


def imported(folder: Path, **files: str) -> Imported:
    """What becomes of workflows; a name with __ in it is that of a file in a folder."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_yml", ".yml").replace("_dig", ".dig").replace("_sql", ".sql")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return import_treasure_data(folder)


def told(made: Imported) -> list[str]:
    return [f"{entry.where} {entry.what}: {entry.outcome.value}: {entry.why}" for entry in made.entries]


PUSH = """\
+push:
  td>: q.sql
  result_connection: braze
  result_settings: {mode: User - Delete}
"""


def test_included_files_are_part_of_the_workflow(tmp_path: Path):
    made = imported(
        tmp_path,
        daily_dig="_export:\n  !include : config/params.yml\n  td: {engine: hive}\n!include : config/more.yml\n" + PUSH,
        config__params_yml="!include : deep.yml\ntier: gold\ntd: {engine: presto, database: a}\n",
        config__deep_yml="country: KR\ntier: silver\n",
        config__more_yml="timezone: Asia/Seoul\nschedule:\n  daily>: 01:00:00\n",
        q_sql="SELECT id AS external_id FROM t WHERE tier = '${tier}' AND country = '${country}'",
    )
    assert made.files["models/push.sql"] == (
        "{{ config(dialect='hive') }}\nSELECT id AS external_id FROM t WHERE tier = 'gold' AND country = 'KR'\n"
    )
    (sync,) = yaml.safe_load(made.files["syncs.yml"])["syncs"]
    assert (sync["schedule"], sync["timezone"], sync["delay"]) == ("0 0 * * *", "Asia/Seoul", "1 hour")
    assert [line for line in told(made) if "config/" in line] == [
        "config/deep.yml deep.yml: taken: its keys are where workflows include it",
        "config/more.yml more.yml: taken: its keys are where workflows include it",
        "config/params.yml params.yml: taken: its keys are where workflows include it",
        "config/more.yml:2:1 schedule: taken: `schedule 0 0 * * * delay 1 hour`",
        "config/more.yml:1:1 timezone: taken: `timezone` of its syncs",
    ]


def test_error_in_an_included_file_has_its_place(tmp_path: Path):
    with pytest.raises(ProjectError) as error:
        imported(tmp_path, a_dig=f"!include : more.yml\n{PUSH}", more_yml="\ntimezone: Asia/Soul\n", q_sql="SELECT 1")
    assert str(error.value).startswith('more.yml:2:11: unknown time zone "Asia/Soul"\n')
    with pytest.raises(ProjectError) as error:
        imported(tmp_path, more_yml="a: 1\nb: [\n")
    assert str(error.value).startswith("more.yml:3:1: invalid YAML: ")


def test_file_that_is_only_included_is_no_workflow(tmp_path: Path):
    made = imported(
        tmp_path, a_dig=f"_export:\n  !include : vars.dig\n{PUSH}", vars_dig="tier: gold\n", q_sql="SELECT 1 AS b"
    )
    assert list(made.syncs) == ["push"]
    assert "vars.dig vars.dig: taken: its keys are where workflows include it" in told(made)
    assert not any("tier" in line for line in told(made))


def test_workflow_that_another_one_calls_is_taken_once(tmp_path: Path):
    made = imported(tmp_path, main_dig="+all:\n  call>: part\n", part_dig=PUSH, q_sql="SELECT 1 AS external_id")
    assert list(made.syncs) == ["push"]


def test_exports_to_elsewhere_are_listed_and_those_to_braze_are_taken(tmp_path: Path):
    others = """\
+files:
  td>: q.sql
  result_connection: s3
  result_settings: {bucket: b, path: p, secret_access_key: "${secret:s3.key}"}
+table:
  td>: q.sql
  result_connection: other_account
  result_settings: {user_database_name: a, mode: append}
+typed:
  td>: q.sql
  result_connection: c
  result_settings: {type: mailchimp, mode: User - Track}
+bare:
  td>: q.sql
  result_connection: c
"""
    made = imported(tmp_path, a_dig=others + PUSH, q_sql="SELECT 1 AS external_id")
    assert list(made.syncs) == ["push"]
    why = "its settings are not those of an export to Braze"
    assert [line for line in told(made) if why in line] == [
        f"a.dig:4:3 td> files: not taken: {why}: bucket, path, secret_access_key",
        f"a.dig:8:3 td> table: not taken: {why}: user_database_name, mode",
        f"a.dig:12:3 td> typed: not taken: {why}: type, mode",
        f"a.dig:14:3 td> bare: not taken: {why}: none",
    ]


@pytest.mark.parametrize(
    ("every", "last", "following"),
    [
        (("days", 1), "2026-11-24T00:00:00+09:00", "2026-11-26T00:00:00+09:00"),
        (("days", 7), "2026-11-18T00:00:00+09:00", "2026-12-02T00:00:00+09:00"),
        (("hours", 1), "2026-11-24T23:00:00+09:00", "2026-11-25T01:00:00+09:00"),
        (("minutes", 15), "2026-11-24T23:45:00+09:00", "2026-11-25T00:15:00+09:00"),
    ],
)
def test_sessions_before_and_after_are_those_of_the_schedule(every: tuple[str, int], last: str, following: str):
    scope = Scope("Asia/Tokyo", {}, every)
    text, _ = to_jinja(
        "'${last_session_time}' ${next_session_time} ${last_session_date} ${next_session_unixtime}", scope
    )
    unix = int(datetime.fromisoformat(following).timestamp())
    at = datetime(2026, 11, 24, 15, tzinfo=UTC)  # midnight in Tokyo
    assert compiled(text, at) == f"'{last}' {following} {last[:10]} {unix}"


def test_sessions_before_and_after_need_a_schedule_that_is_even():
    for schedule in ({"monthly>": "1,00:00:00"}, {"cron>": "0 3 * * 1"}, {"minutes_interval>": "45"}, {}, None):
        with pytest.raises(UnknownVariable):
            to_jinja("${last_session_time}", Scope("UTC", {}, slot_of(schedule)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "last_executed_session_time",
            "retl sends what changed since the last run: leave this out, or use `incremental:`",
        ),
        (
            "last_session_date",
            "the schedule does not tell: write the time with {{ in_zone(scheduled_time, ZONE, days=-1) }}",
        ),
        ("td.each.x", "it is of each row of a loop: write one query with a JOIN of those rows"),
        ("td.last_results.n", "it is of the query before: put that query into this one"),
        ("secret:braze.key", "secrets are in no query: write it with {{ env_var('...') }}"),
        ("anything", "write it with {{ var('...') }} or {{ scheduled_time }}"),
    ],
)
def test_variable_without_a_counterpart_has_a_way_out(tmp_path: Path, name: str, why: str):
    made = imported(tmp_path, a_dig=PUSH + PUSH.replace("push", "other").replace("q.sql", "r.sql"),
                    q_sql="SELECT 1 AS external_id", r_sql=f"SELECT\n ${{{name}}} AS external_id")  # fmt: skip
    assert f"r.sql:2 td> other: not taken: ${{{name}}} has no counterpart: {why}" in told(made)


@pytest.mark.parametrize(
    ("name", "hint"), [("treasury", 'did you mean "treasure-data"?'), ("fivetran", "one of: treasure-data")]
)
def test_source_that_cannot_be_imported_is_named_with_the_nearest_one(retl: Retl, tmp_path: Path, name: str, hint: str):
    failed = retl("init", "shop", "--from", name, ".")
    assert (failed.code, failed.err) == (2, f'--from: nothing can be imported from "{name}"\n  hint: {hint}\n')
    assert not (tmp_path / "shop").exists()


def test_files_are_found_by_paths_that_go_up_or_have_constants(tmp_path: Path):
    made = imported(
        tmp_path,
        a_dig="_export: {area: kr}\n+all:\n  call>: common/../common/part.dig\n",
        common__part_dig=PUSH.replace("q.sql", "../queries/${area}.sql") + "+gone:\n  td>: ${td.each.x}.sql\n",
        queries__kr_sql="SELECT 1 AS external_id",
    )
    assert list(made.syncs) == ["push"]
    assert "queries/kr.sql" not in " ".join(line for line in told(made) if "no export" in line)


def test_query_in_a_file_whose_name_is_not_known_is_not_taken(tmp_path: Path):
    made = imported(
        tmp_path, a_dig=PUSH + PUSH.replace("push", "other").replace("q.sql", "${td.each.x}.sql"), q_sql="SELECT 1 AS a"
    )
    assert list(made.syncs) == ["push"]
    assert "a.dig:6:3 td> other: not taken: ${td.each.x} is not known when it is imported" in told(made)
    made = imported(tmp_path, a_dig=PUSH + PUSH.replace("push", "other").replace("q.sql", "${session_date}.sql"))
    assert "a.dig:6:3 td> other: not taken: the name of its query depends on the time" in told(made)


def test_connections_become_targets_of_their_own_names(tmp_path: Path):
    names = ("운영", "시험", "Braze", "sandbox", "1st line", "my-braze (prod)")
    text = "".join(PUSH.replace("push", f"p{n}").replace(": braze", f": {name}") for n, name in enumerate(names))
    made = imported(tmp_path, a_dig=text, q_sql="SELECT 1 AS external_id")
    spec = yaml.safe_load(made.files["syncs.yml"])
    targets = ["braze", "braze_braze", "Braze_2", "braze_sandbox", "1st_line", "my_braze_prod"]
    assert list(spec["targets"]) == ["sandbox", *targets]
    assert [sync["tags"] for sync in spec["syncs"]] == [[target] for target in targets]
    assert spec["targets"]["1st_line"]["destination"]["api_key"] == "{{ env_var('_1ST_LINE_API_KEY') }}"


def test_names_of_syncs_are_short_and_differ_by_more_than_capitals(tmp_path: Path):
    text = "".join(PUSH.replace("+push", f"+{name}") for name in ("push", "Push", "PUSH", "x" * 200, "x" * 201, "푸시"))
    made = imported(tmp_path, daily_dig=text, q_sql="SELECT 1 AS external_id")
    assert list(made.syncs) == ["push", "daily_Push", "PUSH_2", "x" * 45, f"daily_{'x' * 45}", "export"]


def test_settings_may_stand_in_td_of_export(tmp_path: Path):
    text = "_export:\n  td: {result_connection: live, engine: hive}\n+push:\n  td>: q.sql\n  result_settings: {mode: User - Delete}\n"
    made = imported(tmp_path, a_dig=text + "+rest:\n  td>: q.sql\n  create_table: t\n", q_sql="SELECT 1 AS external_id")
    (sync,) = yaml.safe_load(made.files["syncs.yml"])["syncs"]
    assert (sync["name"], sync["tags"]) == ("push", ["live"])
    why = "its settings are not those of an export to Braze: none"
    assert f"a.dig:7:3 td> rest: not taken: {why}" in told(made)


def test_called_workflow_may_be_named_by_a_constant_and_is_listed_otherwise(tmp_path: Path):
    main = "_export: {area: kr}\n+one:\n  call>: part_${area}\n+other:\n  call>: part_${td.each.x}.dig\n"
    made = imported(tmp_path, main_dig=main, part_kr_dig=PUSH, q_sql="SELECT 1 AS external_id")
    assert list(made.syncs) == ["push"]
    why = "the workflow that it calls is not known when it is imported: import that one, too"
    assert f"main.dig:5:3 call> other: not taken: {why}" in told(made)


@pytest.mark.parametrize(
    ("said", "zone"), [("+09:00", "Etc/GMT-9"), ("JST", "Asia/Tokyo"), ("Asia/Seoul", "Asia/Seoul")]
)
def test_time_zone_of_java_is_that_of_the_syncs(tmp_path: Path, said: str, zone: str):
    text = f'timezone: "{said}"\nschedule:\n  daily>: 01:00:00\n{PUSH}'
    made = imported(tmp_path, a_dig=text, q_sql="SELECT '${session_date}' AS external_id")
    (sync,) = yaml.safe_load(made.files["syncs.yml"])["syncs"]
    assert sync["timezone"] == zone
    assert f"in_zone(scheduled_time, '{zone}')" in made.files["models/push.sql"]
    note = (
        "taken: `timezone` of its syncs"
        if said == zone
        else f"taken differently: `timezone: {zone}`, the same zone by its name"
    )
    assert f"a.dig:1:1 timezone: {note}" in told(made)
