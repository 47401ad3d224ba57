"""Compares what the syncs of a target write to profiles, before one of them is planned. See `plan/writers.py`.

A sync that is alone with its attributes costs the description of the other models, once in a command; users are counted
only where two syncs write the same attribute, once for each pair.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Lock

from reverse_etl.braze.modes import Extra
from reverse_etl.engines.engine import Common, Engine, Side
from reverse_etl.errors import Problem, ProjectError, RetlError
from reverse_etl.plan.writers import (
    STANDARD,
    Overlap,
    Writer,
    alike_in_words,
    both_write,
    cannot_count,
    no_common_users,
    overlap,
    spelled_alike,
    type_clashes,
)
from reverse_etl.project.lock_file import Lock as NamesInGit
from reverse_etl.project.project import LoadedProject
from reverse_etl.project.spec import Sync
from reverse_etl.records.layout import lay_out


@dataclass
class Known:
    """What one command knows of the writers of its target: their columns, whom pairs of them have in common, and what
    has been said; None where a model cannot be read, which its own run reports."""

    writers: dict[str, Writer | None] = field(default_factory=dict)
    common: dict[frozenset[str], Common | None] = field(default_factory=dict)
    said: set[str | frozenset[str]] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)  # an orchestrator may run several syncs in threads


def writes_attributes(sync: Sync) -> bool:
    return sync.mode.extra is Extra.CUSTOM_ATTRIBUTE


def writer_of(project: LoadedProject, engine: Engine, sync: Sync) -> Writer | None:
    """What a sync writes, as its model says without being run; None if the model cannot be read."""
    try:
        model = project.compiled(sync.model)
        return Writer(lay_out(sync, model.file, engine.columns(model)), model.file)
    except RetlError:
        return None


def notices_of(project: LoadedProject, engine: Engine, side: Side, known: Known) -> list[str]:
    """What there is to say of the attributes that a sync writes beside others, and was not said yet in this command.

    Raises ProjectError if another sync writes one as another type, or for the same users without `shares` in both.
    """
    sync = side.layout.sync
    others = [one for one in project.spec.syncs if one.name != sync.name and writes_attributes(one)]
    if not writes_attributes(sync):
        return []
    with known.lock:
        mine = known.writers[sync.name] = Writer(side.layout, side.model.file)
        for other in others:
            if other.name not in known.writers:
                known.writers[other.name] = writer_of(project, engine, other)
        found = _Findings([], [])
        for writer in [writer for other in others if (writer := known.writers[other.name])]:
            found.problems.extend(type_clashes(mine, writer))
            both = overlap(mine, writer)
            if both:
                _judge(both, _counted(project, engine, side, both, known), found, known)
        if problems := found.problems:
            raise ProjectError(problems)
        return [*found.notices, *_alike(project, mine, [one for one in known.writers.values() if one], known)]


@dataclass
class _Findings:
    problems: list[Problem]
    notices: list[str]


def _judge(both: Overlap, common: Common | None, found: _Findings, known: Known) -> None:
    if common and common.users:
        found.problems.append(both_write(both, common.users, common.differing))
        return
    pair = frozenset((both.one.sync.name, both.other.sync.name))
    if pair not in known.said:
        known.said.add(pair)
        found.notices.append(cannot_count(both) if common is None else no_common_users(both))


def _counted(project: LoadedProject, engine: Engine, side: Side, both: Overlap, known: Known) -> Common | None:
    """Whom both models return; None if that cannot be told."""
    if not both.identifiers:
        return None
    pair = frozenset((both.one.sync.name, both.other.sync.name))
    if pair not in known.common:
        other = Side(both.other.layout, project.compiled(both.other.sync.model))
        known.common[pair] = engine.count_common(whole(project, side), other, both.names)
    return known.common[pair]


def whole(project: LoadedProject, side: Side) -> Side:
    """A side with all rows of its model: that of an incremental run has the new ones only."""
    return side if side.layout.sync.incremental is None else Side(side.layout, project.compiled(side.layout.sync.model))


def _alike(project: LoadedProject, mine: Writer, writers: list[Writer], known: Known) -> Iterator[str]:
    """Names that are almost the same, unless all of them are in braze.lock.yml: then they have been reviewed."""
    for names in spelled_alike(writers, mine.attributes):
        if set(names) & mine.attributes.keys() and frozenset(names) not in known.said:
            if set(names) <= reviewed(project).attributes.keys() | STANDARD:
                continue
            known.said.add(frozenset(names))
            yield alike_in_words(names, writers)


def reviewed(project: LoadedProject) -> NamesInGit:
    """What is in braze.lock.yml; nothing if it cannot be read, which `retl plan` reports."""
    with suppress(ProjectError):
        return project.lock() or NamesInGit()
    return NamesInGit()
