"""What is wrong with syncs whose keys contradict each other, the models, or other syncs. Pure.

They are checked as they are written in the file, so that one wrong type does not hide the rest.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from reverse_etl.braze.modes import DELETES, MODES, USER, Mode, not_supported
from reverse_etl.errors import Location, Problem, nearest
from reverse_etl.project.cron import ScheduleProblem, check_line, check_zone
from reverse_etl.project.yaml_places import Positions, YamlPath


class Unrendered(str):
    """A string whose Jinja failed; that has been reported, so no other error is reported for it."""

    __slots__ = ()


@dataclass(frozen=True)
class Given:
    """A sync as written in the file, its types not checked yet."""

    values: Mapping[str, Any]
    inside: str
    path: YamlPath
    positions: Positions

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        return value if isinstance(value, str) and not isinstance(value, Unrendered) else None

    def words(self, key: str) -> list[str]:
        value = self.values.get(key, [])
        return [value] if isinstance(value, str) else [item for item in value if isinstance(item, str)]

    def predecessors(self) -> list[tuple[str, YamlPath]]:
        """The syncs that it runs after, and where each is written."""
        value = self.values.get("after", [])
        found: list[tuple[YamlPath, Any]] = [(("after",), value)]
        if isinstance(value, list):
            found = [(("after", index), item) for index, item in enumerate(value)]
        elif isinstance(value, str):
            found = [(("after",), name.strip()) for name in value.split(",")]
        named = ((path, item) if isinstance(item, str) else ((*path, "sync"), _name_in(item)) for path, item in found)
        return [(name, path) for path, name in named if isinstance(name, str) and not isinstance(name, Unrendered)]

    def value_at(self, *path: str | int) -> Location:
        return self.positions.of_value((*self.path, *path))

    def key_at(self, *path: str) -> Location:
        return self.positions.of_key((*self.path, *path))


def _name_in(predecessor: Any) -> Any:
    return predecessor.get("sync") if isinstance(predecessor, dict) else None


def problems_in(sync: Given, models: Collection[str]) -> Iterator[Problem]:
    """Errors of a sync whose keys contradict each other, or the models of the project."""
    model, mode, record_type = (sync.text(key) for key in ("model", "mode", "track_record_type"))
    if model is not None and model not in models:
        hint = nearest(model, models) or f"create models/{model}.sql"
        yield Problem(
            f"the model{sync.inside} does not exist: models/{model}.sql", sync.value_at("model"), hint, code="P016"
        )
    yield from _schedule_problems(sync)
    record_types = [kind for name, kind in MODES if name == mode and kind]
    if record_types and sync.values.get("track_record_type") is None:
        what = f'"track_record_type" is missing{sync.inside}: {mode} needs it'
        yield Problem(what, sync.value_at(), nearest("", record_types), code="P008")
    row = MODES.get((mode or "", record_type if record_types else None))
    if row is None:
        return
    for key in row.keys:
        if sync.values.get(key) is None:
            what = f'"{key}" is missing{sync.inside}: {mode} needs it'
            yield Problem(what, sync.value_at(), f"add {key}: NAME", code="P008")
    untaken = not_supported(row)
    for key in sorted(untaken & sync.values.keys()):
        yield Problem(
            f'"{key}"{sync.inside} is not supported by mode {row.label}', sync.key_at(key), "remove it", code="P017"
        )
    incremental = sync.values.get("incremental")
    if isinstance(incremental, dict):
        if sync.text("on_removed") not in (None, "ignore"):
            what = f'"on_removed"{sync.inside} cannot be combined with "incremental"'
            hint = "remove it: a row that an incremental model does not return is not a removed row"
            yield Problem(what, sync.value_at("on_removed"), hint, code="P018")
        if "retention" in incremental and row.is_idempotent:
            what = f'"retention"{sync.inside} is not supported by mode {row.label}'
            yield Problem(
                what,
                sync.key_at("incremental", "retention"),
                "remove it: only events and purchases can be pruned",
                code="P017",
            )
    if sync.text("on_removed") == "clear" and "on_removed" not in untaken and not row.clears:
        what = f'"on_removed: clear"{sync.inside} is not supported by mode {row.label}'
        yield Problem(what, sync.value_at("on_removed"), "use ignore, or delete", code="P017")
    if "keep_removed" in sync.values and "keep_removed" not in untaken:
        yield from _keep_removed_problems(sync)
    if "quarantine" in sync.values and "quarantine" not in untaken:
        yield from _quarantine_problems(sync, row)
    on_removed = sync.text("on_removed") if "on_removed" not in untaken else None
    for key, word, ends, of in (
        ("mode", row.name, row.ends, row.ends.of if row.ends else ""),
        ("on_removed", "delete", DELETES, row.about),
    ):
        if ends and (key == "mode" or on_removed == word) and sync.values.get("allow_destructive") is not True:
            hint = 'if this is intended, add "allow_destructive: true" to the sync'
            hint += f": {ends.doing} cannot be undone" if row.about == USER else ""
            what = f'"{key}: {word}"{sync.inside} {ends.does}s {of}s'
            yield Problem(what, sync.value_at(key), hint, code="P019")


def _keep_removed_problems(sync: Given) -> Iterator[Problem]:
    where = sync.key_at("keep_removed")
    if "incremental" in sync.values:
        what = f'"keep_removed"{sync.inside} cannot be combined with "incremental"'
        hint = "remove it: a row that an incremental model does not return is not a removed row"
        yield Problem(what, where, hint, code="P018")
    elif sync.text("on_removed") in ("clear", "delete"):
        what = f'"keep_removed"{sync.inside} has no effect with "on_removed: {sync.text("on_removed")}"'
        yield Problem(what, where, "remove it: once that has happened, the state has no such row", code="P018")


def _quarantine_problems(sync: Given, row: Mode) -> Iterator[Problem]:
    where = sync.key_at("quarantine")
    if "on_removed" in row.options and sync.text("on_removed") != "delete":
        what = f'"quarantine"{sync.inside} has no effect without "on_removed: delete"'
        yield Problem(what, where, "remove it", code="P018")
    elif "incremental" in sync.values:
        what = f'"quarantine"{sync.inside} cannot be combined with "incremental"'
        hint = "remove one of them: an incremental model does not list a user again, so it would never be deleted"
        yield Problem(what, where, hint, code="P018")


def _schedule_problems(sync: Given) -> Iterator[Problem]:
    for key, check in (("schedule", check_line), ("timezone", check_zone)):
        text = sync.text(key)
        try:
            if text is not None:
                check(text)
        except ScheduleProblem as problem:
            yield Problem(f'"{key}"{sync.inside}: {problem}', sync.value_at(key), problem.hint, problem.code)
    for key in ("timezone", "delay"):
        if key in sync.values and sync.values.get("schedule") is None:
            what = f'"{key}"{sync.inside} has no effect without "schedule"'
            yield Problem(what, sync.key_at(key), "remove it", code="P018")


def _problems_of_former_names(syncs: list[Given], names: Collection[str]) -> Iterator[Problem]:
    heirs: dict[str, str] = {}
    for sync in syncs:
        former = sync.text("renamed_from")
        if not former:
            continue
        where, what = sync.value_at("renamed_from"), f'"renamed_from"{sync.inside}'
        if former in names:
            hint = "remove it: the state of a sync moves only if no sync has its name any more"
            yield Problem(f'{what} is the name of a sync: "{former}"', where, hint, code="P013")
        elif former in heirs:
            hint = "remove one of them: a state has one heir"
            yield Problem(f'{what} is that of sync "{heirs[former]}" too: "{former}"', where, hint, code="P013")
        heirs.setdefault(former, sync.text("name") or "")


def seen_from(here: Location, there: Location) -> str:
    return f"on line {there.line}" if here.file == there.file else f"at {there}"


def problems_between(syncs: list[Given]) -> Iterator[Problem]:
    """Errors between syncs: duplicate names, an `after` that refers to an unknown sync or forms a cycle."""
    first: dict[str, Given] = {}
    for sync in syncs:
        name = sync.text("name")
        twin = first.setdefault(name.casefold(), sync) if name else sync
        if twin is not sync:
            at = sync.value_at("name")
            what = f'duplicate sync "{name}", first defined {seen_from(at, twin.value_at("name"))}'
            yield Problem(what, at, "rename one of them", code="P014")
    names = [name for sync in syncs if (name := sync.text("name"))]
    yield from _problems_of_former_names(syncs, names)
    for sync in syncs:
        for other, path in sync.predecessors():
            if other not in names:
                what = f'"after"{sync.inside} refers to an unknown sync: "{other}"'
                others = [name for name in names if name != sync.text("name")]
                yield Problem(what, sync.value_at(*path), nearest(other, others) or "remove it", code="P015")
    try:
        TopologicalSorter({sync.text("name"): [name for name, _ in sync.predecessors()] for sync in syncs}).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        where = next(sync for sync in syncs if sync.text("name") == circle[0]).value_at("after")
        yield Problem(f'cycle in "after": {" -> ".join(reversed(circle))}', where, "remove one of them", code="P020")
