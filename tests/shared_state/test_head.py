"""The head of a shared state: who may take the lock, what becomes of it, and that no order of events moves it back."""

import re
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from obstore.store import MemoryStore

from reverse_etl.errors import BusyError
from reverse_etl.network.network import Network
from reverse_etl.shared_state.garbage import unnamed
from reverse_etl.shared_state.head import (
    LEASE,
    Content,
    Head,
    RunInFlight,
    in_the_way,
    may_go_on,
    new_holder,
    read_head,
)
from reverse_etl.shared_state.lock import OvertakenError
from reverse_etl.shared_state.log import Log, Piece, StoredObject
from reverse_etl.shared_state.object_store import Listed, ObjectStore, StoreError
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.reading import fetch_state, look
from reverse_etl.shared_state.shared import SharedState
from tests.shop import examples

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOLDER = new_holder("t", "host", 7, NOW)
STORED = StoredObject(name="state-1.duckdb", size=1, sha256="ab")
SENDING = RunInFlight(token="t", run_id="r", outbox=STORED)
FREE = Head(sync="it", target="test")


@pytest.fixture(autouse=True)
def _nothing_beats_by_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reverse_etl.shared_state.lock.RENEW_EVERY_S", threading.TIMEOUT_MAX)


@pytest.mark.parametrize(
    ("head", "at", "dead_token", "is_free"),
    [
        pytest.param(FREE, NOW, None, True, id="nobody holds it"),
        pytest.param(FREE.held_by(HOLDER), NOW, None, False, id="held"),
        pytest.param(FREE.held_by(HOLDER), NOW + LEASE - SECOND, None, False, id="held, for a second more"),
        pytest.param(FREE.held_by(HOLDER), NOW + LEASE, None, True, id="its time is up"),
        pytest.param(FREE.held_by(HOLDER).renewed(NOW + 90 * SECOND), NOW + LEASE, None, False, id="renewed"),
        pytest.param(FREE.held_by(HOLDER), NOW, "t", True, id="its process is known to have ended"),
        pytest.param(FREE.held_by(HOLDER), NOW, "another", False, id="another process is known to have ended"),
    ],
)
def test_lock_is_free_if_nobody_holds_it_any_more(head: Head, at: datetime, dead_token: str | None, is_free: bool):
    assert (in_the_way(head, at, dead_token) is None) == is_free


def test_request_goes_out_only_while_nobody_else_may_take_the_lock():
    assert may_go_on(HOLDER, NOW + LEASE - SECOND)
    assert not may_go_on(HOLDER, NOW + LEASE)


def test_head_is_read_as_it_was_written():
    log = Log(size=9, crc=7, pieces=(Piece(stored=STORED, start=0, end=5, level=1),), tail="AAAA")
    head = FREE.held_by(HOLDER).moved_to(STORED, NOW, "1", log, Content(revision="r", users=3)).announcing(SENDING)
    assert read_head(head.to_json()) == head


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is damaged: not a valid state head"),
        (b'{"sync": "it"}', "is damaged: not a valid state head"),
        (
            FREE.model_copy(update={"format": 4}).to_json(),
            "was written by a newer version of retl (format 4; this version reads 3)",
        ),
    ],
)
def test_what_is_no_head_is_refused(data: bytes, why: str):
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        read_head(data)


def test_run_that_could_not_be_folded_in_stays_announced_when_the_lock_is_let_go():
    released = FREE.held_by(HOLDER).announcing(SENDING).released(is_whole=True)
    assert (released.holder, released.sending) == (None, SENDING.model_copy(update={"is_whole": True}))
    assert released.held_by(HOLDER).released(is_whole=False).sending == released.sending


class Memory(ObjectStore):
    """A store in this process; it compares before it writes, as the others do."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__("s3://memory", Network({}))
        self.store = store

    def _open(self, timeout_s: int, give_up_after_s: int) -> Any:
        return self.store


class Late(Memory):
    """When `is_next`: takes what it is given only after it was given up."""

    late: tuple[str, bytes, Any] | None = None
    is_next = False

    def swap(self, name: str, data: bytes, version: Any) -> Any:
        if self.is_next:
            self.is_next, self.late = False, (name, data, version)
            raise StoreError("no answer")
        if self.late:
            late, self.late = self.late, None
            super().swap(*late)
        return super().swap(name, data, version)


def test_what_was_taken_after_it_was_given_up_is_not_taken_for_another_machine(tmp_path: Path):
    objects = Late(MemoryStore())
    shared = SharedState(StatePlace(tmp_path, "it", "test"), objects, lambda: NOW)
    shared.take()
    objects.is_next = True
    state = tmp_path / "state.duckdb"
    state.write_text("state")
    with pytest.raises(StoreError):
        shared.move(Content(revision="1"))
    shared.move(Content(revision="2"))
    shared.let_go()
    head, _ = look(objects)
    assert (head.generation, head.revision, head.holder) == (2, "2", None)  # the first was taken too
    assert stored(objects) == "state"


def test_last_change_that_was_taken_after_it_was_given_up_has_released_the_lock_for_others(tmp_path: Path):
    """It is not known here; the next command on this machine finds out."""
    objects = Late(MemoryStore())
    for revision in ("1", "2"):
        shared = SharedState(StatePlace(tmp_path, "it", "test"), objects, lambda: NOW)
        shared.take()
        shared.bring_copy()
        shared.will_change()
        (tmp_path / "state.duckdb").write_text(f"state {revision}")
        objects.is_next = revision == "1"
        if objects.is_next:
            with pytest.raises(StoreError):
                shared.move(Content(revision=revision), is_last=True)
        else:
            shared.move(Content(revision=revision), is_last=True)
        shared.let_go()
    head, _ = look(objects)
    assert (head.generation, head.revision, head.holder) == (2, "2", None)
    assert stored(objects) == "state 2"


def stored(objects: ObjectStore) -> str:
    """The state that the store has: its base, and its log."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.duckdb"
        fetch_state(objects, look(objects)[0], path)
        return "".join(one.read_text() for one in (path, Path(f"{path}.wal")) if one.exists())


OWN, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize(
    ("name", "size", "hours", "goes"),
    [
        pytest.param(f"state-3-{OTHER}-0a1b.duckdb.gz", 9, 0, True, id="base that a killed run has uploaded"),
        pytest.param(f"state-3-{OTHER}-0a1b.duckdb", 9, 0, True, id="state that an older retl has uploaded"),
        pytest.param(f"log-3-{OTHER}-0a1b.gz", 9, 0, True, id="piece of a log"),
        pytest.param(f"run-{OTHER}/outbox.duckdb.gz", 9, 0, True, id="outbox"),
        pytest.param(f"run-{OTHER}/journal-000002.jsonl", 90, 0, True, id="piece of a journal"),
        pytest.param(f"run-{OTHER}/journal-000003.jsonl", 20, 23, False, id="end of a journal"),
        pytest.param(f"run-{OTHER}/journal-000003.jsonl", 20, 24, True, id="end of a journal of yesterday"),
        pytest.param(f"run-{OWN}/outbox.duckdb.gz", 9, 99, False, id="outbox of the run that is sending"),
        pytest.param(f"run-{OWN}/journal-000001.jsonl", 90, 99, False, id="its journal"),
        pytest.param("state-2.duckdb", 9, 999, False, id="base that the head names"),
        pytest.param("piece.gz", 9, 999, False, id="piece that the head names"),
        pytest.param(f"state-0-{OTHER}.duckdb.gz", 9, 23, False, id="state that may be taken over by another name"),
        pytest.param(f"state-0-{OTHER}.duckdb.gz", 9, 24, True, id="state that was not"),
        pytest.param("before-reset-20261101T000000.json", 9, 24 * 29, False, id="head of a state that was reset"),
        pytest.param(
            "before-reset-20261101T000000.json", 9, 24 * 30, True, id="head of a state that was reset long ago"
        ),
        pytest.param("state-0-backup.duckdb", 9, 99999, False, id="file of the user"),
        pytest.param("head.json", 9, 99999, False, id="head"),
    ],
)
def test_what_nothing_names_goes_if_retl_has_named_it(name: str, size: int, hours: int, goes: bool):
    sending = SENDING.model_copy(update={"token": OWN})
    piece = Piece(stored=STORED.model_copy(update={"name": "piece.gz"}), start=0, end=9)
    base = STORED.model_copy(update={"name": "state-2.duckdb"})
    head = FREE.moved_to(base, NOW, "1", Log(size=9, pieces=(piece,)), Content()).announcing(sending)
    listed = {name: Listed(size, NOW - timedelta(hours=hours))}
    assert unnamed(listed, [head], NOW) == ([name] if goes else [])


def test_log_is_of_few_pieces_and_each_byte_goes_up_a_few_times_only():
    log, uploaded, most = Log(), 0, 0
    for number in range(1, 1001):
        start, level = log.next_piece()
        piece = Piece(stored=STORED, start=start, end=number * 100, level=level)
        log, uploaded = log.with_piece(piece, 0), uploaded + piece.end - piece.start
        assert [one.start for one in log.pieces] == [0, *(one.end for one in log.pieces[:-1])]
        most = max(most, len(log.pieces))
    assert (most, log.size) == (21, 100_000)
    assert uploaded < 4 * log.size


class Machines(RuleBasedStateMachine):
    """Three machines take and lose the lock in any order, die, sleep, and move the state whenever they think they may.

    The state is a list of numbers, and each move adds some to its log. What dead machines have left is deleted by any
    that thinks it may.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tmp = tempfile.TemporaryDirectory()
        self.now, self.store = NOW, MemoryStore()
        self.holding: dict[int, SharedState] = {}
        self.truth = ""
        self.moves = self.numbers = 0

    def teardown(self) -> None:
        for shared in self.holding.values():
            shared.lock._over.set()
        self.tmp.cleanup()

    def folder(self, machine: int) -> Path:
        folder = Path(self.tmp.name) / str(machine)
        folder.mkdir(exist_ok=True)
        return folder

    @rule(machine=st.integers(0, 2))
    def take(self, machine: int) -> None:
        if machine in self.holding:
            return
        found = look(Memory(self.store))
        shared = SharedState(StatePlace(self.folder(machine), "it", "test"), Memory(self.store), lambda: self.now)
        dead_token = shared.files.copy.token
        if found and in_the_way(found[0], self.now, dead_token):
            with pytest.raises(BusyError):
                shared.take()
            return
        shared.take()
        shared.bring_copy()
        self.holding[machine] = shared

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), dies=st.sampled_from(["", "", "", "before", "as it has uploaded"]), is_last=st.booleans())
    def move(self, data: st.DataObject, dies: str, is_last: bool) -> None:
        machine = data.draw(st.sampled_from(sorted(self.holding)))
        shared, path = self.holding[machine], self.folder(machine) / "state.duckdb"
        shared.will_change()
        self.numbers += 1
        more = data.draw(st.sampled_from([1, 1, 40, 3000]))
        with shared.files.log.open("a") as log:
            log.write(" ".join(str(self.numbers * 7919 + i * i) for i in range(more)) + " ")
        content = "".join(one.read_text() for one in (path, shared.files.log) if one.exists())
        if shared.needs_base():
            path.write_text(content)
            shared.files.log.unlink()
        if dies:
            if dies == "as it has uploaded":
                name = f"{look(shared.objects)[0].generation + 1}-{shared._token}-0000"
                shared.objects.upload(f"state-{name}.duckdb.gz", path)
            self.holding.pop(machine).lock._over.set()
            return
        try:
            shared.move(Content(revision=shared.next_revision()), is_last)
        except OvertakenError:
            return
        assert content.startswith(self.truth)
        self.truth, self.moves = content, self.moves + 1
        if is_last:
            self.holding.pop(machine).let_go()

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def delete_garbage(self, data: st.DataObject) -> None:
        machine = data.draw(st.sampled_from(sorted(self.holding)))
        self.holding[machine].delete_garbage()
        found = look(Memory(self.store))
        if found and found[0].holder and found[0].holder.token == self.holding[machine]._token:
            assert len(Memory(self.store).names()) == 1 + len(found[0].objects())

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), dies=st.booleans())
    def let_go(self, data: st.DataObject, dies: bool) -> None:
        shared = self.holding.pop(data.draw(st.sampled_from(sorted(self.holding))))
        if dies:
            shared.lock._over.set()
        else:
            shared.let_go()

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        shared = self.holding[data.draw(st.sampled_from(sorted(self.holding)))]
        try:
            shared.lock.move(lambda head: head.renewed(self.now))
        except OvertakenError as error:
            shared.lock.lose(error)

    @rule(seconds=st.sampled_from([1, 60, 119, 600]))
    def time_goes_by(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def state_is_never_moved_back(self) -> None:
        found = look(Memory(self.store))
        if found is None:
            return
        assert found[0].generation == self.moves
        if found[0].state:
            assert stored(Memory(self.store)) == self.truth
            assert len(found[0].to_json()) < 8_000

    @invariant()
    def one_machine_at_most_may_send(self) -> None:
        live = [shared for shared in self.holding.values() if shared.lock.may_send()]
        assert len(live) <= 1


TestMachines = Machines.TestCase
TestMachines.settings = settings(max_examples=examples(20, 200), stateful_step_count=30)
