"""Killed, interrupted, or twice at once: what was answered is kept, what was not is known."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pytest

from reverse_etl.delivery.journal import Journal
from reverse_etl.plan.actions import Intent
from reverse_etl.runs.outcome import Options
from reverse_etl.runs.run import jobs_of, opened, plan_sync
from reverse_etl.sandbox import Fault
from reverse_etl.system.file_lock import WAIT, locked_by_us, wait_for
from reverse_etl.system.signals import interruptible
from tests.processes import Forked
from tests.shop import (
    EVENTS,
    FIVE_REQUESTS,
    MANY,
    SEEN,
    Held,
    LettingGo,
    Retl,
    Shop,
    Silent,
    database,
    running,
    some,
    start,
)

LOST = (
    ", and with it the record of what the killed run sent\n"
    "  hint: restore it, or pause its schedule, run `retl state reset it`, "
    "then `retl state baseline it`: "
    "the old files are kept, and what the model returns by now counts as sent"
)


@pytest.mark.long
def test_what_a_lost_machine_may_have_sent_is_in_doubt_in_every_phase_of_a_run(shop: Shop):
    """An opt-out is the first record of the outbox; the others are not safe to send twice."""
    rows = """SELECT 'u' || i AS external_id, {'inc': 1} AS score, CASE WHEN i = 0 THEN 'unsubscribed' END AS email_subscribe
        FROM range(10) r(i)"""
    shop.sync("it", rows)
    held = Held(shop.braze, path="/users/track")
    with running(shop, held) as process:
        process.kill()
        process.wait()
    held.goes_out.set()
    journal = shop.folder / ".retl/test/it/journal.jsonl"
    journal.write_text(json.dumps({"sent": 0, "first": 0, "last": 9}) + "\n")  # as another machine takes it over
    result = shop.run()
    assert result.delivery.accepted == 1  # the opt-out alone, which is always safe
    assert len(shop.rows_of("in_doubt", "key")) == 10


@pytest.mark.long
def test_killed_run_of_attributes_goes_on_where_answers_ended(shop: Shop):
    shop.sync("it", MANY)
    with running(shop, until="u300") as process:
        process.kill()
    result = shop.run()
    owner, killed = shop.listener.notices
    assert owner.startswith(f"it: took over the lock of process {process.pid} on ")
    assert owner.endswith(", which ended without releasing it")
    assert killed == "it: recovered the last run, which was killed: 300 rows accepted, 0 rejected, 700 still to be sent"
    assert (result.status, result.plan.added, result.delivery.accepted) == ("success", 700, 700)
    assert len(list(shop.braze.profiles())) == 1000
    assert shop.run().delivery.requests == 0


@pytest.mark.long
def test_killed_run_of_events_doubles_none_holds_the_doubtful_and_is_recovered_twice_without_harm(shop: Shop):
    shop.sync("it", SEEN, **EVENTS)
    with running(shop, until="u300") as process:
        process.kill()
    folder = shop.folder / ".retl/test/it"
    shutil.copytree(folder, shop.folder / "copy")
    for name in ("journal.jsonl", "outbox.duckdb"):
        kept = (folder / name).rename(shop.folder / name)
        for _ in range(2):
            result = shop.run()
            assert (result.status, result.exit_code) == ("failed", 1)
            assert [str(error) for error in result.errors] == [f"{folder / name} is missing{LOST}"]
        kept.rename(folder / name)
    assert len(shop.sent()) == 5
    shop.listener = Silent()
    result = shop.run()
    assert shop.listener.notices == [
        "it: recovered the last run, which was killed: 300 rows accepted, 0 rejected, 75 in doubt, 625 still to be sent"
    ]
    assert (result.status, result.plan.held, result.delivery.accepted) == ("incomplete", 75, 625)
    names = [event["external_id"] for event in shop.braze.events()]
    assert len(names) == len(set(names)) == 1000
    for name in ("outbox.duckdb", "journal.jsonl"):  # as if only the cleaning had been missed
        shutil.copy(shop.folder / "copy" / name, folder / name)
    for _ in range(2):
        result = shop.run()
        assert (result.plan.held, result.delivery.requests) == (75, 0)


@pytest.mark.long
def test_killed_run_knows_of_every_request_that_was_in_flight(shop: Shop):
    shop.sync("it", SEEN, **EVENTS)
    never = Fault("delay", external_ids=[f"u{n}" for n in range(75, 1000)], until=lambda: False, times=None)
    shop.braze.add_fault(never)
    with start(shop, "sync", "it", "--threads", "4") as process:
        process.wait_until(lambda: len(shop.sent()) == 5)  # whoever sent the first has had its answer
    shop.braze.clear_faults()
    result = shop.run()
    assert shop.listener.notices[1:] == [
        "it: recovered the last run, which was killed: 75 rows accepted, 0 rejected, 300 in doubt, 625 still to be sent"
    ]
    assert (result.plan.held, result.delivery.accepted) == (300, 625)
    assert len(shop.braze.events()) == 1000


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_interrupted_run_brings_in_what_is_in_flight(shop: Shop, number: signal.Signals, code: int):
    shop.destination = FIVE_REQUESTS
    shop.sync("it", MANY)
    answer = Held(shop.braze, external_ids=["u300"])
    with running(shop, until=answer) as process:
        process.send_signal(number)
        answer.goes_out.set()
        out, err = process.communicate()
    assert process.returncode == code
    assert "it: interrupted" in out
    assert "interrupted: waited for the requests in flight and recorded the results" in err
    assert len(list(shop.braze.profiles())) == 375
    result = shop.run()
    assert (result.plan.added, result.status) == (625, "success")


def ends(pipe: Path) -> bool:
    """Let whoever reads a named pipe go on; False if nobody does yet."""
    with suppress(OSError):
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return True
    return False


def cpu_s(process: Forked) -> float:
    """How much of the CPU a process has had."""
    return sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13])) / 100


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").exists(), reason="a process tells there how much of the CPU it has had")
@pytest.mark.parametrize(
    ("command", "number", "said"),
    some(
        [
            pytest.param("sync", signal.SIGINT, ["interrupted while no requests were being sent"], id="sync, Ctrl-C"),
            pytest.param("sync", signal.SIGTERM, ["interrupted while no requests were being sent"], id="sync, SIGTERM"),
            pytest.param("plan", signal.SIGINT, ["interrupted"], id="plan"),
            pytest.param("show", signal.SIGINT, ["interrupted"], id="show"),
            pytest.param("test --data", signal.SIGINT, ["interrupted"], id="test"),
        ]
    ),
)
def test_command_is_interrupted_while_its_model_runs(shop: Shop, command: str, number: signal.Signals, said: list[str]):
    """In a join of which DuckDB makes one task, that takes it minutes, and that begins with what it reads of a pipe."""
    shop.sync("it", MANY, data_tests=[{"unique": "n"}]).run()
    shop.warehouse("CREATE TABLE a AS FROM range(300000)")
    pipe = shop.folder / "pipe"
    os.mkfifo(pipe)
    shop.model(
        "it",
        f"""SELECT 'u' || sum(hash(x.range, y.range)) AS external_id, 1::BIGINT AS n FROM a AS x, a AS y
        WHERE x.range >= (SELECT length(content) FROM read_text('{pipe}'))""",
    )
    process = start(shop, *command.split(), "it")
    process.wait_until(lambda: ends(pipe))
    used_s = cpu_s(process)
    process.wait_until(lambda: cpu_s(process) > used_s + 0.2)  # it has nothing to do any more but that join
    process.send_signal(number)
    out, err = process.communicate()
    assert (process.returncode, out, err.splitlines()) == (128 + number, "", said)
    assert len(shop.sent()) == 14
    shop.model("it", MANY)
    assert shop.run().plan.unchanged == 1000


def test_signal_that_ends_a_statement_reaches_whoever_else_waits_for_it():
    there, here = socket.socketpair()
    there.setblocking(False)
    taken: list[int] = []
    handler = signal.signal(signal.SIGTERM, lambda number, frame: taken.append(number))
    before = signal.set_wakeup_fd(there.fileno())
    try:
        with duckdb.connect() as connection:
            with interruptible(connection):
                signal.raise_signal(signal.SIGTERM)
                assert here.recv(1)[0] == signal.SIGTERM
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
    finally:
        assert signal.set_wakeup_fd(before) == there.fileno()
        signal.signal(signal.SIGTERM, handler)
        there.close()
        here.close()
    assert taken == [signal.SIGTERM]


@pytest.mark.long
def test_second_signal_ends_the_run_at_once_and_loses_nothing(shop: Shop):
    shop.sync("it", SEEN, **EVENTS)
    with running(shop, until="u300") as process:
        process.send_signal(signal.SIGINT)
        process.wait_until(
            lambda: (
                "in flight; Ctrl-C again stops at once, and " in process.err and "rows are in doubt\n" in process.err
            )
        )
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
        assert process.returncode == 143
        assert err.endswith("stopped at once: rows of requests in flight may be in Braze: `retl rejects it`\n")
    result = shop.run()
    assert result.plan.held == 75
    assert len(shop.braze.events()) == 1000


@pytest.mark.long
def test_second_run_at_the_same_time_is_told_who_is_at_work_and_waits_as_long_as_it_may(shop: Shop, retl: Retl):
    shop.sync("it", MANY)
    with running(shop, until="u300") as process:
        second = retl("sync", "it", folder=shop.folder)
        assert second.code == 1
        assert second.err.startswith(f'sync "it" on target "test" is already running: process {process.pid} on ')
        assert second.err.endswith(f"\n  hint: {wait_for('it')}\n")
        assert retl("status", folder=shop.folder).out.splitlines()[1].split() == [
            "it",
            "running",
        ]  # rows: not known now
        (status,) = json.loads(retl("status", "--output", "json", folder=shop.folder).out)
        assert (status["failures"], status["next_try"]) == (0, None)  # it says nothing of the sync
        result = shop.run(wait_s=1.2)
        assert (result.status, result.exit_code) == ("running", 1)
        assert sum(shop.clock.waits) == pytest.approx(1.2)
        shop.clock, shop.listener = LettingGo(process, after_waits=3), Silent()
        result = shop.run(wait_s=60)
    assert (result.status, result.delivery.accepted) == ("success", 700)
    assert shop.listener.notices[0].startswith('it: waiting up to 60 s: sync "it" on target "test" is already running')
    assert shop.clock.waits[:3] == [0.5] * 3


@pytest.mark.long
def test_killed_run_that_may_repeat_says_what_goes_out_maybe_twice(shop: Shop):
    shop.sync("it", SEEN, **EVENTS, on_in_doubt="resend")
    with running(shop, until="u300") as process:
        process.kill()
    result = shop.run()
    assert shop.listener.notices[1] == (
        "it: recovered the last run, which was killed: 300 rows accepted, 0 rejected, 700 still to be sent, "
        "75 may reach Braze twice"
    )
    assert (result.status, result.delivery.accepted, len(shop.braze.events())) == ("success", 700, 1075)


def test_lock_of_a_dead_process_is_free_and_it_is_named(tmp_path: Path):
    (tmp_path / "lock").write_text('{"pid": 1, "host": "elsewhere", "since": "2026-11-24 08:00:00+00:00"}')
    with locked_by_us(tmp_path / "lock", "it", "test") as dead_owner:
        assert dead_owner == "process 1 on elsewhere, since 2026-11-24 08:00 UTC"
    with suppress(KeyError), locked_by_us(tmp_path / "lock", "it", "test") as dead_owner:
        assert dead_owner is None
        raise KeyError  # a run that fails lets go
    with locked_by_us(tmp_path / "lock", "it", "test") as dead_owner:
        assert dead_owner is None


# --- one at a time ---------------------------------------------------------------------------------------------------


@contextmanager
def writing(warehouse: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the warehouse for writing, as dbt does."""
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('there', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(warehouse)]
    process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == "there\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_warehouse_that_another_process_writes_is_waited_for(shop: Shop):
    shop.sync("it", MANY)
    with writing(shop.folder / "warehouse.duckdb") as process:
        refused = shop.run()
        locked_by = f" (PID {process.pid}), which has it open for writing"
        assert refused.errors[0].message.endswith(locked_by)
        assert refused.errors[0].hint.startswith(WAIT)
        shop.clock = LettingGo(process, after_waits=1)
        assert shop.run(wait_s=60).status == "success"


@pytest.mark.long
def test_of_two_runs_at_once_one_lets_the_warehouse_go_and_sends_and_the_other_says_who_holds_it(shop: Shop):
    shop.sync("it", SEEN, **EVENTS)
    with running(shop, until="u0") as first:
        with writing(shop.folder / "warehouse.duckdb"):
            pass  # it is let go before anything is sent
        with start(shop, "sync", "it") as other:
            _, err = other.communicate()
        assert (other.returncode, f"is already running: process {first.pid} on " in err) == (1, True)
    assert len(shop.braze.requests()) == 1


@pytest.mark.long
def test_of_three_runs_at_once_that_wait_one_sends_and_the_others_find_nothing_to_do(shop: Shop):
    shop.sync("it", SEEN, **EVENTS)
    runs = [start(shop, "sync", "it", "--wait", "300") for _ in range(3)]
    outs = [run.communicate()[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert sorted("nothing to send, 0 requests" in out for out in outs) == [False, True, True]
    assert len(shop.braze.events()) == 1000


# --- the journal -----------------------------------------------------------------------------------------------------


def test_journal_holds_a_line_for_each_request_and_each_answer(tmp_path: Path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        request = journal.sent(0, 74, durable=True)
        journal.answered(request, "accepted", {3: "bad"})
        journal.sent(75, 99, durable=False)
    assert [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()] == [
        {"sent": 1, "first": 0, "last": 74},
        {"answered": 1, "outcome": "accepted", "rejected": [{"seq": 3, "reason": "bad"}]},
        {"sent": 2, "first": 75, "last": 99},
    ]
    assert (tmp_path / "journal.jsonl").stat().st_mode & 0o777 == 0o600


def test_journal_is_written_from_many_threads_without_tearing(tmp_path: Path):
    with Journal(tmp_path / "journal.jsonl") as journal:

        def work() -> None:
            for _ in range(50):
                journal.answered(journal.sent(1, 2, durable=True), "accepted", {})

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert sorted(line["sent"] for line in lines if "sent" in line) == list(range(1, 401))
    assert sorted(line["answered"] for line in lines if "answered" in line) == list(range(1, 401))


def killed_after(shop: Shop, *lines: str) -> None:
    """Leave the folder as a run that was killed after these lines of its journal."""
    with running(shop, until="u0") as process:
        process.kill()
    (shop.folder / ".retl/test/it/journal.jsonl").write_text("".join(lines))


@pytest.mark.long
def test_half_a_line_at_the_end_of_the_journal_is_normal_and_other_damage_is_said_and_nothing_is_sent(shop: Shop):
    killed_after(shop.sync("it", MANY), '{"sent":1,"first":0,"last":74}\n', "what?\n", '{"answered":1}\n')
    result = shop.run()
    journal = shop.folder / ".retl/test/it/journal.jsonl"
    assert result.errors[0].message.startswith(f"{journal} is damaged: ")
    assert (result.status, result.exit_code) == ("failed", 1)
    assert all('"u0"' in body for body in shop.sent())  # the killed run's only request
    journal.write_text('{"sent":1,"first":0,"last":74}\n{"answered":1,"outcome":"accepted"}\n{"sent":2,"fir')
    assert shop.run().plan.added == 925


@pytest.mark.long
def test_killed_run_beside_which_the_state_is_missing_is_not_recovered_into_an_empty_one(shop: Shop):
    shop.sync("it", SEEN, **EVENTS).run()
    shop.sync("it", SEEN.replace("range(1000)", "range(2000)"), **EVENTS)
    with running(shop, until="u1300") as process:
        process.kill()
    state = shop.folder / ".retl/test/it/state.duckdb"
    kept, sent = state.rename(shop.folder / "state.duckdb"), len(shop.sent())
    assert [str(error) for error in shop.run().errors] == [
        f"{state} is missing, but a killed run is left next to it\n"
        "  hint: restore the newest backup, if nothing was sent since, which would count twice; "
        "or pause its schedule, run `retl state reset it`, "
        "then `retl state baseline it`: "
        "the old files are kept, and what the model returns by now counts as sent"
    ]
    assert len(shop.sent()) == sent
    kept.rename(state)
    assert shop.run().status == "incomplete"
    assert len(shop.braze.events()) == 2000


@pytest.mark.long
def test_run_that_was_killed_as_it_was_released_is_sent_by_the_next_one(shop: Shop):
    project = shop.sync("it", SEEN, **EVENTS).project()
    (job,) = jobs_of(project, [project.sync("it")], Options(clock=shop.clock), shop.listener)
    with opened(job) as state:
        plan_sync(job, state)
        state.run.release()
    assert (shop.run().status, len(shop.braze.events())) == ("success", 1000)


@pytest.mark.parametrize(
    ("where", "compression"),
    [("i < 300", "Uncompressed"), ("i % 100_000 = 7", "ZSTD")],
    ids=["few rows", "so many that they are expected to be millions"],
)
@pytest.mark.long
def test_outbox_of_millions_of_rows_is_stored_packed(shop: Shop, where: str, compression: str):
    rows = f"FROM range({300 if '<' in where else 30_000_000}) r(i) WHERE {where}"
    project = shop.sync("it", f"SELECT 'u' || i AS external_id, repeat('text ', 9) || i AS note {rows}").project()
    (job,) = jobs_of(project, [project.sync("it")], Options(clock=shop.clock), shop.listener)
    with opened(job) as state:
        plan_sync(job, state)
    with database(shop.folder / ".retl/test/it/outbox.duckdb", "READ_ONLY") as outbox:
        found = "SELECT DISTINCT compression FROM pragma_storage_info('outbox') WHERE column_name = 'body'"
        assert outbox.execute(f"{found} AND segment_type = 'VARCHAR'").fetchall() == [(compression,)]
    assert (shop.run().delivery.accepted, len(list(shop.braze.profiles()))) == (300, 300)


@pytest.mark.parametrize("has_journal", [False, True], ids=["while planning", "when it was blocked, or a baseline"])
def test_run_that_was_killed_before_anything_might_be_sent_leaves_nothing(shop: Shop, has_journal: bool):
    project = shop.sync("it", MANY).project()
    (job,) = jobs_of(project, [project.sync("it")], Options(clock=shop.clock, intent=Intent.BASELINE), shop.listener)
    with opened(job) as state:
        plan_sync(job, state)
        if has_journal:
            state.run.journal_path.touch()
    assert (shop.folder / ".retl/test/it/outbox.duckdb").exists()
    result = shop.run()
    assert (shop.listener.notices, result.plan.added, result.delivery.accepted) == ([], 1000, 1000)
    left = sorted(path.name for path in (shop.folder / ".retl/test/it").iterdir())
    assert left == ["has-run", "ledger", "lock", "state.duckdb"]
