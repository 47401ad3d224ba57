"""The commands as a user types them: what they print, what they do, their exit codes."""

import json
import re
from pathlib import Path

import duckdb
import pytest

from reverse_etl.sandbox import Sandbox
from tests.collect.test_log import no_file_beyond
from tests.proxy import closed_port
from tests.shop import KEY, Retl, Shop, edit


def steady(text: str) -> str:
    """Without what differs from run to run: durations."""
    return re.sub(r"\d+\.\d s", "0.0 s", text)


# --- from nothing to a synced sandbox --------------------------------------------------------------------------------


def test_init_in_another_folder_says_how_to_get_there(retl: Retl, tmp_path: Path):
    done = retl("init", "my shop")
    assert done.err.splitlines()[-1] == (
        "next: run `cd 'my shop'`, then `retl seed`, then `retl plan`, then `retl sync --all`"
    )
    assert (tmp_path / "my shop/syncs.yml").exists()


@pytest.mark.long
def test_init_writes_a_project_that_works(retl: Retl, tmp_path: Path):
    first = retl("init")
    assert (first.code, first.err.splitlines()[-1]) == (
        0,
        "next: run `retl seed`, then `retl plan`, then `retl sync --all`",
    )
    assert retl("seed").out == "raw_customers: 3 rows\nraw_orders: 3 rows\n"
    assert retl("plan").code == 0
    synced = retl("sync", "--all")
    assert (synced.code, steady(synced.out)) == (
        0,
        "users_track: success, 3 of 3 rows accepted in 1 request, 16 attributes written (0.0 s)\n"
        "orders: success, 3 of 3 rows accepted in 1 request (0.0 s)\n"
        "newsletter: success, 3 of 3 rows accepted in 2 requests (0.0 s)\n",
    )
    assert steady(synced.err).endswith("3 syncs: 3 success; 9 rows accepted in 4 requests (0.0 s)\n")
    again = retl("sync", "--all")
    assert [line.split(" (")[0] for line in again.out.splitlines()] == [
        "users_track: success, nothing to send, 0 requests",
        "orders: success, nothing to send, 0 requests",
        "newsletter: success, nothing to send, 0 requests",
    ]


def test_init_on_a_full_disk_leaves_nothing_so_that_it_can_be_run_again(retl: Retl, tmp_path: Path):
    (tmp_path / ".gitignore").write_text("mine\n")
    with no_file_beyond(1_000):
        outcome = retl("init")
    said = "cannot write syncs.yml: File too large\n  hint: make its folder writable for the current user\n"
    assert (outcome.code, outcome.err) == (2, said)
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]
    with no_file_beyond(10_000):  # the last of them is larger
        outcome = retl("init")
    assert outcome.err.startswith("cannot write syncs.schema.json: ")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(".gitignore", "mine\n")]
    assert retl("init").code == 0
    assert (tmp_path / ".gitignore").read_text().startswith("mine\n")


def test_init_writes_over_nothing(retl: Retl, tmp_path: Path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "orders.sql").write_text("mine")
    outcome = retl("init")
    assert (outcome.code, outcome.err) == (
        2,
        "models/orders.sql already exists\n  hint: use an empty folder: `retl init my_project`\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_init_adds_to_a_gitignore_what_it_lacks(retl: Retl, tmp_path: Path):
    (tmp_path / ".gitignore").write_text("target/\nmine")
    assert retl("init").code == 0
    assert (tmp_path / ".gitignore").read_text() == "target/\nmine\n.retl/\n.env\n*.duckdb\n*.duckdb.wal\n*.retl\n"


def test_init_makes_the_folder_it_is_given(retl: Retl, tmp_path: Path):
    assert retl("init", "shop").code == 0
    assert retl("ls", "--project-dir", "shop").code == 0


# --- twelve ways to break it -----------------------------------------------------------------------------------------


def test_typo_in_a_key(retl: Retl, starter: Path):
    edit(starter / "syncs.yml", "pre_formatted_fields", "pre_formatted_field")
    outcome = retl("sync", "users_track")
    assert (outcome.code, outcome.err) == (
        2,
        'syncs.yml:23:5: unknown key "pre_formatted_field" in sync "users_track"\n'
        '  hint: did you mean "pre_formatted_fields"?\n',
    )


def test_missing_column(retl: Retl, starter: Path):
    edit(starter / "syncs.yml", "primary_key: external_id", "primary_key: customer")
    outcome = retl("sync", "users_track")
    assert (outcome.code, outcome.err) == (
        2,
        'syncs.yml:22:18: "primary_key" in sync "users_track": the model has no column "customer"\n'
        "  hint: one of: external_id, email, first_name, tier, preferences, orders, spent, _merge_objects\n",
    )


def test_bad_sql(retl: Retl, starter: Path):
    edit(starter / "models/users_track.sql", "first_name", "frist_name")
    outcome = retl("sync", "users_track")
    assert (outcome.code, outcome.err) == (
        2,
        'models/users_track.sql:5: Binder Error: Referenced column "frist_name" not found in FROM clause! '
        'Candidate bindings: "first_name", "raw_orders.customer_id", "__ref__customers.customer_id", "tier", "price"\n'
        "  hint: see the compiled SQL in target/compiled/users_track.sql, line 12\n",
    )


def test_wrong_api_key(retl: Retl, shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id")
    (shop.folder / ".env").write_text("WRONG_KEY=not-the-key\n")
    edit(shop.folder / "syncs.yml", "BRAZE_API_KEY", "WRONG_KEY")
    outcome = retl("sync", "it", folder=shop.folder)
    assert outcome.code == 1
    assert outcome.err == (
        "it: 1 row in the model: 1 added, 0 changed, 0 removed, 0 unchanged\n"
        "it: Braze returned 401: Invalid API key: ***\n"
        "  hint: Braze does not recognize this API key: check api_key, and that endpoint is the REST endpoint of its workspace\n"
    )
    assert steady(outcome.out) == "it: failed, 0 of 1 row accepted in 1 request; 1 still to be sent (0.0 s)\n"
    assert "not-the-key" not in outcome.out + outcome.err


@pytest.mark.parametrize("key", ["two words", "a-key\nand-another", "schl\u00fcssel", "\u200ba-key"])
def test_key_that_can_be_none_is_refused_before_anything_is_sent_and_not_repeated(
    retl: Retl, shop: Shop, key: str, monkeypatch: pytest.MonkeyPatch
):
    shop.sync("it", "SELECT 'u1' AS external_id", mode="users_track", track_record_type="attributes")
    monkeypatch.setenv("BRAZE_API_KEY", key)
    outcome = retl("sync", "it", folder=shop.folder)
    assert (outcome.code, shop.sent()) == (2, [])
    assert outcome.err == (
        "syncs.yml:11:16: the API key contains a character that no API key has\n"
        "  hint: set the environment variable again: without blanks, line breaks, or letters outside ASCII\n"
    )


@pytest.mark.parametrize("name", ["BRAZE_API_KEY", "OTHER_KEY", "AWS_SECRET_ACCESS_KEY", "RETL_PLAN_KEY"])
@pytest.mark.parametrize("place", ["model", "syncs.yml"])
def test_secret_is_not_rendered_where_it_would_be_written_down(
    retl: Retl, shop: Shop, name: str, place: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, "a-secret")
    shop.sync("it", "SELECT 'u1' AS external_id", description="{{ env_var('A') }}")
    key = "\"{{ env_var('OTHER_KEY') }}\""
    braze = f"{{type: braze, endpoint: https://rest.iad-01.braze.com, api_key: {key}}}"
    other = f"{{warehouse: {{type: duckdb, path: w.duckdb}}, destination: {braze}}}"
    edit(shop.folder / "syncs.yml", "targets:\n", f"targets:\n  other: {other}\n")
    used = f"{{{{ env_var('{name}') }}}}"
    monkeypatch.setenv("A", "a")
    if place == "model":
        shop.model("it", f"SELECT 'u1' AS external_id,\n  '{used}' AS x")
    else:
        edit(shop.folder / "syncs.yml", "{{ env_var(''A'') }}", used.replace("'", "''"))
    outcome = retl("plan", "it", folder=shop.folder)
    where = "models/it.sql:2" if place == "model" else "syncs.yml:18:16"
    assert (outcome.code, outcome.err) == (
        2,
        f'{where}: environment variable "{name}" is a secret: only "api_key" can read the one of an API key\n'
        "  hint: use a variable that is not a secret\n",
    )
    assert not [path for path in shop.folder.rglob("*") if path.is_file() and b"a-secret" in path.read_bytes()]


def test_missing_api_key(retl: Retl, shop: Shop):
    shop.sync("it", "SELECT 'u1' AS external_id")
    edit(shop.folder / "syncs.yml", "BRAZE_API_KEY", "NO_SUCH_KEY")
    assert retl("plan", "it", folder=shop.folder).code == 0
    outcome = retl("sync", "it", folder=shop.folder)
    assert (outcome.code, outcome.err) == (
        2,
        'syncs.yml:11:16: environment variable "NO_SUCH_KEY" is not set\n'
        "  hint: set NO_SUCH_KEY in the environment or in .env\n",
    )


def test_endpoint_down(retl: Retl, shop: Shop):
    with closed_port() as port:
        shop.destination = {"endpoint": f"http://127.0.0.1:{port}"}
        shop.sync("it", "SELECT 'u1' AS external_id")
        outcome = retl("sync", "it", folder=shop.folder)
    assert (outcome.code, outcome.err.splitlines()[-2:]) == (
        1,
        [
            f"it: cannot reach http://127.0.0.1:{port}: Connection refused",
            "  hint: start the server, or correct endpoint",
        ],
    )
    assert steady(outcome.out) == "it: failed, 0 of 1 row accepted in 0 requests; 1 still to be sent (0.0 s)\n"


def test_duplicate_key(retl: Retl, starter: Path):
    with duckdb.connect(starter / "warehouse.duckdb") as connection:
        connection.execute("INSERT INTO raw_customers SELECT * FROM raw_customers WHERE customer_id = 'c-1'")
    outcome = retl("sync", "newsletter")
    assert (outcome.code, re.sub("email:[0-9a-f]{12}", "email:DIGEST", outcome.err)) == (
        1,
        'syncs.yml:36:5: newsletter: primary_key "email, subscription_group_id" is not unique: 1 key occurs in 2 rows: '
        "email:DIGEST / b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10 (2 rows)\n"
        '  hint: return one row per key: GROUP BY, with max(subscription_state), which keeps "unsubscribed"\n',
    )


STRICT = ("    primary_key: external_id\n", "    primary_key: external_id\n    strict: true\n")


def test_bad_json_in_a_pre_formatted_field(retl: Retl, starter: Path):
    edit(starter / "syncs.yml", *STRICT)
    with duckdb.connect(starter / "warehouse.duckdb") as connection:
        connection.execute("UPDATE raw_customers SET preferences = '{\"theme\":' WHERE customer_id = 'c-3'")
    outcome = retl("sync", "users_track")
    assert outcome.code == 1
    assert steady(outcome.out) == "users_track: blocked, 0 requests; 1 invalid (0.0 s)\n"
    assert outcome.err == (
        "users_track: 3 rows in the model: 2 added, 0 changed, 0 removed, 1 not sent, 0 unchanged\n"
        "syncs.yml:17:5: users_track: 1 of 3 rows is invalid, so nothing was sent\n"
        "  hint: list them with `retl rejects users_track`; to send the others, set skip_on_invalid_records: true\n"
        "  rows  column       reason             hint                                                          keys\n"
        "  1     preferences  is not valid JSON  json(preferences) removes a comma too many; find the rest: WHERE NOT json_valid(preferences)  c-3\n"
    )
    rejected = retl("rejects", "users_track", "--output", "json")
    (row,) = json.loads(rejected.out)
    assert (row["key"], row["status"], row["column"], row["reason"]) == (
        "c-3",
        "invalid",
        "preferences",
        "is not valid JSON",
    )


def test_event_without_time(retl: Retl, shop: Shop):
    events = {"mode": "users_track", "track_record_type": "events", "primary_key": "id"}
    shop.sync("it", "SELECT 1 AS id, 'u1' AS external_id, 'seen' AS name, NULL::TIMESTAMP AS time", **events)
    outcome = retl("sync", "it", folder=shop.folder)
    assert outcome.code == 1
    assert outcome.err.endswith(
        "  rows  column  reason      hint                                        keys\n"
        "  1     time    is missing  exclude these rows: WHERE time IS NOT NULL  1\n"
    )


def test_folder_that_cannot_be_written(retl: Retl, starter: Path):
    (starter / ".retl").write_text("a file where the folder should be")
    outcome = retl("sync", "users_track")
    assert (outcome.code, outcome.err) == (
        1,
        "cannot write .retl/sandbox/users_track: Not a directory\n"
        "  hint: move the file away that is where a folder must be\n",
    )


def test_unknown_sync(retl: Retl, starter: Path):
    outcome = retl("sync", "user_track")
    assert (outcome.code, outcome.err) == (
        2,
        'no sync matches "user_track"\n  hint: did you mean "users_track"?\n',
    )


def test_no_project(retl: Retl, tmp_path: Path):
    outcome = retl("sync", "users_track")
    assert (outcome.code, outcome.err) == (
        2,
        f"syncs.yml not found in {tmp_path}\n  hint: create a project here with `retl init`, or pass --project-dir\n",
    )


def test_no_warehouse(retl: Retl, tmp_path: Path):
    retl("init")
    outcome = retl("sync", "users_track")
    assert (outcome.code, outcome.err) == (
        2,
        "syncs.yml:7:37: the warehouse file warehouse.duckdb does not exist\n"
        "  hint: create it from seeds/*.csv with `retl seed`, or correct the path\n",
    )


def test_warehouse_that_is_no_duckdb_file(retl: Retl, tmp_path: Path):
    retl("init")
    (tmp_path / "warehouse.duckdb").write_text("not a database at all, but long enough to look like one" * 100)
    outcome = retl("sync", "users_track")
    assert (outcome.code, outcome.err) == (
        2,
        "syncs.yml:7:37: warehouse.duckdb is not a DuckDB file\n"
        "  hint: set the path of a DuckDB file; `retl seed` creates one from seeds/*.csv\n",
    )


COPY_IT = "copy what models need to a DuckDB file before a sync: see Lakes in docs/engines.md"


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("quack:marketing", COPY_IT),
        ("postgres:dbname=shop", "set type: postgres, with uri: see Postgres in docs/engines.md"),
        ("postgresql:dbname=shop", "set type: postgres, with uri: see Postgres in docs/engines.md"),
    ],
)
def test_warehouse_that_is_an_address_is_not_created_as_a_file(retl: Retl, tmp_path: Path, address: str, hint: str):
    retl("init")
    spec = tmp_path / "syncs.yml"
    spec.write_text(spec.read_text().replace("path: warehouse.duckdb", f'path: "{address}"'))
    begins = address[: address.index(":") + 1]
    what = (
        f"path begins with {begins}, which is neither a DuckDB file nor what retl lets DuckDB attach\n  hint: {hint}\n"
    )
    before = sorted(tmp_path.rglob("*"))
    for command, where in (("seed", ""), ("sync users_track", "syncs.yml:7:37: ")):
        outcome = retl(*command.split())
        assert (outcome.code, outcome.err) == (2, where + what)
    assert {path.name for path in set(tmp_path.rglob("*")).difference(before)}.isdisjoint({address, begins})


def test_seeds_are_not_loaded_into_what_is_only_read(retl: Retl, tmp_path: Path):
    retl("init")
    spec = tmp_path / "syncs.yml"
    spec.write_text(spec.read_text().replace("path: warehouse.duckdb", 'path: "ducklake:catalog.ducklake"'))
    before = sorted(tmp_path.iterdir())
    outcome = retl("seed")
    assert (outcome.code, outcome.err) == (
        2,
        f"syncs.yml:7:37: retl loads seeds into a DuckDB file, and only reads ducklake:{tmp_path}/catalog.ducklake\n"
        "  hint: load them with `dbt seed`, and add dbt: {project_dir: ...}\n",
    )
    assert sorted(tmp_path.iterdir()) == before


# --- selecting -------------------------------------------------------------------------------------------------------


def names(outcome_out: str) -> list[str]:
    return [line.split(":")[0] for line in outcome_out.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["orders"], ["orders"]),
        (["newsletter", "orders"], ["orders", "newsletter"]),
        (["--select", "tag:hourly"], ["users_track", "orders"]),
        (["--select", "tag:hourly tag:daily"], ["users_track", "orders", "newsletter"]),
        (["--select", "tag:hourly,o*"], ["orders"]),
        (["--all", "--exclude", "tag:daily"], ["users_track", "orders"]),
        (["*r*"], ["users_track", "orders", "newsletter"]),
        (["--select", "mode:users_track"], ["users_track", "orders"]),
        (["--select", "mode:purchases"], ["orders"]),
        (["--select", "model:news*"], ["newsletter"]),
    ],
)
@pytest.mark.sampled(4)
def test_syncs_are_selected_by_name_tag_and_glob(retl: Retl, starter: Path, arguments, expected):
    (starter / "warehouse.duckdb").unlink()  # each of them fails at once, and is listed like one that works
    assert names(retl("sync", *arguments).out) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--select", "tag:hurly"], 'no sync has the tag "hurly" in syncs.yml\n  hint: did you mean "hourly"?\n'),
        (["--select", "x*"], 'no sync matches "x*"\n  hint: one of: users_track, orders, newsletter\n'),
        (
            ["--select", "label:hourly"],
            'unknown selector "label:hourly"\n  hint: use a name, a glob, or a method: tag:, mode:, model:, path:, source:, config.KEY:, state:, result:\n',
        ),
        (
            ["--all", "orders"],
            "--all and names exclude each other\n  hint: remove --all to run only these, or names to run every sync\n",
        ),
        (
            ["--all", "--select", "orders"],
            "--all and --select exclude each other\n"
            "  hint: remove --all to run only these, or --select to run every sync\n",
        ),
        ([], "no syncs specified\n  hint: name one or more of users_track, orders, newsletter, or pass --all\n"),
        (
            ["orders", "--skip-guard", "max_remved"],
            '--skip-guard: unknown guard "max_remved"\n  hint: did you mean "max_removed"?\n',
        ),
        (
            ["orders", "--skip-guard", "empty_snapshot"],
            '--skip-guard: unknown guard "empty_snapshot"\n  hint: did you mean "empty_model"?\n',
        ),
        (
            ["orders", "--skip-guard", "max_changes=5%"],
            '--skip-guard: the number of guard max_changes must be an integer, not "5%"\n'
            "  hint: write it as max_changes=500\n",
        ),
        (
            ["orders", "--skip-guard", "data_tests=5"],
            "--skip-guard: guard data_tests counts nothing, so it has no number\n"
            "  hint: leave the number out: data_tests\n",
        ),
        (
            ["orders", "--skip-guard", "max_changes=5", "--skip-guard", "max_changes=6"],
            "--skip-guard: guard max_changes is given twice\n  hint: give it once\n",
        ),
        (
            ["orders", "--vars", "[1]"],
            "--vars is not a mapping\n  hint: pass a YAML mapping: `--vars '{country: KR}'`\n",
        ),
        (["orders", "--target", "prd"], 'syncs.yml: unknown target "prd"\n  hint: did you mean "prod"?\n'),
    ],
)
def test_command_that_is_wrong_exits_2_and_tries_nothing(retl: Retl, starter: Path, arguments, message):
    outcome = retl("sync", *arguments)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", message)


@pytest.mark.long
def test_syncs_run_after_those_that_they_name(retl: Retl, starter: Path):
    edit(starter / "syncs.yml", "    model: users_track\n", "    model: users_track\n    after: newsletter\n")
    edit(starter / "syncs.yml", "    model: orders\n", "    model: orders\n    after: users_track\n")
    outcome = retl("sync", "--all")
    assert names(outcome.out) == ["newsletter", "users_track", "orders"]


def test_sync_is_skipped_when_the_one_before_it_failed(retl: Retl, starter: Path):
    edit(starter / "syncs.yml", "    model: orders\n", "    model: orders\n    after: users_track\n")
    edit(starter / "models/users_track.sql", "first_name", "frist_name")
    outcome = retl("sync", "--all")
    assert outcome.code == 1
    assert [line.split(",")[0].split(" (")[0] for line in outcome.out.splitlines()] == [
        "users_track: failed",
        "orders: skipped",
        "newsletter: success",
    ]
    assert "orders: skipped: its predecessors have not succeeded: users_track" in outcome.err


def test_fail_fast_runs_no_more_syncs(retl: Retl, starter: Path):
    edit(starter / "models/users_track.sql", "first_name", "frist_name")
    outcome = retl("sync", "--all", "--fail-fast")
    assert [line.split(",")[0] for line in outcome.out.splitlines()] == [
        "users_track: failed",
        "orders: skipped",
        "newsletter: skipped",
    ]
    assert outcome.code == 2  # nothing was tried


# --- plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_plan_shows_what_would_be_sent_and_sends_nothing(retl: Retl, starter: Path):
    retl("sync", "users_track")
    with duckdb.connect(starter / "warehouse.duckdb") as connection:
        connection.execute("UPDATE raw_customers SET tier = 'gold', first_name = NULL WHERE customer_id = 'c-2'")
        connection.execute("INSERT INTO raw_customers VALUES ('c-9', 'zoe@example.com', 'Zoë', 'basic', true, NULL)")
    outcome = retl("plan", "users_track", "--show-values")
    assert (outcome.code, outcome.out) == (
        0,
        "users_track (users_track / attributes, target sandbox)\n"
        "  + 1 added   ~ 1 changed   - 0 removed   2 unchanged\n"
        "  columns: first_name 2, tier 2, email 1, orders 1\n"
        "  + c-9\n"
        "      email: zoe@example.com\n"
        "      first_name: Zoë\n"
        "      tier: basic\n"
        "      orders: 0\n"
        "  ~ c-2\n"
        "      first_name: Ben -> NULL\n"
        "      tier: basic -> gold\n"
        "  2 records, 190 bytes: 1 request to /users/track\n"
        "  writes 6 attributes: 6 data points on contracts billed by data points\n",
    )
    masked = retl("plan", "users_track")
    assert "zoe@example.com" not in masked.out
    assert "      tier: *** -> ***\n" in masked.out
    planned = json.loads(retl("plan", "users_track", "--output", "json").out)[0]
    assert (planned["added"], planned["requests"], planned["attributes"]) == (1, {"/users/track": 1}, 6)
    synced = retl("sync", "users_track")
    assert steady(synced.out) == (
        "users_track: success, 2 of 2 rows accepted in 1 request, 6 attributes written (0.0 s)\n"
    )


def test_plan_of_invalid_rows_exits_1(retl: Retl, starter: Path):
    edit(starter / "syncs.yml", *STRICT)
    with duckdb.connect(starter / "warehouse.duckdb") as connection:
        connection.execute("UPDATE raw_customers SET tier = repeat('x', 300)")
    outcome = retl("plan", "users_track")
    assert outcome.code == 1
    assert (
        "  3 rows invalid\n  rows  column  reason                         hint                          keys\n"
        in outcome.out
    )
    assert "syncs.yml:17:5: users_track: 3 of 3 rows are invalid" in outcome.err
    assert (
        retl("rejects", "users_track").err == "users_track: no invalid, rejected or in-doubt rows\n"
    )  # a plan leaves no trace


@pytest.mark.long
def test_full_refresh_asks_and_says_what_it_costs(retl: Retl, starter: Path):
    retl("sync", "orders")
    outcome = retl("sync", "orders", "--full-refresh")
    assert (outcome.code, outcome.err) == (
        2,
        "every row of orders will be sent again, changed or not; Braze will count each event or purchase of orders again\n"
        "  hint: to confirm, pass --yes\n",
    )
    assert "3 of 3 rows accepted" in retl("sync", "orders", "--full-refresh", "--yes").out


# --- looking ---------------------------------------------------------------------------------------------------------


def test_ls_lists_syncs(retl: Retl, starter: Path):
    assert retl("ls").out == (
        "  name         mode                      model        tags    description\n"
        "  users_track  users_track / attributes  users_track  hourly  profile attributes of customers\n"
        "  orders       users_track / purchases   orders       hourly  what customers bought\n"
        "  newsletter   subscription_status_set   newsletter   daily   who gets the newsletter\n"
    )
    assert [sync["name"] for sync in json.loads(retl("ls", "-s", "tag:hourly", "--output", "json").out)] == [
        "users_track",
        "orders",
    ]


def test_compile_writes_every_model_and_prints_the_one_that_is_named(retl: Retl, starter: Path):
    assert retl("compile").out.splitlines() == [
        "target/compiled/customers.sql",
        "target/compiled/newsletter.sql",
        "target/compiled/orders.sql",
        "target/compiled/users_track.sql",
    ]
    printed = retl("compile", "customers").out
    assert printed.strip() == (starter / "target/compiled/customers.sql").read_text().strip()
    assert '"main"."raw_customers"' in printed


def test_show_prints_rows_of_a_model(retl: Retl, starter: Path):
    assert retl("show", "orders", "--limit", "1").out == (
        "  external_id  product_id  currency  price  time                 order_id\n"
        "  c-1          mug-01      EUR       12.0   2026-10-05 18:40:12  1\n"
    )
    (row,) = json.loads(retl("show", "customers", "--limit", "1", "--output", "json").out)
    assert row["customer_id"] == "c-1"


def test_debug_finds_everything_in_order(retl: Retl, starter: Path):
    outcome = retl("debug")
    assert (outcome.code, outcome.out.splitlines()) == (
        0,
        [
            "ok    project: 3 syncs for target sandbox",
            "ok    warehouse: warehouse.duckdb",
            "ok    model of users_track: 8 columns, primary key: external_id",
            "ok    model of orders: 6 columns, primary key: order_id",
            "ok    model of newsletter: 3 columns, primary key: email, subscription_group_id",
            "ok    destination: the sandbox",
            "ok    /users/track, permission users.track, at most 3,000 in 3 s",
            "ok    /v2/subscription/status/set, permission subscription.status.set, at most 5,000 in 60 s",
            "ok    state of users_track: 0 rows in Braze, last run: never",
            "ok    state of orders: 0 rows in Braze, last run: never",
            "ok    state of newsletter: 0 rows in Braze, last run: never",
        ],
    )


def test_debug_names_a_missing_permission(retl: Retl, tmp_path: Path):
    with Sandbox(keys={KEY: {"users.delete"}}) as braze:
        shop = Shop(tmp_path / "shop", braze)
        shop.sync("it", "SELECT 'u1' AS external_id")
        outcome = retl("debug", folder=shop.folder)
        assert outcome.code == 1
        assert (
            "FAIL  /users/track, permission users.track: Braze returned 403: create a new API key with the "
            "permission users.track: permissions of an existing key cannot be changed\n"
        ) in outcome.out
        assert braze.counts()["users"] == 0


def test_status_shows_how_each_sync_stands(retl: Retl, starter: Path):
    retl("sync", "orders")
    lines = retl("status").out.splitlines()
    assert lines[0].split() == [
        "sync",
        "last",
        "run",
        "finished",
        "in",
        "Braze",
        "to",
        "send",
        "rejects",
        "in",
        "doubt",
    ]
    assert lines[1].split() == ["users_track", "never", "0", "0", "0"]
    assert re.fullmatch(r"  orders +success +\d{4}-\d\d-\d\d \d\d:\d\d UTC +3 +0 +0 +0", lines[2])
    found = json.loads(retl("status", "orders", "--output", "json").out)
    assert (found[0]["last_run"], found[0]["rows"]) == ("success", 3)


@pytest.mark.long
def test_state_shows_one_acknowledged_row(retl: Retl, starter: Path):
    retl("sync", "users_track", "newsletter")
    row = json.loads(retl("state", "show", "users_track", "--key", "c-2", "--output", "json").out)
    assert (row["email"], row["tier"], row["preferences"]) == ("ben@example.com", "basic", None)
    key = '["ben@example.com","b1f1a9e0-9c3e-4c52-8c5d-2d1a6f4c7e10"]'
    row = json.loads(retl("state", "show", "newsletter", "--key", key, "--output", "json").out)
    assert row["subscription_state"] == "unsubscribed"
    outcome = retl("state", "show", "users_track", "--key", "c-7")
    assert (outcome.code, outcome.err.splitlines()[0]) == (
        1,
        'users_track: no acknowledged row with the key "c-7"',
    )


@pytest.mark.long
def test_state_reset_asks_keeps_the_old_one_and_sends_all_again(retl: Retl, starter: Path):
    retl("sync", "users_track")
    asked = retl("state", "reset", "users_track")
    assert (asked.code, asked.err.splitlines()[0]) == (
        2,
        "every row of users_track will be sent again, changed or not",
    )
    done = retl("state", "reset", "users_track", "--yes")
    assert done.code == 0
    (aside,) = (starter / ".retl/sandbox/users_track").glob("before-reset-*")
    assert (aside / "state.duckdb").exists()
    assert "3 of 3 rows accepted" in retl("sync", "users_track").out


def test_sync_as_json_has_every_count_and_no_value(retl: Retl, starter: Path):
    outcome = retl("sync", "users_track", "--output", "json")
    (result,) = json.loads(outcome.out)
    assert (result["status"], result["plan"]["added"], result["delivery"]["accepted"]) == ("success", 3, 3)
    assert "ada@example.com" not in outcome.out


def test_vars_reach_models(retl: Retl, starter: Path):
    edit(starter / "models/orders.sql", "'EUR'", '\'{{ var("currency", "EUR") }}\'')
    assert "KRW" in retl("show", "orders", "--vars", "{currency: KRW}").out


def test_files_with_personal_data_are_for_their_owner_only(retl: Retl, starter: Path):
    retl("sync", "newsletter")
    modes = {path: path.stat().st_mode & 0o777 for path in (starter / ".retl").rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert (starter / ".retl").stat().st_mode & 0o777 == 0o700


def test_sandbox_prints_the_last_requests_it_took(retl: Retl, starter: Path):
    retl("sync", "orders")
    lines = retl("sandbox", "--last", "1").out.splitlines()
    assert lines[0] == "/users/track  201"
    assert len(json.loads(lines[1])["purchases"]) == 3


def test_schema_is_json(retl: Retl):
    assert json.loads(retl("schema").out)["title"] == "syncs.yml"


@pytest.mark.parametrize(
    "command",
    [
        *(
            "",
            "init",
            "seed",
            "sync",
            "plan",
            "ls",
            "compile",
            "show",
            "debug",
            "status",
            "rejects",
            "sandbox",
            "schema",
        ),
        *("state", "state show", "state reset"),
    ],
)
def test_every_command_has_help(retl: Retl, command: str):
    outcome = retl(*command.split(), "--help")
    assert outcome.code == 0
    assert "Usage: retl" in outcome.out


def test_version_is_that_of_the_installed_package(retl: Retl):
    from importlib.metadata import version

    assert retl("--version").out == f"retl {version('reverse-etl')}\n"


@pytest.mark.long
def test_fault_of_the_project_is_said_once_and_recorded_for_each_sync(retl: Retl, starter: Path):
    (starter / "warehouse.duckdb").unlink()
    found = retl("sync", "--all")
    missing = "syncs.yml:7:37: the warehouse file warehouse.duckdb does not exist\n"
    assert found.code == 2
    assert found.out == "users_track: failed\norders: failed\nnewsletter: failed\n"
    assert found.err.startswith(
        f"{missing}  hint: create it from seeds/*.csv with `retl seed`, or correct the path\n"
        "the same for orders, newsletter: syncs.yml:7:37\n"
    )
    assert "\n3 syncs: 3 failed;" in found.err
    results = json.loads((starter / "target/run_results.json").read_text())["results"]
    assert [result["errors"][0]["location"]["line"] for result in results] == [7, 7, 7]
    assert retl("--log-format", "json", "sync", "--all").err.count("does not exist") == 3


# --- gates and plans for programs ------------------------------------------------------------------------------------


@pytest.mark.long
def test_plan_says_by_its_exit_code_whether_there_is_something_to_send(retl: Retl, starter: Path):
    assert (retl("plan", "orders").code, retl("plan", "orders", "--detailed-exitcode").code) == (0, 2)
    retl("sync", "orders")
    assert retl("plan", "orders", "--detailed-exitcode").code == 0
    wrong = (
        ["nothing"],
        ["--bad"],
        ["--target", "nowhere"],
        ["--vars", "["],
        ["--project-dir", "models"],
        ["--encrypt"],
    )
    assert [retl("plan", *words, "--detailed-exitcode").code for words in wrong] == [1] * len(wrong)
    (starter / "models/orders.sql").write_text("SELECT nothing")
    assert [retl("plan", "orders", *words).code for words in ([], ["--detailed-exitcode"])] == [2, 1]
    edit(starter / "syncs.yml", "version: 1", "version: 7")
    assert [retl("plan", "orders", *words).code for words in ([], ["--detailed-exitcode"])] == [2, 1]


@pytest.mark.parametrize("command", ["plan", "sync"])
def test_gates_of_the_command_line_stop_before_anything_is_sent(retl: Retl, starter: Path, command):
    outcome = retl(command, "orders", "--max-requests", "0", "--max-changes", "50%")
    assert outcome.code == 1
    assert outcome.err.endswith(
        "syncs.yml:26:5: orders: guard max_changes: 3 rows would be sent; at most 1 is allowed (50% of 3)\n"
        "  hint: find out why: `retl plan orders`; only if all of it is meant, run `retl sync orders --skip-guard max_changes=3`\n"
        "syncs.yml:26:5: orders: guard max_requests: 1 request is needed; at most 0 are allowed\n"
        "  hint: find out why: `retl plan orders`; only if all of it is meant, run `retl sync orders --skip-guard max_requests=1`\n"
    )
    assert retl("status", "orders").out.splitlines()[1].split()[-3:] == (
        ["0", "0", "0"] if command == "plan" else ["3", "0", "0"]
    )


def test_bad_gate_is_named(retl: Retl, starter: Path):
    outcome = retl("plan", "orders", "--max-changes", "many")
    message = '--max-changes must be a number of rows, or a percentage such as "10%"\n'
    assert (outcome.code, outcome.err) == (2, message)


@pytest.mark.long
def test_plan_as_markdown_is_a_comment_on_a_pull_request(retl: Retl, starter: Path):
    assert retl("plan", "--output", "markdown").out == (
        "| sync | mode | added | changed | removed | invalid | requests | at the rate limit | writes | data points |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
        "| users_track | users_track / attributes | 3 | 0 | 0 | 0 | 1 | 0.0 s | 16 attributes | 17 |\n"
        "| orders | users_track / purchases | 3 | 0 | 0 | 0 | 1 | 0.0 s | 3 purchases | 3 |\n"
        "| newsletter | subscription_status_set | 3 | 0 | 0 | 0 | 2 | 0.0 s |  | 0 |\n"
        "\n"
        "**users_track**: `email` 3, `first_name` 3, `tier` 3, `orders` 3, `preferences` 2, `spent` 2\n"
        "\n"
        "**newsletter**: `subscription_state` 3\n"
    )


def test_plan_names_rows_that_left_the_model_and_columns_that_are_not_sent_any_more(shop: Shop, retl: Retl):
    """Nothing is sent for them, and nothing is cleared: whoever reviews the change has to know."""
    people = "SELECT 'u' || i AS external_id, 'gold' AS tier, i AS n FROM range(5) r(i)"
    shop.sync("it", people)
    assert retl("sync", "it", folder=shop.folder).code == 0
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(3) r(i)")
    left = "2 rows have left the model (on_removed: ignore): Braze keeps them"
    plan = retl("plan", "it", folder=shop.folder)
    assert f"  {left}\n" in plan.out
    assert "it: column no longer sent: tier; Braze keeps the values. To clear them, return NULL instead" in plan.err
    markdown = retl("plan", "it", "--output", "markdown", folder=shop.folder).out
    assert f"**it**: {left}\n\n**it**: no longer sent: `tier`; Braze keeps the values\n" in markdown
    found = json.loads(retl("plan", "it", "--output", "json", folder=shop.folder).out)[0]
    assert (found["absent"], found["dropped"], found["to_send"]) == (2, ["tier"], 0)
    synced = retl("sync", "it", folder=shop.folder)
    assert "3 unchanged; 2 left it, which Braze keeps" in synced.err
    again = json.loads(retl("plan", "it", "--output", "json", folder=shop.folder).out)[0]
    assert (again["absent"], again["dropped"]) == (0, [])


def test_plan_names_columns_that_no_run_has_sent_before(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(5) r(i)")
    first = retl("plan", "it", folder=shop.folder)
    assert "new column" not in first.out  # of a first run, all are
    assert retl("sync", "it", folder=shop.folder).code == 0
    shop.model("it", "SELECT 'u' || i AS external_id, i AS amount, 'gold' AS tier FROM range(5) r(i)")
    assert "  new columns: amount, tier\n" in retl("plan", "it", folder=shop.folder).out
    markdown = retl("plan", "it", "--output", "markdown", folder=shop.folder).out
    assert "**it**: no longer sent: `n`; Braze keeps the values\n\n**it**: new columns: `amount`, `tier`\n" in markdown
    (found,) = json.loads(retl("plan", "it", "--output", "json", folder=shop.folder).out)
    assert (found["dropped"], found["new_columns"], found["is_incomplete"]) == (["n"], ["amount", "tier"], False)
    assert retl("sync", "it", folder=shop.folder).code == 0
    assert "new column" not in retl("plan", "it", folder=shop.folder).out


def test_plan_of_rows_that_are_not_whole_says_that_the_run_will_exit_with_1(shop: Shop, retl: Retl):
    """The plan itself exits with 0, as nothing blocks the run; of a run that is blocked, it says only that."""
    shop.sync("it", "SELECT 'u1' AS external_id, 'Nowhere' AS country, 1 AS n")
    said = "a run would be incomplete, and exit with 1: 1 row not sent, or not whole"
    plan = retl("plan", "it", folder=shop.folder)
    assert (plan.code, plan.out.splitlines()[-1]) == (0, f"  {said}")
    assert f"**it**: {said}\n" in retl("plan", "it", "--output", "markdown", folder=shop.folder).out
    assert json.loads(retl("plan", "it", "--output", "json", folder=shop.folder).out)[0]["is_incomplete"] is True
    blocked = retl("plan", "it", "--max-requests", "0", folder=shop.folder)
    assert (blocked.code, said in blocked.out) == (1, False)
    synced = retl("sync", "it", folder=shop.folder)
    assert (synced.code, "it: incomplete, 1 of 1 row accepted" in synced.out) == (1, True)
    assert retl("plan", "it", folder=shop.folder).out.splitlines()[-1] == f"  {said}"  # as long as the model returns it
    assert retl("sync", "it", folder=shop.folder).code == 1


@pytest.mark.parametrize("command", ["sync", "plan", "ls", "compile", "status"])
def test_variable_of_the_command_line_that_nothing_reads_is_an_error_and_nothing_is_sent(
    shop: Shop, retl: Retl, command: str
):
    """With the default of var(), a typo would send to everybody."""
    shop.sync("it", "SELECT * FROM (VALUES ('u1', 1), ('u2', 2)) v(external_id, n) WHERE {{ var('only', 'true') }}")
    found = retl(command, "it", "--vars", "{onyl: n = 1}", folder=shop.folder)
    said = '--vars: nothing reads the variable "onyl"\n  hint: did you mean "only"?\n'
    assert (found.code, found.err, shop.sent()) == (2, said, [])
    assert retl(command, "it", "--vars", "{only: n = 1}", folder=shop.folder).code == 0


READERS = {
    "syncs.yml": ("vars: {known: all}", "SELECT 'u1' AS external_id"),
    "a name that is worked out": ("", "SELECT '{{ var('kno' ~ 'wn') }}' AS external_id"),
    "a name in a loop": ("", "SELECT {% for one in ['known'] %} '{{ var(one) }}' {% endfor %} AS external_id"),
    "a branch that is not taken": ("", "SELECT 'u1' {% if false %} {{ var('known') }} {% endif %} AS external_id"),
    "a key of syncs.yml in YAML's quotes": ("x-one: '{{ var(''known'') }}'", "SELECT 'u1' AS external_id"),
    "a key of syncs.yml in JSON's quotes": ('x-one: "{{ var(\\"known\\") }}"', "SELECT 'u1' AS external_id"),
}


@pytest.mark.parametrize(("lines", "sql"), READERS.values(), ids=READERS)
def test_variable_that_something_of_the_project_may_read_is_no_error(shop: Shop, retl: Retl, lines: str, sql: str):
    shop.sync("it", sql)
    edit(shop.folder / "syncs.yml", "version: 1", f"version: 1\n{lines}")
    assert retl("ls", "--vars", "{known: u2}", folder=shop.folder).err == ""


def test_variable_that_only_a_macro_or_a_broken_model_reads_is_no_error(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id")
    (shop.folder / "macros").mkdir()
    (shop.folder / "macros" / "one.sql").write_text("{% macro one() %}{{ var('known') }}{% endmacro %}")
    shop.model("broken", "SELECT {{ var('other') }} {% if %}")
    assert retl("ls", "--vars", "{known: 1, other: 1}", folder=shop.folder).err == ""
    said = '--vars: nothing reads the variable "othr"\n  hint: did you mean "other"?\n'
    assert retl("ls", "--vars", "{othr: 1}", folder=shop.folder).err == said


def test_plan_says_what_cannot_be_undone(shop: Shop, retl: Retl):
    shop.sync("it", "SELECT 'u1' AS external_id", mode="users_delete", allow_destructive=True)
    said = "deletes 1 user: this cannot be undone"
    assert f"  {said}\n" in retl("plan", "it", folder=shop.folder).out
    assert f"**it {said}**\n" in retl("plan", "it", "--output", "markdown", folder=shop.folder).out


def test_markdown_says_whose_rows_are_not_sent_as_they_were_erased_and_of_how_many_users_some_are_deleted(
    shop: Shop, retl: Retl
):
    people = "SELECT 'u' || i AS external_id, {} AS n FROM range(1, 6) r(i)"
    shop.sync("people", people.format(1)).run("people")
    shop.sync("gone", "SELECT 'u1' AS external_id", mode="users_delete", allow_destructive=True)
    comment = retl("plan", "--output", "markdown", folder=shop.folder).out
    assert "**gone deletes 1 user: this cannot be undone (5 users in the target's states)**\n" in comment
    shop.run("gone")
    shop.sync("people", people.format(2))
    comment = retl("plan", "people", "--output", "markdown", folder=shop.folder).out
    assert "**people**: 1 row suppressed: the user was erased, see docs/erasure.md\n" in comment


def test_markdown_says_why_rows_are_invalid_and_names_none_of_them(shop: Shop, retl: Retl):
    sql = "SELECT 'u' || i AS external_id, repeat('x', i) AS bio, i / 0.0 AS score FROM range(253, 259) r(i)"
    shop.sync("it", sql, strict=True)
    outcome = retl("plan", "it", "--output", "markdown", folder=shop.folder)
    assert outcome.out.splitlines()[2:] == [
        "| it | users_track / attributes | 0 | 0 | 0 | 6 | 0 | 0.0 s | 0 attributes | 0 |",
        "",
        "**it**: 6 rows invalid: `score` is NaN or infinite, which JSON cannot represent",
        "",
        "**it**: 3 rows invalid: `bio` is longer than 255 characters",
        "",
        "> it: 6 of 6 rows are invalid, so nothing would be sent (syncs.yml:13:3)",
    ]


def test_plan_says_how_long_the_rate_limit_lets_it_take(shop: Shop, retl: Retl):
    shop.destination = {"rate_limits": {"users_track": [{"requests": 2, "per_seconds": 10}]}}
    shop.sync("it", "SELECT 'u' || i AS external_id, i AS n FROM range(750) r(i)")
    assert retl("plan", "it", folder=shop.folder).out.endswith(
        "  750 records, 22,280 bytes: 10 requests to /users/track, 1 min 30 s at the rate limit\n"
        "  writes 750 attributes: 750 data points on contracts billed by data points\n"
    )


@pytest.mark.long
def test_cost_in_data_points_is_a_gate_of_its_own(retl: Retl, starter: Path):
    outcome = retl("sync", "orders", "--max-data-points", "2")
    message = "orders: guard max_data_points: it would cost 3 data points; at most 2 are allowed\n"
    assert (outcome.code, message in outcome.err) == (1, True)
    assert retl("sync", "orders", "--max-data-points", "3").code == 0
