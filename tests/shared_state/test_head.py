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
from reverse_etl.shared_state.head import (
    LEASE,
    Head,
    RunInFlight,
    StoredObject,
    in_the_way,
    may_go_on,
    new_holder,
    read_head,
)
from reverse_etl.shared_state.object_store import ObjectStore, StoreError
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.shared_state.shared import OvertakenError, SharedState, look
from tests.shop import examples

NOW = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOLDER = new_holder("t", "host", 7, NOW)
STORED = StoredObject(name="state-1.duckdb", size=1, sha256="ab")
SENDING = RunInFlight(token="t", run_id="r", outbox=STORED)
FREE = Head(sync="it", target="test")


@pytest.fixture(autouse=True)
def _nothing_beats_by_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reverse_etl.shared_state.shared.RENEW_EVERY_S", threading.TIMEOUT_MAX)


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
    head = FREE.held_by(HOLDER).announcing(SENDING).with_run({"run_id": "r", "message": None})
    assert read_head(head.to_json()) == head


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is damaged: not a valid state head"),
        (b'{"sync": "it"}', "is damaged: not a valid state head"),
        (
            FREE.model_copy(update={"format": 3}).to_json(),
            "was written by a newer version of retl (format 3; this version reads 2)",
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
        shared.move(state)
    shared.move(state)
    shared.let_go()
    head, _ = look(objects)
    assert (head.generation, head.holder) == (2, None)  # the first was taken too
    assert bytes(objects.store.get(head.state.name).bytes()) == b"state"


class Machines(RuleBasedStateMachine):
    """Three machines take and lose the lock in any order, die, sleep, and move the state whenever they think they may.

    The state is a list of numbers, and each move adds some.
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
            shared._over.set()
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
        dead_token = shared._copy.token
        if found and in_the_way(found[0], self.now, dead_token):
            with pytest.raises(BusyError):
                shared.take()
            return
        shared.take()
        shared.bring_copy()
        self.holding[machine] = shared

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), dies_before=st.booleans())
    def move(self, data: st.DataObject, dies_before: bool) -> None:
        machine = data.draw(st.sampled_from(sorted(self.holding)))
        shared, path = self.holding[machine], self.folder(machine) / "state.duckdb"
        shared.will_change()
        self.numbers += 1
        content = (path.read_text() if path.exists() else "") + f"{self.numbers} "
        path.write_text(content)
        if dies_before:
            self.holding.pop(machine)._over.set()
            return
        try:
            shared.move(path)
        except OvertakenError:
            return
        assert content.startswith(self.truth)
        self.truth, self.moves = content, self.moves + 1

    @precondition(lambda self: self.holding)
    @rule(data=st.data(), dies=st.booleans())
    def let_go(self, data: st.DataObject, dies: bool) -> None:
        shared = self.holding.pop(data.draw(st.sampled_from(sorted(self.holding))))
        if dies:
            shared._over.set()
        else:
            shared.let_go()

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        shared = self.holding[data.draw(st.sampled_from(sorted(self.holding)))]
        try:
            shared._move(lambda head: head.renewed(self.now))
        except OvertakenError as error:
            shared._lose(error)

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
            assert bytes(self.store.get(found[0].state.name).bytes()).decode() == self.truth

    @invariant()
    def one_machine_at_most_may_send(self) -> None:
        live = [shared for shared in self.holding.values() if shared.may_send()]
        assert len(live) <= 1


TestMachines = Machines.TestCase
TestMachines.settings = settings(max_examples=examples(20, 200), stateful_step_count=30)
