"""`retl forget`: erases persons from all that a target's syncs remember, and proves it by a receipt.

asked_for()     KEY or MODEL -> the persons, by all identifiers under which the states know them
forget()        hashes, so that no sync sends them again -> Braze, if asked -> what was collected -> states, plans,
                artifacts -> receipt
allow()         lets somebody back
check()         is a receipt still true?

The hashes are on disk before anything is deleted, and every state is locked while it is rewritten: a run that began
before has ended by then, and one that begins later reads the hashes.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from reverse_etl.braze.modes import ENDING_MODES, USER
from reverse_etl.collect.erase import Erased, count_about, erase_collected
from reverse_etl.collect.erasing import hasher
from reverse_etl.engines.warehouse import engine_of
from reverse_etl.errors import DataError, Location, ProjectError
from reverse_etl.plan.workbench import connect
from reverse_etl.project.project import LoadedProject
from reverse_etl.records.identity import HASH_DIGITS, KINDS, STRONG_KINDS
from reverse_etl.records.layout import ALIAS_PARTS
from reverse_etl.runs.erased_in_braze import delete_users
from reverse_etl.runs.leftovers import delete_files_about, erase_from_sandbox, files_naming
from reverse_etl.runs.origin import who
from reverse_etl.runs.receipts import Receipt, read_receipt, write_receipt
from reverse_etl.shared_state.place import StatePlace
from reverse_etl.state.backups import delete_backups, pointers_in
from reverse_etl.state.contents import meta_of
from reverse_etl.state.erasures import ALLOWED, FOLDER, HASHES, PENDING, Erasures, erasures_of
from reverse_etl.state.file import drop_copies
from reverse_etl.state.look import is_there
from reverse_etl.state.opening import open_state, state_of
from reverse_etl.state.orphans import orphans
from reverse_etl.state.persons import (
    SEPARATOR,
    Found,
    Persons,
    count_hashed,
    erase,
    kind_of,
    linked_in,
    named_by,
    remember_as_deleted,
    text_of_key,
    values_of,
)
from reverse_etl.state.places import place_named
from reverse_etl.state.state import State
from reverse_etl.system.clock import Clock, when_free
from reverse_etl.words import count

_ROUNDS = 10  # of looking for further identifiers, in all states


@dataclass(frozen=True)
class Forgetting:
    """How to forget: `say` tells of locks that are waited for, at most `wait_s`."""

    project: LoadedProject
    say: Callable[[str], None]
    wait_s: float = 0.0
    clock: Clock = field(default_factory=Clock)

    @property
    def erasures(self) -> Erasures:
        former = self.project.spec.target.renamed_from
        place = place_named(self.project, FOLDER, self.project.target_name)
        return erasures_of(replace(place, formers=[(FOLDER, former)] if former else []))

    def states(self) -> Iterator[State]:
        """All states of the target that are about users, one after the other, each locked while it is open."""
        project = self.project
        for sync in project.spec.syncs:
            if sync.mode.about == USER and is_there(project, sync):
                with self._free(partial(state_of, project, sync, None, self.clock)) as state:
                    yield state
        for place in self.orphans():
            with self._free(partial(open_state, place, None, self.clock)) as state:
                yield state

    def orphans(self) -> list[StatePlace]:
        return [place for place in orphans(self.project) if place.target == self.project.target_name]

    @contextmanager
    def _free(self, opening: Callable[[], Any]) -> Iterator[State]:
        def attempt() -> tuple[Any, State]:
            context = opening()
            return context, context.__enter__()

        context, state = when_free(attempt, self.wait_s, self.clock, self.say)
        try:
            yield state
        finally:
            context.__exit__(None, None, None)


@dataclass(frozen=True)
class Forgotten:
    """What was erased: rows by sync, collected records, files that were deleted, what Braze was asked to delete (None
    if nothing), what is out of reach; and where the receipt is. `before`: identifiers that had been erased before;
    `open`: what the receipt does not claim."""

    persons: Persons
    before: set[str]
    found: dict[str, Found]
    collected: Erased
    files: Sequence[str]
    in_braze: int | None
    out_of_reach: Sequence[str]
    receipt: Path
    open: str


@dataclass(frozen=True)
class Checked:
    """What is no longer true of a receipt; if nothing, its `claim` is true. `open`: what it does not claim."""

    wrong: Sequence[str]
    claim: str
    open: str


def asked_for(forgetting: Forgetting, key: str) -> Persons:
    """The person that a key names, by all identifiers under which the states of the target know it.

    Raises DataError if several persons have it.
    """
    named = set[str]()
    for state in forgetting.states():
        named |= named_by(state, key)
    by_kind = {kind: {text for text in named if kind_of(text) == kind} for kind in KINDS}
    first = next((texts for texts in by_kind.values() if texts), {_typed(key)})
    if len(first) > 1:
        hint = 'name it by another identifier, an alias as \'["NAME", "LABEL"]\''
        raise DataError(f'"{key}" is an identifier of {count(len(first), "user")}', hint=hint, code="D009")
    persons = linked(forgetting, Persons(set(first)))
    (text,) = first
    if text in persons.shared:  # an e-mail, say, with which the states know users that have an id
        others = persons.others[text]
        ids = {other for other in others if kind_of(other) == "external_id"} or others
        if len(ids) > 1:
            hint = "name one of them by its id: `retl forget ID`"
            raise DataError(f'"{key}" is of {count(len(ids), "user")}', hint=hint, code="D009")
        persons = linked(forgetting, Persons({text, *ids}))
    return persons


def _typed(key: str) -> str:
    """The text of a key that no state knows."""
    with suppress(ValueError):
        parts = json.loads(key)
        if isinstance(parts, list) and len(parts) == 2:
            return f"user_alias:{parts[1]}{SEPARATOR}{parts[0]}"
    return text_of_key(key)


def listed_by(forgetting: Forgetting, model: str) -> Persons:
    """The persons that a model returns, by its columns external_id, alias_name with alias_label, braze_id, email and
    phone. Raises ProjectError if it has none of them."""
    project = forgetting.project
    compiled = project.compile(model)
    with connect() as connection:
        engine = engine_of(project, connection)
        engine.open()
        names, rows = engine.first_rows(compiled, 2**31 - 1)
        engine.close()
    if not set(names) & (set(KINDS) - {"user_alias"} | {ALIAS_PARTS[0]}):
        hint = "name its columns external_id, alias_name and alias_label, braze_id, email or phone"
        raise ProjectError(
            f'model "{model}" has no column that identifies a person', Location(compiled.file), hint, code="P065"
        )
    texts = set[str]()
    for row in rows:
        values = {name: str(value) for name, value in zip(names, row, strict=True) if value is not None}
        texts |= {_text(kind, values[kind]) for kind in KINDS if kind in values and kind != "user_alias"}
        if set(ALIAS_PARTS) <= values.keys():
            texts.add(f"user_alias:{values['alias_label']}{SEPARATOR}{values['alias_name']}")
    return linked(forgetting, Persons(texts))


def _text(kind: str, value: str) -> str:
    if kind == "email":
        return f"email:{value.strip().lower()}"
    return f"phone:{''.join(filter(str.isdigit, value))}" if kind == "phone" else f"{kind}:{value}"


def linked(forgetting: Forgetting, persons: Persons) -> Persons:
    """The persons with all identifiers under which the states know them."""
    for _ in range(_ROUNDS):
        news = [linked_in(state, persons) for state in forgetting.states()]
        if not any(news):
            break
    return persons


def forget(forgetting: Forgetting, persons: Persons, in_braze: bool) -> Forgotten:
    """Erase persons from all that the target's syncs remember; with `in_braze` from the workspace, too.

    Raises RetlError if Braze does not take it, or a state is in use: then what is left is erased by another call. Until
    Braze takes it, the states keep the persons, who are not sent: their other identifiers would be lost.
    """
    project, erasures, texts = forgetting.project, forgetting.erasures, persons.erased
    at = forgetting.clock.utc()
    lines = _hashed(erasures, sorted(texts))
    before = _erased(erasures, lines, pending=False)
    deleted = None
    if in_braze:
        erasures.record(lines.values(), at, PENDING)
        deleted = delete_users(project, sorted(texts), forgetting.clock)
    erasures.settle(lines.values(), at)
    collected = Erased()
    if project.spec.collect:  # before the states, which know what else the person is called
        folder = project.collect_folder
        collected = erase_collected(folder, texts, at, forgetting.wait_s, forgetting.clock, forgetting.say)
    found, out_of_reach, backups = dict[str, Found](), list(collected.out_of_reach), list[str]()
    for state in forgetting.states():
        with state.changing():
            found[state.place.sync] = erase(state, texts)
            if deleted is not None and meta_of(state.connection).get("mode") in ENDING_MODES:
                strong = [line[-HASH_DIGITS:] for text, line in lines.items() if kind_of(text) in STRONG_KINDS]
                remember_as_deleted(state, strong)
            state.rewrite()
        state.ledger.sweep()
        if state.elsewhere:
            state.elsewhere.sweep([*pointers_in(state.place.folder)])
            out_of_reach += state.elsewhere.left
        drop_copies(state.place.folder, timedelta())
        backups += [os.path.relpath(path, project.folder) for path in delete_backups(state.place.folder)]
        out_of_reach += state.copy.older()
    files = [*backups, *delete_files_about(project, texts), *erase_from_sandbox(project, texts)]
    out_of_reach += files_naming(project, values_of(texts))
    receipt = Receipt(
        target=project.target_name,
        at=at,
        by=who(),
        identifiers=[(kind_of(text), lines[text][-HASH_DIGITS:]) for text in sorted(texts)],
        rows={sync: rows.rows for sync, rows in found.items()},
        collected=dict(+collected.records),
        files=len(files),
        deleted_in_braze=deleted,
        ledger={sync: rows.ledger for sync, rows in found.items() if rows.ledger},
        erased_before=sorted(map(kind_of, before)),
    )
    path = write_receipt(erasures, receipt)
    return Forgotten(persons, before, found, collected, files, deleted, out_of_reach, path, receipt.open)


def allow(forgetting: Forgetting, key: str) -> list[str]:
    """Let somebody who was erased be sent again; returns the kinds of the identifiers that are allowed now.

    Raises DataError if nobody who was erased has this identifier.
    """
    typed = _typed(key)
    texts = {typed} if kind_of(typed) == "user_alias" else {_text(kind, key) for kind in KINDS if kind != "user_alias"}
    erasures = forgetting.erasures
    lines = _hashed(erasures, sorted(texts))
    found = _erased(erasures, lines)
    if not found:
        hint = 'name an identifier under which it was erased, an alias as \'["NAME", "LABEL"]\''
        raise DataError(f'"{key}" is not among those who were erased', hint=hint, code="D006")
    erasures.record([lines[text] for text in found], forgetting.clock.utc(), ALLOWED)
    return sorted(kind_of(text) for text in found)


def check(forgetting: Forgetting, path: Path) -> Checked:
    """Whether a receipt is still true: no state has any of its identifiers, and no sync sends them.

    Raises StateError if the receipt is not one of this target, or was changed.
    """
    erasures = forgetting.erasures
    receipt = read_receipt(erasures, forgetting.project.target_name, path)
    hashes, wrong = [one for _, one in receipt.identifiers], list[str]()
    with connect() as connection:
        erasures.load(connection)
        there = {line[-HASH_DIGITS:] for (line,) in connection.execute(f"SELECT line FROM {HASHES}").fetchall()}
    allowed = sorted(kind for kind, one in receipt.identifiers if one not in there)
    if allowed:
        wrong.append(f"may be sent again, as it was let back: {', '.join(allowed)}")
    for state in forgetting.states():
        rows = count_hashed(state, hashes)
        if rows:
            wrong.append(f"{state.place.sync}: {count(rows, 'row')} about a person who was erased")
    if forgetting.project.spec.collect:
        left = count_about(forgetting.project.collect_folder, hashes, hasher(erasures.key), receipt.at)
        wrong += [
            f"{table}: {count(number, 'collected record')} about a person who was erased"
            for table, number in left.items()
        ]
    return Checked(wrong, f"true: {receipt.claim}", receipt.open)


def _hashed(erasures: Erasures, texts: Sequence[str]) -> dict[str, str]:
    """The tag with the hash of each text."""
    with connect() as connection:
        return {text: erasures.hashed(connection, "SELECT $text AS who", {"text": text})[0] for text in texts}


def _erased(erasures: Erasures, lines: Mapping[str, str], pending: bool = True) -> set[str]:
    """Of the texts with these lines, those that are erased; or `pending`."""
    if not erasures.version:
        return set()
    with connect() as connection:
        erasures.load(connection, pending)
        of_lines = {"lines": list(lines.values())}
        sql = f"SELECT line FROM {HASHES} WHERE list_contains($lines::VARCHAR[], line)"
        there = {line for (line,) in connection.execute(sql, of_lines).fetchall()}
    return {text for text, line in lines.items() if line in there}
