"""Whatever is run, forgotten and killed in whatever order: after a receipt, nothing about the person is sent or kept.

Once a sync has deleted a person, the states no longer know which identifiers are of one: what is asked for is erased.
"""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverse_etl.runs.forgetting import Forgetting, asked_for, forget
from reverse_etl.sandbox import Sandbox
from reverse_etl.state.look import sync_status
from tests.processes import end_all
from tests.runs.test_forget import GONE, files_about
from tests.shop import EVENTS, Held, Shop, examples, running

IDENTIFIERS = BY_ID, _ = ("member-{}", "mail-{}@x.example")
SYNCS = ("people", "logins", "gone")
PERSONS = st.integers(1, 3)
STEPS = st.one_of(
    st.tuples(st.just("run"), st.sampled_from(SYNCS)),
    st.tuples(st.just("kill"), st.sampled_from(SYNCS)),
    st.tuples(st.just("list"), PERSONS),
    st.tuples(st.just("forget"), PERSONS, st.sampled_from(IDENTIFIERS)),
)
_NUMBERS = itertools.count()


class History:
    """A shop of three persons of whom everything changes with every step, and the receipts of those who were erased."""

    def __init__(self, folder: Path, braze: Sandbox) -> None:
        self.shop, self.braze, self.version = Shop(folder, braze), braze, 0
        self.listed: set[int] = set()
        self.receipts: list[tuple[int, int, set[str]]] = []  # who, after how many requests, and by which names

    def change(self) -> None:
        self.version += 1
        n, of_all = self.version, "FROM range(1, 4) r(i)"
        people = f"SELECT 'member-' || i AS external_id, 'mail-' || i || '@x.example' AS email, {n} AS n {of_all}"
        logins = (
            f"SELECT 'mail-' || i || '@x.example' AS email, 'seen' AS name, TIMESTAMP '2026-11-01' + {n} * INTERVAL 1 "
        )
        self.shop.sync("people", people)
        self.shop.sync(
            "logins",
            f"{logins} MINUTE AS time {of_all}",
            **{**EVENTS, "primary_key": ["email", "time"], "on_in_doubt": "resend"},
        )
        who = " UNION ALL ".join(f"SELECT 'member-{person}' AS external_id" for person in sorted(self.listed))
        self.shop.sync("gone", who or "SELECT 'x' AS external_id WHERE false", **GONE)

    def run(self, sync: str) -> None:
        self.change()
        assert self.shop.run(sync).status == "success"

    def kill(self, sync: str) -> None:
        """While its first request waits for the response; if it has nothing to send, it just runs."""
        self.change()
        if sync == "gone" or len({person for person, *_ in self.receipts} | self.listed) == 3:
            self.run(sync)
            return
        answer = Held(self.braze)
        with running(self.shop, answer, ("sync", sync)) as process:
            process.kill()
            process.wait()
        answer.goes_out.set()
        self.braze.clear_faults()

    def list(self, person: int) -> None:
        self.listed.add(person)
        self.run("gone")
        self.receipts.append((person, len(self.braze.requests()), {BY_ID}))

    def forget(self, person: int, name: str) -> None:
        self.change()
        how = Forgetting(self.shop.project(), lambda _: None)
        gone = forget(how, asked_for(how, name.format(person)), False)
        names = {name} if person in self.listed else set(IDENTIFIERS)
        assert bool(gone.before) == any(names & of_one for one, _, of_one in self.receipts if one == person)
        self.receipts.append((person, len(self.braze.requests()), names))

    def check(self) -> None:
        for sync in (project := self.shop.project()).spec.syncs:
            sync_status(project, sync)  # what a killed run left is recovered
        for person, count, of_one in self.receipts:
            names = tuple(name.format(person) for name in of_one)
            bodies = [one.body for one in self.braze.requests()[count:] if one.path != "/users/delete"]
            assert [body for body in bodies if any(name in body for name in names)] == []
            assert files_about(self.shop.folder / ".retl", names) == set()


@pytest.mark.long
@given(st.lists(STEPS, min_size=2, max_size=examples(6, 10)))
@settings(max_examples=examples(4, 60))
def test_nothing_about_a_person_is_sent_or_kept_after_the_receipt(tmp_path_factory, steps):
    with Sandbox() as braze:
        history = History(tmp_path_factory.mktemp("histories") / f"shop{next(_NUMBERS)}", braze)
        history.run("people")
        history.run("logins")
        history.forget(2, IDENTIFIERS[0])
        for name, *values in steps:
            getattr(history, name)(*values)
            history.check()
        end_all()
