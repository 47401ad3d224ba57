"""A state file or a disk that is not what it should be: an error with a hint, and nothing is sent because of it."""

import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from reverse_etl.braze.modes import MODES, RATE_LIMITS
from reverse_etl.braze.workspace import Workspace
from reverse_etl.delivery.batches import Batch, Place, Record
from reverse_etl.delivery.journal import Journal
from reverse_etl.delivery.pacing import Pacer
from reverse_etl.delivery.sender import Route, Sender, SenderOptions
from reverse_etl.errors import StateError
from reverse_etl.sandbox import Fault, Sandbox
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.sql.quoting import statement
from reverse_etl.state import file
from reverse_etl.state.file import FORMAT, explain_disk_errors
from tests.processes import Forked, command, dying
from tests.shop import EVENTS, KEY, SEEN, Retl, Shop, examples, running, some

MORE_SEEN = SEEN.replace("range(1000)", "range(10000)")
PEOPLE = "SELECT 'u' || i AS external_id, i AS n FROM range(10) r(i)"
RESET = (
    "run `retl state reset it`, then `retl sync it --read-first`: the old files are kept, and every row is sent again, "
    "but for opt-ins of users who have opted out in Braze"
)


@pytest.fixture(scope="module")
def synced_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synced")
    with Sandbox(folder / "braze.sqlite") as braze:
        Shop(folder / "shop", braze).sync("it", PEOPLE).run()
    return folder


@pytest.fixture
def synced(tmp_path: Path, synced_once: Path) -> Iterator[Shop]:
    """A sync that has run, and a Braze that has its rows."""
    shutil.copytree(synced_once, tmp_path, dirs_exist_ok=True)
    with Sandbox(tmp_path / "braze.sqlite") as braze:
        yield Shop(tmp_path / "shop", braze).sync("it", PEOPLE)


def state_file(shop: Shop) -> Path:
    return shop.folder / ".retl/test/it/state.duckdb"


def refused(shop: Shop) -> tuple[str, str | None]:
    """What a run says that must not send; and it does not."""
    before = len(shop.braze.requests())
    result = shop.run()
    assert (result.status, result.exit_code, len(shop.braze.requests())) == ("failed", 1, before)
    return result.errors[0].message.replace(str(state_file(shop).parent), "..."), result.errors[0].hint


def test_truncated_state_is_refused_and_kept(synced: Shop):
    path = state_file(synced)
    path.write_bytes(path.read_bytes()[:5000])
    what, hint = refused(synced)
    assert what.startswith("cannot use .../state.duckdb: IO Error: Could not read enough bytes")
    assert (
        hint == f"restore the newest backup, if no user was opted in since, who may have opted out by now; or {RESET}"
    )
    assert path.stat().st_size == 5000


def test_file_that_is_no_database_is_refused(synced: Shop):
    state_file(synced).write_text("what?")
    assert refused(synced)[0].startswith("cannot use .../state.duckdb: IO Error: ")


def test_database_of_something_else_is_refused_and_left_as_it_is(synced: Shop):
    state_file(synced).unlink()
    with duckdb.connect(state_file(synced)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1")
    assert refused(synced) == (".../state.duckdb is not a retl state file", f"restore the right file, or {RESET}")
    with duckdb.connect(state_file(synced)) as connection:
        assert connection.execute("SELECT table_name FROM duckdb_tables()").fetchall() == [("mine",)]


def test_state_that_has_lost_its_rows_is_no_first_run(synced: Shop):
    with duckdb.connect(state_file(synced)) as connection:
        connection.execute("DROP TABLE state")
    sent = len(synced.sent())
    assert refused(synced) == (".../state.duckdb is not a retl state file", f"restore the right file, or {RESET}")
    assert len(synced.sent()) == sent


LOST = "its ledger is left next to it: there were runs"
LOST_WITHOUT = "has-run is left next to it: there were runs"


@pytest.mark.parametrize(
    ("options", "lost"),
    [({}, LOST), ({"ledger": {"keep": 0}}, LOST_WITHOUT)],
    ids=["that has a ledger", "that has none"],
)
def test_state_that_is_missing_is_no_first_run(shop: Shop, retl: Retl, options: Any, lost: str):
    shop.sync("it", SEEN, **EVENTS, **options).run()
    state_file(shop).unlink()
    assert refused(shop) == (
        f".../state.duckdb is missing, but {lost}",
        "restore the newest backup, if nothing was sent since, which would count twice; "
        "or pause its schedule, run `retl state reset it`, "
        "then `retl state baseline it`: the old files are kept, "
        "and what the model returns by now counts as sent",
    )
    status = retl("status", folder=shop.folder)
    assert (status.code, status.out.splitlines()[1].split()[:2]) == (1, ["it", "damaged"])
    commands = ["plan", "history", "rejects", "why u1", "state show", "state baseline --yes", "forget u1 --yes"]
    said = {line: retl(*line.split(), *(["it"] if "u1" not in line else []), folder=shop.folder) for line in commands}
    assert {line: (one.code, lost in one.err) for line, one in said.items()} == dict.fromkeys(commands, (1, True))
    assert not state_file(shop).exists()


def test_state_of_which_only_the_log_is_left_is_no_first_run(synced: Shop):
    state_file(synced).rename(state_file(synced).with_suffix(".duckdb.wal"))
    shutil.rmtree(state_file(synced).parent / "ledger")
    assert refused(synced)[0] == ".../state.duckdb is missing, but its log is left next to it"


def test_missing_state_goes_on_when_it_is_restored_and_is_begun_anew_by_a_reset(synced: Shop, retl: Retl):
    path = state_file(synced)
    backup = path.read_bytes()
    path.unlink()
    assert synced.run().status == "failed"
    path.write_bytes(backup)
    assert (synced.run().plan.unchanged, len(synced.sent())) == (10, 1)
    path.unlink()
    assert retl("state", "reset", "it", "--yes", folder=synced.folder).code == 0
    assert (synced.run().plan.added, len(synced.sent())) == (10, 2)


@pytest.mark.parametrize("of", ["a baseline", "an older retl"])
def test_state_that_is_missing_after_a_baseline_or_an_upgrade_is_no_first_run(shop: Shop, retl: Retl, of: str):
    shop.sync("it", SEEN, **EVENTS, ledger={"keep": 0})
    if of == "a baseline":
        assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 0
    else:
        shop.run()
        (state_file(shop).parent / "has-run").unlink()
        assert shop.run().plan.unchanged == 1000
    state_file(shop).unlink()
    assert refused(shop)[0] == f".../state.duckdb is missing, but {LOST_WITHOUT}"
    assert retl("state", "reset", "it", "--yes", folder=shop.folder).code == 0
    assert retl("state", "baseline", "it", "--yes", folder=shop.folder).code == 0
    sent = len(shop.braze.events())
    assert (shop.run().status, len(shop.braze.events())) == ("success", sent)


def test_mark_that_is_a_link_is_refused(synced: Shop):
    mark = state_file(synced).parent / "has-run"
    mark.unlink()
    mark.symlink_to(synced.folder / "syncs.yml")
    assert refused(synced) == (
        ".../has-run is a symbolic link",
        "remove it: retl does not write its state through links, which a pull request may bring",
    )


@pytest.mark.long
def test_first_run_that_is_killed_at_any_moment_goes_on_and_if_its_state_is_lost_sends_nothing_twice(
    shop: Shop, tmp_path: Path, seed: int
):
    shop.sync("it", SEEN.replace("range(1000)", "range(3)"), **EVENTS, ledger={"keep": 0})
    refusals, firsts = 0, 0
    for number in itertools.count(seed % 3 + 1, examples(3, 1)):
        there = len(shop.braze.events())
        killed, lost = (Shop(tmp_path / f"{what}-{number}", shop.braze) for what in ("killed", "lost"))
        for one in (killed, lost):
            one.sync("it", SEEN.replace("range(1000)", "range(3)"), **EVENTS, ledger={"keep": 0})
        with Forked(dying, number, killed.folder, {**os.environ, **killed.environ}, "sync", "it") as process:
            code = process.wait()
        if (killed.folder / ".retl").exists():
            shutil.copytree(killed.folder / ".retl", lost.folder / ".retl")
        state_file(lost).unlink(missing_ok=True)
        arrived = len(shop.braze.events()) - there
        assert killed.run().status in ("success", "incomplete")
        assert len(shop.braze.events()) == there + 3, number
        result = lost.run()
        if arrived:
            assert (result.status, result.errors[0].code) == ("failed", "S006"), number
            refusals += 1
        else:
            firsts += result.status == "success"
        assert len(shop.braze.events()) == there + 3 + 3 * (result.status == "success"), number
        if code == 0:
            break
        assert code == -signal.SIGKILL, process.err
    assert refusals > 1
    assert firsts > 1


def test_state_of_another_sync_is_refused(synced: Shop):
    synced.sync("other", f"SELECT external_id, 1 AS other FROM ({PEOPLE})").run("other")
    shutil.copy(synced.folder / ".retl/test/other/state.duckdb", state_file(synced))
    assert refused(synced) == (
        '.../state.duckdb belongs to sync "other" on target "test"',
        "restore the right file: the state of one sync says nothing about another",
    )


def test_state_of_a_newer_format_is_refused_and_left_as_it_is(synced: Shop):
    with duckdb.connect(state_file(synced)) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    assert refused(synced) == (
        f".../state.duckdb was written by a newer version of retl (format 99; this version reads {FORMAT})",
        "upgrade retl: nothing is lost",
    )


def test_state_of_an_older_format_is_brought_up_and_the_old_file_kept(synced: Shop):
    with duckdb.connect(state_file(synced)) as connection:
        connection.execute("ALTER TABLE runs DROP COLUMN scheduled_time")
        connection.execute("ALTER TABLE state DROP COLUMN _retl_unsure")
        for column in ("git_commit", "git_dirty", "sql_md5", "started_by", "plan_digest", "ledger"):
            connection.execute(f"ALTER TABLE runs DROP COLUMN {column}")
        connection.execute("DROP TABLE sqls; DROP TABLE pins")
        connection.execute("ALTER TABLE opt_outs DROP COLUMN is_unclear")
        connection.execute("ALTER TABLE rejects DROP COLUMN cursor")
        connection.execute("ALTER TABLE state DROP COLUMN _retl_absent_since")
        connection.execute("ALTER TABLE in_doubt DROP COLUMN reason")
        for table in ("rejects", "in_doubt"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN identifier")
        connection.execute("DELETE FROM meta WHERE key = 'mode'")
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'format'")
    old = state_file(synced).read_bytes()
    result = synced.run()
    assert (result.status, result.plan.unchanged, result.delivery.requests) == ("success", 10, 0)
    assert ("format", str(FORMAT)) in synced.rows_of("meta")
    assert [when is None for (when,) in synced.rows_of("runs", "CAST(scheduled_time AS VARCHAR)")] == [False, True]
    assert (state_file(synced).parent / "before-format-2.duckdb").read_bytes() == old
    assert ("mode", synced.project().sync("it").mode.label) in synced.rows_of("meta")


def test_each_format_has_its_way_to_the_next():
    for old in range(1, FORMAT):
        assert statement(file.__name__, f"migrate_{old}_to_{old + 1}")


@pytest.mark.parametrize("name", ["lock", "state.duckdb", "outbox.duckdb", "journal.jsonl", "ledger"])
def test_state_is_not_written_through_a_link(synced: Shop, name: str, tmp_path: Path):
    """A pull request may bring one, and what it leads to is not retl's."""
    elsewhere, link = tmp_path / "elsewhere", state_file(synced).parent / name
    elsewhere.write_text("not retl's")
    link.rename(elsewhere.with_name("before")) if link.exists() else None
    link.symlink_to(elsewhere)
    assert refused(synced) == (
        f".../{name} is a symbolic link",
        "remove it: retl does not write its state through links, which a pull request may bring",
    )
    assert elsewhere.read_text() == "not retl's"


def test_what_a_run_writes_is_ignored_by_git(synced: Shop, retl: Retl):
    assert retl("sync", "it", folder=synced.folder).code == 0
    git = partial(subprocess.run, cwd=synced.folder, check=True, capture_output=True, text=True)
    git(["git", "init", "-q"])
    shown = git(["git", "status", "--porcelain", "--untracked-files=all"]).stdout
    assert sorted(line.split()[1] for line in shown.splitlines()) == ["models/it.sql", "syncs.yml", "warehouse.duckdb"]


def test_compiled_model_replaces_a_link_and_is_its_owners_only(synced: Shop, retl: Retl, tmp_path: Path):
    elsewhere, compiled = tmp_path / "elsewhere", synced.folder / "target/compiled/it.sql"
    elsewhere.write_text("not retl's")
    compiled.parent.mkdir(parents=True, exist_ok=True)
    compiled.unlink(missing_ok=True)
    compiled.symlink_to(elsewhere)
    assert retl("compile", "it", folder=synced.folder).code == 0
    assert (elsewhere.read_text(), compiled.is_symlink(), compiled.stat().st_mode & 0o777) == (
        "not retl's",
        False,
        0o600,
    )


def test_status_and_debug_name_a_damaged_state_and_show_the_others(synced: Shop, retl: Retl):
    synced.sync("other", f"SELECT external_id, 1 AS other FROM ({PEOPLE})").run("other")
    state_file(synced).write_text("what?")
    shown = retl("status", folder=synced.folder)
    it, other = [line.split() for line in shown.out.splitlines()[1:]]
    assert (it, other[:2], other[-4:]) == (["it", "damaged"], ["other", "success"], ["10", "0", "0", "0"])
    numbers = [one["rows"] for one in json.loads(retl("status", "--output", "json", folder=synced.folder).out)]
    assert numbers == [None, 10]
    assert (shown.code, "it: cannot use .retl/test/it/state.duckdb" in shown.err) == (1, True)
    assert "FAIL  state of it: cannot use .retl/test/it/state.duckdb" in retl("debug", folder=synced.folder).out


@pytest.mark.long
def test_state_that_ends_early_is_named_by_whoever_comes_upon_it_and_the_others_are_shown(shop: Shop, retl: Retl):
    """Its first blocks are whole, so it is opened without an error."""
    wide = "SELECT 'u' || i AS external_id, md5(i::text) AS a, md5((i + {})::text) AS b FROM range(9000) r(i)"
    shop.sync("it", wide.format(0)).sync("other", PEOPLE).run_all("it", "other")
    shop.sync("it", wide.format(1)).run()
    whole, statuses = state_file(shop).read_bytes(), list[str]()
    for share in (45, 60, 75, 97):
        state_file(shop).write_bytes(whole[: len(whole) * share // 100])
        shown = retl("status", folder=shop.folder)
        last_run = dict(line.split()[:2] for line in shown.out.splitlines()[1:])
        assert (last_run["other"], shown.code) == ("success", last_run["it"] == "damaged")
        statuses.append(last_run["it"])
        for line in ("debug", "history", "why u1"):
            state_file(shop).write_bytes(whole[: len(whole) * share // 100])
            retl(*line.split(), folder=shop.folder)  # raises what is no error of retl
    assert {*statuses} == {"damaged", "success"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_folder_that_cannot_be_written_is_said(synced: Shop):
    folder = state_file(synced).parent
    folder.chmod(0o500)
    try:
        assert refused(synced)[1] == "make it writable for the current user"
    finally:
        folder.chmod(0o700)


def test_outbox_of_a_killed_run_that_cannot_be_read_stops_the_next_one(shop: Shop):
    shop.sync("it", SEEN, **EVENTS)
    with running(shop, until="u300") as process:
        process.kill()
    outbox = state_file(shop).parent / "outbox.duckdb"
    outbox.write_bytes(outbox.read_bytes()[:9000])
    result = shop.run()
    assert result.status == "failed"
    what, hint = result.errors[0].message.replace(str(outbox.parent), "..."), result.errors[0].hint
    assert what.startswith(
        ".../outbox.duckdb is damaged, and with it the record of what the killed run sent: IO Error: "
    )
    assert hint == (
        "restore it, or pause its schedule, run `retl state reset it`, "
        "then `retl state baseline it`: the old files are kept, "
        "and what the model returns by now counts as sent"
    )


# --- a disk that is full ---------------------------------------------------------------------------------------------

FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)  # no file may grow beyond
sys.dont_write_bytecode = True  # half a .pyc would break every Python that comes after
from reverse_etl.cli import main
main()
"""


def on_a_full_disk(shop: Shop, bytes_left: int, *line: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FULL, str(bytes_left), *line]
    environ = {**os.environ, "BRAZE_API_KEY": KEY}
    ran = subprocess.run(command, cwd=shop.folder, env=environ, text=True, capture_output=True, timeout=90, check=False)
    assert "Traceback" not in ran.stderr
    return ran


def run_on_a_full_disk(shop: Shop, bytes_left: int) -> None:
    ran = on_a_full_disk(shop, bytes_left, "sync", "it")
    assert (ran.returncode, "File too large" in ran.stderr, "free disk space" in ran.stderr) == (1, True, True)


@pytest.mark.long
def test_disk_that_is_full_when_a_killed_run_is_recovered_says_nothing_of_its_files(shop: Shop):
    shop.sync("it", SEEN, **EVENTS)
    with running(shop, until="u300") as process:
        process.kill()
    kept = {name: state_file(shop).with_name(name).read_bytes() for name in ("outbox.duckdb", "journal.jsonl")}
    for line in ("status", "rejects it", "state show it", "sync it"):
        ran = on_a_full_disk(shop, 0, *line.split())
        assert (ran.returncode, "free disk space" in ran.stderr) == (1, True), line
        assert "damaged" not in ran.stdout + ran.stderr
        assert "reset" not in ran.stdout + ran.stderr
    assert {name: state_file(shop).with_name(name).read_bytes() for name in kept} == kept
    held = shop.run().plan.held  # those of the request that the process was killed in
    names = [event["external_id"] for event in shop.braze.events()]
    assert len(names) == len(set(names)) >= 1000 - held >= 900


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Bytes of the largest file that a run has written when its first request comes."""
    sizes: list[int] = []
    with Sandbox() as braze:
        shop = Shop(tmp_path_factory.mktemp("measured") / "shop", braze).sync("it", MORE_SEEN, **EVENTS)

        def measure(identifier: str) -> bool:
            if not sizes:
                sizes.append(max(path.stat().st_size for path in state_file(shop).parent.iterdir()))
            return True

        braze.add_fault(Fault("status", status=401, matches=measure))
        assert shop.run().status == "failed"
    return sizes[0]


@pytest.mark.long
@pytest.mark.parametrize("share", some([0.0005, 0.01, 0.15, 0.3, 0.5, 0.75], every=3))
def test_disk_that_is_full_before_anything_is_sent_stops_the_run(shop: Shop, written: int, share: float):
    shop.sync("it", MORE_SEEN, **EVENTS)
    run_on_a_full_disk(shop, int(share * written))
    assert shop.braze.requests() == []
    assert (shop.run().status, len(shop.braze.events())) == ("success", 10_000)


def test_nothing_is_sent_that_the_journal_cannot_hold(shop: Shop):
    shop.sync("it", PEOPLE)
    place = Place("/users/track", '{"attributes":[')
    records = [Record(n, f'{{"external_id":"u{n}"}}', True) for n in range(10)]
    route = Route(MODES["users_track", "attributes"].call, "]}", {"attributes"}, Pacer([RATE_LIMITS["users_track"]]))
    with Journal(Path("/dev/full")) as journal:
        sender = Sender(Workspace(shop.braze.url, KEY), {"/users/track": route}, journal, SenderOptions(threads=2))
        delivery = sender.send([Batch(place, records[:5]), Batch(place, records[5:])])
    assert delivery.stopped == "cannot write the journal: No space left on device"
    assert (delivery.requests, shop.braze.requests()) == (0, [])


def test_full_disk_is_said_in_words_whichever_thread_of_duckdb_writes(tmp_path: Path):
    place = StatePlace(tmp_path, "it", "test")
    with duckdb.connect() as connection, pytest.raises(StateError) as raised, explain_disk_errors(place):
        connection.execute("COPY (SELECT 1) TO '/dev/full' (FORMAT parquet)")
    (problem,) = raised.value.problems
    said = 'IO Error: Could not write file "/dev/full": No space left on device'
    assert (problem.code, problem.message) == ("S009", f"cannot use {tmp_path}: {said}")


def test_line_of_the_journal_that_finds_no_room_is_not_there_in_half(tmp_path: Path):
    path = tmp_path / "journal.jsonl"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(path) as journal:
        request = journal.sent(0, 74, durable=False)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))
            for _ in range(2):
                with pytest.raises(OSError, match=r"No space left on device|File too large"):
                    journal.answered(request, "accepted", {})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        with pytest.raises(OSError, match=r"No space left on device|File too large"):
            journal.sent(75, 99, durable=False)
    assert path.read_text() == '{"sent":1,"first":0,"last":74}\n'


def test_too_little_memory_to_bring_a_run_in_says_how_to_give_it_more(tmp_path: Path):
    connection = duckdb.connect(config={"memory_limit": "4MB", "temp_directory": ""})
    place = StatePlace(tmp_path, "it", "test")
    with connection, pytest.raises(StateError) as raised, explain_disk_errors(place):
        connection.execute("CREATE TABLE t AS SELECT random() AS n FROM range(5000000) ORDER BY n")
    (problem,) = raised.value.problems
    assert problem.message.startswith(f"cannot use {place.folder}: Out of Memory Error: ")
    assert problem.hint == (
        "raise the limit (`retl sync --memory-limit 4GB`), then run again: responses received so far are recorded in the folder, "
        "and the next run applies them"
    )


@pytest.mark.long
def test_single_byte_that_is_not_what_it_was_is_an_error_or_does_no_harm(synced: Shop, retl: Retl, seed: int):
    """DuckDB has a checksum for each block, and looks at it when it reads the block: not always when it opens the file."""
    path, draw = state_file(synced), random.Random(seed)
    whole = path.read_bytes()
    for place in draw.sample([at for at, byte in enumerate(whole) if byte], examples(4, 100)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ draw.randrange(1, 256)]) + whole[place + 1 :])
        for arguments in (["sync"], ["status"], ["rejects"], ["history"], ["state", "show"]):
            found = retl(*arguments, "it", folder=synced.folder)
            assert (found.code in (0, 1), "Traceback" in found.err) == (True, False), place
            assert found.code == 0 or "cannot" in found.err + found.out or "damaged" in found.out + found.err, place
    path.write_bytes(whole)
    assert (synced.run().status, len(synced.sent())) == ("success", 1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        duckdb.TransactionException("Failed to commit: Failed to allocate block of 262144 bytes (bad allocation)"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_the_process_may_not_have_is_no_damage(error: Exception, tmp_path: Path):
    with pytest.raises(StateError) as raised, explain_disk_errors(StatePlace(tmp_path, "it", "test")):
        raise error
    (problem,) = raised.value.problems
    assert problem.message.endswith(str(error) or "out of memory")
    assert (problem.hint or "").startswith(
        "allow the process more memory (a container's limit, `ulimit -v`), or use less"
    )


@pytest.mark.long
def test_run_with_little_memory_is_recorded_or_says_that_it_lacks_memory(shop: Shop):
    """Whatever it may have: no traceback, and the run after it sends each row once."""
    shop.sync("it", SEEN, **EVENTS)
    for mb in (700, 1000, 1300, 1600)[:: examples(3, 1)]:
        with Forked(with_little_memory, mb << 20, shop.folder, {**os.environ, **shop.environ}, "sync", "it") as process:
            code = process.wait()
            assert (code in (0, 1), "Traceback" in process.err) == (True, False)
            assert code == 0 or "memory" in process.out + process.err
    shop.run()
    held = {key for (key,) in shop.rows_of("in_doubt", "key")}
    arrived = [event["external_id"] for event in shop.braze.events()]
    assert len(arrived) == len(set(arrived))
    assert {*held, *arrived} == {f"u{n}" for n in range(1000)}


def with_little_memory(size: int, folder: Path, environ: Mapping[str, str], *arguments: str) -> None:
    """`ulimit -v ...; retl ...`."""
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    command(folder, environ, *arguments)
