"""What the version before left behind is gone on with: nothing is sent twice, and nothing is lost.

`projects/state-format-2` is a project as that version left it, its DuckDB files as SQL. Of its 60 `visits`, 10 is rejected
by Braze, 20 to 27 were said to have arrived and 30 to 37 not to, 28, 29, 38 and 39 are in doubt; then a run was killed
after an answer to ten more, while ten were under way. Of its `clicks`, 5 is rejected, 6 said to have arrived, 7 in doubt,
and a saved plan sends 8 to 12; with it, the plan changes one of the `people` and adds two.
"""

import json
import shutil
import sqlite3
from collections import Counter
from hashlib import sha256
from pathlib import Path

import duckdb
import pytest

from reverse_etl.plan.outbox import upgrade_outbox
from reverse_etl.plan.tables import OUTBOX, RUN
from reverse_etl.plan.workbench import connect
from reverse_etl.sandbox import Sandbox
from reverse_etl.state.file import FORMAT
from tests.bucket import Bucket
from tests.shop import Outcome, Retl, Shop, edit, some

BEFORE = Path(__file__).parents[1] / "projects/state-format-2"
RENAMED = {"empty_snapshot: false": "empty_model: false", "keep:": "retention:"}


def rebuild(script: str, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(file) as connection:
        connection.execute((BEFORE / script).read_text())


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with the keys of syncs.yml that are called something else now."""
    folder = tmp_path_factory.mktemp("rebuilt") / "shop"
    shutil.copytree(BEFORE / "models", folder / "models")
    shutil.copytree(BEFORE / "target", folder / "target")
    text = (BEFORE / "before.yml").read_text()
    for before, now in RENAMED.items():
        assert before in text
        text = text.replace(before, now)
    (folder / "syncs.yml").write_text(text)
    duckdb.connect(folder / "warehouse.duckdb").close()
    for sync in ("visits", "clicks", "people"):
        rebuild(f"{sync}.state.sql", folder / f".retl/test/{sync}/state.duckdb")
    rebuild("visits.outbox.sql", folder / ".retl/test/visits/outbox.duckdb")
    shutil.copy(BEFORE / "visits.journal.jsonl", folder / ".retl/test/visits/journal.jsonl")
    rebuild("plan.sql", folder / "plan.retl")
    with sqlite3.connect(folder / ".retl/test/sandbox.sqlite") as db:
        db.executescript((BEFORE / "sandbox.sql").read_text())
    return folder


@pytest.fixture
def folder(tmp_path: Path, rebuilt: Path) -> Path:
    shutil.copytree(rebuilt, tmp_path / "shop")
    return tmp_path / "shop"


def arrived(folder: Path, name: str) -> Counter[int]:
    """How often Braze has each event of a name, by its id."""
    with Sandbox(folder / ".retl/test/sandbox.sqlite") as braze:
        return Counter(event["properties"]["id"] for event in braze.events() if event["name"] == name)


def in_doubt(folder: Path, retl: Retl, sync: str) -> dict[int, str | None]:
    """The rows in doubt, by their key, and what was decided of them."""
    rows = json.loads(retl("rejects", sync, "--output", "json", folder=folder).out)
    return {int(row["key"]): row["resolution"] for row in rows if row["status"] == "in_doubt"}


def rows_of(folder: Path, sync: str, what: str) -> list[tuple[object, ...]]:
    with duckdb.connect(folder / f".retl/test/{sync}/state.duckdb", read_only=True) as connection:
        return connection.execute(f"SELECT {what} ORDER BY ALL").fetchall()


def by_keys(keys: list[int]) -> list[str]:
    return [argument for key in keys for argument in ("--key", str(key))]


@pytest.mark.long
def test_killed_run_is_recovered_and_every_event_arrives_once(folder: Path, retl: Retl):
    there = check_recovery(folder, retl)
    assert retl("resolve", "visits", "--mark-accepted", *by_keys(there), folder=folder).code == 0
    assert retl("resolve", "visits", "--resend", "--yes", *by_keys([38, 39]), folder=folder).code == 0
    assert "2 of 2 rows accepted in 1 request" in retl("sync", "visits", folder=folder).out
    assert arrived(folder, "visit") == Counter(set(range(60)) - {10})
    assert "nothing to send, 0 requests" in retl("sync", "visits", folder=folder).out
    assert in_doubt(folder, retl, "visits") == {}


@pytest.mark.long
def test_killed_run_is_recovered_into_a_store(folder: Path, retl: Retl, monkeypatch: pytest.MonkeyPatch):
    with Bucket() as bucket:
        edit(folder / "syncs.yml", "    destination:", f"    state: {{path: '{bucket.url}'}}\n    destination:")
        for name, value in bucket.environ.items():
            monkeypatch.setenv(name, value)
        check_recovery(folder, retl)
        assert bucket.objects("visits").read("head.json")


def check_recovery(folder: Path, retl: Retl) -> list[int]:
    """The rows in doubt that have arrived."""
    before = arrived(folder, "visit")
    assert (len(before), set(before.values())) == (49, {1})
    done = retl("sync", "visits", folder=folder)
    assert done.code == 1
    assert "killed: 10 rows accepted, 0 rejected, 10 in doubt, 8 still to be sent" in done.err
    assert "8 of 8 rows accepted in 1 request; 1 invalid; 1 rejected earlier, not resent; 14 held" in done.out
    now = arrived(folder, "visit")
    assert (set(now.values()), set(range(60)) - now.keys()) == ({1}, {10, 38, 39})
    doubts = in_doubt(folder, retl, "visits")
    assert (len(doubts), {28, 29, 38, 39} <= doubts.keys(), set(doubts.values())) == (14, True, {None})
    return sorted(doubts.keys() & now.keys())


def apply(folder: Path, retl: Retl) -> Outcome:
    """What is done with a plan that has no seal yet, after it was reviewed."""
    digest = sha256((folder / "plan.retl").read_bytes()).hexdigest()
    return retl("apply", "plan.retl", "--max-age", "36500d", "--digest", digest, folder=folder)


@pytest.mark.long
def test_saved_plan_is_applied_and_every_event_arrives_once(folder: Path, retl: Retl):
    assert arrived(folder, "click") == Counter(range(5)) + Counter([6, 7])
    assert "has no valid seal" in retl("apply", "plan.retl", "--max-age", "36500d", folder=folder).err
    done = apply(folder, retl)
    first, second = done.out.splitlines()
    assert first.startswith("clicks: incomplete, 5 of 5 rows accepted in 1 request; 1 rejected earlier, not resent; ")
    assert "1 held, in doubt since an earlier run" in first
    assert second.startswith("people: success, 3 of 3 rows accepted in 1 request, 3 attributes written")
    assert arrived(folder, "click") == Counter(set(range(13)) - {5})
    assert rows_of(folder, "clicks", "id FROM state WHERE _retl_sent_at IS NOT NULL") == [
        (id,) for id in range(13) if id not in (5, 7)
    ]
    assert in_doubt(folder, retl, "clicks") == {7: None}
    again = apply(folder, retl)
    assert (again.code, "plan refused: it was already applied, at" in again.err) == (1, True)
    for sync in ("clicks", "people"):
        assert "nothing to send, 0 requests" in retl("sync", sync, folder=folder).out
    counts = json.loads(
        rows_of(folder, "clicks", "counts FROM runs WHERE run_id LIKE '20261128T205645-4a8cee-%'")[0][0]
    )
    assert (counts["previously_rejected"], counts["held"], counts["marked_accepted"]) == (1, 1, 1)


@pytest.mark.long
def test_plan_of_rows_that_were_resolved_since_is_stale(folder: Path, retl: Retl):
    retl("resolve", "clicks", "--mark-accepted", "--key", "7", folder=folder)
    refused = apply(folder, retl)
    assert (refused.code, "clicks: plan refused: the state has changed" in refused.err) == (1, True)


@pytest.mark.long
def test_decisions_about_rows_in_doubt_are_kept(folder: Path, retl: Retl):
    assert in_doubt(folder, retl, "clicks") == {6: "mark_accepted", 7: None}
    done = retl("sync", "clicks", folder=folder)
    assert "5 of 5 rows accepted" in done.out
    assert arrived(folder, "click") == Counter(set(range(13)) - {5})
    assert in_doubt(folder, retl, "clicks") == {7: None}


HISTORY = {
    "visits": [("blocked", 61, 0, 0, 0), ("incomplete", 40, 9, 1, 20), ("success", 10, 10, 0, 0)],
    "clicks": [("incomplete", 3, 0, 0, 2), ("incomplete", 2, 0, 1, 0), ("success", 5, 5, 0, 0)],
    "people": [("baselined", 2, 0, 0, 0)],
}


@pytest.mark.parametrize("sync", HISTORY)
def test_history_shows_past_runs_in_the_words_of_today_and_changes_nothing(folder: Path, retl: Retl, sync: str):
    file = folder / f".retl/test/{sync}/state.duckdb"
    before = file.read_bytes()
    for _ in range(2):
        runs = json.loads(retl("history", sync, "--output", "json", folder=folder).out)
        names = ("status", "rows", "accepted", "rejected", "in_doubt")
        assert [tuple(run[name] for name in names) for run in runs if run["status"] != "killed"] == HISTORY[sync]
        assert (file.read_bytes() == before) == (runs[0]["status"] != "killed" and _format(file) == "2")
        retl("status", sync, folder=folder)  # opens the state, and so brings it up
    assert _format(file) == str(FORMAT)
    assert (file.parent / "before-format-3.duckdb").read_bytes() == before


def _format(file: Path) -> str:
    with duckdb.connect(file, read_only=True) as connection:
        return str(connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchall()[0][0])


@pytest.mark.long
def test_counts_of_past_runs_have_other_names_and_the_same_numbers(folder: Path, retl: Retl):
    def counts(sync: str) -> list[dict[str, object]]:
        return [json.loads(text) for (text,) in rows_of(folder, sync, "CAST(counts AS VARCHAR) FROM runs WHERE true")]

    names = {"fates": "delivery", "remembered": "previously_rejected"}
    for sync, adopted in {"visits": "marked_accepted", "clicks": "marked_accepted", "people": "baselined"}.items():
        before = counts(sync)
        retl("status", sync, folder=folder)
        expected = [{{**names, "adopted": adopted}.get(k, k): value for k, value in one.items()} for one in before]
        for one in expected:
            one["delivery"] = {
                "possible_duplicates" if k == "maybe_twice" else k: v for k, v in one["delivery"].items()
            }
        now = [one for one in counts(sync) if "rows" in one]  # a killed run counted nothing
        assert sorted(map(json.dumps, now)) == sorted(map(json.dumps, expected))


def test_text_that_looks_like_a_key_stays_as_it_is(folder: Path, retl: Retl):
    said = {"since": '"fates": "remembered": "adopted":', "fates": {"accepted": 1}}
    file = folder / ".retl/test/people/state.duckdb"
    with duckdb.connect(file) as connection:
        connection.execute("UPDATE runs SET counts = ?", [json.dumps(said)])
    retl("status", "people", folder=folder)
    ((counts,),) = rows_of(folder, "people", "counts FROM runs")
    assert json.loads(counts) == {"since": said["since"], "delivery": said["fates"]}


def test_syncs_did_not_change_since_the_manifest_of_the_version_before(folder: Path, retl: Retl):
    shutil.copytree(folder / "target", folder / "then")
    listed = retl("ls", "--select", "state:modified", "--state", "then", "--output", "json", folder=folder)
    assert (listed.code, json.loads(listed.out)) == (0, [])


def test_retry_goes_by_the_results_of_the_version_before_and_leaves_alone_what_another_process_had_done(
    folder: Path, retl: Retl
):
    results = folder / "target/run_results.json"
    edit(results, '"status": "incomplete"', '"status": "done"')
    said = "every sync of the last run succeeded: nothing to retry\n"
    assert (retl("retry", folder=folder).err, arrived(folder, "click")[5]) == (said, 0)
    edit(results, '"status": "done"', '"status": "incomplete"')
    done = retl("retry", folder=folder)
    assert done.out.startswith("clicks: incomplete, 6 of 6 rows accepted in 1 request; 1 held, in doubt")
    assert arrived(folder, "click") == Counter(range(13))


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_rows_of_an_outbox_keep_their_places(is_cut_off: bool):
    """A journal names records by their place; several row groups, and a checkpoint that may tidy them up."""
    with connect() as connection:
        connection.execute(f"ATTACH ':memory:' AS {RUN}; CREATE TABLE {RUN}.main.run (keep VARCHAR)")
        actions = "['send', 'remembered', 'adopt', 'in_doubt', 'forget', 'invalid'][1 + i % 6]"
        connection.execute(
            f"""CREATE TABLE {OUTBOX} AS SELECT i AS key, false AS harmless, CAST(i % 6 = 5 AS INTEGER) * 7 AS problem,
                {actions} AS action FROM range(300000) r(i)"""
        )
        if is_cut_off:
            connection.execute(f"UPDATE {OUTBOX} SET action = 'previously_rejected' WHERE action = 'remembered'")
        for _ in range(2):
            upgrade_outbox(connection)
            connection.execute(f"CHECKPOINT {RUN}")
        wanted = "['send', 'previously_rejected', 'mark_accepted', 'in_doubt', 'forget', 'invalid'][1 + key % 6]"
        problems = "CASE WHEN key % 6 = 5 THEN [7] END"
        moved = f"""SELECT count(*) FROM {OUTBOX} WHERE rowid <> key OR action <> {wanted} OR idempotent
            OR problems IS DISTINCT FROM {problems}"""
        assert connection.execute(moved).fetchall() == [(0,)]
        assert connection.execute(f"SELECT count(*), count(retention) FROM {RUN}.main.run").fetchall() == [(0, 0)]


# --- equality ----------------------------------------------------------------------------------------------------------

FORMAT_4 = Path(__file__).parents[1] / "projects/state-format-4/it.state.sql"
SEEN = """CREATE OR REPLACE TABLE seen (external_id VARCHAR, name VARCHAR{collation}, time TIMESTAMP, n {n}, properties JSON);
INSERT INTO seen VALUES
('u1', 'seen', '2026-11-23', 1, '{{"a": 1, "b": [1, 2]}}'), ('u1', 'Seen', '2026-11-23', 1, '{{"a": 1, "b": [1, 2]}}'),
('u2', 'seen', '2026-11-23', 1, '{{"a": 1}}'), ('u2', 'seen', '2026-11-23', 1, '{{"a": 1}}'),
('u3', 'bought', '2026-11-23', 2, '{{"c": {{"x": 1, "y": 2}}}}'), ('u4', 'bought', '2026-11-23', 2, NULL)"""
NOCASE = SEEN.format(collation=" COLLATE NOCASE", n="INTEGER")
RESPELLED = {
    "as they were": NOCASE,
    "a wider type": SEEN.format(collation=" COLLATE NOCASE", n="BIGINT"),
    "other JSON text": NOCASE.replace('"a": 1, "b": [1, 2]', '"b":[1,2],"a":1').replace(
        '"x": 1, "y": 2', '"y":2,"x":1'
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("spelled", some(RESPELLED))
def test_events_that_were_acknowledged_or_in_doubt_do_not_go_out_because_equality_changed(shop: Shop, spelled: str):
    shop.warehouse(RESPELLED[spelled])
    shop.sync("it", "SELECT * FROM seen", mode="users_track", track_record_type="events")
    file = shop.folder / ".retl/test/it/state.duckdb"
    file.parent.mkdir(parents=True)
    with duckdb.connect(file) as connection:
        connection.execute(FORMAT_4.read_text())
    result = shop.run()
    assert (result.delivery.requests, result.plan.held, shop.rows_of("meta WHERE key = 'format'", "value")) == (
        0,
        2,
        [(str(FORMAT),)],
    )
    shop.warehouse("INSERT INTO seen VALUES ('u2', 'seen', '2026-11-23', 1, '{\"a\":1}')")
    result = shop.run()
    assert (result.delivery.accepted, result.plan.held, len(shop.braze.events())) == (1, 2, 1)
